//! Settings of `connections`: how many there may be, and what each may do.

use serde::{Deserialize, Serialize};

use super::rules::Rules;
use crate::capacity::{Capacity, OTHER_FILES};

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
                 are refused. Raise the limit to at least {} (LimitNOFILE= in a systemd unit, --ulimit nofile= with Docker, \
                 ulimit -Hn in a shell), or lower connections.max",
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
        rules.at_least("max_pending", self.max_pending, 1)?;
        rules.range(
            "messages_per_second",
            self.messages_per_second,
            0..=1_000_000,
            "",
        )
    }
}

#[cfg(test)]
mod tests {
    use crate::config::tests::load;

    #[test]
    fn more_connections_than_open_files_allow_are_warned_of_with_numbers() {
        let config = load(&[("connections.max", "100000")]).unwrap();
        let said = config.connections.beyond_open_files(1000).unwrap();
        for words in ["100000", "allows 1000", "100128", "LimitNOFILE"] {
            assert!(said.contains(words), "{said}");
        }
        assert_eq!(config.connections.beyond_open_files(100_000), None);
    }
}
