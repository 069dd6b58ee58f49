//! Settings that bound a queue or a memory in bytes: `inbox`, `idempotency`, `recent_events` and `live_events`.

use serde::{Deserialize, Serialize};

use super::rules::Rules;
use super::units::bytes;
use crate::capacity::Capacity;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct QueueConfig {
    #[serde(deserialize_with = "bytes")]
    pub(crate) max_bytes: usize,
}

impl QueueConfig {
    pub(super) fn inbox() -> Self {
        Self {
            max_bytes: 64 * 1024 * 1024,
        }
    }

    pub(super) fn idempotency(capacity: Capacity) -> Self {
        Self {
            max_bytes: (capacity.memory / 16).clamp(4 << 20, 256 << 20),
        }
    }

    pub(super) fn recent_events(capacity: Capacity) -> Self {
        Self {
            max_bytes: (capacity.memory / 4).max(16 << 20),
        }
    }

    pub(super) fn live_events(capacity: Capacity) -> Self {
        Self {
            max_bytes: (capacity.memory / 64).clamp(4 << 20, 64 << 20),
        }
    }

    pub(super) fn check_inbox(
        &self,
        max_body_bytes: usize,
        rules: Rules<'_>,
    ) -> anyhow::Result<()> {
        rules.at_least("max_bytes", self.max_bytes, 64 * 1024, "bytes")?;
        rules.check(
            "max_bytes",
            self.max_bytes >= max_body_bytes,
            format_args!(
                "must be at least http.max_body_bytes, {max_body_bytes} bytes: no room would ever be found for the largest event"
            ),
        )
    }

    pub(super) fn check_memory(&self, rules: Rules<'_>) -> anyhow::Result<()> {
        rules.at_least("max_bytes", self.max_bytes, 1024 * 1024, "bytes")
    }
}
