//! Settings of `websocket`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::rules::Rules;
use super::units::{bytes, seconds};
use crate::capacity::Capacity;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WebSocketConfig {
    /// Largest message that a client may send, in bytes.
    #[serde(deserialize_with = "bytes")]
    pub(crate) max_message_bytes: usize,
    /// Largest number of bytes of unfinished messages; half of it for one app, and a quarter for one network.
    #[serde(deserialize_with = "bytes")]
    pub(crate) max_unfinished_bytes: usize,
    /// Seconds in which a message of more than 4 KiB must come whole.
    #[serde(deserialize_with = "seconds")]
    pub(crate) message_timeout: u64,
    /// Seconds between two PINGs to each connection, which keep it open at proxies; 0 for none.
    #[serde(deserialize_with = "seconds")]
    pub(crate) ping_interval: u64,
}

impl WebSocketConfig {
    pub(super) fn defaults(capacity: Capacity) -> Self {
        Self {
            max_message_bytes: 128 * 1024,
            max_unfinished_bytes: (capacity.memory / 16).max(4 << 20),
            message_timeout: 30,
            ping_interval: 25,
        }
    }

    /// Returns how often each WebSocket gets a PING, or `None` for never.
    pub(crate) fn ping_interval(&self) -> Option<Duration> {
        (self.ping_interval > 0).then(|| Duration::from_secs(self.ping_interval))
    }

    pub(super) fn check(&self, rules: Rules<'_>) -> anyhow::Result<()> {
        rules.range(
            "max_message_bytes",
            self.max_message_bytes,
            16 * 1024..=16 << 20,
            "bytes",
        )?;
        rules.check(
            "max_unfinished_bytes",
            self.max_unfinished_bytes >= 2 * self.max_message_bytes,
            "must be at least twice websocket.max_message_bytes, or the largest message never fits",
        )?;
        rules.range("message_timeout", self.message_timeout, 1..=3600, "seconds")?;
        rules.check(
            "ping_interval",
            self.ping_interval <= 3600,
            "must be 1 to 3600 seconds, or 0 for no PINGs",
        )
    }
}
