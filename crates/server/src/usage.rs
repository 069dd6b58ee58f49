//! Usage: what each app did, by minute, hour and day. A node counts in memory and writes to the store; reads come from
//! the store alone, so every node answers for all.
//!
//! | file | content |
//! |---|---|
//! | `recorder` | what this node counted and has not written yet |
//! | `range` | the range of time and the step that a caller asks for |
//! | `series` | totals for every period of a range, and CSV of them |

mod range;
mod recorder;
mod series;

use std::sync::Arc;
use std::time::Duration;

use fanfare_engine::{Engine, NodeUsage};
use fanfare_store::{Store, StoreError};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::alerts::Alerts;
use crate::clock::unix_millis;
use recorder::{Recorder, SAMPLE_PERIOD};

pub(crate) use range::{Format, Range, RangeQuery, Step, time as parse_time};
pub(crate) use series::{AppUsageTotal, UsagePoint, UsageSeries, csv, point, series};

/// How long the store may take for what this node counted.
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);
/// How long it may take at the end of the process.
const LAST_WRITE_TIMEOUT: Duration = Duration::from_secs(3);
/// How often hours and days are rolled up and old values deleted, in milliseconds.
const ROLL_UP_PERIOD: i64 = 60_000;
/// Hours and days that are rolled up at once, so that a node which comes back after days goes on writing meanwhile.
const ROLL_UPS_AT_ONCE: usize = 10;

/// What this node counts, and its way to the store. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Usage(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    recorder: Mutex<Recorder>,
    /// Set when values wait for the store.
    due: Notify,
}

/// How far this node's values are from the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UsageBacklog {
    /// Minutes of apps that are not in the store, or not as a whole.
    pub(crate) unwritten: usize,
    /// Minutes of apps that were given up, because the store was away for too long.
    pub(crate) lost: u64,
}

impl Usage {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Shared {
            recorder: Mutex::new(Recorder::new(unix_millis())),
            due: Notify::new(),
        }))
    }

    pub(crate) fn backlog(&self) -> UsageBacklog {
        self.0.recorder.lock().backlog()
    }

    /// Counts every [`SAMPLE_PERIOD`], or every `flush_period` if that is shorter, and asks for a write every
    /// `flush_period`. Never returns.
    pub(crate) async fn count(self, engine: Arc<Engine>, alerts: Alerts, flush_period: Duration) {
        let flush_period = i64::try_from(flush_period.as_millis()).unwrap_or(SAMPLE_PERIOD);
        let tick = flush_period.min(SAMPLE_PERIOD);
        let mut flushed = unix_millis().div_euclid(flush_period);
        loop {
            // At the beginning of each ten seconds of the clock, so that all nodes count at the same moments.
            let until_next = tick - unix_millis().rem_euclid(tick);
            sleep(Duration::from_millis(until_next.unsigned_abs())).await;
            let usage = engine.take_usage().await;
            alerts.note_usage(&usage);
            self.add(usage);
            let flush = unix_millis().div_euclid(flush_period);
            if flush != flushed {
                flushed = flush;
                self.0.due.notify_one();
            }
        }
    }

    fn add(&self, usage: NodeUsage) {
        self.0.recorder.lock().add(usage, unix_millis());
    }

    /// Writes what was counted whenever that is due, and rolls up what others and this node wrote. Never returns.
    pub(crate) async fn write(self, store: Store) {
        let (mut is_down, mut rolled_up) = (false, 0);
        loop {
            self.0.due.notified().await;
            match self.flush(&store, WRITE_TIMEOUT).await {
                Ok(()) if is_down => {
                    tracing::info!("the store takes usage again");
                    is_down = false;
                }
                Ok(()) => {}
                Err(error) if !is_down => {
                    tracing::warn!(%error, "usage is not written to the store; it is kept in memory until it is");
                    is_down = true;
                }
                Err(error) => tracing::debug!(%error, "usage is still not written"),
            }
            let period = unix_millis().div_euclid(ROLL_UP_PERIOD);
            if !is_down && period != rolled_up {
                rolled_up = period;
                if let Err(error) = roll_up(&store).await {
                    tracing::debug!(%error, "usage is not rolled up; the next attempt is in a minute");
                }
            }
        }
    }

    /// Writes what has changed since it was written. Nothing is written for apps that did nothing.
    async fn flush(&self, store: &Store, limit: Duration) -> Result<(), StoreError> {
        let batch = self.0.recorder.lock().unwritten();
        if batch.rows.is_empty() {
            return Ok(());
        }
        let write = store.write_usage(&batch.run, batch.number, &batch.rows, unix_millis());
        let late = timeout(limit, write)
            .await
            .unwrap_or(Err(StoreError::Late))?;
        if late > 0 {
            tracing::error!(
                minutes = late,
                "usage came two days late to the store, which does not count it any more"
            );
        }
        self.0.recorder.lock().written(batch.number, late);
        Ok(())
    }

    /// Counts and writes for the last time, after the last connection and request.
    pub(crate) async fn finish(&self, engine: &Engine, store: &Store) {
        self.add(engine.take_usage().await);
        if let Err(error) = self.flush(store, LAST_WRITE_TIMEOUT).await {
            let minutes = self.backlog().unwritten;
            tracing::error!(%error, minutes, "the last usage is lost: the store does not take it");
        }
    }
}

/// Rolls up a few hours and days, and deletes what is older than it is kept.
async fn roll_up(store: &Store) -> Result<(), StoreError> {
    let now = unix_millis();
    for _ in 0..ROLL_UPS_AT_ONCE {
        if !store.roll_up_usage(now).await? {
            return store.delete_old_usage(now).await;
        }
    }
    Ok(())
}
