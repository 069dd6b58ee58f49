//! The browser SDK for script tags. The built files are part of the program.

use std::sync::LazyLock;

use axum::Router;
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_LOCATION, CONTENT_TYPE, ETAG,
};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use sha2::{Digest, Sha256};

use crate::app_state::AppState;
use crate::http::headers::has_newest;

const PLAIN: &str = include_str!("../../../../sdk/js/dist/fanfare.js");
const ENCRYPTED: &str = include_str!("../../../../sdk/js/dist/fanfare-encrypted.js");
const SOURCE_MAP: &str = include_str!("../../../../sdk/js/dist/fanfare.js.map");
/// Caching of a path with the file's hash, whose content never changes.
const FOR_EVER: &str = "public, max-age=31536000, immutable";
/// Caching of the path without a hash, which serves the newest version: a browser asks again after an hour.
const FOR_AN_HOUR: &str = "public, max-age=3600";
/// Number of hash digits in the path.
const HASH_DIGITS: usize = 16;

static SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new("fanfare", PLAIN));
static ENCRYPTED_SCRIPT: LazyLock<Script> =
    LazyLock::new(|| Script::new("fanfare-encrypted", ENCRYPTED));

/// A script and its two paths.
struct Script {
    text: &'static str,
    /// Path that always serves the newest version.
    lasting: String,
    /// Path with the hash of the text.
    hashed: String,
}

impl Script {
    fn new(name: &str, text: &'static str) -> Self {
        let hash = hex::encode(Sha256::digest(text));
        Self {
            text,
            lasting: format!("/sdk/{name}.js"),
            hashed: format!("/sdk/{name}.{}.js", &hash[..HASH_DIGITS]),
        }
    }
}

/// Returns the routes of each script at both paths, and of the source map.
pub(crate) fn router() -> Router<AppState> {
    [&*SCRIPT, &*ENCRYPTED_SCRIPT]
        .into_iter()
        .fold(Router::new(), |router, script| {
            let answer = move |cache| {
                get(move |headers: HeaderMap| async move { respond(script, &headers, cache) })
            };
            router
                .route(&script.hashed, answer(FOR_EVER))
                .route(&script.lasting, answer(FOR_AN_HOUR))
        })
        .route("/sdk/fanfare.js.map", get(source_map))
        .route(
            "/sdk",
            get(|| async { Redirect::temporary(&SCRIPT.hashed) }),
        )
}

/// Answers with a script. Any page may load it, also with `integrity`, which needs `crossorigin`.
fn respond(script: &'static Script, asked: &HeaderMap, cache: &'static str) -> Response {
    let tag = format!("\"{}\"", script.hashed);
    let headers = [
        (CACHE_CONTROL, cache),
        (CONTENT_LOCATION, &*script.hashed),
        (ETAG, &*tag),
        (ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (CONTENT_TYPE, "text/javascript; charset=utf-8"),
        (HeaderName::from_static("x-content-type-options"), "nosniff"),
    ];
    if has_newest(asked, &tag) {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    (headers, script.text).into_response()
}

async fn source_map() -> Response {
    let headers = [
        (CONTENT_TYPE, "application/json"),
        (ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (CACHE_CONTROL, FOR_AN_HOUR),
    ];
    (headers, SOURCE_MAP).into_response()
}
