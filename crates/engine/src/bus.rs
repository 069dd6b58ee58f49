//! What carries events to every node that has subscribers.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use fanfare_protocol::{HistoryPosition, SocketId, UserId};

use crate::app::App;
use crate::cache::CachedEvent;
use crate::channel_ref::ChannelRef;
use crate::history::{HistoryAnswer, HistoryQuery, Retention};
use crate::sequence::{Generation, Position};

/// A future behind a pointer, so that no type parameter leaks.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// An event on its way to the subscribers of one channel.
#[derive(Debug, Clone)]
pub struct Envelope {
    /// Where it goes.
    pub channel_ref: ChannelRef,
    /// The event's name.
    pub name: Arc<str>,
    /// What was published, exactly.
    pub data: Arc<str>,
    /// Who sent it: client events on presence channels only.
    pub user_id: Option<UserId>,
    /// The connection that does not get it.
    pub except: Option<SocketId>,
    /// Whether a cache channel keeps it: what backends publish, and nothing that clients send.
    pub keep: bool,
    /// For how long the channel's history holds it, if it has one.
    pub history: Option<Retention>,
}

/// What the bus has made of an event that it hands in.
#[derive(Debug, Clone, Default)]
pub struct StreamPosition {
    /// When it was kept or recorded, if it was.
    pub position: Option<Position>,
    /// Where in the channel's history it is, if it is.
    pub recorded: Option<HistoryPosition>,
}

/// What a publish is known by on all nodes, so that the same one, sent again, is not delivered again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// Chosen by the app's backend.
    pub key: String,
    /// Of the request's body: the key stands for this one alone.
    pub digest: String,
}

/// What became of events that the bus has taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishOutcome {
    /// The events are on their way.
    Accepted,
    /// Events with the same [`IdempotencyKey`] were accepted before; these are not delivered.
    Duplicate,
}

/// Why the bus did not take events. Nobody gets them, except where it says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// A queue is full.
    #[error("the server is over capacity")]
    Overloaded,
    /// This node does not reach the others.
    #[error("this node has no connection to the other nodes at the moment")]
    Disconnected,
    /// The connection to the others broke between asking and the answer.
    #[error("the connection to the other nodes broke before they had answered")]
    Unanswered,
    /// The events were refused by the clock of what nodes share.
    #[error(
        "the events reached Redis too late by its own clock: it or this node was stopped for two seconds, or its clock was set"
    )]
    Late,
    /// The [`IdempotencyKey`] stood for another request.
    #[error("the idempotency key stood for another request within the last two minutes")]
    OtherRequest,
}

/// What a node can listen to.
#[derive(Debug, Clone)]
pub enum Topic {
    /// A channel: its events, and who comes and leaves.
    Channel(ChannelRef),
    /// Which of an app's users come online and go offline.
    Users(Arc<App>),
}

/// Carries events, this node's own included: at most once, in order per channel. What comes in is handed to the
/// [`Node`](crate::Node).
pub trait Bus: Send + Sync + 'static {
    /// Hands events to every node that listens to their channels: all of them, or none.
    fn publish(
        &self,
        envelopes: Vec<Envelope>,
        once: Option<IdempotencyKey>,
    ) -> BoxFuture<'_, Result<PublishOutcome, BusError>>;

    /// Returns when everything that is published from now on will come to this node. Waits while the others are away.
    fn listen(&self, topic: &Topic) -> BoxFuture<'_, Generation>;

    /// Nobody on this node wants to hear of it any more.
    fn unlisten(&self, topic: &Topic);

    /// The event that a cache channel keeps, wherever it was published.
    fn cached<'a>(
        &'a self,
        channel_ref: &'a ChannelRef,
    ) -> BoxFuture<'a, Result<Option<CachedEvent>, BusError>>;

    /// What a channel's history holds, wherever it was published; at most so many bytes of texts, about. Of the last events
    /// those that fit, of all after a position all or none.
    fn history<'a>(
        &'a self,
        channel_ref: &'a ChannelRef,
        query: HistoryQuery,
        room: usize,
    ) -> BoxFuture<'a, Result<HistoryAnswer, BusError>>;

    /// Closes the connections of a user on every node.
    fn terminate(&self, app: &Arc<App>, user: &UserId) -> BoxFuture<'_, Result<(), BusError>>;

    /// Why this node takes no events now, if so.
    fn unready(&self) -> Option<String>;
}
