//! Standard output of commands: tables for people, JSON for scripts.

use std::io::{ErrorKind, Write, stdout};

use anyhow::Context;
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Prints text with one line break at its end.
pub(crate) fn text(text: &str) -> anyhow::Result<()> {
    match writeln!(stdout(), "{}", text.trim_end()) {
        // The reader has enough, as `head` does.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result.context("writing to standard output"),
    }
}

/// Prints one JSON value.
pub(crate) fn json(value: &Value) -> anyhow::Result<()> {
    text(&serde_json::to_string_pretty(value)?)
}

/// Prints an answer as JSON, or through `people`.
pub(crate) fn answer<T: DeserializeOwned>(
    answer: Value,
    as_json: bool,
    people: impl FnOnce(T) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    if as_json {
        return json(&answer);
    }
    people(serde_json::from_value(answer).context("reading the answer")?)
}

/// Prints a list as JSON, or as a table.
pub(crate) fn list<T: DeserializeOwned>(
    answer: Value,
    as_json: bool,
    headings: &[&str],
    row: impl FnMut(T) -> Vec<String>,
) -> anyhow::Result<()> {
    if as_json {
        return json(&answer);
    }
    // The API sends long lists as pages, short ones as arrays.
    let items = match answer {
        Value::Object(mut page) => page.remove("items").unwrap_or_default(),
        items => items,
    };
    let items: Vec<T> = serde_json::from_value(items).context("reading the answer")?;
    table(headings, &items.into_iter().map(row).collect::<Vec<_>>())
}

/// Longest text of an answer or an error in a table, in characters.
const MAX_TEXT: usize = 100;

/// Returns a text as a table shows it.
pub(crate) fn shortened(text: &str) -> String {
    let text = text.trim();
    match text.char_indices().nth(MAX_TEXT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into(),
    }
}

pub(crate) fn yes(value: bool) -> String {
    if value { "yes".into() } else { "no".into() }
}

/// Returns apps for a table, where `None` means all apps.
pub(crate) fn apps(apps: Option<&[String]>) -> String {
    apps.map_or("all".into(), |apps| apps.join(" "))
}

/// Returns a time for a table, or `otherwise` if there is none.
pub(crate) fn time_or(milliseconds: Option<i64>, otherwise: &str) -> String {
    milliseconds.map_or(otherwise.into(), time)
}

/// Replaces control characters, which a terminal would obey: names and agents come from other people.
pub(crate) fn printable(text: &str) -> String {
    text.replace(char::is_control, "\u{fffd}")
}

/// Prints names and values, one pair on each line.
pub(crate) fn fields(fields: &[(&str, String)]) -> anyhow::Result<()> {
    let width = fields
        .iter()
        .map(|(name, _)| name.len())
        .max()
        .unwrap_or_default();
    let lines: Vec<String> = fields
        .iter()
        .map(|(name, value)| format!("{name:width$}  {}", printable(value)))
        .collect();
    text(&lines.join("\n"))
}

/// Writes a Unix time in milliseconds as people do, for example `2026-11-21 09:34:10Z`.
pub(crate) fn time(milliseconds: i64) -> String {
    Timestamp::from_millisecond(milliseconds).map_or_else(
        // Outside the years -9999 to 9999.
        |_| milliseconds.to_string(),
        |time| time.strftime("%F %TZ").to_string(),
    )
}

/// Prints rows under their headings.
pub(crate) fn table(headings: &[&str], rows: &[Vec<String>]) -> anyhow::Result<()> {
    text(&table_text(headings, rows))
}

/// Returns rows under their headings.
pub(crate) fn table_text(headings: &[&str], rows: &[Vec<String>]) -> String {
    let mut table = Table::new();
    table.load_preset(NOTHING).set_header(headings);
    for row in rows {
        table.add_row(row.iter().map(|cell| printable(cell)));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt()
}

#[cfg(test)]
mod tests {
    use super::time;

    #[test]
    fn times_are_written_as_dates() {
        for (milliseconds, text) in [
            (0, "1970-01-01 00:00:00Z"),
            (-1, "1969-12-31 23:59:59Z"),
            (951_782_400_000, "2000-02-29 00:00:00Z"),
            (951_868_799_999, "2000-02-29 23:59:59Z"),
            (1_709_251_200_000, "2024-03-01 00:00:00Z"),
            (4_102_444_799_000, "2099-12-31 23:59:59Z"),
        ] {
            assert_eq!(time(milliseconds), text);
        }
    }
}
