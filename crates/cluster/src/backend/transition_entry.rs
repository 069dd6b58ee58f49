//! Entries of transition logs as text, which back ends sort and compare: a letter, the channel and,
//! after a space, the user.

use fanfare_engine::{Present, TransitionKey, TransitionKind};

/// The letters are in the order of what is due at once.
const LETTERS: [(TransitionKind, char); 4] = [
    (TransitionKind::Occupied, 'a'),
    (TransitionKind::Added, 'b'),
    (TransitionKind::Removed, 'c'),
    (TransitionKind::Vacated, 'd'),
];

/// Returns a key as its entry. Names of channels have no spaces.
pub(crate) fn entry(key: &TransitionKey) -> String {
    let letter = LETTERS.iter().find(|(kind, _)| *kind == key.kind);
    let letter = letter.map_or(' ', |(_, letter)| *letter);
    match &key.user {
        Some(user) => format!("{letter}{} {user}", key.channel),
        None => format!("{letter}{}", key.channel),
    }
}

/// Returns the entry of the end of a channel or member.
pub(crate) fn end_of(present: &Present) -> String {
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

/// Returns the key of an entry, or `None` if it is none.
pub(crate) fn key(entry: &str) -> Option<TransitionKey> {
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
