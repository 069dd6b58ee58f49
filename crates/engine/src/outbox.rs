//! What is to be written to one socket: bounded in bytes, written with one vectored write.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice};

use bytes::Bytes;
use fanfare_protocol::Framing;

/// Frames up to this many bytes are copied together; longer ones are shared by reference count.
const COPY_UP_TO: usize = 1024;
/// Copied frames share a buffer up to this many bytes.
const CHUNK: usize = 16 * 1024;
/// Slices per write.
const SLICES: usize = 64;
/// Chunks an empty outbox keeps room for.
const CHUNKS_KEPT: usize = 8;
/// Buffers a shard keeps for reuse, and the largest it keeps.
const SPARE_BUFFERS: usize = 1024;
const SPARE_SIZE: usize = 4 * 1024;

/// Where an outbox goes: a socket that never waits.
pub trait Sink {
    /// Writes what fits and says how many bytes that was.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when nothing fits now, anything else when the socket is gone.
    fn write(&self, chunks: &[IoSlice<'_>]) -> io::Result<usize>;

    /// How frames look there.
    fn framing(&self) -> Framing {
        Framing::WebSocket
    }
}

/// What came of a flush.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flushed {
    /// Nothing is left.
    All,
    /// The socket takes no more for now.
    Blocked,
    /// The socket is gone.
    Gone,
}

/// Frames that wait for their socket, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    chunks: VecDeque<Chunk>,
    /// Bytes that wait.
    bytes: usize,
    /// Bytes of the first chunk that are written already.
    written: usize,
}

#[derive(Debug)]
enum Chunk {
    Copied(Vec<u8>),
    Shared(Bytes),
}

impl Chunk {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Copied(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}

/// Empty buffers of a shard, so that an idle outbox owns none.
#[derive(Debug, Default)]
pub(crate) struct Spare(Vec<Vec<u8>>);

impl Spare {
    fn take(&mut self) -> Vec<u8> {
        self.0.pop().unwrap_or_default()
    }

    fn keep(&mut self, chunk: Chunk) {
        if let Chunk::Copied(mut buffer) = chunk
            && buffer.capacity() <= SPARE_SIZE
            && self.0.len() < SPARE_BUFFERS
        {
            buffer.clear();
            self.0.push(buffer);
        }
    }
}

impl Outbox {
    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a frame at the end.
    pub(crate) fn push(&mut self, frame: &Bytes, spare: &mut Spare) {
        if frame.len() > COPY_UP_TO {
            self.bytes += frame.len();
            self.chunks.push_back(Chunk::Shared(frame.clone()));
        } else {
            self.copy(frame, spare);
        }
    }

    /// Adds bytes of this connection alone at the end.
    pub(crate) fn copy(&mut self, bytes: &[u8], spare: &mut Spare) {
        self.bytes += bytes.len();
        match self.chunks.back_mut() {
            Some(Chunk::Copied(buffer)) if buffer.len() + bytes.len() <= CHUNK => {
                buffer.extend_from_slice(bytes)
            }
            _ => {
                let mut buffer = spare.take();
                buffer.extend_from_slice(bytes);
                self.chunks.push_back(Chunk::Copied(buffer));
            }
        }
    }

    /// Drops everything that is not partly written already: what is left can be followed by a close frame.
    pub(crate) fn truncate(&mut self) {
        self.chunks.truncate(usize::from(self.written > 0));
        self.bytes = self
            .chunks
            .front()
            .map_or(0, |chunk| chunk.bytes().len() - self.written);
    }

    /// Writes as much as the socket takes.
    pub(crate) fn flush(&mut self, sink: &dyn Sink, spare: &mut Spare) -> Flushed {
        while self.bytes > 0 {
            match self.write_once(sink) {
                Ok(0) => return Flushed::Gone,
                Ok(count) => self.advance(count, spare),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Flushed::Blocked,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Flushed::Gone,
            }
        }
        if self.chunks.capacity() > CHUNKS_KEPT {
            self.chunks = VecDeque::new();
        }
        Flushed::All
    }

    fn write_once(&self, sink: &dyn Sink) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let mut used = 0;
        for (slice, chunk) in slices.iter_mut().zip(&self.chunks) {
            let skip = if used == 0 { self.written } else { 0 };
            *slice = IoSlice::new(&chunk.bytes()[skip..]);
            used += 1;
        }
        sink.write(&slices[..used])
    }

    fn advance(&mut self, count: usize, spare: &mut Spare) {
        self.bytes -= count;
        self.written += count;
        while let Some(first) = self.chunks.front() {
            let length = first.bytes().len();
            if self.written < length {
                break;
            }
            self.written -= length;
            if let Some(done) = self.chunks.pop_front() {
                spare.keep(done);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use proptest::prelude::*;

    use super::*;

    /// Takes at most `room` bytes, and then blocks until more is granted.
    #[derive(Default)]
    struct Narrow {
        room: Cell<usize>,
        taken: RefCell<Vec<u8>>,
    }

    impl Sink for Narrow {
        fn write(&self, chunks: &[IoSlice<'_>]) -> io::Result<usize> {
            let before = self.taken.borrow().len();
            for chunk in chunks {
                let count = chunk.len().min(self.room.get());
                self.room.set(self.room.get() - count);
                self.taken.borrow_mut().extend_from_slice(&chunk[..count]);
            }
            match self.taken.borrow().len() - before {
                0 => Err(ErrorKind::WouldBlock.into()),
                count => Ok(count),
            }
        }
    }

    proptest! {
        #[test]
        fn everything_arrives_once_and_in_order_whatever_the_socket_takes(
            steps in prop::collection::vec((0_usize..3000, 0_usize..2000), 1..60),
        ) {
            let (sink, mut spare, mut outbox) = (Narrow::default(), Spare::default(), Outbox::default());
            let mut sent = Vec::new();
            for (number, (length, room)) in steps.into_iter().enumerate() {
                let frame = Bytes::from(vec![number as u8; length]);
                sent.extend_from_slice(&frame);
                outbox.push(&frame, &mut spare);
                sink.room.set(room);
                outbox.flush(&sink, &mut spare);
                prop_assert_eq!(outbox.bytes(), sent.len() - sink.taken.borrow().len());
            }
            sink.room.set(usize::MAX);
            prop_assert_eq!(outbox.flush(&sink, &mut spare), Flushed::All);
            prop_assert!(*sink.taken.borrow() == sent);
        }
    }

    #[test]
    fn truncating_keeps_what_is_partly_written() {
        let (sink, mut spare, mut outbox) =
            (Narrow::default(), Spare::default(), Outbox::default());
        let frame = |byte: u8| Bytes::from(vec![byte; 2000]);
        outbox.push(&frame(1), &mut spare);
        outbox.push(&frame(2), &mut spare);
        sink.room.set(500);
        assert_eq!(outbox.flush(&sink, &mut spare), Flushed::Blocked);
        outbox.truncate();
        assert_eq!(outbox.bytes(), 1500);
        outbox.copy(b"end", &mut spare);
        sink.room.set(usize::MAX);
        assert_eq!(outbox.flush(&sink, &mut spare), Flushed::All);
        assert_eq!(sink.taken.borrow().len(), 2003);
        assert!(sink.taken.borrow().ends_with(b"\x01end"));
    }
}
