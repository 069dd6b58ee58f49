//! Bounds of the node, of an app and of a client's network, derived from several sections.

use fanfare_engine::{Bounds, Budgets, Resource};

use super::Config;
use crate::edge::xhr::PendingBounds;

/// Largest number of bytes of request bodies, of unfinished messages and of histories, for one network, however much
/// memory there is.
const MAX_NETWORK_BYTES: usize = 8 << 20;
/// The part of the bytes for subscriptions that notes about connections may take besides.
const LIFECYCLE_PART: usize = 8;

impl Config {
    /// Returns how many sessions may be pending, which are those whose client has sent one request only.
    pub(crate) fn pending_sessions(&self) -> PendingBounds {
        PendingBounds {
            app: self.connections.max_pending,
            network: self.network.max_pending,
        }
    }

    /// Returns the bounds of the node, of an app and of a client's network.
    pub(crate) fn budgets(&self) -> Budgets {
        let bodies = self.http.max_pending_body_bytes;
        let unfinished = self.websocket.max_unfinished_bytes;
        // One body or message of a client must fit. It takes up to twice its size while it is read.
        let fits_one = |bytes: usize| bytes.max(2 * self.websocket.max_message_bytes);
        let part = |bytes: usize| (bytes / 4).min(MAX_NETWORK_BYTES);
        let of_network = |bytes: usize| fits_one(part(bytes));
        let histories = self.outbox.max_total_replay_bytes;
        // One history must fit.
        let fits_history = |bytes: usize| bytes.max(self.outbox.max_replay_bytes);
        Budgets {
            node: Bounds::unlimited()
                .with(Resource::RequestBytes, bodies)
                .with(Resource::MessageBytes, unfinished)
                .with(Resource::SubscriptionBytes, self.memory.subscriptions)
                .with(Resource::HistoryBytes, fits_history(histories))
                .with(
                    Resource::LifecycleBytes,
                    self.memory.subscriptions / LIFECYCLE_PART,
                ),
            app: Bounds::unlimited()
                .with(Resource::MessageBytes, fits_one(unfinished / 2))
                .with(
                    Resource::SubscriptionBytes,
                    self.memory.subscriptions_of_app,
                )
                .with(
                    Resource::LifecycleBytes,
                    self.memory.subscriptions_of_app / LIFECYCLE_PART,
                ),
            network: Bounds::unlimited()
                .with(Resource::Connections, self.network.max_connections)
                .with(Resource::RequestBytes, of_network(bodies))
                .with(Resource::MessageBytes, of_network(unfinished))
                .with(Resource::Sockets, self.network.max_sockets)
                .with(Resource::HistoryBytes, fits_history(part(histories)))
                .with(
                    Resource::SubscriptionBytes,
                    self.network.max_subscription_bytes,
                )
                .with(
                    Resource::LifecycleBytes,
                    self.network.max_subscription_bytes / LIFECYCLE_PART,
                ),
        }
    }
}
