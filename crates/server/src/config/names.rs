//! The names of all settings, and the setting that a misspelt name meant.

use std::sync::LazyLock;

use serde_json::Value;

use super::Config;
use crate::capacity::Capacity;

/// A setting: a field of [`Config`], or of one of its sections.
pub(super) struct Name {
    /// Name in the file. The environment variable is `FANFARE_` and the name in capitals, with `_` for `.`.
    pub(super) path: String,
    pub(super) kind: Kind,
}

/// How a setting is read and shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A number or a boolean.
    Number,
    /// Text. `1234` is then a folder's name, not a number.
    Text,
    /// Text that is never shown.
    Secret,
}

/// Every setting, read from the structs, so that each name is declared once.
static SETTINGS: LazyLock<Vec<Name>> = LazyLock::new(|| {
    let mut config = Config::defaults(Capacity::detected());
    // An optional setting is a secret, except these.
    config.demo = Some(false);
    config.ops.listen = Some(config.listen.first_tcp());
    config.tls.listen = Some(config.listen.first_tcp());
    values(&config)
        .into_iter()
        .map(|(path, value)| Name {
            path,
            kind: match value {
                Value::Null => Kind::Secret,
                Value::String(_) => Kind::Text,
                _ => Kind::Number,
            },
        })
        .collect()
});

/// Returns the values of all settings by name.
pub(super) fn values(config: &Config) -> Vec<(String, Value)> {
    let Ok(Value::Object(fields)) = serde_json::to_value(config) else {
        return Vec::new();
    };
    let mut values = Vec::new();
    collect(fields, "", &mut values);
    values
}

fn collect(
    fields: serde_json::Map<String, Value>,
    section: &str,
    values: &mut Vec<(String, Value)>,
) {
    for (name, value) in fields {
        let path = format!("{section}{name}");
        match value {
            Value::Object(inner) => collect(inner, &format!("{path}."), values),
            value => values.push((path, value)),
        }
    }
}

/// Returns the names of all settings.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    SETTINGS.iter().map(|name| &*name.path)
}

/// Returns the kind of a setting, or `None` if there is no such setting.
pub(super) fn kind(path: &str) -> Option<Kind> {
    let name = SETTINGS.iter().find(|name| name.path == path)?;
    Some(name.kind)
}

/// Returns the known name most similar to `name`, if one is similar enough.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let (likeness, best) = known
        .map(|known| (strsim::normalized_damerau_levenshtein(name, known), known))
        .max_by(|one, other| one.0.total_cmp(&other.0))?;
    (likeness >= 0.7).then_some(best)
}

/// Returns the message for a name that isn't a setting.
pub(super) fn no_such_setting(name: &str) -> String {
    if fanfare_protocol::AppSettings::names().iter().any(|known| {
        known == name
            || known
                .split_once('.')
                .is_some_and(|(section, _)| section == name)
    }) {
        return format!(
            "{name:?} is a setting of an app, not of the server: fanfare app update ID --setting NAME=VALUE"
        );
    }
    match nearest(name, names()) {
        Some(meant) => format!("there is no setting {name:?}; did you mean {meant}?"),
        None => format!(
            "there is no setting {name:?}; there are {}",
            names().collect::<Vec<_>>().join(", ")
        ),
    }
}
