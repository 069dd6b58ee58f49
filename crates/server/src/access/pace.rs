//! How often somebody may try to sign in: by address, never by account, for else a stranger could lock an operator out.

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

/// Attempts at once; after that one every six seconds.
const BURST: NonZeroU32 = NonZeroU32::new(10).expect("not zero");
const PER_MINUTE: NonZeroU32 = NonZeroU32::new(10).expect("not zero");
/// Addresses that are remembered before those are forgotten which have been quiet.
const MANY: usize = 10_000;

/// Counts attempts. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct SignInPace(Arc<DefaultKeyedRateLimiter<IpAddr>>);

/// An address has tried too often.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many attempts to sign in from this address; try again in {seconds} s")]
pub(crate) struct TooOften {
    /// When it may try again.
    pub(crate) seconds: u64,
}

impl SignInPace {
    pub(crate) fn new() -> Self {
        let quota = Quota::per_minute(PER_MINUTE).allow_burst(BURST);
        Self(Arc::new(RateLimiter::keyed(quota)))
    }

    /// Counts an attempt, if there is one left.
    pub(crate) fn attempt(&self, from: Option<IpAddr>) -> Result<(), TooOften> {
        let Some(from) = from else { return Ok(()) };
        if self.0.len() > MANY {
            self.0.retain_recent();
        }
        self.0.check_key(&network(from)).map_err(|not_until| {
            let clock = governor::clock::DefaultClock::default();
            let wait = not_until.wait_time_from(governor::clock::Clock::now(&clock));
            TooOften {
                seconds: wait.as_secs() + 1,
            }
        })
    }
}

/// Who has an IPv6 address has 2^64 of them.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_tries_too_often_waits_and_others_do_not() {
        let pace = SignInPace::new();
        let one = "192.0.2.1".parse().ok();
        for _ in 0..10 {
            assert_eq!(pace.attempt(one), Ok(()));
        }
        let refused = pace.attempt(one).expect_err("too often");
        assert!((1..=7).contains(&refused.seconds), "{refused}");
        assert_eq!(pace.attempt("192.0.2.2".parse().ok()), Ok(()));
    }

    #[test]
    fn addresses_of_one_ipv6_network_count_together() {
        let pace = SignInPace::new();
        for n in 0..10 {
            assert_eq!(pace.attempt(format!("2001:db8::{n}").parse().ok()), Ok(()));
        }
        assert!(pace.attempt("2001:db8::ffff".parse().ok()).is_err());
        assert_eq!(pace.attempt("2001:db8:0:1::1".parse().ok()), Ok(()));
    }
}
