//! Counters for metrics and usage. Each shard owns its counters as plain data and publishers have some for each thread,
//! so counting takes no lock and no memory that another core writes. [`Engine::stats`] adds them up when asked.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use fanfare_protocol::AppId;

use crate::app::App;
use crate::engine::Engine;
use crate::histogram::Histogram;
use crate::shard::Shard;
use crate::traffic::{BackendTraffic, ByTransport, ClientTraffic, Closed, Recoveries};

/// What an app did on this node since the node's start.
#[derive(Debug, Clone)]
pub struct AppStats {
    /// The app.
    pub app: Arc<App>,
    /// Its connections now.
    pub connections: usize,
    /// What its backends published.
    pub backend: BackendTraffic,
    /// What its clients did and got.
    pub clients: ClientTraffic,
}

/// What a node did since its start, and what it holds now.
#[derive(Debug, Default, Clone)]
pub struct NodeStats {
    /// The apps that did anything.
    pub apps: Vec<AppStats>,
    /// What clients of all apps did and got, deleted apps included.
    pub clients: ClientTraffic,
    /// What backends of all apps published.
    pub backend: BackendTraffic,
    /// Connections now.
    pub connections: ByTransport,
    /// Connections that were opened.
    pub opened: ByTransport,
    /// Connections that have ended, by who closed them.
    pub closed: BTreeMap<Closed, u64>,
    /// Subscriptions now.
    pub subscriptions: usize,
    /// Channels with subscribers on this node now.
    pub channels: usize,
    /// Bytes written to sockets and sessions.
    pub written_bytes: u64,
    /// Connections closed because they read too slowly.
    pub slow_consumers: u64,
    /// Recoveries of missed events.
    pub recoveries: Recoveries,
    /// From the publish to the write of its events, in seconds.
    pub write_delay: Histogram,
    /// Bytes of events in the inboxes of all shards now.
    pub inbox_bytes: usize,
    /// Most bytes of events that a shard took from its inbox at once.
    pub largest_batch: usize,
    /// Bytes of memory that wait in blocked outboxes now.
    pub outbox_bytes: usize,
}

/// A node's connection to the other nodes.
#[derive(Debug, Clone)]
pub struct ClusterStats {
    /// Whether this node is connected.
    pub connected: bool,
    /// Times that the connection was lost.
    pub gaps: u64,
    /// Time until a publish was accepted, in seconds.
    pub publish: Histogram,
}

/// A shard's part of [`NodeStats`].
struct ShardPart {
    /// Its `clients` are those of deleted apps alone; `apps` has the others.
    stats: NodeStats,
    apps: Vec<(Arc<App>, ClientTraffic)>,
}

impl Engine {
    /// Returns how this node is connected to the others, or `None` on a node by itself.
    #[must_use]
    pub fn cluster_stats(&self) -> Option<ClusterStats> {
        let deliverer = self.deliverer();
        deliverer.is_shared().then(|| ClusterStats {
            connected: self.unready().is_none(),
            gaps: u64::from(deliverer.generation().saturating_sub(1)),
            publish: self.bus_delay.snapshot(),
        })
    }

    /// Returns how many other nodes have ended without leaving, of those that this node cleared away.
    #[must_use]
    pub fn lost_nodes(&self) -> u64 {
        self.node().lost_nodes()
    }

    /// Returns how many connections were closed because they read too slowly, since the node's start.
    pub async fn slow_consumers(&self) -> u64 {
        let closed = self.ask(|shard: &Shard| shard.state().outgoing.slow_consumers);
        closed.await.into_iter().sum()
    }

    /// Returns what this node did and holds. Waits for all shards.
    pub async fn stats(&self) -> NodeStats {
        let parts = self.ask(Shard::stats).await;
        let mut sum = NodeStats {
            channels: self.deliverer().occupied(),
            inbox_bytes: self.deliverer().queued_bytes(),
            backend: self.apps().deleted_traffic(),
            ..NodeStats::default()
        };
        let mut clients: HashMap<AppId, ClientTraffic> = HashMap::new();
        for ShardPart { stats, apps } in parts {
            for (app, traffic) in apps {
                *clients.entry(app.id().clone()).or_default() += traffic;
            }
            sum.add(stats);
        }
        // Those of apps that were deleted since a shard answered are added as well.
        for traffic in clients.values() {
            sum.clients += *traffic;
        }
        for app in self.apps().all() {
            let backend = app.published.sum();
            let clients = clients.remove(app.id()).unwrap_or_default();
            sum.backend += backend;
            sum.subscriptions += app.subscriptions.load(Ordering::Relaxed);
            if backend != BackendTraffic::default() || clients != ClientTraffic::default() {
                sum.apps.push(AppStats {
                    connections: app.connections.load(Ordering::Relaxed),
                    app,
                    backend,
                    clients,
                });
            }
        }
        sum
    }
}

impl NodeStats {
    fn add(&mut self, part: Self) {
        self.clients += part.clients;
        self.connections += part.connections;
        self.opened += part.opened;
        for (closed, count) in part.closed {
            *self.closed.entry(closed).or_default() += count;
        }
        self.written_bytes += part.written_bytes;
        self.slow_consumers += part.slow_consumers;
        self.recoveries += part.recoveries;
        self.write_delay += &part.write_delay;
        self.largest_batch = self.largest_batch.max(part.largest_batch);
        self.outbox_bytes += part.outbox_bytes;
    }
}

impl Shard {
    fn stats(&self) -> ShardPart {
        let state = self.state();
        let stats = &state.stats;
        let outgoing = &state.outgoing;
        ShardPart {
            apps: stats.apps().collect(),
            stats: NodeStats {
                clients: stats.deleted,
                connections: stats.connections,
                opened: stats.opened,
                closed: stats.closed.clone(),
                written_bytes: outgoing.buffers.written(),
                slow_consumers: outgoing.slow_consumers,
                recoveries: stats.recoveries,
                write_delay: stats.write_delay.clone(),
                largest_batch: stats.largest_batch,
                outbox_bytes: outgoing.buffers.held(),
                ..NodeStats::default()
            },
        }
    }
}
