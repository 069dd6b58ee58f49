//! Settings of `webhooks`: how deliveries are recorded, sent and kept.

use serde::{Deserialize, Serialize};

use super::rules::Rules;
use super::units::{bytes, seconds};

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WebhooksConfig {
    /// Seconds after which a delivery is given up that its receiver doesn't take.
    #[serde(deserialize_with = "seconds")]
    pub(crate) retry_for: u64,
    /// Seconds that a receiver has to answer.
    #[serde(deserialize_with = "seconds")]
    pub(crate) timeout: u64,
    /// Days for which deliveries and attempts are kept.
    pub(crate) log_days: u64,
    /// Most bytes that they take.
    #[serde(deserialize_with = "bytes")]
    pub(crate) log_size: usize,
    /// Most requests of this node at once.
    pub(crate) max_in_flight: usize,
    /// Most webhooks of an app.
    pub(crate) max_per_app: usize,
    /// Most transitions of an app's channels and members that wait to be recorded, on a node by itself.
    pub(crate) max_transitions: usize,
    /// Most bytes of client events, cache misses and counts that wait to be recorded.
    #[serde(deserialize_with = "bytes")]
    pub(crate) max_queued_bytes: usize,
    /// Whether receivers may be on this machine and its network, and without TLS.
    pub(crate) allow_inner_addresses: bool,
}

impl Default for WebhooksConfig {
    fn default() -> Self {
        Self {
            retry_for: 18 * HOUR,
            timeout: 15,
            log_days: 30,
            log_size: 10 << 30,
            max_in_flight: 256,
            max_per_app: 10,
            max_transitions: 500_000,
            max_queued_bytes: 16 << 20,
            allow_inner_addresses: false,
        }
    }
}

impl WebhooksConfig {
    pub(super) fn check(&self, rules: Rules<'_>) -> anyhow::Result<()> {
        rules.range("retry_for", self.retry_for, 300..=7 * DAY, "seconds")?;
        rules.range("timeout", self.timeout, 1..=60, "seconds")?;
        rules.range("log_days", self.log_days, 1..=365, "days")?;
        rules.check(
            "log_days",
            self.log_days * DAY >= self.retry_for,
            "must be at least as long as webhooks.retry_for: what is dropped can't be sent",
        )?;
        rules.range("log_size", self.log_size, 64 << 20..=16 << 40, "bytes")?;
        rules.range("max_in_flight", self.max_in_flight, 1..=10_000, "")?;
        rules.range("max_per_app", self.max_per_app, 1..=100, "")?;
        rules.range(
            "max_transitions",
            self.max_transitions,
            1000..=10_000_000,
            "",
        )?;
        rules.range(
            "max_queued_bytes",
            self.max_queued_bytes,
            1 << 20..=4 << 30,
            "bytes",
        )
    }
}

#[cfg(test)]
mod tests {
    use crate::config::tests::{load, refused};

    #[test]
    fn what_waits_is_kept() {
        let long = ("webhooks.retry_for", "7d");
        assert!(load(&[long]).is_ok());
        let error = load(&[long, ("webhooks.log_days", "6")]).expect_err("too short");
        assert!(error.to_string().contains("webhooks.retry_for"), "{error}");
        assert!(refused("webhooks.timeout", "0").contains("1 to 60 seconds"));
        assert!(refused("webhooks.log_size", "1MiB").contains("64"));
    }
}
