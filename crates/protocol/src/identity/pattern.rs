//! Patterns of the channels that a grant is for: `private-user-{sub}`, `presence-team-{org.team}`,
//! `private-*`.

use super::Claims;
use crate::channel::{ChannelKind, is_allowed};
use crate::wildcard;

/// Longest pattern, in bytes.
const MAX_LENGTH: usize = 500;
/// Most parts of a pattern, so that matching stays cheap.
const MAX_PARTS: usize = 16;

/// A pattern of channel names, with places for claims and stars.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Claim(String),
    Star,
}

/// A part of a pattern once the claims are known.
#[derive(Debug, PartialEq, Eq)]
enum Piece<'a> {
    Text(&'a str),
    Value(String),
    Star,
}

/// Why a text is not a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPattern {
    /// Public channels need no grant, and no grant opens other channels.
    #[error("must start with private- or presence-")]
    Prefix,
    /// Encrypted channels, whose keys only the app itself has.
    #[error("must not be for encrypted channels: those need the app's own endpoint")]
    Encrypted,
    /// Too many bytes or parts.
    #[error("must have at most {MAX_LENGTH} bytes and {MAX_PARTS} places for claims and stars")]
    TooLong,
    /// A brace without its counterpart, or with nothing between.
    #[error("must name a claim between each {{ and }}")]
    Braces,
    /// A character that channel names may not have.
    #[error("has {0:?}, which no channel's name may have")]
    Character(char),
}

impl Pattern {
    /// Reads a pattern of the configuration.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidPattern`], which says which rule the text breaks.
    pub fn parse(text: &str) -> Result<Self, InvalidPattern> {
        match ChannelKind::of(text) {
            ChannelKind::Private | ChannelKind::Presence => {}
            ChannelKind::Encrypted => return Err(InvalidPattern::Encrypted),
            ChannelKind::Public | ChannelKind::ServerToUser => return Err(InvalidPattern::Prefix),
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}', '*']) {
            parts.push(Part::literal(&rest[..at])?);
            rest = match &rest[at..=at] {
                "*" => {
                    parts.push(Part::Star);
                    &rest[at + 1..]
                }
                "{" => {
                    let (claim, after) = claim(&rest[at + 1..])?;
                    parts.push(Part::Claim(claim.into()));
                    after
                }
                _ => return Err(InvalidPattern::Braces),
            };
        }
        parts.push(Part::literal(rest)?);
        parts.retain(|part| *part != Part::Text(String::new()));
        if text.len() > MAX_LENGTH || parts.len() > MAX_PARTS {
            return Err(InvalidPattern::TooLong);
        }
        Ok(Self(parts))
    }

    /// Reads a name or pattern that a token lists, which may have stars but no claims; `None` if it
    /// is invalid.
    #[must_use]
    pub fn of_token(text: &str) -> Option<Self> {
        let pattern = Self::parse(text).ok()?;
        let names_claims = pattern.0.iter().any(|part| matches!(part, Part::Claim(_)));
        (!names_claims).then_some(pattern)
    }

    /// Returns whether the pattern matches a channel, given the claims. If a claim is missing, or
    /// its value can't be part of a channel's name, the pattern matches nothing.
    #[must_use]
    pub fn matches(&self, channel: &str, claims: &Claims) -> bool {
        let pieces: Option<Vec<_>> = self.0.iter().map(|part| part.piece(claims)).collect();
        pieces.is_some_and(|pieces| wildcard::matches(literals(&pieces), channel, |_| true))
    }
}

impl Part {
    fn literal(text: &str) -> Result<Self, InvalidPattern> {
        match text.chars().find(|c| !is_allowed(*c)) {
            Some(c) => Err(InvalidPattern::Character(c)),
            None => Ok(Self::Text(text.into())),
        }
    }

    fn piece(&self, claims: &Claims) -> Option<Piece<'_>> {
        match self {
            Self::Text(text) => Some(Piece::Text(text)),
            Self::Claim(name) => {
                let value = claims.text(name)?;
                value.chars().all(is_allowed).then_some(Piece::Value(value))
            }
            Self::Star => Some(Piece::Star),
        }
    }
}

/// Returns the claim's name before the closing brace, and the text after it.
fn claim(text: &str) -> Result<(&str, &str), InvalidPattern> {
    text.split_once('}')
        .filter(|(name, _)| !name.is_empty() && !name.contains('{'))
        .ok_or(InvalidPattern::Braces)
}

/// Returns the literal texts between the stars.
fn literals<'a>(pieces: &'a [Piece<'_>]) -> impl DoubleEndedIterator<Item = String> + 'a {
    pieces.split(|piece| *piece == Piece::Star).map(|run| {
        run.iter().fold(String::new(), |text, piece| match piece {
            Piece::Text(part) => text + part,
            Piece::Value(value) => text + value,
            Piece::Star => text,
        })
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn matches(pattern: &str, channel: &str, claims: &Value) -> bool {
        let claims = Claims::new(claims.as_object().unwrap().clone());
        Pattern::parse(pattern).unwrap().matches(channel, &claims)
    }

    #[test]
    fn claims_and_stars_stand_for_what_they_say() {
        let claims = json!({"sub": "42", "org": {"team": "red"}, "n": 7});
        for (pattern, channel, fits) in [
            ("private-user-{sub}", "private-user-42", true),
            ("private-user-{sub}", "private-user-421", false),
            ("private-user-{sub}", "private-user-4", false),
            ("private-user-{sub}", "private-user-", false),
            ("private-user-{sub}-*", "private-user-42-inbox", true),
            ("private-user-{sub}-*", "private-user-42", false),
            ("presence-team-{org.team}", "presence-team-red", true),
            ("private-{n}-{sub}", "private-7-42", true),
            ("private-*", "private-", true),
            ("private-*", "private-anything", true),
            ("private-*", "presence-anything", false),
            ("private-*-x-*-z", "private-a-x-b-x-c-z", true),
            ("private-*-x-*-z", "private-a-x-z", false),
            ("private-a*a", "private-a", false),
            ("private-a*a", "private-aa", true),
            ("private-{missing}", "private-", false),
            ("private-{missing}*", "private-x", false),
            ("private-{org}", "private-red", false),
        ] {
            assert_eq!(
                matches(pattern, channel, &claims),
                fits,
                "{pattern} {channel}"
            );
        }
    }

    #[test]
    fn a_claim_cannot_widen_a_pattern() {
        for sub in [
            "*", "", "4 2", "ä", "{sub}", "a*", "a/b", "#x", "a\n", "a\u{0}", "a:b",
        ] {
            let claims = json!({ "sub": sub });
            for channel in [
                "private-user-42",
                "private-user-",
                &format!("private-user-{sub}"),
            ] {
                assert!(
                    !matches("private-user-{sub}", channel, &claims),
                    "{sub:?} {channel}"
                );
            }
            assert!(
                !matches("private-*-{sub}", "private-a-b", &claims),
                "{sub:?}"
            );
        }
        let claims = json!({"sub": "a-private"});
        assert!(matches(
            "private-user-{sub}",
            "private-user-a-private",
            &claims
        ));
        assert!(!matches("private-user-{sub}", "private-user-a", &claims));
        for sub in [
            json!(1.5),
            json!(true),
            json!(["42"]),
            json!({"a": 1}),
            json!(null),
        ] {
            assert!(!matches(
                "private-user-{sub}",
                "private-user-42",
                &json!({ "sub": sub })
            ));
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused_with_the_reason() {
        for (text, reason) in [
            ("", InvalidPattern::Prefix),
            ("*", InvalidPattern::Prefix),
            ("{sub}", InvalidPattern::Prefix),
            ("chat-*", InvalidPattern::Prefix),
            ("#server-to-user-{sub}", InvalidPattern::Prefix),
            ("private-encrypted-*", InvalidPattern::Encrypted),
            ("private-{", InvalidPattern::Braces),
            ("private-{}", InvalidPattern::Braces),
            ("private-{a{b}}", InvalidPattern::Braces),
            ("private-a}", InvalidPattern::Braces),
            ("private-a b", InvalidPattern::Character(' ')),
            ("private-ä*", InvalidPattern::Character('ä')),
        ] {
            assert_eq!(Pattern::parse(text), Err(reason), "{text}");
        }
        let long = format!("private-{}", "*x".repeat(20));
        assert_eq!(Pattern::parse(&long), Err(InvalidPattern::TooLong));
        let long = format!("private-{}", "x".repeat(500));
        assert_eq!(Pattern::parse(&long), Err(InvalidPattern::TooLong));
    }

    #[test]
    fn a_token_lists_names_and_stars_but_no_claims() {
        let matches = |entry: &str, channel: &str| {
            Pattern::of_token(entry).is_some_and(|it| it.matches(channel, &Claims::default()))
        };
        assert!(matches("private-a", "private-a"));
        assert!(matches("presence-room-*", "presence-room-7"));
        for entry in ["*", "private-{sub}", "private-encrypted-*", "a b", ""] {
            assert!(!matches(entry, "private-x"), "{entry}");
            assert!(!matches(entry, "private-encrypted-x"), "{entry}");
        }
    }
}
