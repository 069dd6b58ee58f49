//! Sends browsers that ask for a page over plain HTTP to TLS (`tls.redirect`). Everything else is served on the plain
//! port as before, because clients and backends don't follow redirects.

use axum::Router;
use axum::extract::Request;
use axum::http::header::{ACCEPT, HOST, LOCATION};
use axum::http::uri::Authority;
use axum::http::{Method, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};

use crate::access::Addresses;
use crate::http::headers::is_upgrade;

/// Port that `https` URLs leave out.
const HTTPS: u16 = 443;

/// Returns routes that send browsers to `port`.
pub(super) fn redirect_browsers(router: Router, addresses: Addresses, port: u16) -> Router {
    router.layer(from_fn(move |request: Request, next: Next| {
        let location = location(&request, &addresses, port);
        async move {
            match location {
                Some(location) => redirect(location),
                None => next.run(request).await,
            }
        }
    }))
}

fn redirect(location: String) -> Response {
    (StatusCode::PERMANENT_REDIRECT, [(LOCATION, location)]).into_response()
}

/// Returns the `https` URL of a page that a browser asks for over plain HTTP.
fn location(request: &Request, addresses: &Addresses, port: u16) -> Option<String> {
    let headers = request.headers();
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let accepted = headers.get(ACCEPT)?.to_str().ok()?;
    if !is_read || !accepted.contains("text/html") || is_upgrade(headers) {
        return None;
    }
    if addresses.is_secure(headers, request.extensions()) {
        return None;
    }
    let host: Authority = headers.get(HOST)?.to_str().ok()?.parse().ok()?;
    let path = request.uri().path_and_query()?;
    // A path with two slashes can't be taken for another host, because the host comes before it.
    Some(match port {
        HTTPS => format!("https://{}{path}", host.host()),
        port => format!("https://{}:{port}{path}", host.host()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{OverTls, Peer};
    use axum::body::Body;

    fn request(method: &str, path: &str, headers: &[(&str, &str)]) -> Request {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(Body::empty()).expect("a request");
        let peer = Peer::at("10.0.0.1:1".parse().expect("an address"));
        request.extensions_mut().insert(peer);
        request
    }

    #[test]
    fn only_pages_over_plain_http_are_elsewhere() {
        let trusted = vec!["10.0.0.0/8".parse().expect("a net")];
        let addresses = Addresses::new(trusted, Vec::new());
        let host = ("host", "example.com:6001");
        let html = ("accept", "text/html,*/*;q=0.8");
        let to = |request: &Request, port| location(request, &addresses, port);
        let page = request("GET", "/docs?a=b", &[host, html]);
        assert_eq!(
            to(&page, 443).as_deref(),
            Some("https://example.com/docs?a=b")
        );
        assert_eq!(
            to(&page, 6443).as_deref(),
            Some("https://example.com:6443/docs?a=b")
        );
        let v6 = request("GET", "//x", &[("host", "[::1]:80"), html]);
        assert_eq!(to(&v6, 443).as_deref(), Some("https://[::1]//x"));
        let websocket = [
            host,
            html,
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
        ];
        for other in [
            request("POST", "/", &[host, html]),
            request("GET", "/apps/1/channels", &[host]),
            request("GET", "/", &[host, ("accept", "application/json")]),
            request("GET", "/", &[html]),
            request("GET", "/", &[("host", "a b"), html]),
            request("GET", "/app/key", &websocket),
            request("GET", "/", &[host, html, ("x-forwarded-proto", "https")]),
        ] {
            assert_eq!(to(&other, 443), None, "{other:?}");
        }
        let mut encrypted = request("GET", "/", &[host, html]);
        encrypted.extensions_mut().insert(OverTls);
        assert_eq!(to(&encrypted, 443), None);
    }
}
