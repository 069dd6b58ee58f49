//! One connection to the back end, from its first heartbeat until it is lost.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use fanfare_engine::{Generation, HistoryAnswer, HistoryCharge};
use fanfare_protocol::AppId;
use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout};

use crate::backend::{
    BackendError, Broker, Call, Connected, HistoryPage, HistoryRequest, Incoming, Membership,
    Moment, NodeName, Presence, Report,
};
use crate::history_page::history_answer;
use crate::peers::Peers;

/// How long a publish may take to reach the back end, which refuses it after that.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(2);
/// How long an answer may take: longer than a call may.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(3500);

/// Bytes of a history from which on it is decoded on a thread of its own.
const LONG_PAGE: usize = 64 * 1024;

/// A connection, and this node's name over it.
pub(crate) struct Link {
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) presence: Arc<dyn Presence>,
    pub(crate) membership: Arc<dyn Membership>,
    name: NodeName,
    pub(crate) generation: Generation,
    pub(crate) peers: Peers,
    /// Asks for a heartbeat at once.
    pub(crate) heartbeat_now: Notify,
    /// A time on the back end's clock, and when that was here.
    clock: Mutex<(Moment, Instant)>,
    lease_until: AtomicU64,
    ready: AtomicBool,
    /// Number of the queue's reports that are answered.
    answered: AtomicU64,
    /// Apps in which this node may have entries, and whether it is known to be in their lists.
    apps: Mutex<HashMap<AppId, bool>>,
    began: Instant,
    /// Whether other nodes knew this node and it received their messages.
    joined: AtomicBool,
    /// Whether what this process announced over earlier connections is removed.
    cleared: AtomicBool,
    lost: watch::Sender<Option<String>>,
    runtime: Handle,
}

impl Link {
    /// Returns the link over a connection, and what the connection receives.
    pub(crate) fn new(
        connected: Connected,
        name: NodeName,
        generation: Generation,
        peers: Peers,
    ) -> (Arc<Self>, UnboundedReceiver<Incoming>) {
        let link = Self {
            broker: connected.broker,
            presence: connected.presence,
            membership: connected.membership,
            name,
            generation,
            peers,
            heartbeat_now: Notify::new(),
            clock: Mutex::new((0, Instant::now())),
            lease_until: AtomicU64::new(0),
            ready: AtomicBool::new(false),
            answered: AtomicU64::new(0),
            apps: Mutex::default(),
            began: Instant::now(),
            joined: AtomicBool::new(false),
            cleared: AtomicBool::new(false),
            lost: watch::channel(None).0,
            runtime: Handle::current(),
        };
        (Arc::new(link), connected.incoming)
    }

    pub(crate) fn name(&self) -> &NodeName {
        &self.name
    }

    /// Notes that the connection is lost; the first reason counts.
    pub(crate) fn set_lost(&self, reason: String) {
        // Before the waiters wake, so that none of them finds the link ready.
        self.ready.store(false, Ordering::Release);
        self.lost.send_if_modified(|lost| {
            let first = lost.is_none();
            if first {
                *lost = Some(reason);
            }
            first
        });
    }

    /// Waits until the connection is lost, and returns the reason.
    pub(crate) async fn lost(&self) -> String {
        let mut lost = self.lost.subscribe();
        let reason = lost.wait_for(Option::is_some).await;
        reason
            .ok()
            .and_then(|reason| reason.clone())
            .unwrap_or_default()
    }

    /// Returns whether this node and all others receive each other's messages.
    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// Notes that the link is ready, unless it is lost; returns whether it is ready. It stays so
    /// while the connection lasts: another node that falls silent notices by its own connection.
    pub(crate) fn set_ready(&self) -> bool {
        let lost = self.lost.borrow().is_some();
        self.ready.store(!lost, Ordering::Release);
        !lost
    }

    /// Notes the time on the back end's clock. The answer took a while, so it is later there by
    /// now; a deadline that comes out too early only leads to a refusal.
    pub(crate) fn set_clock(&self, now: Moment, lease: Duration) {
        *self.clock.lock() = (now, Instant::now());
        // The back end counts leases in milliseconds.
        let until = now - now % 1000 + micros(lease) - 1;
        self.lease_until.store(until, Ordering::Release);
    }

    /// Returns whether this node has sent no heartbeat yet.
    pub(crate) fn is_unknown(&self) -> bool {
        self.lease_until() == 0
    }

    /// Returns the time until which this node counts as alive, 0 before the first heartbeat.
    pub(crate) fn lease_until(&self) -> Moment {
        self.lease_until.load(Ordering::Acquire)
    }

    /// Returns the deadline of an event that is published now.
    pub(crate) fn publish_until(&self) -> Moment {
        let (then, at) = *self.clock.lock();
        then + micros(at.elapsed() + PUBLISH_TIMEOUT)
    }

    /// Makes a call, and waits [`ANSWER_TIMEOUT`] for its answer. Without an answer it is unknown what
    /// was done, so the connection counts as lost.
    pub(crate) async fn in_time<T>(&self, call: Call<T>) -> Result<T, BackendError> {
        let answer = timeout(ANSWER_TIMEOUT, call).await;
        let answer = answer.unwrap_or_else(|_| Err(late()));
        self.note_answer(&answer);
        answer
    }

    /// Makes several calls at once, and returns their answers, or the first error.
    pub(crate) async fn all_in_time<T>(
        &self,
        calls: impl IntoIterator<Item = Call<T>>,
    ) -> Result<Vec<T>, BackendError> {
        // The calls are first polled in this order, which is the order in which they are taken.
        let answers = join_all(calls.into_iter().map(|call| self.in_time(call)));
        answers.await.into_iter().collect()
    }

    /// Sends reports of this node, and waits [`ANSWER_TIMEOUT`] for their answers, which their
    /// replies get.
    ///
    /// # Errors
    ///
    /// Returns the first error.
    pub(crate) async fn report(&self, reports: Vec<Report>) -> Result<(), BackendError> {
        let answers = self
            .presence
            .report(&self.name, self.lease_until(), reports);
        let answers = timeout(ANSWER_TIMEOUT, answers).await;
        let answers = answers.unwrap_or_else(|_| vec![Err(late())]);
        answers.iter().for_each(|answer| self.note_answer(answer));
        answers.into_iter().collect()
    }

    /// Notes that the connection is lost if an answer shows that.
    fn note_answer<T>(&self, answer: &Result<T, BackendError>) {
        if let Err(
            error @ (BackendError::Broken(_) | BackendError::Unserved(_) | BackendError::Forgotten),
        ) = answer
        {
            self.set_lost(error.to_string());
        }
    }

    /// Reads a history, and returns the answer with its charge, or `None` if it cannot be read.
    pub(crate) async fn read_history(
        self: &Arc<Self>,
        request: HistoryRequest,
        charge: HistoryCharge,
    ) -> Option<(HistoryAnswer, HistoryCharge)> {
        let (answered, answer) = oneshot::channel();
        let page = self.broker.history(request);
        let link = Arc::clone(self);
        // A task of this runtime decodes the answer, because the caller's thread has connections to
        // serve. It also holds the charge until the answer is here, even if the caller has given up.
        self.runtime.spawn(async move {
            let page = tokio::select! {
                page = page => page,
                // The connection doesn't outlast its loss.
                _ = link.lost() => return,
            };
            let answer = match page {
                Ok(page) => decode(page).await,
                // Another master serves the app now, so this whole connection is useless.
                Err(error @ BackendError::Unserved(_)) => return link.set_lost(error.to_string()),
                // A history that cannot be read concerns its reader only.
                Err(error) => return tracing::debug!(%error, "a history could not be read"),
            };
            let Some(answer) = answer else {
                return;
            };
            // The caller may have given up.
            let _ = answered.send((answer, charge));
        });
        answer.await.ok()
    }

    /// Returns how long ago the link was made.
    pub(crate) fn age(&self) -> Duration {
        self.began.elapsed()
    }

    pub(crate) fn set_joined(&self) {
        self.joined.store(true, Ordering::Release);
    }

    /// Returns whether other nodes knew this node and it received their messages.
    pub(crate) fn has_joined(&self) -> bool {
        self.joined.load(Ordering::Acquire)
    }

    pub(crate) fn set_cleared(&self) {
        self.cleared.store(true, Ordering::Release);
    }

    /// Returns whether what this process announced over earlier connections is removed.
    pub(crate) fn has_cleared(&self) -> bool {
        self.cleared.load(Ordering::Acquire)
    }

    /// Notes that this node may have entries in an app from now on.
    pub(crate) fn touch(&self, app: AppId) {
        self.apps.lock().entry(app).or_default();
    }

    /// Notes that this node is in the list of an app.
    pub(crate) fn set_enlisted(&self, app: AppId) {
        self.apps.lock().insert(app, true);
    }

    /// Returns the apps in which this node may have entries.
    pub(crate) fn touched(&self) -> HashSet<AppId> {
        self.apps.lock().keys().cloned().collect()
    }

    /// Returns the apps in whose lists this node must be.
    pub(crate) fn enlisted(&self) -> HashSet<AppId> {
        let apps = self.apps.lock();
        let enlisted = apps.iter().filter(|(_, enlisted)| **enlisted);
        enlisted.map(|(app, _)| app.clone()).collect()
    }

    /// Notes that reports of the queue are answered.
    pub(crate) fn note_answered(&self, reports: usize) {
        self.answered.fetch_add(reports as u64, Ordering::AcqRel);
    }

    /// Returns how many reports of the queue are answered.
    pub(crate) fn answered_reports(&self) -> u64 {
        self.answered.load(Ordering::Acquire)
    }
}

/// Decodes a page, a long one on a thread where nothing waits for it. Returns `None` if that thread
/// ended, which is a bug.
async fn decode(page: HistoryPage) -> Option<HistoryAnswer> {
    let messages = page.messages.iter().flatten();
    if messages.map(Bytes::len).sum::<usize>() < LONG_PAGE {
        return Some(history_answer(page));
    }
    let decoded = spawn_blocking(move || history_answer(page));
    decoded.await.ok()
}

fn late() -> BackendError {
    BackendError::Broken(format!("no answer within {ANSWER_TIMEOUT:?}"))
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
