//! The part of a back end that knows the nodes: their leases, where they have entries, and the
//! removal of what dead nodes left.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fanfare_protocol::{AppId, UserId};

use super::{Call, LogRules, Moment, NodeName};

/// For how long after its last heartbeat an installation keeps the names that nodes share from another one. Longer than
/// an outage from which nodes return by themselves, so that a stranger can't take the names meanwhile; short enough to
/// wait for, where a new store replaces another one.
pub const INSTALLATION_LEASE: Duration = Duration::from_mins(1);

/// Knows the nodes and removes the entries of dead ones.
pub trait Membership: Send + Sync + 'static {
    /// Notes that a node is alive, and sends its message to all nodes. Refused as late if the node
    /// counts as dead by now, and as [`BackendError::OtherInstallation`](super::BackendError::OtherInstallation) if a
    /// node of another installation has sent one in the last [`INSTALLATION_LEASE`].
    fn heartbeat(&self, renewal: LeaseRenewal) -> Call<Census>;

    /// Reads which nodes count as alive.
    fn live_nodes(&self) -> Call<LiveNodes>;

    /// Adds an app to the list of `node`, in which a reaper looks for what a dead node has left.
    fn register(&self, app: &AppId, node: &NodeName, deadline: Moment) -> Call<()>;

    /// Reads the apps in which a node may have entries.
    fn apps(&self, node: &NodeName) -> Call<Vec<String>>;

    /// Adds `node` to the app's own list of nodes, without which the node's reports are refused.
    fn enlist(&self, app: &AppId, node: &NodeName, deadline: Moment) -> Call<()>;

    /// Reads the app's own list of nodes.
    fn enlisted(&self, app: &AppId) -> Call<Vec<String>>;

    /// Claims the reaping of a dead node, which no other node can claim for `lease`. Returns whether
    /// no other node has claimed it.
    fn claim(&self, node: &NodeName, lease: Duration) -> Call<bool>;

    /// Removes a part of what a node has left in an app; announced and logged as if the node had
    /// reported it. When nothing is left, the node is removed from the app's own list.
    fn reap(&self, app: &AppId, node: &NodeName, log: LogRules) -> Call<Reaped>;

    /// Removes a node that has nothing left from the list of all nodes, and returns whether it was
    /// in the list.
    fn forget(&self, node: &NodeName) -> Call<bool>;
}

/// What a heartbeat tells the back end.
#[derive(Debug, Clone)]
pub struct LeaseRenewal {
    /// The node's name.
    pub node: NodeName,
    /// Whether this is its first heartbeat under this name.
    pub first: bool,
    /// How long it counts as alive.
    pub lease: Duration,
    /// The message for all nodes.
    pub message: Bytes,
    /// The installation to which the node belongs: that of its store.
    pub installation: Arc<str>,
}

/// The nodes that the back end knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Census {
    /// The time of the answer.
    pub now: Moment,
    /// Nodes whose lease has not run out.
    pub live: Vec<String>,
    /// Nodes whose lease has run out and that may have left entries.
    pub dead: Vec<String>,
}

/// The nodes that count as alive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveNodes {
    /// How many nodes receive the topic of all nodes.
    pub receiving: usize,
    /// Nodes whose lease has not run out.
    pub names: Vec<String>,
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
