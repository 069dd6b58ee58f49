//! Settings of `ops`, `docs` and `metrics`: where operators reach the node, what they read there, and which apps have metrics of
//! their own.

use std::collections::HashSet;
use std::net::SocketAddr;

use fanfare_protocol::AppId;
use serde::{Deserialize, Serialize};

use super::listen::ListenAddresses;
use super::rules::Rules;

/// Port of `ops.listen` if none is given.
pub(super) const DEFAULT_OPS_PORT: u16 = 6002;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OpsConfig {
    /// Address of its own for the admin API and, without credentials, the metrics. By default both are on `listen`, and
    /// metrics need a token.
    pub(crate) listen: Option<SocketAddr>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DocsConfig {
    /// Whether this documentation is at `/docs`.
    pub(crate) enabled: bool,
}

impl Default for DocsConfig {
    fn default() -> Self {
        Self { enabled: true }
    }
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MetricsConfig {
    /// Ids of the apps that have metrics of their own. By default the busiest 50 have some.
    pub(crate) apps: String,
}

impl OpsConfig {
    pub(super) fn check(&self, listen: &ListenAddresses, rules: Rules<'_>) -> anyhow::Result<()> {
        let is_other = self
            .listen
            .is_none_or(|ops| ops.port() == 0 || listen.tcp().all(|main| main != ops));
        rules.check(
            "listen",
            is_other,
            format!("must be another address than listen, which is {listen} too"),
        )
    }
}

impl MetricsConfig {
    /// Returns the ids of the apps.
    pub(crate) fn apps(&self) -> HashSet<String> {
        self.ids().map(str::to_owned).collect()
    }

    fn ids(&self) -> impl Iterator<Item = &str> {
        self.apps
            .split(',')
            .map(str::trim)
            .filter(|id| !id.is_empty())
    }

    pub(super) fn check(&self, rules: Rules<'_>) -> anyhow::Result<()> {
        let wrong = self.ids().find(|id| AppId::parse(id).is_err());
        rules.check(
            "apps",
            wrong.is_none(),
            format!(
                "must be ids of apps, separated by commas; {:?} is none",
                wrong.unwrap_or_default()
            ),
        )
    }
}

#[cfg(test)]
mod tests {
    use crate::config::tests::{load, refused};

    #[test]
    fn operators_have_an_address_of_their_own_or_none() {
        let config = load(&[("ops.listen", ":7702")]).expect("a port");
        assert_eq!(
            config
                .ops
                .listen
                .map(|address| address.to_string())
                .as_deref(),
            Some("127.0.0.1:7702")
        );
        assert_eq!(load(&[]).expect("defaults").ops.listen, None);
        let error = refused("ops.listen", "127.0.0.1:6001");
        assert!(error.contains("another address than listen"), "{error}");
        assert!(
            error.ends_with("(it was set to \"127.0.0.1:6001\" by flag --set)"),
            "{error}"
        );
    }

    #[test]
    fn apps_with_metrics_are_a_list_of_ids() {
        let config = load(&[("metrics.apps", "1001, shop")]).expect("two ids");
        assert_eq!(config.metrics.apps().len(), 2);
        let error = refused("metrics.apps", "1001,a/b");
        assert!(error.contains("\"a/b\" is none"), "{error}");
    }
}
