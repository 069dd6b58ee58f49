//! The requests of Engine.IO: a new connection, polls, packets of a client, and WebSockets.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use fanfare_engine::Network;
use fanfare_protocol::socket_io::SEPARATOR;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, ORIGIN, USER_AGENT};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use super::connection::{
    self, Arrived, Control, Incoming, Opened, PING_INTERVAL, PING_TIMEOUT, Packets,
};
use super::connections::Handle;
use super::outlet::{Transport, batches};
use super::websocket::ClientWebSocket;
use crate::app_state::AppState;
use crate::body::{discard, read_pending};
use crate::edge::hanging::{HangingRequest, SHORT_WAIT, has_few_connections};
use crate::edge::ws::upgrade::{Handshake, not_a_handshake};
use crate::http::error::ApiError;
use crate::http::headers::{combined, is_upgrade};

/// What all browsers have in their `User-Agent`.
const BROWSER: &str = "Mozilla/";
/// Number of polls and changes that may wait for their connection.
const CONTROLS: usize = 4;
/// Number of bodies or frames that may wait for their connection.
const PACKETS: usize = 2;
/// Most packets of one body.
const MAX_PACKETS: usize = 256;
/// How long a browser may cache the preflight's answer.
const PREFLIGHT_MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);
const TEXT: &str = "text/plain; charset=UTF-8";

/// Returns the route, which is the same for all requests.
pub(crate) fn router() -> Router<AppState> {
    let any_page = CorsLayer::new()
        .allow_origin(AllowOrigin::mirror_request())
        .allow_methods([Method::GET, Method::POST])
        .allow_headers(AllowHeaders::mirror_request())
        // Cookies mean nothing here, but a balancer may choose the node by one.
        .allow_credentials(true)
        .max_age(PREFLIGHT_MAX_AGE);
    Router::new()
        .route("/socket.io/", any(serve))
        .route("/socket.io", any(serve))
        .layer(any_page)
}

/// What a request's query says. The first parameter of a name counts.
#[derive(Debug, Default, PartialEq, Eq)]
struct Query {
    version: Option<String>,
    transport: Option<String>,
    sid: Option<String>,
}

impl Query {
    fn parse(query: &str) -> Self {
        let mut read = Self::default();
        let pairs: Vec<(String, String)> = serde_urlencoded::from_str(query).unwrap_or_default();
        for (name, value) in pairs {
            let parameter = match &*name {
                "EIO" => &mut read.version,
                "transport" => &mut read.transport,
                "sid" => &mut read.sid,
                _ => continue,
            };
            parameter.get_or_insert(value);
        }
        read
    }
}

/// Why a request is refused: Engine.IO's codes and messages, which its clients know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BadRequest {
    UnknownTransport,
    UnknownSid,
    BadMethod,
    Bad,
    UnsupportedVersion,
}

impl BadRequest {
    fn code_and_message(self) -> (u8, &'static str) {
        match self {
            Self::UnknownTransport => (0, "Transport unknown"),
            Self::UnknownSid => (1, "Session ID unknown"),
            Self::BadMethod => (2, "Bad handshake method"),
            Self::Bad => (3, "Bad request"),
            Self::UnsupportedVersion => (5, "Unsupported protocol version"),
        }
    }
}

impl IntoResponse for BadRequest {
    fn into_response(self) -> Response {
        let (code, message) = self.code_and_message();
        let body = json!({"code": code, "message": message}).to_string();
        (
            StatusCode::BAD_REQUEST,
            [(CONTENT_TYPE, "application/json")],
            body,
        )
            .into_response()
    }
}

/// Answers a request of any kind.
async fn serve(State(state): State<AppState>, request: Request) -> Response {
    let query = Query::parse(request.uri().query().unwrap_or_default());
    let kind = Kind::of(&query, request.method(), is_upgrade(request.headers()));
    // Boxed, because these futures are large and would be moved several times on their way.
    let served = match kind {
        Ok(Kind::WebSocket) => Box::pin(websocket(&state, query.sid, request)).await,
        Ok(Kind::Open) => Ok(open(&state, &request)),
        Ok(Kind::Poll(sid)) => {
            let hanging = hang(&state, &request);
            drop(request);
            poll(&state, &sid, hanging).await
        }
        Ok(Kind::Send(sid)) => Box::pin(send(&state, &sid, request)).await,
        Err(error) => {
            discard(request).await;
            return error.into_response();
        }
    };
    served.unwrap_or_else(IntoResponse::into_response)
}

/// What a request is for.
#[derive(Debug, PartialEq, Eq)]
enum Kind {
    /// A new connection that polls.
    Open,
    /// Waits for packets of this connection.
    Poll(String),
    /// Brings packets of this connection's client.
    Send(String),
    /// A WebSocket, for a new connection or for one that polls so far.
    WebSocket,
}

impl Kind {
    fn of(query: &Query, method: &Method, is_upgrade: bool) -> Result<Self, BadRequest> {
        match query.transport.as_deref() {
            Some("polling" | "websocket") => {}
            _ => return Err(BadRequest::UnknownTransport),
        }
        if query.version.as_deref() != Some("4") {
            return Err(BadRequest::UnsupportedVersion);
        }
        let is_websocket = query.transport.as_deref() == Some("websocket");
        match (&query.sid, method) {
            (_, &Method::GET) if is_websocket && is_upgrade => Ok(Self::WebSocket),
            _ if is_websocket => Err(BadRequest::Bad),
            (None, &Method::GET) => Ok(Self::Open),
            (None, _) => Err(BadRequest::BadMethod),
            (Some(sid), &Method::GET) => Ok(Self::Poll(sid.clone())),
            (Some(sid), &Method::POST) => Ok(Self::Send(sid.clone())),
            _ => Err(BadRequest::Bad),
        }
    }
}

/// Returns the answer to a poll or to a client's packets.
fn text(body: impl Into<Bytes>) -> Response {
    let headers = [
        (CONTENT_TYPE, TEXT),
        (CACHE_CONTROL, "no-store, no-transform"),
    ];
    (headers, body.into()).into_response()
}

/// Returns the id of a new connection, which nobody can guess.
fn new_sid() -> String {
    hex::encode(rand::random::<[u8; 16]>())
}

/// Starts a connection, and returns the ways to it.
fn start(state: &AppState, sid: String, arrived: Arrived, transport: Transport) -> Handle {
    let (control, controls) = mpsc::channel(CONTROLS);
    let (packets, sent) = mpsc::channel(PACKETS);
    let is_polling = matches!(transport, Transport::Polling(_));
    let handle = Handle {
        control,
        packets,
        has_websocket: Arc::new(AtomicBool::new(!is_polling)),
    };
    state.socket_io.insert(sid.clone(), handle.clone());
    let pending = is_polling.then(|| {
        let network = arrived.charged_address.map(Network::of);
        state.socket_io.pending.add(None, network)
    });
    let opened = Opened {
        state: state.clone(),
        sid,
        arrived,
        transport,
        control: controls,
        packets: sent,
        pending,
    };
    state
        .engine
        .adopt(move |shard| connection::start(shard, opened));
    handle
}

/// Returns the packet that opens a connection.
fn opening(state: &AppState, sid: &str, upgrades: &[&str]) -> String {
    let settings = json!({
        "sid": sid,
        "upgrades": upgrades,
        "pingInterval": PING_INTERVAL.as_millis(),
        "pingTimeout": PING_TIMEOUT.as_millis(),
        "maxPayload": state.max_message_bytes,
    });
    format!("0{settings}")
}

fn arrived(state: &AppState, request: &Request) -> Arrived {
    let (headers, extensions) = (request.headers(), request.extensions());
    let address = state.addresses.of(headers, extensions);
    Arrived {
        origin: combined(headers, ORIGIN),
        address,
        charged_address: address.filter(|address| state.addresses.is_charged(*address)),
        secure: state.addresses.is_secure(headers, extensions),
    }
}

/// Opens a connection that polls.
fn open(state: &AppState, request: &Request) -> Response {
    let sid = new_sid();
    let opening = opening(state, &sid, &["websocket"]);
    start(
        state,
        sid,
        arrived(state, request),
        Transport::Polling(None),
    );
    text(opening)
}

/// Returns a permit for a poll to hang, or `None` if the client's browser has no connection to spare. Pages of the same
/// origin send no `Origin`, so browsers are known by their name.
fn hang(state: &AppState, request: &Request) -> Option<HangingRequest> {
    let (headers, extensions) = (request.headers(), request.extensions());
    let agent = combined(headers, USER_AGENT);
    let is_browser = agent
        .as_deref()
        .is_some_and(|agent| agent.contains(BROWSER));
    let secure = state.addresses.is_secure(headers, extensions);
    if is_browser && has_few_connections(request.version(), extensions, secure) {
        let address = state.addresses.of(headers, extensions);
        state.hanging.hang(address, agent.as_deref())
    } else {
        Some(HangingRequest::uncounted())
    }
}

async fn poll(
    state: &AppState,
    sid: &str,
    hanging: Option<HangingRequest>,
) -> Result<Response, BadRequest> {
    let handle = state.socket_io.find(sid).ok_or(BadRequest::UnknownSid)?;
    let (waiting, mut answer) = oneshot::channel();
    let polls = handle.control.send(Control::Poll(waiting)).await;
    polls.map_err(|_| BadRequest::UnknownSid)?;
    let answered = match hanging {
        Some(_counted_until_the_end) => answer.await,
        None => match timeout(SHORT_WAIT, &mut answer).await {
            Ok(answered) => answered,
            Err(_) => {
                // If the connection has ended meanwhile, the answer says so.
                let _ = handle.control.send(Control::Release).await;
                answer.await
            }
        },
    };
    // Dropped if the connection has another transport or has ended.
    answered.map(text).map_err(|_| BadRequest::Bad)
}

async fn send(state: &AppState, sid: &str, request: Request) -> Result<Response, BadRequest> {
    let Some(handle) = state.socket_io.find(sid) else {
        // No body is kept without a connection.
        discard(request).await;
        return Err(BadRequest::UnknownSid);
    };
    let pays = state
        .addresses
        .charged(request.headers(), request.extensions());
    let body = read_pending(
        state.engine.ledger(),
        request,
        state.max_message_bytes,
        pays,
    )
    .await;
    let body = match body {
        Ok(body) => body,
        Err(error) => return Ok(ApiError::from(error).into_response()),
    };
    let packets = Packets {
        packets: packets_of(&body.bytes).ok_or(BadRequest::Bad)?,
        charge: Some(body.charge),
    };
    let sent = handle.packets.send(packets).await;
    sent.map(|()| text("ok"))
        .map_err(|_| BadRequest::UnknownSid)
}

/// Returns the packets of a body, or `None` if it isn't text or has too many.
fn packets_of(body: &[u8]) -> Option<Vec<Incoming>> {
    let text = std::str::from_utf8(body).ok()?;
    let packets = text
        .split(char::from(SEPARATOR))
        .map(|packet| match packet.strip_prefix('b') {
            Some(_base64) => Incoming::Binary,
            None => Incoming::Text(packet.to_owned()),
        });
    let packets: Vec<_> = packets.take(MAX_PACKETS + 1).collect();
    (packets.len() <= MAX_PACKETS).then_some(packets)
}

async fn websocket(
    state: &AppState,
    sid: Option<String>,
    request: Request,
) -> Result<Response, BadRequest> {
    let from = state.addresses.of(request.headers(), request.extensions());
    let handshake = match Handshake::of(&request) {
        Ok(handshake) => handshake,
        Err(not) => return Ok(not_a_handshake(state, from, not)),
    };
    let polling = match &sid {
        Some(sid) => {
            let handle = state.socket_io.find(sid).ok_or(BadRequest::UnknownSid)?;
            // Two at a time would take each other's packets.
            if handle.has_websocket.swap(true, Ordering::Relaxed) {
                return Err(BadRequest::Bad);
            }
            Some(handle)
        }
        None => None,
    };
    let (state, arrived) = (state.clone(), arrived(state, &request));
    Ok(handshake.answer(request, async move |socket| {
        let payer = state.engine.ledger().payer(arrived.charged_address);
        let socket =
            ClientWebSocket::new(socket.into_inner(), payer, state.max_message_bytes).await;
        // In tasks of their own, so that a server that stops waits for its sessions and not for their sockets.
        match polling {
            Some(handle) => tokio::spawn(socket.upgrade(handle)),
            None => {
                let (batches, sent) = batches();
                let sid = new_sid();
                batches.send(opening(&state, &sid, &[]).into());
                let handle = start(&state, sid, arrived, Transport::WebSocket(batches));
                tokio::spawn(socket.serve(handle, sent))
            }
        };
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(query: &str, method: &Method, is_upgrade: bool) -> Result<Kind, BadRequest> {
        Kind::of(&Query::parse(query), method, is_upgrade)
    }

    #[test]
    fn requests_of_all_kinds_are_told_apart() {
        let (get, post) = (Method::GET, Method::POST);
        for (query, method, upgrade, expected) in [
            ("EIO=4&transport=polling", &get, false, Ok(Kind::Open)),
            (
                "EIO=4&transport=polling&t=abc&sid=a",
                &get,
                false,
                Ok(Kind::Poll("a".into())),
            ),
            (
                "EIO=4&transport=polling&sid=a",
                &post,
                false,
                Ok(Kind::Send("a".into())),
            ),
            ("EIO=4&transport=websocket", &get, true, Ok(Kind::WebSocket)),
            (
                "EIO=4&transport=websocket&sid=a",
                &get,
                true,
                Ok(Kind::WebSocket),
            ),
            ("", &get, false, Err(BadRequest::UnknownTransport)),
            (
                "EIO=4&transport=abc",
                &get,
                false,
                Err(BadRequest::UnknownTransport),
            ),
            (
                "EIO=3&transport=polling",
                &get,
                false,
                Err(BadRequest::UnsupportedVersion),
            ),
            (
                "transport=polling",
                &get,
                false,
                Err(BadRequest::UnsupportedVersion),
            ),
            (
                "EIO=4&transport=polling",
                &post,
                false,
                Err(BadRequest::BadMethod),
            ),
            (
                "EIO=4&transport=polling&sid=a",
                &Method::PUT,
                false,
                Err(BadRequest::Bad),
            ),
            (
                "EIO=4&transport=websocket",
                &get,
                false,
                Err(BadRequest::Bad),
            ),
        ] {
            assert_eq!(kind(query, method, upgrade), expected, "{query}");
        }
    }

    #[test]
    fn a_body_has_one_packet_or_several() {
        let kinds = |body: &[u8]| {
            let packets = packets_of(body)?;
            let kind = |packet| match packet {
                Incoming::Text(text) => text,
                Incoming::Binary => "binary".into(),
            };
            Some(packets.into_iter().map(kind).collect::<Vec<_>>())
        };
        assert_eq!(kinds(b"40"), Some(vec!["40".into()]));
        assert_eq!(
            kinds("452-[\"é\"]\u{1e}bAQ==\u{1e}3".as_bytes()),
            Some(vec!["452-[\"é\"]".into(), "binary".into(), "3".into()])
        );
        assert_eq!(kinds(b"\xff"), None);
        assert_eq!(kinds("3\u{1e}".repeat(MAX_PACKETS + 1).as_bytes()), None);
    }
}
