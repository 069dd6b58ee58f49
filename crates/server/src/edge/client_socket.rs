//! A client's socket, whatever it is underneath. The rest of the edge names no other type, so that a shard serves all
//! kinds in the same way.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::Pin;
use std::task::{Context, Poll};

use rustix::net::RecvFlags;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

/// An accepted socket, registered with the runtime of the thread that uses it. HTTP reads and writes it as a stream. A
/// shard, which has several users of one socket on its thread, uses the methods that take `&self`.
#[derive(Debug)]
pub(crate) enum ClientSocket {
    /// TCP without encryption.
    Plain(TcpStream),
}

/// A socket that is registered with no runtime, on its way from the one that accepted it to a shard's.
#[derive(Debug)]
pub(crate) enum PortableSocket {
    /// See [`ClientSocket::Plain`].
    Plain(std::net::TcpStream),
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
        }
    }

    /// Waits until the client has sent something or has left.
    pub(crate) async fn readable(&mut self) -> io::Result<()> {
        std::future::poll_fn(|cx| self.poll_read_ready(cx)).await
    }

    /// Returns whether [`Self::try_read`] may have bytes, and wakes the task when it may.
    pub(crate) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => stream.poll_read_ready(cx),
        }
    }

    /// Returns whether [`Self::try_write_vectored`] may take bytes, and wakes the task when it may.
    pub(crate) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => stream.poll_write_ready(cx),
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
        }
    }

    /// Copies bytes that are there, and leaves them there. Returns 0 once the client has sent its last.
    ///
    /// # Errors
    ///
    /// Returns `WouldBlock` if there are none now, and any other error if the socket is gone.
    pub(crate) fn try_peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.try_io(Interest::READABLE, || {
                let (length, _) = rustix::net::recv(stream, buffer, RecvFlags::PEEK)?;
                Ok(length)
            }),
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
        }
    }

    /// Tells the client that nothing more follows. Its bytes are still read.
    ///
    /// # Errors
    ///
    /// Returns the system's error if the client has left.
    pub(crate) fn shutdown_write(&self) -> io::Result<()> {
        self.options().shutdown(Shutdown::Write)
    }

    /// Returns the socket as its options are set.
    pub(crate) fn options(&self) -> SockRef<'_> {
        match self {
            Self::Plain(stream) => SockRef::from(stream),
        }
    }
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
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
