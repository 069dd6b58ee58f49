//! `GET /app/{key}`: the handshake, and the decision whether to admit the connection. It is always upgraded first,
//! because browsers hide the status of a failed upgrade; a refusal is a close code (docs/protocol.md#connect-url).

use std::net::IpAddr;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{Method, StatusCode, Version};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use fanfare_engine::{Admitted, Arrival, Refusal, RefusalKind, Refused};
use fanfare_protocol::{CloseCode, SUBPROTOCOL_PREFIX};
use hyper::header::{
    CONNECTION, HeaderMap, HeaderValue, ORIGIN, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::connection::{self, Accepted, MessageLimits};
use super::refuse::refuse;
use crate::app_state::AppState;
use crate::edge::client_stream::ClientStream;
use crate::edge::listener::Upgrades;
use crate::edge::sockets::SocketPlace;
use crate::edge::xhr::Client;
use crate::http::error::ApiError;
use crate::http::headers::{combined, has_token, members};
use crate::http::paths;

/// The only version of the WebSocket protocol (RFC 6455 section 4.4).
const VERSION: HeaderValue = HeaderValue::from_static("13");

/// Handles a client whose URL has an app key. The client is upgraded before it is refused, even if its URL isn't valid.
pub(crate) async fn connect(
    State(state): State<AppState>,
    key: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    let key = key.map_or_else(|_| String::new(), |Path(key)| key);
    if key.is_empty() {
        return refuse_path(&state, request);
    }
    upgrade(state, &key, request).await
}

/// Refuses a client whose URL has no app key.
pub(crate) async fn connect_without_key(
    State(state): State<AppState>,
    request: Request,
) -> Response {
    refuse_path(&state, request)
}

/// Refuses a WebSocket at a path that isn't one of the server's.
pub(crate) fn refuse_path(state: &AppState, request: Request) -> Response {
    let path = paths::sent(request.uri(), request.extensions());
    let refusal = Refusal::new(
        CloseCode::PathNotFound,
        paths::no_websocket(&state.path_prefix, path),
    );
    let from = state.addresses.of(request.headers(), request.extensions());
    note(state, None, from, &refusal);
    handshake(state, request, |socket| turn_away(socket, refusal))
}

/// Records a refused connection for the operator. `key` is the one of its URL.
pub(crate) fn note(state: &AppState, key: Option<&str>, from: Option<IpAddr>, refusal: &Refusal) {
    let app = key.and_then(|key| state.engine.apps().by_key(key));
    state.engine.refusals().note(Refused {
        kind: RefusalKind::Connection(refusal.code),
        app: app.as_ref().map(|app| app.id().as_str()),
        address: from,
        reason: &refusal.message,
    });
}

/// Returns whether a request asks to become a WebSocket.
pub(crate) fn is_upgrade(headers: &HeaderMap) -> bool {
    has_token(headers, CONNECTION, "upgrade") && has_token(headers, UPGRADE, "websocket")
}

/// Returns the first query parameter with this name, as it is written.
pub(crate) fn said<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    let mut values = query.split('&').filter_map(|pair| pair.split_once('='));
    values.find_map(|(key, value)| (key == name).then_some(value))
}

/// Returns the protocol version that a client asks for.
pub(crate) fn protocol(query: &str) -> Option<&str> {
    said(query, "protocol")
}

/// Counts an admitted connection for its client library and version.
pub(crate) fn count_client(admitted: &mut Admitted, query: Option<&str>) {
    let said = |name| query.and_then(|query| said(query, name)).unwrap_or("");
    admitted.count_client(said("client"), said("version"));
}

async fn upgrade(state: AppState, key: &str, request: Request) -> Response {
    // Before any permit is taken: a request that isn't a handshake must cost nobody a connection.
    if let Err(not) = check_handshake(&request) {
        let from = state.addresses.of(request.headers(), request.extensions());
        return not_a_handshake(&state, from, not);
    }
    let origin = combined(request.headers(), ORIGIN);
    let arrival = Arrival {
        key,
        protocol: request.uri().query().and_then(protocol),
        origin: origin.as_deref(),
        secure: state
            .addresses
            .is_secure(request.headers(), request.extensions()),
        charged_address: state
            .addresses
            .charged(request.headers(), request.extensions()),
    };
    let mut admitted = state.engine.admit_on_all_nodes(arrival).await;
    let from = state.addresses.of(request.headers(), request.extensions());
    match &mut admitted {
        Ok(admitted) => {
            admitted.came_from(from);
            count_client(admitted, request.uri().query());
            state.websocket_retry.websocket_opened(Client {
                key,
                address: from,
                agent: None,
            });
        }
        Err(refusal) => note(&state, Some(key), from, refusal),
    }
    let shared = state.clone();
    handshake(&shared, request, async move |socket| match admitted {
        Ok(admitted) => {
            let Socket {
                stream,
                read_ahead,
                place,
            } = socket.into_inner();
            // The stream is registered with this runtime's reactor. The shard registers it with its own.
            let Ok(stream) = stream.into_std() else {
                return;
            };
            let accepted = Accepted {
                admitted,
                stream,
                read_ahead,
                place,
                limits: MessageLimits {
                    max_bytes: state.max_message_bytes,
                    timeout: state.message_timeout,
                },
            };
            state
                .engine
                .adopt(move |shard| connection::start(&shard, accepted));
        }
        Err(refusal) => {
            turn_away(socket, refusal).await;
        }
    })
}

/// Tells a client why it is refused. Its socket keeps its place until it is closed.
async fn turn_away(socket: UpgradedSocket, refusal: Refusal) {
    let Socket { stream, place, .. } = socket.into_inner();
    refuse(stream, refusal).await;
    drop(place);
}

/// The socket of an upgraded connection, and the bytes that were read beyond the request.
struct Socket {
    stream: TcpStream,
    read_ahead: Bytes,
    place: SocketPlace,
}

struct UpgradedSocket(Socket);

impl UpgradedSocket {
    fn into_inner(self) -> Socket {
        self.0
    }

    fn of(upgraded: Upgraded) -> Option<Self> {
        let parts = upgraded.downcast::<TokioIo<ClientStream>>().ok()?;
        let (stream, unread, place) = parts.io.into_inner().into_parts();
        let read_ahead = match (parts.read_buf.is_empty(), unread.is_empty()) {
            (_, true) => parts.read_buf,
            (true, _) => unread,
            (false, false) => [parts.read_buf, unread].concat().into(),
        };
        Some(Self(Socket {
            stream,
            read_ahead,
            place,
        }))
    }
}

/// Answers the handshake, and passes the socket to `then` once the answer is written.
fn handshake<F>(
    state: &AppState,
    mut request: Request,
    then: impl FnOnce(UpgradedSocket) -> F + Send + 'static,
) -> Response
where
    F: Future<Output = ()> + Send,
{
    let accept = match check_handshake(&request) {
        Ok(accept) => accept,
        Err(not) => {
            let from = state.addresses.of(request.headers(), request.extensions());
            return not_a_handshake(state, from, not);
        }
    };
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    if let Some(subprotocol) = offered_subprotocol(request.headers()) {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, subprotocol);
    }
    let upgrades = request.extensions().get::<Upgrades>().cloned();
    let upgraded: OnUpgrade = hyper::upgrade::on(&mut request);
    let hand_over = async move {
        match upgraded.await.map(UpgradedSocket::of) {
            Ok(Some(socket)) => then(socket).await,
            Ok(None) => tracing::error!(
                "an upgraded connection is not the TCP stream that was accepted; this is a bug"
            ),
            Err(error) => tracing::debug!(%error, "a client left during the handshake"),
        }
    };
    match upgrades {
        Some(Upgrades(tasks)) => tasks.spawn(hand_over),
        None => tokio::spawn(hand_over),
    };
    response
}

/// Why a request isn't a WebSocket handshake.
struct NotAHandshake {
    status: u16,
    message: String,
}

/// Checks a handshake (RFC 6455 section 4.2.1) and returns the value of `Sec-WebSocket-Accept`. Repeated header lines
/// are read as one list.
fn check_handshake(request: &Request) -> Result<HeaderValue, NotAHandshake> {
    let no = |status: u16, reason: String| NotAHandshake {
        status,
        message: format!("This is a WebSocket endpoint, and the request is no handshake: {reason}"),
    };
    let headers = request.headers();
    let given = |name| match combined(headers, name) {
        Some(value) => format!("is {:?}", paths::shown(&value)),
        None => "is missing".into(),
    };
    if request.method() != Method::GET {
        return Err(no(426, format!("it is a {}, not a GET", request.method())));
    }
    if request.version() < Version::HTTP_11 {
        return Err(no(
            426,
            "it came as HTTP/1.0; a proxy in between must speak HTTP/1.1 (nginx: proxy_http_version 1.1)"
                .into(),
        ));
    }
    if !has_token(headers, CONNECTION, "upgrade") {
        let given = given(CONNECTION);
        return Err(no(
            426,
            format!("Connection {given}, it must hold Upgrade; does a proxy in between drop it?"),
        ));
    }
    if !has_token(headers, UPGRADE, "websocket") {
        let given = given(UPGRADE);
        return Err(no(
            426,
            format!("Upgrade {given}, it must hold websocket; does a proxy in between drop it?"),
        ));
    }
    if !members(headers, SEC_WEBSOCKET_VERSION).any(|version| version == "13") {
        let given = given(SEC_WEBSOCKET_VERSION);
        return Err(no(
            426,
            format!("Sec-WebSocket-Version {given}, it must be 13"),
        ));
    }
    let mut keys = members(headers, SEC_WEBSOCKET_KEY);
    match (keys.next(), keys.next()) {
        (Some(key), None) => {
            let accept = derive_accept_key(key.as_bytes());
            Ok(HeaderValue::try_from(accept).expect("base64 is a header value"))
        }
        _ => {
            let given = given(SEC_WEBSOCKET_KEY);
            Err(no(
                400,
                format!("Sec-WebSocket-Key {given}, it must be there once"),
            ))
        }
    }
}

/// Answers a request that isn't a handshake with the reason and with the headers that a handshake needs.
fn not_a_handshake(state: &AppState, from: Option<IpAddr>, not: NotAHandshake) -> Response {
    state.engine.refusals().note(Refused {
        kind: RefusalKind::Handshake,
        app: None,
        address: from,
        reason: &not.message,
    });
    let mut response = ApiError::new(not.status, not.message).into_response();
    let headers = response.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    // Every answer with 426 needs it (RFC 9110 section 15.5.22), and `Upgrade` is valid for one connection only.
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(SEC_WEBSOCKET_VERSION, VERSION);
    response
}

/// Returns the first offered subprotocol that the server speaks. RFC 6455 forbids selecting one that wasn't offered.
fn offered_subprotocol(headers: &HeaderMap) -> Option<HeaderValue> {
    let ours = members(headers, SEC_WEBSOCKET_PROTOCOL)
        .find(|name| name.starts_with(SUBPROTOCOL_PREFIX))?;
    HeaderValue::from_str(ours).ok()
}
