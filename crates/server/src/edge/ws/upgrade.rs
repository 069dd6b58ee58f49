//! `GET /app/{key}` and `GET /ws/{key}`: the handshake, and the decision whether to admit the connection. It is always
//! upgraded first, because browsers hide the status of a failed upgrade; a refusal is a close code
//! (docs/protocol.md#connect-url).

use std::fmt::Display;
use std::net::IpAddr;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{Method, StatusCode, Version};
use axum::response::{IntoResponse, Response};
use fanfare_engine::{Admitted, Arrival, Refusal, RefusalKind, Refused};
use fanfare_protocol::{CloseCode, Framing, SUBPROTOCOL_PREFIX};
use hyper::header::{
    CONNECTION, HeaderMap, HeaderName, HeaderValue, ORIGIN, SEC_WEBSOCKET_ACCEPT,
    SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::connection::{self, Accepted, MessageLimits};
use super::plain::PlainQuery;
use super::refuse::refuse;
use crate::app_state::AppState;
use crate::edge::client::Upgrades;
use crate::edge::client_stream::ClientStream;

use crate::edge::refusal_log::note;
use crate::edge::takeover::{Socket, Takeover};
use crate::edge::url_parameters::{CredentialParams, MemberParams, SocketParams};
use crate::edge::xhr::Client;
use crate::http::error::ApiError;
use crate::http::headers::{combined, has_token, members};
use crate::http::paths;

/// The only version of the WebSocket protocol (RFC 6455 section 4.4).
const VERSION: HeaderValue = HeaderValue::from_static("13");
/// The version of Pusher's protocol that stands for clients who don't speak it.
const PLAIN_PROTOCOL: &str = "7";
/// The name under which clients are counted that don't speak Pusher's protocol and don't name themselves.
const PLAIN_CLIENT: &str = "websocket";

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
    // Boxed here and below, because these futures are large and would be moved several times on their way.
    Box::pin(upgrade(state, &key, request, Dialect::Pusher)).await
}

/// Open a WebSocket without Pusher's protocol
///
/// Text frames carry JSON objects with `channel`, `event` and `data`; with `raw` they carry the data of one channel's events alone.
/// A refusal is a close code, because browsers hide the status of a failed handshake. Channels that aren't public are opened by a
/// token of the app's identity provider, or by a URL that the app's backend has signed.
#[utoipa::path(
    get, path = "/ws/{key}", tag = "Clients", operation_id = "open_websocket",
    params(
        ("key" = String, Path, description = "A key of the app"),
        SocketParams, CredentialParams, MemberParams,
    ),
    security((), ("end_user" = [])),
    responses(
        (status = 101, description = "The connection is a WebSocket from here on"),
        (status = 400, description = "The handshake has no single key, or came over HTTP/2"),
        (status = 426, description = "The request is no handshake"),
    ),
)]
pub(crate) async fn connect_plain(
    State(state): State<AppState>,
    key: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    let key = key.map_or_else(|_| String::new(), |Path(key)| key);
    let query = PlainQuery::parse(request.uri().query());
    Box::pin(upgrade(
        state,
        &key,
        request,
        Dialect::Plain(Box::new(query)),
    ))
    .await
}

/// The protocol in which a client and the server talk over a WebSocket.
enum Dialect {
    /// Pusher's.
    Pusher,
    /// Plain objects or raw texts, as the URL says.
    Plain(Box<PlainQuery>),
}

impl Dialect {
    fn framing(&self) -> Framing {
        match self {
            Self::Pusher => Framing::WebSocket,
            Self::Plain(query) => query.framing,
        }
    }
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
    let path = paths::requested(request.uri(), request.extensions());
    let refusal = Refusal::new(
        CloseCode::PathNotFound,
        paths::no_websocket_message(&state.path_prefix, path),
    );
    let from = state.addresses.of(request.headers(), request.extensions());
    let handshake = match Handshake::of(&request) {
        Ok(handshake) => handshake,
        Err(not) => return not_a_handshake(state, from, not),
    };
    note(state, None, from, &refusal);
    handshake.answer(request, |socket| {
        refuse_socket(socket, Framing::WebSocket, refusal)
    })
}

/// What a client's URL says about the client, as it is written. The first parameter of a name counts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ConnectQuery<'a> {
    /// The protocol version that the client asks for.
    pub(crate) protocol: Option<&'a str>,
    client: Option<&'a str>,
    version: Option<&'a str>,
}

impl<'a> ConnectQuery<'a> {
    pub(crate) fn parse(query: Option<&'a str>) -> Self {
        let mut parsed = Self::default();
        let pairs = query.unwrap_or_default().split('&');
        for (name, value) in pairs.filter_map(|pair| pair.split_once('=')) {
            let parameter = match name {
                "protocol" => &mut parsed.protocol,
                "client" => &mut parsed.client,
                "version" => &mut parsed.version,
                _ => continue,
            };
            parameter.get_or_insert(value);
        }
        parsed
    }

    /// Notes that the client doesn't speak Pusher's protocol, of which it needs no version. Unless it names itself it
    /// counts as a client of its own kind.
    fn speaks_plainly(&mut self) {
        self.protocol = Some(PLAIN_PROTOCOL);
        self.client.get_or_insert(PLAIN_CLIENT);
    }

    /// Counts an admitted connection for its client library and version.
    pub(crate) fn count_client(&self, admitted: &mut Admitted) {
        let text = Option::unwrap_or_default;
        admitted.count_client(text(self.client), text(self.version));
    }
}

async fn upgrade(state: AppState, key: &str, request: Request, dialect: Dialect) -> Response {
    let from = state.addresses.of(request.headers(), request.extensions());
    // Before any permit is taken: a request that isn't a handshake must cost nobody a connection.
    let handshake = match Handshake::of(&request) {
        Ok(handshake) => handshake,
        Err(not) => return not_a_handshake(&state, from, not),
    };
    state.expect_key(key).await;
    let origin = combined(request.headers(), ORIGIN);
    let mut query = ConnectQuery::parse(request.uri().query());
    let framing = dialect.framing();
    if matches!(dialect, Dialect::Plain(_)) {
        query.speaks_plainly();
    }
    let arrival = Arrival {
        key,
        protocol: query.protocol,
        origin: origin.as_deref(),
        secure: state
            .addresses
            .is_secure(request.headers(), request.extensions()),
        charged_address: from.filter(|address| state.addresses.is_charged(*address)),
    };
    let channels = match &dialect {
        Dialect::Pusher => Ok(None),
        Dialect::Plain(plain) => {
            // A body can't be shared with other threads.
            let (uri, headers) = (request.uri(), request.headers());
            plain.subscriptions(&state, arrival, uri, headers).await
        }
    };
    let mut admitted = match channels {
        Ok(channels) => {
            let admitted = state.engine.admit_on_all_nodes(arrival).await;
            admitted.map(|admitted| (admitted, channels))
        }
        Err(refusal) => Err(refusal),
    };
    match &mut admitted {
        Ok((admitted, _)) => {
            admitted.came_from(from);
            query.count_client(admitted);
            state.websocket_retry.websocket_opened(Client {
                key,
                address: from,
                agent: None,
            });
        }
        Err(refusal) => note(&state, Some(key), from, refusal),
    }
    handshake.answer(request, async move |socket| match admitted {
        Ok((admitted, channels)) => {
            let Socket {
                stream,
                read_ahead,
                place,
            } = socket.into_inner();
            // The stream is registered with this runtime's reactor. The shard registers it with its own.
            let Ok(stream) = stream.into_portable() else {
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
                framing,
                channels,
            };
            state
                .engine
                .adopt(move |shard| connection::start(&shard, accepted));
        }
        Err(refusal) => {
            refuse_socket(socket, framing, refusal).await;
        }
    })
}

/// Tells a client why it is refused. Its socket keeps its place until it is closed.
async fn refuse_socket(socket: UpgradedSocket, framing: Framing, refusal: Refusal) {
    let Socket { stream, place, .. } = socket.into_inner();
    refuse(stream, framing, refusal).await;
    drop(place);
}

pub(crate) struct UpgradedSocket(Socket);

impl From<Socket> for UpgradedSocket {
    fn from(socket: Socket) -> Self {
        Self(socket)
    }
}

impl UpgradedSocket {
    pub(crate) fn into_inner(self) -> Socket {
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

/// A valid handshake, not yet answered.
pub(crate) struct Handshake {
    /// Value of `Sec-WebSocket-Accept`.
    accept: HeaderValue,
}

impl Handshake {
    /// Checks a handshake (RFC 6455 section 4.2.1). Repeated header lines are read as one list.
    pub(crate) fn of(request: &Request) -> Result<Self, NotAHandshake> {
        let headers = request.headers();
        if request.method() != Method::GET {
            let reason = format!("it is a {}, not a GET", request.method());
            return Err(NotAHandshake::new(426, reason));
        }
        if request.version() == Version::HTTP_2 {
            let reason = "it came over HTTP/2, and WebSockets are opened over HTTP/1.1 here; offer http/1.1 alone in ALPN";
            return Err(NotAHandshake::new(400, reason));
        }
        if request.version() < Version::HTTP_11 {
            let reason = "it came as HTTP/1.0; a proxy in between must speak HTTP/1.1 (nginx: proxy_http_version 1.1)";
            return Err(NotAHandshake::new(426, reason));
        }
        for (name, token) in [(CONNECTION, "Upgrade"), (UPGRADE, "websocket")] {
            if !has_token(headers, &name, token) {
                let given = given(headers, &name);
                let reason =
                    format!("{given}, it must hold {token}; does a proxy in between drop it?");
                return Err(NotAHandshake::new(426, reason));
            }
        }
        if !members(headers, SEC_WEBSOCKET_VERSION).any(|version| version == "13") {
            let reason = format!("{}, it must be 13", given(headers, &SEC_WEBSOCKET_VERSION));
            return Err(NotAHandshake::new(426, reason));
        }
        let mut keys = members(headers, SEC_WEBSOCKET_KEY);
        let (Some(key), None) = (keys.next(), keys.next()) else {
            let given = given(headers, &SEC_WEBSOCKET_KEY);
            return Err(NotAHandshake::new(
                400,
                format!("{given}, it must be there once"),
            ));
        };
        let accept = derive_accept_key(key.as_bytes());
        Ok(Self {
            accept: HeaderValue::try_from(accept).expect("base64 is a header value"),
        })
    }

    /// Answers the handshake, and passes the socket to `then` once the answer is written.
    pub(crate) fn answer<F>(
        self,
        mut request: Request,
        then: impl FnOnce(UpgradedSocket) -> F + Send + 'static,
    ) -> Response
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, self.accept);
        if let Some(subprotocol) = offered_subprotocol(request.headers()) {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, subprotocol);
        }
        if let Some(takeover) = request.extensions().get::<Takeover>() {
            takeover.put(Box::new(move |socket| Box::pin(then(socket.into()))));
            return response;
        }
        let upgrades = request.extensions().get::<Upgrades>().cloned();
        let upgraded: OnUpgrade = hyper::upgrade::on(&mut request);
        let hand_over = Box::pin(async move {
            match upgraded.await.map(UpgradedSocket::of) {
                Ok(Some(socket)) => then(socket).await,
                Ok(None) => tracing::error!(
                    "an upgraded connection is not the socket that was accepted; this is a bug"
                ),
                Err(error) => tracing::debug!(%error, "a client left during the handshake"),
            }
        });
        match upgrades {
            Some(Upgrades(tasks)) => tasks.spawn(hand_over),
            None => tokio::spawn(hand_over),
        };
        response
    }
}

/// Why a request isn't a WebSocket handshake.
pub(crate) struct NotAHandshake {
    status: u16,
    message: String,
}

impl NotAHandshake {
    fn new(status: u16, reason: impl Display) -> Self {
        let message =
            format!("This is a WebSocket endpoint, and the request is no handshake: {reason}");
        Self { status, message }
    }
}

/// Returns what a request says in a header, for a message.
fn given(headers: &HeaderMap, name: &HeaderName) -> String {
    // Spelled as browsers and RFC 6455 do.
    let title = match *name {
        CONNECTION => "Connection",
        UPGRADE => "Upgrade",
        SEC_WEBSOCKET_VERSION => "Sec-WebSocket-Version",
        _ => "Sec-WebSocket-Key",
    };
    match combined(headers, name) {
        Some(value) => format!("{title} is {:?}", paths::truncated(&value)),
        None => format!("{title} is missing"),
    }
}

/// Answers a request that isn't a handshake with the reason and with the headers that a handshake needs.
pub(crate) fn not_a_handshake(
    state: &AppState,
    from: Option<IpAddr>,
    not: NotAHandshake,
) -> Response {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_parameter_of_a_name_counts() {
        let query = Some("x&version=8.4&client=js&protocol=7&protocol=5&version=&flash=false");
        let expected = ConnectQuery {
            protocol: Some("7"),
            client: Some("js"),
            version: Some("8.4"),
        };
        assert_eq!(ConnectQuery::parse(query), expected);
        for empty in [None, Some(""), Some("protocol"), Some("Protocol=7")] {
            assert_eq!(ConnectQuery::parse(empty), ConnectQuery::default());
        }
    }
}
