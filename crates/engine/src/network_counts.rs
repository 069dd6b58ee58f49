//! How many of an app's connections each network of clients holds: what decides who gives way when
//! the app's quota is used up.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::budget::Network;

/// How long a count of networks is reused, because counting walks over all connections of a node.
const COUNTED_FOR: Duration = Duration::from_secs(1);
/// Most networks that a node names to others. A network that isn't named holds less than one part
/// of this many of the node's connections, so a sum over all nodes is at most that part of the
/// quota too low.
const MAX_NAMED: usize = 64;
/// The networks that hold most of an app's connections on other nodes.
#[derive(Debug, Clone, Default)]
pub struct RemoteNetworks {
    /// The nodes that answered.
    pub nodes: Vec<NodeNetworks>,
    /// Whether every other node answered.
    pub complete: bool,
}

/// The networks that hold most of an app's connections on one node.
#[derive(Debug, Clone)]
pub struct NodeNetworks {
    /// The node's name.
    pub node: String,
    /// Networks and how many connections each has.
    pub networks: Vec<(Network, usize)>,
}

/// What is known of an app whose quota of connections is used up.
#[derive(Debug, Default)]
pub(crate) struct Displacements {
    /// The counts of the other nodes. Its lock serializes displacements.
    pub(crate) remote: Mutex<Option<RemoteCounts>>,
    /// The counts of this node. Taken after the other lock, and by the requests of other nodes
    /// alone, so that two nodes which ask each other don't wait for each other.
    pub(crate) here: Mutex<Option<NetworkCounts>>,
}

/// How many of an app's connections on this node each network holds.
#[derive(Debug)]
pub(crate) struct NetworkCounts {
    pub(crate) held: HashMap<Network, usize>,
    pub(crate) counted: Instant,
}

/// Other nodes' answers about the networks that hold most of an app's connections there.
#[derive(Debug)]
pub(crate) struct RemoteCounts {
    pub(crate) nodes: Vec<NodeNetworks>,
    /// Whether every other node answered.
    pub(crate) complete: bool,
    pub(crate) counted: Instant,
}

impl RemoteCounts {
    pub(crate) fn is_recent(&self) -> bool {
        self.counted.elapsed() < COUNTED_FOR
    }

    /// Returns the node that has most connections of a network.
    pub(crate) fn holder_of(&mut self, network: Network) -> Option<&mut NodeNetworks> {
        let of = |node: &NodeNetworks| node.of(network);
        let with = self.nodes.iter_mut().filter(|node| of(node) > 0);
        with.max_by_key(|node| of(node))
    }
}

impl NodeNetworks {
    fn of(&self, network: Network) -> usize {
        let found = self.networks.iter().find(|(named, _)| *named == network);
        found.map_or(0, |(_, count)| *count)
    }

    pub(crate) fn remove_one(&mut self, network: Network) {
        for (named, count) in &mut self.networks {
            if *named == network {
                *count = count.saturating_sub(1);
            }
        }
    }
}

impl NetworkCounts {
    pub(crate) fn is_recent(&self) -> bool {
        self.counted.elapsed() < COUNTED_FOR
    }

    /// Returns the networks that hold most, and those of `others` that hold any.
    pub(crate) fn named(&self, others: &[Network]) -> Vec<(Network, usize)> {
        let mut all: Vec<_> = self.held.iter().map(|(n, count)| (*n, *count)).collect();
        if all.len() > MAX_NAMED {
            all.select_nth_unstable_by_key(MAX_NAMED, |(_, count)| Reverse(*count));
            let (named, rest) = all.split_at(MAX_NAMED);
            let wanted = rest.iter().filter(|(network, _)| others.contains(network));
            all = named.iter().chain(wanted).copied().collect();
        }
        all
    }

    pub(crate) fn add(&mut self, network: Option<Network>) {
        for network in network.iter().flat_map(|network| network.all()) {
            *self.held.entry(network).or_default() += 1;
        }
    }

    pub(crate) fn remove(&mut self, network: Option<Network>) {
        for network in network.iter().flat_map(|network| network.all()) {
            if let Some(held) = self.held.get_mut(&network) {
                *held = held.saturating_sub(1);
            }
        }
    }
}
