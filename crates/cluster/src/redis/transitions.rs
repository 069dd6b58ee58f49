//! Entries of transition logs as Redis keeps them, which `prelude.lua` describes.

use std::time::Duration;

use fanfare_engine::{
    DueTransitions, LOST_NODE_GRACE, Present, Transition, TransitionKey, TransitionKind,
};
use redis::Value;

use super::answer::{integer, pairs, parts, text};
use super::script::millis;
use crate::backend::LogRules;

const LETTERS: [(TransitionKind, char); 4] = [
    (TransitionKind::Occupied, 'a'),
    (TransitionKind::Added, 'b'),
    (TransitionKind::Removed, 'c'),
    (TransitionKind::Vacated, 'd'),
];

/// Returns rules as scripts take them, empty if nothing is logged.
pub(super) fn rules(rules: LogRules) -> String {
    let LogRules {
        channels,
        members,
        grace,
        max_entries,
    } = rules;
    let wanted = match (channels, members) {
        (false, false) => return String::new(),
        (true, false) => "c",
        (false, true) => "m",
        (true, true) => "cm",
    };
    format!("{wanted} {} {max_entries}", millis(grace))
}

/// Returns the longest time in milliseconds until an entry is due.
pub(super) fn longest_delay() -> u64 {
    millis(TransitionKind::Vacated.delay(LOST_NODE_GRACE))
}

/// Returns a key as its entry. Names of channels have no spaces.
pub(super) fn entry(key: &TransitionKey) -> String {
    let letter = LETTERS.iter().find(|(kind, _)| *kind == key.kind);
    let letter = letter.map_or(' ', |(_, letter)| *letter);
    match &key.user {
        Some(user) => format!("{letter}{} {user}", key.channel),
        None => format!("{letter}{}", key.channel),
    }
}

/// Returns the entry of the end of a channel or member.
pub(super) fn end_of(present: &Present) -> String {
    let Present { channel, user } = present;
    entry(&TransitionKey {
        kind: match user {
            Some(_) => TransitionKind::Removed,
            None => TransitionKind::Vacated,
        },
        channel: channel.clone(),
        user: user.clone(),
    })
}

fn key(entry: &str) -> Option<TransitionKey> {
    let letter = entry.chars().next()?;
    let (kind, _) = LETTERS.iter().find(|(_, known)| *known == letter)?;
    let rest = &entry[letter.len_utf8()..];
    let (channel, user) = match rest.split_once(' ') {
        Some((channel, user)) => (channel, Some(user.to_owned())),
        None => (rest, None),
    };
    Some(TransitionKey {
        kind: *kind,
        channel: channel.to_owned(),
        user,
    })
}

/// Reads the reply to a read of due entries.
pub(super) fn due(value: Value) -> Option<DueTransitions> {
    let [stamp, due, next_due, refused] = parts(value)?;
    let transition = |entry, due_ms| {
        Some(Transition {
            key: key(&text(entry)?)?,
            due_ms: text(due_ms)?.parse().ok()?,
        })
    };
    Some(DueTransitions {
        stamp: text(stamp)?.parse().ok()?,
        due: pairs(due, transition)?,
        next_due: u64::try_from(integer(next_due)?)
            .ok()
            .map(Duration::from_millis),
        refused: u64::try_from(integer(refused)?).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_as_they_are_written() {
        for (kind, letter) in LETTERS {
            for (user, written) in [(None, ""), (Some("é u:v "), " é u:v ")] {
                let written = format!("{letter}presence-a,b{written}");
                let key_of = TransitionKey {
                    kind,
                    channel: "presence-a,b".into(),
                    user: user.map(str::to_owned),
                };
                assert_eq!(entry(&key_of), written);
                assert_eq!(key(&written), Some(key_of));
            }
        }
        assert_eq!(key("xa"), None);
        assert_eq!(key(""), None);
    }
}
