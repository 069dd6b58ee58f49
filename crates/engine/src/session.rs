//! One connection as its reader sees it.

use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;

use fanfare_protocol::{ClientMessage, ServerMessage, SocketId};
use tokio::time::Instant;

use crate::connection::Connection;
use crate::error::Refusal;
use crate::refusals::{RefusalKind, Refused};
use crate::shard::Shard;

/// Channels a connection that ended leaves before others get their turn.
const LEAVES_PER_TURN: usize = 64;
/// Most bytes of an error's text: what a client sent is quoted in it, and may be long.
const EXCERPT: usize = 1000;

/// The beginning of a text, cut at a character.
pub(crate) fn excerpt(text: &str) -> &str {
    &text[..text.floor_char_boundary(EXCERPT)]
}

/// A handle on an admitted connection. The reader calls [`Session::end`] when the socket is gone.
#[derive(Debug)]
pub struct Session {
    pub(crate) shard: Rc<Shard>,
    pub(crate) slot: usize,
}

/// What a connection wants of its reader besides reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wants {
    /// Call [`Session::flush`] when the socket takes more.
    pub write: bool,
    /// Stop: nothing more will come of it.
    pub end: bool,
}

impl Session {
    pub(crate) fn new(shard: Rc<Shard>, slot: usize) -> Self {
        Self { shard, slot }
    }

    /// The connection's public name.
    #[must_use]
    pub fn socket_id(&self) -> SocketId {
        self.with(|connection| connection.socket_id)
    }

    /// Handles one text frame. Whatever is wrong with it, the connection stays usable.
    pub async fn handle(&self, text: &str) {
        match ClientMessage::parse(text) {
            Ok(ClientMessage::Ping) => self.send(&ServerMessage::Pong),
            Ok(ClientMessage::Pong) => {}
            // Boxed, so that a connection which does nothing does not pay for the room these need.
            Ok(ClientMessage::Subscribe(request)) => Box::pin(self.subscribe(&request)).await,
            Ok(ClientMessage::Unsubscribe { channel }) => self.unsubscribe(&channel),
            Ok(ClientMessage::SignIn(request)) => Box::pin(self.sign_in(&request)).await,
            Ok(ClientMessage::ClientEvent(event)) => Box::pin(self.client_event(event)).await,
            Err(error) => {
                let message = error.to_string();
                self.note_refusal(RefusalKind::Message, &message);
                self.complain(&message);
            }
        }
    }

    /// Notes that the client was heard: any frame counts, also PING and PONG.
    pub fn heard(&self) {
        self.with(|connection| {
            connection.heard = Instant::now();
            connection.pinged = false;
        });
    }

    /// Says what it wants of its reader, who is woken when that changes.
    pub fn poll_wants(&self, cx: &Context<'_>) -> Wants {
        self.with(|connection| {
            connection.watch(cx.waker());
            Wants {
                write: connection.is_blocked(),
                end: connection.is_gone(),
            }
        })
    }

    /// Whether it was closed by us; what the client still sends does not count.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.with(|connection| connection.is_closing())
    }

    /// Adds bytes of the transport's own, for example a PONG, in order with everything else.
    pub fn push_raw(&self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.shard.state().push_raw(self.slot, bytes);
        }
    }

    /// Writes what the socket takes.
    pub fn flush(&self) {
        self.shard.state().flush(self.slot);
    }

    /// Says why, and closes.
    pub fn close(&self, refusal: &Refusal) {
        self.shard.state().close(self.slot, refusal, Instant::now());
    }

    /// Whether nothing more will come of it.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.with(|connection| connection.is_gone())
    }

    /// Whether nothing waits to be written.
    #[must_use]
    pub fn is_flushed(&self) -> bool {
        self.with(|connection| connection.is_flushed())
    }

    /// Leaves every channel. Nothing of the connection is left afterwards.
    pub async fn end(self) {
        self.with(Connection::abandon);
        self.sign_out();
        let channels: Vec<_> =
            self.with(|connection| connection.subscriptions.keys().cloned().collect());
        for (count, channel) in channels.into_iter().enumerate() {
            self.leave(channel.as_str());
            if count % LEAVES_PER_TURN == LEAVES_PER_TURN - 1 {
                tokio::task::yield_now().await;
            }
        }
        self.shard.state().connections.remove(self.slot);
    }

    /// Sends a message to this connection alone.
    pub(crate) fn send(&self, message: &ServerMessage<'_>) {
        self.shard.state().push(self.slot, &message.to_frame());
    }

    /// Answers what cannot be done; the connection stays open (spec 1.7).
    pub fn complain(&self, message: &str) {
        self.send(&ServerMessage::Error {
            code: None,
            message: excerpt(message),
        });
    }

    /// Lets the operator know what this client was refused.
    pub(crate) fn note_refusal(&self, kind: RefusalKind, reason: &str) {
        let (app, address) =
            self.with(|connection| (Arc::clone(&connection.app), connection.address));
        self.shard.engine.refusals().note(Refused {
            kind,
            app: Some(app.id().as_str()),
            address,
            reason,
        });
    }

    pub(crate) fn with<T>(&self, read: impl FnOnce(&mut Connection) -> T) -> T {
        read(&mut self.shard.state().connections[self.slot])
    }
}
