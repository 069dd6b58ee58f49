//! How much memory may wait for clients that read slowly: on a shard, for an app and for a network.
//! Over a bound the largest holders are closed, and all others stay.

use std::collections::HashMap;
use std::sync::Arc;

use fanfare_protocol::CloseCode;
use tokio::time::Instant;

use crate::app::App;
use crate::budget::Network;
use crate::connection::Connection;
use crate::error::Refusal;
use crate::shard::State;
use crate::sparse::ShrinkIfSparse;

/// Empty entries for which a map keeps room after a burst.
const ENTRIES_KEPT: usize = 1024;

/// The bytes that one connection's outbox answers for.
#[derive(Debug)]
struct Holder {
    slot: usize,
    bytes: usize,
    app: *const App,
    network: Option<Network>,
}

impl Holder {
    fn of((slot, connection): (usize, &Connection)) -> Option<Self> {
        let bytes = connection.share();
        (bytes > 0).then(|| Self {
            slot,
            bytes,
            app: Arc::as_ptr(&connection.app),
            network: connection.payer.network(),
        })
    }
}

/// Returns whether a holder must be closed because `held` is over the bound. One answer may be
/// longer than the bound, and its client would ask for it again and again: it stays if all others
/// are within the bound, and doesn't count against them.
fn is_over(held: &mut usize, max: usize, bytes: usize) -> bool {
    let others = held.saturating_sub(bytes);
    if bytes > max && others <= max {
        *held = others;
    }
    *held > max
}

impl State {
    /// Closes the largest holders if more waits on this shard than may. Otherwise this costs one
    /// comparison.
    pub(crate) fn relieve_at_once(&mut self) {
        if self.outgoing.buffers.held() > self.waiting.total && self.relieved {
            self.relieve(Instant::now());
            // If that didn't help, the next sweep tries again, and not the next event.
            self.relieved = self.outgoing.buffers.held() <= self.waiting.total;
        }
    }

    /// Closes the largest holders of the shard, and of each app and network over its bound.
    pub(crate) fn relieve(&mut self, now: Instant) {
        self.relieved = true;
        let limits = self.waiting;
        let mut total = self.outgoing.buffers.held();
        // No app or network holds more than the total.
        if total <= limits.least() {
            return;
        }
        let mut holders: Vec<_> = self.connections.iter().filter_map(Holder::of).collect();
        let mut apps: HashMap<*const App, usize> = HashMap::new();
        let mut networks: HashMap<Network, usize> = HashMap::new();
        for holder in &holders {
            *apps.entry(holder.app).or_default() += holder.bytes;
            if let Some(network) = holder.network {
                *networks.entry(network).or_default() += holder.bytes;
            }
        }
        holders.sort_unstable_by_key(|holder| std::cmp::Reverse(holder.bytes));
        let mut evicted = Evicted::default();
        for holder in holders {
            let of_app = apps.entry(holder.app).or_default();
            let mut of_network = holder
                .network
                .and_then(|network| networks.get_mut(&network));
            let is_over = |held: &mut usize, max| is_over(held, max, holder.bytes);
            let setting = if is_over(&mut total, limits.total) {
                "outbox.max_total_bytes"
            } else if is_over(of_app, limits.app) {
                "outbox.max_app_bytes"
            } else if of_network
                .as_deref_mut()
                .is_some_and(|held| is_over(held, limits.network))
            {
                "network.max_waiting_bytes"
            } else {
                continue;
            };
            total = total.saturating_sub(holder.bytes);
            *of_app = of_app.saturating_sub(holder.bytes);
            if let Some(of_network) = &mut of_network {
                **of_network = of_network.saturating_sub(holder.bytes);
            }
            evicted.count(setting, holder.bytes);
            self.evict(holder.slot, now);
        }
        evicted.log();
    }

    fn evict(&mut self, slot: usize, now: Instant) {
        let refusal = Refusal::new(
            CloseCode::OverCapacity,
            "Too much waits here for clients that read slowly, you among them: reconnect",
        );
        if let Some(connection) = self.connections.get_mut(slot) {
            connection.evict(&refusal, now, &mut self.outgoing.buffers);
        }
    }

    /// Frees memory that a burst needed.
    pub(crate) fn trim(&mut self) {
        self.outgoing.buffers.trim();
        self.channels.shrink_if_sparse();
        let last = self.connections.iter().next_back();
        let used = last.map_or(0, |(slot, _)| slot + 1);
        if self.connections.capacity() > 4 * used.max(ENTRIES_KEPT) {
            self.connections.shrink_to_fit();
        }
    }
}

/// The closed connections, for one log line.
#[derive(Debug, Default)]
struct Evicted {
    connections: usize,
    bytes: usize,
    settings: Vec<&'static str>,
}

impl Evicted {
    fn count(&mut self, setting: &'static str, bytes: usize) {
        self.connections += 1;
        self.bytes += bytes;
        if !self.settings.contains(&setting) {
            self.settings.push(setting);
        }
    }

    fn log(&self) {
        if self.connections > 0 {
            tracing::warn!(
                connections = self.connections,
                bytes = self.bytes,
                settings = self.settings.join(", "),
                "disconnecting the clients for which most waits: more waits for slow clients than may"
            );
        }
    }
}
