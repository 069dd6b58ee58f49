//! How often sign-ins may fail. Failed attempts count for the network they come from, never for the account alone,
//! because a stranger could otherwise lock an operator out.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Failed attempts on one name from one network, as a burst and then each minute.
const PER_NAME: u32 = 10;
/// Failed attempts from one network on all names. Many people may share a network behind a proxy that isn't declared.
const PER_NETWORK: u32 = 30;
/// Failed attempts from an IPv6 /48. It may be one customer's, who then has 65,536 networks.
const PER_WIDE_NETWORK: u32 = 120;
/// Number of counts above which those that are full again are removed.
const SWEEP_ABOVE: usize = 10_000;
/// Largest number of successful sign-ins that are remembered, by network, name and program.
const MAX_KNOWN: usize = 10_000;

/// Counts failed attempts. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct SignInRateLimiter(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    hasher: RandomState,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When each count is full again if no attempt comes.
    full_at: HashMap<Count, Instant>,
    /// Names that have signed in from a network with a program. Their later attempts there have a count of their own,
    /// so that strangers in the same network don't use it up.
    known: HashSet<(IpAddr, u64)>,
    known_networks: HashSet<IpAddr>,
}

/// Key of a count. Names and programs are stored only as hashes, because a name may be a password in the wrong field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Count {
    Name(IpAddr, u64),
    Network(IpAddr),
    WideNetwork(IpAddr),
    /// A name with a program that has signed in from the network before.
    Known(IpAddr, u64),
}

impl Count {
    /// Returns the number of attempts as a burst, and in a minute.
    fn max(self) -> u32 {
        match self {
            Self::Name(..) | Self::Known(..) => PER_NAME,
            Self::Network(_) => PER_NETWORK,
            Self::WideNetwork(_) => PER_WIDE_NETWORK,
        }
    }

    fn interval(self) -> Duration {
        Duration::from_secs(60) / self.max()
    }
}

/// An attempt's origin and the account it names.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate<'a> {
    /// `None` if the attempt came over no network.
    pub(crate) address: Option<IpAddr>,
    /// The name of the account.
    pub(crate) name: &'a str,
    /// The client's `User-Agent`.
    pub(crate) agent: Option<&'a str>,
}

/// An attempt that counts as failed until [`Attempt::succeeded`] is called.
#[derive(Debug)]
#[must_use]
pub(crate) struct Attempt {
    limiter: SignInRateLimiter,
    counts: Vec<Count>,
    /// Key under which a success is remembered.
    known: Option<(IpAddr, u64)>,
    /// Whether an operator has signed in from this network before.
    pub(crate) is_from_known_network: bool,
}

/// Refuses an attempt, because too many from its network failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many attempts to sign in from this address; try again in {seconds} s")]
pub(crate) struct TooOften {
    /// Time until the network may try again, in seconds.
    pub(crate) seconds: u64,
}

impl SignInRateLimiter {
    /// Checks that a network has attempts left on any name, before work is done for it.
    pub(crate) fn has_attempts(&self, from: Option<IpAddr>) -> Result<(), TooOften> {
        let Some(from) = from else { return Ok(()) };
        let state = self.0.state.lock();
        if state.known_networks.contains(&network(from)) {
            return Ok(());
        }
        state.check(&network_counts(from), Instant::now())
    }

    /// Counts a failed attempt that names no account, because malformed sign-ins are bounded too.
    pub(crate) fn count_malformed(&self, from: Option<IpAddr>) {
        if let Some(from) = from {
            let counts = network_counts(from);
            self.0.state.lock().take(&counts, Instant::now());
        }
    }

    /// Counts an attempt, or returns [`TooOften`] if none is left.
    pub(crate) fn attempt(&self, candidate: Candidate<'_>) -> Result<Attempt, TooOften> {
        let Some(from) = candidate.address else {
            return Ok(self.attempt_of(Vec::new(), None, true));
        };
        let network = network(from);
        let name = candidate.name.trim().to_lowercase();
        let known = (network, self.0.hasher.hash_one((&name, candidate.agent)));
        let mut state = self.0.state.lock();
        let counts = if state.known.contains(&known) {
            vec![Count::Known(known.0, known.1)]
        } else {
            let mut counts = network_counts(from);
            counts.push(Count::Name(network, self.0.hasher.hash_one(&name)));
            counts
        };
        let now = Instant::now();
        state.check(&counts, now)?;
        // Under the same lock as the check, so that parallel attempts can't all pass it.
        state.take(&counts, now);
        let is_known = state.known_networks.contains(&network);
        drop(state);
        Ok(self.attempt_of(counts, Some(known), is_known))
    }

    /// Remembers that a name has signed in, from its network and with its program.
    pub(crate) fn remember(&self, candidate: Candidate<'_>) {
        if let Some(from) = candidate.address {
            let name = candidate.name.trim().to_lowercase();
            let key = self.0.hasher.hash_one((&name, candidate.agent));
            self.0.state.lock().remember((network(from), key));
        }
    }

    fn attempt_of(
        &self,
        counts: Vec<Count>,
        known: Option<(IpAddr, u64)>,
        is_from_known_network: bool,
    ) -> Attempt {
        Attempt {
            limiter: self.clone(),
            counts,
            known,
            is_from_known_network,
        }
    }
}

impl Attempt {
    /// Gives the attempt back, and lets later ones like it be counted apart from strangers' attempts.
    pub(crate) fn succeeded(self) {
        let mut state = self.limiter.0.state.lock();
        for count in &self.counts {
            if let Some(full_at) = state.full_at.get_mut(count) {
                *full_at -= count.interval();
            }
        }
        if let Some(known) = self.known {
            state.remember(known);
        }
    }
}

impl State {
    fn check(&self, counts: &[Count], now: Instant) -> Result<(), TooOften> {
        for count in counts {
            let full_at = self.full_at.get(count).copied().unwrap_or(now).max(now);
            // Generic cell rate algorithm: one timestamp stands for a bucket that refills steadily.
            let burst = count.interval() * (count.max() - 1);
            let wait = full_at.saturating_duration_since(now + burst);
            if !wait.is_zero() {
                return Err(TooOften {
                    seconds: wait.as_secs() + 1,
                });
            }
        }
        Ok(())
    }

    fn take(&mut self, counts: &[Count], now: Instant) {
        if self.full_at.len() > SWEEP_ABOVE {
            self.full_at.retain(|_, full_at| *full_at > now);
        }
        for count in counts {
            let full_at = self.full_at.entry(*count).or_insert(now);
            *full_at = (*full_at).max(now) + count.interval();
        }
    }

    fn remember(&mut self, known: (IpAddr, u64)) {
        // Forgetting locks nobody out, it only merges counts. So many entries aren't the habits of operators.
        if self.known.len() >= MAX_KNOWN {
            self.known.clear();
            self.known_networks.clear();
        }
        self.known.insert(known);
        self.known_networks.insert(known.0);
    }
}

fn network_counts(from: IpAddr) -> Vec<Count> {
    let mut counts = vec![Count::Network(network(from))];
    if let IpAddr::V6(v6) = from {
        counts.push(Count::WideNetwork(truncated(v6, 48)));
    }
    counts
}

/// Returns the network of an address. For IPv6 that is its /64, because a client that has one address there usually has
/// all of them.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => truncated(v6, 64),
    }
}

fn truncated(address: Ipv6Addr, prefix: u32) -> IpAddr {
    let rest = 128 - prefix;
    IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> rest << rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate<'a>(address: &str, name: &'a str, agent: &'a str) -> Candidate<'a> {
        Candidate {
            address: address.parse().ok(),
            name,
            agent: Some(agent),
        }
    }

    fn fails(limiter: &SignInRateLimiter, address: &str, name: &str) -> bool {
        limiter.attempt(candidate(address, name, "curl")).is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_that_is_tried_too_often_from_one_network_waits_and_others_do_not() {
        let limiter = SignInRateLimiter::default();
        for _ in 0..PER_NAME {
            assert!(fails(&limiter, "192.0.2.1", "owner"));
        }
        let refused = limiter.attempt(candidate("192.0.2.1", "Owner", "curl"));
        let refused = refused.expect_err("too often");
        assert!((1..=7).contains(&refused.seconds), "{refused}");
        assert!(fails(&limiter, "192.0.2.2", "owner"));
        assert!(fails(&limiter, "192.0.2.1", "ada"), "another name");
    }

    #[tokio::test(start_paused = true)]
    async fn a_network_that_tries_many_names_waits() {
        let limiter = SignInRateLimiter::default();
        for number in 0..PER_NETWORK {
            assert!(fails(&limiter, "192.0.2.1", &format!("name {number}")));
        }
        assert!(!fails(&limiter, "192.0.2.1", "one more"));
        assert!(limiter.has_attempts("192.0.2.1".parse().ok()).is_err());
        for _ in 0..PER_NETWORK {
            limiter.count_malformed("192.0.2.3".parse().ok());
        }
        assert!(limiter.has_attempts("192.0.2.3".parse().ok()).is_err());
        assert_eq!(limiter.has_attempts("192.0.2.2".parse().ok()), Ok(()));
        assert_eq!(limiter.has_attempts(None), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_of_one_ipv6_network_count_together_and_so_do_networks_of_one_site() {
        let limiter = SignInRateLimiter::default();
        for n in 0..PER_NAME {
            assert!(fails(&limiter, &format!("2001:db8::{n}"), "owner"));
        }
        assert!(!fails(&limiter, "2001:db8::ffff", "owner"));
        assert!(fails(&limiter, "2001:db8:0:1::1", "owner"));
        for n in 2.. {
            let address = format!("2001:db8:0:{n:x}::1");
            if !fails(&limiter, &address, "owner") {
                assert_eq!(n, PER_WIDE_NETWORK - PER_NAME + 1);
                break;
            }
        }
        assert!(fails(&limiter, "2001:db8:1::1", "owner"), "another site");
    }

    #[tokio::test(start_paused = true)]
    async fn who_succeeds_is_not_counted() {
        let limiter = SignInRateLimiter::default();
        for _ in 0..100 {
            let attempt = limiter.attempt(candidate("192.0.2.1", "owner", "curl"));
            attempt.expect("an attempt").succeeded();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn strangers_behind_the_same_address_do_not_lock_out_who_signed_in_before() {
        let limiter = SignInRateLimiter::default();
        limiter.remember(candidate("192.0.2.1", "owner", "Firefox"));
        for number in 0..1000 {
            let _ = fails(&limiter, "192.0.2.1", "owner");
            let _ = fails(&limiter, "192.0.2.1", &format!("name {number}"));
        }
        assert!(!fails(&limiter, "192.0.2.1", "owner"));
        assert_eq!(limiter.has_attempts("192.0.2.1".parse().ok()), Ok(()));
        let owner = limiter.attempt(candidate("192.0.2.1", "owner", "Firefox"));
        assert!(owner.expect("an attempt").is_from_known_network);
        let guesses = (0..20).map(|_| limiter.attempt(candidate("192.0.2.1", "owner", "Firefox")));
        let taken = guesses.filter(Result::is_ok).count();
        assert_eq!(
            taken,
            PER_NAME as usize - 1,
            "guesses with its name are still counted"
        );
    }
}
