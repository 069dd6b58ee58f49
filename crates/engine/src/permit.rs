//! The permits that a connection holds while it is admitted.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::budget::{Charge, Network};

/// A connection's part of the bounded resources: on this node, of its app here, of its app over all
/// nodes, and the charge.
#[derive(Debug)]
pub(crate) struct Permits {
    _on_node: ConnectionPermit,
    _of_app: ConnectionPermit,
    _on_all_nodes: Option<ConnectionPermit>,
    _charge: Charge,
}

impl Permits {
    /// Returns the permits of this node alone.
    pub(crate) fn here(
        on_node: ConnectionPermit,
        of_app: ConnectionPermit,
        charge: Charge,
    ) -> Self {
        Self {
            _on_node: on_node,
            _of_app: of_app,
            _on_all_nodes: None,
            _charge: charge,
        }
    }

    /// Returns the same permits, counted on all nodes too.
    pub(crate) fn counted(self, on_all_nodes: ConnectionPermit) -> Self {
        Self {
            _on_all_nodes: Some(on_all_nodes),
            ..self
        }
    }

    /// Returns the same permits, charged to another payer from now on.
    pub(crate) fn charged_to(self, charge: Charge) -> Self {
        Self {
            _charge: charge,
            ..self
        }
    }
}

/// One counted connection; given back when dropped.
#[derive(Debug)]
pub struct ConnectionPermit(Arc<AtomicUsize>);

impl ConnectionPermit {
    pub(crate) fn take(connections: &Arc<AtomicUsize>, max: usize) -> Option<Self> {
        let room = |now: usize| (now < max).then_some(now + 1);
        connections
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, room)
            .ok()?;
        Some(Self(Arc::clone(connections)))
    }

    pub(crate) fn count(connections: &Arc<AtomicUsize>) -> Self {
        connections.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(connections))
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Serializes displacements in an app.
#[derive(Debug, Default)]
pub(crate) struct Displacements(pub(crate) Mutex<Option<Counts>>);

/// How many of an app's connections on this node each network holds.
#[derive(Debug)]
pub(crate) struct Counts {
    pub(crate) held: HashMap<Network, usize>,
    pub(crate) counted: Instant,
}

impl Counts {
    /// Returns the network that holds most, and how many it holds.
    pub(crate) fn largest(&self) -> Option<(Network, usize)> {
        let largest = self.held.iter().max_by_key(|(_, held)| **held);
        largest.map(|(network, held)| (*network, *held))
    }

    pub(crate) fn of(&self, network: Network) -> usize {
        self.held.get(&network).copied().unwrap_or(0)
    }

    /// One connection less of a network, and one more of another, if that one is charged.
    pub(crate) fn moved(&mut self, from: Network, to: Option<Network>) {
        if let Some(held) = self.held.get_mut(&from) {
            *held = held.saturating_sub(1);
        }
        if let Some(to) = to {
            *self.held.entry(to).or_default() += 1;
        }
    }
}
