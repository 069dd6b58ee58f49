//! Settings of `alerts`: whom alerts are sent to, and how long a condition must last.

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::rules::Rules;
use super::secret::hide;
use super::units::seconds;
use fanfare_store::{WEBHOOK_SECRET_BYTES, webhook_secret_bytes};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AlertsConfig {
    /// URL that gets each alert, signed as Standard Webhooks.
    #[serde(serialize_with = "hide")]
    pub(crate) url: Option<SecretString>,
    /// Secret that these requests are signed with.
    #[serde(serialize_with = "hide")]
    pub(crate) secret: Option<SecretString>,
    /// Incoming webhook of a chat that takes Slack's JSON.
    #[serde(serialize_with = "hide")]
    pub(crate) chat_url: Option<SecretString>,
    /// Seconds for which a condition must hold before it is an alert.
    #[serde(deserialize_with = "seconds")]
    pub(crate) wait: u64,
    /// Seconds for which it must be gone before the alert is over.
    #[serde(deserialize_with = "seconds")]
    pub(crate) calm: u64,
}

impl Default for AlertsConfig {
    fn default() -> Self {
        Self {
            url: None,
            secret: None,
            chat_url: None,
            wait: 30,
            calm: 120,
        }
    }
}

impl AlertsConfig {
    pub(super) fn check(&self, rules: Rules<'_>) -> anyhow::Result<()> {
        for (name, url) in [("url", &self.url), ("chat_url", &self.chat_url)] {
            let Some(url) = url else { continue };
            let is_http = |url: reqwest::Url| matches!(url.scheme(), "http" | "https");
            rules.check(
                name,
                url.expose_secret().parse().is_ok_and(is_http),
                "must be an address of https or http",
            )?;
        }
        rules.check(
            "url",
            self.url.is_none() || self.secret.is_some(),
            "must have alerts.secret beside it, which its requests are signed with; `echo whsec_$(openssl rand -base64 32)` makes one",
        )?;
        rules.check(
            "secret",
            self.secret.is_none() || self.url.is_some(),
            "must have alerts.url beside it, whose requests it signs",
        )?;
        if let Some(secret) = &self.secret {
            rules.check(
                "secret",
                webhook_secret_bytes(secret.expose_secret()).is_some(),
                format!(
                    "must be whsec_ and base64 of {} to {} bytes; `echo whsec_$(openssl rand -base64 32)` makes one",
                    WEBHOOK_SECRET_BYTES.start(),
                    WEBHOOK_SECRET_BYTES.end()
                ),
            )?;
        }
        rules.range("wait", self.wait, 1..=3600, "seconds")?;
        rules.range("calm", self.calm, 1..=86_400, "seconds")
    }
}

#[cfg(test)]
mod tests {
    use crate::config::tests::{load, refused};

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    #[test]
    fn an_address_has_a_secret_beside_it() {
        let url = ("alerts.url", "https://ops.example.com/alerts");
        assert!(load(&[url, ("alerts.secret", SECRET)]).is_ok());
        let error = refused(url.0, url.1);
        assert!(error.contains("openssl rand"), "{error}");
        assert!(refused("alerts.url", "ops.example.com").contains("https or http"));
        assert!(refused("alerts.secret", SECRET).contains("alerts.url beside it"));
        let short = load(&[url, ("alerts.secret", "short")]).expect_err("short");
        assert!(short.to_string().contains("24 to 64 bytes"), "{short}");
        assert!(load(&[("alerts.chat_url", "https://hooks.example.com/x")]).is_ok());
    }

    #[test]
    fn addresses_and_secrets_are_not_shown() {
        let settings = [
            ("alerts.url", "https://ops.example.com/alerts"),
            ("alerts.secret", SECRET),
            ("alerts.chat_url", "https://hooks.example.com/T0/B0/secret"),
        ];
        let shown = load(&settings).expect("settings").to_toml().expect("text");
        assert!(
            !shown.contains(SECRET) && !shown.contains("B0/secret"),
            "{shown}"
        );
    }
}
