//! The handshake of a TLS connection, with what it may cost: a client that sends nothing costs its socket, one that
//! sends a part costs these bytes, and only so many handshakes are computed at a time.

use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::sync::Arc;

use fanfare_protocol::tls_record::{Beginning, beginning, missing};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use rustls::{HandshakeKind, ServerConfig};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::yield_now;

use super::client_socket::ClientSocket;
use super::tls_socket::TlsSocket;
use crate::tls::{ACME_PROTOCOL, HandshakeCounts, HandshakeOutcome};

/// Bytes for which there is room at first. Most clients' hellos fit.
const HELLO: usize = 1024;

/// Accepts TLS connections. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct TlsAcceptor {
    config: Arc<ServerConfig>,
    /// Handshakes that may be computed at a time. The others wait outside the runtime's queue, so that requests and
    /// connections that are open already don't wait for a storm of handshakes.
    computing: Arc<Semaphore>,
    counts: Arc<HandshakeCounts>,
}

/// What became of a connection to a port that speaks TLS.
#[derive(Debug)]
pub(crate) enum Arrived {
    Tls(ClientSocket),
    /// The client speaks plain HTTP. Its first bytes were read.
    PlainHttp(ClientSocket),
    /// Nothing is to be served: the handshake was all that was wanted, or it failed.
    Ended,
}

impl TlsAcceptor {
    /// Creates an acceptor that computes `at_once` handshakes at a time.
    pub(crate) fn new(
        config: Arc<ServerConfig>,
        at_once: usize,
        counts: Arc<HandshakeCounts>,
    ) -> Self {
        Self {
            config,
            computing: Arc::new(Semaphore::new(at_once)),
            counts,
        }
    }

    /// Returns the counters of handshakes.
    pub(crate) fn counts(&self) -> &HandshakeCounts {
        &self.counts
    }

    /// Completes a handshake and counts how it ended. The caller bounds the time and counts a handshake that it gave up.
    pub(crate) async fn accept(&self, tcp: TcpStream) -> Arrived {
        match self.handshake(tcp).await {
            Ok(Handshake::Done(mut socket)) => {
                let connection = socket.connection();
                let outcome = match connection.handshake_kind() {
                    Some(HandshakeKind::Resumed) => HandshakeOutcome::Resumed,
                    _ => HandshakeOutcome::Full,
                };
                let is_challenge = connection.alpn_protocol() == Some(ACME_PROTOCOL);
                self.counts.count(outcome);
                if is_challenge {
                    // The certificate was the answer (RFC 8737).
                    socket.say_goodbye();
                    return Arrived::Ended;
                }
                Arrived::Tls(ClientSocket::Tls(socket))
            }
            Ok(Handshake::PlainHttp(tcp)) => {
                self.counts.count(HandshakeOutcome::PlainHttp);
                Arrived::PlainHttp(ClientSocket::Plain(tcp))
            }
            // A probe of a load balancer that only looks whether the port is open.
            Ok(Handshake::Silent) => Arrived::Ended,
            Err(error) => {
                self.counts.count(match error.kind() {
                    ErrorKind::InvalidData => HandshakeOutcome::Failed,
                    _ => HandshakeOutcome::Left,
                });
                tracing::debug!(%error, "a TLS handshake failed");
                Arrived::Ended
            }
        }
    }

    async fn handshake(&self, tcp: TcpStream) -> io::Result<Handshake> {
        let hello = match first_record(&tcp).await? {
            First::Record(hello) => hello,
            First::PlainHttp => return Ok(Handshake::PlainHttp(tcp)),
            First::Nothing => return Ok(Handshake::Silent),
        };
        let socket = TlsSocket::new(tcp, Arc::clone(&self.config), hello).map_err(invalid)?;
        let mut socket = Box::new(socket);
        let mut step = Step::Hello;
        loop {
            let advanced = self.compute(&mut socket, step).await;
            step = Step::Later;
            let flushing = &mut *socket;
            let flushed = poll_fn(move |cx| flushing.poll_flush(cx)).await;
            advanced?;
            if !socket.connection().is_handshaking() {
                // A client that has left meanwhile is met by the next read.
                return Ok(Handshake::Done(socket));
            }
            flushed?;
            loop {
                match socket.read_handshake() {
                    Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                    Ok(_) if socket.has_record() => break,
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        socket.tcp().readable().await?;
                    }
                    Err(error) => return Err(error),
                }
            }
        }
    }

    /// Computes a step of a handshake when it is its turn.
    async fn compute(&self, socket: &mut TlsSocket, step: Step) -> io::Result<()> {
        // The semaphore is never closed.
        let _turn = self.computing.acquire().await;
        // In a storm many give up before it is their turn, and others wait behind them. After its last message a client may
        // end its half of the connection, but not after its hello.
        if step == Step::Hello && has_ended(socket.tcp())? {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let advanced = socket.advance_handshake();
        // Everything else that is ready gets its turn before the next handshake.
        yield_now().await;
        advanced.map_err(invalid)
    }
}

enum Handshake {
    Done(Box<TlsSocket>),
    PlainHttp(TcpStream),
    Silent,
}

/// A step of a handshake, which follows a message of the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Hello,
    Later,
}

enum First {
    /// A whole record, and perhaps more.
    Record(Vec<u8>),
    PlainHttp,
    /// The client left without a word.
    Nothing,
}

/// Reads the client's first record, without any state of TLS.
async fn first_record(tcp: &TcpStream) -> io::Result<First> {
    // Waits before it allocates, so that a client that sends nothing costs no buffer.
    tcp.readable().await?;
    let mut record = Vec::with_capacity(HELLO);
    loop {
        match tcp.try_read_buf(&mut record) {
            Ok(0) if record.is_empty() => return Ok(First::Nothing),
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                tcp.readable().await?;
                continue;
            }
            Err(error) => return Err(error),
        }
        match beginning(&record) {
            Beginning::PlainHttp => return Ok(First::PlainHttp),
            Beginning::Record => return Ok(First::Record(record)),
            Beginning::Partial => {}
        }
        // No more than has come, so that the head of a long record alone costs little.
        record.reserve(missing(&record).min(record.len()));
    }
}

/// Returns whether a client has ended its half of the connection, and all that it sent was read.
fn has_ended(tcp: &TcpStream) -> io::Result<bool> {
    match rustix::net::recv(tcp, &mut [0; 1], RecvFlags::PEEK) {
        Ok((length, _)) => Ok(length == 0),
        Err(Errno::AGAIN) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn invalid(error: rustls::Error) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, error)
}
