//! What a node does and holds.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Ask;
use crate::app_state::AppState;
use crate::metrics::Process;

/// Asks a node what it does and holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Status {}

/// Whether a node takes connections and events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum NodeState {
    /// It does.
    Ready,
    /// Its clients move to other nodes, or have moved, and it takes no new ones.
    Draining,
    /// It doesn't, for another reason.
    NotReady,
}

/// What a node does and holds. Totals count from its start.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub(crate) struct NodeStatus {
    /// Its version.
    #[schema(example = "0.1.0")]
    pub(crate) version: String,
    /// Whether it takes connections and events.
    pub(crate) state: NodeState,
    /// Why it doesn't; `null` if it does.
    #[schema(required)]
    pub(crate) reason: Option<String>,
    /// When it started, Unix time in milliseconds.
    pub(crate) started_at: i64,
    /// Its connections now.
    pub(crate) connections: usize,
    /// Its threads that own connections.
    pub(crate) shards: usize,
    /// Messages that clients sent to it.
    pub(crate) messages_received: u64,
    /// Events that backends published through it.
    pub(crate) events_published: u64,
    /// Events that it queued to subscribers, one for each.
    pub(crate) deliveries: u64,
    /// Clients and requests that it refused.
    pub(crate) refusals: u64,
    /// Memory of its process, in bytes; 0 where the system doesn't say.
    pub(crate) memory_bytes: u64,
    /// Seconds of CPU that its process used; 0 where the system doesn't say.
    pub(crate) cpu_seconds: f64,
}

impl Ask for Status {
    type Answer = NodeStatus;

    async fn answer(self, state: &AppState) -> NodeStatus {
        let stats = state.engine.stats().await;
        let process = Process::read();
        let reason = state.unready();
        let refusals = state.engine.refusals().totals();
        NodeStatus {
            version: env!("CARGO_PKG_VERSION").into(),
            state: match &reason {
                _ if state.drain.is_on() => NodeState::Draining,
                Some(_) => NodeState::NotReady,
                None => NodeState::Ready,
            },
            reason,
            started_at: state.started_at,
            connections: state.engine.connections(),
            shards: state.engine.shards(),
            messages_received: stats.clients.messages,
            events_published: stats.backend.events,
            deliveries: stats.clients.deliveries,
            refusals: refusals.iter().map(|(_, count)| count).sum(),
            memory_bytes: process.resident_bytes,
            cpu_seconds: process.cpu_seconds,
        }
    }
}
