//! Counters of one shard: plain data of its thread, found without a look-up.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use fanfare_protocol::{AppId, CloseCode, Framing};
use slab::Slab;
use tokio::time::Instant;

use crate::app::App;
use crate::histogram::Histogram;
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
}

/// Events for whose times a shard keeps room after a burst.
const EVENTS_KEPT: usize = 1024;

/// Counters of one shard.
#[derive(Debug, Default)]
pub(crate) struct ShardStats {
    apps: Slab<AppEntry>,
    slots: HashMap<AppId, AppSlot>,
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
    /// Counts an opened connection of an app, and returns the app's entry.
    pub(crate) fn open(&mut self, app: &Arc<App>, framing: Framing) -> AppSlot {
        let apps = &mut self.apps;
        let slot = *self.slots.entry(app.id().clone()).or_insert_with(|| {
            AppSlot(apps.insert(AppEntry {
                app: Arc::clone(app),
                connections: 0,
                traffic: ClientTraffic::default(),
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
        &mut self.apps[slot.0].traffic
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
        self.apps.retain(|_, entry| {
            let stays = entry.connections > 0 || !entry.app.is_deleted();
            if !stays {
                *deleted += entry.traffic;
                slots.remove(entry.app.id());
            }
            stays
        });
    }
}
