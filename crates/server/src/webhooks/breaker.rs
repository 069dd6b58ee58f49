//! Hosts that can't be reached, over the webhooks of all apps: requests to them wait, except for one in a while that
//! finds out whether they are back.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Attempts in a row that didn't reach a host before requests to it wait.
const UNREACHED: u32 = 10;
/// Time between two attempts to reach such a host.
const PROBE_GAP: Duration = Duration::from_secs(30);
/// Time after which a host that nothing was sent to is forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(600);

/// The hosts that weren't reached lately.
#[derive(Debug, Default)]
pub(super) struct Breakers(Mutex<HashMap<String, Breaker>>);

#[derive(Debug)]
struct Breaker {
    unreached: u32,
    tried_at: Instant,
}

impl Breakers {
    /// Returns whether a request may be sent to a host now, or how long it waits. A request that may be sent to a host
    /// that wasn't reached is the probe, and others wait for its outcome.
    pub(super) fn admit(&self, host: &str) -> Result<(), Duration> {
        let mut by_host = self.0.lock();
        let Some(breaker) = by_host.get_mut(host) else {
            return Ok(());
        };
        let since = breaker.tried_at.elapsed();
        if breaker.unreached < UNREACHED {
            return Ok(());
        }
        if since < PROBE_GAP {
            return Err(PROBE_GAP - since);
        }
        breaker.tried_at = Instant::now();
        Ok(())
    }

    /// Notes whether a request has reached a host: that it could be connected to counts, even if no answer came.
    pub(super) fn note(&self, host: &str, is_reached: bool) {
        let mut by_host = self.0.lock();
        if is_reached {
            by_host.remove(host);
            return;
        }
        let breaker = by_host.entry(host.to_owned()).or_insert(Breaker {
            unreached: 0,
            tried_at: Instant::now(),
        });
        breaker.unreached = breaker.unreached.saturating_add(1);
        breaker.tried_at = Instant::now();
        by_host.retain(|_, breaker| breaker.tried_at.elapsed() < FORGET_AFTER);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn requests_to_a_host_that_is_not_reached_wait_except_for_a_probe() {
        let breakers = Breakers::default();
        for _ in 0..UNREACHED {
            assert_eq!(breakers.admit("dead"), Ok(()));
            breakers.note("dead", false);
        }
        assert_eq!(breakers.admit("dead"), Err(PROBE_GAP));
        assert_eq!(breakers.admit("well"), Ok(()));
        advance(PROBE_GAP).await;
        assert_eq!(breakers.admit("dead"), Ok(()), "the probe");
        assert_eq!(breakers.admit("dead"), Err(PROBE_GAP), "the others");
        breakers.note("dead", true);
        assert_eq!(breakers.admit("dead"), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_between_failures_begins_the_count_anew() {
        let breakers = Breakers::default();
        for attempt in 0..3 * UNREACHED {
            breakers.note("shaky", attempt % UNREACHED == UNREACHED - 1);
            assert_eq!(breakers.admit("shaky"), Ok(()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn hosts_that_nothing_is_sent_to_are_forgotten() {
        let breakers = Breakers::default();
        breakers.note("old", false);
        advance(FORGET_AFTER).await;
        breakers.note("new", false);
        assert_eq!(breakers.0.lock().len(), 1);
    }
}
