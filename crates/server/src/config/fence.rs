//! Settings of `fence`: connections that may have missed events, because this node was cut off from the others.

use serde::{Deserialize, Serialize};

use super::rules::Rules;
use super::units::seconds;

/// Closing of connections that may have missed events while this node was disconnected from the others.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FenceConfig {
    /// Longest time in seconds until these connections are closed.
    #[serde(deserialize_with = "seconds")]
    pub(crate) max: u64,
    /// How many of them are closed each second.
    pub(crate) per_second: usize,
}

impl Default for FenceConfig {
    fn default() -> Self {
        Self {
            max: 5,
            per_second: 2000,
        }
    }
}

impl FenceConfig {
    pub(super) fn check(&self, rules: Rules<'_>) -> anyhow::Result<()> {
        rules.range("max", self.max, 1..=60, "seconds")?;
        rules.range(
            "per_second",
            self.per_second,
            1..=1_000_000,
            "connections a second",
        )
    }
}
