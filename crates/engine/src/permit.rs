//! The permits that a connection holds while it is admitted.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::budget::{Charge, Network};

/// A connection's part of the bounded resources: on this node, of its app here, of its app over all
/// nodes, and the charge.
#[derive(Debug)]
pub struct Permits {
    _on_node: ConnectionPermit,
    _of_app: ConnectionPermit,
    _on_all_nodes: Option<ConnectionPermit>,
    charge: Charge,
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
            charge,
        }
    }

    /// Returns the same permits, counted on all nodes too.
    pub(crate) fn counted(self, on_all_nodes: ConnectionPermit) -> Self {
        Self {
            _on_all_nodes: Some(on_all_nodes),
            ..self
        }
    }

    /// Returns the network that is charged for the connection, if one is.
    pub(crate) fn network(&self) -> Option<Network> {
        self.charge.network()
    }

    /// Returns the same permits, charged to another payer from now on.
    pub(crate) fn charged_to(self, charge: Charge) -> Self {
        Self { charge, ..self }
    }
}

/// One counted connection; given back when dropped.
#[derive(Debug)]
pub struct ConnectionPermit(Arc<AtomicUsize>);

impl ConnectionPermit {
    pub(crate) fn take(connections: &Arc<AtomicUsize>, max: usize) -> Option<Self> {
        let reserved = |now: usize| (now < max).then_some(now + 1);
        connections
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, reserved)
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
