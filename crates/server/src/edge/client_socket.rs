//! A client's socket, whatever it is underneath. The rest of the edge names no other type, so that a shard serves all
//! kinds in the same way.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll};

use rustix::net::RecvFlags;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::tls_socket::{PortableTls, TlsSocket};
use crate::tls::HTTP_2;

/// An accepted socket, registered with the runtime of the thread that uses it. HTTP reads and writes it as a stream. A
/// shard, which has several users of one socket on its thread, uses the methods that take `&self`.
#[derive(Debug)]
pub(crate) enum ClientSocket {
    /// TCP without encryption.
    Plain(TcpStream),
    /// A connection of a process on this machine.
    Unix(UnixStream),
    /// TLS over TCP. Boxed, because its state is larger than a plain socket's.
    Tls(Box<TlsSocket>),
}

/// A socket that is registered with no runtime, on its way from the one that accepted it to a shard's.
#[derive(Debug)]
pub(crate) enum PortableSocket {
    /// See [`ClientSocket::Plain`].
    Plain(std::net::TcpStream),
    /// See [`ClientSocket::Unix`].
    Unix(std::os::unix::net::UnixStream),
    /// See [`ClientSocket::Tls`].
    Tls(Box<PortableTls>),
}

impl ClientSocket {
    /// Takes the socket out of this thread's runtime.
    ///
    /// # Errors
    ///
    /// Returns the system's error.
    pub(crate) fn into_portable(self) -> io::Result<PortableSocket> {
        match self {
            Self::Plain(stream) => stream.into_std().map(PortableSocket::Plain),
            Self::Unix(stream) => stream.into_std().map(PortableSocket::Unix),
            Self::Tls(socket) => {
                let portable = socket.into_portable()?;
                Ok(PortableSocket::Tls(Box::new(portable)))
            }
        }
    }

    /// Registers a socket with this thread's runtime.
    ///
    /// # Errors
    ///
    /// Returns the system's error, for example if there are no more file descriptors.
    pub(crate) fn from_portable(socket: PortableSocket) -> io::Result<Self> {
        match socket {
            PortableSocket::Plain(stream) => TcpStream::from_std(stream).map(Self::Plain),
            PortableSocket::Unix(stream) => UnixStream::from_std(stream).map(Self::Unix),
            PortableSocket::Tls(portable) => {
                let socket = TlsSocket::from_portable(*portable)?;
                Ok(Self::Tls(Box::new(socket)))
            }
        }
    }

    /// Returns whether the client has chosen HTTP/2 in its TLS handshake.
    pub(crate) fn speaks_http2(&mut self) -> bool {
        match self {
            Self::Plain(_) | Self::Unix(_) => false,
            Self::Tls(socket) => socket.connection().alpn_protocol() == Some(HTTP_2),
        }
    }

    /// Waits until the client has sent something or has left.
    pub(crate) async fn readable(&mut self) -> io::Result<()> {
        // Moved, because only one task at a time may hold a socket that speaks TLS.
        std::future::poll_fn(move |cx| self.poll_read_ready(cx)).await
    }

    /// Returns whether [`Self::try_read`] may have bytes, and wakes the task when it may.
    pub(crate) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => stream.poll_read_ready(cx),
            Self::Unix(stream) => stream.poll_read_ready(cx),
            Self::Tls(socket) => socket.poll_read_ready(cx),
        }
    }

    /// Returns whether [`Self::try_write_vectored`] may take bytes, and wakes the task when it may.
    pub(crate) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => stream.poll_write_ready(cx),
            Self::Unix(stream) => stream.poll_write_ready(cx),
            Self::Tls(socket) => socket.tcp().poll_write_ready(cx),
        }
    }

    /// Reads the bytes that are there. Returns 0 once the client has sent its last.
    ///
    /// # Errors
    ///
    /// Returns `WouldBlock` if there are none now, and any other error if the socket is gone.
    pub(crate) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.try_read(buffer),
            Self::Unix(stream) => stream.try_read(buffer),
            Self::Tls(socket) => socket.try_read(buffer),
        }
    }

    /// Copies bytes that are there, and leaves them there. Returns 0 once the client has sent its last.
    ///
    /// # Errors
    ///
    /// Returns `WouldBlock` if there are none now, and any other error if the socket is gone.
    pub(crate) fn try_peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.try_io(Interest::READABLE, || peek(stream, buffer)),
            Self::Unix(stream) => stream.try_io(Interest::READABLE, || peek(stream, buffer)),
            Self::Tls(socket) => socket.try_peek(buffer),
        }
    }

    /// Writes what fits and returns how many bytes that was.
    ///
    /// # Errors
    ///
    /// Returns `WouldBlock` if nothing fits now, and any other error if the socket is gone.
    pub(crate) fn try_write_vectored(&self, chunks: &[IoSlice<'_>]) -> io::Result<usize> {
        match (self, chunks) {
            (Self::Plain(stream), [chunk]) => stream.try_write(chunk),
            (Self::Plain(stream), chunks) => stream.try_write_vectored(chunks),
            (Self::Unix(stream), [chunk]) => stream.try_write(chunk),
            (Self::Unix(stream), chunks) => stream.try_write_vectored(chunks),
            (Self::Tls(socket), chunks) => socket.try_write_vectored(chunks),
        }
    }

    /// Tells the client that nothing more follows. Its bytes are still read.
    ///
    /// # Errors
    ///
    /// Returns the system's error if the client has left.
    pub(crate) fn shutdown_write(&self) -> io::Result<()> {
        match self {
            Self::Plain(_) | Self::Unix(_) => self.options().shutdown(Shutdown::Write),
            Self::Tls(socket) => socket.shutdown_write(),
        }
    }

    /// Returns whether bytes that were written wait in this process until the socket takes them.
    pub(crate) fn has_unsent(&self) -> bool {
        match self {
            Self::Plain(_) | Self::Unix(_) => false,
            Self::Tls(socket) => socket.has_unsent(),
        }
    }

    /// Writes bytes that wait in this process.
    ///
    /// # Errors
    ///
    /// Returns the system's error if the client has left.
    pub(crate) fn flush_unsent(&self) -> io::Result<()> {
        match self {
            Self::Plain(_) | Self::Unix(_) => Ok(()),
            Self::Tls(socket) => socket.flush_unsent().map(drop),
        }
    }

    /// Returns how many bytes that the client has sent are held in this process because they can't be read yet.
    pub(crate) fn held(&self) -> usize {
        match self {
            Self::Plain(_) | Self::Unix(_) => 0,
            Self::Tls(socket) => socket.held(),
        }
    }

    /// Tells the client that this is the end, if its protocol has a word for it. The socket is dropped next.
    pub(crate) fn say_goodbye(&self) {
        match self {
            Self::Plain(_) | Self::Unix(_) => {}
            Self::Tls(socket) => socket.say_goodbye(),
        }
    }

    /// Returns whether the socket has the options of TCP.
    pub(crate) fn is_tcp(&self) -> bool {
        match self {
            Self::Plain(_) | Self::Tls(_) => true,
            Self::Unix(_) => false,
        }
    }

    /// Returns the socket as its options are set.
    pub(crate) fn options(&self) -> SockRef<'_> {
        match self {
            Self::Plain(stream) => SockRef::from(stream),
            Self::Unix(stream) => SockRef::from(stream),
            Self::Tls(socket) => SockRef::from(socket.tcp()),
        }
    }
}

fn peek(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    let (length, _) = rustix::net::recv(socket, buffer, RecvFlags::PEEK)?;
    Ok(length)
}

impl From<TcpStream> for ClientSocket {
    fn from(stream: TcpStream) -> Self {
        Self::Plain(stream)
    }
}

impl AsyncRead for ClientSocket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(socket) => socket.poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for ClientSocket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(socket) => socket.poll_write_vectored(cx, &[IoSlice::new(bytes)]),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Tls(socket) => socket.poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Unix(stream) => stream.is_write_vectored(),
            Self::Tls(_) => true,
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(socket) => socket.poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(socket) => socket.poll_shutdown(cx),
        }
    }
}
