//! A WebSocket on its shard: reads messages for the session, and is the sink of its outbox.

use std::cell::Cell;
use std::future::poll_fn;
use std::io::{self, ErrorKind, Read, Write};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use fanfare_engine::{Admitted, Charge, Reading, Refusal, Resource, Session, Shard};
use fanfare_protocol::client::Subscribe;
use fanfare_protocol::{CloseCode, Framing};
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_tungstenite::tungstenite::error::{CapacityError, Error, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::frame_tracker::FrameTracker;
use crate::edge::client_socket::{ClientSocket, PortableSocket};
use crate::edge::kernel;
use crate::edge::socket_sink::{SocketSink, watch};
use crate::edge::sockets::SocketPlace;
use crate::edge::url_subscriptions::UrlSubscriptions;

/// Bytes read at once. Every connection allocates this buffer, and most messages of clients are short.
const READ_BUFFER: usize = 512;
/// Bytes of one connection that are handled before other connections get their turn.
const READ_PER_TURN: usize = 16 * 1024;
/// Frames of one connection that are handled before other connections get their turn, because small frames cost as much
/// as large ones.
const FRAMES_PER_TURN: usize = 32;
/// Bytes of an unfinished message that aren't charged and have no time-out, because most messages are shorter.
const FREE_BYTES: usize = 4 * 1024;

/// An admitted connection.
pub(crate) struct Accepted {
    pub(crate) admitted: Admitted,
    pub(crate) stream: PortableSocket,
    /// Bytes that came right after the handshake.
    pub(crate) read_ahead: Bytes,
    /// Place of its socket.
    pub(crate) place: SocketPlace,
    pub(crate) limits: MessageLimits,
    pub(crate) framing: Framing,
    /// The channels in its URL.
    pub(crate) channels: Option<Box<UrlSubscriptions>>,
}

/// Bounds of a client's message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MessageLimits {
    /// Largest size in bytes.
    pub(crate) max_bytes: usize,
    /// How long a message of more than [`FREE_BYTES`] may take to come whole.
    pub(crate) timeout: Duration,
}

/// Starts serving a connection. Must be called on the shard's thread.
pub(crate) fn start(shard: &Rc<Shard>, accepted: Accepted) {
    let Some(stream) = watch(accepted.stream) else {
        return;
    };
    let sink = SocketSink {
        stream: Rc::clone(&stream),
        framing: accepted.framing,
    };
    let session = shard.connect(accepted.admitted, Box::new(sink));
    kernel::set_write_timeout(&stream, session.silence_limit());
    let mut frames = FrameTracker::default();
    frames.follow(&accepted.read_ahead);
    // Copied, because these bytes share the buffer of the whole head and would keep it alive.
    let context = (!accepted.read_ahead.is_empty()).then(|| {
        Box::new(context(
            accepted.read_ahead.to_vec(),
            accepted.limits.max_bytes,
        ))
    });
    // Boxed, because the task would hold the connection twice, as an argument and as its state.
    let connection = Box::new(Connection {
        stream,
        session,
        context,
        frames,
        unfinished: None,
        limits: accepted.limits,
        budget: Cell::new(0),
        broken: false,
        half_closed: false,
        unread: false,
        url_channels: accepted.channels,
        _place: accepted.place,
    });
    tokio::task::spawn_local(connection.run());
}

thread_local! {
    /// What read the last frames on this thread, and its largest message.
    static SPARE: Cell<Option<(usize, Box<WebSocketContext>)>> = const { Cell::new(None) };
}

/// Returns a context in which nothing is left.
fn spare(max_message: usize) -> Box<WebSocketContext> {
    match SPARE.take() {
        Some((max, context)) if max == max_message => context,
        _ => Box::new(context(Vec::new(), max_message)),
    }
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

/// The stream that tungstenite reads and writes. Its answers (pong, close) are queued in the outbox, in order with all
/// other frames.
struct Wire<'a> {
    stream: &'a ClientSocket,
    session: &'a Session,
    /// Bytes that may still be read in this turn. tungstenite itself reads on while a message's frames continue.
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

/// Reads the bytes that are there. Returns `WouldBlock` if there are none or the turn's budget is used up.
fn read(stream: &ClientSocket, budget: &Cell<usize>, buffer: &mut [u8]) -> io::Result<usize> {
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
    stream: Rc<ClientSocket>,
    session: Session,
    /// What reads frames, while there is something to read: an idle connection holds no buffers.
    context: Option<Box<WebSocketContext>>,
    frames: FrameTracker,
    /// Set while more than [`FREE_BYTES`] of a message have come or are announced. Boxed, because it seldom is.
    unfinished: Option<Box<Unfinished>>,
    limits: MessageLimits,
    /// Bytes that may still be read in this turn.
    budget: Cell<usize>,
    /// Whether frame boundaries are lost, so that input can only be discarded.
    broken: bool,
    /// Whether the writing half of the socket is shut down.
    half_closed: bool,
    /// Whether reading stopped before the socket was empty, so that its readiness doesn't say whether there is more.
    unread: bool,
    /// Channels of its URL that it is not subscribed to yet.
    url_channels: Option<Box<UrlSubscriptions>>,
    _place: SocketPlace,
}

/// A long message that hasn't come whole.
struct Unfinished {
    charge: Charge,
    /// Number of the message on its connection.
    message: u16,
    /// When the whole message must have come.
    deadline: Instant,
}

/// Next action of a connection.
enum Step {
    Read,
    Write,
    /// The deadline of an unfinished message has passed.
    Late,
    End,
}

/// Whether reading goes on.
#[derive(PartialEq, Eq)]
enum Flow {
    Continue,
    End,
}

/// Why a turn of reading ended.
enum Turn {
    /// Nothing is left to read now.
    AllRead,
    /// Other connections get their turn first.
    Over,
    /// The session doesn't read for now.
    Held,
    /// The client or the session has ended.
    End,
}

impl Connection {
    async fn run(mut self: Box<Self>) {
        // Frames may have come with the handshake, and the socket isn't ready because of them: reading comes before
        // waiting.
        let mut step = Step::Read;
        loop {
            match step {
                Step::Read => {
                    if self.read_all().await == Flow::End {
                        break;
                    }
                }
                Step::Write => {
                    self.flush();
                    self.session.serve_inbox();
                    // The socket may be ready again at once, and others wait for their turn.
                    tokio::task::yield_now().await;
                }
                Step::Late => self.end_late_message(),
                Step::End => break,
            }
            step = match self.unfinished.as_ref().map(|long| long.deadline) {
                None => self.next_step().await,
                // Boxed, so that a connection without a long message doesn't hold a timer's state.
                Some(deadline) => match Box::pin(timeout_at(deadline, self.next_step())).await {
                    Ok(step) => step,
                    Err(_) => Step::Late,
                },
            };
        }
        self.session.flush();
        // Boxed here and where messages are handled: the task of an idle connection would hold room for all that.
        let unread = Box::pin(self.session.end()).await;
        if !unread {
            self.stream.say_goodbye();
        }
        kernel::end(&self.stream, unread);
    }

    async fn next_step(&self) -> Step {
        poll_fn(|cx| {
            let interest = self.session.poll_interest(cx);
            if interest.end {
                return Poll::Ready(Step::End);
            }
            if (interest.write || self.stream.has_unsent())
                && self.stream.poll_write_ready(cx).is_ready()
            {
                return Poll::Ready(Step::Write);
            }
            match interest.read {
                Reading::OnceWritten => Poll::Pending,
                Reading::Now | Reading::At(_) if self.unread => Poll::Ready(Step::Read),
                Reading::Now | Reading::At(_) => {
                    self.stream.poll_read_ready(cx).map(|_| Step::Read)
                }
            }
        })
        .await
    }

    /// Handles messages until the socket is empty, and lets other connections have their turn in between.
    async fn read_all(&mut self) -> Flow {
        loop {
            self.budget.set(READ_PER_TURN);
            let now = self.session.note_activity();
            let turn = self.read_turn().await;
            self.account(now, &turn);
            self.flush();
            self.session.serve_inbox();
            // Commands of the inbox, or the message itself, may have closed the session.
            if matches!(turn, Turn::End) || self.session.is_gone() {
                return Flow::End;
            }
            self.unread = !matches!(turn, Turn::AllRead);
            match self.session.reading() {
                _ if !self.unread => return Flow::Continue,
                Reading::Now => tokio::task::yield_now().await,
                // Boxed, so that a connection that sends little doesn't hold a timer's state.
                Reading::At(at) => Box::pin(sleep_until(at)).await,
                Reading::OnceWritten => return Flow::Continue,
            }
        }
    }

    async fn read_turn(&mut self) -> Turn {
        for _ in 0..FRAMES_PER_TURN {
            // Each channel of the URL takes its turn as a message would, and comes before all messages.
            let request = self.next_url_channel().map(Box::new);
            if let Some(request) = request {
                Box::pin(self.session.subscribe_from_url(&request)).await;
            } else {
                match self.read_one() {
                    Ok(Some(text)) => self.handle(text).await,
                    Ok(None) => {}
                    Err(Flow::End) => return Turn::End,
                    Err(Flow::Continue) if self.budget.get() > 0 => return Turn::AllRead,
                    Err(Flow::Continue) => return Turn::Over,
                }
            }
            if self.session.count_message() != Reading::Now {
                return Turn::Held;
            }
        }
        Turn::Over
    }

    fn handle(&self, text: Utf8Bytes) -> Pin<Box<impl Future<Output = ()>>> {
        let session = &self.session;
        Box::pin(async move { session.handle(&text).await })
    }

    /// Takes the next channel of the client's URL, unless the connection is closing.
    fn next_url_channel(&mut self) -> Option<Subscribe<'static>> {
        let channels = self.url_channels.as_mut()?;
        let next = channels.next(self.session.socket_id());
        let next = next.filter(|_| !self.session.is_closing());
        if next.is_none() {
            self.url_channels = None;
        }
        next
    }

    /// Charges the bytes that are held of an unfinished message after a turn of reading, and sets its deadline.
    fn account(&mut self, now: Instant, turn: &Turn) {
        // Bytes of a record that hasn't come whole say nothing of the message that they are part of.
        let encrypted = self.stream.held();
        if self.broken {
            self.unfinished = None;
            return;
        }
        if self.frames.is_between_messages() && encrypted <= FREE_BYTES {
            // Only after tungstenite has asked for more is nothing else in its buffer: a turn may end before all frames
            // are handled that were read.
            if matches!(turn, Turn::AllRead) {
                self.rest();
            }
            self.unfinished = None;
            return;
        }
        if self.frames.held().max(encrypted) <= FREE_BYTES {
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
        // The time while this node doesn't read doesn't count for the client's message.
        if unfinished.message != messages || matches!(turn, Turn::Held) {
            (unfinished.message, unfinished.deadline) = (messages, now + timeout);
        }
        // A frame that is too long closes the connection and is never held, so it isn't charged in full.
        let held = self.frames.held().min(2 * self.limits.max_bytes) + encrypted;
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
            // The rest of the message may have come, but it isn't read before the client has read the answers it asked
            // for.
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

    /// Lets go of tungstenite's state and buffers, in which nothing is left. One with small buffers serves the next
    /// connection of this thread that has something to read.
    fn rest(&mut self) {
        // After the client's close frame it has to know of that.
        let Some(context) = self.context.take_if(|context| context.can_read()) else {
            return;
        };
        if self.frames.longest() <= READ_BUFFER {
            SPARE.replace(Some((self.limits.max_bytes, context)));
        }
        self.frames.forget_longest();
    }

    /// Writes what the socket takes. On a broken connection, the end of the stream follows the last frame.
    fn flush(&mut self) {
        if let Err(error) = self.stream.flush_unsent() {
            // The next read meets the end of the connection.
            tracing::debug!(%error, "a client left while bytes waited for it");
        }
        self.session.flush();
        if self.broken && !self.half_closed && self.session.is_flushed() {
            self.half_closed = true;
            if let Err(error) = self.stream.shutdown_write() {
                tracing::debug!(%error, "a client left before it was told why it had to");
            }
        }
    }

    /// Reads the next frame. Returns a text message, or `None` for frames that the session doesn't handle.
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
        let max_bytes = self.limits.max_bytes;
        let context = self.context.get_or_insert_with(|| spare(max_bytes));
        match context.read(&mut wire) {
            // Messages after the server's close frame are ignored, except the client's own close frame.
            Ok(_) if self.session.is_closing() => {}
            Ok(Message::Text(text)) => return Ok(Some(text)),
            Ok(Message::Binary(_)) => {
                self.reject(
                    CloseCode::Binary,
                    "Binary frames are not supported, send JSON in text frames",
                );
            }
            Ok(Message::Pong(_)) => self.session.note_pong(),
            Ok(Message::Ping(_) | Message::Close(_) | Message::Frame(_)) => {}
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

    /// Closes the connection because of a frame, and tells the client what was wrong with it.
    fn reject(&self, code: CloseCode, message: &str) {
        tracing::debug!(socket_id = %self.session.socket_id(), code = code.number(), message, "a bad frame ends a connection");
        self.session.reject(&Refusal::new(code, message));
    }

    /// Rejects a frame after which no frame boundary is known.
    fn give_up(&mut self, code: CloseCode, message: &str) {
        self.reject(code, message);
        self.broken = true;
        self.unfinished = None;
        self.context = None;
        self.frames.forget_longest();
    }

    /// Reads and drops bytes: closing a socket with unread bytes resets it, and the client would lose the last frames.
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
