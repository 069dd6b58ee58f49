//! Standard output of commands: tables for people, JSON for scripts.

use std::io::{ErrorKind, Write, stdout};

use anyhow::Context;
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
fn printable(text: &str) -> String {
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

/// Returns a Unix time in milliseconds as text, for example `2026-11-21 09:34:10Z`.
pub(crate) fn time(milliseconds: i64) -> String {
    let seconds = milliseconds.div_euclid(1000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Counted from 1 March of the year 0, so that a leap day comes last: 400 years have 146,097 days.
    let (era, day) = (
        (days + 719_468).div_euclid(146_097),
        (days + 719_468).rem_euclid(146_097),
    );
    let year_of_era = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day_of_month:02} {hour:02}:{minute:02}:{second:02}Z")
}

/// Prints rows under their headings.
pub(crate) fn table(headings: &[&str], rows: &[Vec<String>]) -> anyhow::Result<()> {
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| row.iter().map(|cell| printable(cell)).collect())
        .collect();
    let width = |column: usize| {
        let cells = rows
            .iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count());
        cells
            .chain([headings[column].len()])
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let padded: Vec<String> = cells
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        padded.join("  ").trim_end().to_owned()
    };
    let heading = line(headings.to_vec());
    let rows = rows
        .iter()
        .map(|row| line(row.iter().map(String::as_str).collect()));
    text(
        &std::iter::once(heading)
            .chain(rows)
            .collect::<Vec<_>>()
            .join("\n"),
    )
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
