//! Settings of `outbox`: bytes that wait for clients to read them.

use serde::{Deserialize, Serialize};

use super::rules::Rules;
use super::units::bytes;
use crate::capacity::Capacity;

/// Rule of bounds that must be at least [`OutboxConfig::least_waiting`].
pub(super) const LEAST_WAITING: &str =
    "must be at least outbox.max_bytes times shards: one slow client may hold outbox.max_bytes";

/// Bytes that wait for clients to read them.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OutboxConfig {
    /// Largest number of bytes of live events that wait for one connection.
    #[serde(deserialize_with = "bytes")]
    pub(crate) max_bytes: usize,
    /// Largest number of bytes that wait for all connections of this node.
    #[serde(deserialize_with = "bytes")]
    pub(crate) max_total_bytes: usize,
    /// Largest number of bytes that wait for the connections of one app.
    #[serde(deserialize_with = "bytes")]
    pub(crate) max_app_bytes: usize,
    /// Largest number of bytes of a history that one subscription is sent.
    #[serde(deserialize_with = "bytes")]
    pub(crate) max_replay_bytes: usize,
    /// Largest number of bytes of histories that are being read, or that wait for the clients who asked for them.
    #[serde(deserialize_with = "bytes")]
    pub(crate) max_total_replay_bytes: usize,
}

impl OutboxConfig {
    pub(super) fn defaults(capacity: Capacity) -> Self {
        Self {
            max_bytes: 1024 * 1024,
            max_total_bytes: capacity.memory / 8,
            max_app_bytes: capacity.memory / 16,
            max_replay_bytes: 4 * 1024 * 1024,
            max_total_replay_bytes: (capacity.memory / 16).max(4 << 20),
        }
    }

    /// Returns the smallest valid bound in bytes. Each shard gets an equal share of a bound, and one slow client must
    /// fit into a share.
    pub(super) fn least_waiting(&self, shards: usize) -> usize {
        self.max_bytes.saturating_mul(shards)
    }

    pub(super) fn check(&self, shards: usize, rules: Rules<'_>) -> anyhow::Result<()> {
        rules.at_least("max_bytes", self.max_bytes, 64 * 1024, "bytes")?;
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
        )?;
        rules.at_least("max_total_replay_bytes", self.max_total_replay_bytes, 1, "")
    }
}
