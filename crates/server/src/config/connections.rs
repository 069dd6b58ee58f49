//! Settings of `connections`: how many there may be, and what one of them may do.

use serde::{Deserialize, Serialize};

use super::rules::Rules;
use crate::capacity::Capacity;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConnectionsConfig {
    /// Most connections this node takes; 0 for as many as the limit of open files allows.
    pub(crate) max: usize,
    /// Most sessions of one app whose client has sent one request only.
    pub(crate) max_pending: usize,
    /// Most channels one connection may be subscribed to.
    pub(crate) max_subscriptions: usize,
    /// Messages of one connection that are handled a second, client events besides; 0 for any number.
    pub(crate) messages_per_second: u32,
}

impl ConnectionsConfig {
    pub(super) fn defaults(capacity: Capacity) -> Self {
        Self {
            max: capacity.connections,
            max_pending: (capacity.connections / 4).clamp(64, 4096),
            max_subscriptions: 2000,
            messages_per_second: 100,
        }
    }

    pub(super) fn check(&self, rules: Rules<'_>) -> anyhow::Result<()> {
        rules.check(
            "max_subscriptions",
            self.max_subscriptions >= 1,
            "must be at least 1: a connection without a channel gets no event",
        )?;
        rules.at_least("max_pending", self.max_pending, 1)?;
        rules.range(
            "messages_per_second",
            self.messages_per_second,
            0..=1_000_000,
            "",
        )
    }
}
