//! A remote server, over HTTP.

use std::time::Duration;

use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, HeaderValue, Request};
use bytes::Bytes;
use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use secrecy::{ExposeSecret, SecretString};

use super::{Answer, AnswerBody};
use crate::failure::{Code, Failure, request_failed};

/// How long a server may take to accept the connection, and to send the next part of an answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// A server, with a client that sends its token.
#[derive(Debug)]
pub(super) struct Remote {
    client: Client,
    /// Without a trailing slash.
    server: String,
}

impl Remote {
    pub(super) fn new(server: &str, token: &SecretString) -> anyhow::Result<Self> {
        let url = check_server(without_api_path(server))?;
        let is_local = is_this_machine(&url);
        if url.scheme() == "http" && !is_local {
            tracing::warn!(
                "the token goes over the network without encryption; use an https:// address"
            );
        }
        let mut client = Client::builder()
            .user_agent(concat!("fanfare/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers(token)?)
            .connect_timeout(REQUEST_TIMEOUT)
            .read_timeout(REQUEST_TIMEOUT)
            // The token is for this server only, and a redirected POST would become a GET.
            .redirect(Policy::none());
        if is_local {
            // A proxy would connect to its own loopback address.
            client = client.no_proxy();
        }
        let client = client
            .build()
            .map_err(|error| Failure::new(Code::Failed, request_failed(error)))?;
        Ok(Self {
            client,
            server: url.as_str().trim_end_matches('/').into(),
        })
    }

    pub(super) fn server(&self) -> &str {
        &self.server
    }

    pub(super) async fn send(&self, request: Request<Bytes>) -> anyhow::Result<Answer> {
        let (parts, body) = request.into_parts();
        let url = format!("{}{}", self.server, parts.uri);
        let sent = self
            .client
            .request(parts.method, url)
            .headers(parts.headers)
            .body(body)
            .send();
        let response = sent.await.map_err(|error| lost(&self.server, error))?;
        Ok(Answer {
            status: response.status(),
            body: AnswerBody::Remote(Box::new(response), self.server.clone()),
        })
    }
}

pub(super) async fn chunk(
    response: &mut reqwest::Response,
    server: &str,
) -> anyhow::Result<Option<Bytes>> {
    let chunk = response.chunk().await;
    Ok(chunk.map_err(|error| lost(server, error))?)
}

/// Returns a server's address without the path of its admin API, which users often add.
pub(in crate::cli) fn without_api_path(server: &str) -> &str {
    let trimmed = server.trim_end_matches('/');
    trimmed.strip_suffix("/api/v1").unwrap_or(server)
}

/// Parses a server's address, and says what is wrong with it.
pub(in crate::cli) fn check_server(server: &str) -> Result<Url, Failure> {
    let wrong = |why: &str| {
        let message =
            format!("the server {server:?} {why}; an address is like https://realtime.example.com");
        Failure::misuse(message)
    };
    let url: Url = server.parse().map_err(|_| wrong("is no address"))?;
    match url.scheme() {
        "http" | "https" if url.host_str().is_some() => {}
        "ws" => return Err(wrong("begins with ws://: write http:// instead")),
        "wss" => return Err(wrong("begins with wss://: write https:// instead")),
        _ => return Err(wrong("is no address of http or https")),
    }
    // They would be printed with the address, and the token already identifies the caller.
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Failure::misuse(
            "the server's address holds a user or a password: give the API token with --token-file FILE or FANFARE_TOKEN",
        ));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("has a query or a fragment"));
    }
    Ok(url)
}

fn is_this_machine(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let literal = host.trim_start_matches('[').trim_end_matches(']');
    let address: Option<std::net::IpAddr> = literal.parse().ok();
    host == "localhost" || address.is_some_and(|address| address.is_loopback())
}

fn headers(token: &SecretString) -> Result<HeaderMap, Failure> {
    let token = token.expose_secret();
    let value = HeaderValue::from_str(&format!("Bearer {token}"));
    let mut value = value
        .ok()
        .filter(|_| !token.is_empty() && !token.contains(char::is_whitespace))
        .ok_or_else(|| {
            Failure::misuse("this is no API token: it is empty, or has spaces or line breaks")
        })?;
    value.set_sensitive(true);
    Ok(HeaderMap::from_iter([(AUTHORIZATION, value)]))
}

fn lost(server: &str, error: reqwest::Error) -> Failure {
    let message = format!("cannot reach {server}: {}", request_failed(error));
    Failure::new(Code::Unavailable, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_the_api_stands_for_its_server() {
        for (given, server) in [
            ("https://a.example/api/v1", "https://a.example"),
            ("https://a.example/api/v1/", "https://a.example"),
            ("https://a.example/below/api/v1", "https://a.example/below"),
            ("https://a.example/below", "https://a.example/below"),
        ] {
            assert_eq!(without_api_path(given), server);
        }
        let wrong = check_server("wss://a.example").unwrap_err().to_string();
        assert!(wrong.contains("write https:// instead"), "{wrong}");
    }

    #[test]
    fn only_what_is_the_address_of_a_server_is_taken() {
        for good in [
            "http://127.0.0.1:6001",
            "https://a.example",
            "https://a.example/below/",
        ] {
            assert!(check_server(good).is_ok(), "{good}");
        }
        for bad in [
            "a.example",
            "ftp://a.example",
            "https://",
            "https://a.example/?x=1",
            "https://me:pass@a.example",
        ] {
            let error = check_server(bad).expect_err(bad).to_string();
            assert!(!error.contains("me:pass"), "{error}");
        }
    }

    #[test]
    fn this_machine_is_told_from_others_whose_names_begin_like_it() {
        let is_local = |url: &str| is_this_machine(&check_server(url).unwrap());
        for local in [
            "http://127.0.0.1:1",
            "http://127.9.9.9",
            "http://[::1]",
            "http://localhost:1",
        ] {
            assert!(is_local(local), "{local}");
        }
        for other in [
            "http://localhost.example",
            "http://10.0.0.1",
            "http://127.example",
        ] {
            assert!(!is_local(other), "{other}");
        }
    }
}
