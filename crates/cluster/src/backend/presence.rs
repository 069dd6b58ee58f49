//! The part of a back end that knows what each node reports of itself: members of presence channels,
//! signed-in users, and numbers of subscriptions and connections.

use std::fmt;
use std::time::Duration;

use fanfare_engine::{BoxFuture, DueTransitions, Online, PresenceSnapshot, Present, Transition};
use fanfare_protocol::presence::Member;
use fanfare_protocol::{AppId, UserId};
use tokio::sync::oneshot;

use super::{BackendError, Call, Moment, NodeName};

/// Knows what the nodes report, and what follows from that over all of them.
pub trait Presence: Send + Sync + 'static {
    /// Takes reports of a node, one after the other and each atomically, and hands each answer to
    /// its [`Reply`]. Returns one result for each report: after an error its reply is dropped. A
    /// report of a node that isn't in the app's list is [`BackendError::Forgotten`].
    fn report(
        &self,
        node: &NodeName,
        deadline: Moment,
        reports: Vec<Report>,
    ) -> BoxFuture<'static, Vec<Result<(), BackendError>>>;

    /// Reads the members of a presence channel.
    fn snapshot(&self, app: &AppId, channel: &str) -> Call<PresenceSnapshot>;

    /// Counts the users on each of some presence channels.
    fn user_counts(&self, app: &AppId, channels: Vec<String>) -> Call<Vec<usize>>;

    /// Counts the subscribed connections of a channel on nodes other than `node`.
    fn remote_subscriptions(&self, app: &AppId, node: &NodeName, channel: &str) -> Call<usize>;

    /// Counts the same for all channels whose names start with `prefix`, and for all presence
    /// channels that have members, even where the number is 0.
    fn all_remote_subscriptions(
        &self,
        app: &AppId,
        node: &NodeName,
        prefix: &str,
    ) -> Call<Vec<(String, usize)>>;

    /// Reads which of some users are signed in.
    fn online(&self, app: &AppId, users: Vec<UserId>) -> Call<Online>;

    /// Counts the connections of an app on nodes other than `node`.
    fn remote_connections(&self, app: &AppId, node: &NodeName) -> Call<usize>;

    /// Reads how many connections each node has of an app.
    fn connections_by_node(&self, app: &AppId) -> Call<Vec<(String, usize)>>;

    /// Reads at most `max` entries of an app's transition log that are due. Drops those whose channel
    /// or member is present again: nodes that log nothing, as other versions do, cancel no entries.
    fn due_transitions(&self, app: &AppId, max: usize) -> Call<DueTransitions>;

    /// Removes the entries that are still due at the same time.
    fn settle_transitions(&self, app: &AppId, handled: Vec<Transition>) -> Call<()>;

    /// Adds an end for each of these channels and members that is absent, as `rules` say. From now on
    /// stamps are higher than `newest_stamp`.
    fn arm_transitions(
        &self,
        app: &AppId,
        present: Vec<Present>,
        newest_stamp: i64,
        rules: LogRules,
    ) -> Call<()>;

    /// Removes an app's transition log.
    fn forget_transitions(&self, app: &AppId) -> Call<()>;
}

/// A node's report of a change in an app.
#[derive(Debug)]
pub struct Report {
    /// The app.
    pub app: AppId,
    /// The change.
    pub change: Change,
}

/// How a change is written to the app's transition log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogRules {
    /// Whether channels are logged.
    pub channels: bool,
    /// Whether members are logged.
    pub members: bool,
    /// How long a client that left may take to return.
    pub grace: Duration,
    /// The most entries that the log may have.
    pub max_entries: usize,
}

/// A change of what a node has.
#[derive(Debug)]
pub enum Change {
    /// The node has a user on a presence channel. Announced as `Added` if no node had the user
    /// there.
    Join {
        /// The channel.
        channel: String,
        /// The user.
        member: Member,
        /// Users allowed.
        max: usize,
        /// Whether the answer has the channel's members.
        wants_members: bool,
        /// How the change is logged.
        log: LogRules,
        /// Receives the outcome.
        reply: Reply<Joined>,
    },
    /// The node no longer has a user on a presence channel. Announced as `Removed` if no node has
    /// the user there.
    Leave {
        /// The channel.
        channel: String,
        /// The user.
        user: UserId,
        /// How the change is logged.
        log: LogRules,
        /// Receives whether no node has the user there any more.
        reply: Reply<bool>,
    },
    /// The node has this many subscribed connections of a channel.
    Subscriptions {
        /// The channel.
        channel: String,
        /// Subscribed connections.
        count: usize,
        /// Whether subscribers get the number over all nodes, as `Count`.
        announce: bool,
        /// Whether subscribers came and went since the last report, which is logged if no node has
        /// any.
        visited: bool,
        /// How the change is logged.
        log: LogRules,
        /// Receives the numbers over all nodes.
        reply: Reply<Counted>,
    },
    /// The node has a signed-in user. Announced as `Online` if no node had the user.
    SignIn {
        /// The user.
        user: UserId,
        /// Receives whether no node had the user.
        reply: Reply<bool>,
    },
    /// The node no longer has a signed-in user. Announced as `Online` with `online` false if no
    /// node has the user.
    SignOut {
        /// The user.
        user: UserId,
        /// Receives whether no node has the user any more.
        reply: Reply<bool>,
    },
    /// The node has this many connections of the app.
    Connections {
        /// Connections.
        count: usize,
    },
    /// The node has `change` connections of the app more than it reported (fewer, if negative), and
    /// one more unless there are `max` over all nodes then.
    Admit {
        /// The change since the last report.
        change: i64,
        /// The limit of connections.
        max: usize,
        /// Receives whether the one more was admitted.
        reply: Reply<bool>,
    },
}

/// The outcome of a join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Joined {
    /// The user is on the channel.
    Member {
        /// Whether no node had the user there before.
        added: bool,
        /// The members with the user, if they were wanted, and their position.
        snapshot: PresenceSnapshot,
    },
    /// The channel has reached its limit of users.
    Full,
}

/// Subscribed connections of a channel over all nodes, before and after a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    /// Before.
    pub before: usize,
    /// After.
    pub after: usize,
}

/// Receives the answer to a report. It is dropped if there is none.
pub struct Reply<T>(Option<Box<dyn FnOnce(T) + Send>>);

impl<T> Reply<T> {
    /// Returns a reply that calls `receive`.
    pub fn new(receive: impl FnOnce(T) + Send + 'static) -> Self {
        Self(Some(Box::new(receive)))
    }

    /// Returns a reply that ignores the answer.
    #[must_use]
    pub fn ignore() -> Self {
        Self(None)
    }

    /// Hands the answer over.
    pub fn send(self, answer: T) {
        if let Some(receive) = self.0 {
            receive(answer);
        }
    }
}

impl<T: Send + 'static> From<oneshot::Sender<T>> for Reply<T> {
    fn from(sender: oneshot::Sender<T>) -> Self {
        Self::new(|answer| {
            // The caller may have gone.
            let _ = sender.send(answer);
        })
    }
}

impl<T> fmt::Debug for Reply<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reply")
    }
}
