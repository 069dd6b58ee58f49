//! Settings of `cluster`: the other nodes, and the Redis between them.

use fanfare_cluster::Redis;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::rules::Rules;
use super::secret::hide_password;
use super::units::seconds;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClusterConfig {
    /// URL of Redis, if there are several nodes.
    #[serde(serialize_with = "hide_password")]
    pub(crate) url: Option<SecretString>,
    /// Prefix of all names in Redis. Installations with different prefixes don't exchange events.
    pub(crate) prefix: String,
    /// Seconds without a heartbeat after which a node counts as dead.
    #[serde(deserialize_with = "seconds")]
    pub(crate) lease: u64,
}

impl Default for ClusterConfig {
    fn default() -> Self {
        Self {
            url: None,
            prefix: "fanfare".into(),
            lease: 5,
        }
    }
}

impl ClusterConfig {
    pub(super) fn check(&self, rules: Rules<'_>) -> anyhow::Result<()> {
        let url = self.url.as_ref().map(|url| url.expose_secret());
        if let Some(Err(error)) = url.map(|url| Redis::new(url, "")) {
            rules.check("url", false, format_args!("is not possible: {error}"))?;
        }
        let in_names = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        rules.check(
            "prefix",
            (1..=100).contains(&self.prefix.len()) && self.prefix.chars().all(in_names),
            "must be 1 to 100 letters, digits and -_.",
        )?;
        rules.range("lease", self.lease, 2..=60, "seconds")
    }
}
