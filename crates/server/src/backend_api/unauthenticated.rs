//! Answers to requests that prove nothing: a wrong signature, an unknown key, a stale timestamp, a wrong token. To find
//! that out takes a hash or more over up to 8 KiB. So where many come from one network their answers wait, and as
//! HTTP/1 has one request at a time on a connection, its next request waits as well. No worker waits. Requests that are
//! authenticated are answered at once, wherever they come from, because many backends may share a network.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use fanfare_engine::Network;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

/// How many such requests of one network are answered at once, as a burst.
const BURST: u32 = 20;
/// How often one more is, after that: ten a second.
const INTERVAL: Duration = Duration::from_millis(100);
/// How long an answer waits at most. Less than the time-out of HTTP clients, so that a backend with a wrong secret
/// still sees why it is refused.
const MAX_WAIT: Duration = Duration::from_secs(5);
/// Fewest networks among which those without a recent request are worth looking for.
const SWEEP_AT_LEAST: usize = 10_000;

/// Spreads these answers over time, for each network. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Unauthenticated(Arc<Mutex<Recent>>);

#[derive(Debug, Default)]
struct Recent {
    /// When a network has its burst again, if it sends no such request until then.
    full_at: HashMap<Network, Instant>,
    /// How many networks there may be before those that have it are removed.
    sweep_at: usize,
}

impl Unauthenticated {
    /// Counts a request of a network that is not authenticated, and waits until it may be answered.
    pub(crate) async fn wait(&self, address: Option<IpAddr>) {
        let Some(address) = address else {
            return;
        };
        let wait = self.count(Network::of(address), Instant::now());
        if !wait.is_zero() {
            sleep(wait).await;
        }
    }

    /// Counts a request, and returns how long its answer waits.
    fn count(&self, network: Network, now: Instant) -> Duration {
        let mut recent = self.0.lock();
        if recent.full_at.len() >= recent.sweep_at.max(SWEEP_AT_LEAST) {
            recent.full_at.retain(|_, full_at| *full_at > now);
            // Each sweep is paid for by as many requests as it looks at.
            recent.sweep_at = recent.full_at.len() * 2;
        }
        let mut longest = Duration::ZERO;
        // An IPv6 /48 counts like several networks.
        for network in network.all() {
            let interval = INTERVAL / u32::try_from(network.factor()).unwrap_or(1);
            let full_at = recent.full_at.entry(network).or_insert(now);
            // Generic cell rate algorithm: one timestamp stands for a bucket that refills steadily.
            let free = INTERVAL * BURST;
            *full_at = ((*full_at).max(now) + interval).min(now + free + MAX_WAIT);
            longest = longest.max(full_at.saturating_duration_since(now + free));
        }
        longest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(address: &str) -> Network {
        Network::of(address.parse().expect("an address"))
    }

    #[test]
    fn answers_to_one_network_wait_longer_and_longer_and_those_to_others_do_not() {
        let (counts, now) = (Unauthenticated::default(), Instant::now());
        let one = network("192.0.2.1");
        for _ in 0..BURST {
            assert_eq!(counts.count(one, now), Duration::ZERO);
        }
        assert_eq!(counts.count(one, now), INTERVAL);
        assert_eq!(counts.count(one, now), 2 * INTERVAL);
        for _ in 0..1000 {
            counts.count(one, now);
        }
        assert_eq!(counts.count(one, now), MAX_WAIT);
        assert_eq!(counts.count(network("192.0.2.2"), now), Duration::ZERO);
        // However many came, a while later none waits.
        let later = now + MAX_WAIT + INTERVAL * (BURST + 1);
        assert_eq!(counts.count(one, later), Duration::ZERO);
    }

    #[test]
    fn the_networks_of_one_ipv6_customer_wait_together() {
        let (counts, now) = (Unauthenticated::default(), Instant::now());
        let wait = |number| counts.count(network(&format!("2001:db8:1:{number}::1")), now);
        let longest = (0..200).map(wait).max();
        assert!(longest.is_some_and(|wait| !wait.is_zero()));
        assert_eq!(counts.count(network("2001:db8:2::1"), now), Duration::ZERO);
    }

    #[test]
    fn networks_that_send_nothing_more_are_forgotten() {
        let (counts, now) = (Unauthenticated::default(), Instant::now());
        for number in 0..u32::try_from(SWEEP_AT_LEAST).expect("a number") {
            counts.count(Network::of(IpAddr::from(number.to_be_bytes())), now);
        }
        counts.count(network("192.0.2.1"), now + INTERVAL);
        assert_eq!(counts.0.lock().full_at.len(), 1);
    }
}
