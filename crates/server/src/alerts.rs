//! Alerts: conditions that need an operator, found by every node, opened and resolved once in the store, and sent to the
//! operators' targets. While the store is away, a node sends what it sees of itself.
//!
//! | file | content |
//! |---|---|
//! | `kind` | the kinds of alerts, and what to do about each |
//! | `conditions` | which conditions hold, from what a node reads about itself |
//! | `certificates` | the conditions of TLS certificates |
//! | `tracker` | how long a condition must hold, and be gone |
//! | `unwritten` | alerts that were told while the store was away |
//! | `notifier` | the way to the targets: signed HTTP, and JSON for chats |

mod certificates;
mod conditions;
mod kind;
mod notifier;
mod tracker;
mod unwritten;

use std::sync::Arc;
use std::time::Duration;

use fanfare_engine::{Engine, NodeUsage};
use fanfare_store::{AlertRecord, NewAlert, Store, StoreError};
use parking_lot::Mutex;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::app_sync::SyncCounters;
use crate::clock::unix_millis;
use crate::config::AlertsConfig;
use crate::quotas::QuotaRatios;
use crate::webhooks::Webhooks;
use conditions::{Conditions, Readings, RecentTraffic};
use notifier::Notifier;
use tracker::{Change, Tracker};
use unwritten::Unwritten;

pub(crate) use certificates::CertificateReadings;
pub(crate) use conditions::{Condition, NodeReadings};
pub(crate) use kind::AlertKind;
pub(crate) use notifier::NotificationCounts;

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
    traffic: Mutex<RecentTraffic>,
    unwritten: Mutex<Unwritten>,
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
            unwritten: Mutex::default(),
            notifier: Notifier::new(config),
        }))
    }

    /// Takes note of what the apps did since the last call.
    pub(crate) fn note_usage(&self, usage: &NodeUsage) {
        self.0.traffic.lock().add(Instant::now(), usage);
    }

    /// Returns how many notifications were sent, and how many were given up.
    pub(crate) fn notifications(&self) -> NotificationCounts {
        self.0.notifier.counts()
    }

    /// Looks at the node again and again. `others` returns what other parts of the node tell of it. Never returns.
    pub(crate) async fn run(
        self,
        engine: Arc<Engine>,
        store: Store,
        sync: SyncCounters,
        quotas: QuotaRatios,
        webhooks: Webhooks,
        others: impl Fn() -> NodeReadings + Send,
    ) {
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
            let traffic = self.0.traffic.lock().sum(Instant::now());
            let mut readings = Readings::take(&engine, &self.0.node, traffic).await;
            readings.store_silent_for = sync.read().age;
            readings.disk_full = store.is_disk_full();
            readings.quotas = quotas.read();
            readings.webhooks = webhooks.readings();
            let NodeReadings {
                bounds,
                certificates,
            } = others();
            readings.budgets.extend(bounds);
            readings.certificates = certificates;
            let found = conditions.find(Instant::now(), &readings);
            self.write_unwritten(&store).await;
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
                    Err(_) => {
                        let record = self.0.unwritten.lock().open(alert);
                        self.tell_opened(&record);
                    }
                }
            }
            Change::Seen(condition) => {
                if let Err(error) = in_time(store.open_alert(&new_alert(&condition))).await {
                    tracing::debug!(%error, "an alert is not noted as seen");
                }
            }
            Change::Resolved(condition) => self.resolve(store, &condition).await,
        }
    }

    async fn resolve(&self, store: &Store, condition: &Condition) {
        let told = self.0.unwritten.lock().resolve(condition);
        if let Some((record, false)) = &told {
            // For the list and the audit log, if the store is back by now.
            let alert = NewAlert {
                id: record.id.clone(),
                ..new_alert(condition)
            };
            let _ = in_time(store.open_alert(&alert)).await;
        }
        let kind = condition.kind.as_str();
        let resolved = in_time(store.resolve_alert(kind, &condition.subject)).await;
        // Its end is told by whoever told its beginning, under the same id.
        match (told, resolved) {
            (Some((record, _)), _) | (None, Ok(Some(record))) => self.tell_resolved(&record),
            (None, Ok(None)) => {}
            (None, Err(error)) => {
                tracing::debug!(%error, "an alert is not resolved; a node resolves it when none has seen it for five minutes");
            }
        }
    }

    /// Writes the alerts that were told while the store was away.
    async fn write_unwritten(&self, store: &Store) {
        let unwritten = self.0.unwritten.lock().to_write();
        for alert in unwritten {
            if in_time(store.open_alert(&alert)).await.is_err() {
                return;
            }
            self.0.unwritten.lock().written(&alert);
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
        // What happened at one moment has no end that anybody waits for.
        let is_momentary = AlertKind::parse(&alert.kind).is_some_and(AlertKind::is_momentary);
        if !alert.is_silenced() && !is_momentary {
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
        id: NewAlert::issue_id(),
        kind: condition.kind.as_str().into(),
        subject: condition.subject.clone(),
        app_id: condition.app_id.clone(),
        summary: condition.summary.clone(),
    }
}

async fn in_time<T>(change: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    timeout(STORE_TIMEOUT, change)
        .await
        .unwrap_or(Err(StoreError::Late))
}
