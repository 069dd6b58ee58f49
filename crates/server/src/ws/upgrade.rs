//! `GET /app/{key}`: the handshake, and the decision whether the connection may come in. It is always upgraded first:
//! browsers do not see the status of a failed upgrade, so a refusal is a close code (spec 1.1).

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use fanfare_engine::{Arrival, Refusal};
use fanfare_protocol::{CloseCode, SUBPROTOCOL_PREFIX};
use hyper::header::{CONNECTION, HeaderMap, HeaderValue, ORIGIN, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;

use super::connection::{self, Accepted};
use super::refuse::refuse;
use crate::http::AppState;
use crate::http::error::ApiError;
use crate::patient::Patient;

/// A client that names an app key. Whatever is odd about its URL, it is upgraded before it is refused.
pub(crate) async fn connect(
    State(state): State<AppState>,
    key: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    let key = key.map_or_else(|_| String::new(), |Path(key)| key);
    upgrade(state, &key, request).await
}

/// A client that names none.
pub(crate) async fn connect_without_key(
    State(state): State<AppState>,
    request: Request,
) -> Response {
    upgrade(state, "", request).await
}

/// A client at a path that is none of ours.
pub(crate) async fn refuse_path(request: Request) -> Response {
    let refusal = Refusal::new(
        CloseCode::PathNotFound,
        "Path not found: connect to /app/APP_KEY",
    );
    handshake(request, |stream| {
        tokio::spawn(refuse(stream.into_inner().stream, refusal));
    })
}

/// Whether a request wants to become a WebSocket.
pub(crate) fn is_upgrade(headers: &HeaderMap) -> bool {
    let has = |name, token: &str| {
        let values = headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok());
        values
            .flat_map(|value| value.split(','))
            .any(|value| value.trim().eq_ignore_ascii_case(token))
    };
    has(CONNECTION, "upgrade") && has(UPGRADE, "websocket")
}

/// The first `protocol` of the query; the rest of what a client says of itself there is ignored.
pub(crate) fn protocol(query: &str) -> Option<&str> {
    query
        .split('&')
        .find_map(|pair| pair.strip_prefix("protocol="))
}

async fn upgrade(state: AppState, key: &str, request: Request) -> Response {
    let origin = request
        .headers()
        .get(ORIGIN)
        .and_then(|origin| origin.to_str().ok());
    let mut admitted = state.engine.admit(Arrival {
        key,
        protocol: request.uri().query().and_then(protocol),
        origin,
        secure: state
            .addresses
            .is_secure(request.headers(), request.extensions()),
        charged_address: state
            .addresses
            .charged(request.headers(), request.extensions()),
    });
    if let Ok(arrived) = admitted {
        admitted = state.engine.confirm(arrived).await;
    }
    if let Ok(admitted) = &mut admitted {
        let from = state.addresses.of(request.headers(), request.extensions());
        admitted.came_from(from);
    }
    handshake(request, move |socket| match admitted {
        Ok(admitted) => {
            let Socket { stream, read_ahead } = socket.into_inner();
            // The stream belongs to this runtime's reactor; the shard registers it with its own.
            let Ok(stream) = stream.into_std() else {
                return;
            };
            let accepted = Accepted {
                admitted,
                stream,
                read_ahead,
                max_message: state.max_message_bytes,
            };
            state
                .engine
                .adopt(move |shard| connection::start(&shard, accepted));
        }
        Err(refusal) => {
            tracing::debug!(code = refusal.code.number(), %refusal, "a connection was refused");
            tokio::spawn(refuse(socket.into_inner().stream, refusal));
        }
    })
}

/// The socket under an upgraded connection, and what was read of it beyond the request.
struct Socket {
    stream: TcpStream,
    read_ahead: bytes::Bytes,
}

struct UpgradedSocket(Socket);

impl UpgradedSocket {
    fn into_inner(self) -> Socket {
        self.0
    }

    fn of(upgraded: Upgraded) -> Option<Self> {
        let parts = upgraded.downcast::<TokioIo<Patient<TcpStream>>>().ok()?;
        Some(Self(Socket {
            stream: parts.io.into_inner().into_inner(),
            read_ahead: parts.read_buf,
        }))
    }
}

/// Answers the handshake and hands over the socket once the answer is out.
fn handshake(mut request: Request, then: impl FnOnce(UpgradedSocket) + Send + 'static) -> Response {
    let mut response = match create_response_with_body(&request, Body::empty) {
        Ok(response) => response,
        Err(error) => return not_a_handshake(&error),
    };
    if let Some(subprotocol) = offered_subprotocol(request.headers()) {
        response
            .headers_mut()
            .insert(SEC_WEBSOCKET_PROTOCOL, subprotocol);
    }
    let upgraded: OnUpgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        match upgraded.await.map(UpgradedSocket::of) {
            Ok(Some(socket)) => then(socket),
            Ok(None) => tracing::error!(
                "an upgraded connection is not the TCP stream that was accepted; this is a bug"
            ),
            Err(error) => tracing::debug!(%error, "a client left during the handshake"),
        }
    });
    response
}

fn not_a_handshake(error: &tokio_tungstenite::tungstenite::Error) -> Response {
    let mut response = ApiError::new(
        426,
        format!("This is a WebSocket endpoint, and the request is no handshake: {error}"),
    )
    .into_response();
    response
        .headers_mut()
        .insert(UPGRADE, HeaderValue::from_static("websocket"));
    response
}

/// The first subprotocol offered that we speak. One is never selected that was not offered.
fn offered_subprotocol(headers: &HeaderMap) -> Option<HeaderValue> {
    let offered = headers
        .get_all(SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let ours = offered
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .find(|name| name.starts_with(SUBPROTOCOL_PREFIX))?;
    HeaderValue::from_str(ours).ok()
}
