//! The bytes that wait for one socket, oldest first. They are written with vectored writes, as fast as the socket takes them.
//!
//! An outbox tells apart answers to its client's own messages and live events, which others sent.
//! Only live events show that a client reads too slowly. How much a client asks for at once is up
//! to the client, so answers wait as long as the socket needs, and [`Outbox::answer_bytes`] tells the
//! reader when to read no more messages.

use std::cell::{Cell, OnceCell};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice};
use std::rc::Rc;

use bytes::Bytes;
use fanfare_protocol::{Frame, Framing};

use crate::replay::Replay;

/// Frames of up to this many bytes are copied together; longer ones are shared by reference count.
const COPY_UP_TO: usize = 1024;
/// Most bytes of copied frames that share a buffer.
const CHUNK: usize = 16 * 1024;
/// Most slices per vectored write.
const SLICES: usize = 64;
/// Number of chunks up to which room for fewer slices is made.
const FEW_SLICES: usize = 8;
/// Chunks for which an empty outbox keeps room.
const CHUNKS_KEPT: usize = 8;
/// A replay is encoded while fewer bytes than this wait before it.
const REPLAY_AHEAD: usize = 64 * 1024;
/// Bytes after which a connection that is sent a history lets others have their turn: encoding all
/// of a long one at once would hold up its shard.
const REPLAY_TURN: usize = 128 * 1024;
/// Buffers that a shard keeps for reuse, and the largest that it keeps, in bytes.
const SPARE_BUFFERS: usize = 1024;
const SPARE_SIZE: usize = 4 * 1024;

/// The socket of a connection, whose writes never wait.
pub trait Sink {
    /// Writes what fits and returns how many bytes that was.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::WouldBlock`] if nothing fits now, and any other error if the socket is
    /// gone.
    fn write(&self, chunks: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Returns whether something that was taken waits until the socket takes more. The connection counts as blocked until
    /// then, so that its reader writes it.
    fn has_unsent(&self) -> bool {
        false
    }

    /// Returns how frames are encoded for this socket.
    fn framing(&self) -> Framing {
        Framing::WebSocket
    }

    /// Returns whether the transport itself ends a connection whose client reads nothing. If it
    /// doesn't, the engine does.
    fn has_write_timeout(&self) -> bool {
        false
    }

    /// Returns whether the transport itself bounds what it takes at a time. If it doesn't, a
    /// connection that is sent a history lets others have their turn.
    fn has_turns(&self) -> bool {
        false
    }
}

/// The outcome of a flush.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flushed {
    /// Nothing is left.
    All,
    /// The socket takes no more for now.
    Blocked,
    /// Events of a history are left, and other connections get their turn first.
    TurnOver,
    /// The socket is gone.
    Gone,
}

/// Why a frame is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The client asked for it.
    Answer,
    /// Others sent it. At most `outbox.max_bytes` of such frames wait.
    Live,
}

/// A frame on its way to outboxes of one shard, which share its bytes if it is long.
#[derive(Debug)]
pub(crate) struct SharedFrame<'a> {
    frame: &'a Frame,
    /// Its bytes, by [`Framing::index`].
    long: [OnceCell<Rc<LongFrame>>; Framing::COUNT],
}

impl<'a> SharedFrame<'a> {
    pub(crate) fn new(frame: &'a Frame) -> Self {
        Self {
            frame,
            long: Default::default(),
        }
    }

    pub(crate) fn frame(&self) -> &Frame {
        self.frame
    }

    fn long(&self, framing: Framing, buffers: &Buffers) -> Rc<LongFrame> {
        let new = || buffers.count(self.frame.bytes(framing).clone());
        Rc::clone(self.long[framing.index()].get_or_init(new))
    }
}

/// A frame too long to be copied. All outboxes of a shard that hold it share it, so its bytes count
/// once.
#[derive(Debug)]
struct LongFrame {
    bytes: Bytes,
    total: Rc<Cell<usize>>,
}

impl Drop for LongFrame {
    fn drop(&mut self) {
        self.total.set(self.total.get() - self.bytes.len());
    }
}

/// Memory of a shard's outboxes: empty buffers for reuse, so that an idle outbox owns none, and the
/// bytes in use.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    spare: Vec<Vec<u8>>,
    /// Bytes of all long frames, each once.
    long: Rc<Cell<usize>>,
    /// Bytes that blocked outboxes hold alone.
    own: usize,
    /// Bytes that sockets have taken.
    written: u64,
}

impl Buffers {
    /// Returns the bytes of memory that wait in blocked outboxes: shared frames count once, buffers
    /// with all of their capacity.
    pub(crate) fn held(&self) -> usize {
        self.long.get() + self.own
    }

    /// Returns the bytes that sockets have taken so far.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Notes that a blocked outbox holds `now` bytes alone, which were `before` when last noted.
    pub(crate) fn note(&mut self, before: usize, now: usize) {
        self.own = self.own - before + now;
    }

    fn count(&self, bytes: Bytes) -> Rc<LongFrame> {
        self.long.set(self.long.get() + bytes.len());
        Rc::new(LongFrame {
            bytes,
            total: Rc::clone(&self.long),
        })
    }

    fn take(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    fn keep(&mut self, content: Content) {
        if let Content::Copied(mut buffer) = content
            && buffer.capacity() <= SPARE_SIZE
            && self.spare.len() < SPARE_BUFFERS
        {
            buffer.clear();
            self.spare.push(buffer);
        }
    }

    /// Frees buffers that were not needed lately.
    pub(crate) fn trim(&mut self) {
        let kept = self.spare.len() / 2;
        self.spare.truncate(kept);
        self.spare.shrink_to_fit();
    }
}

/// Frames that wait for their socket, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    chunks: VecDeque<Chunk>,
    /// Bytes of encoded frames that wait, without those that a replay still holds.
    bytes: usize,
    /// Bytes of the first chunk that the socket has taken.
    written: usize,
    /// Bytes of all chunks that the client asked for.
    answer_bytes: usize,
    /// Bytes of memory that this outbox holds alone: buffers with all of their capacity, and
    /// replays.
    own: usize,
    /// Number of replays among the chunks.
    replays: u32,
    /// Whether the socket took anything since [`Self::take_progress`].
    progressed: bool,
}

#[derive(Debug)]
struct Chunk {
    content: Content,
    origin: Origin,
}

#[derive(Debug)]
enum Content {
    Copied(Vec<u8>),
    Shared(Rc<LongFrame>),
    /// Events of a history, encoded once the socket has taken what is before them.
    Replay(Box<Replay>),
}

impl Chunk {
    /// Returns the encoded bytes; a replay has none.
    fn bytes(&self) -> &[u8] {
        match &self.content {
            Content::Copied(bytes) => bytes,
            Content::Shared(frame) => &frame.bytes,
            Content::Replay(_) => &[],
        }
    }

    fn is_replay(&self) -> bool {
        matches!(self.content, Content::Replay(_))
    }

    /// Returns how many bytes of this chunk the client asked for.
    fn answer_bytes(&self) -> usize {
        match (self.origin, &self.content) {
            (Origin::Live, _) => 0,
            (Origin::Answer, Content::Replay(replay)) => replay.weight(),
            (Origin::Answer, _) => self.bytes().len(),
        }
    }

    /// Returns the bytes of memory that belong to this outbox alone.
    fn own(&self) -> usize {
        match &self.content {
            Content::Copied(buffer) => buffer.capacity(),
            Content::Shared(_) => 0,
            Content::Replay(replay) => replay.weight(),
        }
    }
}

impl Outbox {
    /// Returns the bytes of encoded frames that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes == 0 && self.replays == 0
    }

    /// Returns the bytes that wait because the client asked for them, replays included.
    pub(crate) fn answer_bytes(&self) -> usize {
        let first = self.chunks.front();
        let first_is_answer = first.is_some_and(|chunk| chunk.origin == Origin::Answer);
        self.answer_bytes - if first_is_answer { self.written } else { 0 }
    }

    /// Returns the live bytes that wait behind the first live frame. That one doesn't count,
    /// because a frame may have any length.
    pub(crate) fn lag(&self) -> usize {
        let live = |(_, chunk): &(usize, &Chunk)| chunk.origin == Origin::Live;
        let mut waiting = self.chunks.iter().enumerate().filter(live);
        let first = waiting.next().map_or(0, |(at, chunk)| {
            chunk.bytes().len() - if at == 0 { self.written } else { 0 }
        });
        self.live() - first
    }

    /// Returns the live bytes that wait.
    fn live(&self) -> usize {
        let held_back = match self.replays {
            0 => 0,
            _ => {
                let replays = self.chunks.iter().filter(|chunk| chunk.is_replay());
                replays.map(Chunk::answer_bytes).sum()
            }
        };
        self.bytes + held_back - self.answer_bytes()
    }

    /// Returns the bytes of memory that this outbox holds alone.
    pub(crate) fn own(&self) -> usize {
        self.own
    }

    /// Returns the bytes of memory that this outbox answers for: its own, and its share of each
    /// frame that others hold as well. Walks over all frames.
    pub(crate) fn share(&self) -> usize {
        let shared = self.chunks.iter().map(|chunk| match &chunk.content {
            Content::Shared(frame) => frame.bytes.len() / Rc::strong_count(frame),
            Content::Copied(_) | Content::Replay(_) => 0,
        });
        self.own + shared.sum::<usize>()
    }

    /// Gives back the room for chunks, if nothing waits.
    pub(crate) fn rest(&mut self) {
        if self.chunks.is_empty() {
            self.chunks = VecDeque::new();
        }
    }

    /// Notes progress for an outbox that has just become blocked.
    pub(crate) fn note_progress(&mut self) {
        self.progressed = true;
    }

    /// Returns whether the socket took anything since the last call.
    pub(crate) fn take_progress(&mut self) -> bool {
        std::mem::take(&mut self.progressed)
    }

    /// Appends a frame.
    // Inlined, because for a short frame the call would cost as much as the rest.
    #[inline]
    pub(crate) fn push(
        &mut self,
        frame: &SharedFrame<'_>,
        framing: Framing,
        origin: Origin,
        buffers: &mut Buffers,
    ) {
        let bytes = frame.frame.bytes(framing);
        if bytes.is_empty() {
            // Nothing of this frame is for clients of this transport.
        } else if bytes.len() > COPY_UP_TO {
            let content = Content::Shared(frame.long(framing, buffers));
            self.bytes += bytes.len();
            self.append(Chunk { content, origin });
        } else {
            self.copy(bytes, origin, buffers);
        }
    }

    /// Appends a copy of some bytes.
    pub(crate) fn copy(&mut self, bytes: &[u8], origin: Origin, buffers: &mut Buffers) {
        self.bytes += bytes.len();
        if let Some(Chunk {
            content: Content::Copied(buffer),
            origin: last,
        }) = self.chunks.back_mut()
            && *last == origin
            && buffer.len() + bytes.len() <= CHUNK
        {
            self.own += extend(buffer, bytes);
            if origin == Origin::Answer {
                self.answer_bytes += bytes.len();
            }
            return;
        }
        let mut buffer = buffers.take();
        extend(&mut buffer, bytes);
        let content = Content::Copied(buffer);
        self.append(Chunk { content, origin });
    }

    /// Appends events of a history.
    pub(crate) fn replay(&mut self, replay: Replay) {
        self.replays += 1;
        let content = Content::Replay(Box::new(replay));
        let origin = Origin::Answer;
        self.append(Chunk { content, origin });
    }

    fn append(&mut self, chunk: Chunk) {
        self.answer_bytes += chunk.answer_bytes();
        self.own += chunk.own();
        self.chunks.push_back(chunk);
    }

    fn forget(&mut self, chunk: &Chunk) {
        self.answer_bytes -= chunk.answer_bytes();
        self.own -= chunk.own();
        self.replays -= u32::from(chunk.is_replay());
    }

    /// Drops everything that is not partly written already: a close frame may follow what is left.
    pub(crate) fn truncate(&mut self) {
        let kept = usize::from(self.written > 0);
        while self.chunks.len() > kept {
            if let Some(dropped) = self.chunks.pop_back() {
                self.forget(&dropped);
            }
        }
        self.bytes = self
            .chunks
            .front()
            .map_or(0, |chunk| chunk.bytes().len() - self.written);
    }

    /// Writes as much as the socket takes.
    pub(crate) fn flush(&mut self, sink: &dyn Sink, buffers: &mut Buffers) -> Flushed {
        let mut turn = if sink.has_turns() {
            usize::MAX
        } else {
            REPLAY_TURN
        };
        loop {
            if self.replays > 0 {
                if turn == 0 {
                    return Flushed::TurnOver;
                }
                self.make_frames(sink.framing(), buffers);
            }
            if self.bytes == 0 {
                break;
            }
            match self.write_once(sink) {
                Ok(0) => return Flushed::Gone,
                Ok(count) => {
                    turn = turn.saturating_sub(count);
                    buffers.written += count as u64;
                    self.advance(count, buffers);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Flushed::Blocked,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Flushed::Gone,
            }
        }
        // An idle outbox gives its memory back.
        if self.chunks.capacity() > CHUNKS_KEPT {
            self.chunks = VecDeque::new();
        }
        if sink.has_unsent() {
            return Flushed::Blocked;
        }
        Flushed::All
    }

    /// Encodes events of the replays, as many as keep the socket busy.
    fn make_frames(&mut self, framing: Framing, buffers: &mut Buffers) {
        while let Some(mut at) = self.chunks.iter().position(Chunk::is_replay) {
            let before = self.chunks.iter().take(at);
            let mut ready = before.map(|chunk| chunk.bytes().len()).sum::<usize>();
            while ready < REPLAY_AHEAD {
                let Some(frame) = self.next_replayed(at) else {
                    if let Some(done) = self.chunks.remove(at) {
                        self.forget(&done);
                    }
                    break;
                };
                let bytes = frame.bytes(framing);
                self.bytes += bytes.len();
                ready += bytes.len();
                at += self.insert_before(at, bytes, buffers);
            }
            if ready >= REPLAY_AHEAD {
                return;
            }
        }
    }

    /// Takes the next event out of the replay at `at`, and returns its frame.
    fn next_replayed(&mut self, at: usize) -> Option<Frame> {
        let Content::Replay(replay) = &mut self.chunks[at].content else {
            return None;
        };
        let before = replay.weight();
        let frame = replay.next_frame();
        let less = before - replay.weight();
        self.answer_bytes -= less;
        self.own -= less;
        frame
    }

    /// Inserts an answer's frame before the chunk at `at`, and returns how many chunks that added.
    fn insert_before(&mut self, at: usize, bytes: &Bytes, buffers: &mut Buffers) -> usize {
        self.answer_bytes += bytes.len();
        let last = at.checked_sub(1).map(|last| &mut self.chunks[last]);
        if bytes.len() <= COPY_UP_TO
            && let Some(Chunk {
                content: Content::Copied(buffer),
                origin: Origin::Answer,
            }) = last
            && buffer.len() + bytes.len() <= CHUNK
        {
            self.own += extend(buffer, bytes);
            return 0;
        }
        let content = if bytes.len() > COPY_UP_TO {
            Content::Shared(buffers.count(bytes.clone()))
        } else {
            let mut buffer = buffers.take();
            extend(&mut buffer, bytes);
            Content::Copied(buffer)
        };
        let origin = Origin::Answer;
        let chunk = Chunk { content, origin };
        self.own += chunk.own();
        self.chunks.insert(at, chunk);
        1
    }

    fn write_once(&self, sink: &dyn Sink) -> io::Result<usize> {
        match self.chunks.len() {
            0 => sink.write(&[]),
            // Almost always. An array for all slices would cost as much as the rest of the write.
            1 => sink.write(&[IoSlice::new(&self.chunks[0].bytes()[self.written..])]),
            2..=FEW_SLICES => self.write_slices::<FEW_SLICES>(sink),
            _ => self.write_slices::<SLICES>(sink),
        }
    }

    /// Writes up to `COUNT` chunks.
    fn write_slices<const COUNT: usize>(&self, sink: &dyn Sink) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); COUNT];
        let mut used = 0;
        for (slice, chunk) in slices.iter_mut().zip(&self.chunks) {
            // What follows a replay must not overtake it.
            if chunk.is_replay() {
                break;
            }
            let skip = if used == 0 { self.written } else { 0 };
            *slice = IoSlice::new(&chunk.bytes()[skip..]);
            used += 1;
        }
        sink.write(&slices[..used])
    }

    fn advance(&mut self, count: usize, buffers: &mut Buffers) {
        self.progressed = true;
        self.bytes -= count;
        self.written += count;
        while let Some(first) = self.chunks.front() {
            let length = first.bytes().len();
            if self.written < length || first.is_replay() {
                break;
            }
            self.written -= length;
            if let Some(done) = self.chunks.pop_front() {
                self.forget(&done);
                buffers.keep(done.content);
            }
        }
    }
}

/// Appends bytes to a buffer, which never grows beyond [`CHUNK`] as long as they fit, and returns
/// by how many bytes its capacity grew.
fn extend(buffer: &mut Vec<u8>, bytes: &[u8]) -> usize {
    let (capacity, needed) = (buffer.capacity(), buffer.len() + bytes.len());
    if needed > capacity {
        let wanted = (2 * capacity).min(CHUNK).max(needed);
        buffer.reserve_exact(wanted - buffer.len());
    }
    buffer.extend_from_slice(bytes);
    buffer.capacity() - capacity
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

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

    /// Takes everything, and holds it.
    struct Holding(Cell<bool>);

    impl Sink for Holding {
        fn write(&self, chunks: &[IoSlice<'_>]) -> io::Result<usize> {
            self.0.set(true);
            Ok(chunks.iter().map(|chunk| chunk.len()).sum())
        }

        fn has_unsent(&self) -> bool {
            self.0.get()
        }
    }

    #[test]
    fn what_a_sink_holds_keeps_its_outbox_blocked() {
        let (sink, mut buffers, mut outbox) = (
            Holding(Cell::default()),
            Buffers::default(),
            Outbox::default(),
        );
        assert_eq!(outbox.flush(&sink, &mut buffers), Flushed::All);
        let frame = frame(100);
        let frame = SharedFrame::new(&frame);
        outbox.push(&frame, Framing::WebSocket, Origin::Live, &mut buffers);
        for _ in 0..2 {
            assert_eq!(outbox.flush(&sink, &mut buffers), Flushed::Blocked);
            assert_eq!(outbox.bytes(), 0);
        }
        sink.0.set(false);
        assert_eq!(outbox.flush(&sink, &mut buffers), Flushed::All);
    }

    /// What a test puts into an outbox.
    #[derive(Debug, Clone)]
    enum Step {
        Push { length: usize, origin: Origin },
        Replay { lengths: Vec<usize> },
        Allow { room: usize },
        Truncate,
    }

    fn step() -> impl Strategy<Value = Step> {
        let length = || prop_oneof![1_usize..200, 900_usize..1200, 1_usize..100_000];
        let origin = prop_oneof![Just(Origin::Answer), Just(Origin::Live)];
        prop_oneof![
            8 => (length(), origin).prop_map(|(length, origin)| Step::Push { length, origin }),
            2 => prop::collection::vec(length(), 1..20).prop_map(|lengths| Step::Replay { lengths }),
            8 => (0_usize..100_000).prop_map(|room| Step::Allow { room }),
            1 => Just(Step::Truncate),
        ]
    }

    fn frame(length: usize) -> Frame {
        Frame::text("x".repeat(length).as_bytes())
    }

    /// What a model has of an outbox: each frame's bytes that wait, and why.
    #[derive(Default)]
    struct Model {
        frames: VecDeque<(Vec<u8>, Origin)>,
        taken: Vec<u8>,
    }

    impl Model {
        fn waiting(&self, wanted: Origin) -> usize {
            let of = self.frames.iter().filter(|(_, origin)| *origin == wanted);
            of.map(|(bytes, _)| bytes.len()).sum()
        }

        fn take(&mut self, mut count: usize) {
            while let Some((bytes, _)) = self.frames.front_mut() {
                let part = count.min(bytes.len());
                self.taken.extend(bytes.drain(..part));
                count -= part;
                if !bytes.is_empty() {
                    return;
                }
                self.frames.pop_front();
            }
        }
    }

    proptest! {
        #[test]
        fn everything_arrives_once_and_in_order_and_is_counted_whatever_the_socket_takes(
            steps in prop::collection::vec(step(), 1..60),
        ) {
            let (sink, mut buffers, mut outbox) = (Narrow::default(), Buffers::default(), Outbox::default());
            let mut model = Model::default();
            let (mut truncated, mut replays) = (false, false);
            for step in steps {
                match step {
                    _ if truncated => {}
                    Step::Push { length, origin } => {
                        let frame = frame(length);
                        let bytes = frame.bytes(Framing::WebSocket).to_vec();
                        model.frames.push_back((bytes, origin));
                        outbox.push(&SharedFrame::new(&frame), Framing::WebSocket, origin, &mut buffers);
                    }
                    Step::Replay { lengths } => {
                        replays = true;
                        let events = || Replay::of_lengths(&lengths);
                        let mut expected = events();
                        while let Some(frame) = expected.next_frame() {
                            let bytes = frame.bytes(Framing::WebSocket).to_vec();
                            model.frames.push_back((bytes, Origin::Answer));
                        }
                        outbox.replay(events());
                    }
                    Step::Allow { room } => {
                        sink.room.set(room);
                        outbox.flush(&sink, &mut buffers);
                        let taken = sink.taken.borrow().len() - model.taken.len();
                        model.take(taken);
                    }
                    Step::Truncate => {
                        outbox.truncate();
                        truncated = true;
                    }
                }
                if !truncated {
                    let live = model.waiting(Origin::Live);
                    prop_assert_eq!(outbox.live(), live);
                    prop_assert!(outbox.lag() <= live);
                    if !replays {
                        prop_assert_eq!(outbox.answer_bytes(), model.waiting(Origin::Answer));
                    }
                }
            }
            sink.room.set(usize::MAX);
            let mut last = Flushed::TurnOver;
            while last == Flushed::TurnOver {
                let before = sink.taken.borrow().len();
                last = outbox.flush(&sink, &mut buffers);
                let written = sink.taken.borrow().len() - before;
                prop_assert!(last == Flushed::All || written >= REPLAY_TURN);
            }
            prop_assert_eq!(last, Flushed::All);
            model.take(usize::MAX);
            let taken = sink.taken.borrow();
            if truncated {
                prop_assert!(model.taken.starts_with(&taken));
            } else {
                prop_assert!(*taken == model.taken);
            }
            prop_assert!(outbox.is_empty());
            prop_assert_eq!((outbox.answer_bytes, outbox.own, outbox.live()), (0, 0, 0));
            prop_assert_eq!(buffers.held(), 0);
        }
    }

    fn push(outbox: &mut Outbox, length: usize, origin: Origin, buffers: &mut Buffers) {
        let frame = frame(length);
        outbox.push(
            &SharedFrame::new(&frame),
            Framing::WebSocket,
            origin,
            buffers,
        );
    }

    #[test]
    fn truncating_keeps_what_is_partly_written() {
        let (sink, mut buffers, mut outbox) =
            (Narrow::default(), Buffers::default(), Outbox::default());
        push(&mut outbox, 1996, Origin::Live, &mut buffers);
        push(&mut outbox, 1996, Origin::Answer, &mut buffers);
        sink.room.set(500);
        assert_eq!(outbox.flush(&sink, &mut buffers), Flushed::Blocked);
        outbox.truncate();
        assert_eq!(outbox.bytes(), 1500);
        outbox.copy(b"end", Origin::Answer, &mut buffers);
        sink.room.set(usize::MAX);
        assert_eq!(outbox.flush(&sink, &mut buffers), Flushed::All);
        assert_eq!(sink.taken.borrow().len(), 2003);
        assert!(sink.taken.borrow().ends_with(b"xend"));
    }

    #[test]
    fn buffers_of_small_frames_grow_to_a_chunk_and_no_further() {
        let (mut buffers, mut outbox) = (Buffers::default(), Outbox::default());
        for _ in 0..CHUNK / 127 {
            push(&mut outbox, 125, Origin::Live, &mut buffers);
        }
        assert_eq!(outbox.chunks.len(), 1);
        assert_eq!(outbox.own(), CHUNK);
        assert_eq!(outbox.share(), CHUNK);
    }

    #[test]
    fn a_long_frame_counts_once_however_many_outboxes_hold_it() {
        let mut buffers = Buffers::default();
        let mut outboxes = [(); 10].map(|()| Outbox::default());
        let frame = frame(9996);
        let shared = SharedFrame::new(&frame);
        for outbox in &mut outboxes {
            outbox.push(&shared, Framing::WebSocket, Origin::Live, &mut buffers);
        }
        drop(shared);
        assert_eq!(buffers.held(), 10_000);
        assert_eq!(outboxes[0].share(), 1000);
        outboxes[1..].iter_mut().for_each(Outbox::truncate);
        assert_eq!(outboxes[0].share(), 10_000);
        outboxes[0].truncate();
        assert_eq!(buffers.held(), 0);
    }

    #[test]
    fn a_frame_of_any_length_may_be_on_its_way_and_the_bound_is_for_what_waits_behind_it() {
        let (sink, mut buffers, mut outbox) =
            (Narrow::default(), Buffers::default(), Outbox::default());
        push(&mut outbox, 5_000_000, Origin::Answer, &mut buffers);
        push(&mut outbox, 5_000_000, Origin::Live, &mut buffers);
        assert_eq!(outbox.lag(), 0);
        push(&mut outbox, 100, Origin::Live, &mut buffers);
        assert_eq!(outbox.lag(), 102);
        sink.room.set(6_000_000);
        assert_eq!(outbox.flush(&sink, &mut buffers), Flushed::Blocked);
        assert_eq!((outbox.lag(), outbox.answer_bytes()), (102, 0));
    }
}
