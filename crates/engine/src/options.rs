//! The settings of a node.

use std::sync::Arc;
use std::time::Duration;

use fanfare_protocol::{Quotas, UserHashKey};

use crate::budget::Budgets;
use crate::trace::SpanSink;

/// The settings of a node.
#[derive(Debug, Clone)]
pub struct Options {
    /// Number of threads that own connections.
    pub shards: usize,
    /// Silence after which the client should send a ping, and the server does.
    pub activity_timeout: Duration,
    /// Silence after the server's PING that ends the connection.
    pub pong_timeout: Duration,
    /// Interval at which each WebSocket gets a PING, so that no proxy takes it for idle; `None` for
    /// never.
    pub ping_interval: Option<Duration>,
    /// Most bytes of live events that may wait for one connection.
    pub outbox_bytes: usize,
    /// Most bytes that may wait for slow clients.
    pub max_waiting: WaitingLimits,
    /// Most bytes of a history that one subscription is sent.
    pub max_replay_bytes: usize,
    /// Most messages of one connection that are handled a second, without client events that have a
    /// rate; 0 for no limit.
    pub messages_per_second: u32,
    /// Most bytes of events that may wait for one shard.
    pub inbox_bytes: usize,
    /// Most bytes that cache channels and histories of all apps keep.
    pub recent_events_bytes: usize,
    /// Most bytes of live events that all apps keep for operators who will watch.
    pub live_events_bytes: usize,
    /// Most connections of this node.
    pub max_connections: usize,
    /// Most channels to which one connection may be subscribed.
    pub max_subscriptions: usize,
    /// Bounds of the node, of each app and of each network of clients.
    pub budgets: Budgets,
    /// The key under which users are hashed for usage, the same on all nodes.
    pub user_hash_key: UserHashKey,
    /// The quotas of all apps together.
    pub quotas: Quotas,
    /// Most entries of an app's transition log. Further transitions are counted as refused.
    pub max_transitions: usize,
    /// Where spans of sampled publishes are recorded.
    pub spans: Arc<dyn SpanSink>,
}

/// Most bytes that may wait for connections that read slowly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitingLimits {
    /// For all of them.
    pub total: usize,
    /// For the connections of one app.
    pub app: usize,
    /// For the connections from one network: an IPv4 address, or an IPv6 /64.
    pub network: usize,
}

impl WaitingLimits {
    /// Returns a shard's part, because connections are spread evenly over the shards.
    pub(crate) fn of_shard(options: &Options) -> Self {
        let Self {
            total,
            app,
            network,
        } = options.max_waiting;
        let part = |bytes: usize| bytes / options.shards.max(1);
        Self {
            total: part(total),
            app: part(app),
            network: part(network),
        }
    }

    pub(crate) fn least(&self) -> usize {
        self.total.min(self.app).min(self.network)
    }
}
