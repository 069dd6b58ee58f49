//! Roles, and the apps that they cover.

use std::fmt;
use std::str::FromStr;

use fanfare_protocol::AppId;
use serde::{Deserialize, Serialize};

use crate::error::StoreError;

/// Longest name of an operator or a token, in characters.
const MAX_NAME: usize = 200;

/// Role of an operator or a token. A higher role may do all that a lower one may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reads the metrics of the nodes and nothing else. For API tokens.
    Metrics,
    /// May only read, metrics included.
    Viewer,
    /// Changes apps and keys.
    Admin,
    /// Changes operators as well.
    Owner,
}

/// Error for a text that isn't a role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no role {0:?}; there are owner, admin, viewer and metrics")]
pub struct InvalidRole(String);

impl Role {
    /// Returns the role as text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Metrics => "metrics",
            Self::Viewer => "viewer",
            Self::Admin => "admin",
            Self::Owner => "owner",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Role {
    type Err = InvalidRole;

    fn from_str(text: &str) -> Result<Self, InvalidRole> {
        [Self::Metrics, Self::Viewer, Self::Admin, Self::Owner]
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| InvalidRole(text.into()))
    }
}

impl TryFrom<String> for Role {
    type Error = InvalidRole;

    fn try_from(text: String) -> Result<Self, InvalidRole> {
        text.parse()
    }
}

/// Parses the column `apps` of operators and tokens. A text that isn't a list of apps allows none.
pub(crate) fn apps_from_column(text: Option<String>) -> Option<Vec<String>> {
    Some(serde_json::from_str(&text?).unwrap_or_default())
}

pub(crate) fn apps_to_column(apps: Option<&[String]>) -> Option<String> {
    apps.map(|apps| serde_json::to_string(apps).expect("texts are JSON"))
}

/// Returns app ids as one text in which SQL of both databases finds one: each between colons, which no id holds.
pub(crate) fn to_list(apps: &[String]) -> String {
    apps.iter().map(|app| format!(":{app}:")).collect()
}

/// Checks app ids, and returns each once, sorted.
pub(crate) fn check_apps(apps: Option<&[String]>) -> Result<Option<Vec<String>>, StoreError> {
    let Some(apps) = apps else { return Ok(None) };
    for app in apps {
        AppId::parse(app).map_err(|error| {
            StoreError::Invalid(format!("app id {app:?} is not possible: {error}"))
        })?;
    }
    let mut apps = apps.to_vec();
    apps.sort();
    apps.dedup();
    Ok(Some(apps))
}

/// Checks a name and returns it trimmed. `whose` is for the message, for example "an operator's".
pub(crate) fn check_name(name: &str, whose: &str) -> Result<String, StoreError> {
    let name = name.trim();
    if name.is_empty() || name.chars().count() > MAX_NAME || name.chars().any(char::is_control) {
        return Err(StoreError::Invalid(format!(
            "{whose} name has 1 to {MAX_NAME} printable characters"
        )));
    }
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_reads_as_it_was_written_and_roles_are_ordered() {
        for role in [Role::Viewer, Role::Admin, Role::Owner] {
            assert_eq!(role.to_string().parse(), Ok(role));
        }
        assert!("Owner".parse::<Role>().is_err());
        assert!(Role::Owner > Role::Admin && Role::Admin > Role::Viewer);
    }

    #[test]
    fn a_list_of_apps_that_cannot_be_read_allows_none() {
        assert_eq!(apps_from_column(None), None);
        assert_eq!(apps_from_column(Some("[".into())), Some(Vec::new()));
    }
}
