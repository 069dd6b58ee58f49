//! Room for a new connection in an app that has used up its quota of connections: if one network
//! holds a large part of them, one of its connections is closed. So no network keeps the clients of
//! others out, however fast its own reconnect.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use fanfare_protocol::CloseCode;
use tokio::time::Instant;

use crate::app::App;
use crate::budget::{Network, Payer, Resource};
use crate::connect::large_share;
use crate::connection::Connection;
use crate::engine::Engine;
use crate::error::Refusal;
use crate::permit::{Counts, Permits};
use crate::shard::Shard;

/// A network gives way if it holds more than one part of this many of the quota.
const LARGE_PART: usize = 8;
/// How long the count of the largest network is reused, because counting walks over all connections
/// of the node.
const COUNTED_FOR: Duration = Duration::from_secs(1);

impl Engine {
    /// Closes one connection of the network that holds most of an app's, waits for its shard, and
    /// returns its permits. Returns `None` if no network holds a large part of `quota`, or if the
    /// newcomer's network holds more than few itself.
    pub(crate) async fn displace(
        &self,
        app: &Arc<App>,
        newcomer: &Payer,
        quota: usize,
    ) -> Option<Permits> {
        let charge = newcomer.charge(Resource::Connections, 1).ok()?;
        // Held across the awaits on purpose: one displacement at a time for each app, so each sees
        // the count that the last one left. It is an async lock that no hot path takes.
        let mut known = app.displacements.0.lock().await;
        let is_recent = |counts: &Counts| counts.counted.elapsed() < COUNTED_FOR;
        let mut counts = match known.take().filter(is_recent) {
            Some(counts) => counts,
            None => self.count_networks_of(app).await,
        };
        let (network, held) = counts.largest()?;
        let own = newcomer.network().map_or(0, |network| counts.of(network));
        let is_large = held.saturating_mul(LARGE_PART) > quota;
        // A network that has many itself must not take the place of others' clients.
        let may_displace = is_large && own < large_share(quota).max(1) && own + 1 < held;
        let permits = if may_displace {
            self.close_one_of(app, network).await
        } else {
            None
        };
        if permits.is_some() {
            counts.moved(network, newcomer.network());
        }
        // If none was found, the count is out of date.
        *known = (permits.is_some() || !may_displace).then_some(counts);
        Some(permits?.charged_to(charge))
    }

    async fn count_networks_of(&self, app: &Arc<App>) -> Counts {
        let app = Arc::clone(app);
        let of_shards = self.ask(move |shard| shard.count_by_network(&app)).await;
        let mut held: HashMap<Network, usize> = HashMap::new();
        for (network, count) in of_shards.into_iter().flatten() {
            *held.entry(network).or_default() += count;
        }
        Counts {
            held,
            counted: Instant::now(),
        }
    }

    async fn close_one_of(&self, app: &Arc<App>, network: Network) -> Option<Permits> {
        for index in 0..self.deliverer().inboxes().len() {
            let app = Arc::clone(app);
            let closed = self.ask_one(index, move |shard| shard.close_one_of(&app, network));
            if let Some(permits) = closed.await.flatten() {
                return Some(permits);
            }
        }
        None
    }
}

/// Returns the network of a connection that holds permits of an app.
fn network_of(connection: &Connection, app: &Arc<App>) -> Option<Network> {
    let holds = connection.permits.is_some() && Arc::ptr_eq(&connection.app, app);
    connection.payer.network().filter(|_| holds)
}

impl Shard {
    fn count_by_network(&self, app: &Arc<App>) -> HashMap<Network, usize> {
        let mut counts = HashMap::new();
        for (_, connection) in &self.state().connections {
            if let Some(network) = network_of(connection, app) {
                *counts.entry(network).or_default() += 1;
            }
        }
        counts
    }

    /// Closes a connection of a network, and returns its permits, which are free at once although
    /// its client has yet to answer.
    fn close_one_of(&self, app: &Arc<App>, network: Network) -> Option<Permits> {
        let mut state = self.state();
        // From the end, where the newest connections mostly are.
        let mut from_the_end = state.connections.iter().rev();
        let (slot, _) = from_the_end.find(|(_, c)| network_of(c, app) == Some(network))?;
        let permits = state.connections[slot].permits.take();
        let refusal = Refusal::new(
            CloseCode::OverCapacity,
            format!(
                "The app has as many connections as it may have (limits.connections), and your network {network} the most of \
                 them: this one made room for a client of another network"
            ),
        );
        state.close(slot, &refusal, Instant::now());
        permits
    }
}
