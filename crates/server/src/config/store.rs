//! Settings of `store`: the database of apps, keys and operators.

use fanfare_store::check_url;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::rules::Rules;
use super::secret::hide_password;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StoreConfig {
    /// URL that begins with `sqlite:` or `postgres:`. By default an SQLite file in the data folder.
    #[serde(serialize_with = "hide_password")]
    pub(crate) url: Option<SecretString>,
    /// Direct URL of Postgres for its notifications, if `url` leads through a connection pooler that doesn't support
    /// them.
    #[serde(serialize_with = "hide_password")]
    pub(crate) listen_url: Option<SecretString>,
}

impl StoreConfig {
    /// Returns the URL of the store's Postgres, if it is one, not through a pooler where that is known.
    pub(super) fn direct_postgres(&self) -> Option<&SecretString> {
        let url = self.listen_url.as_ref().or(self.url.as_ref())?;
        url.expose_secret().starts_with("postgres").then_some(url)
    }

    pub(super) fn check(&self, rules: Rules<'_>) -> anyhow::Result<()> {
        let url = self.url.as_ref().map(|url| url.expose_secret());
        if let Some(Err(error)) = url.map(check_url) {
            rules.check("url", false, format_args!("is not possible: {error}"))?;
        }
        let listen = self.listen_url.as_ref();
        let Some(listen) = listen.map(|url| url.expose_secret()) else {
            return Ok(());
        };
        let is_postgres = |url: &str| url.starts_with("postgres");
        rules.check(
            "listen_url",
            is_postgres(listen) && url.is_some_and(is_postgres),
            "must be postgres://USER:PASSWORD@HOST/DATABASE, beside a store.url of the same database",
        )?;
        if let Err(error) = check_url(listen) {
            rules.check(
                "listen_url",
                false,
                format_args!("is not possible: {error}"),
            )?;
        }
        Ok(())
    }
}
