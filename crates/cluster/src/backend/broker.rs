//! The part of a back end that carries events: topics, cached events and histories.

use std::time::Duration;

use bytes::Bytes;
use fanfare_engine::{HistoryQuery, IdempotencyKey, Position, Retention};
use fanfare_protocol::{AppId, HistoryPosition, Unrecovered};

use super::{Call, Moment, Topic};

/// Carries events to the nodes that subscribe to their topics.
pub trait Broker: Send + Sync + 'static {
    /// Publishes events, all or none.
    fn publish(&self, publish: Publish) -> Call<Published>;

    /// Sends a message to all nodes.
    fn broadcast(&self, message: Bytes, deadline: Moment) -> Call<()>;

    /// Sends a message to the nodes that subscribe to a topic.
    fn send(&self, topic: Topic, message: Bytes) -> Call<()>;

    /// Subscribes this connection to topics.
    fn subscribe(&self, topics: Vec<Topic>) -> Call<()>;

    /// Unsubscribes this connection from topics.
    fn unsubscribe(&self, topics: Vec<Topic>) -> Call<()>;

    /// Reads the event that a cache channel keeps.
    fn cached(&self, app: &AppId, channel: &str) -> Call<Option<CachedMessage>>;

    /// Reads a channel's history, which begins now if there is none. Pages are large, so a back end
    /// must not let messages and answers of other calls wait behind them.
    fn history(&self, request: HistoryRequest) -> Call<HistoryPage>;
}

/// Events of one app that are published together.
#[derive(Debug, Clone)]
pub struct Publish {
    /// The app.
    pub app: AppId,
    /// The events.
    pub publications: Vec<Publication>,
    /// The request's idempotency key.
    pub idempotency_key: Option<IdempotencyKey>,
    /// The deadline.
    pub deadline: Moment,
}

/// An event for the subscribers of one channel.
#[derive(Debug, Clone)]
pub struct Publication {
    /// The channel.
    pub channel: String,
    /// The message for nodes that receive the channel.
    pub message: Bytes,
    /// How the cache channel keeps it, if it does.
    pub keep: Option<Keep>,
    /// How the channel's history holds it, if it does.
    pub history: Option<Retention>,
}

/// How a cache channel keeps an event.
#[derive(Debug, Clone, Copy)]
pub struct Keep {
    /// How long it is kept.
    pub ttl: Duration,
    /// Most bytes that all kept events of the app take; the oldest are dropped first.
    pub max_bytes: usize,
}

/// The outcome of a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// The events were published.
    Now,
    /// The same request was published before.
    Before,
    /// The idempotency key was used for another request.
    OtherRequest,
}

/// An event that a cache channel keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachedMessage {
    /// How much longer it is kept.
    pub ttl: Duration,
    /// The message as it was published.
    pub message: Bytes,
}

/// A request for a page of a history.
#[derive(Debug, Clone)]
pub struct HistoryRequest {
    /// The app.
    pub app: AppId,
    /// The channel.
    pub channel: String,
    /// The query.
    pub query: HistoryQuery,
    /// The fingerprint of the app's rules: events recorded under other rules are gone.
    pub rules: u64,
    /// Most bytes of the last events, or of all after a position; of the latter, all or none are
    /// returned.
    pub room: usize,
}

/// A page of a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryPage {
    /// The history's newest position.
    pub position: HistoryPosition,
    /// The newest event's place among the app's recorded events; later ones are not in here.
    pub newest: Position,
    /// The messages of the events as they were published, or why there are none.
    pub messages: Result<Vec<Bytes>, Unrecovered>,
}
