//! Counters of one shard: plain data of its thread, found without a look-up.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use fanfare_protocol::{AppId, CloseCode, Framing, QuotaKind, UserHashKey, UserSketch};
use slab::Slab;
use tokio::time::Instant;

use crate::app::App;
use crate::histogram::Histogram;
use crate::node_quotas::NodeQuotas;
use crate::traffic::{ByTransport, ClientTraffic, Closed, Recoveries};

/// An app's entry among the counters of a shard. Connections and channels keep it, so that counting needs no look-up.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AppSlot(usize);

/// An app's counters on a shard.
#[derive(Debug)]
struct AppEntry {
    app: Arc<App>,
    connections: usize,
    traffic: ClientTraffic,
    /// The traffic when usage was taken.
    taken: ClientTraffic,
    /// Users since then.
    users: Option<Box<UserSketch>>,
    /// Whether it is in [`ShardStats::active`].
    is_active: bool,
}

/// What an app's clients did on a shard since usage was taken.
#[derive(Debug)]
pub(crate) struct ShardUsage {
    pub(crate) app: AppId,
    /// Connections now.
    pub(crate) connections: usize,
    pub(crate) traffic: ClientTraffic,
    pub(crate) users: Option<Box<UserSketch>>,
}

impl AppEntry {
    /// Returns what came since the last call, or `None` if there was nothing and no connection.
    fn take_usage(&mut self) -> Option<ShardUsage> {
        let traffic = self.traffic - std::mem::replace(&mut self.taken, self.traffic);
        let users = self.users.take();
        let is_idle =
            self.connections == 0 && traffic == ClientTraffic::default() && users.is_none();
        (!is_idle).then(|| ShardUsage {
            app: self.app.id().clone(),
            connections: self.connections,
            traffic,
            users,
        })
    }
}

/// Events for whose times a shard keeps room after a burst.
const EVENTS_KEPT: usize = 1024;

/// Counters of one shard.
#[derive(Debug)]
pub(crate) struct ShardStats {
    quotas: Arc<NodeQuotas>,
    apps: Slab<AppEntry>,
    slots: HashMap<AppId, AppSlot>,
    /// The apps with connections, or with traffic since usage was taken, so that the others cost nothing.
    active: Vec<AppSlot>,
    /// What apps did before they were dropped, since usage was taken.
    dropped: Vec<ShardUsage>,
    /// Traffic of apps that were deleted.
    pub(crate) deleted: ClientTraffic,
    pub(crate) connections: ByTransport,
    pub(crate) opened: ByTransport,
    pub(crate) closed: BTreeMap<Closed, u64>,
    pub(crate) recoveries: Recoveries,
    /// From the publish to the write of its events on this shard, in seconds.
    pub(crate) write_delay: Histogram,
    /// Most bytes of events in one batch of commands.
    pub(crate) largest_batch: usize,
}

impl ShardStats {
    pub(crate) fn new(quotas: Arc<NodeQuotas>) -> Self {
        Self {
            quotas,
            apps: Slab::new(),
            slots: HashMap::new(),
            active: Vec::new(),
            dropped: Vec::new(),
            deleted: ClientTraffic::default(),
            connections: ByTransport::default(),
            opened: ByTransport::default(),
            closed: BTreeMap::new(),
            recoveries: Recoveries::default(),
            write_delay: Histogram::default(),
            largest_batch: 0,
        }
    }

    /// Counts deliveries of an event of an app, and their bytes.
    pub(crate) fn count_deliveries(&mut self, slot: AppSlot, deliveries: u64, bytes: u64) {
        let traffic = self.of(slot);
        traffic.deliveries += deliveries;
        traffic.delivered_bytes += bytes;
        let app = &self.apps[slot.0].app;
        if self.quotas.is_metered(app) {
            self.quotas.charge(app, QuotaKind::Deliveries, deliveries);
            self.quotas.charge(app, QuotaKind::Bytes, bytes);
        }
    }

    /// Counts a message of a client, and its bytes.
    pub(crate) fn count_received(&mut self, slot: AppSlot, bytes: u64) {
        let traffic = self.of(slot);
        traffic.messages += 1;
        traffic.received_bytes += bytes;
        let app = &self.apps[slot.0].app;
        if self.quotas.is_metered(app) {
            self.quotas.charge(app, QuotaKind::Bytes, bytes);
        }
    }

    /// Counts an opened connection of an app, and returns the app's entry.
    pub(crate) fn open(&mut self, app: &Arc<App>, framing: Framing) -> AppSlot {
        let apps = &mut self.apps;
        let slot = *self.slots.entry(app.id().clone()).or_insert_with(|| {
            AppSlot(apps.insert(AppEntry {
                app: Arc::clone(app),
                connections: 0,
                traffic: ClientTraffic::default(),
                taken: ClientTraffic::default(),
                users: None,
                is_active: false,
            }))
        });
        *self.opened.of(framing) += 1;
        *self.connections.of(framing) += 1;
        self.apps[slot.0].connections += 1;
        self.of(slot).opened += 1;
        slot
    }

    /// Counts a connection that has ended; `code` is the one with which the server closed it.
    pub(crate) fn close(&mut self, slot: AppSlot, framing: Framing, code: Option<CloseCode>) {
        let closed = code.map_or(Closed::ByClient, |code| Closed::ByServer(code.number()));
        *self.closed.entry(closed).or_default() += 1;
        *self.connections.of(framing) -= 1;
        let entry = &mut self.apps[slot.0];
        entry.connections -= 1;
        if entry.connections == 0 && entry.app.is_deleted() {
            self.drop_deleted();
        }
    }

    /// Returns an app's counters.
    pub(crate) fn of(&mut self, slot: AppSlot) -> &mut ClientTraffic {
        let entry = &mut self.apps[slot.0];
        if !entry.is_active {
            entry.is_active = true;
            self.active.push(slot);
        }
        &mut entry.traffic
    }

    /// Counts a user of an app, who counts once for all their connections.
    pub(crate) fn note_user(&mut self, slot: AppSlot, key: UserHashKey, user_id: &str) {
        // An app with a user has a connection, so it is active.
        let AppEntry { app, users, .. } = &mut self.apps[slot.0];
        users.get_or_insert_default().insert(key, app.id(), user_id);
    }

    /// Returns what the apps did that had connections or traffic since the last call.
    pub(crate) fn take_usage(&mut self) -> Vec<ShardUsage> {
        let mut taken = std::mem::take(&mut self.dropped);
        let apps = &mut self.apps;
        self.active.retain(|slot| {
            let entry = &mut apps[slot.0];
            let usage = entry.take_usage();
            entry.is_active = usage.is_some();
            taken.extend(usage);
            entry.is_active
        });
        taken
    }

    /// Returns the apps that had connections, and their counters.
    pub(crate) fn apps(&self) -> impl Iterator<Item = (Arc<App>, ClientTraffic)> {
        let entries = self.apps.iter();
        entries.map(|(_, entry)| (Arc::clone(&entry.app), entry.traffic))
    }

    /// Counts a batch of commands after its write. Takes the times at which its events came.
    pub(crate) fn note_batch(&mut self, published: &mut Vec<Instant>, bytes: usize) {
        if published.is_empty() {
            return;
        }
        self.largest_batch = self.largest_batch.max(bytes);
        let now = Instant::now();
        for at in published.drain(..) {
            self.write_delay.observe(now.saturating_duration_since(at));
        }
        published.shrink_to(EVENTS_KEPT);
    }

    /// Moves the counters of deleted apps without connections to the sum of these apps, and lets go of the apps.
    pub(crate) fn drop_deleted(&mut self) {
        let (slots, deleted) = (&mut self.slots, &mut self.deleted);
        let dropped = &mut self.dropped;
        self.apps.retain(|_, entry| {
            let stays = entry.connections > 0 || !entry.app.is_deleted();
            if !stays {
                *deleted += entry.traffic;
                slots.remove(entry.app.id());
                dropped.extend(entry.take_usage());
            }
            stays
        });
        let apps = &self.apps;
        self.active.retain(|slot| apps.contains(slot.0));
    }
}
