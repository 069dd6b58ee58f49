//! The cookie that keeps an operator's session in a browser, and the protection against requests that other sites make
//! with it.

use axum::http::header::{COOKIE, HOST};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use crate::admin::problem::Problem;

/// How long a browser's session lives without use, in milliseconds.
pub(crate) const IDLE_LIFETIME: i64 = 7 * 24 * 60 * 60 * 1000;
/// How long a browser's session lives at most, in milliseconds.
const LONGEST_LIFETIME: i64 = 30 * 24 * 60 * 60 * 1000;
/// Resolution of a session's last use, in milliseconds.
const LAST_USE_RESOLUTION: i64 = 10 * 60 * 1000;
const NAME: &str = "fanfare_session";
/// Header that a request with the cookie needs if it may change something. Pages of other origins can't send it without
/// a preflight, which isn't allowed to anybody.
const OWN_HEADER: HeaderName = HeaderName::from_static("fanfare-dashboard");

/// Returns what the cookie holds, or `None` if there is none.
pub(crate) fn session_cookie(parts: &Parts) -> Option<SecretString> {
    let name = cookie_name(&parts.uri, &parts.headers);
    let lines = parts.headers.get_all(COOKIE).into_iter();
    let mut pairs = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'));
    pairs.find_map(|pair| {
        let (found, value) = pair.trim().split_once('=')?;
        (found == name).then(|| value.into())
    })
}

/// Returns the `Set-Cookie` header of a new session.
///
/// It names no path: browsers then send the cookie below the folder of the request that set it, `/api/v1`, wherever a
/// proxy puts that.
pub(crate) fn set_session_cookie(
    uri: &Uri,
    headers: &HeaderMap,
    secret: &SecretString,
    is_secure: bool,
) -> HeaderValue {
    let (name, value) = (cookie_name(uri, headers), secret.expose_secret());
    let seconds = LONGEST_LIFETIME / 1000;
    let secure = if is_secure { "; Secure" } else { "" };
    let text = format!("{name}={value}; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}");
    let mut header = HeaderValue::try_from(text).expect("hex digits and a port");
    header.set_sensitive(true);
    header
}

/// Checks that a request with the cookie comes from the dashboard, if it may change something.
pub(crate) fn check_own_header(parts: &Parts) -> Result<(), Problem> {
    if matches!(parts.method, Method::GET | Method::HEAD) || parts.headers.contains_key(OWN_HEADER)
    {
        return Ok(());
    }
    Err(Problem::forbidden(
        "a request with the cookie of a session needs the header `Fanfare-Dashboard: 1`, which pages of other sites can't send",
    ))
}

/// Returns until when a session that is used now lasts, if that is to be written down. All are Unix times in
/// milliseconds.
pub(crate) fn extended(now: i64, created_at: i64, last_used_at: i64) -> Option<i64> {
    let is_due = now - last_used_at >= LAST_USE_RESOLUTION;
    is_due.then(|| (now + IDLE_LIFETIME).min(created_at + LONGEST_LIFETIME))
}

/// Returns a secret for a cookie or a link, of 256 bits.
pub(crate) fn draw_secret() -> SecretString {
    hex::encode(rand::random::<[u8; 32]>()).into()
}

/// Returns what the store knows of a secret.
pub(crate) fn hash(secret: &SecretString) -> [u8; 32] {
    Sha256::digest(secret.expose_secret()).into()
}

/// Returns the cookie's name. It has the port, because browsers don't keep the cookies of two ports of a host apart, and
/// so whoever signs in to one server on this machine would be signed out of another.
fn cookie_name(uri: &Uri, headers: &HeaderMap) -> String {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let authority = uri.authority().map(|authority| authority.as_str()).or(host);
    let port = authority.and_then(|authority| {
        let (_, port) = authority.rsplit_once(':')?;
        port.parse::<u16>().ok()
    });
    match port {
        Some(port) => format!("{NAME}_{port}"),
        None => NAME.into(),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn parts(method: Method, lines: &[(&'static str, &str)]) -> Parts {
        let mut request = Request::builder().method(method).uri("/api/v1/me");
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        request.body(()).expect("a request").into_parts().0
    }

    #[test]
    fn the_cookie_is_found_among_others_and_belongs_to_a_port() {
        let found = |lines: &[(&'static str, &str)]| {
            session_cookie(&parts(Method::GET, lines)).map(|found| found.expose_secret().to_owned())
        };
        let both = "theme=dark; fanfare_session_7001=a;fanfare_session=b";
        for (host, expected) in [
            ("localhost:7001", Some("a")),
            ("[::1]:7001", Some("a")),
            ("localhost:7002", None),
            ("example.com", Some("b")),
            ("[::1]", Some("b")),
        ] {
            let found = found(&[("host", host), ("cookie", both)]);
            assert_eq!(found.as_deref(), expected, "{host}");
        }
        let lines = [
            ("host", "a"),
            ("cookie", "x=1"),
            ("cookie", "fanfare_session=b"),
        ];
        assert_eq!(found(&lines).as_deref(), Some("b"));
        assert_eq!(found(&[("host", "a")]), None);
    }

    #[test]
    fn what_is_set_is_found_again_and_hidden_from_scripts_and_other_sites() {
        let secret = draw_secret();
        for (is_secure, host) in [(true, "example.com"), (false, "localhost:7001")] {
            let request = parts(Method::POST, &[("host", host)]);
            let set = set_session_cookie(&request.uri, &request.headers, &secret, is_secure);
            let set = set.to_str().expect("text");
            assert!(set.contains("; HttpOnly; SameSite=Strict"), "{set}");
            assert_eq!(set.contains("; Secure"), is_secure, "{set}");
            assert!(!set.contains("Path"), "the folder of the request: {set}");
            let pair = set.split(';').next().expect("a pair");
            let next = parts(Method::GET, &[("host", host), ("cookie", pair)]);
            let found = session_cookie(&next).expect("the cookie");
            assert_eq!(found.expose_secret(), secret.expose_secret());
        }
    }

    #[test]
    fn a_request_that_may_change_something_needs_the_dashboards_header() {
        for method in [Method::GET, Method::HEAD] {
            assert!(check_own_header(&parts(method, &[])).is_ok());
        }
        for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            assert!(check_own_header(&parts(method.clone(), &[])).is_err());
            let own = parts(method, &[("fanfare-dashboard", "1")]);
            assert!(check_own_header(&own).is_ok());
        }
    }

    #[test]
    fn use_extends_a_session_up_to_its_longest_lifetime() {
        let day = 24 * 60 * 60 * 1000;
        assert_eq!(extended(LAST_USE_RESOLUTION - 1, 0, 0), None);
        assert_eq!(
            extended(LAST_USE_RESOLUTION, 0, 0),
            Some(LAST_USE_RESOLUTION + IDLE_LIFETIME)
        );
        assert_eq!(extended(29 * day, 0, 28 * day), Some(LONGEST_LIFETIME));
    }
}
