//! A value from the environment or a flag, as a layer of the configuration.

use figment::value::{Dict, Map, Value};
use figment::{Metadata, Profile, Provider};

use super::names::{Kind, kind};

/// A value from the environment or a flag. Errors name its source.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    pub(super) source: String,
    pub(super) path: String,
    pub(super) value: String,
}

impl Setting {
    /// Returns a setting given on the command line.
    pub(crate) fn flag(flag: &str, path: &str, value: impl Into<String>) -> Self {
        Self {
            source: format!("flag {flag}"),
            path: path.into(),
            value: value.into(),
        }
    }
}

impl Provider for Setting {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.source.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        // Parsing doesn't fail, because what is neither a number nor a boolean is text.
        let value = match kind(&self.path) {
            Some(Kind::Text | Kind::Secret) => Value::from(self.value.clone()),
            _ => self
                .value
                .parse::<Value>()
                .unwrap_or_else(|never| match never {}),
        };
        let nested = figment::util::nest(&self.path, value);
        let dict = nested.into_dict().unwrap_or_default();
        Ok(Map::from([(Profile::Default, dict)]))
    }
}
