//! Settings of `drain`: how a node stops.

use serde::{Deserialize, Serialize};

use super::rules::Rules;
use super::units::seconds;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DrainConfig {
    /// Seconds over which a stopping node closes its connections.
    #[serde(deserialize_with = "seconds")]
    pub(crate) period: u64,
}

impl Default for DrainConfig {
    fn default() -> Self {
        Self { period: 20 }
    }
}

impl DrainConfig {
    pub(super) fn check(&self, rules: Rules<'_>) -> anyhow::Result<()> {
        rules.range("period", self.period, 0..=3600, "seconds")
    }
}
