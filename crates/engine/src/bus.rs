//! The trait that carries events to all nodes that have subscribers.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use fanfare_protocol::{HistoryPosition, SocketId, UserId};

use crate::app::App;
use crate::cache::CachedEvent;
use crate::channel_ref::ChannelRef;
use crate::history::{HistoryAnswer, HistoryQuery, Retention};
use crate::history_reads::HistoryCharge;
use crate::sequence::{Generation, Position};
use crate::trace::TraceContext;

/// A boxed future, which keeps the traits usable as objects.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// An event on its way to the subscribers of one channel.
#[derive(Debug, Clone)]
pub struct Envelope {
    /// Its channel.
    pub channel_ref: ChannelRef,
    /// The event's name.
    pub name: Arc<str>,
    /// The data as published, unchanged.
    pub data: Arc<str>,
    /// The user who sent it: only for client events on presence channels.
    pub user_id: Option<UserId>,
    /// The connection that doesn't get it.
    pub except: Option<SocketId>,
    /// Whether a cache channel keeps it: events of backends only, never client events.
    pub keep: bool,
    /// The retention of the channel's history, if it has one.
    pub history: Option<Retention>,
    /// The span that its deliveries belong to, if its publish is sampled. Boxed, because few are.
    pub trace: Option<Box<TraceContext>>,
}

/// The places that the back end has given to an event that comes from other nodes.
#[derive(Debug, Clone, Default)]
pub struct StreamPosition {
    /// Its place among all events cached or recorded for the app, if it is one.
    pub position: Option<Position>,
    /// Its position in the channel's history, if it was recorded.
    pub recorded: Option<HistoryPosition>,
}

/// Idempotency key of a publish. A repeated publish is acknowledged, not delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// The key that the app's backend chose.
    pub key: String,
    /// Digest of the request's body. The same key with another body is an error.
    pub digest: String,
}

/// The outcome of a publish that the bus accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishOutcome {
    /// The events are on their way.
    Accepted,
    /// Events with the same [`IdempotencyKey`] were accepted before; these are not delivered.
    Duplicate,
}

/// Why the bus didn't accept events. They are not delivered, except where a variant says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// A queue is full.
    #[error("the server is over capacity")]
    Overloaded,
    /// This node is not connected to the other nodes.
    #[error("this node has no connection to the other nodes at the moment")]
    Disconnected,
    /// The connection to the other nodes broke before their answer: the events may have been
    /// delivered.
    #[error("the connection to the other nodes broke before they had answered")]
    Unanswered,
    /// The events reached the back end after their deadline by its own clock.
    #[error(
        "the events reached what nodes share (cluster.url) too late by its own clock: it or this node was stopped for two seconds, or its clock was set"
    )]
    Late,
    /// The [`IdempotencyKey`] was used for another request.
    #[error("the idempotency key stood for another request within the last two minutes")]
    OtherRequest,
}

/// A read of a channel's history.
#[derive(Debug)]
pub struct HistoryRead {
    /// The query.
    pub query: HistoryQuery,
    /// About the most bytes of texts. Of the last events, those that fit are returned; of all events
    /// after a position, all or none.
    pub room: usize,
    /// The charge for what the answer may take.
    pub charge: HistoryCharge,
}

/// A topic that a node can subscribe to at the bus.
#[derive(Debug, Clone)]
pub enum Topic {
    /// A channel's events and presence changes.
    Channel(ChannelRef),
    /// An app's users who come online and go offline.
    Users(Arc<App>),
    /// An app's live events on other nodes, for operators who watch on this one.
    Live(Arc<App>),
}

/// Carries events to all nodes, this one included, at most once and in order per channel. A bus
/// hands incoming events to the [`Node`](crate::Node).
pub trait Bus: Send + Sync + 'static {
    /// Publishes events to every node that receives their channels: all of them, or none. A
    /// repeated `idempotency_key` makes the publish a [`PublishOutcome::Duplicate`]. Waits for the back end's
    /// answer.
    fn publish(
        &self,
        envelopes: Vec<Envelope>,
        idempotency_key: Option<IdempotencyKey>,
    ) -> BoxFuture<'_, Result<PublishOutcome, BusError>>;

    /// Waits until this node receives everything that is published from now on, and returns the
    /// generation since which it does. Waits without limit while the other nodes are unreachable.
    fn subscribe(&self, topic: &Topic) -> BoxFuture<'_, Generation>;

    /// Ends the subscription, because this node has no subscribers of the topic any more.
    fn unsubscribe(&self, topic: &Topic);

    /// Returns the event that a cache channel keeps, on whichever node it was published.
    fn cached<'a>(
        &'a self,
        channel_ref: &'a ChannelRef,
    ) -> BoxFuture<'a, Result<Option<CachedEvent>, BusError>>;

    /// Returns what a channel's history holds, on whichever node it was published. The answer comes
    /// with the read's charge, which is held until then even if the caller gives up.
    fn history<'a>(
        &'a self,
        channel_ref: &'a ChannelRef,
        read: HistoryRead,
    ) -> BoxFuture<'a, Result<(HistoryAnswer, HistoryCharge), BusError>>;

    /// Closes a user's connections on every node.
    fn terminate(&self, app: &Arc<App>, user: &UserId) -> BoxFuture<'_, Result<(), BusError>>;

    /// Returns the number of nodes that are known to live, this one included.
    fn nodes(&self) -> usize;

    /// Returns why this node accepts no events now, if so.
    fn unready(&self) -> Option<String>;
}
