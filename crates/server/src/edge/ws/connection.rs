//! One WebSocket on its shard: reads messages for the session, and is the sink of its outbox.

use std::cell::Cell;
use std::future::poll_fn;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::Shutdown;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use fanfare_engine::{Admitted, Charge, Reading, Refusal, Resource, Session, Shard, Sink};
use fanfare_protocol::CloseCode;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::error::{CapacityError, Error, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};

use super::frame_tracker::FrameTracker;
use crate::edge::kernel;
use crate::edge::sockets::SocketPlace;

/// What is read at once. It is allocated for every connection, and clients say little.
const READ_BUFFER: usize = 512;
/// Bytes of one connection that are handled before others get their turn.
const READ_PER_TURN: usize = 16 * 1024;
/// Frames of one connection that are handled before others get their turn: small ones cost as much as large ones.
const FRAMES_PER_TURN: usize = 32;
/// Bytes of an unfinished message that cost nothing and may take any time: most messages are shorter.
const FREE_BYTES: usize = 4 * 1024;

/// A connection that was let in.
pub(crate) struct Accepted {
    pub(crate) admitted: Admitted,
    pub(crate) stream: std::net::TcpStream,
    /// What came with the handshake.
    pub(crate) read_ahead: Bytes,
    /// The room that its socket takes.
    pub(crate) place: SocketPlace,
    pub(crate) limits: MessageLimits,
}

/// What a client's message may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MessageLimits {
    /// Most bytes.
    pub(crate) max_bytes: usize,
    /// The time in which a long one must have come whole.
    pub(crate) timeout: Duration,
}

/// Starts serving a connection on its shard's thread.
pub(crate) fn start(shard: &Rc<Shard>, accepted: Accepted) {
    let stream = match TcpStream::from_std(accepted.stream) {
        Ok(stream) => Rc::new(stream),
        Err(error) => {
            tracing::error!(%error, "cannot watch a socket; is the limit of open files reached?");
            return;
        }
    };
    let session = shard.connect(accepted.admitted, Box::new(SocketSink(Rc::clone(&stream))));
    kernel::set_patience(&stream, session.silence_limit());
    // Copied, because what was read ahead shares the HTTP connection's whole buffer.
    let read_ahead = accepted.read_ahead.to_vec();
    let mut frames = FrameTracker::default();
    frames.follow(&read_ahead);
    // Boxed, because the task would hold it twice: as it comes in and where it lives.
    let connection = Box::new(Connection {
        stream,
        session,
        context: context(read_ahead, accepted.limits.max_bytes),
        frames,
        unfinished: None,
        limits: accepted.limits,
        budget: Cell::new(0),
        broken: false,
        half_closed: false,
        unread: false,
        _place: accepted.place,
    });
    tokio::task::spawn_local(connection.run());
}

fn context(read_ahead: Vec<u8>, max_message: usize) -> WebSocketContext {
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_write_buffer_size(max_message)
        .max_message_size(Some(max_message))
        .max_frame_size(Some(max_message));
    WebSocketContext::from_partially_read(read_ahead, Role::Server, Some(config))
}

struct SocketSink(Rc<TcpStream>);

impl Sink for SocketSink {
    fn write(&self, chunks: &[IoSlice<'_>]) -> io::Result<usize> {
        match chunks {
            [chunk] => self.0.try_write(chunk),
            chunks => self.0.try_write_vectored(chunks),
        }
    }
}

/// What tungstenite reads from and writes to. Its answers (pong, close) join the outbox, in order with everything else.
struct Wire<'a> {
    stream: &'a TcpStream,
    session: &'a Session,
    /// Bytes that may still be read in this turn. tungstenite itself reads on for as long as frames are not final.
    budget: &'a Cell<usize>,
    frames: &'a mut FrameTracker,
}

impl Read for Wire<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = read(self.stream, self.budget, buffer)?;
        self.frames.follow(&buffer[..count]);
        Ok(count)
    }
}

/// Reads what is there, within the budget.
fn read(stream: &TcpStream, budget: &Cell<usize>, buffer: &mut [u8]) -> io::Result<usize> {
    if budget.get() == 0 {
        return Err(ErrorKind::WouldBlock.into());
    }
    let count = stream.try_read(buffer)?;
    budget.set(budget.get().saturating_sub(count));
    Ok(count)
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.session.push_raw(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Connection {
    stream: Rc<TcpStream>,
    session: Session,
    context: WebSocketContext,
    frames: FrameTracker,
    /// There while more than [`FREE_BYTES`] of a message have come or are announced. Boxed, because it seldom is.
    unfinished: Option<Box<Unfinished>>,
    limits: MessageLimits,
    /// Bytes that may still be read in this turn.
    budget: Cell<usize>,
    /// Whether frames can no longer be told apart.
    broken: bool,
    /// Whether the client was told by the end of our stream that nothing more comes.
    half_closed: bool,
    /// Whether reading stopped before all was read, so that there may be more than the socket tells of.
    unread: bool,
    _place: SocketPlace,
}

/// A long message that has not come whole.
struct Unfinished {
    charge: Charge,
    /// The number of the message among those of the connection.
    message: u16,
    /// When it must have come whole.
    deadline: Instant,
}

/// What there is to do next.
enum Step {
    Read,
    Write,
    /// The time of an unfinished message is over.
    Late,
    End,
}

/// Whether there may be more to come.
#[derive(PartialEq, Eq)]
enum Flow {
    Continue,
    End,
}

/// How a turn of reading ended.
enum Turn {
    /// Nothing is left to read now.
    AllRead,
    /// Others get their turn first.
    Over,
    /// The session wants to wait first.
    Held,
    /// Nothing more comes.
    End,
}

impl Connection {
    async fn run(mut self: Box<Self>) {
        // Frames may have come with the handshake, so reading comes before waiting.
        let mut step = Step::Read;
        loop {
            match step {
                Step::Read => {
                    if self.read_all().await == Flow::End {
                        break;
                    }
                }
                Step::Write => self.flush(),
                Step::Late => self.end_late_message(),
                Step::End => break,
            }
            step = match self.unfinished.as_ref().map(|long| long.deadline) {
                None => self.next_step().await,
                // Boxed, so that a connection without a long message doesn't pay for the timer's room.
                Some(deadline) => match Box::pin(timeout_at(deadline, self.next_step())).await {
                    Ok(step) => step,
                    Err(_) => Step::Late,
                },
            };
        }
        self.session.flush();
        let unread = self.session.end().await;
        kernel::end(&self.stream, unread);
    }

    async fn next_step(&self) -> Step {
        poll_fn(|cx| {
            let wants = self.session.poll_wants(cx);
            if wants.end {
                return Poll::Ready(Step::End);
            }
            if wants.write && self.stream.poll_write_ready(cx).is_ready() {
                return Poll::Ready(Step::Write);
            }
            match wants.read {
                Reading::OnceWritten => Poll::Pending,
                Reading::Now | Reading::At(_) if self.unread => Poll::Ready(Step::Read),
                Reading::Now | Reading::At(_) => {
                    self.stream.poll_read_ready(cx).map(|_| Step::Read)
                }
            }
        })
        .await
    }

    /// Handles what is there, until the socket has no more; others get their turn in between.
    async fn read_all(&mut self) -> Flow {
        loop {
            self.budget.set(READ_PER_TURN);
            let now = self.session.heard();
            let turn = self.read_turn().await;
            self.account(now, &turn);
            self.flush();
            self.session.serve_inbox();
            if matches!(turn, Turn::End) || self.session.is_gone() {
                return Flow::End;
            }
            self.unread = !matches!(turn, Turn::AllRead);
            match self.session.reading() {
                _ if !self.unread => return Flow::Continue,
                Reading::Now => tokio::task::yield_now().await,
                // Boxed, so that a connection which sends little doesn't pay for the timer's room.
                Reading::At(at) => Box::pin(sleep_until(at)).await,
                Reading::OnceWritten => return Flow::Continue,
            }
        }
    }

    async fn read_turn(&mut self) -> Turn {
        for _ in 0..FRAMES_PER_TURN {
            match self.read_one() {
                Ok(Some(text)) => self.session.handle(&text).await,
                Ok(None) => {}
                Err(Flow::End) => return Turn::End,
                Err(Flow::Continue) if self.budget.get() > 0 => return Turn::AllRead,
                Err(Flow::Continue) => return Turn::Over,
            }
            if self.session.count_message() != Reading::Now {
                return Turn::Held;
            }
        }
        Turn::Over
    }

    /// Charges what is held of an unfinished message after a turn of reading, and bounds its time.
    fn account(&mut self, now: Instant, turn: &Turn) {
        if self.frames.held() <= FREE_BYTES || self.broken {
            self.unfinished = None;
            return;
        }
        if self.frames.is_between_messages() {
            // The library keeps the room of the longest frame for as long as it is asked to read on.
            if self.context.can_read() {
                self.renew();
            }
            self.unfinished = None;
            return;
        }
        let (messages, timeout) = (self.frames.messages(), self.limits.timeout);
        let unfinished = self.unfinished.get_or_insert_with(|| {
            Box::new(Unfinished {
                charge: self.session.empty_charge(Resource::MessageBytes),
                message: messages,
                deadline: now + timeout,
            })
        });
        // A client that is not read for now cannot finish its message.
        if unfinished.message != messages || matches!(turn, Turn::Held) {
            (unfinished.message, unfinished.deadline) = (messages, now + timeout);
        }
        // A frame that is too long closes the connection, and is not held.
        let held = self.frames.held().min(2 * self.limits.max_bytes);
        if let Err(exceeded) = unfinished.charge.set(held) {
            self.give_up(CloseCode::OverCapacity, &format!("{exceeded}, reconnect"));
        } else if unfinished.deadline <= now {
            self.give_up_late();
        }
    }

    fn end_late_message(&mut self) {
        if self.session.reading() == Reading::OnceWritten
            && let Some(unfinished) = &mut self.unfinished
        {
            // The rest of the message may have come: it isn't read before the client has read what it asked for.
            unfinished.deadline = Instant::now() + self.limits.timeout;
            return;
        }
        self.give_up_late();
        self.flush();
    }

    fn give_up_late(&mut self) {
        let message = format!(
            "A message was sent in part, and not its end within {} seconds, reconnect (websocket.message_timeout)",
            self.limits.timeout.as_secs()
        );
        self.give_up(CloseCode::PongTimeout, &message);
    }

    /// Frees the room that the library holds, of which nothing is needed any more.
    fn renew(&mut self) {
        self.context = context(Vec::new(), self.limits.max_bytes);
        self.frames.forget_longest();
    }

    /// Writes what the socket takes; after the last words of a broken connection comes the end of our stream.
    fn flush(&mut self) {
        self.session.flush();
        if self.broken && !self.half_closed && self.session.is_flushed() {
            self.half_closed = true;
            if let Err(error) = SockRef::from(&*self.stream).shutdown(Shutdown::Write) {
                tracing::debug!(%error, "a client left before it was told why it had to");
            }
        }
    }

    /// The next text message; `None` for frames that ask nothing of the session.
    fn read_one(&mut self) -> Result<Option<tokio_tungstenite::tungstenite::Utf8Bytes>, Flow> {
        if self.broken {
            return self.discard().map(|()| None);
        }
        let mut wire = Wire {
            stream: &self.stream,
            session: &self.session,
            budget: &self.budget,
            frames: &mut self.frames,
        };
        match self.context.read(&mut wire) {
            // What the client says after our close frame does not count, but for its own close frame.
            Ok(_) if self.session.is_closing() => {}
            Ok(Message::Text(text)) => return Ok(Some(text)),
            Ok(Message::Binary(_)) => {
                self.reject(
                    CloseCode::Binary,
                    "Binary frames are not supported, send JSON in text frames",
                );
            }
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_)) => {}
            Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {
                return Err(Flow::Continue);
            }
            Err(Error::Capacity(CapacityError::MessageTooLong { size, max_size })) => {
                let message = format!(
                    "A message of {size} bytes is too large, at most {max_size} are allowed"
                );
                self.give_up(CloseCode::MessageTooLarge, &message);
            }
            Err(Error::Utf8(_)) => self.give_up(CloseCode::NotUtf8, "A text frame was not UTF-8"),
            Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => {
                return Err(Flow::End);
            }
            Err(Error::Protocol(error)) => {
                self.give_up(CloseCode::BadFrame, &format!("Bad frame: {error}"))
            }
            Err(_) => return Err(Flow::End),
        }
        Ok(None)
    }

    /// Says what was wrong with a frame, and closes.
    fn reject(&self, code: CloseCode, message: &str) {
        tracing::debug!(socket_id = %self.session.socket_id(), code = code.number(), message, "a bad frame ends a connection");
        if !code.is_in_pusher_table() {
            // Others are told by the close itself.
            self.session.send_error(message);
        }
        self.session.close(&Refusal::new(code, message));
    }

    /// Rejects a frame after which nothing can be read.
    fn give_up(&mut self, code: CloseCode, message: &str) {
        self.reject(code, message);
        self.broken = true;
        self.unfinished = None;
        self.renew();
    }

    /// Closing a socket with unread bytes resets it, and our last words would be lost: so they are read.
    fn discard(&self) -> Result<(), Flow> {
        let mut ignored = [0; 4096];
        match read(&self.stream, &self.budget, &mut ignored) {
            Ok(0) => Err(Flow::End),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Err(Flow::Continue),
            Err(_) => Err(Flow::End),
        }
    }
}
