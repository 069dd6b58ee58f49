//! What commands print on standard output: tables for people, JSON for scripts.

use std::io::{Write, stdout};

use anyhow::Context;
use serde_json::Value;

/// Prints text as it is.
pub(crate) fn text(text: &str) -> anyhow::Result<()> {
    writeln!(stdout(), "{}", text.trim_end()).context("writing to standard output")
}

/// Prints one JSON value.
pub(crate) fn json(value: &Value) -> anyhow::Result<()> {
    text(&serde_json::to_string_pretty(value)?)
}

/// Prints names and values below each other.
pub(crate) fn fields(fields: &[(&str, String)]) -> anyhow::Result<()> {
    let width = fields
        .iter()
        .map(|(name, _)| name.len())
        .max()
        .unwrap_or_default();
    let lines: Vec<String> = fields
        .iter()
        .map(|(name, value)| format!("{name:width$}  {value}"))
        .collect();
    text(&lines.join("\n"))
}

/// Prints rows under their headings.
pub(crate) fn table(headings: &[&str], rows: &[Vec<String>]) -> anyhow::Result<()> {
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
