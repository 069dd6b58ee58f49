//! Channel names and what their prefixes mean (docs/protocol.md#channel-names).

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use crate::ids::UserId;

/// A valid channel name: `[-a-zA-Z0-9_=@,.;]`, or `#server-to-user-` and an id of those characters.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelName(Arc<str>);

/// The kind of a channel, decided by the prefix of its name alone: what it asks of its subscribers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelKind {
    /// Every client may subscribe.
    Public,
    /// Subscribing needs a signature.
    Private,
    /// Private, and its data are encrypted with a key that the server never holds.
    Encrypted,
    /// Private, and its subscribers see each other.
    Presence,
    /// `#server-to-user-{id}`: only for the connection signed in as that user.
    ServerToUser,
}

/// Why a text is not a channel name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidChannelName {
    /// It is empty.
    #[error("Invalid channel name: it is empty")]
    Empty,
    /// Longer than allowed.
    #[error("Invalid channel name: {length} bytes, at most {max} are allowed")]
    TooLong {
        /// Bytes in the name.
        length: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// A character outside the set.
    #[error(
        "Invalid channel name {name:?}: character {position} is {character:?}, allowed are A-Z a-z 0-9 _ - = @ , . ;"
    )]
    Character {
        /// The name as given.
        name: String,
        /// Which character, counted from 1.
        position: usize,
        /// The character.
        character: char,
    },
    /// `#` is reserved for the server.
    #[error(
        "Invalid channel name {0:?}: names that start with '#' are reserved, but for #server-to-user-ID"
    )]
    Reserved(String),
}

pub(crate) const SERVER_TO_USER: &str = "#server-to-user-";

impl ChannelName {
    /// Checks a name against the character set and a length in bytes.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidChannelName`], which says which rule the name breaks, and where.
    pub fn parse(name: &str, max_length: usize) -> Result<Self, InvalidChannelName> {
        if name.is_empty() {
            return Err(InvalidChannelName::Empty);
        }
        if name.len() > max_length {
            return Err(InvalidChannelName::TooLong {
                length: name.len(),
                max: max_length,
            });
        }
        let rest = match name.strip_prefix(SERVER_TO_USER) {
            Some("") => return Err(InvalidChannelName::Reserved(name.into())),
            Some(id) => id,
            None if name.starts_with('#') => return Err(InvalidChannelName::Reserved(name.into())),
            None => name,
        };
        match rest.chars().position(|c| !is_allowed(c)) {
            None => Ok(Self(name.into())),
            Some(index) => {
                let before = name.chars().count() - rest.chars().count();
                Err(InvalidChannelName::Character {
                    name: name.into(),
                    position: before + index + 1,
                    character: rest.chars().nth(index).unwrap_or_default(),
                })
            }
        }
    }

    /// Returns the channel of a user's own.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidChannelName`] if the id makes it too long or holds a character that no channel may have.
    pub fn of_user(user: &UserId, max_length: usize) -> Result<Self, InvalidChannelName> {
        Self::parse(&format!("{SERVER_TO_USER}{}", user.as_str()), max_length)
    }

    /// Returns the id of the user whose own channel it is, or `None` for other channels
    /// (docs/protocol.md#events-to-a-user).
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.0.strip_prefix(SERVER_TO_USER)
    }

    /// Returns the name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether the channel keeps its last event for later subscribers: `cache-`,
    /// `private-cache-`, `private-encrypted-cache-`, `presence-cache-`
    /// (docs/protocol.md#cache-channels).
    #[must_use]
    pub fn keeps_last(&self) -> bool {
        let rest = self.as_str().strip_prefix(self.kind().prefix());
        self.user().is_none() && rest.is_some_and(|rest| rest.starts_with("cache-"))
    }

    /// Returns whether its subscribers can get its subscription count
    /// (docs/protocol.md#subscription-counts): not on presence channels, whose members say more,
    /// not on encrypted ones, where the Java client would try to decrypt the count, and not on a
    /// user's own.
    #[must_use]
    pub fn is_counted(&self) -> bool {
        self.kind().is_counted()
    }

    /// Returns the kind that the prefix says.
    #[must_use]
    pub fn kind(&self) -> ChannelKind {
        ChannelKind::of(&self.0)
    }
}

/// Returns whether a character may be in channel names, and in the ids of users that are part of
/// some.
pub(crate) fn is_allowed(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '=' | '@' | ',' | '.' | ';')
}

impl ChannelKind {
    /// Returns the kind of a name by its prefix, which includes the dash: `privatefoo` and
    /// `presence` are public.
    #[must_use]
    pub fn of(name: &str) -> Self {
        if name.starts_with(Self::Encrypted.prefix()) {
            Self::Encrypted
        } else if name.starts_with("private-") {
            Self::Private
        } else if name.starts_with("presence-") {
            Self::Presence
        } else if name.starts_with('#') {
            Self::ServerToUser
        } else {
            Self::Public
        }
    }

    /// Returns the prefix of these channels' names.
    #[must_use]
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Public => "",
            Self::Private => "private-",
            Self::Encrypted => "private-encrypted-",
            Self::Presence => "presence-",
            Self::ServerToUser => SERVER_TO_USER,
        }
    }

    /// Returns the prefix of those of these channels that keep their last event.
    #[must_use]
    pub fn cache_prefix(self) -> String {
        format!("{}cache-", self.prefix())
    }

    /// Returns whether the subscribers of these channels can get subscription counts; see
    /// [`ChannelName::is_counted`].
    #[must_use]
    pub fn is_counted(self) -> bool {
        match self {
            Self::Public | Self::Private => true,
            Self::Encrypted | Self::Presence | Self::ServerToUser => false,
        }
    }

    /// Returns whether subscribing needs a signature of the app
    /// (docs/protocol.md#channel-signatures).
    #[must_use]
    pub fn needs_auth(self) -> bool {
        matches!(self, Self::Private | Self::Encrypted | Self::Presence)
    }

    /// Returns whether its subscribers are members who see each other.
    #[must_use]
    pub fn has_members(self) -> bool {
        self == Self::Presence
    }

    /// Returns whether only its subscribers can read its data.
    #[must_use]
    pub fn is_encrypted(self) -> bool {
        self == Self::Encrypted
    }

    /// Returns whether clients may send events of their own on it if the app names it
    /// ([`AppSettings::client_event_channels`](crate::AppSettings)).
    #[must_use]
    pub fn may_take_client_events(self) -> bool {
        self.takes_client_events() || self == Self::Public
    }

    /// Returns whether clients may send events of their own on it in any app (docs/protocol.md#client-events).
    /// On an encrypted channel the server can't tell whether their data are encrypted, so it relays
    /// them.
    #[must_use]
    pub fn takes_client_events(self) -> bool {
        self.needs_auth()
    }
}

impl Borrow<str> for ChannelName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_documented_character_is_accepted() {
        for name in [
            "a",
            "private-a_-=@,.;Z9",
            "cache-x",
            "#server-to-user-42",
            &"x".repeat(200),
        ] {
            assert!(ChannelName::parse(name, 200).is_ok(), "{name}");
        }
    }

    #[test]
    fn names_that_break_a_rule_are_refused_with_the_place() {
        let refused = |name: &str| ChannelName::parse(name, 200).unwrap_err();
        assert_eq!(refused(""), InvalidChannelName::Empty);
        assert_eq!(
            refused(&"x".repeat(201)),
            InvalidChannelName::TooLong {
                length: 201,
                max: 200
            }
        );
        assert!(matches!(
            refused("bad channel!"),
            InvalidChannelName::Character {
                position: 4,
                character: ' ',
                ..
            }
        ));
        assert!(matches!(
            refused("#server-to-user-a b"),
            InvalidChannelName::Character {
                position: 18,
                character: ' ',
                ..
            }
        ));
        assert!(matches!(refused("#foo"), InvalidChannelName::Reserved(_)));
        assert!(matches!(
            refused("#server-to-user-"),
            InvalidChannelName::Reserved(_)
        ));
        assert!(matches!(
            refused("grün"),
            InvalidChannelName::Character { position: 3, .. }
        ));
    }

    #[test]
    fn the_four_prefixes_of_cache_channels_are_cached_and_no_other() {
        let cached = |name: &str| ChannelName::parse(name, 200).unwrap().keeps_last();
        for name in [
            "cache-x",
            "private-cache-x",
            "private-encrypted-cache-x",
            "presence-cache-x",
        ] {
            assert!(cached(name), "{name}");
        }
        for name in [
            "cache",
            "my-cache-x",
            "private-x",
            "presence-encrypted-cache-x",
            "encrypted-cache-x",
            "private-my-cache-x",
            "#server-to-user-cache-x",
        ] {
            assert!(!cached(name), "{name}");
        }
    }

    #[test]
    fn the_kind_is_the_prefix_with_its_dash() {
        for (name, kind) in [
            ("private-x", ChannelKind::Private),
            ("private-encrypted-cache-x", ChannelKind::Encrypted),
            ("presence-x", ChannelKind::Presence),
            ("presence-cache-x", ChannelKind::Presence),
            ("#server-to-user-1", ChannelKind::ServerToUser),
            ("private", ChannelKind::Public),
            ("presence", ChannelKind::Public),
            ("privatefoo", ChannelKind::Public),
            ("my-private-x", ChannelKind::Public),
            ("cache-x", ChannelKind::Public),
        ] {
            assert_eq!(ChannelKind::of(name), kind, "{name}");
        }
    }
}
