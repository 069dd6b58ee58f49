//! Members of presence channels, as signed by the app's backend (docs/protocol.md#presence).

use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::ids::UserId;
use crate::json;
use crate::limits::Limits;

/// A user on a presence channel, however many connections they have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The user's id.
    pub user_id: UserId,
    /// Compact JSON text of an object, if there is one.
    pub user_info: Option<Arc<str>>,
}

/// Why a `channel_data` is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMember {
    /// Not a JSON object.
    #[error("Invalid channel_data: {0}; expected a JSON object with 'user_id'")]
    Malformed(String),
    /// `user_id` is neither a string nor a number, is empty, or has the character U+0000.
    #[error("Invalid channel_data: 'user_id' must be a non-empty string or a number, it is {0}")]
    UserId(&'static str),
    /// `user_id` is too long.
    #[error("Invalid channel_data: 'user_id' has {length} characters, at most {max} are allowed")]
    UserIdTooLong {
        /// Characters in the id.
        length: usize,
        /// Characters allowed.
        max: usize,
    },
    /// `user_info` is there and is not an object.
    #[error("Invalid channel_data: 'user_info' must be an object, it is {0}")]
    UserInfo(&'static str),
    /// The member is too large.
    #[error("Invalid channel_data: the member has {size} bytes, at most {max} are allowed")]
    TooLarge {
        /// Bytes in id and info.
        size: usize,
        /// Bytes allowed.
        max: usize,
    },
}

#[derive(Deserialize)]
struct ChannelData<'a> {
    #[serde(borrow)]
    user_id: Option<&'a RawValue>,
    #[serde(borrow)]
    user_info: Option<&'a RawValue>,
}

impl Member {
    /// Reads a copy of the signed text. A numeric id is taken from its literal, so that it keeps
    /// all its digits.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidMember`], which says which rule the text breaks.
    pub fn parse(channel_data: &str, limits: &Limits) -> Result<Self, InvalidMember> {
        let data: ChannelData<'_> = json::object(channel_data)
            .map_err(|error| InvalidMember::Malformed(json::reason(&error)))?;
        let user_id = user_id(data.user_id)?;
        let length = user_id.as_str().chars().count();
        if length > limits.user_id {
            return Err(InvalidMember::UserIdTooLong {
                length,
                max: limits.user_id,
            });
        }
        let member = Self {
            user_id,
            user_info: user_info(data.user_info).map_err(InvalidMember::UserInfo)?,
        };
        member.check_size(limits)?;
        Ok(member)
    }

    /// Checks the size of what a presence channel's subscribers would get.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidMember::TooLarge`] if it is over the limit.
    pub fn check_size(&self, limits: &Limits) -> Result<(), InvalidMember> {
        let size =
            self.user_id.as_str().len() + self.user_info.as_ref().map_or(0, |info| info.len());
        if size > limits.presence_member_size {
            return Err(InvalidMember::TooLarge {
                size,
                max: limits.presence_member_size,
            });
        }
        Ok(())
    }
}

/// Returns the compact JSON text of an object, if there is one.
///
/// # Errors
///
/// Returns what it is instead of an object.
pub(crate) fn user_info(raw: Option<&RawValue>) -> Result<Option<Arc<str>>, &'static str> {
    match raw {
        None => Ok(None),
        Some(raw) if raw.get() == "null" => Ok(None),
        Some(raw) if raw.get().starts_with('{') => Ok(Some(json::compact(raw.get()).into())),
        Some(raw) => Err(json::kind(raw)),
    }
}

fn user_id(raw: Option<&RawValue>) -> Result<UserId, InvalidMember> {
    let raw = raw.ok_or(InvalidMember::UserId("missing"))?;
    let wrong = || InvalidMember::UserId(json::kind(raw));
    let unprintable = || InvalidMember::UserId("a string with the character U+0000");
    match raw.get().as_bytes() {
        [b'"', b'"'] => Err(InvalidMember::UserId("an empty string")),
        [b'"', ..] => {
            let id = json::string(raw.get()).map_err(|_| wrong())?;
            UserId::new(&id).ok_or_else(unprintable)
        }
        [b'-' | b'0'..=b'9', ..] => UserId::new(raw.get()).ok_or_else(wrong),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(text: &str) -> Result<Member, InvalidMember> {
        Member::parse(text, &Limits::HOSTED)
    }

    #[test]
    fn numbers_and_strings_name_the_same_user_and_keep_their_digits() {
        assert_eq!(member(r#"{"user_id":10}"#), member(r#"{"user_id":"10"}"#));
        assert_eq!(
            member(r#"{"user_id": 9007199254740993 }"#)
                .unwrap()
                .user_id
                .as_str(),
            "9007199254740993"
        );
    }

    #[test]
    fn info_is_an_object_or_absent() {
        assert_eq!(
            member(r#"{"user_id":1,"user_info":null}"#)
                .unwrap()
                .user_info,
            None
        );
        let info = member(r#"{"user_id":1, "user_info": {"name": "A \u00e9"}}"#)
            .unwrap()
            .user_info;
        assert_eq!(info.as_deref(), Some(r#"{"name":"A \u00e9"}"#));
        for info in ["true", "[]", "\"x\"", "1"] {
            let text = format!(r#"{{"user_id":1,"user_info":{info}}}"#);
            assert!(
                matches!(member(&text), Err(InvalidMember::UserInfo(_))),
                "{info}"
            );
        }
    }

    #[test]
    fn what_names_nobody_is_refused() {
        for text in ["", "[]", "[10,null]", "nope", "{}"] {
            assert!(member(text).is_err(), "{text}");
        }
        for id in ["null", "{}", "[]", "true", "\"\""] {
            assert!(
                matches!(
                    member(&format!(r#"{{"user_id":{id}}}"#)),
                    Err(InvalidMember::UserId(_))
                ),
                "{id}"
            );
        }
    }

    #[test]
    fn a_refusal_says_what_was_there() {
        let refused = |text: &str| member(text).unwrap_err().to_string();
        assert!(refused(r#"{"user_id":""}"#).ends_with("it is an empty string"));
        assert!(refused(r#"{"user_id":true}"#).ends_with("it is a boolean"));
        assert!(refused(r#"{"user_id":"a\u0000"}"#).ends_with("with the character U+0000"));
        assert!(refused("{}").ends_with("it is missing"));
        let nope = refused("nope");
        assert!(
            nope.starts_with("Invalid channel_data: it is not JSON ("),
            "{nope}"
        );
    }

    #[test]
    fn lengths_are_limited() {
        assert!(member(&format!(r#"{{"user_id":"{}"}}"#, "é".repeat(128))).is_ok());
        assert!(member(&format!(r#"{{"user_id":"{}"}}"#, "x".repeat(129))).is_err());
        assert!(
            member(&format!(
                r#"{{"user_id":"a","user_info":{{"n":"{}"}}}}"#,
                "x".repeat(1024)
            ))
            .is_err()
        );
    }
}
