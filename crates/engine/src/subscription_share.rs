//! How many of an app's subscriptions on this node each network has. The less room the app's quota
//! has left, the fewer a network may have, so that one network never takes the last of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::budget::{ByNetwork, Network};

/// A network may have so many times the quota's part that is left, squared. At 56 one network alone
/// gets seven eighths of a quota. After `n` networks that each took what they could, about one part
/// in 56 `n` is left. If it were proportional to what is left, each of them would leave an eighth of
/// what the last one left, and four would take a quota of a thousand.
const LEFT_SQUARED: usize = 56;

/// The number of an app's subscriptions for each network, while the app has a quota.
#[derive(Debug, Default)]
pub(crate) struct NetworkSubscriptions(Mutex<ByNetwork<AtomicUsize>>);

impl NetworkSubscriptions {
    /// Returns the empty share of a client of this network.
    pub(crate) fn share_of(&self, network: Network) -> SubscriptionShare {
        let mut networks = self.0.lock();
        let numbers = network
            .all()
            .map(|network| (network, networks.value(network)));
        SubscriptionShare {
            numbers: numbers.collect(),
            counted: 0,
        }
    }
}

/// Subscriptions that count for a client's networks, until it is dropped.
#[derive(Debug)]
pub(crate) struct SubscriptionShare {
    /// The client's networks, and how many subscriptions each has.
    numbers: Arc<[(Network, Arc<AtomicUsize>)]>,
    /// How many of them this share counts.
    counted: usize,
}

impl SubscriptionShare {
    /// Returns a share of one more subscription of the same client.
    pub(crate) fn one_more(&self) -> Self {
        let mut more = Self {
            numbers: Arc::clone(&self.numbers),
            counted: 0,
        };
        more.add(1);
        more
    }

    // Relaxed throughout, because only the numbers themselves matter.
    pub(crate) fn add(&mut self, more: usize) {
        self.counted += more;
        for (_, number) in &*self.numbers {
            number.fetch_add(more, Ordering::Relaxed);
        }
    }

    pub(crate) fn remove_one(&mut self) {
        self.give_back(1);
    }

    /// Returns the network that has too many for another one, and how many it has, if `left` of
    /// `quota` are left. An IPv6 /48 may have several times as many as another network, and one that
    /// has none always gets one.
    pub(crate) fn exceeded(&self, quota: usize, left: usize) -> Option<(Network, usize)> {
        let held = |(network, number): &(Network, Arc<AtomicUsize>)| {
            (*network, number.load(Ordering::Relaxed))
        };
        let max = left.saturating_mul(left).saturating_mul(LEFT_SQUARED);
        let mut all = self.numbers.iter().map(held);
        all.find(|(network, held)| {
            let held = held / network.factor();
            held > 0 && held.saturating_mul(quota) >= max
        })
    }

    fn give_back(&mut self, fewer: usize) {
        let fewer = fewer.min(self.counted);
        self.counted -= fewer;
        for (_, number) in &*self.numbers {
            number.fetch_sub(fewer, Ordering::Relaxed);
        }
    }
}

impl Drop for SubscriptionShare {
    fn drop(&mut self) {
        self.give_back(self.counted);
    }
}
