//! Rates: how many events a backend may publish a second, and how much a client may send.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::time::Instant;

use crate::clock::EngineClock;

/// Limits the events of an app's backends.
#[derive(Debug)]
pub(crate) struct PublishRateLimiter(RateLimiter<NotKeyed, InMemoryState, EngineClock>);

impl PublishRateLimiter {
    pub(crate) fn new(per_second: u32) -> Option<Arc<Self>> {
        let quota = Quota::per_second(NonZeroU32::new(per_second)?);
        Some(Arc::new(Self(RateLimiter::direct_with_clock(
            quota,
            EngineClock,
        ))))
    }

    /// Counts events if the rate allows all of them, and returns whether it does.
    pub(crate) fn takes(&self, events: NonZeroU32) -> bool {
        matches!(self.0.check_n(events), Ok(Ok(())))
    }
}

/// Limits the client events of one connection, at the rate that the app had when it was created.
pub(crate) struct ClientEventRate {
    per_second: NonZeroU32,
    limiter: RateLimiter<NotKeyed, InMemoryState, EngineClock>,
}

impl ClientEventRate {
    pub(crate) fn new(per_second: NonZeroU32) -> Self {
        Self {
            per_second,
            limiter: RateLimiter::direct_with_clock(Quota::per_second(per_second), EngineClock),
        }
    }

    /// Returns whether it counts at this rate.
    pub(crate) fn is_at(&self, per_second: NonZeroU32) -> bool {
        self.per_second == per_second
    }

    /// Counts an event if the rate allows it, and returns whether it does.
    pub(crate) fn takes_one(&self) -> bool {
        self.limiter.check().is_ok()
    }
}

/// How far the messages of a connection are ahead of their rate. Every connection has one, so it is
/// one number; a limiter from a library would be several times as large.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct MessageRate {
    /// When the next message may be handled; `None` before the first.
    allowed_at: Option<Instant>,
}

impl MessageRate {
    /// Counts a message. At most `burst` messages are handled at once, and `per_second` of them after that.
    pub(crate) fn count(&mut self, now: Instant, per_second: u32, burst: u32) {
        let interval = Duration::from_secs(1) / per_second.max(1);
        // A quiet connection saves up one burst at most.
        let earliest = now.checked_sub(interval * burst).unwrap_or(now);
        self.allowed_at = Some(self.allowed_at.unwrap_or(earliest).max(earliest) + interval);
    }

    /// Returns when after `now` the next message may be handled, or `None` if at once.
    pub(crate) fn allowed_after(&self, now: Instant) -> Option<Instant> {
        self.allowed_at.filter(|at| *at > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many messages are handled at once at `now`.
    fn handled(rate: &mut MessageRate, now: Instant) -> usize {
        let mut count = 0;
        while rate.allowed_after(now).is_none() {
            rate.count(now, 10, 50);
            count += 1;
        }
        count
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_handled_at_once_and_then_so_many_a_second() {
        let start = Instant::now();
        let mut rate = MessageRate::default();
        assert_eq!(handled(&mut rate, start), 51);
        assert_eq!(handled(&mut rate, start), 0);
        assert_eq!(handled(&mut rate, start + Duration::from_secs(1)), 10);
        assert_eq!(handled(&mut rate, start + Duration::from_secs(3)), 20);
        let later = start + Duration::from_secs(3600);
        assert_eq!(handled(&mut rate, later), 51);
    }
}
