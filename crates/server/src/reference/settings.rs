//! What pages say of settings.

use fanfare_protocol::AppSettings;
use serde_json::Value;

use super::released::since;
use crate::config::{Described, described};
use crate::openapi;

/// A setting of an app: its name, its default and what its values are.
pub(super) struct OfApp {
    name: String,
    default: String,
    values: String,
}

/// Returns the settings of the server.
pub(super) fn of_server() -> Vec<Described> {
    described()
}

/// Returns the settings of apps.
pub(super) fn of_apps() -> Vec<OfApp> {
    let document = serde_json::to_value(openapi::document()).unwrap_or_default();
    let schemas = &document["components"]["schemas"];
    let of = |name: String| {
        let fields = &schemas["AppSettings"]["properties"];
        let schema = match name.split_once('.') {
            None => &fields[&name],
            Some((section, field)) => {
                let reference = fields[section]["$ref"].as_str().unwrap_or_default();
                let schema = reference.rsplit('/').next().unwrap_or_default();
                &schemas[schema]["properties"][field]
            }
        };
        OfApp {
            default: default(&schema["default"]),
            values: values(schema),
            name,
        }
    };
    AppSettings::names().into_iter().map(of).collect()
}

fn default(value: &Value) -> String {
    match value {
        Value::Array(items) if items.is_empty() => "none".into(),
        other => format!("`{other}`"),
    }
}

fn values(schema: &Value) -> String {
    match schema["type"].as_str() {
        Some("boolean") => "`true` or `false`".into(),
        Some("array") => match schema["maxItems"].as_u64() {
            Some(most) => format!("a list, at most {most}"),
            None => "a list".into(),
        },
        _ => format!("`{}` to `{}`", schema["minimum"], schema["maximum"]),
    }
}

/// Returns the facts of the setting whose heading a line is, as a list.
pub(super) fn of_heading(line: &str, settings: &[Described]) -> Option<String> {
    let name = line.strip_prefix("### `")?.strip_suffix('`')?;
    let setting = settings.iter().find(|setting| setting.name == name)?;
    let Described {
        default,
        values,
        variable,
        example,
        ..
    } = setting;
    let example = example.map_or_else(String::new, |example| format!(", for example `{example}`"));
    Some(format!(
        "- Default: {default}\n- Values: {values}{example}\n- Variable: `{variable}`, since {}\n",
        since(name)
    ))
}

/// Returns the row of a table of apps' settings with its facts renewed, or `None` if a line is no such row.
pub(super) fn row(line: &str, settings: &[OfApp]) -> Option<String> {
    let (name, rest) = line.strip_prefix("| `")?.split_once("` | ")?;
    let setting = settings.iter().find(|setting| setting.name == name)?;
    let (_, rest) = rest.split_once(" | ")?;
    let (_, meaning) = rest.split_once(" | ")?;
    let OfApp {
        default, values, ..
    } = setting;
    Some(format!("| `{name}` | {default} | {values} | {meaning}\n"))
}

/// Returns the table of ceilings.
pub(super) fn ceilings() -> String {
    let rows = described().into_iter().filter_map(|setting| {
        let of = setting.name.strip_prefix("ceilings.")?;
        let of = match of {
            "history_size" => "the `size` of a rule of `history`".into(),
            "history_ttl" => "the `ttl` of a rule of `history`".into(),
            limit => format!("`limits.{limit}`"),
        };
        let Described { name, default, .. } = setting;
        Some(format!("| `{name}` | {default} | {of} |\n"))
    });
    format!(
        "| setting | default | ceiling of |\n|---|---|---|\n{}",
        rows.collect::<String>()
    )
}

/// Returns the names of all settings.
pub(super) fn names() -> Vec<String> {
    let of_server = described()
        .into_iter()
        .map(|setting| setting.name.to_owned());
    let of_apps = AppSettings::names().into_iter();
    of_server
        .chain(of_apps.map(|name| format!("app {name}")))
        .collect()
}
