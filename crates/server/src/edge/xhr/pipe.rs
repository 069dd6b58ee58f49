//! The sink of a session: moves lines from its outbox to the request that waits for them.

use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind, IoSlice};
use std::rc::Rc;
use std::time::Duration;

use axum::body::Bytes;
use fanfare_engine::Sink;
use fanfare_protocol::Framing;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::time::Instant;

/// Silence after which a waiting request gets a line (docs/protocol.md#fallback-sessions).
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(25);
/// How long a session lives while no request waits for its lines. There is no other sign that its client has left.
const RECEIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes after which a batch of lines is full. A poll's answer is one batch.
const BATCH: usize = 64 * 1024;
/// Number of batches that may wait for the network.
const BATCHES: usize = 2;
/// Length of a streamed answer, in UTF-16 code units, after which pusher-js ends it and asks for the next one. Lines
/// sent beyond that would be lost, so no more are sent.
pub(super) const MAX_STREAM_LENGTH: usize = 256 * 1024;
/// Sent first, because some proxies and browsers hold back the beginning of an answer. Clients ignore an `h` before the
/// `o`.
const PRELUDE: [u8; 2049] = {
    let mut line = [b'h'; 2049];
    line[2048] = b'\n';
    line
};

/// A request that waits for lines.
#[derive(Debug)]
pub(super) struct Receive {
    lines: Sender<Bytes>,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// Takes lines until its answer is longer than [`MAX_STREAM_LENGTH`].
    Streaming { sent: usize },
    /// Takes one batch.
    Polling,
}

impl Receive {
    /// Returns a request of `xhr_streaming`, and the batches to stream.
    pub(super) fn streaming() -> (Self, Receiver<Bytes>) {
        let (lines, streamed) = mpsc::channel(BATCHES + 1);
        lines
            .try_send(Bytes::from_static(&PRELUDE))
            .expect("a new channel has room");
        let sent = PRELUDE.len();
        let kind = Kind::Streaming { sent };
        (Self { lines, kind }, streamed)
    }

    /// Returns a request of `xhr`, and the batch to answer.
    pub(super) fn polling() -> (Self, Receiver<Bytes>) {
        let (lines, answer) = mpsc::channel(1);
        let kind = Kind::Polling;
        (Self { lines, kind }, answer)
    }

    fn is_full(&self) -> bool {
        matches!(self.kind, Kind::Streaming { sent } if sent > MAX_STREAM_LENGTH)
    }

    /// Sends whole lines, so that the rest can go to the next request. Returns `WouldBlock` if the request takes none
    /// now.
    fn write(&mut self, chunks: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.is_full() {
            return Err(ErrorKind::WouldBlock.into());
        }
        let Ok(permit) = self.lines.try_reserve() else {
            return Err(ErrorKind::WouldBlock.into());
        };
        let mut batch = Vec::new();
        let lines = chunks
            .iter()
            .flat_map(|chunk| chunk.split_inclusive(|byte| *byte == b'\n'));
        for line in lines {
            batch.extend_from_slice(line);
            let full = match &mut self.kind {
                Kind::Streaming { sent } => {
                    *sent += utf16_units(line);
                    *sent > MAX_STREAM_LENGTH
                }
                Kind::Polling => false,
            };
            if full || batch.len() >= BATCH {
                break;
            }
        }
        let count = batch.len();
        permit.send(batch.into());
        Ok(count)
    }
}

/// Returns the length of UTF-8 in UTF-16 code units, as JavaScript counts it.
fn utf16_units(text: &[u8]) -> usize {
    let units = |byte: &u8| match byte {
        0x80..=0xbf => 0,
        0xf0.. => 2,
        _ => 1,
    };
    text.iter().map(units).sum()
}

/// The request that takes a session's lines now. Between requests, lines wait in the outbox.
#[derive(Debug)]
pub(super) struct Pipe {
    receive: RefCell<Option<Receive>>,
    /// When a line was last written, or a request came or left.
    since: Cell<Instant>,
}

/// News of the attached request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// It takes more lines.
    Writable,
    /// Its client has closed the connection.
    Gone,
}

impl Pipe {
    pub(super) fn new(receive: Receive) -> Self {
        Self {
            receive: RefCell::new(Some(receive)),
            since: Cell::new(Instant::now()),
        }
    }

    /// Sends lines to `receive` from now on. The previous request, if there is one, is answered.
    pub(super) fn attach(&self, receive: Receive) {
        self.set(Some(receive));
    }

    /// Lets lines wait from now on.
    pub(super) fn detach(&self) {
        self.set(None);
    }

    fn set(&self, receive: Option<Receive>) {
        *self.receive.borrow_mut() = receive;
        self.touch();
    }

    pub(super) fn is_attached(&self) -> bool {
        self.receive.borrow().is_some()
    }

    /// Returns whether the client has certainly read everything that was sent: it waits for an answer, or has read a
    /// stream to the length at which it asks for the next one.
    pub(super) fn is_read(&self) -> bool {
        let receive = self.receive.borrow();
        receive
            .as_ref()
            .is_none_or(|receive| matches!(receive.kind, Kind::Polling) || receive.is_full())
    }

    /// Returns when a heartbeat is due or, without a request, when the session ends.
    pub(super) fn due(&self) -> Instant {
        let deadline_after = if self.is_attached() {
            HEARTBEAT_INTERVAL
        } else {
            RECEIVE_TIMEOUT
        };
        self.since.get() + deadline_after
    }

    /// Restarts the time until [`Self::due`].
    pub(super) fn touch(&self) {
        self.since.set(Instant::now());
    }

    /// Waits for news of the attached request, or forever if there is none.
    pub(super) async fn event(&self, wants_to_write: bool) -> Event {
        let lines = self.receive.borrow().as_ref().map(|receive| {
            let writes = wants_to_write && !receive.is_full();
            (receive.lines.clone(), writes)
        });
        let Some((lines, writes)) = lines else {
            return std::future::pending().await;
        };
        tokio::select! {
            biased;
            () = lines.closed() => Event::Gone,
            permit = lines.reserve(), if writes => match permit {
                Ok(_) => Event::Writable,
                Err(_) => Event::Gone,
            },
        }
    }
}

/// The pipe as the sink of the session's outbox.
pub(super) struct PipeSink(pub(super) Rc<Pipe>);

impl Sink for PipeSink {
    fn write(&self, chunks: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut receive = self.0.receive.borrow_mut();
        let attached = receive.as_mut().ok_or(ErrorKind::WouldBlock)?;
        let count = attached.write(chunks)?;
        if matches!(attached.kind, Kind::Polling) {
            *receive = None;
        }
        self.0.touch();
        Ok(count)
    }

    fn framing(&self) -> Framing {
        Framing::SockJs
    }

    fn has_turns(&self) -> bool {
        true
    }

    // The HTTP connection has a write time-out, and a session without requests ends.
    fn has_write_timeout(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(receive: &mut Receive, text: &str) -> Option<usize> {
        receive.write(&[IoSlice::new(text.as_bytes())]).ok()
    }

    #[test]
    fn a_stream_stops_where_the_client_asks_for_the_next_one() {
        let (mut receive, mut streamed) = Receive::streaming();
        assert_eq!(streamed.try_recv().expect("a prelude").len(), 2049);
        // Two bytes in UTF-8, one for JavaScript: counted in bytes, the stream would stop too early for the client.
        let line = format!("{}\n", "é".repeat(30_000));
        for _ in 0..8 {
            assert_eq!(written(&mut receive, &line), Some(60_001));
            streamed.try_recv().expect("the line");
        }
        assert!(!receive.is_full());
        let many = "é\n".repeat(30_000);
        let taken = written(&mut receive, &many).expect("room");
        assert_eq!(2049 + 8 * 30_001 + taken / 3 * 2, MAX_STREAM_LENGTH + 1);
        assert_eq!(written(&mut receive, &line), None);
    }

    #[test]
    fn only_whole_lines_are_taken_and_no_more_than_the_network_does() {
        let (mut receive, mut streamed) = Receive::streaming();
        let lines = format!("{}\n", "x".repeat(999)).repeat(100);
        assert_eq!(written(&mut receive, &lines), Some(66_000));
        assert_eq!(written(&mut receive, &lines), Some(66_000));
        assert_eq!(written(&mut receive, &lines), None);
        streamed.try_recv().expect("the prelude");
        assert_eq!(written(&mut receive, &lines), Some(66_000));
    }

    #[tokio::test]
    async fn a_poll_takes_one_batch() {
        let (receive, mut answer) = Receive::polling();
        let pipe = Rc::new(Pipe::new(receive));
        let sink = PipeSink(Rc::clone(&pipe));
        assert_eq!(
            sink.write(&[IoSlice::new(b"o\n"), IoSlice::new(b"h\n")])
                .ok(),
            Some(4)
        );
        assert!(sink.write(&[IoSlice::new(b"h\n")]).is_err());
        assert!(!pipe.is_attached());
        assert_eq!(answer.recv().await.as_deref(), Some(&b"o\nh\n"[..]));
    }

    #[test]
    fn code_units_are_counted_as_javascript_does() {
        for text in ["", "a", "é", "漢", "🎉", "a🎉é\n"] {
            assert_eq!(utf16_units(text.as_bytes()), text.encode_utf16().count());
        }
    }
}
