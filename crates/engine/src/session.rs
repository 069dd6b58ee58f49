//! One connection as its reader sees it.

use std::cell::RefCell;
use std::fmt::Display;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use fanfare_protocol::client::{ClientEvent, Subscribe};
use fanfare_protocol::{
    ClientMessage, CloseCode, Framing, PlainMessage, ServerMessage, SocketId, UserId,
};
use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::budget::{Charge, Resource};
use crate::connection::Connection;
use crate::error::Refusal;
use crate::lifecycle::{LifecycleKind, Note};
use crate::live::{LiveEvent, LiveKind, public_reason};
use crate::outbox::Origin;
use crate::reading::{Interest, Reading};
use crate::refusals::{RefusalKind, Refused, RefusedClient};
use crate::shard::Shard;

/// Channels that an ended connection leaves before others get their turn.
const LEAVES_PER_TURN: usize = 64;
/// Most bytes of an error's text, because it quotes what the client sent.
const EXCERPT: usize = 1000;

/// Returns the beginning of a text, cut at a character boundary.
pub(crate) fn excerpt(text: &str) -> &str {
    &text[..text.floor_char_boundary(EXCERPT)]
}

/// A handle on an admitted connection. The reader must call [`Session::end`] when the socket is
/// gone.
#[derive(Debug)]
pub struct Session {
    pub(crate) shard: Rc<Shard>,
    pub(crate) slot: usize,
    /// What a client needs that doesn't speak Pusher's protocol.
    pub(crate) plain: Option<Box<PlainClient>>,
}

/// What a session knows of a client that doesn't speak Pusher's protocol.
#[derive(Debug, Default)]
pub(crate) struct PlainClient {
    /// `ref` of the message being handled, until an answer has it.
    reference: RefCell<Option<Box<str>>>,
    /// The only channel of a raw client.
    raw_channel: RefCell<Box<str>>,
}

impl PlainClient {
    /// Begins a message whose answer the client wants by this name.
    fn ask(&self, reference: Option<&str>) {
        *self.reference.borrow_mut() = reference.map(Into::into);
    }
}

impl Session {
    pub(crate) fn new(shard: Rc<Shard>, slot: usize, framing: Framing) -> Self {
        let is_plain = matches!(framing, Framing::Object | Framing::Raw | Framing::SocketIo);
        Self {
            shard,
            slot,
            plain: is_plain.then(Box::default),
        }
    }

    /// Returns the connection's socket id.
    #[must_use]
    pub fn socket_id(&self) -> SocketId {
        self.with(|connection| connection.socket_id)
    }

    /// Handles one text frame, and waits until its answer is queued. An invalid message gets an
    /// error; the connection stays usable.
    pub async fn handle(&self, text: &str) {
        self.count_received(text.len());
        match &self.plain {
            None => self.serve(&ClientMessage::parse(text)).await,
            // Boxed, so that clients of Pusher's protocol don't pay for its size.
            Some(plain) => Box::pin(self.handle_plain(plain, text)).await,
        }
    }

    /// Handles a text frame of a client that doesn't speak Pusher's protocol.
    async fn handle_plain(&self, plain: &PlainClient, text: &str) {
        if self.with(|connection| connection.framing()) == Framing::Raw {
            let channel = plain.raw_channel.borrow().clone();
            return self.raw_text(&channel, text).await;
        }
        let PlainMessage { reference, message } = PlainMessage::parse(text);
        plain.ask(reference);
        self.serve(&message).await;
        self.acknowledge();
    }

    /// Handles what a client of Socket.IO asks for in a message of `bytes`. `reference` is the number by which it wants the answer.
    pub async fn handle_request<E: Display>(
        &self,
        bytes: usize,
        reference: Option<&str>,
        message: Result<ClientMessage<'_>, E>,
    ) {
        self.count_received(bytes);
        if let Some(plain) = &self.plain {
            plain.ask(reference);
        }
        // Boxed, as it is for others who don't speak Pusher's protocol.
        Box::pin(self.serve(&message)).await;
        self.acknowledge();
    }

    /// Handles an event that a client of Socket.IO sends to the channels that its app names, as one message of `bytes`.
    pub async fn handle_broadcast(
        &self,
        bytes: usize,
        reference: Option<&str>,
        name: &str,
        data: Option<&RawValue>,
    ) {
        self.count_received(bytes);
        if let Some(plain) = &self.plain {
            plain.ask(reference);
        }
        let settings = self.with(|connection| connection.app.settings());
        if settings.socket_io.broadcast.is_empty() {
            let message = "This event is for nobody: name a channel, emit(EVENT, DATA, {channel: NAME}), or let the app's setting \
                           socket_io.broadcast name the channels";
            self.note_refusal(RefusalKind::ClientEvent, message);
            return self.send_error(message);
        }
        for channel in &settings.socket_io.broadcast {
            let event = ClientEvent {
                name: name.into(),
                channel: channel.into(),
                data,
                reaches_sender: true,
            };
            Box::pin(self.client_event(&event)).await;
        }
        self.acknowledge();
    }

    /// Answers the message being handled, unless an error has answered it.
    fn acknowledge(&self) {
        let plain = self.plain.as_ref();
        let reference = plain.and_then(|plain| plain.reference.borrow_mut().take());
        if let Some(reference) = reference {
            self.send(&ServerMessage::Ack {
                reference: &reference,
            });
        }
    }

    /// Does what a message asks for. By reference, because an idle connection holds what this takes by value twice.
    async fn serve<E: Display>(&self, message: &Result<ClientMessage<'_>, E>) {
        match message {
            Ok(ClientMessage::Ping) => self.send(&ServerMessage::Pong),
            Ok(ClientMessage::Pong) => {}
            // Boxed, so that an idle connection doesn't pay for the size of these futures.
            Ok(ClientMessage::Subscribe(request)) => Box::pin(self.subscribe(request)).await,
            Ok(ClientMessage::Unsubscribe { channel }) => self.unsubscribe(channel),
            Ok(ClientMessage::SignIn(request)) => Box::pin(self.sign_in(request)).await,
            Ok(ClientMessage::ClientEvent(event)) => Box::pin(self.client_event(event)).await,
            Err(error) => {
                let message = error.to_string();
                self.note_refusal(RefusalKind::Message, &message);
                self.send_error(&message);
            }
        }
    }

    /// Subscribes to a channel that the URL of a plain client names, as a message of the client would. The channel of a
    /// raw client is the one that it sends to.
    pub async fn subscribe_from_url(&self, request: &Subscribe<'_>) {
        let is_raw = self.with(|connection| connection.framing()) == Framing::Raw;
        if let Some(plain) = self.plain.as_ref().filter(|_| is_raw) {
            *plain.raw_channel.borrow_mut() = (*request.channel).into();
        }
        Box::pin(self.subscribe(request)).await;
    }

    /// Counts a message for metrics, usage and quotas.
    fn count_received(&self, bytes: usize) {
        let state = &mut *self.shard.state();
        let connection = &mut state.connections[self.slot];
        connection.count_received(bytes);
        let app = connection.app_slot;
        state.stats.count_received(app, bytes as u64);
    }

    /// Notes that the client sent a frame of any kind, PING and PONG included, and returns the
    /// time.
    pub fn note_activity(&self) -> Instant {
        let now = Instant::now();
        self.with(|connection| {
            connection.last_activity = now;
            connection.pinged = false;
        });
        now
    }

    /// Returns whether the client is subscribed to a channel.
    #[must_use]
    pub fn is_subscribed(&self, channel: &str) -> bool {
        self.with(|connection| connection.subscriptions.contains(channel))
    }

    /// Notes that the client answered a PING.
    pub fn note_pong(&self) {
        let now = Instant::now();
        self.with(|connection| {
            let age = now.saturating_duration_since(connection.connected);
            connection.round_trip.note_pong(age);
        });
    }

    /// Returns whether events of a history are left only because other connections get their turn.
    #[cfg(feature = "testing")]
    pub(crate) fn is_turn_over(&self) -> bool {
        self.with(|connection| connection.is_turn_over())
    }

    /// Returns an empty charge to the client's payer, for memory that its reader holds.
    pub fn empty_charge(&self, resource: Resource) -> Charge {
        self.with(|connection| connection.payer.empty_charge(resource))
    }

    /// Counts a frame of the client after it was handled, and returns when the reader may hand over
    /// the next message.
    pub fn count_message(&self) -> Reading {
        let options = self.shard.engine.options();
        let mut state = self.shard.state();
        let connection = &mut state.connections[self.slot];
        let is_exempt = std::mem::take(&mut connection.is_exempt);
        if !is_exempt && let Some(per_second) = connection.app.messages_per_second(options) {
            let burst = per_second.saturating_add(options.max_subscriptions as u32);
            connection.count_message(per_second, burst);
        }
        if connection.has_many_answers() {
            // Written now, because only a blocked socket pauses the reader.
            state.flush(self.slot);
        }
        state.connections[self.slot].reading()
    }

    /// Returns when the reader may hand over the next message.
    #[must_use]
    pub fn reading(&self) -> Reading {
        self.with(|connection| connection.reading())
    }

    /// Lets the shard apply the commands that are queued. A reader calls this at the end of each of
    /// its turns.
    pub fn serve_inbox(&self) {
        self.shard.serve_inbox();
    }

    /// Returns what the connection wants of its reader, and wakes the reader when that changes.
    pub fn poll_interest(&self, cx: &Context<'_>) -> Interest {
        self.with(|connection| {
            connection.watch(cx.waker());
            Interest {
                write: connection.is_blocked(),
                end: connection.is_gone(),
                read: connection.reading(),
            }
        })
    }

    /// Returns whether the server has closed the connection, after which the client's messages
    /// don't count.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.with(|connection| connection.is_closing())
    }

    /// Queues bytes of the transport's own, for example a PONG, in order with everything else.
    pub fn push_raw(&self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.shard.state().push_raw(self.slot, bytes);
        }
    }

    /// Writes as much as the socket takes.
    pub fn flush(&self) {
        self.shard.state().flush(self.slot);
    }

    /// Sends the reason, and closes the connection.
    pub fn close(&self, refusal: &Refusal) {
        self.shard.state().close(self.slot, refusal, Instant::now());
    }

    /// Returns whether the connection is over: nothing more is read or written.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.with(|connection| connection.is_gone())
    }

    /// Returns whether nothing waits to be written.
    #[must_use]
    pub fn is_flushed(&self) -> bool {
        self.with(|connection| connection.is_flushed())
    }

    /// Returns how long a connection may be silent before it is closed.
    #[must_use]
    pub fn silence_limit(&self) -> Duration {
        let options = self.shard.engine.options();
        options.activity_timeout + options.pong_timeout
    }

    /// Leaves every channel and removes the connection, and returns whether bytes were left that
    /// the socket didn't take.
    pub async fn end(self) -> bool {
        self.with(|connection| {
            if connection.closed_with.is_none() {
                connection.note_closed(None, "the client left, or its network did");
            }
        });
        self.abandon();
        // Taken before the user is signed out.
        let user = self.is_watched().then(|| self.user()).flatten();
        if self.is_watched() {
            let code = self.with(|connection| connection.closed_with);
            self.show_live(LiveEvent {
                code: code.map(CloseCode::number),
                ..LiveEvent::new(LiveKind::Disconnected)
            });
        }
        let unread = self.with(|connection| connection.left_unread());
        self.sign_out();
        // No message is handled any more, so no subscription is added while this yields.
        let channels: Vec<_> =
            self.with(|connection| connection.subscriptions.channels().cloned().collect());
        for (count, channel) in channels.into_iter().enumerate() {
            self.leave(channel.as_str());
            // Most clients receive their user's own channel without having subscribed to it.
            if self.is_watched() && channel.user().is_none() {
                self.show_live(LiveEvent {
                    channel: Some(channel.as_str()),
                    user_id: user.as_ref().map(|user| user.user_id.as_str()),
                    reason: Some("the connection has ended"),
                    ..LiveEvent::new(LiveKind::Unsubscribed)
                });
            }
            if count % LEAVES_PER_TURN == LEAVES_PER_TURN - 1 {
                tokio::task::yield_now().await;
            }
        }
        self.shard.state().take_out(self.slot);
        unread
    }

    fn abandon(&self) {
        let mut state = self.shard.state();
        let state = &mut *state;
        state.connections[self.slot].abandon(&mut state.outgoing.buffers);
    }

    /// Queues a message to this connection alone.
    pub(crate) fn send(&self, message: &ServerMessage<'_>) {
        let frame = message.to_frame();
        self.shard.state().push(self.slot, &frame, Origin::Answer);
    }

    /// Queues an error; the connection stays open
    /// (docs/protocol.md#errors-that-keep-the-connection). A raw client has no other sign of it than its end
    /// (docs/any-client.md#raw-websocket).
    pub fn send_error(&self, message: &str) {
        self.send_error_with(None, message);
    }

    /// Queues an error with a code of the table, as [`Self::send_error`] does.
    pub(crate) fn send_error_with(&self, code: Option<u16>, message: &str) {
        if self.with(|connection| connection.framing()) == Framing::Raw {
            return self.refuse_raw(CloseCode::Refused, message);
        }
        let plain = self.plain.as_ref();
        let reference = plain.and_then(|plain| plain.reference.borrow_mut().take());
        self.send(&ServerMessage::Error {
            code,
            message: excerpt(message),
            reference: reference.as_deref(),
        });
    }

    /// Closes a raw client's connection because it was refused something. One that is fenced is told of that instead.
    pub(crate) fn refuse_raw(&self, code: CloseCode, message: &str) {
        if self.with(|connection| connection.is_open()) {
            self.close(&Refusal::new(code, message));
        }
    }

    /// Closes the connection because of a frame. If the code isn't in Pusher's table, an error says before it what was
    /// wrong.
    pub fn reject(&self, refusal: &Refusal) {
        let is_raw = self.with(|connection| connection.framing()) == Framing::Raw;
        if !refusal.code.is_in_pusher_table() && !is_raw {
            self.send_error(&refusal.message);
        }
        self.close(refusal);
    }

    /// Reports to the operator what this client was refused.
    pub(crate) fn note_refusal(&self, kind: RefusalKind, reason: &str) {
        self.note_refusal_of(kind, reason, None, None);
    }

    /// Reports a refusal as [`Self::note_refusal`] does, of a client that asked for a channel or sent an
    /// event.
    pub(crate) fn note_refusal_of(
        &self,
        kind: RefusalKind,
        reason: &str,
        channel: Option<&str>,
        event: Option<&str>,
    ) {
        let (app, address, key) = self.with(|connection| {
            let app = Arc::clone(&connection.app);
            (app, connection.address, connection.key.clone())
        });
        let user = self.user().map(|user| user.user_id);
        let refused = Refused {
            kind,
            app: Some(app.id().as_str()),
            address,
            reason,
        };
        let client = RefusedClient {
            socket_id: Some(self.socket_id()),
            user_id: user.as_ref().map(UserId::as_str),
            key: Some(key.as_str()),
            channel,
            event,
        };
        self.shard.engine.refusals().note_client(refused, client);
        let reason = public_reason(kind.as_str(), reason);
        self.note_lifecycle(&Note {
            channel,
            text: Some(&reason),
            ..Note::of(LifecycleKind::Refused)
        });
    }

    /// Notes something for operators who look at the connection.
    pub(crate) fn note_lifecycle(&self, note: &Note<'_>) {
        self.with(|connection| connection.note_lifecycle(note));
    }

    /// Returns whether the connection's app is watched. If so, what it does is shown with
    /// [`Self::show_live`].
    pub(crate) fn is_watched(&self) -> bool {
        self.with(|connection| connection.app.is_watched())
    }

    /// Shows what this connection did to those who watch its app.
    pub(crate) fn show_live(&self, event: LiveEvent<'_>) {
        let app = self.with(|connection| Arc::clone(&connection.app));
        let user = self.user().map(|user| user.user_id);
        app.live.record(&LiveEvent {
            socket_id: Some(self.socket_id()),
            user_id: event.user_id.or(user.as_ref().map(UserId::as_str)),
            ..event
        });
    }

    /// Runs `read` on the connection. Its slot belongs to this session until [`Session::end`], also
    /// across awaits; whether the connection is still open may change at each of them.
    pub(crate) fn with<T>(&self, read: impl FnOnce(&mut Connection) -> T) -> T {
        read(&mut self.shard.state().connections[self.slot])
    }
}
