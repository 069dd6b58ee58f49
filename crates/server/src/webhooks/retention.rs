//! Keeps the log within its bounds, and looks how much waits.

use std::sync::Arc;
use std::time::Duration;

use fanfare_store::{Store, StoreError, WebhookBacklog, WebhookDay};
use parking_lot::Mutex;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::clock::unix_millis;
use crate::config::WebhooksConfig;

const DAY: i64 = 24 * 3_600_000;
/// How often old days are dropped, and how much it differs by chance, so that nodes don't do it together.
const PRUNE_PERIOD: Duration = Duration::from_secs(3600);
/// Milliseconds for which it is remembered that receivers were told of an absence.
const ABSENT_KEPT: i64 = DAY;
/// How often is looked how much waits.
const LOOK_PERIOD: Duration = Duration::from_secs(15);
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);

/// How much waited at the last look. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Backlog(Arc<Mutex<Waiting>>);

/// The deliveries of active webhooks that wait, on all nodes together.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Waiting {
    pub(crate) deliveries: usize,
    /// Age of the oldest when it was looked at.
    pub(crate) oldest: Duration,
}

impl Waiting {
    fn at(found: WebhookBacklog, now: i64) -> Self {
        let age = found.oldest.map_or(0, |at| now - at);
        Self {
            deliveries: usize::try_from(found.waiting).unwrap_or_default(),
            oldest: Duration::from_millis(u64::try_from(age).unwrap_or_default()),
        }
    }
}

impl Backlog {
    pub(super) fn read(&self) -> Waiting {
        *self.0.lock()
    }

    /// Looks again and again. Never returns.
    pub(super) async fn look(self, store: Store) {
        let mut ticks = interval(LOOK_PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Ok(Ok(found)) = timeout(LOOK_TIMEOUT, store.webhook_backlog()).await {
                *self.0.lock() = Waiting::at(found, unix_millis());
            }
        }
    }
}

/// Drops what is too old or too much. Never returns.
pub(super) async fn prune(store: Store, config: WebhooksConfig) {
    loop {
        sleep(PRUNE_PERIOD.mul_f64(0.5 + rand::random::<f64>())).await;
        if let Err(error) = prune_once(&store, &config).await {
            tracing::warn!(%error, "old deliveries of webhooks are not dropped; the next attempt is in an hour");
        }
    }
}

async fn prune_once(store: &Store, config: &WebhooksConfig) -> Result<(), StoreError> {
    let now = unix_millis();
    let days = store.webhook_days().await?;
    let before = drop_before(&days, now, config);
    let dropped = store.drop_webhook_days(before).await?;
    if dropped > 0 {
        tracing::info!(dropped, "old days of webhooks' deliveries are dropped");
    }
    warn_if_too_much(store, config).await?;
    store.prune_webhooks(now - ABSENT_KEPT).await
}

async fn warn_if_too_much(store: &Store, config: &WebhooksConfig) -> Result<(), StoreError> {
    let days = store.webhook_days().await?;
    let bytes: i64 = days.iter().map(|day| day.bytes).sum();
    if usize::try_from(bytes).is_ok_and(|bytes| bytes > config.log_size) {
        tracing::warn!(
            bytes,
            "the log of webhooks takes more than it may (webhooks.log_size): nothing is dropped that may still be sent (webhooks.retry_for)"
        );
    }
    Ok(())
}

/// Returns the time before which days are dropped: those that are too old, and the oldest that are more than may be kept.
/// A day stays as long as something of it may wait.
fn drop_before(days: &[WebhookDay], now: i64, config: &WebhooksConfig) -> i64 {
    let millis = |seconds: u64| {
        i64::try_from(seconds)
            .unwrap_or(i64::MAX / 1000)
            .saturating_mul(1000)
    };
    let log_days = i64::try_from(config.log_days).unwrap_or(i64::MAX / DAY);
    let too_old = now - log_days * DAY;
    let may_wait = now - millis(config.retry_for) - DAY;
    let max = i64::try_from(config.log_size).unwrap_or(i64::MAX);
    let mut bytes = 0;
    let beyond = days.iter().rev().find(|day| {
        bytes += day.bytes;
        bytes > max
    });
    let too_much = beyond.map_or(i64::MIN, |day| day.day + DAY);
    too_old.max(too_much.min(may_wait))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_dropped_by_age_and_by_size_but_not_while_something_may_wait() {
        let config = WebhooksConfig {
            log_days: 30,
            log_size: 100,
            ..WebhooksConfig::default()
        };
        let now = 100 * DAY + 5;
        let day = |number: i64, bytes| WebhookDay {
            day: number * DAY,
            deliveries: 1,
            bytes,
        };
        let before = |days: &[WebhookDay]| drop_before(days, now, &config);
        assert_eq!(before(&[]), 70 * DAY + 5);
        assert_eq!(before(&[day(60, 1), day(99, 99)]), 70 * DAY + 5);
        let days = [day(90, 50), day(95, 50), day(97, 50), day(100, 50)];
        assert_eq!(before(&days), 96 * DAY, "the two newest fit");
        let waiting = now - 18 * 3_600_000 - DAY;
        assert_eq!(before(&[day(99, 500), day(100, 500)]), waiting);
    }
}
