//! Turns figment's errors into messages for operators.

use figment::error::{Actual, Kind};
use figment::{Figment, Metadata};
use serde_json::Value;

use super::Config;
use super::names::{self, no_such_setting, values};
use super::units::{NETWORKS, SIZE, TIME};
use crate::capacity::Capacity;

/// Returns the message for an error of `figment`, which has the values.
pub(super) fn in_words(error: &figment::Error, figment: &Figment) -> String {
    let path = error.path.join(".");
    let source = error
        .metadata
        .as_ref()
        .map_or_else(|| "the configuration".into(), source_of);
    let reason = match &error.kind {
        Kind::UnknownField(name, _) => {
            // Within a section, the path ends with the field's name. Otherwise it is empty.
            let name = if path.is_empty() { name } else { &path };
            no_such_setting(name)
        }
        Kind::InvalidType(actual, wanted) | Kind::InvalidValue(actual, wanted) => {
            let secret = names::kind(&path) == Some(names::Kind::Secret);
            let given = given(actual, secret);
            let reason = format!("{given} is not {}", in_words_of_toml(wanted));
            // Only in a file a value has another form than its text.
            match in_file(error).and_then(|()| line_to_write(&path, wanted, figment)) {
                Some(line) => format!("{reason}: write for example `{line}`"),
                None => reason,
            }
        }
        Kind::UnknownVariant(value, known) => {
            format!("{value:?} is not one of {}", known.join(", "))
        }
        // The TOML reader draws the line with a mark under it, over several lines.
        Kind::Message(text) => one_line(text),
        kind => kind.to_string(),
    };
    if path.is_empty() || matches!(error.kind, Kind::UnknownField(..)) {
        format!("{source}: {reason}")
    } else {
        format!("{path} in {source}: {reason}")
    }
}

/// Returns the value as it was given, unless it is secret.
fn given(actual: &Actual, secret: bool) -> String {
    match actual {
        Actual::Map => "a section".into(),
        Actual::Seq => "a list".into(),
        _ if secret => "the value, which is a secret,".into(),
        Actual::Bool(value) => value.to_string(),
        Actual::Unsigned(value) => value.to_string(),
        Actual::Signed(value) => value.to_string(),
        Actual::Float(value) => value.to_string(),
        Actual::Str(value) => format!("{value:?}"),
        other => other.to_string(),
    }
}

/// Returns what a setting expects, without the names of Rust's types.
fn in_words_of_toml(wanted: &str) -> String {
    let words = match wanted {
        "u64" | "usize" => "a whole number, 0 or more",
        "u32" => "a whole number from 0 to 4294967295",
        "a boolean" => "true or false",
        "a string" | "path string" => "text in quotes",
        "option" => "a value",
        _ if wanted.starts_with("struct ") => "a section: write [NAME], and its settings below it",
        _ if wanted.starts_with("enum ") => "one of its words, in quotes",
        other => other,
    };
    words.into()
}

/// Returns whether the error is about a value in a file.
fn in_file(error: &figment::Error) -> Option<()> {
    let source = error.metadata.as_ref()?.source.as_ref()?;
    source.file_path().map(drop)
}

/// Returns a line of TOML that sets the setting: to the value that was given if it is only written in another way, or
/// else to a value that shows the form.
fn line_to_write(path: &str, wanted: &str, figment: &Figment) -> Option<String> {
    let key = path.rsplit('.').next()?;
    let example = match wanted {
        TIME => toml::Value::from("20s"),
        SIZE => toml::Value::from("64MiB"),
        NETWORKS => toml::Value::from(vec!["10.0.0.0/8", "192.0.2.7"]),
        _ if names::kind(path) == Some(names::Kind::Secret) => return None,
        _ => meant(path, figment).or_else(|| default(path))?,
    };
    Some(format!("{key} = {example}"))
}

/// Returns the value that was given, in the form that the setting needs.
fn meant(path: &str, figment: &Figment) -> Option<toml::Value> {
    let given = serde_json::to_value(figment.find_value(path).ok()?).ok()?;
    let is_text = names::kind(path) == Some(names::Kind::Text);
    match given {
        Value::Number(_) | Value::Bool(_) if is_text => Some(given.to_string().into()),
        Value::Array(values) if is_text => match &values[..] {
            [Value::String(only)] => Some(only.clone().into()),
            _ => None,
        },
        Value::String(text) if !is_text => {
            let number = text.trim().parse::<i64>().map(toml::Value::from);
            let value = number.or_else(|_| text.trim().parse::<bool>().map(toml::Value::from));
            value.ok()
        }
        _ => None,
    }
}

fn default(path: &str) -> Option<toml::Value> {
    let defaults = values(&Config::defaults(Capacity::detected()));
    let (_, value) = defaults.into_iter().find(|(name, _)| name == path)?;
    toml::Value::try_from(value).ok()
}

/// Returns a line whose value lacks its quotes as it is to be written.
fn with_quotes(line: &str) -> Option<String> {
    let (key, value) = line.split_once('=')?;
    let (key, value) = (key.trim(), value.split(" #").next()?.trim());
    let is_bare = |text: &str| {
        !text.is_empty()
            && !text.contains(['"', '\'', '[', ']', '{', '}'])
            && text.parse::<f64>().is_err()
            && text.parse::<bool>().is_err()
    };
    let quoted = |text: &str| toml::Value::from(text).to_string();
    if is_bare(value) {
        return Some(format!("{key} = {}", quoted(value)));
    }
    let list = value.strip_prefix('[')?.strip_suffix(']')?;
    let items: Vec<&str> = list.split(',').map(str::trim).collect();
    if !items.iter().all(|item| is_bare(item)) {
        return None;
    }
    let items: Vec<String> = items.into_iter().map(quoted).collect();
    Some(format!("{key} = [{}]", items.join(", ")))
}

/// Returns whether a line of a file sets a secret, whichever section it is in.
fn is_secret(line: &str) -> bool {
    let key = line.split('=').next().unwrap_or_default().trim();
    let key = key.rsplit('.').next().unwrap_or_default();
    names::names()
        .filter(|path| names::kind(path) == Some(names::Kind::Secret))
        .any(|path| path.rsplit('.').next() == Some(key))
}

/// Returns the place and the reason of a TOML error on one line.
fn one_line(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    let [place, .., reason] = &lines[..] else {
        return text.trim().into();
    };
    let drawn = lines.iter().find_map(|line| {
        let (number, text) = line.split_once(" | ")?;
        number.trim().parse::<u32>().ok().map(|_| text.trim())
    });
    let place = place.strip_prefix("TOML parse error at ").unwrap_or(place);
    match drawn {
        Some(line) if is_secret(line) => {
            format!("{place}: {reason} (the line sets a secret; text is written in quotes)")
        }
        Some(line) => match with_quotes(line) {
            Some(written) => {
                format!(
                    "{place}: {reason}: `{line}`: write text, and a value with a unit, in quotes: `{written}`"
                )
            }
            None => format!("{place}: {reason}: {line}"),
        },
        None => format!("{place}: {reason}"),
    }
}

pub(super) fn source_of(metadata: &Metadata) -> String {
    match metadata
        .source
        .as_ref()
        .and_then(figment::Source::file_path)
    {
        Some(path) => format!("file {}", path.display()),
        None if metadata.name.contains("Config") => "default".into(),
        None => metadata.name.to_string(),
    }
}
