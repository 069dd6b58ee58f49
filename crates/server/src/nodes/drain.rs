//! Moving the clients of a node to the others while it runs on, as for a change of its machine.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fanfare_engine::Engine;
use serde::{Deserialize, Serialize};

use super::Ask;
use crate::app_state::AppState;

/// Asks a node to move its clients to other nodes and to take no new ones.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Drain {
    /// Who wants it, for its log.
    pub(crate) by: String,
}

/// Asks a node to take clients again.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct EndDrain {
    /// Who wants it, for its log.
    pub(crate) by: String,
}

/// What came of a [`Drain`] or an [`EndDrain`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DrainOutcome {
    /// It is done, or was before.
    Done,
    /// The node stops, so that it takes no clients anyway.
    Stopping,
}

/// Whether an operator drains this node. A restart ends it.
#[derive(Debug, Default)]
pub(crate) struct NodeDrain {
    on: AtomicBool,
    /// Time over which connections are closed.
    period: Duration,
}

impl NodeDrain {
    pub(crate) fn new(period: Duration) -> Self {
        Self {
            on: AtomicBool::new(false),
            period,
        }
    }

    /// Returns whether an operator drains this node.
    pub(crate) fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }
}

impl Ask for Drain {
    type Answer = DrainOutcome;

    async fn answer(self, state: &AppState) -> DrainOutcome {
        if state.is_stopping() {
            return DrainOutcome::Stopping;
        }
        if !state.drain.on.swap(true, Ordering::Relaxed) {
            // At once, so that whoever asked finds it done.
            state.engine.refuse_connections();
            tokio::spawn(move_clients(
                Arc::clone(&state.engine),
                state.drain.period,
                self.by,
            ));
        }
        DrainOutcome::Done
    }
}

async fn move_clients(engine: Arc<Engine>, period: Duration, by: String) {
    tracing::info!(
        by,
        connections = engine.connections(),
        period_seconds = period.as_secs_f32(),
        "an operator drains this node: closing connections, so that their clients move to other nodes"
    );
    engine.move_clients(period).await;
    if engine.connections() == 0 {
        tracing::info!("drained: this node has no clients any more");
    }
}

impl Ask for EndDrain {
    type Answer = DrainOutcome;

    async fn answer(self, state: &AppState) -> DrainOutcome {
        if state.is_stopping() {
            return DrainOutcome::Stopping;
        }
        if state.drain.on.swap(false, Ordering::Relaxed) {
            state.engine.accept_connections();
            tracing::info!(
                by = self.by,
                "an operator ended the drain: this node takes clients again"
            );
        }
        DrainOutcome::Done
    }
}
