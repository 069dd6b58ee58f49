//! Settings of `log`.

use serde::{Deserialize, Serialize};

use super::rules::Rules;
use crate::telemetry;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogConfig {
    /// Filter in the form of `RUST_LOG`: `info`, `fanfare=debug`.
    pub(crate) filter: String,
    pub(crate) format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    Text,
    Json,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            filter: "info".into(),
            format: LogFormat::Text,
        }
    }
}

impl LogConfig {
    pub(super) fn check(&self, rules: Rules<'_>) -> anyhow::Result<()> {
        match telemetry::check_filter(&self.filter) {
            Ok(()) => Ok(()),
            Err(rule) => rules.check("filter", false, rule),
        }
    }
}
