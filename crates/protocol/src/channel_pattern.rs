//! Patterns of channel names: of histories and webhooks.

use std::fmt;

use crate::channel::{ChannelKind, SERVER_TO_USER, is_allowed};
use crate::limits::Limits;
use crate::wildcard;

/// How patterns for users' own channels begin. No other channel's name has a `#`.
const OF_USERS: [&str; 2] = [SERVER_TO_USER, "#*"];

/// A pattern of channel names, in which `*` stands for any characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelPattern(String);

/// Why a text is not a pattern of channel names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidChannelPattern {
    /// Empty, or longer than a channel's name.
    #[error("channels must have 1 to {max} bytes", max = Limits::HOSTED.channel_name)]
    Length,
    /// A character that no channel's name has at that place.
    #[error(
        "no channel matches {pattern:?}, because no name has a {character:?} there: names have A-Z a-z 0-9 _ - = @ , . ; and \
         those of users' own channels begin with {SERVER_TO_USER}"
    )]
    Character {
        /// The text as given.
        pattern: String,
        /// The character.
        character: char,
    },
}

impl ChannelPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidChannelPattern`] if the text is too long, or no channel's name can match it.
    pub fn parse(text: &str) -> Result<Self, InvalidChannelPattern> {
        check(text)?;
        Ok(Self(text.into()))
    }

    /// Returns whether a channel's name matches.
    #[must_use]
    pub fn matches(&self, channel: &str) -> bool {
        matches(&self.0, channel)
    }

    /// Returns whether a name that begins with `prefix` can match.
    #[must_use]
    pub fn can_match_prefix(&self, prefix: &str) -> bool {
        match self.0.split_once('*') {
            Some((literal, _)) => prefix.starts_with(literal) || literal.starts_with(prefix),
            None => self.0.starts_with(prefix),
        }
    }

    /// Returns whether a name of a channel of this kind can match.
    #[must_use]
    pub fn can_match_kind(&self, kind: ChannelKind) -> bool {
        // The literal beginning decides if it has the whole prefix of a kind; every prefix but the empty one ends a kind.
        let literal = self.0.split('*').next().unwrap_or_default();
        self.can_match_prefix(kind.prefix())
            && match ChannelKind::of(literal) {
                // A longer name may have the prefix of any kind that can match.
                ChannelKind::Public => kind != ChannelKind::Public || !literal.starts_with('#'),
                ChannelKind::Private => {
                    matches!(kind, ChannelKind::Private | ChannelKind::Encrypted)
                }
                decided => kind == decided,
            }
    }

    /// Returns the pattern as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ChannelPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Returns whether a channel's name matches the text of a pattern.
pub(crate) fn matches(pattern: &str, channel: &str) -> bool {
    wildcard::matches(pattern.split('*'), channel, |_| true)
}

/// Checks the text of a pattern.
pub(crate) fn check(pattern: &str) -> Result<(), InvalidChannelPattern> {
    if pattern.is_empty() || pattern.len() > Limits::HOSTED.channel_name {
        return Err(InvalidChannelPattern::Length);
    }
    let rest = OF_USERS
        .iter()
        .find_map(|of_users| pattern.strip_prefix(of_users));
    let mut rest = rest.unwrap_or(pattern).chars();
    match rest.find(|c| *c != '*' && !is_allowed(*c)) {
        Some(character) => Err(InvalidChannelPattern::Character {
            pattern: pattern.into(),
            character,
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> ChannelPattern {
        ChannelPattern::parse(text).expect(text)
    }

    #[test]
    fn a_star_stands_for_any_characters() {
        assert!(pattern("private-room-*").matches("private-room-7"));
        assert!(pattern("*").matches("anything"));
        assert!(!pattern("private-room-*").matches("presence-room-7"));
        assert!(!pattern("room").matches("room-7"));
    }

    #[test]
    fn a_pattern_that_no_name_matches_is_refused() {
        for possible in [
            "*",
            "room-*",
            "#server-to-user-*",
            "#server-to-user-1",
            "#*",
            "*=@,.;_",
        ] {
            assert!(ChannelPattern::parse(possible).is_ok(), "{possible}");
        }
        for (impossible, character) in [
            ("public-#", '#'),
            ("x y", ' '),
            ("client-é*", 'é'),
            ("#x", '#'),
            ("#x*", '#'),
            ("#ser*", '#'),
            ("a*#server-to-user-1", '#'),
        ] {
            let expected = InvalidChannelPattern::Character {
                pattern: impossible.into(),
                character,
            };
            assert_eq!(ChannelPattern::parse(impossible), Err(expected));
        }
        let long = "x".repeat(Limits::HOSTED.channel_name + 1);
        for text in ["", &long] {
            assert_eq!(
                ChannelPattern::parse(text),
                Err(InvalidChannelPattern::Length)
            );
        }
    }

    #[test]
    fn the_prefixes_that_can_match_are_known() {
        for (text, prefix, can) in [
            ("*", "presence-", true),
            ("pre*", "presence-", true),
            ("presence-room-*", "presence-", true),
            ("presence-room", "presence-", true),
            ("private-*", "presence-", false),
            ("presence", "presence-", false),
            ("room*", "presence-", false),
        ] {
            assert_eq!(pattern(text).can_match_prefix(prefix), can, "{text}");
        }
    }

    #[test]
    fn the_kinds_that_can_match_are_those_of_names_that_match() {
        let kinds = |text: &str| {
            let all = [
                ChannelKind::Public,
                ChannelKind::Private,
                ChannelKind::Encrypted,
                ChannelKind::Presence,
                ChannelKind::ServerToUser,
            ];
            let pattern = pattern(text);
            all.map(|kind| pattern.can_match_kind(kind))
        };
        for (text, expected) in [
            ("*", [true; 5]),
            ("p*", [true, true, true, true, false]),
            ("presence", [true, false, false, false, false]),
            ("private-*", [false, true, true, false, false]),
            ("private-x*", [false, true, false, false, false]),
            ("private-encrypted-*", [false, false, true, false, false]),
            ("presence-*", [false, false, false, true, false]),
            ("news", [true, false, false, false, false]),
            ("#*", [false, false, false, false, true]),
        ] {
            assert_eq!(kinds(text), expected, "{text}");
        }
    }
}
