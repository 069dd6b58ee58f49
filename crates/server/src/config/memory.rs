//! Settings of `memory`: what the process may use.

use serde::{Deserialize, Serialize};

use super::rules::Rules;
use super::units::bytes;
use crate::capacity::Capacity;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MemoryConfig {
    /// Bytes that this process may use. The defaults of other bounds are derived from it.
    #[serde(deserialize_with = "bytes")]
    pub(crate) limit: usize,
    /// Largest number of bytes of all subscriptions.
    #[serde(deserialize_with = "bytes")]
    pub(crate) subscriptions: usize,
    /// Largest number of bytes of one app's subscriptions.
    #[serde(deserialize_with = "bytes")]
    pub(crate) subscriptions_of_app: usize,
}

impl MemoryConfig {
    pub(super) fn defaults(capacity: Capacity) -> Self {
        Self {
            limit: capacity.memory,
            subscriptions: capacity.memory / 4,
            subscriptions_of_app: capacity.memory / 16 * 3,
        }
    }

    pub(super) fn check(&self, rules: Rules<'_>) -> anyhow::Result<()> {
        rules.at_least("subscriptions", self.subscriptions, 1)?;
        rules.at_least("subscriptions_of_app", self.subscriptions_of_app, 1)?;
        rules.check(
            "limit",
            self.limit >= 64 << 20,
            "must be at least 67108864 bytes (64 MiB)",
        )
    }
}
