//! The browser SDK, for a script tag. The built files are in the program, so that serving them needs nothing else.

use std::sync::LazyLock;

use axum::Router;
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_LOCATION, CONTENT_TYPE, ETAG, IF_NONE_MATCH,
};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use sha2::{Digest, Sha256};

use super::AppState;

const SCRIPT: &str = include_str!("../../../../sdk/js/dist/fanfare.js");
const SOURCE_MAP: &str = include_str!("../../../../sdk/js/dist/fanfare.js.map");
/// A name with the hash of what it names never means anything else.
const FOR_EVER: &str = "public, max-age=31536000, immutable";
/// The name that stays means the newest: a browser asks again after an hour.
const FOR_AN_HOUR: &str = "public, max-age=3600";
/// Digits of the hash that are in the name.
const HASH_DIGITS: usize = 16;

static HASHED: LazyLock<String> = LazyLock::new(|| {
    let hash = hex::encode(Sha256::digest(SCRIPT));
    format!("/sdk/fanfare.{}.js", &hash[..HASH_DIGITS])
});

/// The script under its own name and under one that stays, and what debuggers show instead.
pub(super) fn router() -> Router<AppState> {
    Router::new()
        .route(&HASHED, get(|headers| script(headers, FOR_EVER)))
        .route(
            "/sdk/fanfare.js",
            get(|headers| script(headers, FOR_AN_HOUR)),
        )
        .route("/sdk/fanfare.js.map", get(source_map))
        .route("/sdk", get(|| async { Redirect::temporary(&HASHED) }))
}

/// Any page may load it, also with `integrity`, which wants `crossorigin`.
async fn script(asked: HeaderMap, cache: &'static str) -> Response {
    let tag = format!("\"{}\"", &*HASHED);
    let headers = [
        (CACHE_CONTROL, cache),
        (CONTENT_LOCATION, &**HASHED),
        (ETAG, &*tag),
        (ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (CONTENT_TYPE, "text/javascript; charset=utf-8"),
        (HeaderName::from_static("x-content-type-options"), "nosniff"),
    ];
    let known = asked.get(IF_NONE_MATCH).is_some_and(|known| known == &*tag);
    if known {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    (headers, SCRIPT).into_response()
}

async fn source_map() -> Response {
    let headers = [
        (CONTENT_TYPE, "application/json"),
        (ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (CACHE_CONTROL, FOR_AN_HOUR),
    ];
    (headers, SOURCE_MAP).into_response()
}
