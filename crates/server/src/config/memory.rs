//! Settings of `memory`: what the process may use.

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use super::rules::Rules;
use super::units::bytes;
use crate::capacity::Capacity;

/// Least bytes of subscriptions: with fewer, a client that follows the message and comes back is refused again.
pub(super) const LEAST_SUBSCRIPTIONS: usize = 64 * 1024;

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

    /// Returns a warning if the machine or the control group has less memory than the limit.
    pub(super) fn beyond_machine(&self, memory: usize) -> Option<String> {
        (self.limit > memory).then(|| {
            let (limit, memory) = (ByteSize::b(self.limit as u64), ByteSize::b(memory as u64));
            format!(
                "memory.limit is {limit}, and this machine or the control group of this process has {memory}: the system may \
                 end this process before it refuses a client. Raise the limit of the control group (MemoryMax= in a systemd \
                 unit, --memory with Docker, resources.limits.memory in Kubernetes), or lower memory.limit or leave it out"
            )
        })
    }

    pub(super) fn check(&self, rules: Rules<'_>) -> anyhow::Result<()> {
        // First, because too small a limit makes bounds that are derived from it too small as well.
        rules.at_least("limit", self.limit, 64 << 20, "bytes")?;
        rules.at_least(
            "subscriptions",
            self.subscriptions,
            LEAST_SUBSCRIPTIONS,
            "bytes",
        )?;
        rules.at_least(
            "subscriptions_of_app",
            self.subscriptions_of_app,
            LEAST_SUBSCRIPTIONS,
            "bytes",
        )
    }
}
