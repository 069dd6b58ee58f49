//! `docs/errors.md` lists what clients, backends and operators are told. It must not forget any of it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use fanfare_protocol::CloseCode;

/// What stands before a text that leaves the program.
const SPOKEN: &[&str] = &[
    "ApiError::new(",
    "#[error(",
    "send_error(",
    "Refusal::new(",
    "SubscribeError::Auth(",
    "SubscribeError::LimitReached(",
    "SubscribeError::InvalidMember(",
    "let message = format!(",
    "let message = ||",
    "return Err(format!(",
    "Problem::invalid(",
    "Problem::unauthorized(",
    "Problem::forbidden(",
    "Problem::not_found(",
    "Problem::conflict(",
    "Problem::stale(",
    "let detail = format!(",
    "tracing::warn!(",
    "tracing::error!(",
];
/// Shorter pieces of text than this are found anywhere.
const MIN_PIECE: usize = 8;

#[test]
fn every_close_code_is_listed() {
    let catalogue = catalogue();
    let anchors: BTreeSet<String> = fanfare_book::entries(&catalogue_source())
        .into_iter()
        .map(|entry| entry.anchor)
        .collect();
    for code in [
        CloseCode::BadFrame,
        CloseCode::Binary,
        CloseCode::NotUtf8,
        CloseCode::Refused,
        CloseCode::MessageTooLarge,
        CloseCode::TlsOnly,
        CloseCode::UnknownApp,
        CloseCode::AppDisabled,
        CloseCode::OverQuota,
        CloseCode::PathNotFound,
        CloseCode::UnsupportedProtocol,
        CloseCode::NoProtocol,
        CloseCode::Unauthorized,
        CloseCode::OverCapacity,
        CloseCode::EventsMissed,
        CloseCode::Reconnect,
        CloseCode::PongTimeout,
    ] {
        assert!(
            catalogue.contains(&code.number().to_string()),
            "{code:?} is not in docs/errors.md"
        );
        // The SDK leads there.
        let anchor = code.number().to_string();
        assert!(anchors.contains(&anchor), "docs/errors.md#{anchor}");
    }
}

#[test]
fn every_message_that_leaves_the_program_is_listed() {
    let catalogue = catalogue();
    let mut found = 0;
    let mut missing = Vec::new();
    for file in sources() {
        let source = fs::read_to_string(&file).expect("a source file");
        let source = source
            .split("#[cfg(test)]\nmod tests")
            .next()
            .unwrap_or_default();
        let messages = SPOKEN.iter().flat_map(|marker| messages(source, marker));
        for piece in messages
            .map(|message| longest_piece(&message))
            .filter(|piece| piece.len() >= MIN_PIECE)
        {
            found += 1;
            if !catalogue.contains(&piece) {
                missing.push(format!("{piece:?} of {}", file.display()));
            }
        }
    }
    assert!(
        missing.is_empty(),
        "docs/errors.md does not have:\n{}",
        missing.join("\n")
    );
    assert!(
        found > 80,
        "only {found} messages were found; has their form changed?"
    );
}

/// The text of the first literal after each place of `marker`, or of the last where fields of a log line come first.
fn messages(source: &str, marker: &str) -> Vec<String> {
    let after = source
        .match_indices(marker)
        .map(|(at, _)| &source[at + marker.len()..]);
    let statement = |text: &str| text.split(';').next().unwrap_or_default().to_owned();
    let literal = |statement: String| {
        let literals: Vec<&str> = statement.split('"').skip(1).step_by(2).collect();
        let chosen = if marker.starts_with("tracing") {
            literals.last()
        } else {
            literals.first()
        };
        chosen.map(|text| join_continued_lines(text))
    };
    after.map(statement).filter_map(literal).collect()
}

/// Joins the lines of a string literal as Rust does: a backslash at the end of a line takes the white space after it away.
fn join_continued_lines(literal: &str) -> String {
    let mut lines = literal.split("\\\n");
    let first = lines.next().unwrap_or_default().to_owned();
    lines.fold(first, |joined, line| joined + line.trim_start())
}

/// The longest part of a format string between its placeholders.
fn longest_piece(format: &str) -> String {
    let pieces = format.split('{').flat_map(|part| {
        part.split_once('}')
            .map_or(vec![part], |(_, rest)| vec![rest])
    });
    pieces
        .map(|piece| piece.trim().trim_matches([':', ',', ';', '.']).trim())
        .max_by_key(|piece| piece.len())
        .unwrap_or_default()
        .to_owned()
}

fn catalogue_source() -> String {
    fs::read_to_string(root().join("docs/errors.md")).expect("docs/errors.md")
}

fn catalogue() -> String {
    let text = catalogue_source();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn sources() -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders: Vec<PathBuf> = ["protocol", "engine", "cluster", "store", "server"]
        .map(|name| root().join("crates").join(name).join("src"))
        .into();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path)
            } else {
                files.push(path)
            }
        }
    }
    files
}
