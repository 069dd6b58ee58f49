//! The files of `/docs`, each compressed once. They are public, and the largest has 1.5 MB, so compressing them for
//! each request would be costly.

use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;

use axum::body::{Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, VARY,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use flate2::Compression;
use flate2::write::GzEncoder;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use super::protect;
use crate::http::headers::{has_newest, members};

/// A browser asks again after an hour, and gets 304 if nothing has changed.
const CACHE: HeaderValue = HeaderValue::from_static("public, max-age=3600");

/// Compressed files by path, at most as many as the program has. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Assets(Arc<Mutex<HashMap<String, Arc<Asset>>>>);

/// A file as it is sent.
#[derive(Debug)]
struct Asset {
    kind: HeaderValue,
    tag: String,
    plain: Bytes,
    gzip: Bytes,
}

/// Answers with a compressed file. The first request for a file compresses it.
pub(super) async fn answer(State(assets): State<Assets>, request: Request, next: Next) -> Response {
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
