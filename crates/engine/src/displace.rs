//! Room for a new connection in an app that has used up its quota of connections: if one network
//! holds a large part of them, one of its connections is closed, on whichever node it is. So no
//! network keeps the clients of others out, however fast its own reconnect.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use fanfare_protocol::CloseCode;
use tokio::time::{Instant, timeout};

use crate::app::App;
use crate::budget::{Network, Payer, Resource};
use crate::connect::{NoPermits, large_share};
use crate::connection::Connection;
use crate::engine::Engine;
use crate::error::Refusal;
use crate::network_counts::{NetworkCounts, RemoteCounts};
use crate::node::Node;
use crate::permit::Permits;
use crate::shard::Shard;

/// A network gives way if it holds more than one part of this many of the quota.
const LARGE_PART: usize = 8;
/// How long a newcomer waits for the place of another connection, its turn included.
const DISPLACE_TIMEOUT: Duration = Duration::from_secs(3);

/// How many of an app's connections each network holds, over all nodes.
struct Shares {
    held: HashMap<Network, usize>,
    /// Whether every node is counted.
    complete: bool,
}

impl Shares {
    fn sum(here: &[(Network, usize)], remote: &RemoteCounts) -> Self {
        let mut held: HashMap<Network, usize> = here.iter().copied().collect();
        for (network, count) in remote.nodes.iter().flat_map(|node| &node.networks) {
            *held.entry(*network).or_default() += count;
        }
        Self {
            held,
            complete: remote.complete,
        }
    }

    /// Returns a network's connections. Those of a /48 count for as much less as it may hold more.
    fn of(&self, network: Network) -> usize {
        self.held.get(&network).copied().unwrap_or(0) / network.factor()
    }

    fn largest(&self) -> Option<(Network, usize)> {
        let of = |network: &Network| (*network, self.of(*network));
        // Of two that hold the same, the narrower: fewer clients share it.
        self.held
            .keys()
            .map(of)
            .max_by_key(|(network, held)| (*held, std::cmp::Reverse(network.factor())))
    }
}

impl Engine {
    /// Closes one connection of the network that holds most of an app's, on whichever node, and
    /// returns its place. `local` are the newcomer's permits on this node, if it has room.
    ///
    /// # Errors
    ///
    /// Returns a [`Refusal`] if no network holds a large part of `quota`, if the newcomer's network
    /// holds more than few itself, or if no place is free in time.
    pub(crate) async fn displace(
        &self,
        app: &Arc<App>,
        newcomer: &Payer,
        quota: usize,
        local: Option<Permits>,
    ) -> Result<Permits, NoPermits> {
        let displaced = self.displace_in_turn(app, newcomer, quota, local);
        let displaced = timeout(DISPLACE_TIMEOUT, displaced).await;
        displaced.unwrap_or(Err(NoPermits::Unsettled))
    }

    async fn displace_in_turn(
        &self,
        app: &Arc<App>,
        newcomer: &Payer,
        quota: usize,
        local: Option<Permits>,
    ) -> Result<Permits, NoPermits> {
        // Held across the awaits on purpose: one displacement at a time for each app, so each sees
        // the count that the last one left. It is an async lock that no hot path takes.
        let mut known = app.displacements.remote.lock().await;
        let mut remote = match known.take().filter(RemoteCounts::is_recent) {
            Some(remote) => remote,
            None => self.count_elsewhere(app).await,
        };
        let own: Vec<_> = newcomer.network().iter().flat_map(|n| n.all()).collect();
        let counts = self.node().with_counts(app, |counts| counts.named(&own));
        let here = counts.await;
        let has_any = |network| {
            here.iter()
                .any(|(named, held)| *named == network && *held > 0)
        };
        let shares = Shares::sum(&here, &remote);
        let own = own.iter().map(|own| shares.of(*own)).max().unwrap_or(0);
        let gives_way = |(_, held): &(Network, usize)| {
            // A network that has many itself must not take the place of others' clients.
            let is_small = own < large_share(quota).max(1) && own + 1 < *held;
            held.saturating_mul(LARGE_PART) > quota && is_small
        };
        let Some((network, _)) = shares.largest().filter(gives_way) else {
            *known = Some(remote);
            return Err(NoPermits::over(quota, &shares));
        };
        if has_any(network) {
            drop(local);
            // If no connection is found, the counts are out of date and are dropped.
            let displaced = self.node().displace(app, network).await;
            let permits = displaced.ok_or(NoPermits::Unsettled)?;
            *known = Some(remote);
            let charge = newcomer.charge(Resource::Connections, 1)?;
            self.node().note_arrival(app, newcomer).await;
            return Ok(permits.charged_to(charge));
        }
        let (Some(local), Some(node)) = (local, remote.holder_of(network)) else {
            return Err(NoPermits::Unsettled);
        };
        if !self
            .roster()
            .displace_remotely(app, &node.node, network)
            .await
        {
            return Err(NoPermits::Unsettled);
        }
        node.remove_one(network);
        *known = Some(remote);
        self.node().note_arrival(app, newcomer).await;
        // Counted whatever the quota: the other node keeps the place until this is known.
        Ok(local.counted(app.count_connection()))
    }

    async fn count_elsewhere(&self, app: &Arc<App>) -> RemoteCounts {
        let found = self.roster().remote_networks(app).await;
        RemoteCounts {
            nodes: found.nodes,
            complete: found.complete,
            counted: Instant::now(),
        }
    }
}

impl NoPermits {
    /// Refuses a connection over the app's quota. Stock clients never reconnect after the code of a
    /// quota, so if one network may have used it up they get another code.
    fn over(quota: usize, shares: &Shares) -> Self {
        let largest = shares.largest().map_or(0, |(_, held)| held);
        Self::OverQuota {
            quota,
            is_final: shares.complete && largest <= large_share(quota),
        }
    }
}

impl Node {
    /// Returns the networks that hold most of an app's connections on this node and how many each
    /// holds, counted within the last second. Waits for all shards.
    pub async fn largest_networks(&self, app: &Arc<App>) -> Vec<(Network, usize)> {
        self.with_counts(app, |counts| counts.named(&[])).await
    }

    /// Closes one connection of a network on this node, and returns its permits, or `None` if there
    /// is no such connection. Waits for its shard.
    pub async fn displace(&self, app: &Arc<App>, network: Network) -> Option<Permits> {
        let mut known = app.displacements.here.lock().await;
        let permits = self.close_one_of(app, network).await;
        match (&permits, &mut *known) {
            (Some(permits), Some(counts)) => counts.remove(permits.network()),
            _ => *known = None,
        }
        permits
    }

    /// Counts a newcomer that took a place.
    async fn note_arrival(&self, app: &Arc<App>, newcomer: &Payer) {
        if let Some(counts) = &mut *app.displacements.here.lock().await {
            counts.add(newcomer.network());
        }
    }

    /// Runs `read` on the counts of this node, which are made if there are no recent ones.
    async fn with_counts<T>(&self, app: &Arc<App>, read: impl FnOnce(&NetworkCounts) -> T) -> T {
        let mut known = app.displacements.here.lock().await;
        let counts = match known.take().filter(NetworkCounts::is_recent) {
            Some(counts) => counts,
            None => self.count_networks_of(app).await,
        };
        read(known.insert(counts))
    }

    async fn count_networks_of(&self, app: &Arc<App>) -> NetworkCounts {
        let app = Arc::clone(app);
        let of_shards = self.ask(move |shard| shard.count_by_network(&app)).await;
        let mut held: HashMap<Network, usize> = HashMap::new();
        for (network, count) in of_shards.into_iter().flatten() {
            *held.entry(network).or_default() += count;
        }
        NetworkCounts {
            held,
            counted: Instant::now(),
        }
    }

    async fn close_one_of(&self, app: &Arc<App>, network: Network) -> Option<Permits> {
        for index in 0..self.deliverer.inboxes().len() {
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
            let network = network_of(connection, app);
            for network in network.iter().flat_map(|network| network.all()) {
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
        let is_of = |found: Network| found.all().any(|found| found == network);
        let (slot, _) = from_the_end.find(|(_, c)| network_of(c, app).is_some_and(is_of))?;
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
