//! The rows of `docs/errors.md`: which message is explained where. A message that the program writes has values where the
//! catalogue has `…`, so a row is the pieces in between.

use crate::document::Document;

/// Shorter messages than this would be found in others.
const MIN_BYTES: usize = 8;

/// A message of the catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What stands between the values of the message, in its order.
    pub pieces: Vec<String>,
    /// The anchor of its row in `docs/errors.md`.
    pub anchor: String,
}

/// Returns the messages of a catalogue, the longest first, so that the first that fits is the one that says most.
#[must_use]
pub fn entries(source: &str) -> Vec<Entry> {
    let document = Document::new("docs/errors.md", source);
    let rows = document.sections().iter().filter(|it| it.level == 0);
    let mut entries: Vec<Entry> = rows
        .flat_map(|row| {
            row.codes.iter().map(|message| Entry {
                pieces: pieces(message),
                anchor: row.anchor.clone(),
            })
        })
        // A code or a kind is no message, and would be found in many.
        .filter(|entry| length(entry) >= MIN_BYTES && entry.pieces.concat().contains(' '))
        .collect();
    entries.sort_by_key(|entry| std::cmp::Reverse(length(entry)));
    entries
}

fn length(entry: &Entry) -> usize {
    entry.pieces.iter().map(String::len).sum()
}

fn pieces(message: &str) -> Vec<String> {
    let pieces = message.split('…').map(str::trim);
    pieces
        .filter(|piece| !piece.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_its_pieces_and_the_anchor_of_its_row() {
        let source = "# Errors\n\n| code | message | meaning |\n|---|---|---|\n| 4009 | `App key … is gone: … ended`, `It ended today` | Set `x.y` to a long value. |\n";
        let entry = |pieces: &[&str]| Entry {
            pieces: pieces.iter().map(|piece| (*piece).to_owned()).collect(),
            anchor: "4009".into(),
        };
        let expected = [
            entry(&["App key", "is gone:", "ended"]),
            entry(&["It ended today"]),
        ];
        assert_eq!(entries(source), expected);
    }
}
