//! Turns figment's errors into messages for operators.

use figment::Metadata;
use figment::error::{Actual, Kind};

use super::names::{self, no_such_setting};

pub(super) fn in_words(error: &figment::Error) -> String {
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
            format!(
                "{} is not {}",
                given(actual, secret),
                in_words_of_toml(wanted)
            )
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
        Some(text) => format!("{place}: {reason}: {text}"),
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
