//! Identifiers: parsed once at the edge, never plain strings afterwards.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// Longest app id, key or secret, in bytes, that may be imported.
pub const MAX_CREDENTIAL_LENGTH: usize = 200;

/// Why a text cannot be an app id, a key or a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCredential {
    /// It is empty.
    #[error("it is empty")]
    Empty,
    /// Longer than [`MAX_CREDENTIAL_LENGTH`] bytes.
    #[error("it is {0} bytes long; at most {MAX_CREDENTIAL_LENGTH} are allowed")]
    TooLong(usize),
    /// `:` and `/` separate the parts of signatures and URLs; control characters do not survive either.
    #[error("it contains {0:?}; any printable text without ':' and '/' will do")]
    Character(char),
    /// `.` and `..` mean something else in a URL.
    #[error("it is {0:?}, which means something else in a URL")]
    Dots(String),
}

/// Checks a text that is to become an app id, a key or a secret.
///
/// # Errors
///
/// Returns [`InvalidCredential`], which says which rule the text breaks.
pub fn check_credential(text: &str) -> Result<(), InvalidCredential> {
    if text.is_empty() {
        return Err(InvalidCredential::Empty);
    }
    if text.len() > MAX_CREDENTIAL_LENGTH {
        return Err(InvalidCredential::TooLong(text.len()));
    }
    if matches!(text, "." | "..") {
        return Err(InvalidCredential::Dots(text.into()));
    }
    let bad =
        |c: &char| c.is_control() || (c.is_whitespace() && *c != ' ') || matches!(c, ':' | '/');
    text.chars()
        .find(bad)
        .map_or(Ok(()), |c| Err(InvalidCredential::Character(c)))
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Returns the identifier as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

text_id!(
    /// Identifies an app. Issued ids are decimal digits, because some SDKs insist; imported ones may be any text.
    AppId
);
text_id!(
    /// The public half of an app's credential. Unique over all apps: a WebSocket URL holds nothing else.
    AppKey
);
text_id!(
    /// A user, as the app's own backend names them.
    UserId
);

impl AppId {
    /// Checks an id that is issued or imported.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidCredential`], as [`check_credential`] does.
    pub fn parse(text: &str) -> Result<Self, InvalidCredential> {
        check_credential(text).map(|()| Self(text.into()))
    }
}

impl AppKey {
    /// Checks a key that is issued or imported.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidCredential`], as [`check_credential`] does.
    pub fn parse(text: &str) -> Result<Self, InvalidCredential> {
        check_credential(text).map(|()| Self(text.into()))
    }
}

impl UserId {
    /// Returns the id that an app's backend has signed. Any text is valid except the empty one,
    /// which clients treat as absent, and those with the character U+0000, which Postgres can't
    /// hold.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        (!text.is_empty() && !text.contains('\0')).then(|| Self(text.into()))
    }
}

/// The public name of a connection: two numbers, `123.456` (docs/protocol.md#handshake).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId {
    high: u32,
    low: u32,
}

/// A text that does not have the form `123.456`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a socket id has the form 123.456")]
pub struct InvalidSocketId;

impl SocketId {
    /// Returns a random id. It is an input to auth signatures, so it can't be guessed: 62 random
    /// bits.
    #[must_use]
    pub fn random() -> Self {
        let part = || rand::random_range(1..=0x7fff_ffff);
        Self {
            high: part(),
            low: part(),
        }
    }

    /// Reads an id that a backend or a client sent.
    ///
    /// Larger numbers than the server's own are accepted, because the text is well formed; they
    /// name no connection.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidSocketId`] if the text isn't digits, a dot, digits.
    pub fn parse(text: &str) -> Result<Self, InvalidSocketId> {
        let part = |digits: &str| {
            let well_formed = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            well_formed
                .then(|| digits.parse().unwrap_or(u32::MAX))
                .ok_or(InvalidSocketId)
        };
        let (high, low) = text.split_once('.').ok_or(InvalidSocketId)?;
        Ok(Self {
            high: part(high)?,
            low: part(low)?,
        })
    }
}

impl fmt::Display for SocketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.high, self.low)
    }
}

impl fmt::Debug for SocketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn socket_ids_print_as_they_parse() {
        let id = SocketId::parse("264774.13368624").unwrap();
        assert_eq!(id.to_string(), "264774.13368624");
        let drawn = SocketId::random();
        assert_eq!(SocketId::parse(&drawn.to_string()), Ok(drawn));
    }

    #[test]
    fn text_of_another_form_is_no_socket_id() {
        for text in [
            "", "abc", "1", "1.", ".1", "1.2.3", "1.-2", "+1.2", " 1.2", "1.2\n", "１.２",
        ] {
            assert_eq!(SocketId::parse(text), Err(InvalidSocketId), "{text:?}");
        }
    }

    #[test]
    fn a_socket_id_beyond_our_range_is_well_formed_and_equals_none_of_ours() {
        let id = SocketId::parse("99999999999999999999.1").unwrap();
        assert_ne!(id, SocketId::random());
    }

    #[test]
    fn credentials_may_be_short_and_may_not_hold_separators() {
        for good in [
            "app-id",
            "a",
            "278d425bdf160c739803",
            "k@y+=",
            "schlüssel",
            "my secret",
        ] {
            assert_eq!(check_credential(good), Ok(()), "{good:?}");
        }
        for bad in ["", "a:b", "a/b", "a\u{a0}b", "..", "a\n", "\u{7f}"] {
            assert!(check_credential(bad).is_err(), "{bad:?}");
        }
        assert_eq!(
            check_credential(&"x".repeat(201)),
            Err(InvalidCredential::TooLong(201))
        );
    }
}
