//! Settings of `fallback`: the HTTP fallbacks of pusher-js.

use serde::{Deserialize, Serialize};

use super::rules::Rules;
use super::units::seconds;

/// The HTTP fallbacks of pusher-js.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FallbackConfig {
    /// Seconds over which sessions are asked once to reconnect, so that they try a WebSocket again; 0 for never.
    #[serde(deserialize_with = "seconds")]
    pub(crate) websocket_retry: u64,
    /// Largest number of requests of one browser that wait for events at a time over HTTP/1.1; 0 for any number.
    pub(crate) max_hanging_requests: usize,
}

impl Default for FallbackConfig {
    fn default() -> Self {
        Self {
            websocket_retry: 300,
            max_hanging_requests: 4,
        }
    }
}

impl FallbackConfig {
    pub(super) fn check(&self, rules: Rules<'_>) -> anyhow::Result<()> {
        rules.check(
            "websocket_retry",
            self.websocket_retry <= 86_400,
            "must be 1 to 86400 seconds, or 0 for never",
        )
    }
}
