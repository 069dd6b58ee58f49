//! Settings of `usage`: how apps' usage is written down.

use serde::{Deserialize, Serialize};

use super::rules::Rules;
use super::units::seconds;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UsageConfig {
    /// Seconds between two writes to the store; a killed node loses what it counted since the last one.
    #[serde(deserialize_with = "seconds")]
    pub(crate) flush_period: u64,
}

impl Default for UsageConfig {
    fn default() -> Self {
        Self { flush_period: 10 }
    }
}

impl UsageConfig {
    pub(super) fn check(&self, rules: Rules<'_>) -> anyhow::Result<()> {
        rules.range("flush_period", self.flush_period, 1..=60, "seconds")
    }
}
