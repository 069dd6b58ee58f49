//! Outboxes: events that backends wrote in their own database, which a node reads and publishes.
//!
//! | file | content |
//! |---|---|
//! | `readers` | one reader for each app that has an outbox |
//! | `reading` | reads one, and publishes what is in it |
//! | `recent` | the events that were published last |
//! | `progress` | how that goes on, for its state in the store and the log |

mod progress;
mod readers;
mod reading;
mod recent;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fanfare_engine::Engine;
use fanfare_protocol::AppId;
use fanfare_store::{OutboxRecord, Store};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use progress::{Counters, Progress};
use readers::Readers;

pub(crate) use readers::Running;

/// The outbox of each app that has one, as this node knows them.
pub(crate) type OutboxSettings = HashMap<AppId, OutboxRecord>;

/// The outboxes of this node. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Outboxes(Arc<Shared>);

#[derive(Default)]
struct Shared {
    settings: watch::Sender<OutboxSettings>,
    counters: Arc<Counters>,
    /// Of those that this node has a task for.
    progress: Mutex<HashMap<AppId, Arc<Progress>>>,
}

/// What metrics tell of outboxes.
#[derive(Debug, Clone, Default)]
pub(crate) struct OutboxReadings {
    /// Events that this node published since its start.
    pub(crate) published: u64,
    /// Events that it set aside.
    pub(crate) rejected: u64,
    /// Outboxes that it can't read, or whose events it can't publish.
    pub(crate) failing: usize,
    /// Events that wait in the outboxes that it reads.
    pub(crate) waiting: u64,
    /// How long the oldest of these has waited.
    pub(crate) oldest_age: Duration,
}

impl std::fmt::Debug for Outboxes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Outboxes(..)")
    }
}

impl Outboxes {
    /// Replaces the outbox of an app. Those who follow hear of it only if its settings differ.
    pub(crate) fn apply(&self, app: &AppId, outbox: Option<&OutboxRecord>) {
        self.0
            .settings
            .send_if_modified(|settings| match (settings.get(app), outbox) {
                (None, None) => false,
                (Some(before), Some(after)) if before.is_same(after) => false,
                (_, Some(after)) => {
                    settings.insert(app.clone(), after.clone());
                    true
                }
                (Some(_), None) => settings.remove(app).is_some(),
            });
    }

    /// Starts to read; this process takes leases under names that begin with `node`.
    pub(crate) fn start(&self, store: &Store, engine: &Arc<Engine>, node: &str) -> Running {
        let readers = Readers {
            store: store.clone(),
            engine: Arc::clone(engine),
            node: node.to_owned(),
            shared: Arc::clone(&self.0),
            stop: CancellationToken::new(),
        };
        readers.start()
    }

    /// Returns what metrics tell.
    pub(crate) fn readings(&self) -> OutboxReadings {
        let Counters {
            published,
            rejected,
        } = &*self.0.counters;
        let all = self.0.progress.lock();
        let all = all.values().map(|progress| progress.reading());
        let readings = OutboxReadings {
            published: published.load(Ordering::Relaxed),
            rejected: rejected.load(Ordering::Relaxed),
            ..OutboxReadings::default()
        };
        all.fold(readings, |sum, one| OutboxReadings {
            failing: sum.failing + usize::from(one.is_failing),
            waiting: sum.waiting + one.waiting,
            oldest_age: sum.oldest_age.max(one.oldest_age),
            ..sum
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_follow_hear_of_changes_only() {
        let outboxes = Outboxes::default();
        let mut follower = outboxes.0.settings.subscribe();
        let app = AppId::parse("1").expect("an id");
        let mut outbox = OutboxRecord {
            url: "postgres://db/app".into(),
            stream: None,
            poll_interval: 50,
            created_at: 0,
            updated_at: 0,
        };
        let mut hears = |outbox: Option<&OutboxRecord>| {
            outboxes.apply(&app, outbox);
            let heard = follower.has_changed().expect("the sender is there");
            let interval = follower
                .borrow_and_update()
                .get(&app)
                .map(|outbox| outbox.poll_interval);
            (heard, interval)
        };
        assert_eq!(hears(None), (false, None));
        assert_eq!(hears(Some(&outbox)), (true, Some(50)));
        // Another change of the app.
        assert_eq!(hears(Some(&outbox)), (false, Some(50)));
        outbox.poll_interval = 100;
        assert_eq!(hears(Some(&outbox)), (true, Some(100)));
        assert_eq!(hears(None), (true, None));
    }
}
