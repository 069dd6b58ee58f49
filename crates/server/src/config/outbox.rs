//! Settings of `outbox`: what waits for clients to read it.

use serde::{Deserialize, Serialize};

use super::rules::Rules;
use super::units::bytes;
use crate::capacity::Capacity;

/// Why a bound is at least what [`OutboxConfig::least_waiting`] says.
pub(super) const LEAST_WAITING: &str =
    "must be at least outbox.max_bytes times shards: one slow client may hold outbox.max_bytes";

/// What waits for clients to read it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OutboxConfig {
    /// Most bytes of others' events that wait for one connection.
    #[serde(deserialize_with = "bytes")]
    pub(crate) max_bytes: usize,
    /// Most bytes that wait for all connections of this node.
    #[serde(deserialize_with = "bytes")]
    pub(crate) max_total_bytes: usize,
    /// Most bytes that wait for the connections of one app.
    #[serde(deserialize_with = "bytes")]
    pub(crate) max_app_bytes: usize,
    /// Most bytes of a history that one subscription is sent.
    #[serde(deserialize_with = "bytes")]
    pub(crate) max_replay_bytes: usize,
}

impl OutboxConfig {
    pub(super) fn defaults(capacity: Capacity) -> Self {
        Self {
            max_bytes: 1024 * 1024,
            max_total_bytes: capacity.memory / 8,
            max_app_bytes: capacity.memory / 16,
            max_replay_bytes: 4 * 1024 * 1024,
        }
    }

    /// Fewest bytes that may wait in all: a shard gets an even part of a bound, and one slow client should not pass that.
    pub(super) fn least_waiting(&self, shards: usize) -> usize {
        self.max_bytes.saturating_mul(shards)
    }

    pub(super) fn check(&self, shards: usize, rules: Rules<'_>) -> anyhow::Result<()> {
        rules.check(
            "max_bytes",
            self.max_bytes >= 64 * 1024,
            "must be at least 65536 bytes",
        )?;
        let least = self.least_waiting(shards);
        rules.check(
            "max_total_bytes",
            self.max_total_bytes >= least,
            LEAST_WAITING,
        )?;
        rules.check("max_app_bytes", self.max_app_bytes >= least, LEAST_WAITING)?;
        rules.range(
            "max_replay_bytes",
            self.max_replay_bytes,
            64 * 1024..=1 << 30,
            "bytes",
        )
    }
}
