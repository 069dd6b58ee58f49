//! A client's connection to a server, plain or encrypted.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use mio::event::Source;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use crate::source;

/// Name in the servers' certificates.
pub(crate) const SERVER_NAME: &str = "localhost";
/// Sessions that are kept to resume, more than there are connections.
const KEPT_SESSIONS: usize = 20_000;

/// A connection that doesn't block.
pub(crate) struct Stream {
    tcp: TcpStream,
    tls: Option<Box<ClientConnection>>,
}

/// Returns how a client speaks TLS to servers with this certificate.
pub(crate) fn client_config(
    certificate: CertificateDer<'static>,
    resume: bool,
) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate)?;
    let mut config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = if resume {
        Resumption::in_memory_sessions(KEPT_SESSIONS)
    } else {
        Resumption::disabled()
    };
    Ok(Arc::new(config))
}

impl Stream {
    /// Connects. With `tls`, the handshake goes on as the stream is read.
    pub(crate) fn connect(address: SocketAddr, tls: Option<&Arc<ClientConfig>>) -> Result<Self> {
        Self::connect_from(source::Source::default(), address, tls)
    }

    /// Does the same from a certain source.
    pub(crate) fn connect_from(
        source: source::Source,
        address: SocketAddr,
        tls: Option<&Arc<ClientConfig>>,
    ) -> Result<Self> {
        // Connecting to a server nearby takes no time, so this may block. Everything else must not.
        let tcp = source.connect(address)?;
        tcp.set_nonblocking(true)?;
        tcp.set_nodelay(true)?;
        let start = |config: &Arc<ClientConfig>| -> Result<_> {
            let name = ServerName::try_from(SERVER_NAME).context("the servers' name")?;
            Ok(Box::new(ClientConnection::new(Arc::clone(config), name)?))
        };
        let mut stream = Self {
            tcp: TcpStream::from_std(tcp),
            tls: tls.map(start).transpose()?,
        };
        stream.flush_tls()?;
        Ok(stream)
    }

    /// Registers for what can be read.
    pub(crate) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        self.tcp.register(registry, token, Interest::READABLE)
    }

    /// Sends all of `bytes`, after the handshake if that has not ended. They must fit into the socket's buffer.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.tls {
            None => self.tcp.write_all(bytes),
            Some(tls) => {
                tls.writer().write_all(bytes)?;
                self.flush_tls()
            }
        }
    }

    /// Reads what has come, as [`Read::read`] of a socket that doesn't block.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else {
            return self.tcp.read(buffer);
        };
        loop {
            match tls.reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                other => return other,
            }
            if tls.read_tls(&mut self.tcp)? == 0 {
                return Ok(0);
            }
            tls.process_new_packets().map_err(io::Error::other)?;
            flush(tls, &mut self.tcp)?;
        }
    }

    /// Returns whether a read that didn't fill its buffer has emptied the socket, so that epoll reports what comes next.
    pub(crate) fn is_emptied_by_a_short_read(&self) -> bool {
        self.tls.is_none()
    }

    fn flush_tls(&mut self) -> io::Result<()> {
        match &mut self.tls {
            Some(tls) => flush(tls, &mut self.tcp),
            None => Ok(()),
        }
    }
}

fn flush(tls: &mut ClientConnection, tcp: &mut TcpStream) -> io::Result<()> {
    while tls.wants_write() {
        tls.write_tls(tcp)?;
    }
    Ok(())
}
