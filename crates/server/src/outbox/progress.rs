//! How reading an app's outbox goes on, for its state in the store, logs and metrics.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fanfare_outbox::{Backlog, Rejection};
use fanfare_protocol::AppId;
use fanfare_store::{OutboxState, Store};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::clock::unix_millis;

/// How often the state is written while it changes.
const REPORT_INTERVAL: Duration = Duration::from_secs(5);
/// What another node reported counts this long, in milliseconds: this one's failures say nothing then.
const FRESH: i64 = 15_000;

/// Events of all outboxes since the start of this node.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) published: AtomicU64,
    pub(super) rejected: AtomicU64,
}

/// One app's outbox at one moment, as this node knows it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Reading {
    pub(super) is_failing: bool,
    /// What waits; nothing unless this node reads.
    pub(super) waiting: u64,
    pub(super) oldest_age: Duration,
}

/// The progress of one app's outbox on this node.
pub(super) struct Progress {
    app: AppId,
    node: String,
    counters: Arc<Counters>,
    state: Mutex<State>,
    /// When something is worth a report at once.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    mode: Mode,
    backlog: Option<Backlog>,
    /// Since the last report.
    published: u64,
    rejected: u64,
    last_event_at: Option<i64>,
    last_error: Option<(String, i64)>,
}

/// What this node does with the outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Mode {
    /// Another node reads, or nobody does yet.
    #[default]
    Idle,
    /// This node reads.
    Reading,
    /// This node can't read, or can't publish what it reads.
    Failing,
}

impl Progress {
    pub(super) fn new(app: AppId, node: String, counters: Arc<Counters>) -> Self {
        Self {
            app,
            node,
            counters,
            state: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// Notes that this node is the reader and has reached the database.
    pub(super) fn read(&self) {
        let before = self.set(Mode::Reading);
        if before == Mode::Failing {
            tracing::info!(app = %self.app, "the outbox is read again");
        } else if before == Mode::Idle {
            tracing::debug!(app = %self.app, "this node reads the outbox");
        }
    }

    /// Notes that this node isn't the reader.
    pub(super) fn stop_reading(&self) {
        self.set(Mode::Idle);
    }

    fn set(&self, mode: Mode) -> Mode {
        let before = std::mem::replace(&mut self.state.lock().mode, mode);
        if before != mode {
            self.changed.notify_one();
        }
        before
    }

    /// Notes that something failed. A failure that repeats is logged once.
    pub(super) fn fail(&self, error: &str) {
        let mut state = self.state.lock();
        let is_known = state.mode == Mode::Failing
            && state
                .last_error
                .as_ref()
                .is_some_and(|(known, _)| known == error);
        state.mode = Mode::Failing;
        state.last_error = Some((error.to_owned(), unix_millis()));
        drop(state);
        if !is_known {
            tracing::warn!(
                app = %self.app, error,
                "the outbox is not read: its events wait, and it is tried again; `fanfare outbox show` has its state"
            );
            self.changed.notify_one();
        }
    }

    pub(super) fn publish(&self, events: usize) {
        self.counters
            .published
            .fetch_add(events as u64, Ordering::Relaxed);
        let mut state = self.state.lock();
        state.published += events as u64;
        state.last_event_at = Some(unix_millis());
        // What failed before has passed.
        if state.mode == Mode::Failing {
            drop(state);
            self.read();
        }
    }

    pub(super) fn reject(&self, rejections: &[Rejection]) {
        let count = rejections.len() as u64;
        self.counters.rejected.fetch_add(count, Ordering::Relaxed);
        self.state.lock().rejected += count;
        for Rejection { id, reason } in rejections {
            tracing::warn!(
                app = %self.app, id, reason,
                "an event of the outbox cannot be delivered and was set aside (fanfare.rejected, or the stream's :rejected)"
            );
        }
    }

    pub(super) fn wait_for(&self, backlog: Backlog) {
        self.state.lock().backlog = Some(backlog);
    }

    pub(super) fn reading(&self) -> Reading {
        let state = self.state.lock();
        let backlog = state.backlog.as_ref().filter(|_| state.mode != Mode::Idle);
        Reading {
            is_failing: state.mode == Mode::Failing,
            waiting: backlog.map_or(0, |backlog| backlog.waiting),
            oldest_age: backlog
                .and_then(|backlog| backlog.oldest_age)
                .unwrap_or_default(),
        }
    }

    /// Writes reports to the store until `stop`.
    pub(super) async fn report(&self, store: &Store, stop: &CancellationToken) {
        loop {
            let changed = timeout(REPORT_INTERVAL, self.changed.notified());
            let is_last = tokio::select! {
                _ = changed => false,
                () = stop.cancelled() => true,
            };
            if let Some(state) = self.take(store).await
                && let Err(error) = store.report_outbox(self.app.as_str(), &state).await
            {
                tracing::debug!(%error, app = %self.app, "the state of the outbox was not written; the next report has it all");
                let mut waiting = self.state.lock();
                waiting.published += u64::try_from(state.published).unwrap_or(0);
                waiting.rejected += u64::try_from(state.rejected).unwrap_or(0);
            }
            if is_last {
                return;
            }
        }
    }

    /// Returns what to report, if it is this node that should.
    async fn take(&self, store: &Store) -> Option<OutboxState> {
        let is_failing = self.state.lock().mode == Mode::Failing;
        if is_failing && self.is_read_elsewhere(store).await {
            return None;
        }
        let mut state = self.state.lock();
        let has_news = state.published > 0 || state.rejected > 0;
        if state.mode == Mode::Idle && !has_news {
            return None;
        }
        let backlog = state.backlog.clone().unwrap_or_default();
        let now = unix_millis();
        let age = backlog
            .oldest_age
            .map(|age| i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
        let (last_error, last_error_at) = state.last_error.clone().unzip();
        Some(OutboxState {
            node: self.node.clone(),
            connected: state.mode != Mode::Failing,
            backlog: i64::try_from(backlog.waiting).unwrap_or(i64::MAX),
            backlog_is_exact: backlog.is_exact,
            oldest_at: age.map(|age| now.saturating_sub(age)),
            published: i64::try_from(std::mem::take(&mut state.published)).unwrap_or(i64::MAX),
            rejected: i64::try_from(std::mem::take(&mut state.rejected)).unwrap_or(i64::MAX),
            last_event_at: state.last_event_at,
            last_error,
            last_error_at,
            reported_at: now,
        })
    }

    async fn is_read_elsewhere(&self, store: &Store) -> bool {
        let state = store.outbox_state(self.app.as_str()).await;
        state.ok().flatten().is_some_and(|state| {
            state.node != self.node
                && state.connected
                && unix_millis().saturating_sub(state.reported_at) < FRESH
        })
    }
}
