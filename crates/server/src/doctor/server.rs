//! A running server, directly or through its proxies: probes, a WebSocket, its clock, and which clients it sees.

use std::time::Duration;

use fanfare_protocol::CloseCode;
use futures_util::StreamExt;
use reqwest::header::{CONNECTION, DATE, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::{Finding, compare_clock};
use crate::admin::server::ServerInfo;
use crate::config::{Config, reachable};
use crate::failure::{read_body, request_failed};
use crate::server_lock::ServerLock;

/// Most bytes of an answer that are read.
const MAX_ANSWER: usize = 64 << 10;
/// Most characters of an answer that are shown.
const MAX_SHOWN: usize = 200;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// A key that no app has. The server refuses it by a close code, which only arrives over a WebSocket.
const UNKNOWN_KEY: &str = "fanfare-doctor";
/// Largest number of frames before the close: an error event comes first.
const MAX_FRAMES: usize = 8;

/// A server to look at.
#[derive(Debug)]
pub(crate) struct Target {
    /// Scheme, host, port and path prefix, without a trailing slash.
    url: String,
    /// Token for its admin API, which tells more.
    token: Option<SecretString>,
    client: Client,
}

impl Target {
    /// Returns a target. Other proxies than the server's own are left out on the machine itself.
    ///
    /// # Errors
    ///
    /// Returns an error if the HTTP client can't be made, for example without trusted certificates.
    pub(crate) fn new(url: &str, token: Option<SecretString>) -> anyhow::Result<Self> {
        let local = ["http://127.", "http://localhost", "http://[::1]"];
        let mut client = Client::builder()
            .user_agent(concat!("fanfare/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::none())
            .http1_only()
            .timeout(REQUEST_TIMEOUT);
        if local.iter().any(|local| url.starts_with(local)) {
            client = client.no_proxy();
        }
        Ok(Self {
            url: url.trim_end_matches('/').into(),
            token,
            client: client.build()?,
        })
    }

    async fn get(&self, path: &str) -> Result<Response, String> {
        let request = self.client.get(format!("{}{path}", self.url));
        request.send().await.map_err(request_failed)
    }
}

/// Looks at the server that this configuration describes. A server that isn't running is no fault.
pub(super) async fn examine_own(config: &Config) -> Vec<Finding> {
    let listen = reachable(ServerLock::address_of_server(config));
    let url = format!("http://{listen}{}", config.http.base_path);
    let target = match Target::new(&url, None) {
        Ok(target) => target,
        Err(error) => return vec![no_client(&error)],
    };
    let check = "server.alive";
    match target.get("/healthz").await {
        Err(error) => vec![Finding::warning(
            check,
            format!("no server answers at {url}: {error}"),
            "start it, or give doctor the configuration that the server has (--config, --listen)",
        )],
        Ok(response) if response.status() != StatusCode::OK => {
            vec![not_fanfare(check, &url, response.status())]
        }
        Ok(_) => {
            let prefix = &config.path_prefix;
            vec![
                Finding::ok(check, format!("a server answers at {url}")),
                readiness(&target).await,
                websocket(&target, prefix).await,
            ]
        }
    }
}

/// Looks at a server elsewhere.
pub(super) async fn examine(target: &Target) -> Vec<Finding> {
    let check = "server.alive";
    let response = match target.get("/healthz").await {
        Ok(response) => response,
        Err(error) => {
            return vec![Finding::failure(
                check,
                format!("{}: {error}", target.url),
                "check the address, the DNS name, the firewall and the certificate of the server or its proxy",
            )];
        }
    };
    if response.status() != StatusCode::OK {
        return vec![not_fanfare(check, &target.url, response.status())];
    }
    let mut findings = vec![Finding::ok(
        check,
        format!("a server answers at {}", target.url),
    )];
    findings.extend(clock(&response));
    findings.push(readiness(target).await);
    findings.push(websocket(target, "").await);
    findings.push(clients(target).await);
    findings
}

fn no_client(error: &anyhow::Error) -> Finding {
    Finding::failure(
        "server.alive",
        format!("an HTTP client can't be made: {error:#}"),
        "install the system's certificates (ca-certificates), or set SSL_CERT_FILE",
    )
}

fn not_fanfare(check: &'static str, url: &str, status: StatusCode) -> Finding {
    Finding::failure(
        check,
        format!("{url}/healthz is answered with {status}"),
        "another program or a proxy answers there: let it pass /healthz to Fanfare, or name the address of Fanfare itself",
    )
}

async fn readiness(target: &Target) -> Finding {
    let check = "server.ready";
    match target.get("/readyz").await {
        Err(error) => Finding::failure(
            check,
            format!("/readyz: {error}"),
            "look at the server's log",
        ),
        Ok(response) => {
            let status = response.status();
            match read_body(response, MAX_ANSWER).await {
                Ok(body) => ready_or_why(status, &String::from_utf8_lossy(&body)),
                Err(error) => Finding::failure(
                    check,
                    format!("/readyz is answered with {status}: {error}"),
                    "another program or a proxy may answer there; if it is Fanfare, look at its log",
                ),
            }
        }
    }
}

/// Judges the answer of `/readyz`: `ready`, perhaps with a line on what isn't well, or why not.
fn ready_or_why(status: StatusCode, text: &str) -> Finding {
    let check = "server.ready";
    let (first, rest) = text.trim().split_once('\n').unwrap_or((text.trim(), ""));
    match (status, first.trim(), rest.trim()) {
        (StatusCode::OK, "ready", "") => Finding::ok(check, "it takes connections and events"),
        (StatusCode::OK, "ready", remark) => Finding::warning(
            check,
            format!("ready, but {}", shown(remark)),
            "do what it says",
        ),
        (StatusCode::OK, _, _) => Finding::failure(
            check,
            format!(
                "/readyz is answered with {:?}, which is not Fanfare's text",
                shown(first)
            ),
            "another program answers there: let the proxy pass /readyz to Fanfare, or name the address of Fanfare itself",
        ),
        _ => Finding::failure(
            check,
            format!("{status}: {}", shown(first)),
            "do what it says; the last ERROR line of the server's log has more",
        ),
    }
}

/// Returns the beginning of a text's first line.
fn shown(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    line.chars().take(MAX_SHOWN).collect()
}

/// Compares the clock in the answer's `Date`, which has whole seconds.
fn clock(response: &Response) -> Option<Finding> {
    let date = response.headers().get(DATE)?.to_str().ok()?;
    let there = jiff::fmt::rfc2822::parse(date).ok()?.timestamp();
    let ahead = there.as_millisecond() - jiff::Timestamp::now().as_millisecond();
    // The fraction of the second is cut off.
    Some(compare_clock(
        "server.clock",
        "the server or its proxy",
        ahead + 500,
    ))
}

/// Opens a WebSocket, which proxies pass on only if they are told to.
async fn websocket(target: &Target, prefix: &str) -> Finding {
    let check = "server.websocket";
    let opened = timeout(REQUEST_TIMEOUT, open_websocket(target, prefix)).await;
    match opened.unwrap_or_else(|_| Err("no answer within 10 s".into())) {
        Ok(code) if code == CloseCode::UnknownApp.number() => {
            Finding::ok(check, "WebSockets reach the server")
        }
        Ok(code) => Finding::warning(
            check,
            format!("a WebSocket is closed with {code} at once"),
            "look for the code in docs/errors.md",
        ),
        Err(reason) => Finding::failure(
            check,
            format!("a WebSocket does not reach the server: {reason}"),
            "let the proxy pass the headers Upgrade and Connection, over HTTP/1.1; deploy/ has files that do",
        ),
    }
}

/// Opens a WebSocket for a key that doesn't exist, and returns the close code.
async fn open_websocket(target: &Target, prefix: &str) -> Result<u16, String> {
    let url = format!(
        "{}{prefix}/app/{UNKNOWN_KEY}?protocol=7&client=doctor",
        target.url
    );
    let request = target
        .client
        .get(url)
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "websocket")
        .header(SEC_WEBSOCKET_VERSION, "13")
        .header(SEC_WEBSOCKET_KEY, generate_key());
    let response = request.send().await.map_err(request_failed)?;
    let status = response.status();
    let switched = (status == StatusCode::SWITCHING_PROTOCOLS).then_some(response);
    let response = switched.ok_or_else(|| format!("the handshake is answered with {status}"))?;
    let stream = response.upgrade().await.map_err(request_failed)?;
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Client, None).await;
    for _ in 0..MAX_FRAMES {
        match socket.next().await {
            Some(Ok(Message::Close(Some(close)))) => return Ok(close.code.into()),
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(error.to_string()),
            None => break,
        }
    }
    Err("it ends without a close code".into())
}

/// Asks the admin API how it sees this client, which shows whether proxies are declared.
async fn clients(target: &Target) -> Finding {
    let check = "server.clients";
    let Some(token) = &target.token else {
        return Finding::ok(
            check,
            "not checked: with --token-file FILE doctor asks whether the server knows its proxies",
        );
    };
    let request = target
        .client
        .get(format!("{}/api/v1/server", target.url))
        .bearer_auth(token.expose_secret());
    match server_info(request).await {
        Ok(info) => seen_as(&info),
        Err(NoInfo::NotFound) => Finding::warning(
            check,
            "there is no admin API at this address",
            "with ops.listen the admin API is at that address alone: give --server that one to check the token; whether \
             proxies are known is seen only through them",
        ),
        Err(NoInfo::Other(error)) => Finding::warning(
            check,
            format!("the admin API: {error}"),
            "check the token; if the proxy admits /api/v1 from some addresses only, run this from one of them",
        ),
    }
}

/// Why the admin API told nothing.
enum NoInfo {
    /// It isn't at this address.
    NotFound,
    Other(String),
}

impl From<String> for NoInfo {
    fn from(reason: String) -> Self {
        Self::Other(reason)
    }
}

async fn server_info(request: reqwest::RequestBuilder) -> Result<ServerInfo, NoInfo> {
    let response = request.send().await.map_err(request_failed)?;
    match response.status() {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND => return Err(NoInfo::NotFound),
        status => return Err(status.to_string().into()),
    }
    let body = read_body(response, MAX_ANSWER).await?;
    serde_json::from_slice(&body).map_err(|error| error.to_string().into())
}

fn seen_as(info: &ServerInfo) -> Finding {
    let check = "server.clients";
    let address = info.client_address.as_deref().unwrap_or("no address");
    match &info.undeclared_proxy {
        None => Finding::ok(check, format!("the server sees this client as {address}")),
        Some(proxy) => Finding::failure(
            check,
            format!("requests come through a proxy, {proxy}, that the server does not know"),
            format!(
                "add {proxy} to http.trusted_proxies: until then all clients behind it count as one and share one network's bounds"
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Severity;

    #[test]
    fn only_the_text_of_fanfare_is_readiness() {
        for (status, text, severity) in [
            (StatusCode::OK, "ready\n", Severity::Ok),
            (
                StatusCode::OK,
                "ready\nthe disk is full\n",
                Severity::Warning,
            ),
            (StatusCode::OK, "<html>welcome</html>", Severity::Failure),
            (StatusCode::OK, "", Severity::Failure),
            (
                StatusCode::SERVICE_UNAVAILABLE,
                "ready\n",
                Severity::Failure,
            ),
        ] {
            assert_eq!(ready_or_why(status, text).severity, severity, "{text:?}");
        }
    }

    #[test]
    fn a_foreign_answer_is_shown_with_a_part_of_its_first_line() {
        let text = format!("{}\nsecond line", "a".repeat(10 * MAX_SHOWN));
        for status in [StatusCode::OK, StatusCode::BAD_GATEWAY] {
            let found = ready_or_why(status, &text).found;
            assert!(found.contains(&"a".repeat(MAX_SHOWN)), "{found}");
            assert!(!found.contains(&"a".repeat(MAX_SHOWN + 1)), "{found}");
            assert!(!found.contains("second line"), "{found}");
        }
    }
}
