//! Leases webhooks of which something is due, so that one node at a time sends for each, and runs a task for each of
//! them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use fanfare_engine::Engine;
use fanfare_store::{Store, StoreError};
use parking_lot::Mutex;
use reqwest::Url;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::HookLabel;
use super::breaker::Breakers;
use super::counters::Counters;
use super::courier::{Answer, Courier};
use super::hooks::Hooks;
use super::permits::Permits;
use super::request::SignedRequest;
use super::sending::Sending;
use crate::clock::unix_millis;
use crate::config::WebhooksConfig;

/// How long the store may take to answer.
pub(super) const STORE_TIMEOUT: Duration = Duration::from_secs(10);
/// Most webhooks that a node sends for at once.
const MAX_WEBHOOKS: i64 = 1024;
/// Longest time between two questions to the store, and how far it differs by chance, so that nodes don't ask together.
const POLL: Duration = Duration::from_secs(5);
const POLL_JITTER: f64 = 0.2;
/// Shortest time between two such questions, unless this node knows that something is due.
const MIN_POLL: Duration = Duration::from_secs(1);
/// How long a lease lasts: other nodes take over so long after a node has died. It needn't be longer than a request: what
/// is sent twice has the same id.
const LEASE: Duration = Duration::from_secs(20);
/// How long requests that are under way may take when the node stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Sends for webhooks. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Sender(Arc<Shared>);

/// What the tasks of all webhooks share.
pub(super) struct Shared {
    /// Name of this process among all that ever were.
    pub(super) node: String,
    pub(super) store: Store,
    pub(super) engine: Arc<Engine>,
    pub(super) hooks: Hooks,
    pub(super) courier: Courier,
    pub(super) breakers: Breakers,
    pub(super) counters: Arc<Counters>,
    pub(super) retry_for: Duration,
    /// Room for requests.
    pub(super) permits: Permits,
    /// The webhooks whose receivers answered late last.
    late: Mutex<HashSet<String>>,
    /// Bytes of events that wait in memory.
    pub(super) held_bytes: AtomicUsize,
    pub(super) failing: Mutex<BTreeMap<String, FailingHook>>,
    running: Mutex<HashMap<String, Arc<Lease>>>,
    wake: Notify,
    pub(super) stopping: CancellationToken,
    tasks: TaskTracker,
}

/// A webhook whose receiver fails, for alerts.
#[derive(Debug, Clone)]
pub(crate) struct FailingHook {
    pub(crate) hook: HookLabel,
    pub(crate) host: String,
    /// Unix time in milliseconds.
    pub(crate) since: i64,
    pub(crate) error: String,
    /// When this node will have tried again, unless another one does.
    pub(crate) known_until: i64,
}

/// A webhook that this node sends for.
pub(super) struct Lease {
    until: Mutex<Instant>,
    /// What has come since the task last looked.
    has_new: AtomicBool,
    may_have_old: AtomicBool,
    wake: Notify,
}

impl Lease {
    pub(super) fn new(until: Instant) -> Self {
        Self {
            until: Mutex::new(until),
            has_new: AtomicBool::new(false),
            may_have_old: AtomicBool::new(false),
            wake: Notify::new(),
        }
    }

    /// Returns whether the lease lasts for a time.
    pub(super) fn lasts(&self, time: Duration) -> bool {
        Instant::now() + time < *self.until.lock()
    }

    /// Returns what has come since the last call.
    pub(super) fn take_news(&self) -> News {
        let has_new = self.has_new.swap(false, Ordering::SeqCst);
        let may_have_old = self.may_have_old.swap(false, Ordering::SeqCst);
        News {
            has_new,
            may_have_old,
        }
    }

    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }

    fn note(&self, news: News) {
        if news.has_new {
            self.has_new.store(true, Ordering::SeqCst);
        }
        if news.may_have_old {
            self.may_have_old.store(true, Ordering::SeqCst);
        }
        self.wake.notify_one();
    }
}

/// What has come for a webhook.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct News {
    /// Deliveries were recorded: they are after all others.
    pub(super) has_new: bool,
    /// Replays may have been asked for, or something was recorded on another node.
    pub(super) may_have_old: bool,
}

impl Sender {
    pub(super) fn new(
        config: &WebhooksConfig,
        node: String,
        store: Store,
        engine: Arc<Engine>,
        hooks: Hooks,
        counters: Arc<Counters>,
    ) -> Self {
        let request_timeout = Duration::from_secs(config.timeout);
        Self(Arc::new(Shared {
            node,
            store,
            engine,
            hooks,
            courier: Courier::new(config.allow_inner_addresses, request_timeout),
            breakers: Breakers::default(),
            counters,
            retry_for: Duration::from_secs(config.retry_for),
            permits: Permits::new(config.max_in_flight),
            late: Mutex::default(),
            held_bytes: AtomicUsize::new(0),
            failing: Mutex::default(),
            running: Mutex::default(),
            wake: Notify::new(),
            stopping: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }))
    }

    #[cfg(test)]
    pub(super) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.0)
    }

    /// Tells that deliveries were recorded for webhooks.
    pub(super) fn wake<'a>(&self, webhooks: impl IntoIterator<Item = &'a str>) {
        let news = News {
            has_new: true,
            may_have_old: false,
        };
        self.note(webhooks, news);
    }

    /// Tells that replays were asked for.
    #[expect(dead_code, reason = "the admin API will call it")]
    pub(crate) fn wake_for_replays(&self, webhook: &str) {
        let news = News {
            has_new: false,
            may_have_old: true,
        };
        self.note([webhook], news);
    }

    fn note<'a>(&self, webhooks: impl IntoIterator<Item = &'a str>, news: News) {
        let running = self.0.running.lock();
        let mut is_one_unknown = false;
        for webhook in webhooks {
            match running.get(webhook) {
                Some(lease) => lease.note(news),
                None => is_one_unknown = true,
            }
        }
        drop(running);
        if is_one_unknown {
            self.0.wake.notify_one();
        }
    }

    /// Returns the webhooks whose receivers fail, as far as this node knows, by id.
    pub(super) fn failing(&self) -> Vec<FailingHook> {
        let now = unix_millis();
        let mut failing = self.0.failing.lock();
        let hooks = &self.0.hooks;
        failing.retain(|id, hook| hook.known_until > now && hooks.get(id).is_some());
        failing.values().cloned().collect()
    }

    /// Sends a request that isn't one of those that wait.
    pub(super) async fn post(&self, url: &Url, request: SignedRequest) -> Answer {
        self.0.courier.post(url, request).await
    }

    /// Leases webhooks and sends for them until [`Self::finish`] is called.
    pub(super) async fn run(self) {
        let mut is_away = false;
        let mut changes = self.0.hooks.changes();
        while !self.0.stopping.is_cancelled() {
            let answered = timeout(STORE_TIMEOUT, self.0.lease_all()).await;
            let wait = match answered.unwrap_or(Err(StoreError::Late)) {
                Ok(wait) => {
                    if std::mem::take(&mut is_away) {
                        tracing::info!("webhooks are sent again: the store answers");
                    }
                    wait
                }
                Err(error) => {
                    if !std::mem::replace(&mut is_away, true) {
                        tracing::warn!(%error, "webhooks are not sent, because the store does not answer; they wait in it");
                    }
                    MIN_POLL
                }
            };
            tokio::select! {
                () = self.0.wake.notified() => {}
                () = sleep(wait) => {}
                // One may have been enabled, or mended.
                Ok(()) = changes.changed() => {}
                () = self.0.stopping.cancelled() => {}
            }
        }
    }

    /// Waits for the requests that are under way, and lets other nodes take the webhooks up.
    pub(super) async fn finish(&self) {
        self.0.stopping.cancel();
        self.0.tasks.close();
        if timeout(STOP_TIMEOUT, self.0.tasks.wait()).await.is_err() {
            tracing::warn!(
                "some requests of webhooks were still under way and are sent again later"
            );
        }
        let held: Vec<String> = self.0.running.lock().keys().cloned().collect();
        self.0.release(&held).await;
    }
}

impl Shared {
    /// Returns whether a webhook's receiver answered late last.
    pub(super) fn is_late(&self, webhook: &str) -> bool {
        self.late.lock().contains(webhook)
    }

    /// Notes whether a webhook's receiver answers late.
    pub(super) fn note_late(&self, webhook: &str, is_late: bool) {
        let mut late = self.late.lock();
        if !is_late {
            late.remove(webhook);
        } else if !late.contains(webhook) {
            late.retain(|known| self.hooks.get(known).is_some());
            late.insert(webhook.to_owned());
        }
    }

    /// Renews leases, takes new ones, and returns how long to wait until the next time.
    async fn lease_all(self: &Arc<Self>) -> Result<Duration, StoreError> {
        let began = Instant::now();
        let lease_ms = i64::try_from(LEASE.as_millis()).unwrap_or(i64::MAX);
        let now = unix_millis();
        let leased = self
            .store
            .lease_webhooks(&self.node, now, lease_ms, MAX_WEBHOOKS)
            .await?;
        for webhook in leased {
            // The store leaves a lease as it is while more than half of it is left.
            self.keep_or_start(webhook, began + LEASE / 2);
        }
        let next = self.store.next_delivery_due(&self.node).await?;
        let until = next.map_or(POLL, |at| {
            Duration::from_millis(u64::try_from(at - unix_millis()).unwrap_or_default())
        });
        let poll = POLL.mul_f64(1.0 + POLL_JITTER * (2.0 * rand::random::<f64>() - 1.0));
        Ok(until.clamp(MIN_POLL, poll))
    }

    fn keep_or_start(self: &Arc<Self>, webhook: String, until: Instant) {
        let mut running = self.running.lock();
        if let Some(lease) = running.get(&webhook) {
            let mut current = lease.until.lock();
            *current = until.max(*current);
            drop(current);
            // Another node may have recorded something, or a replay may have been asked for there.
            lease.note(News {
                has_new: false,
                may_have_old: true,
            });
            return;
        }
        let lease = Arc::new(Lease::new(until));
        running.insert(webhook.clone(), Arc::clone(&lease));
        drop(running);
        let shared = Arc::clone(self);
        self.tasks.spawn(async move {
            Sending::run(Arc::clone(&shared), webhook.clone(), Arc::clone(&lease)).await;
            shared.release(std::slice::from_ref(&webhook)).await;
            shared.running.lock().remove(&webhook);
            // What was recorded while the lease was released needs a new one.
            if lease.take_news() != News::default() {
                shared.wake.notify_one();
            }
        });
    }

    async fn release(&self, webhooks: &[String]) {
        if webhooks.is_empty() {
            return;
        }
        let released = timeout(
            STORE_TIMEOUT,
            self.store.release_webhooks(&self.node, webhooks),
        );
        if let Ok(Err(error)) = released.await {
            tracing::debug!(%error, "leases of webhooks are not released; they end by themselves");
        }
    }
}
