//! The back end that nodes share: a memory that takes atomic steps, and topics on which it sends
//! messages to nodes. Redis is one; tests have another, which delays, drops and partitions.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fanfare_engine::{
    BoxFuture, HistoryQuery, IdempotencyKey, Position, PresenceSnapshot, Retention,
};
use fanfare_protocol::presence::Member;
use fanfare_protocol::{AppId, ChannelName, HistoryPosition, Unrecovered, UserId};
use tokio::sync::mpsc;

/// Connects to a back end.
pub trait Backend: Send + Sync + 'static {
    /// Connects, and waits a few seconds at most.
    fn connect(&self) -> BoxFuture<'_, Result<Connected, ConnectError>>;
}

/// Why there is no connection, as text for an operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConnectError(pub String);

/// A connection, and what it receives.
pub struct Connected {
    /// The connection.
    pub connection: Arc<dyn Connection>,
    /// Messages on the topics that this node receives, in order. The channel ends, or gets
    /// [`Incoming::Lost`], when the connection is lost.
    pub incoming: mpsc::UnboundedReceiver<Incoming>,
}

/// A topic, on which messages reach the nodes that subscribe to it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// What all nodes receive: heartbeats, farewells and orders.
    Nodes,
    /// An app's users who come online and go offline.
    Users(AppId),
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

/// One connection to the back end. Dropping it closes it.
pub trait Connection: Send + Sync + 'static {
    /// Takes steps, one after the other, each atomic, and waits for their answers. Steps of one app
    /// are taken in the order in which the futures were first polled. If the connection breaks, any
    /// number of them may have been taken.
    fn take(&self, steps: Vec<Step>) -> BoxFuture<'static, Vec<Result<Answer, StepError>>>;

    /// Reads a channel's history, which begins now if there is none, and waits for the page. Pages
    /// are large, so a back end must not let messages and answers of steps wait behind them.
    fn history(
        &self,
        request: HistoryRequest,
    ) -> BoxFuture<'static, Result<HistoryPage, StepError>>;
}

/// Why a step has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// The step came after its deadline, and was not taken.
    #[error("it came too late")]
    Late,
    /// The back end refused the step; nothing was changed.
    #[error("it was refused: {0}")]
    Refused(String),
    /// The node's entries in the app are lost, so nothing can be added to them; nothing was
    /// changed. The node has to announce everything again, under another name.
    #[error(
        "what this node had said before is not there any more: the memory of what nodes share was lost, in whole or in part"
    )]
    Forgotten,
    /// The step was not taken, and this connection is useless because another master serves the
    /// step by now.
    #[error("it was not taken: {0}")]
    Unserved(String),
    /// The connection broke; the step may have been taken.
    #[error("the connection broke: {0}")]
    Broken(String),
}

/// A time on the back end's clock, in microseconds since 1970. A step that comes later than its
/// deadline is not taken, because its caller gave up or the node counts as dead.
pub type Moment = u64;

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

/// The name of a node's connection: over another connection a node has another name, and the former
/// one dies.
pub type NodeName = Arc<str>;

/// A step that a back end can take. It belongs to an app, or to the installation.
#[derive(Debug, Clone)]
pub enum Step {
    /// Publish events, all or none. Answered with `Published`.
    Publish {
        /// The app.
        app: AppId,
        /// The events.
        publications: Vec<Publication>,
        /// The request's idempotency key.
        once: Option<IdempotencyKey>,
        /// The deadline.
        deadline: Moment,
    },
    /// `node` has a user on a presence channel. Answered with `Joined`, or `Full`; announced as
    /// `Added` if no node had the user there.
    Join {
        /// The app.
        app: AppId,
        /// The node's name.
        node: NodeName,
        /// The channel.
        channel: String,
        /// The user.
        member: Member,
        /// Users allowed.
        max: usize,
        /// Whether the answer has the channel's members.
        view: bool,
        /// The deadline.
        deadline: Moment,
    },
    /// `node` no longer has a user on a presence channel. Answered with `Changed`; announced as
    /// `Removed` if no node has the user there.
    Leave {
        /// The app.
        app: AppId,
        /// The node's name.
        node: NodeName,
        /// The channel.
        channel: String,
        /// The user.
        user: UserId,
        /// The deadline.
        deadline: Moment,
    },
    /// Read the members of a presence channel. Answered with `PresenceSnapshot`.
    PresenceSnapshot {
        /// The app.
        app: AppId,
        /// The channel.
        channel: String,
    },
    /// Count the users on each of some presence channels. Answered with `Numbers`.
    UserCounts {
        /// The app.
        app: AppId,
        /// The channels.
        channels: Vec<String>,
    },
    /// `node` has this many subscribed connections of a channel. Answered with `Counted`; announced
    /// as `Count` with `announce`.
    Count {
        /// The app.
        app: AppId,
        /// The node's name.
        node: NodeName,
        /// The channel.
        channel: String,
        /// Subscribed connections.
        count: usize,
        /// Whether subscribers get the count over all nodes.
        announce: bool,
        /// The deadline.
        deadline: Moment,
    },
    /// Count the subscribed connections of a channel on nodes other than `node`. Answered with
    /// `Numbers`, one.
    RemoteSubscriptions {
        /// The app.
        app: AppId,
        /// The node's name.
        node: NodeName,
        /// The channel.
        channel: String,
    },
    /// The same for all channels whose names start with `prefix`, and for all presence channels
    /// that have members, even where the count is 0. Answered with `Counts`.
    AllRemoteSubscriptions {
        /// The app.
        app: AppId,
        /// The node's name.
        node: NodeName,
        /// The prefix of their names.
        prefix: String,
    },
    /// `node` has a signed-in user. Answered with `Changed`; announced as `Online` with `online`
    /// true if no node had the user.
    SignIn {
        /// The app.
        app: AppId,
        /// The node's name.
        node: NodeName,
        /// The user.
        user: UserId,
        /// The deadline.
        deadline: Moment,
    },
    /// `node` no longer has a signed-in user. Answered with `Changed`; announced as `Online` with
    /// `online` false if no node has the user.
    SignOut {
        /// The app.
        app: AppId,
        /// The node's name.
        node: NodeName,
        /// The user.
        user: UserId,
        /// The deadline.
        deadline: Moment,
    },
    /// Read which of some users are signed in. Answered with `Online`.
    Online {
        /// The app.
        app: AppId,
        /// The user.
        users: Vec<UserId>,
    },
    /// `node` has `change` connections of an app more than it reported (fewer, if negative), and
    /// one more unless there are `max` over all nodes then. Answered with `Changed`: whether it was
    /// admitted.
    Admit {
        /// The app.
        app: AppId,
        /// The node's name.
        node: NodeName,
        /// The change since the last report.
        change: i64,
        /// The limit of connections.
        max: usize,
        /// The deadline.
        deadline: Moment,
    },
    /// `node` has this many connections of an app. Answered with `Done`.
    Connections {
        /// The app.
        app: AppId,
        /// The node's name.
        node: NodeName,
        /// Connections.
        count: usize,
        /// The deadline.
        deadline: Moment,
    },
    /// Count the connections of an app on nodes other than `node`. Answered with `Numbers`, one.
    RemoteConnections {
        /// The app.
        app: AppId,
        /// The node's name.
        node: NodeName,
    },
    /// Read the event that a cache channel keeps. Answered with `CachedMessage`.
    Cached {
        /// The app.
        app: AppId,
        /// The channel.
        channel: String,
    },
    /// Heartbeat: `node` is alive, and all nodes get `message`. Answered with `Heartbeat`, or refused as
    /// late if the node counts as dead by now.
    Heartbeat {
        /// The node's name.
        node: NodeName,
        /// Whether this is its first heartbeat under this name.
        first: bool,
        /// How long it counts as alive.
        lease: Duration,
        /// The message for all nodes.
        message: Bytes,
    },
    /// Read how many nodes receive the topic of all nodes, and which count as alive. Answered with
    /// `Census`.
    Census,
    /// Send a message to all nodes. Answered with `Done`.
    Broadcast {
        /// The message.
        message: Bytes,
        /// The deadline.
        deadline: Moment,
    },
    /// Add `node` to the app's own list of nodes. A step by which a node reports on itself is
    /// answered with [`StepError::Forgotten`] while the node is not in that list. Answered with
    /// `Done`.
    Enlist {
        /// The app.
        app: AppId,
        /// The node's name.
        node: NodeName,
        /// The deadline.
        deadline: Moment,
    },
    /// Read the app's own list of nodes. Answered with `Names`.
    Enlisted {
        /// The app.
        app: AppId,
    },
    /// Read how many connections each node has of an app. Answered with `Counts`, by the nodes'
    /// names.
    ConnectionsByNode {
        /// The app.
        app: AppId,
    },
    /// Add an app to the list of `node`, in which a reaper looks for what a dead node has left.
    /// Answered with `Done`.
    Register {
        /// The app.
        app: AppId,
        /// The node's name.
        node: NodeName,
        /// The deadline.
        deadline: Moment,
    },
    /// Read the apps in which a node may have entries. Answered with `Names`.
    Apps {
        /// The node's name.
        node: NodeName,
    },
    /// Claim the reaping of a dead node. Answered with `Numbers`: 1, or 0 if another node has
    /// claimed it.
    Claim {
        /// The dead node.
        node: NodeName,
        /// How long no other node can claim it.
        lease: Duration,
    },
    /// Remove a part of what a node has left in an app. Answered with `Reaped`; announced as if the
    /// node had reported it. When nothing is left, the node is removed from the app's own list.
    Reap {
        /// The app.
        app: AppId,
        /// The dead node.
        node: NodeName,
    },
    /// Remove a node that has nothing left from the list of all nodes. Answered with `Changed`:
    /// whether it was in the list.
    Forget {
        /// The node's name.
        node: NodeName,
    },
    /// Subscribe to a topic. Answered with `Done`.
    Subscribe {
        /// The topic.
        topic: Topic,
    },
    /// Unsubscribe from a topic. Answered with `Done`.
    Unsubscribe {
        /// The topic.
        topic: Topic,
    },
}

impl Step {
    /// Returns the app and the node of a step by which a node reports on itself. Such steps of one
    /// node are taken in order.
    #[must_use]
    pub fn reporter(&self) -> Option<(&AppId, &NodeName)> {
        match self {
            Self::Join { app, node, .. }
            | Self::Leave { app, node, .. }
            | Self::Count { app, node, .. }
            | Self::SignIn { app, node, .. }
            | Self::SignOut { app, node, .. }
            | Self::Connections { app, node, .. }
            | Self::Admit { app, node, .. } => Some((app, node)),
            _ => None,
        }
    }

    /// Returns the step's app, or `None` if it belongs to the installation.
    #[must_use]
    pub fn app(&self) -> Option<&AppId> {
        match self {
            Self::Publish { app, .. }
            | Self::Join { app, .. }
            | Self::Leave { app, .. }
            | Self::PresenceSnapshot { app, .. }
            | Self::UserCounts { app, .. }
            | Self::Count { app, .. }
            | Self::RemoteSubscriptions { app, .. }
            | Self::AllRemoteSubscriptions { app, .. }
            | Self::SignIn { app, .. }
            | Self::SignOut { app, .. }
            | Self::Online { app, .. }
            | Self::Admit { app, .. }
            | Self::Connections { app, .. }
            | Self::RemoteConnections { app, .. }
            | Self::Cached { app, .. }
            | Self::Enlist { app, .. }
            | Self::Enlisted { app }
            | Self::ConnectionsByNode { app }
            | Self::Reap { app, .. } => Some(app),
            _ => None,
        }
    }
}

/// The answer to a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The step is done.
    Done,
    /// The outcome of a publish.
    Published(Published),
    /// The members of a channel with the new one, if that was asked.
    Joined {
        /// Whether no node had the user there before.
        added: bool,
        /// The members.
        snapshot: PresenceSnapshot,
    },
    /// The channel has reached its limit of users.
    Full,
    /// Whether something began or ended over all nodes.
    Changed(bool),
    /// The members of a channel.
    PresenceSnapshot(PresenceSnapshot),
    /// Numbers, one for each that was asked for.
    Numbers(Vec<usize>),
    /// Subscribed connections of a channel over all nodes, before and after.
    Counted {
        /// Before.
        before: usize,
        /// After.
        after: usize,
    },
    /// Channels and their subscribed connections; or nodes and an app's connections there.
    Counts(Vec<(String, usize)>),
    /// The nodes that the back end knows.
    Census {
        /// How many nodes receive the topic of all nodes.
        listening: usize,
        /// Nodes whose lease has not run out.
        live: Vec<String>,
    },
    /// Which users are signed in, in the order of the query.
    Online {
        /// The position at which that was so.
        position: Position,
        /// One value for each user.
        online: Vec<bool>,
    },
    /// The event that a cache channel keeps.
    Cached(Option<CachedMessage>),
    /// The answer to a heartbeat.
    Heartbeat {
        /// The time of the answer.
        now: Moment,
        /// Nodes whose lease has not run out.
        live: Vec<String>,
        /// Nodes whose lease has run out and that may have left entries.
        dead: Vec<String>,
    },
    /// Names.
    Names(Vec<String>),
    /// What was removed of a dead node.
    Reaped(Reaped),
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

/// The entries of a dead node that were removed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reaped {
    /// Users who are on these presence channels on no other node.
    pub removed: Vec<(String, UserId)>,
    /// Channels that no longer have subscribed connections.
    pub vacated: Vec<String>,
    /// Channels that have fewer subscribed connections.
    pub counted: Vec<String>,
    /// Whether there is more.
    pub more: bool,
}
