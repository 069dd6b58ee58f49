//! Settings of `cluster`: the other nodes, and the Redis or Postgres between them.

use fanfare_cluster::Choice;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::rules::Rules;
use super::secret::hide_password;
use super::store::StoreConfig;
use super::units::seconds;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClusterConfig {
    /// URL of Redis or Postgres, or `store` for the Postgres of the store, if there are several nodes.
    #[serde(serialize_with = "hide_password")]
    pub(crate) url: Option<SecretString>,
    /// Prefix of all names there. Installations with different prefixes don't exchange events.
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

/// The URL that means the store's Postgres.
const STORE: &str = "store";

impl ClusterConfig {
    pub(super) fn check(&self, store: &StoreConfig, rules: Rules<'_>) -> anyhow::Result<()> {
        let is_store = self
            .url
            .as_ref()
            .is_some_and(|url| url.expose_secret() == STORE);
        rules.check(
            "url",
            !is_store || store.direct_postgres().is_some(),
            "is \"store\", which needs a store.url that begins with postgres://; or give the URL of a Redis or Postgres",
        )?;
        let in_names = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        rules.check(
            "prefix",
            (1..=100).contains(&self.prefix.len()) && self.prefix.chars().all(in_names),
            "must be 1 to 100 letters, digits and -_.",
        )?;
        let choice = self
            .url(store)
            .map(|url| Choice::new(url.expose_secret(), &self.prefix));
        if let Some(Err(error)) = choice {
            rules.check("url", false, format_args!("is not possible: {error}"))?;
        }
        rules.range("lease", self.lease, 2..=60, "seconds")
    }

    /// Returns the URL of what nodes share, if there are several.
    pub(super) fn url<'c>(&'c self, store: &'c StoreConfig) -> Option<&'c SecretString> {
        let url = self.url.as_ref()?;
        if url.expose_secret() == STORE {
            return store.direct_postgres();
        }
        Some(url)
    }
}
