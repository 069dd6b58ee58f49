//! Settings of `owner`: the first operator.

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::rules::Rules;
use super::secret::hide;
use crate::access::check_password;

/// The first operator, created if there is none.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OwnerConfig {
    /// Name to sign in with.
    pub(crate) name: String,
    /// Password. If it isn't given, one is generated and printed once.
    #[serde(serialize_with = "hide")]
    pub(crate) password: Option<SecretString>,
}

impl Default for OwnerConfig {
    fn default() -> Self {
        Self {
            name: "owner".into(),
            password: None,
        }
    }
}

impl OwnerConfig {
    pub(super) fn check(&self, rules: Rules<'_>) -> anyhow::Result<()> {
        rules.check(
            "name",
            !self.name.trim().is_empty()
                && self.name.chars().count() <= 200
                && !self.name.contains(char::is_control),
            "must have 1 to 200 printable characters",
        )?;
        let password = self.password.as_ref();
        rules.check(
            "password",
            password.is_none_or(|password| check_password(password).is_ok()),
            "must have 10 to 1000 characters",
        )
    }
}
