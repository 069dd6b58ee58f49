//! Keeps the engine's apps as the store has them. A change by any process is active on this node within a second.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fanfare_engine::{
    AppDefinition, Engine, FormerKey, Histogram, Key, KeyEnd, KeyUsed, WantedNotices,
};
use fanfare_protocol::signature::SigningKey;
use fanfare_protocol::{AppId, AppKey, Ceilings, Identity};
use fanfare_store::{
    AppRecord, ChangedApp, FormerKeyRecord, KeyRecord, MAX_FORMER_KEYS, OutboxRecord, Store,
    StoreError, Watch,
};
use jiff::Timestamp;
use parking_lot::Mutex;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::access::Jwts;
use crate::identity::Identities;
use crate::outbox::Outboxes;
use crate::webhooks::Webhooks;

/// How often the store is asked for changes even if it announces none.
const INTERVAL: Duration = Duration::from_secs(5);
/// How often the store is asked while it doesn't answer.
const INTERVAL_WHILE_DOWN: Duration = Duration::from_secs(2);
/// How long a caller who changed something waits until the change is active on this node.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a request waits whose app or key this node doesn't know.
const UNKNOWN_TIMEOUT: Duration = Duration::from_millis(500);
/// Least time between two questions that such requests cause. Strangers send them at any rate.
const UNKNOWN_INTERVAL: Duration = Duration::from_millis(100);

/// How long the store may take to answer.
const REFRESH_TIMEOUT: Duration = Duration::from_secs(10);
/// Least time between two log lines about a full disk.
const DISK_FULL_LOG_INTERVAL: Duration = Duration::from_secs(60);
/// Bytes that must be free on a disk that was full before a write is tried.
const MIN_FREE_BYTES: u64 = 256 * 1024;
/// How often a write to a full disk is tried.
const DISK_RETRY_INTERVAL: Duration = Duration::from_secs(2);

/// Copies the store's changes to the engine.
#[derive(Debug)]
pub(crate) struct AppSync {
    store: Store,
    watch: Watch,
    engine: Arc<Engine>,
    identities: Arc<Identities>,
    jwts: Jwts,
    ceilings: Ceilings,
    webhooks: Webhooks,
    outboxes: Outboxes,
    /// Ticket of the last caller that waits, and of the last one whose changes are active.
    asked: watch::Receiver<u64>,
    answered: watch::Sender<u64>,
    /// Notified by requests whose app or key this node doesn't know.
    unknown: Arc<Notify>,
    refreshed_at: Instant,
    revision: i64,
    /// Apps with keys that expire. The engine gets only the active keys and doesn't know when they expire.
    expiring: HashMap<String, ExpiringApp>,
    /// Set while the store's disk is full.
    disk_full: Option<DiskFull>,
    counters: SyncCounters,
}

/// An app with keys that expire.
#[derive(Debug)]
struct ExpiringApp {
    app: AppRecord,
    /// Its active keys.
    keys: Vec<KeyRecord>,
    /// Latest first.
    former_keys: Vec<FormerKeyRecord>,
}

impl ExpiringApp {
    /// Moves the keys that have expired to the former ones, and returns whether there are any.
    fn expire(&mut self) -> bool {
        let (active, expired): (Vec<_>, Vec<_>) =
            self.keys.drain(..).partition(KeyRecord::is_active);
        self.keys = active;
        let has_expired = !expired.is_empty();
        let expired = expired.into_iter().map(FormerKeyRecord::from);
        self.former_keys.splice(0..0, expired);
        self.former_keys.truncate(MAX_FORMER_KEYS);
        has_expired
    }
}

/// How the store answers, for metrics. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct SyncCounters(Arc<Mutex<SyncStats>>);

/// How the store has answered the question for changed apps.
#[derive(Debug, Clone, Default)]
pub(crate) struct SyncStats {
    /// Time since its last answer.
    pub(crate) age: Duration,
    /// Times that it did not answer.
    pub(crate) failures: u64,
    /// Time that it took, in seconds.
    pub(crate) store: Histogram,
    answered: Option<Instant>,
}

impl SyncCounters {
    pub(crate) fn new() -> Self {
        let stats = SyncStats {
            answered: Some(Instant::now()),
            ..SyncStats::default()
        };
        Self(Arc::new(Mutex::new(stats)))
    }

    pub(crate) fn read(&self) -> SyncStats {
        let stats = self.0.lock();
        SyncStats {
            age: stats.answered.map_or(Duration::ZERO, |at| at.elapsed()),
            ..stats.clone()
        }
    }

    fn count(&self, took: Duration, answered: bool) {
        let stats = &mut *self.0.lock();
        if answered {
            stats.store.observe(took);
            stats.answered = Some(Instant::now());
        } else {
            stats.failures += 1;
        }
    }
}

/// When to log again that the disk is full, and when to try a write again.
#[derive(Debug)]
struct DiskFull {
    log_at: Instant,
    try_at: Instant,
}

/// Lets a caller wait until what is in the store is active on this node. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct ConfigBarrier {
    asked: Arc<watch::Sender<u64>>,
    answered: watch::Receiver<u64>,
    unknown: Arc<Notify>,
}

impl ConfigBarrier {
    /// Returns a barrier for a process without a node. It never waits.
    pub(crate) fn nowhere() -> Self {
        Self {
            asked: Arc::new(watch::channel(0).0),
            answered: watch::channel(0).1,
            unknown: Arc::new(Notify::new()),
        }
    }

    /// Waits until every earlier change is active on this node, or for [`CONFIRM_TIMEOUT`].
    pub(crate) async fn wait(&self) {
        let ticket = self.ticket(true);
        // After the time-out the change becomes active a little later, as on every other node.
        self.wait_for(ticket, CONFIRM_TIMEOUT).await;
    }

    /// Waits until what other processes changed is active on this node, or for [`UNKNOWN_TIMEOUT`]. For a request whose
    /// app or key isn't known: the command line or another node may have made it a moment ago.
    pub(crate) async fn wait_for_unknown(&self) {
        // Without waking the synchronization, which asks for such requests only every `UNKNOWN_INTERVAL`.
        let ticket = self.ticket(false);
        self.unknown.notify_one();
        self.wait_for(ticket, UNKNOWN_TIMEOUT).await;
    }

    fn ticket(&self, wakes: bool) -> u64 {
        let mut ticket = 0;
        self.asked.send_if_modified(|asked| {
            *asked += 1;
            ticket = *asked;
            wakes
        });
        ticket
    }

    async fn wait_for(&self, ticket: u64, at_most: Duration) {
        let mut answered = self.answered.clone();
        let _ = timeout(at_most, answered.wait_for(|answered| *answered >= ticket)).await;
    }
}

/// Waits until a request names an app or key that isn't known, and the last refresh was [`UNKNOWN_INTERVAL`] ago.
async fn unknown_since(unknown: &Notify, refreshed_at: Instant) {
    unknown.notified().await;
    sleep_until(refreshed_at + UNKNOWN_INTERVAL).await;
}

impl AppSync {
    pub(crate) fn new(
        store: Store,
        engine: Arc<Engine>,
        identities: Arc<Identities>,
        jwts: Jwts,
        ceilings: Ceilings,
        webhooks: Webhooks,
        outboxes: Outboxes,
    ) -> (Self, ConfigBarrier) {
        let (ask, asked) = watch::channel(0);
        let (answer, answered) = watch::channel(0);
        let config_barrier = ConfigBarrier {
            asked: Arc::new(ask),
            answered,
            unknown: Arc::new(Notify::new()),
        };
        let sync = Self {
            watch: store.watch(),
            store,
            engine,
            identities,
            jwts,
            ceilings,
            webhooks,
            outboxes,
            asked,
            answered: answer,
            unknown: Arc::clone(&config_barrier.unknown),
            refreshed_at: Instant::now(),
            revision: 0,
            expiring: HashMap::new(),
            disk_full: None,
            counters: SyncCounters::new(),
        };
        (sync, config_barrier)
    }

    /// Reads the store's changes and applies them.
    pub(crate) async fn refresh(&mut self) -> Result<(), StoreError> {
        // The ticket is read before the store: changes of callers that come meanwhile may be missing from the result.
        let ticket = *self.asked.borrow_and_update();
        let changes = self.store.changes_since(self.revision).await?;
        if changes.revision != self.revision {
            self.jwts.look_again().await;
        }
        if !changes.apps.is_empty() || !changes.deleted.is_empty() {
            for id in &changes.deleted {
                self.expiring.remove(id);
                self.take_identity(id, None);
                self.take_outbox(id, None);
            }
            let mut changed = changes.apps;
            self.take_webhooks(&mut changed, &changes.deleted);
            let definitions = changed
                .into_iter()
                .filter_map(|changed| self.take(changed))
                .collect();
            self.engine.update_apps(definitions, &changes.deleted);
        }
        self.revision = changes.revision;
        self.answered.send_replace(ticket);
        Ok(())
    }

    /// Refreshes with a time-out, because a database behind a broken network returns no error.
    async fn refresh_in_time(&mut self) -> Result<(), StoreError> {
        let began = Instant::now();
        let answered = timeout(REFRESH_TIMEOUT, self.refresh()).await;
        let answered = answered.unwrap_or(Err(StoreError::Late));
        self.counters.count(began.elapsed(), answered.is_ok());
        self.refreshed_at = Instant::now();
        answered
    }

    /// Returns the counters of the store's answers.
    pub(crate) fn counters(&self) -> SyncCounters {
        self.counters.clone()
    }

    /// Refreshes forever. While the store is unavailable, the apps stay as they were last known.
    pub(crate) async fn run(mut self) {
        let mut down = false;
        loop {
            let until_expiry = self.until_next_expiry();
            if down {
                sleep(INTERVAL_WHILE_DOWN.min(until_expiry)).await;
            } else {
                tokio::select! {
                    () = self.watch.changed(INTERVAL.min(until_expiry)) => {}
                    Ok(()) = self.asked.changed() => {}
                    () = unknown_since(&self.unknown, self.refreshed_at) => {}
                }
            }
            match self.refresh_in_time().await {
                Ok(()) if down => {
                    tracing::info!(
                        "the store answers again; changes of apps and keys are taken up"
                    );
                    down = false;
                }
                Ok(()) => {}
                Err(StoreError::WrongMasterKey) if !down => {
                    tracing::error!(
                        "the master key was replaced: restart this node with the new one; apps and keys stay as they are until then"
                    );
                    down = true;
                }
                Err(error) if !down => {
                    tracing::error!(%error, "the store does not answer: apps and keys stay as they are until it does");
                    down = true;
                }
                Err(error) => tracing::debug!(%error, "the store still does not answer"),
            }
            self.expire();
            self.watch_disk().await;
        }
    }

    /// Logs that the disk is full, once a minute, and finds out when it has room again.
    async fn watch_disk(&mut self) {
        if !self.store.is_disk_full() {
            if self.disk_full.take().is_some() {
                tracing::info!("the disk that holds the store has room again: changes are taken");
            }
            return;
        }
        let now = Instant::now();
        let full = self.disk_full.get_or_insert(DiskFull {
            log_at: now,
            try_at: now,
        });
        if full.log_at <= now {
            full.log_at = now + DISK_FULL_LOG_INTERVAL;
            tracing::error!(
                "the disk that holds the store is full: no change of apps, keys and operators is taken until it has room; \
                 clients and backends are served"
            );
        }
        if full.try_at <= now {
            full.try_at = now + DISK_RETRY_INTERVAL;
            // A small write may succeed on a full disk, where SQLite finds room in its file without growing it. The
            // file system is asked first.
            if !has_room(self.store.file().as_deref()) {
                return;
            }
            // The store itself notes whether the write succeeded.
            let _ = timeout(REFRESH_TIMEOUT, self.store.try_to_write()).await;
        }
    }

    fn take(&mut self, changed: ChangedApp) -> Option<AppDefinition> {
        let ChangedApp {
            app,
            keys,
            former_keys,
            identity,
            outbox,
            ..
        } = changed;
        self.take_identity(&app.id, identity.as_ref());
        self.take_outbox(&app.id, outbox.as_ref());
        let definition = self.definition(&app, &keys, &former_keys);
        if keys.iter().any(|key| key.expires_at.is_some()) {
            let expiring = ExpiringApp {
                app,
                keys,
                former_keys,
            };
            self.expiring.insert(expiring.app.id.clone(), expiring);
        } else {
            self.expiring.remove(&app.id);
        }
        definition
    }

    /// Sets the webhooks of changed and deleted apps, before the engine learns what these are to be told of.
    fn take_webhooks(&self, changed: &mut [ChangedApp], deleted: &[String]) {
        let of_changed = changed.iter_mut().filter_map(|changed| {
            let app = AppId::parse(&changed.app.id).ok()?;
            Some((app, std::mem::take(&mut changed.webhooks)))
        });
        let of_deleted = deleted.iter().filter_map(|id| AppId::parse(id).ok());
        let of_deleted = of_deleted.map(|app| (app, Vec::new()));
        self.webhooks.set(of_changed.chain(of_deleted));
    }

    /// Sets or removes an app's outbox.
    fn take_outbox(&self, app: &str, outbox: Option<&OutboxRecord>) {
        if let Ok(id) = AppId::parse(app) {
            self.outboxes.apply(&id, outbox);
        }
    }

    /// Sets an app's identity. One that can't be used grants nothing, and the log says so.
    fn take_identity(&self, app: &str, identity: Option<&SecretString>) {
        let Ok(id) = AppId::parse(app) else { return };
        // The parse error isn't logged, because the text holds secrets.
        let read = |text: &SecretString| serde_json::from_str(text.expose_secret()).ok();
        let parsed: Option<Identity> = identity.and_then(read);
        if identity.is_some() && parsed.is_none() {
            tracing::error!(
                app,
                "this app's identity cannot be read, so its tokens grant nothing; set it again"
            );
        }
        if let Err(error) = self.identities.set(&id, parsed.as_ref()) {
            tracing::error!(app, %error, "this app's identity cannot be used, so its tokens grant nothing; set it again");
        }
    }

    /// Removes expired keys from the engine, which works while the store is unavailable.
    fn expire(&mut self) {
        let mut expired = Vec::new();
        for (id, expiring) in &mut self.expiring {
            if expiring.expire() {
                expired.push(id.clone());
            }
        }
        if expired.is_empty() {
            return;
        }
        let changed = expired.iter().filter_map(|id| self.expiring.get(id));
        let definition = |expiring: &ExpiringApp| {
            self.definition(&expiring.app, &expiring.keys, &expiring.former_keys)
        };
        let definitions = changed.filter_map(definition).collect();
        self.engine.update_apps(definitions, &[]);
        self.expiring
            .retain(|_, expiring| expiring.keys.iter().any(|key| key.expires_at.is_some()));
    }

    fn until_next_expiry(&self) -> Duration {
        let keys = self.expiring.values().flat_map(|expiring| &expiring.keys);
        let Some(next) = keys.filter_map(|key| key.expires_at).min() else {
            return Duration::MAX;
        };
        let next = UNIX_EPOCH + Duration::from_millis(u64::try_from(next).unwrap_or_default());
        next.duration_since(SystemTime::now()).unwrap_or_default()
    }

    /// Returns the definition of an app, or `None` if its id isn't valid. The admin API checks what it writes, so only
    /// rows written by other means are invalid. Settings above a ceiling were written before the ceiling was set, or on
    /// a node with another one.
    fn definition(
        &self,
        app: &AppRecord,
        keys: &[KeyRecord],
        former_keys: &[FormerKeyRecord],
    ) -> Option<AppDefinition> {
        let Ok(id) = AppId::parse(&app.id) else {
            tracing::error!(app = app.id, "this app is left out: its id is not possible");
            return None;
        };
        let key = |record: &KeyRecord| {
            let key = AppKey::parse(&record.key).ok()?;
            Some(Key {
                key,
                signing: SigningKey::new(record.secret.expose_secret()),
                used: KeyUsed::default(),
            })
        };
        let mut settings = app.settings.clone();
        let lowered = self.ceilings.clamp(&mut settings);
        if !lowered.is_empty() {
            let settings = lowered.join(", ");
            tracing::debug!(
                app = app.id,
                settings,
                "these settings are above this node's ceilings, which count"
            );
        }
        let hooks = self.webhooks.hooks().of(&id);
        Some(AppDefinition {
            id,
            settings,
            keys: keys.iter().filter_map(key).collect(),
            former_keys: former_keys.iter().filter_map(former_key).collect(),
            wanted_notices: hooks
                .map_or_else(WantedNotices::default, |hooks| hooks.wanted_notices()),
        })
    }
}

fn former_key(record: &FormerKeyRecord) -> Option<FormerKey> {
    // Whole seconds, because people read it.
    let ended_at = Timestamp::from_second(record.ended_at() / 1000).ok()?;
    Some(FormerKey {
        key: AppKey::parse(&record.key).ok()?,
        end: if record.is_revoked() {
            KeyEnd::Revoked
        } else {
            KeyEnd::Expired
        },
        ended_at: ended_at.to_string(),
    })
}

/// Returns whether the file system of the store's file has room. It returns true if that isn't known, because the file
/// is another process's or the system doesn't tell: only a write shows it then.
fn has_room(file: Option<&Path>) -> bool {
    let Some(Ok(space)) = file.map(rustix::fs::statvfs) else {
        return true;
    };
    space.f_bavail.saturating_mul(space.f_frsize) >= MIN_FREE_BYTES
}
