//! The events that this node published last. A database that crashes or fails over may lose its last transactions, and
//! with them that these events were taken and delivered: then they come again, in other batches, and are known here.

use std::collections::{HashSet, VecDeque};
use std::hash::Hash;
use std::time::Duration;

use siphasher::sip128::{Hasher128, SipHasher13};
use tokio::time::Instant;

/// How long an event is known: longer than a failover takes.
const KNOWN_FOR: Duration = Duration::from_secs(600);
/// Most events that are known.
const MAX_KNOWN: usize = 65_536;

/// Digests of events' ids, the latest last.
#[derive(Debug, Default)]
pub(super) struct RecentEvents {
    known: HashSet<u128>,
    order: VecDeque<(Instant, u128)>,
}

impl RecentEvents {
    pub(super) fn contains(&self, id: &str) -> bool {
        self.known.contains(&digest(id))
    }

    pub(super) fn add<'a>(&mut self, ids: impl IntoIterator<Item = &'a str>) {
        let now = Instant::now();
        for id in ids {
            let digest = digest(id);
            if self.known.insert(digest) {
                self.order.push_back((now, digest));
            }
        }
        while let Some((at, digest)) = self.order.front() {
            if self.order.len() <= MAX_KNOWN && now - *at < KNOWN_FOR {
                break;
            }
            self.known.remove(digest);
            self.order.pop_front();
        }
    }
}

fn digest(id: &str) -> u128 {
    let mut hasher = SipHasher13::new();
    id.hash(&mut hasher);
    hasher.finish128().as_u128()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_event_is_known_for_a_while_and_the_latest_are_known_longest() {
        let mut recent = RecentEvents::default();
        recent.add(["a"]);
        assert!(recent.contains("a") && !recent.contains("b"));
        tokio::time::advance(KNOWN_FOR).await;
        recent.add(["b"]);
        assert!(!recent.contains("a") && recent.contains("b"));
        let ids: Vec<_> = (0..MAX_KNOWN).map(|n| n.to_string()).collect();
        recent.add(ids.iter().map(String::as_str));
        assert!(!recent.contains("b") && recent.contains("0"));
    }
}
