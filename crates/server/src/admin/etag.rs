//! Prevents lost updates: a caller that sends back the `ETag` of what it read is refused if another caller has changed
//! it since.

use std::convert::Infallible;

use axum::Json;
use axum::extract::FromRequestParts;
use axum::http::header::{ETAG, IF_MATCH};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::{IntoParams, IntoResponses};

use super::problem::Problem;
use crate::http::headers::{entity_tag, members};

/// Entity tags of all `If-Match` lines, or `None` if there is no such header.
#[derive(Debug, IntoParams)]
#[into_params(names("if-match"), parameter_in = Header)]
pub(super) struct IfMatch(
    /// The ETag of what was read
    #[param(value_type = Option<String>)]
    Option<Vec<String>>,
);

impl<S: Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let tags = members(&parts.headers, IF_MATCH).map(str::to_owned);
        let is_there = parts.headers.contains_key(IF_MATCH);
        Ok(Self(is_there.then(|| tags.collect())))
    }
}

impl IfMatch {
    /// Returns the revision that must still be the newest, or `None` if the caller accepts any.
    ///
    /// # Errors
    ///
    /// Returns 412 for a tag that isn't one of Fanfare's, and 400 for several different ones.
    pub(super) fn revision(&self) -> Result<Option<i64>, Problem> {
        let Some(tags) = &self.0 else {
            return Ok(None);
        };
        let not_ours = || {
            Problem::stale(
                "this If-Match is no ETag of ours; send the one that came with what you read",
            )
        };
        // An empty header doesn't allow overwriting, because a script may have failed to read the tag.
        let (first, others) = tags.split_first().ok_or_else(not_ours)?;
        if others.iter().any(|tag| tag != first) {
            return Err(Problem::invalid(format!(
                "If-Match has {} different ETags; send the one that came with what you read",
                tags.len()
            )));
        }
        if first == "*" {
            return Ok(None);
        }
        let revision = first.trim_start_matches("W/").trim_matches('"').parse();
        revision.map(Some).map_err(|_| not_ours())
    }
}

/// The app, or what belongs to it, was changed in the meantime
#[derive(IntoResponses)]
#[response(status = 412)]
pub(super) struct StaleApp;

/// A value and its revision, which becomes its `ETag`.
#[derive(Debug)]
pub(super) struct Tagged<T>(pub(super) T, pub(super) i64);

impl<T: Serialize> IntoResponse for Tagged<T> {
    fn into_response(self) -> Response {
        let mut response = Json(self.0).into_response();
        response.headers_mut().insert(ETAG, entity_tag(self.1));
        response
    }
}
