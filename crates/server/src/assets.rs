//! The files that are part of the program: the SDK's scripts, the dashboard, the documentation, the demo page. All are sent in one
//! way, with an entity tag, the time for which they may be cached, and security headers.

use std::io::Write;
use std::sync::{LazyLock, OnceLock};

use axum::body::Bytes;
use axum::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG,
    REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

use crate::http::headers::{entity_tag, has_newest, members};

pub(crate) mod api_pages;
pub(crate) mod book;
pub(crate) mod dashboard;
pub(crate) mod sdk;

/// Bytes of a file's SHA-256 that identify its content.
const FINGERPRINT_BYTES: usize = 8;

/// The demo page, whose script and style are inline.
pub(crate) static DEMO_PAGE: LazyLock<Asset> = LazyLock::new(|| {
    let page = include_str!("../assets/demo.html");
    let policy = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self' ws: wss:; img-src data:";
    Asset::new(HeaderValue::from_static("text/html; charset=utf-8"), page).with_policy(policy)
});

/// A file as it is sent.
#[derive(Debug)]
pub(crate) struct Asset {
    content_type: HeaderValue,
    fingerprint: String,
    etag: HeaderValue,
    /// As it is. Where the build embeds only the compressed form, it is unpacked once, when a client needs it.
    plain: OnceLock<Bytes>,
    gzip: Option<Bytes>,
    /// The content security policy of a page.
    policy: Option<&'static str>,
}

/// How long a browser may use its copy of a file.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Caching {
    /// For ever, at a path whose content never changes.
    Immutable,
    /// For an hour, after which it asks whether the file has changed.
    Hour,
    /// It asks each time whether the file has changed.
    Revalidate,
}

impl Caching {
    fn header(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Immutable => "public, max-age=31536000, immutable",
            Self::Hour => "public, max-age=3600",
            Self::Revalidate => "no-cache",
        })
    }
}

impl Asset {
    pub(crate) fn new(content_type: HeaderValue, content: impl Into<Bytes>) -> Self {
        let plain = content.into();
        let fingerprint = hex::encode(&Sha256::digest(&plain)[..FINGERPRINT_BYTES]);
        Self {
            content_type,
            etag: entity_tag(&fingerprint),
            fingerprint,
            plain: OnceLock::from(plain),
            gzip: None,
            policy: None,
        }
    }

    /// Returns a file that was compressed with gzip while the program was built. `fingerprint` is that of its content.
    fn packed(content_type: HeaderValue, fingerprint: &str, gzip: &'static [u8]) -> Self {
        Self {
            content_type,
            etag: entity_tag(fingerprint),
            fingerprint: fingerprint.to_owned(),
            plain: OnceLock::new(),
            gzip: Some(Bytes::from_static(gzip)),
            policy: None,
        }
    }

    /// Adds the content security policy of a page.
    fn with_policy(mut self, policy: &'static str) -> Self {
        self.policy = Some(policy);
        self
    }

    /// Compresses the file, once, for clients that accept gzip. Takes a while for a large file.
    fn compressed(mut self) -> Self {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        let written = encoder
            .write_all(&self.plain())
            .and_then(|()| encoder.finish());
        self.gzip = Some(written.expect("memory takes everything").into());
        self
    }

    fn plain(&self) -> Bytes {
        let unpacked = || book::unpacked(self.gzip.as_deref().unwrap_or_default()).into();
        self.plain.get_or_init(unpacked).clone()
    }

    /// Returns the digits that identify the file's content, for a path or an entity tag.
    fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Answers a request for the file: 304 if the client has it already.
    pub(crate) fn respond(&self, request: &HeaderMap, caching: Caching) -> Response {
        let gzip = self.gzip.as_ref();
        let mut response = if has_newest(request, &self.etag) {
            StatusCode::NOT_MODIFIED.into_response()
        } else if let Some(gzip) = gzip.filter(|_| accepts_gzip(request)) {
            ([(CONTENT_ENCODING, "gzip")], gzip.clone()).into_response()
        } else {
            self.plain().into_response()
        };
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, self.content_type.clone());
        headers.insert(ETAG, self.etag.clone());
        headers.insert(CACHE_CONTROL, caching.header());
        if gzip.is_some() {
            headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
        }
        secure(response, self.policy)
    }
}

/// Adds the security headers, which belong on errors and redirects of a page too.
fn secure(mut response: Response, policy: Option<&'static str>) -> Response {
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Some(policy) = policy {
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    }
    response
}

/// Returns whether a client accepts gzip: it names gzip or `*`, with a weight other than 0.
fn accepts_gzip(headers: &HeaderMap) -> bool {
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
    use axum::http::header::IF_NONE_MATCH;

    use super::*;

    const JSON: HeaderValue = HeaderValue::from_static("application/json");

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
            assert_eq!(accepts_gzip(&headers), taken, "{accepts}");
            let file = Asset::new(JSON, "{}").compressed();
            let answer = file.respond(&headers, Caching::Hour);
            assert_eq!(answer.headers().contains_key(CONTENT_ENCODING), taken);
            assert_eq!(answer.headers()[VARY], "accept-encoding");
        }
        assert!(!accepts_gzip(&HeaderMap::new()));
    }

    #[test]
    fn every_file_has_a_tag_a_time_and_security_headers_whether_it_is_sent_or_known() {
        let file = Asset::new(JSON, "{}");
        let sent = file.respond(&HeaderMap::new(), Caching::Hour);
        let mut request = HeaderMap::new();
        request.insert(IF_NONE_MATCH, sent.headers()[ETAG].clone());
        let known = file.respond(&request, Caching::Hour);
        assert_eq!(
            (sent.status().as_u16(), known.status().as_u16()),
            (200, 304)
        );
        for answer in [sent, known] {
            assert_eq!(
                answer.headers()[ETAG],
                &*format!("\"{}\"", file.fingerprint())
            );
            assert_eq!(answer.headers()[CACHE_CONTROL], "public, max-age=3600");
            assert_eq!(answer.headers()[X_CONTENT_TYPE_OPTIONS], "nosniff");
            assert!(!answer.headers().contains_key(CONTENT_SECURITY_POLICY));
        }
        let other = Asset::new(JSON, "[]").with_policy("default-src 'none'");
        let answer = other.respond(&request, Caching::Revalidate);
        assert_eq!(
            answer.status(),
            200,
            "a file with other content is another file"
        );
        assert_eq!(
            answer.headers()[CONTENT_SECURITY_POLICY],
            "default-src 'none'"
        );
    }
}
