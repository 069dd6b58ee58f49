//! A stream whose client has to read. A client that takes nothing for a while is disconnected, because it would
//! otherwise keep a file descriptor and the bytes that wait for it.

use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use memchr::memmem::Finder;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use crate::edge::first_bytes::FirstBytes;

/// A stream whose writes fail with [`ErrorKind::TimedOut`] after waiting for `write_timeout`.
#[derive(Debug)]
pub(crate) struct WriteTimeout<S> {
    stream: S,
    write_timeout: Duration,
    /// Deadline of the write that waits, if one does.
    until: Option<Pin<Box<Sleep>>>,
    first_bytes: FirstBytes,
}

impl<S> WriteTimeout<S> {
    pub(crate) fn new(stream: S, write_timeout: Duration, first_bytes: FirstBytes) -> Self {
        Self {
            stream,
            write_timeout,
            until: None,
            first_bytes,
        }
    }

    /// Returns the wrapped stream.
    pub(crate) fn into_inner(self) -> S {
        self.stream
    }

    /// Passes on the result of a write, or returns `TimedOut` once the write has waited too long.
    fn in_time<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.until = None;
            return written;
        }
        let write_timeout = self.write_timeout;
        let until = self
            .until
            .get_or_insert_with(|| Box::pin(sleep(write_timeout)));
        ready!(until.as_mut().poll(cx));
        Poll::Ready(Err(ErrorKind::TimedOut.into()))
    }
}

/// The line that hyper writes.
const LINE: &[u8] = b"\r\nconnection: Upgrade, close\r\n";
static CLOSE_LINE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(LINE));

/// Returns the head of an upgrade without the `close` that hyper adds if the client sent `Connection: close` on a line
/// of its own, as Tcl's WebSocket client does. That client would take the answer for the end of the connection. Spaces
/// keep the length, by which the caller counts.
fn without_close(bytes: &[u8]) -> Option<Vec<u8>> {
    const KEPT: usize = b"\r\nconnection: Upgrade".len();
    if !bytes.starts_with(b"HTTP/1.1 101 ") {
        return None;
    }
    let at = CLOSE_LINE.find(bytes)?;
    let mut head = bytes.to_vec();
    head[at + KEPT..at + LINE.len() - 2].fill(b' ');
    Some(head)
}

impl<S: AsyncRead + Unpin> AsyncRead for WriteTimeout<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if let Some(new) = buffer.filled().get(before..).filter(|new| !new.is_empty()) {
            self.first_bytes.note(new);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WriteTimeout<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let upgrade = without_close(bytes);
        let bytes = upgrade.as_deref().unwrap_or(bytes);
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.in_time(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(upgrade) = slices.first().and_then(|first| without_close(first)) {
            let written = Pin::new(&mut self.stream).poll_write(cx, &upgrade);
            return self.in_time(cx, written);
        }
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.in_time(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A stream may hold back what it took, as one that encrypts does.
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.in_time(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_nothing_is_cut_off_and_a_slow_one_is_not() {
        let (server, mut client) = duplex(10);
        let mut patient = WriteTimeout::new(server, TIMEOUT, FirstBytes::default());
        let slow = async {
            for _ in 0..10 {
                sleep(TIMEOUT - Duration::from_secs(1)).await;
                client.read_exact(&mut [0; 10]).await.expect("ten bytes");
            }
        };
        let (written, ()) = tokio::join!(patient.write_all(&[0; 110]), slow);
        written.expect("it reads in time");
        let error = patient.write_all(&[0; 10]).await.expect_err("too late");
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }
}
