//! A socket that speaks TLS. While it is idle it holds no buffers: bytes are decrypted and encrypted in buffers of the
//! thread, and the socket keeps only what is left over, such as half a record.

use std::cell::RefCell;
use std::io::{self, ErrorKind, IoSlice};
use std::mem;
use std::net::Shutdown;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use fanfare_protocol::tls_record::{MAX_CONTENT, MAX_RECORD, may_be_processed, missing};
use rustls::ServerConfig;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus,
    WriteTraffic,
};
use socket2::SockRef;
use tokio::io::ReadBuf;
use tokio::net::TcpStream;

/// Bytes read at once, unless a longer record has begun. What is decrypted and not used at once must be kept, so this is
/// little.
const READ_CHUNK: usize = 4 * 1024;
/// Largest record of this server, with room for an update of its keys before it.
const MAX_SENT: usize = MAX_CONTENT + 1024;
/// Most bytes that may wait for a client that is only sent TLS's own messages. A client that asks for more of them and
/// reads none is disconnected.
const MAX_UNSENT: usize = 4 * MAX_CONTENT;
/// Reads of one call that bring no content. More are left to the next turn.
const READS_PER_CALL: usize = 8;

/// Buffers of a thread, used by all its sockets in turn.
struct Buffers {
    incoming: [u8; MAX_RECORD + READ_CHUNK],
    /// Content that comes in several pieces and leaves in one record.
    content: [u8; MAX_CONTENT],
    outgoing: [u8; MAX_SENT],
}

thread_local! {
    static BUFFERS: RefCell<Box<Buffers>> = RefCell::new(Box::new(Buffers {
        incoming: [0; MAX_RECORD + READ_CHUNK],
        content: [0; MAX_CONTENT],
        outgoing: [0; MAX_SENT],
    }));
}

/// A TCP stream and the state of TLS on it.
#[derive(Debug)]
pub(crate) struct TlsSocket {
    tcp: TcpStream,
    session: RefCell<Session>,
}

/// A [`TlsSocket`] that is registered with no runtime.
#[derive(Debug)]
pub(crate) struct PortableTls {
    tcp: std::net::TcpStream,
    session: Session,
}

struct Session {
    connection: UnbufferedServerConnection,
    /// Bytes of records and of TLS's own messages that haven't come whole.
    incoming: Vec<u8>,
    /// Decrypted bytes that haven't been read, from `read` on.
    content: Vec<u8>,
    read: usize,
    /// Records that the socket hasn't taken yet.
    unsent: Vec<u8>,
    /// Whether the client has sent its last.
    ended: bool,
    /// Whether the client was told that nothing more follows.
    closed: bool,
    /// Whether the writing half is to be shut down after `unsent`, or has been.
    shutdown: Option<ShutdownState>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ShutdownState {
    Due,
    Done,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

impl Session {
    /// Works through `bytes` and returns how many of them are used up; the others must come again, before those that
    /// follow. Once the connection can send, `seal` may encrypt; its result is `None` if the connection can't.
    fn process<T>(
        &mut self,
        bytes: &mut [u8],
        seal: impl FnOnce(&mut WriteTraffic<'_, ServerConnectionData>) -> T,
    ) -> Result<(usize, Option<T>), rustls::Error> {
        let mut used = 0;
        loop {
            let UnbufferedStatus { mut discard, state } =
                self.connection.process_tls_records(&mut bytes[used..]);
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        discard += record.discard;
                        self.content.extend_from_slice(record.payload);
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    append(&mut self.unsent, |space| data.encode(space))?;
                }
                // What was encoded waits in `unsent`.
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => self.ended = true,
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    return Ok((used + discard, Some(seal(&mut traffic))));
                }
                // Early data is never allowed, so `ReadEarlyData` doesn't come.
                Ok(_) => return Ok((used + discard, None)),
                Err(error) => {
                    self.ended = true;
                    self.closed = true;
                    self.queue_alert(&mut bytes[used + discard..]);
                    return Err(error);
                }
            }
            used += discard;
        }
    }

    /// Queues the alert that tells the client what was wrong, and what comes before it. `bytes` are those that weren't
    /// used up.
    fn queue_alert(&mut self, bytes: &mut [u8]) {
        // Asked only while something is to be sent: rustls would otherwise read the invalid bytes again.
        while self.connection.wants_write() {
            match self.connection.process_tls_records(bytes).state {
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    if append(&mut self.unsent, |space| data.encode(space)).is_err() {
                        return;
                    }
                }
                // What came before the invalid bytes isn't read any more.
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while traffic.next_record().is_some() {}
                }
                _ => return,
            }
        }
    }

    /// Works through the bytes that are kept.
    fn process_kept<T>(
        &mut self,
        seal: impl FnOnce(&mut WriteTraffic<'_, ServerConnectionData>) -> T,
    ) -> Result<Option<T>, rustls::Error> {
        let mut incoming = mem::take(&mut self.incoming);
        let processed = self.process(&mut incoming, seal);
        let (used, sealed) = processed?;
        incoming.drain(..used);
        if !incoming.is_empty() {
            self.incoming = incoming;
        }
        Ok(sealed)
    }

    /// Moves decrypted bytes into `buffer` and returns how many.
    fn take_content(&mut self, buffer: &mut [u8]) -> usize {
        let content = &self.content[self.read..];
        let count = content.len().min(buffer.len());
        buffer[..count].copy_from_slice(&content[..count]);
        self.read += count;
        if self.read == self.content.len() {
            // Frees the memory, which would otherwise live as long as the connection.
            self.content = Vec::new();
            self.read = 0;
        }
        count
    }

    /// Returns how many bytes to read next: a whole record if one has begun.
    fn wanted(&self) -> usize {
        missing(&self.incoming).max(READ_CHUNK)
    }

    /// Queues the message that nothing more follows. Without it, clients can't tell the end from a cut.
    fn queue_close(&mut self) {
        if mem::replace(&mut self.closed, true) {
            return;
        }
        let mut outgoing = [0; 256];
        let sealed = self.process_kept(|traffic| traffic.queue_close_notify(&mut outgoing));
        if let Ok(Some(Ok(count))) = sealed {
            self.unsent.extend_from_slice(&outgoing[..count]);
        }
    }
}

/// Appends what `encode` writes, which says how much space it needs.
fn append(
    to: &mut Vec<u8>,
    mut encode: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>,
) -> Result<(), rustls::Error> {
    let before = to.len();
    loop {
        match encode(&mut to[before..]) {
            Ok(count) => {
                to.truncate(before + count);
                return Ok(());
            }
            Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) => {
                to.resize(before + required_size, 0);
            }
            Err(error @ EncodeError::AlreadyEncoded) => {
                return Err(rustls::Error::General(error.to_string()));
            }
        }
    }
}

fn invalid(error: rustls::Error) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, error)
}

impl TlsSocket {
    /// Creates a socket whose handshake hasn't begun. `hello` are the bytes that the client has sent.
    ///
    /// # Errors
    ///
    /// Returns rustls' error if the configuration isn't usable.
    pub(crate) fn new(
        tcp: TcpStream,
        config: Arc<ServerConfig>,
        hello: Vec<u8>,
    ) -> Result<Self, rustls::Error> {
        let session = Session {
            connection: UnbufferedServerConnection::new(config)?,
            incoming: hello,
            content: Vec::new(),
            read: 0,
            unsent: Vec::new(),
            ended: false,
            closed: false,
            shutdown: None,
        };
        Ok(Self {
            tcp,
            session: RefCell::new(session),
        })
    }

    pub(crate) fn into_portable(self) -> io::Result<PortableTls> {
        Ok(PortableTls {
            tcp: self.tcp.into_std()?,
            session: self.session.into_inner(),
        })
    }

    pub(crate) fn from_portable(portable: PortableTls) -> io::Result<Self> {
        Ok(Self {
            tcp: TcpStream::from_std(portable.tcp)?,
            session: RefCell::new(portable.session),
        })
    }

    pub(crate) fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    /// Returns what TLS knows of the connection.
    pub(crate) fn connection(&mut self) -> &UnbufferedServerConnection {
        &self.session.get_mut().connection
    }

    /// Computes the next step of the handshake from the bytes that have come. The answer waits in
    /// [`Self::flush_unsent`], also after an error.
    pub(crate) fn advance_handshake(&mut self) -> Result<(), rustls::Error> {
        self.session.get_mut().process_kept(|_| ())?;
        Ok(())
    }

    /// Returns whether a step of the handshake may be computed: a record has come whole.
    pub(crate) fn has_record(&mut self) -> bool {
        may_be_processed(&self.session.get_mut().incoming)
    }

    /// Reads bytes of the handshake and returns how many came: none if the client has left.
    ///
    /// # Errors
    ///
    /// Returns `WouldBlock` if there are none now, and `InvalidData` after more than any handshake has.
    pub(crate) fn read_handshake(&mut self) -> io::Result<usize> {
        let incoming = &mut self.session.get_mut().incoming;
        if incoming.len() > MAX_RECORD {
            return Err(invalid(rustls::Error::General(
                "the handshake is too long".into(),
            )));
        }
        // No more than has come, so that the head of a long record alone costs little.
        incoming.reserve(missing(incoming).min(incoming.len()).max(1024));
        self.tcp.try_read_buf(incoming)
    }

    /// Returns the bytes that are kept for this client until more comes, or until they are read.
    pub(crate) fn held(&self) -> usize {
        let session = self.session.borrow();
        session.incoming.len() + session.content.len()
    }

    /// Returns whether records wait until the socket takes them.
    pub(crate) fn has_unsent(&self) -> bool {
        !self.session.borrow().unsent.is_empty()
    }

    pub(crate) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let session = self.session.borrow();
        if session.ended || !session.content.is_empty() {
            return Poll::Ready(Ok(()));
        }
        self.tcp.poll_read_ready(cx)
    }

    pub(crate) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let session = &mut *self.session.borrow_mut();
        self.decrypt(session)?;
        Ok(session.take_content(buffer))
    }

    pub(crate) fn try_peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let session = &mut *self.session.borrow_mut();
        self.decrypt(session)?;
        let content = &session.content[session.read..];
        let count = content.len().min(buffer.len());
        buffer[..count].copy_from_slice(&content[..count]);
        Ok(count)
    }

    /// Reads until there are decrypted bytes, or until the client has sent its last.
    fn decrypt(&self, session: &mut Session) -> io::Result<()> {
        let is_done = |session: &Session| session.ended || !session.content.is_empty();
        if is_done(session) {
            return Ok(());
        }
        BUFFERS.with_borrow_mut(|buffers| {
            for _ in 0..READS_PER_CALL {
                self.receive(session, &mut buffers.incoming)?;
                if is_done(session) {
                    return Ok(());
                }
            }
            Err(ErrorKind::WouldBlock.into())
        })
    }

    /// Reads once and decrypts what came.
    fn receive(&self, session: &mut Session, buffer: &mut [u8]) -> io::Result<()> {
        let kept = session.incoming.len();
        let end = (kept + session.wanted()).min(buffer.len());
        if kept >= end {
            return Err(invalid(rustls::Error::General(
                "a message of TLS itself is too long".into(),
            )));
        }
        let count = self.tcp.try_read(&mut buffer[kept..end])?;
        if count == 0 {
            session.ended = true;
            return Ok(());
        }
        buffer[..kept].copy_from_slice(&session.incoming);
        let bytes = &mut buffer[..kept + count];
        let processed = session.process(bytes, |_| ());
        let (used, _) = match processed {
            Ok(processed) => processed,
            Err(error) => {
                // The alert is a courtesy: the connection ends either way.
                let _ = self.flush(session);
                return Err(invalid(error));
            }
        };
        let rest = &buffer[used..kept + count];
        if rest.is_empty() {
            session.incoming = Vec::new();
        } else {
            session.incoming.clear();
            session.incoming.extend_from_slice(rest);
        }
        self.flush(session)?;
        if session.unsent.len() > MAX_UNSENT {
            return Err(ErrorKind::ConnectionAborted.into());
        }
        Ok(())
    }

    pub(crate) fn try_write_vectored(&self, chunks: &[IoSlice<'_>]) -> io::Result<usize> {
        let session = &mut *self.session.borrow_mut();
        // rustls must not be asked again after an error.
        if session.closed {
            return Err(ErrorKind::BrokenPipe.into());
        }
        // What was encrypted must leave first, because records are numbered.
        if !self.flush(session)? {
            return Err(ErrorKind::WouldBlock.into());
        }
        BUFFERS.with_borrow_mut(|buffers| {
            let Buffers {
                content, outgoing, ..
            } = &mut **buffers;
            let content = match chunks {
                [chunk] => &chunk[..chunk.len().min(MAX_CONTENT)],
                chunks => gather(chunks, content),
            };
            if content.is_empty() {
                return Ok(0);
            }
            let sealed = session
                .process_kept(|traffic| traffic.encrypt(content, outgoing))
                .map_err(invalid)?;
            let count = match sealed {
                Some(Ok(count)) => count,
                Some(Err(EncryptError::EncryptExhausted)) | None => {
                    return Err(ErrorKind::BrokenPipe.into());
                }
                Some(Err(error @ EncryptError::InsufficientSize(_))) => {
                    return Err(io::Error::other(error));
                }
            };
            self.send(session, &outgoing[..count])?;
            Ok(content.len())
        })
    }

    /// Writes a record, and keeps what the socket doesn't take.
    fn send(&self, session: &mut Session, record: &[u8]) -> io::Result<()> {
        if !session.unsent.is_empty() {
            session.unsent.extend_from_slice(record);
            self.flush(session)?;
            return Ok(());
        }
        let written = match self.tcp.try_write(record) {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        session.unsent.extend_from_slice(&record[written..]);
        Ok(())
    }

    /// Writes records that the socket hasn't taken yet. Returns whether none is left.
    pub(crate) fn flush_unsent(&self) -> io::Result<bool> {
        self.flush(&mut self.session.borrow_mut())
    }

    fn flush(&self, session: &mut Session) -> io::Result<bool> {
        let mut written = 0;
        while written < session.unsent.len() {
            match self.tcp.try_write(&session.unsent[written..]) {
                Ok(count) => written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    session.unsent.drain(..written);
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
        if written > 0 {
            session.unsent = Vec::new();
        }
        if session.shutdown == Some(ShutdownState::Due) {
            session.shutdown = Some(ShutdownState::Done);
            SockRef::from(&self.tcp).shutdown(Shutdown::Write)?;
        }
        Ok(true)
    }

    /// Tells the client that nothing more follows, with TLS's own message first.
    pub(crate) fn shutdown_write(&self) -> io::Result<()> {
        let session = &mut *self.session.borrow_mut();
        session.queue_close();
        session.shutdown.get_or_insert(ShutdownState::Due);
        self.flush(session)?;
        Ok(())
    }

    /// Tells a client whose socket is dropped next that this is the end.
    pub(crate) fn say_goodbye(&self) {
        let session = &mut *self.session.borrow_mut();
        session.queue_close();
        // A client that is gone, or that reads nothing, isn't told.
        let _ = self.flush(session);
    }

    pub(crate) fn poll_read(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            // Asked first, because this counts as work of the task: one whose client sends without end has to yield.
            ready!(self.poll_read_ready(cx))?;
            match self.try_read(buffer.initialize_unfilled()) {
                Ok(count) => {
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    pub(crate) fn poll_write_vectored(
        &self,
        cx: &mut Context<'_>,
        chunks: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            // Asked first for the same reason as in `poll_read`.
            ready!(self.tcp.poll_write_ready(cx))?;
            match self.try_write_vectored(chunks) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }

    pub(crate) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.flush_unsent()? {
            ready!(self.tcp.poll_write_ready(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    pub(crate) fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shutdown_write()?;
        self.poll_flush(cx)
    }
}

/// Copies as much of the chunks as a record takes, and returns it.
fn gather<'a>(chunks: &[IoSlice<'_>], into: &'a mut [u8; MAX_CONTENT]) -> &'a [u8] {
    let mut used = 0;
    for chunk in chunks {
        let count = chunk.len().min(into.len() - used);
        into[used..used + count].copy_from_slice(&chunk[..count]);
        used += count;
        if used == into.len() {
            break;
        }
    }
    &into[..used]
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::{Read, Write};
    use std::pin::pin;
    use std::thread::{self, JoinHandle};
    use std::time::Duration;

    use rustls::crypto::aws_lc_rs;
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, ServerName};
    use rustls::sign::{CertifiedKey, SingleCertAndKey};
    use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
    use tokio::net::TcpListener;
    use tokio::task::coop::{consume_budget, has_budget_remaining};
    use tokio::task::yield_now;
    use tokio::time::timeout;

    use super::*;
    use crate::edge::client_socket::ClientSocket;
    use crate::edge::tls_handshake::{Arrived, TlsAcceptor};
    use crate::tls::Certificate;
    use crate::tls::testing::Authority;

    type Client = StreamOwned<ClientConnection, std::net::TcpStream>;

    /// Lets a client do something after its handshake, and returns the server's end of the connection.
    async fn connected(act: impl FnOnce(Client) + Send + 'static) -> (TlsSocket, JoinHandle<()>) {
        let authority = Authority::new("Test CA");
        let issued = authority.issue(&["localhost"]);
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_slice(authority.certificate().as_bytes());
        roots
            .add(root.expect("a certificate"))
            .expect("an authority");
        let client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let pair = Certificate::from_pem(issued.chain().as_bytes(), issued.key().as_bytes());
        let key = CertifiedKey::clone(&pair.expect("a pair").key);
        let server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let client = thread::spawn(move || {
            let name = ServerName::try_from("localhost").expect("a name");
            let connection = ClientConnection::new(Arc::new(client), name).expect("a client");
            let tcp = std::net::TcpStream::connect(address).expect("a connection");
            let mut stream = StreamOwned::new(connection, tcp);
            while stream.conn.is_handshaking() {
                stream
                    .conn
                    .complete_io(&mut stream.sock)
                    .expect("a handshake");
            }
            act(stream);
        });
        let (tcp, _) = listener.accept().await.expect("a connection");
        let acceptor = TlsAcceptor::new(Arc::new(server), 1, Arc::default());
        let Arrived::Tls(ClientSocket::Tls(socket)) = acceptor.accept(tcp).await else {
            panic!("a handshake");
        };
        (*socket, client)
    }

    /// Reads until the client has said `expected`, or until the connection has failed. What waits for the client is
    /// bounded all the time.
    async fn read(socket: &TlsSocket, expected: &[u8]) -> io::Result<()> {
        let mut said = Vec::new();
        let reading = async {
            while said != expected {
                let mut buffer = [0; 64];
                match socket.try_read(&mut buffer) {
                    Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                    Ok(count) => said.extend_from_slice(&buffer[..count]),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        poll_fn(|cx| socket.poll_read_ready(cx)).await?;
                    }
                    Err(error) => return Err(error),
                }
                assert!(socket.session.borrow().unsent.len() <= 2 * MAX_UNSENT);
                assert!(socket.held() <= MAX_RECORD);
            }
            Ok(())
        };
        let read = timeout(Duration::from_secs(20), reading).await;
        read.expect("an end within 20 s")
    }

    #[tokio::test]
    async fn a_client_may_change_its_keys() {
        let (socket, client) = connected(|mut client| {
            for _ in 0..3 {
                for _ in 0..5 {
                    client.conn.refresh_traffic_keys().expect("new keys");
                }
                client.write_all(b"hello").expect("a connection");
            }
            let mut answer = [0; 2];
            client.read_exact(&mut answer).expect("an answer");
            assert_eq!(answer, *b"ok");
        })
        .await;
        read(&socket, b"hellohellohello").await.expect("words");
        socket
            .try_write_vectored(&[IoSlice::new(b"ok")])
            .expect("an answer");
        client.join().expect("a client");
    }

    #[tokio::test]
    async fn a_client_that_only_changes_its_keys_is_disconnected() {
        let (socket, client) = connected(|mut client| {
            // Until the server has ended the connection.
            while client.conn.refresh_traffic_keys().is_ok() {
                while client.conn.wants_write() {
                    if client.conn.write_tls(&mut client.sock).is_err() {
                        return;
                    }
                }
            }
        })
        .await;
        let error = read(&socket, b"never").await.expect_err("an end");
        assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}");
        drop(socket);
        client.join().expect("a client");
    }

    #[tokio::test]
    async fn a_task_that_has_done_its_turn_neither_reads_nor_writes() {
        let (socket, client) = connected(|mut client| {
            client.write_all(b"hello").expect("a connection");
            let mut answer = [0; 2];
            client.read_exact(&mut answer).expect("an answer");
            assert_eq!(answer, *b"ok");
        })
        .await;
        // From here on, both are possible.
        socket.tcp.readable().await.expect("words");
        let mut room = [0; 64];
        let mut buffer = ReadBuf::new(&mut room);
        poll_fn(|cx| {
            // A task's turn ends when it has used up its budget, and a client that sends without end would go on.
            while has_budget_remaining() {
                assert!(pin!(consume_budget()).poll(cx).is_ready());
            }
            assert!(socket.poll_read(cx, &mut buffer).is_pending());
            let chunks = [IoSlice::new(b"no")];
            assert!(socket.poll_write_vectored(cx, &chunks).is_pending());
            Poll::Ready(())
        })
        .await;
        yield_now().await;
        poll_fn(|cx| socket.poll_read(cx, &mut buffer))
            .await
            .expect("words");
        assert_eq!(buffer.filled(), b"hello");
        poll_fn(|cx| socket.poll_write_vectored(cx, &[IoSlice::new(b"ok")]))
            .await
            .expect("an answer");
        client.join().expect("a client");
    }

    #[tokio::test]
    async fn a_client_that_leaves_after_its_hello_costs_no_computation() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let mut client = std::net::TcpStream::connect(address).expect("a connection");
        // A record whose content would be refused with an alert.
        client
            .write_all(&[22, 3, 3, 0, 4, 1, 0, 0, 0])
            .expect("a connection");
        client.shutdown(Shutdown::Write).expect("a connection");
        let (tcp, _) = listener.accept().await.expect("a connection");
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(crate::tls::Certificates::default()));
        let acceptor = TlsAcceptor::new(Arc::new(config), 1, Arc::default());
        assert!(matches!(acceptor.accept(tcp).await, Arrived::Ended));
        let counts = acceptor.counts().read();
        assert!(counts.contains(&("left", 1)), "{counts:?}");
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).expect("an end");
        assert!(answer.is_empty(), "an alert was computed: {answer:?}");
    }
}
