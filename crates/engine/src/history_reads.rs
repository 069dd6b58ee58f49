//! Turns of those that read histories. What an answer may make this node hold is charged before the history is asked for, and
//! waiting reads take turns: apps in a circle, the networks of an app in a circle, the reads of a network in their order.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::Arc;

use fanfare_protocol::AppId;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::budget::{Charge, Holder, Network, Payer, Resource};

/// Fewest waiting reads of a network at which those that were given up are looked for.
const SWEEP_AT_LEAST: usize = 64;

/// The waiting reads of a node. A connection waits for one at a time, so the connections bound them. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct HistoryReads(Arc<Mutex<Circle<AppId, Networks>>>);

/// The networks whose reads of one app wait.
type Networks = Circle<Option<Network>, Lane>;

/// A read that waits for its turn.
#[derive(Debug)]
struct Waiting {
    payer: Payer,
    bytes: usize,
    turn: oneshot::Sender<HistoryCharge>,
}

/// The waiting reads of one network.
#[derive(Debug, Default)]
struct Lane {
    reads: VecDeque<Waiting>,
    sweep_at: usize,
}

/// What a turn led to.
enum Turn {
    /// A read may begin.
    Begin(Waiting, Charge),
    /// A network, or each network of an app, holds as much as it may.
    NetworkFull,
    /// The node holds as much as it may.
    NodeFull,
    /// No read waits.
    Over,
}

impl HistoryReads {
    /// Waits until a read of at most `bytes` has its turn, and returns the charge for them. More than the lowest bound isn't charged,
    /// so that each read has its turn some time.
    pub(crate) async fn reserve(&self, app: &AppId, payer: &Payer, bytes: usize) -> HistoryCharge {
        if bytes == 0 {
            return self.charged(payer.empty_charge(Resource::HistoryBytes));
        }
        let bytes = bytes.min(payer.lowest_bound(Resource::HistoryBytes));
        let turn = {
            let mut waiting = self.0.lock();
            // Only a read that overtakes no other begins at once.
            if waiting.is_empty()
                && let Ok(charge) = payer.charge(Resource::HistoryBytes, bytes)
            {
                return self.charged(charge);
            }
            let (turn, begins) = oneshot::channel();
            waiting
                .entry(app.clone())
                .entry(payer.network())
                .push(Waiting {
                    payer: payer.clone(),
                    bytes,
                    turn,
                });
            begins
        };
        // Those that wait may be of networks that are full, and this one of another.
        self.begin_next();
        // A sender is dropped only after its receiver, so there is always an answer.
        turn.await
            .unwrap_or_else(|_| self.charged(payer.empty_charge(Resource::HistoryBytes)))
    }

    /// Lets reads begin, in turns, until those that wait have no room.
    fn begin_next(&self) {
        let mut begun = Vec::new();
        {
            let mut waiting = self.0.lock();
            while let Turn::Begin(read, charge) = waiting.turn(|networks| networks.turn(Lane::turn))
            {
                begun.push((read.turn, charge));
            }
        }
        // After the lock is released: a charge whose read was given up in this moment is dropped here, which takes the lock again.
        for (turn, charge) in begun {
            let _ = turn.send(self.charged(charge));
        }
    }

    fn charged(&self, charge: Charge) -> HistoryCharge {
        HistoryCharge {
            charge,
            returned: Returned(self.clone()),
        }
    }
}

impl Lane {
    fn push(&mut self, read: Waiting) {
        if self.reads.len() >= self.sweep_at.max(SWEEP_AT_LEAST) {
            self.reads.retain(|read| !read.turn.is_closed());
            self.sweep_at = self.reads.len() * 2;
        }
        self.reads.push_back(read);
    }

    fn turn(&mut self) -> Turn {
        while let Some(read) = self.reads.pop_front() {
            if read.turn.is_closed() {
                continue;
            }
            let full = match read.payer.charge(Resource::HistoryBytes, read.bytes) {
                Ok(charge) => return Turn::Begin(read, charge),
                Err(exceeded) if exceeded.holder == Holder::Node => Turn::NodeFull,
                Err(_) => Turn::NetworkFull,
            };
            self.reads.push_front(read);
            return full;
        }
        Turn::Over
    }
}

/// Entries that take turns.
#[derive(Debug)]
struct Circle<K, V> {
    /// The next comes first.
    order: VecDeque<K>,
    entries: HashMap<K, V>,
}

impl<K, V> Default for Circle<K, V> {
    fn default() -> Self {
        Self {
            order: VecDeque::new(),
            entries: HashMap::new(),
        }
    }
}

impl<K: Clone + Eq + Hash, V: Default> Circle<K, V> {
    fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    fn entry(&mut self, key: K) -> &mut V {
        match self.entries.entry(key) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                self.order.push_back(new.key().clone());
                new.insert(V::default())
            }
        }
    }

    /// Gives each entry its turn until a read begins or the node is full. An entry that had its turn comes last from then on; one
    /// whose read the node has no room for stays first, so that small reads don't pass it forever.
    fn turn(&mut self, mut turn_of: impl FnMut(&mut V) -> Turn) -> Turn {
        let mut outcome = Turn::Over;
        for _ in 0..self.order.len() {
            let Some(key) = self.order.front() else {
                break;
            };
            let turn = self.entries.get_mut(key).map_or(Turn::Over, &mut turn_of);
            match turn {
                Turn::NodeFull => return turn,
                Turn::Over => {
                    if let Some(key) = self.order.pop_front() {
                        self.entries.remove(&key);
                    }
                }
                Turn::Begin(..) | Turn::NetworkFull => {
                    self.order.rotate_left(1);
                    outcome = turn;
                }
            }
            if matches!(outcome, Turn::Begin(..)) {
                break;
            }
        }
        outcome
    }
}

/// The bytes that a read of a history is charged for, until its events are sent. What it gives back lets other reads begin.
#[derive(Debug)]
#[must_use = "a charge that is dropped is given back"]
pub struct HistoryCharge {
    charge: Charge,
    // Dropped after the charge, because fields are dropped in their order.
    returned: Returned,
}

impl HistoryCharge {
    /// Returns a charge to no network.
    #[cfg(test)]
    pub(crate) fn of_none() -> Self {
        let payer = crate::budget::Ledger::new(crate::budget::Budgets::default()).payer(None);
        HistoryReads::default().charged(payer.empty_charge(Resource::HistoryBytes))
    }

    /// Returns the charged bytes.
    pub(crate) fn amount(&self) -> usize {
        self.charge.amount()
    }

    /// Charges `bytes` from now on, because that is what the answer takes.
    pub(crate) fn set(&mut self, bytes: usize) {
        let less = bytes < self.charge.amount();
        // The node holds them already, whatever the bounds.
        let _ = self.charge.set(bytes);
        if less {
            self.returned.0.begin_next();
        }
    }
}

/// Lets waiting reads begin when it is dropped.
#[derive(Debug)]
struct Returned(HistoryReads);

impl Drop for Returned {
    fn drop(&mut self) {
        self.0.begin_next();
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::budget::{Bounds, Budgets, Ledger};

    const NODE: usize = 100;
    const NETWORK: usize = 40;

    type Read = Pin<Box<dyn Future<Output = HistoryCharge>>>;

    struct Node {
        reads: HistoryReads,
        ledger: Ledger,
    }

    impl Node {
        fn new() -> Self {
            let bounds = |max| Bounds::unlimited().with(Resource::HistoryBytes, max);
            Self {
                reads: HistoryReads::default(),
                ledger: Ledger::new(Budgets {
                    node: bounds(NODE),
                    app: Bounds::unlimited(),
                    network: bounds(NETWORK),
                }),
            }
        }

        fn read(&self, app: &str, address: &str, bytes: usize) -> Read {
            let reads = self.reads.clone();
            let app = AppId::parse(app).expect("an app");
            let payer = self
                .ledger
                .payer(Some(address.parse().expect("an address")));
            Box::pin(async move { reads.reserve(&app, &payer, bytes).await })
        }

        /// Reads that wait from now on, each with what it is called by.
        fn waiting(
            &self,
            reads: &[(&'static str, &str, &str, usize)],
        ) -> Vec<(&'static str, Read)> {
            let read = |(name, app, address, bytes): &(&'static str, &str, &str, usize)| {
                let mut read = self.read(app, address, *bytes);
                assert!(poll(&mut read).is_none(), "{name} has to wait");
                (*name, read)
            };
            reads.iter().map(read).collect()
        }

        fn used(&self) -> usize {
            self.ledger.used(Resource::HistoryBytes)
        }
    }

    fn poll(read: &mut Read) -> Option<HistoryCharge> {
        match read.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(charge) => Some(charge),
            Poll::Pending => None,
        }
    }

    fn now(mut read: Read) -> HistoryCharge {
        poll(&mut read).expect("it has its turn at once")
    }

    /// Returns which of the reads have begun, with their charges.
    fn begun(reads: &mut Vec<(&'static str, Read)>) -> Vec<(&'static str, HistoryCharge)> {
        let (mut begun, mut waiting) = (Vec::new(), Vec::new());
        for (name, mut read) in reads.drain(..) {
            match poll(&mut read) {
                Some(charge) => begun.push((name, charge)),
                None => waiting.push((name, read)),
            }
        }
        *reads = waiting;
        begun
    }

    fn names(begun: &[(&'static str, HistoryCharge)]) -> Vec<&'static str> {
        begun.iter().map(|(name, _)| *name).collect()
    }

    #[test]
    fn a_network_that_holds_as_much_as_it_may_waits_and_another_does_not() {
        let node = Node::new();
        let held = now(node.read("1", "192.0.2.1", NETWORK));
        let mut waiting = node.waiting(&[("a", "1", "192.0.2.1", 1), ("b", "1", "192.0.2.1", 1)]);
        drop(now(node.read("1", "192.0.2.2", NETWORK)));
        assert_eq!(names(&begun(&mut waiting)), Vec::<&str>::new());
        drop(held);
        assert_eq!(names(&begun(&mut waiting)), ["a", "b"]);
    }

    #[test]
    fn reads_are_charged_before_they_begin_and_for_what_they_hold_after() {
        let node = Node::new();
        let mut held = now(node.read("1", "192.0.2.1", 30));
        assert_eq!(node.used(), 30);
        let mut waiting = node.waiting(&[("a", "1", "192.0.2.1", 30)]);
        held.set(5);
        let next = begun(&mut waiting);
        assert_eq!((names(&next), node.used()), (vec!["a"], 35));
        // An answer may be larger than was expected.
        held.set(50);
        assert_eq!(node.used(), 80);
        drop((held, next));
        assert_eq!(node.used(), 0);
    }

    #[test]
    fn a_read_of_more_than_may_ever_be_held_is_charged_for_that() {
        let node = Node::new();
        assert_eq!(now(node.read("1", "192.0.2.1", NODE)).amount(), NETWORK);
    }

    #[test]
    fn apps_and_their_networks_take_turns() {
        let node = Node::new();
        let mut full: Vec<_> = (1..=5)
            .map(|n| now(node.read("9", &format!("192.0.2.{n}"), 20)))
            .collect();
        // The network of `a` was there first, with three reads.
        let mut waiting = node.waiting(&[
            ("a1", "1", "192.0.2.11", 20),
            ("a2", "1", "192.0.2.11", 20),
            ("a3", "1", "192.0.2.11", 20),
            ("b1", "1", "192.0.2.12", 20),
            ("b2", "1", "192.0.2.12", 20),
            ("c1", "2", "192.0.2.13", 20),
        ]);
        let mut order = Vec::new();
        for _ in 0..6 {
            drop(full.remove(0));
            let next = begun(&mut waiting);
            order.extend(names(&next));
            full.extend(next.into_iter().map(|(_, charge)| charge));
        }
        assert_eq!(order, ["a1", "c1", "b1", "a2", "b2", "a3"]);
    }

    #[test]
    fn small_reads_do_not_pass_a_large_one_that_the_node_has_no_room_for() {
        let node = Node::new();
        let small: Vec<_> = (1..=4)
            .map(|n| now(node.read("1", &format!("192.0.2.{n}"), 20)))
            .collect();
        let mut waiting = node.waiting(&[
            ("large", "1", "192.0.2.11", 40),
            ("small", "1", "192.0.2.12", 10),
        ]);
        drop(small);
        assert_eq!(names(&begun(&mut waiting)), ["large", "small"]);
    }

    #[test]
    fn reads_that_are_given_up_leave_nothing_behind() {
        let node = Node::new();
        let held = now(node.read("1", "192.0.2.1", NETWORK));
        for _ in 0..10 * SWEEP_AT_LEAST {
            drop(node.waiting(&[("given up", "1", "192.0.2.1", 1)]));
        }
        let waiting = || {
            let apps = node.reads.0.lock();
            let networks = apps
                .entries
                .values()
                .flat_map(|networks| networks.entries.values());
            networks.map(|lane| lane.reads.len()).sum::<usize>()
        };
        assert!(waiting() <= SWEEP_AT_LEAST);
        drop(held);
        assert_eq!((waiting(), node.used()), (0, 0));
        assert!(node.reads.0.lock().is_empty());
    }
}
