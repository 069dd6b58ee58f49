//! The back end that nodes share, as three traits: a [`Broker`] carries events, [`Presence`] knows
//! what each node reports of itself, and [`Membership`] knows the nodes. Redis and Postgres are back ends; tests
//! have another, which delays, drops and partitions.
//!
//! Each call is atomic. Calls of one app are taken in the order in which they were first polled. If
//! the connection breaks, it is unknown whether a call without an answer was taken.

mod broker;
mod membership;
mod presence;
pub(crate) mod transition_entry;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fanfare_engine::BoxFuture;
use fanfare_protocol::{AppId, ChannelName};
use tokio::sync::mpsc;

pub use broker::{
    Broker, CachedMessage, HistoryPage, HistoryRequest, Keep, Publication, Publish, Published,
};
pub use membership::{Census, INSTALLATION_LEASE, LeaseRenewal, LiveNodes, Membership, Reaped};
pub use presence::{Change, Counted, Joined, LogRules, Presence, Reply, Report};

/// Connects to a back end.
pub trait Backend: Send + Sync + 'static {
    /// Connects, and waits a few seconds at most.
    fn connect(&self) -> BoxFuture<'_, Result<Connected, ConnectError>>;
}

/// Why there is no connection, as text for an operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConnectError(pub String);

/// A connection, part by part, and what it receives. It is closed when all parts are dropped.
pub struct Connected {
    /// Carries events.
    pub broker: Arc<dyn Broker>,
    /// Knows what nodes report.
    pub presence: Arc<dyn Presence>,
    /// Knows the nodes.
    pub membership: Arc<dyn Membership>,
    /// Messages on the topics that this node receives, in order. The channel ends, or gets
    /// [`Incoming::Lost`], when the connection is lost.
    pub incoming: mpsc::UnboundedReceiver<Incoming>,
}

impl Connected {
    /// Returns a connection whose parts are one value.
    pub fn new<C: Broker + Presence + Membership>(
        connection: C,
        incoming: mpsc::UnboundedReceiver<Incoming>,
    ) -> Self {
        let connection = Arc::new(connection);
        Self {
            broker: Arc::clone(&connection) as Arc<dyn Broker>,
            presence: Arc::clone(&connection) as Arc<dyn Presence>,
            membership: connection,
            incoming,
        }
    }
}

impl fmt::Debug for Connected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connected").finish_non_exhaustive()
    }
}

/// A topic, on which messages reach the nodes that subscribe to it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// What all nodes receive: heartbeats, farewells and orders.
    Nodes,
    /// An app's users who come online and go offline.
    Users(AppId),
    /// An app's live events, for operators who watch on other nodes.
    Live(AppId),
    /// A channel's events, presence changes and counts.
    Channel(AppId, ChannelName),
}

impl From<&fanfare_engine::Topic> for Topic {
    fn from(topic: &fanfare_engine::Topic) -> Self {
        match topic {
            fanfare_engine::Topic::Channel(channel_ref) => {
                Self::Channel(channel_ref.app.id().clone(), channel_ref.channel.clone())
            }
            fanfare_engine::Topic::Users(app) => Self::Users(app.id().clone()),
            fanfare_engine::Topic::Live(app) => Self::Live(app.id().clone()),
        }
    }
}

/// A message that a connection receives, or its end.
#[derive(Debug)]
pub enum Incoming {
    /// A message on a topic.
    Message {
        /// The topic.
        topic: Topic,
        /// The message.
        message: Bytes,
        /// The room that it takes, given back when dropped.
        room: IncomingBytes,
    },
    /// The connection is lost, for this reason.
    Lost(String),
}

/// Room that a message takes until it is delivered. Messages that wait here must not grow without
/// bound.
#[derive(Debug, Default)]
pub struct IncomingBytes(Option<(Arc<std::sync::atomic::AtomicUsize>, usize)>);

impl IncomingBytes {
    /// Counts `bytes` until it is dropped.
    #[must_use]
    pub fn take(count: &Arc<std::sync::atomic::AtomicUsize>, bytes: usize) -> Self {
        count.fetch_add(bytes, std::sync::atomic::Ordering::Relaxed);
        Self(Some((Arc::clone(count), bytes)))
    }
}

impl Drop for IncomingBytes {
    fn drop(&mut self) {
        if let Some((count, bytes)) = &self.0 {
            count.fetch_sub(*bytes, std::sync::atomic::Ordering::Relaxed);
        }
    }
}

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackendError {
    /// The call came after its deadline, and was not taken.
    #[error("it came too late")]
    Late,
    /// The back end refused the call; nothing was changed.
    #[error("it was refused: {0}")]
    Refused(String),
    /// Nodes of another installation use the same names; nothing was changed.
    #[error(
        "nodes of another installation, which have another store, use the same names here: give each installation a \
         cluster.prefix of its own, or this one the store of the others (store.url). If the others are gone for good, \
         this node gets in a minute after their last heartbeat"
    )]
    OtherInstallation,
    /// The node's entries in the app are lost, so nothing can be added to them; nothing was
    /// changed. The node has to announce everything again, under another name.
    #[error(
        "what this node had said before is not there any more: the memory of what nodes share was lost, in whole or in part"
    )]
    Forgotten,
    /// The call was not taken, and this connection is useless because another master serves the
    /// app by now.
    #[error("it was not taken: {0}")]
    Unserved(String),
    /// The connection broke; the call may have been taken.
    #[error("the connection broke: {0}")]
    Broken(String),
}

/// A time on the back end's clock, in microseconds since 1970. A call that comes later than its
/// deadline is not taken, because its caller gave up or the node counts as dead.
pub type Moment = u64;

/// The name of a node's connection: over another connection a node has another name, and the former
/// one dies.
pub type NodeName = Arc<str>;

/// The future of a call, which is sent when it is first polled.
pub type Call<T> = BoxFuture<'static, Result<T, BackendError>>;

/// Returns a duration as back ends take it, in milliseconds.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
