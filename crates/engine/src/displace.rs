//! Room for a newcomer in an app that has used up its quota of connections: where one network holds a large part of them, one
//! of its connections makes room. So no network keeps the clients of others out, however fast its own come back.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use fanfare_protocol::CloseCode;
use tokio::time::Instant;

use crate::app::App;
use crate::budget::{Network, Payer, Resource};
use crate::connection::Connection;
use crate::engine::Engine;
use crate::error::Refusal;
use crate::permit::{Largest, Permits};
use crate::shard::Shard;

/// A network makes room if it holds more than this part of the quota.
const LARGE_PART: usize = 8;
/// How long the network that was found to hold most is taken for it. Counting walks over all connections of the node.
const COUNTED_FOR: Duration = Duration::from_secs(1);

impl Engine {
    /// Closes one connection of the network that holds most of an app's, and hands over its permits. Returns `None` if no
    /// network holds a large part of `quota`, or the newcomer's own holds as much.
    pub(crate) async fn displace(
        &self,
        app: &Arc<App>,
        newcomer: &Payer,
        quota: usize,
    ) -> Option<Permits> {
        let charge = newcomer.charge(Resource::Connections, 1).ok()?;
        let mut known = app.displacements.0.lock().await;
        let is_recent = |largest: &Largest| largest.counted.elapsed() < COUNTED_FOR;
        let mut largest = match known.filter(is_recent) {
            Some(largest) => largest,
            None => self.largest_network_of(app).await?,
        };
        // With the newcomer, which is charged already.
        let own = newcomer.used_by_network(Resource::Connections);
        if largest.held.saturating_mul(LARGE_PART) <= quota || own >= largest.held {
            *known = Some(largest);
            return None;
        }
        let permits = self.close_one_of(app, largest.network).await;
        largest.held -= 1;
        // Where none was found, the count is of the past.
        *known = permits.is_some().then_some(largest);
        Some(permits?.charged_to(charge))
    }

    async fn largest_network_of(&self, app: &Arc<App>) -> Option<Largest> {
        let app = Arc::clone(app);
        let counts = self.ask(move |shard| shard.count_by_network(&app)).await;
        let mut held: HashMap<Network, usize> = HashMap::new();
        for (network, count) in counts.into_iter().flatten() {
            *held.entry(network).or_default() += count;
        }
        let (network, held) = held.into_iter().max_by_key(|(_, held)| *held)?;
        Some(Largest {
            network,
            held,
            counted: Instant::now(),
        })
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

/// The network of a connection that holds permits of an app.
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

    /// Closes a connection of a network. Its permits are free at once, though its client has still to answer.
    fn close_one_of(&self, app: &Arc<App>, network: Network) -> Option<Permits> {
        let mut state = self.state();
        // From the end, where those are that came last.
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
