//! Users, as signed by the app's backend (docs/protocol.md#sign-in).

use std::borrow::Cow;
use std::collections::HashSet;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::channel::is_allowed;
use crate::ids::UserId;
use crate::json;
use crate::limits::Limits;
use crate::presence::{Member, user_info};

/// Why a `user_data` is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUser {
    /// Not a JSON object with a string `id`.
    #[error("Invalid user_data: {0}; expected a JSON object with a string 'id'")]
    Malformed(String),
    /// `id` isn't a string.
    #[error("Invalid user_data: 'id' must be a string, it is {0}")]
    IdKind(&'static str),
    /// The id is empty, too long, or has a character that channel names may not have, though it
    /// becomes part of one.
    #[error(
        "Invalid user_data: 'id' must have 1 to {max} of the characters A-Z a-z 0-9 _ - = @ , . ;"
    )]
    Id {
        /// Characters allowed.
        max: usize,
    },
    /// `user_info` is there and is not an object.
    #[error("Invalid user_data: 'user_info' must be an object, it is {0}")]
    Info(&'static str),
    /// `watchlist` is there and is not an array of ids.
    #[error("Invalid user_data: 'watchlist' must be an array of non-empty strings without U+0000")]
    Watchlist,
}

#[derive(Deserialize)]
struct UserData<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    user_info: Option<&'a RawValue>,
    #[serde(borrow)]
    watchlist: Option<&'a RawValue>,
}

/// A user and the users that they watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The user as presence channels show them.
    pub member: Member,
    /// The watched users, each once.
    pub watchlist: Vec<UserId>,
}

/// Reads a copy of the signed text. The watchlist is returned whole, however long it is.
///
/// # Errors
///
/// Returns [`InvalidUser`], which says which rule the text breaks.
pub fn parse_user_data(user_data: &str, limits: &Limits) -> Result<User, InvalidUser> {
    let data: UserData<'_> =
        json::object(user_data).map_err(|error| InvalidUser::Malformed(json::reason(&error)))?;
    let id = id(data.id)?;
    let fits = id.len() <= limits.user_id && id.chars().all(is_allowed);
    let user_id = UserId::new(&id).filter(|_| fits).ok_or(InvalidUser::Id {
        max: limits.user_id,
    })?;
    let member = Member {
        user_id,
        user_info: user_info(data.user_info).map_err(InvalidUser::Info)?,
    };
    Ok(User {
        member,
        watchlist: watchlist(data.watchlist)?,
    })
}

fn id(raw: Option<&RawValue>) -> Result<Cow<'_, str>, InvalidUser> {
    let raw = raw.ok_or(InvalidUser::IdKind("missing"))?;
    json::string(raw.get()).map_err(|_| InvalidUser::IdKind(json::kind(raw)))
}

fn watchlist(raw: Option<&RawValue>) -> Result<Vec<UserId>, InvalidUser> {
    let Some(raw) = raw.filter(|raw| raw.get() != "null") else {
        return Ok(Vec::new());
    };
    let ids: Vec<Cow<'_, str>> =
        serde_json::from_str(raw.get()).map_err(|_| InvalidUser::Watchlist)?;
    let mut unique = Vec::with_capacity(ids.len());
    let mut seen = HashSet::new();
    for id in ids {
        let id = UserId::new(&id).ok_or(InvalidUser::Watchlist)?;
        if seen.insert(id.clone()) {
            unique.push(id);
        }
    }
    Ok(unique)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_text_that_fits_into_a_channel_name() {
        let id = |text: &str| {
            parse_user_data(text, &Limits::HOSTED)
                .map(|user| user.member.user_id.as_str().to_owned())
        };
        assert_eq!(
            id(r#"{"id":"a@b.c","user_info":{"n":1},"watchlist":[]}"#).as_deref(),
            Ok("a@b.c")
        );
        let info = r#"{"id":"1","user_info":1}"#;
        for bad in [
            "",
            "[]",
            "[1]",
            "{}",
            r#"{"id":1}"#,
            r#"{"id":""}"#,
            r#"{"id":"a b"}"#,
            "{\"id\":",
            info,
        ] {
            assert!(id(bad).is_err(), "{bad}");
        }
        assert!(id(&format!(r#"{{"id":"{}"}}"#, "x".repeat(129))).is_err());
    }

    #[test]
    fn a_watchlist_names_each_user_once() {
        let watched =
            |text: &str| parse_user_data(text, &Limits::HOSTED).map(|user| user.watchlist.len());
        assert_eq!(watched(r#"{"id":"1"}"#), Ok(0));
        assert_eq!(watched(r#"{"id":"1","watchlist":["a","b","a"]}"#), Ok(2));
        for bad in [r#"[1]"#, r#""a""#, r#"[""]"#, "{}"] {
            assert_eq!(
                watched(&format!(r#"{{"id":"1","watchlist":{bad}}}"#)),
                Err(InvalidUser::Watchlist),
                "{bad}"
            );
        }
    }
}
