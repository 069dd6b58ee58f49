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
    "let message =",
    "return Err(format!(",
    "bail!(",
    "anyhow!(",
    "Failure::misuse(",
    "Failure::new(",
    "StoreError::Invalid(",
    "StoreError::Conflict(",
    "StoreError::NotFound(",
    "StoreError::Stale(",
    "StoreError::or_conflict(",
    "OutboxError::NotInstalled(",
    "SimulateError::Invalid(",
    "Ending::allowed(",
    "Ending::refused(",
    "Answer::refused(",
    "Problem::invalid(",
    "Problem::unauthorized(",
    "Problem::forbidden(",
    "Problem::not_found(",
    "Problem::conflict(",
    "Problem::stale(",
    "Problem::too_many(",
    "let detail =",
    "tracing::warn!(",
    "tracing::error!(",
];
/// Shorter pieces of text than this are found anywhere.
const MIN_PIECE: usize = 8;
/// What a row must have of a message that doesn't begin as the row does.
const MIN_WITHIN: usize = 16;
/// The command that writes parts of the documentation, which only its authors run.
const UNSPOKEN: &str = "server/src/reference.rs";

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
    let rows = fanfare_book::entries(&catalogue_source());
    let mut found = 0;
    let mut missing = Vec::new();
    for file in sources() {
        let source = fs::read_to_string(&file).expect("a source file");
        let source = source
            .split("#[cfg(test)]\nmod tests")
            .next()
            .unwrap_or_default();
        let messages = SPOKEN.iter().flat_map(|marker| messages(source, marker));
        for message in messages {
            let piece = longest_piece(&message);
            if piece.len() < MIN_PIECE {
                continue;
            }
            found += 1;
            let is_listed =
                catalogue.contains(&piece) || rows.iter().any(|row| explains(row, &message));
            if !is_listed {
                missing.push(format!("{message:?} of {}", file.display()));
            }
        }
    }
    assert!(
        missing.is_empty(),
        "docs/errors.md does not have:\n{}",
        missing.join("\n")
    );
    assert!(
        found > 400,
        "only {found} messages were found; has their form changed?"
    );
}

/// The text of the first literal in each place of `marker`, or of the last where fields of a log line come first.
fn messages(source: &str, marker: &str) -> Vec<String> {
    let after = source
        .match_indices(marker)
        .map(|(at, _)| &source[at + marker.len()..]);
    let literal = |after: &str| {
        let mut literals = literals(after).into_iter();
        let chosen = match marker.starts_with("tracing") {
            true => literals.next_back(),
            false => literals.next(),
        };
        chosen.map(|text| join_continued_lines(&text))
    };
    after.filter_map(literal).collect()
}

/// The string literals up to the end of the statement, or of the parentheses that are open at its beginning.
fn literals(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open: Option<String> = None;
    let mut is_escaped = false;
    let mut depth = 0;
    for c in source.chars() {
        match &mut open {
            Some(literal) if is_escaped => {
                is_escaped = false;
                literal.extend((c != '"').then_some('\\'));
                literal.push(c);
            }
            Some(_) if c == '\\' => is_escaped = true,
            Some(_) if c == '"' => found.extend(open.take()),
            Some(literal) => literal.push(c),
            None if c == '"' => open = Some(String::new()),
            None if c == '(' => depth += 1,
            None if c == ')' && depth > 0 => depth -= 1,
            None if c == ')' || c == ';' => break,
            None => {}
        }
    }
    found
}

/// Returns whether a row of the catalogue is about a message: it begins as the row does, or has much of it, in its order.
fn explains(row: &fanfare_book::Entry, message: &str) -> bool {
    let mut rest = Some(message);
    for piece in &row.pieces {
        rest = rest
            .and_then(|rest| rest.split_once(piece.as_str()))
            .map(|(_, after)| after);
    }
    let length: usize = row.pieces.iter().map(String::len).sum();
    rest.is_some() && (message.starts_with(&row.pieces[0]) || length >= MIN_WITHIN)
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
    let mut folders: Vec<PathBuf> = ["protocol", "engine", "cluster", "store", "outbox", "server"]
        .map(|name| root().join("crates").join(name).join("src"))
        .into();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path)
            } else if !path.ends_with(UNSPOKEN) {
                files.push(path)
            }
        }
    }
    files
}
