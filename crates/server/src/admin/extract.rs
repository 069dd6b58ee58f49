//! Extractors of bodies, queries and paths, whose errors are problem details.

use axum::body::Bytes;
use axum::extract::path::ErrorKind;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::HeaderMap;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::problem::Problem;
use crate::app_state::AppState;
use crate::body::{BodyError, read_body, read_pending};
use crate::http::headers::media_type;

/// Largest body, in bytes.
const MAX_BODY: usize = 256 * 1024;
/// Largest body of a request without a token, in bytes: twice a name and a password of 1000 characters, all escaped.
const MAX_ANONYMOUS_BODY: usize = 16 * 1024;

/// A JSON body. It may hold secrets, so it has no `Debug`.
pub(super) struct Body<T> {
    pub(super) value: T,
    /// The body as it was sent.
    pub(super) bytes: Bytes,
}

impl<T: DeserializeOwned> FromRequest<AppState> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &AppState) -> Result<Self, Problem> {
        let is_json = is_json(request.headers());
        let bytes = read_body(request, MAX_BODY).await?;
        Self::of(bytes, is_json)
    }
}

/// Returns whether a body is JSON by its content type, or has none.
fn is_json(headers: &HeaderMap) -> bool {
    media_type(headers).is_none_or(|kind| kind == "application/json" || kind.ends_with("+json"))
}

impl<T: DeserializeOwned> Body<T> {
    /// Reads a small body of a client that has proved nothing yet. Its network pays for the memory.
    pub(super) async fn of_stranger(request: Request, state: &AppState) -> Result<Self, Problem> {
        let is_json = is_json(request.headers());
        let from = state
            .addresses
            .charged(request.headers(), request.extensions());
        let ledger = state.engine.ledger();
        let body = read_pending(ledger, request, MAX_ANONYMOUS_BODY, from);
        Self::of(body.await?.bytes, is_json)
    }

    fn of(bytes: Bytes, is_json: bool) -> Result<Self, Problem> {
        if !is_json {
            return Err(Problem::wrong_media_type());
        }
        // serde would also accept an array of the fields' values.
        if bytes.trim_ascii_start().starts_with(b"[") {
            return Err(Problem::invalid("the body: it must be a JSON object"));
        }
        let value = serde_json::from_slice(&bytes)
            .map_err(|error| Problem::invalid(format!("the body: {}", without_value(&error))))?;
        if holds_nul(&bytes) {
            return Err(nul("the body"));
        }
        Ok(Self { value, bytes })
    }
}

/// Returns what is wrong with a body, without the wrong value, which may be a password sent as a number.
fn without_value(error: &serde_json::Error) -> String {
    if error.is_syntax() || error.is_eof() {
        return fanfare_protocol::json::reason(error);
    }
    let text = error.to_string();
    let (Some(start), Some(end)) = (text.find(['"', '`']), text.rfind(", expected")) else {
        return text;
    };
    match text.starts_with("invalid ") && start < end {
        true => format!("{}{}", text[..start].trim_end(), &text[end..]),
        false => text,
    }
}

impl From<BodyError> for Problem {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge(limit) => Self::too_large(limit),
            BodyError::Busy(_) => Self::unavailable(error.to_string()),
            BodyError::Late | BodyError::Broken(_) => Self::invalid(error.to_string()),
        }
    }
}

/// Returns the error for U+0000. Postgres can't store it in text, so SQLite doesn't get it either.
pub(super) fn nul(place: &str) -> Problem {
    Problem::invalid(format!(
        "{place}: no text may hold the character U+0000, which databases cannot store"
    ))
}

/// Returns whether a string in JSON contains U+0000, which is only possible as an escape.
pub(super) fn holds_nul(json: &[u8]) -> bool {
    let mut rest = json;
    while let Some(at) = rest.iter().position(|byte| *byte == b'\\') {
        rest = &rest[at + 1..];
        if rest.starts_with(b"u0000") {
            return true;
        }
        // The escaped character is skipped, because it may be another backslash.
        rest = rest.get(1..).unwrap_or_default();
    }
    false
}

/// The parameters of the query.
#[derive(Debug)]
pub(super) struct QueryParams<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequestParts<AppState> for QueryParams<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, Problem> {
        // Decoded, it would be U+0000.
        if parts.uri.query().is_some_and(|query| query.contains("%00")) {
            return Err(nul("the query"));
        }
        let Query(value) = Query::try_from_uri(&parts.uri).map_err(|error| {
            let query = parts.uri.query().unwrap_or_default();
            Problem::invalid(format!("the query: {}", wrong_query(query, &error)))
        })?;
        Ok(Self(value))
    }
}

/// Returns which parameter of a query is wrong, and what it must be.
fn wrong_query(query: &str, error: &QueryRejection) -> String {
    let text = error.body_text();
    let reason = text.rsplit_once("query string: ");
    let reason = reason.map_or(text.as_str(), |(_, reason)| reason);
    let Some((name, reason)) = reason.split_once(": ") else {
        return reason.to_owned();
    };
    let given: Vec<(String, String)> = serde_urlencoded::from_str(query).unwrap_or_default();
    let value = given.iter().find(|(given, _)| given == name);
    match (rule_of(reason), value) {
        (Some(rule), Some((_, value))) => must_be(name, rule, value),
        _ => format!("{name}: {reason}"),
    }
}

/// Returns what a value must be that couldn't be read, or `None` if that was said already.
fn rule_of(reason: &str) -> Option<&'static str> {
    Some(match reason {
        "invalid digit found in string" | "cannot parse integer from empty string" => {
            "a whole number"
        }
        "number too large to fit in target type" => "a smaller number",
        "number too small to fit in target type" => "a larger number",
        "provided string was not `true` or `false`" => "true or false",
        _ => return None,
    })
}

fn must_be(name: &str, rule: &str, value: &str) -> String {
    let is_negative = value.strip_prefix('-').is_some_and(|digits| {
        !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
    });
    match is_negative {
        true => format!("{name} must be 0 or more, not {value}"),
        false => format!("{name} must be {rule}, not {value:?}"),
    }
}

/// Returns which parameter of a path is wrong, and what it must be.
fn wrong_path(error: &PathRejection) -> String {
    if let PathRejection::FailedToDeserializePathParams(failed) = error
        && let ErrorKind::ParseErrorAtKey {
            key,
            value,
            expected_type,
        } = failed.kind()
        && ["i64", "u64", "u32"].contains(expected_type)
    {
        return must_be(key, "a whole number", value);
    }
    error.body_text()
}

/// The parameters of the path.
#[derive(Debug)]
pub(super) struct PathParams<T>(pub(super) T);

impl<T: DeserializeOwned + Send> FromRequestParts<AppState> for PathParams<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        if parts.uri.path().contains("%00") {
            return Err(nul("the path"));
        }
        let path: Result<Path<T>, PathRejection> = Path::from_request_parts(parts, state).await;
        let Path(value) =
            path.map_err(|error| Problem::invalid(format!("the path: {}", wrong_path(&error))))?;
        Ok(Self(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_kind_of_what_was_sent_and_not_what_it_was() {
        #[derive(Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Named {
            #[expect(dead_code, reason = "it is never read")]
            name: bool,
        }
        let error = |body: &str| {
            let error = serde_json::from_str::<Named>(body).expect_err(body);
            without_value(&error)
        };
        for (body, words) in [
            (
                r#"{"name":"hunter2"}"#,
                "invalid type: string, expected a boolean at line 1",
            ),
            (
                r#"{"name":"\"`, expected hunter2"}"#,
                "invalid type: string, expected a boolean at",
            ),
            (
                r#"{"name":12345678}"#,
                "invalid type: integer, expected a boolean at line 1",
            ),
            (
                r#"{"name":[]}"#,
                "invalid type: sequence, expected a boolean at line 1",
            ),
            (
                r#"{"nane":true}"#,
                "unknown field `nane`, expected `name` at line 1",
            ),
            (r#"{"#, "it is JSON that ends too early"),
            ("nope", "it is not JSON (line 1, column 2: a word that is"),
            (r#"{"name":hunter2}"#, "it is not JSON (line 1, column 9: "),
        ] {
            let error = error(body);
            assert!(error.starts_with(words), "{body}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_nul_is_seen_and_a_backslash_before_u0000_is_none() {
        for json in [
            r#""\u0000""#,
            r#"["a\n\u0000"]"#,
            r#"{"\u0000":1}"#,
            r#""\\\u0000""#,
        ] {
            assert!(holds_nul(json.as_bytes()), "{json}");
        }
        for json in ["", "7", r#""\\u0000""#, r#""\u0001""#, r#""a\"#] {
            assert!(!holds_nul(json.as_bytes()), "{json}");
        }
    }
}
