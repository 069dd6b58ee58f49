//! Alerts: conditions that need an operator, found by every node, opened and resolved once in the store, and sent to the
//! operators' targets. While the store is away, a node sends what it sees of itself.
//!
//! | file | content |
//! |---|---|
//! | `kind` | the kinds of alerts, and what to do about each |
//! | `conditions` | which conditions hold, from what a node reads about itself |
//! | `tracker` | how long a condition must hold, and be gone |
//! | `notifier` | the way to the targets: signed HTTP, and JSON for chats |

mod conditions;
mod kind;
mod notifier;
mod tracker;

use std::sync::Arc;
use std::time::Duration;

use fanfare_engine::{Engine, NodeUsage};
use fanfare_store::{AlertRecord, NewAlert, Store, StoreError};
use parking_lot::Mutex;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::app_sync::SyncCounters;
use crate::clock::unix_millis;
use crate::config::AlertsConfig;
use conditions::{AppTraffic, Conditions, Readings};
use notifier::Notifier;
use tracker::{Change, Tracker};

pub(crate) use conditions::Condition;
pub(crate) use kind::AlertKind;
pub(crate) use notifier::{MIN_SECRET_BYTES, NotificationCounts, secret_bytes};

/// How long the store may take for one change.
const STORE_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest time between two looks at the node.
const MAX_PERIOD: Duration = Duration::from_secs(10);
/// How often an open alert is noted as seen again.
const SEEN_PERIOD: Duration = Duration::from_secs(60);
/// Milliseconds after which an open alert that no node sees is over: the node that saw it has ended.
const UNSEEN_AFTER: i64 = 5 * 60_000;
/// Milliseconds for which resolved alerts are kept. The audit log keeps them longer.
const KEPT: i64 = 30 * 24 * 3_600_000;

/// What this node sees, and its way to the targets. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Alerts(Arc<Shared>);

struct Shared {
    /// Name of this node for people.
    node: String,
    config: AlertsConfig,
    traffic: Mutex<AppTraffic>,
    notifier: Notifier,
}

impl Alerts {
    /// Returns the alerts of a node. `port` tells it from others on the same machine.
    pub(crate) fn new(config: &AlertsConfig, port: u16) -> Self {
        let host = rustix::system::uname();
        let host = host.nodename().to_string_lossy();
        Self(Arc::new(Shared {
            node: format!("{host}:{port}"),
            config: config.clone(),
            traffic: Mutex::default(),
            notifier: Notifier::new(config),
        }))
    }

    /// Takes note of what the apps did since the last call.
    pub(crate) fn note_usage(&self, usage: &NodeUsage) {
        self.0.traffic.lock().add(usage);
    }

    /// Returns how many notifications were sent, and how many were given up.
    pub(crate) fn notifications(&self) -> NotificationCounts {
        self.0.notifier.counts()
    }

    /// Looks at the node again and again. Never returns.
    pub(crate) async fn run(self, engine: Arc<Engine>, store: Store, sync: SyncCounters) {
        tokio::spawn(self.0.notifier.clone().run());
        let wait = Duration::from_secs(self.0.config.wait);
        let calm = Duration::from_secs(self.0.config.calm);
        let period = MAX_PERIOD.min(wait).max(Duration::from_secs(1));
        let mut tracker = Tracker::new(wait, calm, SEEN_PERIOD, period);
        let mut conditions = Conditions::default();
        let mut ticks = interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut swept_at = unix_millis();
        loop {
            ticks.tick().await;
            let traffic = std::mem::take(&mut *self.0.traffic.lock());
            let mut readings = Readings::take(&engine, &self.0.node, traffic).await;
            readings.store_silent_for = sync.read().age;
            readings.disk_full = store.is_disk_full();
            let found = conditions.find(&readings);
            for change in tracker.observe(Instant::now(), found) {
                self.apply(&store, change).await;
            }
            if unix_millis() - swept_at > UNSEEN_AFTER {
                swept_at = unix_millis();
                if let Err(error) = self.sweep(&store).await {
                    tracing::debug!(%error, "alerts of ended nodes are not resolved; the next attempt is in five minutes");
                }
            }
        }
    }

    /// Writes a change to the store, and notifies the targets if no other node has.
    async fn apply(&self, store: &Store, change: Change) {
        match change {
            Change::Opened(condition) => {
                let alert = new_alert(&condition);
                match in_time(store.open_alert(&alert)).await {
                    Ok(Some(record)) => self.tell_opened(&record),
                    Ok(None) => {}
                    // Others may not know either, so each node tells what it sees.
                    Err(_) => self.tell_opened(&without_store(&alert)),
                }
            }
            Change::Seen(condition) => {
                let alert = new_alert(&condition);
                // Opens it if the store was away when it began.
                if let Err(error) = in_time(store.open_alert(&alert)).await {
                    tracing::debug!(%error, "an alert is not written to the store");
                }
            }
            Change::Resolved(condition) => {
                let alert = new_alert(&condition);
                match in_time(store.resolve_alert(&alert.kind, &alert.subject)).await {
                    Ok(Some(record)) => self.tell_resolved(&record),
                    Ok(None) => {}
                    Err(_) => self.tell_resolved(&AlertRecord {
                        resolved_at: Some(unix_millis()),
                        ..without_store(&alert)
                    }),
                }
            }
        }
    }

    fn tell_opened(&self, alert: &AlertRecord) {
        let advice = AlertKind::advice_of(&alert.kind);
        tracing::warn!(
            kind = alert.kind,
            subject = alert.subject,
            alert = alert.id,
            "alert: {}; {advice}",
            alert.summary
        );
        if !alert.is_silenced() {
            self.0.notifier.send(alert);
        }
    }

    fn tell_resolved(&self, alert: &AlertRecord) {
        tracing::info!(
            kind = alert.kind,
            subject = alert.subject,
            alert = alert.id,
            "alert is over: {}",
            alert.summary
        );
        if !alert.is_silenced() {
            self.0.notifier.send(alert);
        }
    }

    /// Resolves alerts that no node sees any more, and deletes old ones.
    async fn sweep(&self, store: &Store) -> Result<(), StoreError> {
        let now = unix_millis();
        for alert in store.unseen_alerts(now - UNSEEN_AFTER).await? {
            if let Some(resolved) = store.resolve_alert(&alert.kind, &alert.subject).await? {
                self.tell_resolved(&resolved);
            }
        }
        store.delete_old_alerts(now - KEPT).await
    }
}

fn new_alert(condition: &Condition) -> NewAlert {
    NewAlert {
        kind: condition.kind.as_str().into(),
        subject: condition.subject.clone(),
        app_id: condition.app_id.clone(),
        summary: condition.summary.clone(),
    }
}

/// Returns the record of an alert that the store doesn't know.
fn without_store(alert: &NewAlert) -> AlertRecord {
    let now = unix_millis();
    AlertRecord {
        id: format!("{}-{}", alert.kind, alert.subject),
        kind: alert.kind.clone(),
        subject: alert.subject.clone(),
        app_id: alert.app_id.clone(),
        summary: alert.summary.clone(),
        opened_at: now,
        seen_at: now,
        resolved_at: None,
        silenced_until: None,
    }
}

async fn in_time<T>(change: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    timeout(STORE_TIMEOUT, change)
        .await
        .unwrap_or(Err(StoreError::Late))
}
