//! Limits repeated log lines to one in each period.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Lets one call pass in each period.
#[derive(Debug)]
pub(crate) struct Throttle {
    started: Instant,
    every: Duration,
    /// When the next one may pass, in milliseconds since the start.
    next: AtomicU64,
}

impl Throttle {
    pub(crate) fn new(every: Duration) -> Self {
        Self {
            started: Instant::now(),
            every,
            next: AtomicU64::new(0),
        }
    }

    /// Returns whether this one may pass, and then starts the next period.
    pub(crate) fn may_pass(&self) -> bool {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let now = millis(self.started.elapsed());
        let next = now.saturating_add(millis(self.every));
        let later = |at: u64| (at <= now).then_some(next);
        self.next
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, later)
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_passes_in_each_period() {
        let throttle = Throttle::new(Duration::from_secs(60));
        assert!(throttle.may_pass());
        advance(Duration::from_secs(59)).await;
        assert!(!throttle.may_pass());
        advance(Duration::from_secs(1)).await;
        assert!(throttle.may_pass() && !throttle.may_pass());
    }
}
