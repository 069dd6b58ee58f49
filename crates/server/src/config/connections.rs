//! Settings of `connections`: how many there may be, and what each may do.

use serde::{Deserialize, Serialize};

use super::rules::Rules;
use crate::capacity::{Capacity, OTHER_FILES, RAISE_OPEN_FILES};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConnectionsConfig {
    /// Largest number of connections of this node; 0 for as many as the limit of open files allows.
    pub(crate) max: usize,
    /// Largest number of pending sessions of one app, whose client has sent one request only.
    pub(crate) max_pending: usize,
    /// Largest number of channels that a connection may be subscribed to.
    pub(crate) max_subscriptions: usize,
    /// Messages of one connection that are handled each second, besides client events; 0 for any number.
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

    /// Returns a warning if the limit of open files doesn't allow so many connections.
    pub(crate) fn beyond_open_files(&self, allowed: usize) -> Option<String> {
        (self.max > allowed).then(|| {
            format!(
                "connections.max is {}, and the limit of open files of this process allows {allowed}: clients beyond that \
                 are refused. Raise the limit to at least {} ({RAISE_OPEN_FILES}), or lower connections.max",
                self.max,
                self.max.saturating_add(OTHER_FILES),
            )
        })
    }

    pub(super) fn check(&self, rules: Rules<'_>) -> anyhow::Result<()> {
        rules.check(
            "max_subscriptions",
            self.max_subscriptions >= 1,
            "must be at least 1: a connection without a channel gets no event",
        )?;
        rules.at_least("max_pending", self.max_pending, 1, "")?;
        rules.range(
            "messages_per_second",
            self.messages_per_second,
            0..=1_000_000,
            "",
        )
    }
}
