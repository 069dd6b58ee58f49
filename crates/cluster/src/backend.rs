//! What nodes share: a memory that takes atomic steps, and topics on which it tells nodes what happened. Redis is one; the
//! tests have another, which delays, drops and splits.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fanfare_engine::{
    BoxFuture, HistoryQuery, IdempotencyKey, Position, PresenceSnapshot, Retention,
};
use fanfare_protocol::presence::Member;
use fanfare_protocol::{AppId, HistoryPosition, Unrecovered, UserId};
use tokio::sync::mpsc;

/// Makes connections to what nodes share.
pub trait Backend: Send + Sync + 'static {
    /// Connects. Gives up by itself after a few seconds.
    fn connect(&self) -> BoxFuture<'_, Result<Connected, ConnectError>>;
}

/// Why there is no connection, in words for an operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConnectError(pub String);

/// A connection, and what comes over it.
pub struct Connected {
    /// Takes steps.
    pub connection: Arc<dyn Connection>,
    /// What is told on the topics that are listened to, in order. Ends, or says so, when the connection is lost.
    pub incoming: mpsc::UnboundedReceiver<Incoming>,
}

/// What comes over a connection.
#[derive(Debug)]
pub enum Incoming {
    /// Something was told.
    Told {
        /// The topic's name.
        topic: String,
        /// What it was.
        message: Bytes,
        /// Gives back the room that it takes.
        room: IncomingBytes,
    },
    /// The connection is lost: why.
    Lost(String),
}

/// Room that a message takes until it was delivered. What no node takes from the connection must not grow without bound.
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

/// One connection to what nodes share. Dropping it ends it.
pub trait Connection: Send + Sync + 'static {
    /// Takes steps, one after the other, each atomic. Steps of one app are taken in the order in which the futures were
    /// first polled. If the connection breaks, any number of them may have been taken.
    fn take(&self, steps: Vec<Step>) -> BoxFuture<'static, Vec<Result<Answer, StepError>>>;
}

/// Why a step has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// It came after its deadline, and was not taken.
    #[error("it came too late")]
    Late,
    /// It was refused; nothing was changed.
    #[error("it was refused: {0}")]
    Refused(String),
    /// What the node had said of the app is not there any more, so that nothing can be added to it; nothing was changed. The
    /// node has to say everything again, under another name.
    #[error(
        "what this node had said before is not there any more: the memory of what nodes share was lost, in whole or in part"
    )]
    Forgotten,
    /// It was not taken, and this connection is of no use any more: something else serves it by now.
    #[error("it was not taken: {0}")]
    Unserved(String),
    /// The connection broke; it was taken or not.
    #[error("the connection broke: {0}")]
    Broken(String),
}

/// A moment on the clock of what nodes share, in microseconds since 1970. What comes later than its deadline is not done:
/// whoever asked has given up by then, or counts as dead.
pub type Moment = u64;

/// An event for the subscribers of one channel.
#[derive(Debug, Clone)]
pub struct Publication {
    /// The channel.
    pub channel: String,
    /// What nodes that listen to the channel are told.
    pub message: Bytes,
    /// Whether the channel keeps it.
    pub keep: Option<Keep>,
    /// Whether the channel's history holds it.
    pub history: Option<Retention>,
}

/// How an event is kept.
#[derive(Debug, Clone, Copy)]
pub struct Keep {
    /// For how long.
    pub ttl: Duration,
    /// Most bytes that all kept events of the app take; the oldest go first.
    pub max_bytes: usize,
}

/// A node is known by the name of its connection: another connection is another node, and the one before dies.
pub type NodeName = Arc<str>;

/// What can be asked. A step belongs to an app, or to the installation.
#[derive(Debug, Clone)]
pub enum Step {
    /// Tell events, all or none. Answered with `Published`.
    Publish {
        /// The app.
        app: AppId,
        /// The events.
        tellings: Vec<Publication>,
        /// What the request is known by.
        once: Option<IdempotencyKey>,
        /// When it is too late.
        deadline: Moment,
    },
    /// `node` has a user on a presence channel. Answered with `Joined`; told as `Added` if no node had.
    Join {
        /// The app.
        app: AppId,
        /// Which node.
        node: NodeName,
        /// The channel.
        channel: String,
        /// Who.
        member: Member,
        /// Users allowed.
        max: usize,
        /// Whether the answer says who is there.
        view: bool,
        /// When it is too late.
        deadline: Moment,
    },
    /// `node` has a user on a presence channel no more. Answered with `PresenceChange`; told as `Removed` if no node has.
    Leave {
        /// The app.
        app: AppId,
        /// Which node.
        node: NodeName,
        /// The channel.
        channel: String,
        /// Who.
        user: UserId,
        /// When it is too late.
        deadline: Moment,
    },
    /// Who is on a presence channel. Answered with `PresenceSnapshot`.
    View {
        /// The app.
        app: AppId,
        /// The channel.
        channel: String,
    },
    /// How many users are on each of some presence channels. Answered with `Numbers`.
    UserCounts {
        /// The app.
        app: AppId,
        /// The channels.
        channels: Vec<String>,
    },
    /// `node` has so many subscribed connections of a channel. Answered with `Counted`; told as `Count` if wanted.
    Count {
        /// The app.
        app: AppId,
        /// Which node.
        node: NodeName,
        /// The channel.
        channel: String,
        /// Subscribed connections.
        count: usize,
        /// Whether subscribers are told how many there are over all nodes.
        tell: bool,
        /// When it is too late.
        deadline: Moment,
    },
    /// Subscribed connections of a channel on nodes other than `node`. Answered with `Numbers`, one.
    Elsewhere {
        /// The app.
        app: AppId,
        /// Which node.
        node: NodeName,
        /// The channel.
        channel: String,
    },
    /// The same for all channels whose names start with `prefix`, and for all presence channels that have members, also where it is 0.
    /// Answered with `Counts`.
    AllElsewhere {
        /// The app.
        app: AppId,
        /// Which node.
        node: NodeName,
        /// How their names start.
        prefix: String,
    },
    /// `node` has a signed-in user. Answered with `PresenceChange`; told as `Online` if no node had.
    Enter {
        /// The app.
        app: AppId,
        /// Which node.
        node: NodeName,
        /// Who.
        user: UserId,
        /// When it is too late.
        deadline: Moment,
    },
    /// `node` has a signed-in user no more. Answered with `PresenceChange`; told as `Offline` if no node has.
    Exit {
        /// The app.
        app: AppId,
        /// Which node.
        node: NodeName,
        /// Who.
        user: UserId,
        /// When it is too late.
        deadline: Moment,
    },
    /// Which of some users are signed in. Answered with `Online`.
    Online {
        /// The app.
        app: AppId,
        /// Who.
        users: Vec<UserId>,
    },
    /// `node` has `change` connections of an app more than it said, or fewer; and one more, unless there are `max` over all
    /// nodes then. Answered with `PresenceChange`.
    Admit {
        /// The app.
        app: AppId,
        /// Which node.
        node: NodeName,
        /// What has changed since it said something.
        change: i64,
        /// Connections allowed.
        max: usize,
        /// When it is too late.
        deadline: Moment,
    },
    /// `node` has so many connections of an app. Answered with `Done`.
    Connections {
        /// The app.
        app: AppId,
        /// Which node.
        node: NodeName,
        /// Connections.
        count: usize,
        /// When it is too late.
        deadline: Moment,
    },
    /// Connections of an app on nodes other than `node`. Answered with `Numbers`, one.
    ConnectionsElsewhere {
        /// The app.
        app: AppId,
        /// Which node.
        node: NodeName,
    },
    /// What a cache channel keeps. Answered with `Kept`.
    Cached {
        /// The app.
        app: AppId,
        /// The channel.
        channel: String,
    },
    /// What a channel's history holds, which begins now if there is none. Answered with `History`.
    History {
        /// The app.
        app: AppId,
        /// The channel.
        channel: String,
        /// What of it.
        query: HistoryQuery,
        /// Of which rules it is: what was recorded under others is not there any more.
        rules: u64,
        /// At most so many bytes of the last events, or of all after a position; of these all or none.
        room: usize,
    },
    /// `node` lives, and tells all nodes so. Answered with `Beat`. One that counts as dead by now comes too late.
    Beat {
        /// Which node.
        node: NodeName,
        /// Whether it has not lived before.
        first: bool,
        /// For how long it counts as alive.
        lease: Duration,
        /// What all nodes are told.
        message: Bytes,
    },
    /// How many nodes listen to what all nodes are told, and which count as alive. Answered with `Census`.
    Census,
    /// Tell all nodes something. Answered with `Done`.
    TellNodes {
        /// What.
        message: Bytes,
        /// When it is too late.
        deadline: Moment,
    },
    /// Adds `node` to the app's own list of those who say something of it. A step by which a node says something is answered with
    /// [`StepError::Forgotten`] while the node is not in that list. Answered with `Done`.
    Enlist {
        /// The app.
        app: AppId,
        /// Which node.
        node: NodeName,
        /// When it is too late.
        deadline: Moment,
    },
    /// Which nodes are in the app's own list. Answered with `Names`.
    Enlisted {
        /// The app.
        app: AppId,
    },
    /// How many connections each node has of an app. Answered with `Counts`, by the nodes' names.
    ConnectionsByNode {
        /// The app.
        app: AppId,
    },
    /// `node` will say something of an app: what a dead node has left is looked for there. Answered with `Done`.
    Register {
        /// The app.
        app: AppId,
        /// Which node.
        node: NodeName,
        /// When it is too late.
        deadline: Moment,
    },
    /// Of which apps a node has said something. Answered with `Names`.
    Apps {
        /// Which node.
        node: NodeName,
    },
    /// Take it on to clear away what a dead node has left. Answered with `Numbers`: 1, or 0 if another node does.
    Claim {
        /// The dead node.
        node: NodeName,
        /// For how long nobody else does.
        lease: Duration,
    },
    /// Clear away some of what a node has left in an app. Answered with `Reaped`; told as if the node had said it. When nothing
    /// is left the node is taken from the app's own list.
    Reap {
        /// The app.
        app: AppId,
        /// The dead node.
        node: NodeName,
    },
    /// All that a dead node has left is cleared away; or one that ends has left nothing. Answered with `PresenceChange`: whether the
    /// node was known until now.
    Forget {
        /// Which node.
        node: NodeName,
    },
    /// Be told what happens on a topic from now on. Answered with `Done`.
    Listen {
        /// The topic's name.
        topic: String,
    },
    /// Be told no more. Answered with `Done`.
    Unlisten {
        /// The topic's name.
        topic: String,
    },
}

impl Step {
    /// The app of which a node says something of itself by this step, and the node. What one node says is taken in order.
    #[must_use]
    pub fn says(&self) -> Option<(&AppId, &NodeName)> {
        match self {
            Self::Join { app, node, .. }
            | Self::Leave { app, node, .. }
            | Self::Count { app, node, .. }
            | Self::Enter { app, node, .. }
            | Self::Exit { app, node, .. }
            | Self::Connections { app, node, .. }
            | Self::Admit { app, node, .. } => Some((app, node)),
            _ => None,
        }
    }

    /// The app that it is of; none if it is of the installation.
    #[must_use]
    pub fn app(&self) -> Option<&AppId> {
        match self {
            Self::Publish { app, .. }
            | Self::Join { app, .. }
            | Self::Leave { app, .. }
            | Self::View { app, .. }
            | Self::UserCounts { app, .. }
            | Self::Count { app, .. }
            | Self::Elsewhere { app, .. }
            | Self::AllElsewhere { app, .. }
            | Self::Enter { app, .. }
            | Self::Exit { app, .. }
            | Self::Online { app, .. }
            | Self::Admit { app, .. }
            | Self::Connections { app, .. }
            | Self::ConnectionsElsewhere { app, .. }
            | Self::Cached { app, .. }
            | Self::History { app, .. }
            | Self::Enlist { app, .. }
            | Self::Enlisted { app }
            | Self::ConnectionsByNode { app }
            | Self::Reap { app, .. } => Some(app),
            _ => None,
        }
    }
}

/// What a step is answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is done.
    Done,
    /// What became of events.
    Published(Published),
    /// Who is on a channel, the new member included, if that was asked; `edge` says that no node had them before.
    Joined {
        /// Whether no node had them before.
        edge: bool,
        /// Who is there.
        view: PresenceSnapshot,
    },
    /// The channel has as many users as it may have.
    Full,
    /// Whether something has begun or ended over all nodes.
    Changed(bool),
    /// Who is on a channel.
    PresenceSnapshot(PresenceSnapshot),
    /// Numbers, as many as were asked for.
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
    /// Who is there.
    Census {
        /// How many nodes listen to what all nodes are told.
        listening: usize,
        /// Nodes whose lease runs.
        live: Vec<String>,
    },
    /// Which users are signed in, in the order in which they were asked for.
    Online {
        /// When that was so.
        position: Position,
        /// For each user.
        online: Vec<bool>,
    },
    /// What is kept.
    Kept(Option<Kept>),
    /// What a history holds.
    History(HistoryPage),
    /// Who lives.
    Beat {
        /// When that was so.
        now: Moment,
        /// Nodes whose lease runs.
        live: Vec<String>,
        /// Nodes whose lease has run out, and who have left something.
        dead: Vec<String>,
    },
    /// Names.
    Names(Vec<String>),
    /// What was cleared away.
    Reaped(Reaped),
}

/// What became of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// They were told.
    Now,
    /// They were told before: the same request came before.
    Before,
    /// What the request is known by stood for another one.
    OtherRequest,
}

/// An event that a cache channel keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// For how much longer.
    pub ttl: Duration,
    /// As it was told.
    pub message: Bytes,
}

/// What a history holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryPage {
    /// Where it is at this moment.
    pub position: HistoryPosition,
    /// The position of the newest event; later ones are not in here.
    pub newest: Position,
    /// The events, as they were told; or why there are none.
    pub messages: Result<Vec<Bytes>, Unrecovered>,
}

/// What was cleared away of a dead node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reaped {
    /// Users who were on presence channels of no other node.
    pub removed: Vec<(String, UserId)>,
    /// Channels that have subscribed connections no more.
    pub vacated: Vec<String>,
    /// Channels that have fewer subscribed connections.
    pub counted: Vec<String>,
    /// Whether there is more.
    pub more: bool,
}
