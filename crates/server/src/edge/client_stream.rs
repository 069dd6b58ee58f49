//! The stream of an accepted socket as HTTP reads and writes it. Bytes that were read before come first, writes time
//! out, and every read and write updates the socket's activity.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::edge::client_socket::ClientSocket;
use crate::edge::sockets::{Activity, SocketPlace};
use crate::edge::write_timeout::WriteTimeout;

/// A client's socket with its place among all sockets.
#[derive(Debug)]
pub(crate) struct ClientStream {
    stream: WriteTimeout<ClientSocket>,
    /// Bytes that were read from the socket and not yet from this stream.
    unread: Bytes,
    activity: Arc<Activity>,
    place: SocketPlace,
}

impl ClientStream {
    /// Creates a stream whose first bytes are `unread`.
    pub(crate) fn new(
        stream: WriteTimeout<ClientSocket>,
        unread: Bytes,
        activity: Arc<Activity>,
        place: SocketPlace,
    ) -> Self {
        Self {
            stream,
            unread,
            activity,
            place,
        }
    }

    /// Returns the socket, the bytes that were read from it and not from this stream, and its place.
    pub(crate) fn into_parts(self) -> (ClientSocket, Bytes, SocketPlace) {
        (self.stream.into_inner(), self.unread, self.place)
    }

    /// A client that reads a long answer slowly isn't idle.
    fn noted<T>(&self, done: Poll<T>) -> Poll<T> {
        if done.is_ready() {
            self.activity.note();
        }
        done
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.unread.is_empty() {
            let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
            return self.noted(read);
        }
        let count = buffer.remaining().min(self.unread.len());
        buffer.put_slice(&self.unread[..count]);
        self.unread.advance(count);
        if self.unread.is_empty() {
            // Frees the buffer, which would otherwise live as long as the connection.
            self.unread = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.noted(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.noted(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
