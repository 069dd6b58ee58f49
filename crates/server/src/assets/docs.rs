//! The description of the HTTP APIs as the program serves it: `/openapi.json`, and `/docs` for people.
//!
//! The files of `/docs` are compressed once. They are public, and the largest has 1.5 MB, so compressing them for each
//! request would be costly.

use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;

use axum::Router;
use axum::body::{Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, VARY,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use flate2::Compression;
use flate2::write::GzEncoder;
use parking_lot::Mutex;
use serde_json::Value;
use sha2::{Digest, Sha256};
use utoipa_swagger_ui::{Config, SwaggerUi};

use crate::app_state::AppState;
use crate::http::headers::{has_newest, members};

/// Content security policy of the page: its own scripts and styles, and nothing from elsewhere.
const DOCS_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
                           img-src 'self' data:; font-src 'self' data:; connect-src 'self'; \
                           base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A browser asks again after an hour, and gets 304 if nothing has changed.
const CACHE: HeaderValue = HeaderValue::from_static("public, max-age=3600");

/// Compressed files by path, at most as many as the program has. Cheap to clone.
#[derive(Debug, Clone, Default)]
struct Assets(Arc<Mutex<HashMap<String, Arc<Asset>>>>);

/// A file as it is sent.
#[derive(Debug)]
struct Asset {
    kind: HeaderValue,
    tag: String,
    plain: Bytes,
    gzip: Bytes,
}

/// Returns the routes of `/openapi.json` and `/docs`, which load nothing from elsewhere.
pub(crate) fn pages(document: &Value) -> Router<AppState> {
    let body = Bytes::from(serde_json::to_vec(document).expect("a description is JSON"));
    let tag = format!("\"{}\"", hex::encode(&Sha256::digest(&body)[..8]));
    let tag: Arc<str> = tag.into();
    let config = Config::from("/openapi.json")
        .deep_linking(true)
        .default_models_expand_depth(0)
        // The validator would send the document to its makers' server.
        .validator_url("none");
    Router::from(SwaggerUi::new("/docs").config(config))
        .layer(middleware::from_fn_with_state(
            Assets::default(),
            answer_file,
        ))
        .route(
            "/openapi.json",
            get(async move |headers: HeaderMap| answer_document(&headers, &tag, &body)),
        )
}

fn answer_document(headers: &HeaderMap, tag: &str, body: &Bytes) -> Response {
    let same = has_newest(headers, tag);
    let headers = [
        (ETAG, tag),
        (CACHE_CONTROL, "no-cache"),
        (CONTENT_TYPE, "application/json"),
    ];
    if same {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    (headers, body.clone()).into_response()
}

/// Adds the security headers.
fn protect(mut response: Response) -> Response {
    const HEADERS: [(&str, &str); 3] = [
        ("content-security-policy", DOCS_POLICY),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
    ];
    for (name, value) in HEADERS {
        let (name, value) = (
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
        response.headers_mut().insert(name, value);
    }
    response
}

/// Answers with a compressed file. The first request for a file compresses it.
async fn answer_file(State(assets): State<Assets>, request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let headers = request.headers().clone();
    let known = assets.0.lock().get(&path).cloned();
    if let Some(asset) = known {
        return protect(asset.answer(&headers));
    }
    let response = next.run(request).await;
    let kind = response.headers().get(CONTENT_TYPE).cloned();
    let (StatusCode::OK, Some(kind)) = (response.status(), kind) else {
        return protect(response);
    };
    let Ok(plain) = to_bytes(response.into_body(), usize::MAX).await else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let asset = tokio::task::spawn_blocking(move || Arc::new(Asset::new(kind, plain))).await;
    let asset = asset.expect("compressing into memory does not fail");
    // Two first requests at once both compress the file, and the second result replaces the first.
    assets.0.lock().insert(path, Arc::clone(&asset));
    protect(asset.answer(&headers))
}

impl Asset {
    fn new(kind: HeaderValue, plain: Bytes) -> Self {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        let written = encoder.write_all(&plain).and_then(|()| encoder.finish());
        Self {
            kind,
            tag: format!("\"{}\"", hex::encode(&Sha256::digest(&plain)[..8])),
            gzip: written.expect("memory takes everything").into(),
            plain,
        }
    }

    fn answer(&self, headers: &HeaderMap) -> Response {
        let common = [
            (CACHE_CONTROL, CACHE),
            (VARY, HeaderValue::from_static("accept-encoding")),
            (
                ETAG,
                HeaderValue::from_str(&self.tag).expect("digits in quotes"),
            ),
        ];
        if has_newest(headers, &self.tag) {
            return (StatusCode::NOT_MODIFIED, common).into_response();
        }
        let kind = [(CONTENT_TYPE, self.kind.clone())];
        if takes_gzip(headers) {
            let encoding = [(CONTENT_ENCODING, HeaderValue::from_static("gzip"))];
            return (common, kind, encoding, self.gzip.clone()).into_response();
        }
        (common, kind, self.plain.clone()).into_response()
    }
}

/// Returns whether a client accepts gzip: it names gzip or `*`, with a weight other than 0.
fn takes_gzip(headers: &HeaderMap) -> bool {
    members(headers, ACCEPT_ENCODING).any(|member| {
        let (coding, weight) = member.split_once(';').unwrap_or((member, ""));
        let coding = coding.trim();
        let weight = weight.trim().strip_prefix("q=").unwrap_or("1");
        let refused = weight.trim().parse() == Ok(0.0);
        (coding.eq_ignore_ascii_case("gzip") || coding == "*") && !refused
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_sent_to_who_takes_it() {
        for (accepts, taken) in [
            ("gzip", true),
            ("deflate, GZIP;q=0.5", true),
            ("*", true),
            ("gzip;q=0", false),
            ("gzip; q=0.000", false),
            ("br", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_ENCODING, accepts.parse().expect("a value"));
            assert_eq!(takes_gzip(&headers), taken, "{accepts}");
        }
        assert!(!takes_gzip(&HeaderMap::new()));
    }
}
