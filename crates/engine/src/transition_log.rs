//! The transition log of an app: channels and members that have become present or absent over all
//! nodes, each with the time from which on receivers are told. A recorder reads the entries that are
//! due, compares them with what receivers were last told, and then settles them.
//!
//! The log holds states and no sequence of events: an entry that is read twice, or by two recorders,
//! says the same. So nothing is lost or told twice, whoever stops at whatever moment.

use fanfare_protocol::AppId;
use tokio::sync::watch;

use crate::bus::BoxFuture;
use crate::sequence::Generation;
use crate::transitions::{DueTransitions, Transition};

/// A channel or member that receivers were last told is present.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Present {
    /// The channel.
    pub channel: String,
    /// The user, for members of presence channels.
    pub user: Option<String>,
}

/// The other nodes don't answer, so nothing is known of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this node has no connection to the other nodes at the moment")]
pub struct TransitionLogUnavailable;

/// The outcome of a call to a transition log.
pub type LogResult<T> = Result<T, TransitionLogUnavailable>;

/// The transition logs of all apps: those of one node, or the ones that all nodes share. Entries are
/// written in the same step that decides the transition.
pub trait TransitionLog: Send + Sync + 'static {
    /// Reads at most `max` entries of an app that are due. They stay until they are settled.
    fn due<'a>(&'a self, app: &'a AppId, max: usize) -> BoxFuture<'a, LogResult<DueTransitions>>;

    /// Removes entries that were handled, unless they have become due at another time since they
    /// were read.
    fn settle<'a>(
        &'a self,
        app: &'a AppId,
        handled: Vec<Transition>,
    ) -> BoxFuture<'a, LogResult<()>>;

    /// Adds what receivers are owed after entries were lost: for each channel and member that they
    /// believe to be present and that is absent, an entry that is due after [`LOST_NODE_GRACE`],
    /// unless one waits already. From now on stamps are higher than `newest_stamp`, the highest one
    /// that the recorder knows of the app, even if the clock was set back. An entry that was read
    /// under a lower stamp is not to be settled, because nothing was decided by it.
    fn arm<'a>(
        &'a self,
        app: &'a AppId,
        present: Vec<Present>,
        newest_stamp: i64,
    ) -> BoxFuture<'a, LogResult<()>>;

    /// Removes all entries of an app whose transitions are no longer wanted.
    fn forget<'a>(&'a self, app: &'a AppId) -> BoxFuture<'a, LogResult<()>>;

    /// Returns the generation of the connection to the log, 0 before the first. Whenever it changes,
    /// entries may have been lost, and what receivers were told must be armed.
    fn generations(&self) -> watch::Receiver<Generation>;
}
