//! The three requests of a session and their CORS preflights (docs/protocol.md#fallback-requests).

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{FromRequestParts, Path, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderName, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use fanfare_engine::{Arrival, Refusal, RefusalKind, Refused};
use fanfare_protocol::sockjs::{self, BadSend, HEARTBEAT};
use fanfare_protocol::{Frame, Framing, ServerMessage};
use futures_util::stream;
use hyper::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ORIGIN, USER_AGENT,
};
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tower_http::cors::{Any, CorsLayer};

use super::ended_stream::ended_stream;
use super::pipe::Receive;
use super::session::{self, Accepted, Request as SessionRequest, Retry};
use super::sessions::SessionId;
use super::websocket_retry::Client as RetryClient;
use crate::app_state::AppState;
use crate::body::{discard, read_pending};
use crate::edge::hanging::{HangingRequest, SHORT_WAIT, has_few_connections};
use crate::edge::refusal_log;
use crate::edge::ws::upgrade::ConnectQuery;
use crate::http::error::ApiError;
use crate::http::headers::{combined, has_token};

/// Number of requests that may wait for their session.
const REQUESTS: usize = 16;
/// How long a browser may cache the preflight's answer.
const PREFLIGHT_MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);
/// Longest part of a session's name, in bytes. pusher-js sends parts of 3 and 8.
const MAX_NAME: usize = 64;
/// Headers as SockJS servers send them. The last one is for nginx, which would buffer lines.
const HEADERS: [(HeaderName, &str); 3] = [
    (CONTENT_TYPE, "application/javascript; charset=UTF-8"),
    (CACHE_CONTROL, "no-store, no-transform"),
    (HeaderName::from_static("x-accel-buffering"), "no"),
];

/// Returns the routes below the `httpPath` of pusher-js, and below the path of its WebSockets.
pub(crate) fn router() -> Router<AppState> {
    let any_page = CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([Method::POST])
        .allow_headers([CONTENT_TYPE])
        .max_age(PREFLIGHT_MAX_AGE);
    // The CORS layer answers preflights, but only on methods that have a route.
    let asked = || async { StatusCode::NO_CONTENT };
    let session = Router::new()
        .route("/xhr_streaming", post(stream_lines).options(asked))
        .route("/xhr", post(poll_lines).options(asked))
        .route("/xhr_send", post(send).options(asked))
        .layer(any_page);
    Router::new()
        .nest("/pusher/app/{key}/{server}/{session}", session.clone())
        .nest("/app/{key}/{server}/{session}", session)
}

#[derive(Deserialize)]
struct SessionPath {
    key: String,
    server: String,
    session: String,
}

impl SessionPath {
    fn id(self) -> Result<SessionId, ApiError> {
        let possible = |name: &str| {
            (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric())
        };
        if possible(&self.server) && possible(&self.session) {
            Ok(SessionId {
                key: self.key,
                server: self.server,
                session: self.session,
            })
        } else {
            Err(ApiError::new(
                404,
                "Unknown session: its name has letters and digits only",
            ))
        }
    }
}

/// Headers, query and address of a client's request for lines.
struct Client {
    /// All `Origin` header lines.
    origin: Option<String>,
    agent: Option<String>,
    accepts_gzip: bool,
    query: Option<String>,
    address: Option<IpAddr>,
    charged_address: Option<IpAddr>,
    secure: bool,
    /// Whether a browser has only a few connections like the client's.
    has_few_connections: bool,
}

impl FromRequestParts<AppState> for Client {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Infallible> {
        let address = state.addresses.of(&parts.headers, &parts.extensions);
        let secure = state.addresses.is_secure(&parts.headers, &parts.extensions);
        Ok(Self {
            origin: combined(&parts.headers, ORIGIN),
            agent: combined(&parts.headers, USER_AGENT),
            accepts_gzip: has_token(&parts.headers, ACCEPT_ENCODING, "gzip"),
            query: parts.uri.query().map(str::to_owned),
            address,
            charged_address: address.filter(|address| state.addresses.is_charged(*address)),
            secure,
            has_few_connections: has_few_connections(parts.version, &parts.extensions, secure),
        })
    }
}

impl Client {
    /// Returns a permit for a request to hang, or `None` if the client's browser has no connection to spare. Other
    /// clients open as many connections as they like.
    fn hang(&self, state: &AppState) -> Option<HangingRequest> {
        let is_browser = self.origin.is_some() && self.accepts_gzip;
        if is_browser && self.has_few_connections {
            state.hanging.hang(self.address, self.agent.as_deref())
        } else {
            Some(HangingRequest::uncounted())
        }
    }
}

/// Waits at most [`SHORT_WAIT`] for lines. Lines that are sent as the time runs out are returned too.
async fn wait_shortly(mut lines: mpsc::Receiver<Bytes>) -> Option<Bytes> {
    if let Ok(batch) = timeout(SHORT_WAIT, lines.recv()).await {
        return batch;
    }
    lines.close();
    lines.recv().await
}

/// Answers `xhr_streaming` with one long answer, or with a short one after which the client asks again.
async fn stream_lines(
    State(state): State<AppState>,
    Path(path): Path<SessionPath>,
    client: Client,
) -> Result<Response, ApiError> {
    let id = path.id()?;
    let key = id.key.clone();
    let Some(hanging) = client.hang(&state) else {
        let (receive, lines) = Receive::polling();
        return match attach(&state, id, receive, &client).await {
            Ok(()) => {
                let lines = wait_shortly(lines).await.unwrap_or_default();
                let encoding = [(CONTENT_ENCODING, "gzip")];
                Ok((HEADERS, encoding, ended_stream(&lines)).into_response())
            }
            Err(refusal) => Ok(refused(&state, &key, &client, &refusal)),
        };
    };
    let (receive, mut lines) = Receive::streaming();
    match attach(&state, id, receive, &client).await {
        Ok(()) => {
            let lines = stream::poll_fn(move |cx| {
                let _counted_until_the_end = &hanging;
                lines
                    .poll_recv(cx)
                    .map(|line| line.map(Ok::<_, Infallible>))
            });
            Ok((HEADERS, Body::from_stream(lines)).into_response())
        }
        Err(refusal) => Ok(refused(&state, &key, &client, &refusal)),
    }
}

/// Answers `xhr` as soon as there is a line.
async fn poll_lines(
    State(state): State<AppState>,
    Path(path): Path<SessionPath>,
    client: Client,
) -> Result<Response, ApiError> {
    let hanging = client.hang(&state);
    let (receive, mut lines) = Receive::polling();
    let id = path.id()?;
    let key = id.key.clone();
    match attach(&state, id, receive, &client).await {
        Ok(()) => {
            let batch = match hanging {
                Some(_counted_until_the_end) => lines.recv().await,
                None => wait_shortly(lines).await,
            };
            // Without lines, the time ran out, a newer request replaced this one, or the session ended. The next poll
            // shows which.
            let batch = batch.unwrap_or(Bytes::from_static(HEARTBEAT));
            Ok((HEADERS, batch).into_response())
        }
        Err(refusal) => Ok(refused(&state, &key, &client, &refusal)),
    }
}

/// Attaches a request to its session, which is opened if there is none. Returns the refusal if it isn't admitted.
async fn attach(
    state: &AppState,
    id: SessionId,
    receive: Receive,
    client: &Client,
) -> Result<(), Refusal> {
    let mut receive = SessionRequest::Receive(receive);
    if let Some(session) = state.sessions.find(&id) {
        match session.send(receive).await {
            Ok(()) => return Ok(()),
            // The session ended between the look-up and the send, so a new one is opened.
            Err(unsent) => receive = unsent.0,
        }
    }
    if let SessionRequest::Receive(receive) = receive {
        state.expect_key(&id.key).await;
        open(state, id, receive, client)?;
    }
    Ok(())
}

fn open(state: &AppState, id: SessionId, receive: Receive, client: &Client) -> Result<(), Refusal> {
    let query = ConnectQuery::parse(client.query.as_deref());
    let mut admitted = state.engine.admit_pending(Arrival {
        key: &id.key,
        protocol: query.protocol,
        origin: client.origin.as_deref(),
        secure: client.secure,
        charged_address: client.charged_address,
    })?;
    admitted.came_from(client.address);
    query.count_client(&mut admitted);
    let pending = state
        .sessions
        .pending
        .add(Some(admitted.app_id()), admitted.network());
    let (sender, requests) = mpsc::channel(REQUESTS);
    let retry = state.websocket_retry.candidate(RetryClient {
        key: &id.key,
        address: client.address,
        agent: client.agent.as_deref(),
    });
    let retry = retry.map(|candidate| Retry {
        rules: Arc::clone(&state.websocket_retry),
        candidate,
    });
    state.sessions.insert(id.clone(), sender);
    let accepted = Accepted {
        id,
        admitted,
        pending: Some(pending),
        receive,
        requests,
        retry,
    };
    let sessions = state.sessions.clone();
    state
        .engine
        .adopt(move |shard| session::start(&shard, accepted, sessions));
    Ok(())
}

/// Returns the answer to a refused session. A session can't be closed before its first line, so the answer opens it and
/// closes it (docs/protocol.md#fallback-framing).
fn refused(state: &AppState, key: &str, client: &Client, refusal: &Refusal) -> Response {
    refusal_log::note(state, Some(key), client.address, refusal);
    let error = ServerMessage::Error {
        code: Some(refusal.code.number()),
        message: &refusal.message,
        reference: None,
    };
    let mut lines = Framing::SockJs.opening().to_vec();
    for frame in [
        error.to_frame(),
        Frame::close(refusal.code, &refusal.message),
    ] {
        lines.extend_from_slice(frame.bytes(Framing::SockJs));
    }
    (HEADERS, lines).into_response()
}

/// Handles `xhr_send`: frames of the client.
async fn send(
    State(state): State<AppState>,
    Path(path): Path<SessionPath>,
    request: Request,
) -> Result<StatusCode, ApiError> {
    let app = state.engine.apps().by_key(&path.key);
    let from = state.addresses.of(request.headers(), request.extensions());
    let sent = take_frames(&state, path, request).await;
    sent.inspect_err(|error| {
        let kind = match error.status() {
            404 => RefusalKind::FallbackSession,
            _ => RefusalKind::FallbackBody,
        };
        state.engine.refusals().note(Refused {
            kind,
            app: app.as_ref().map(|app| app.id().as_str()),
            address: from,
            reason: error.message(),
        });
    })
}

async fn take_frames(
    state: &AppState,
    path: SessionPath,
    request: Request,
) -> Result<StatusCode, ApiError> {
    let unknown = || ApiError::new(404, "Unknown session: it is over, or was never opened here");
    let session = path
        .id()
        .and_then(|id| state.sessions.find(&id).ok_or_else(unknown));
    let session = match session {
        Ok(session) => session,
        Err(error) => {
            // No body is kept without a session to charge it to.
            discard(request).await;
            return Err(error);
        }
    };
    // A message fits even if every byte of it is escaped. Nothing larger can be valid.
    let limit = 2 * state.max_message_bytes;
    let pays = state
        .addresses
        .charged(request.headers(), request.extensions());
    let body = read_pending(state.engine.ledger(), request, limit, pays).await?;
    let frames = sockjs::parse_send(&body.bytes, state.max_message_bytes)?;
    session
        .send(SessionRequest::Send(frames, Some(body.charge)))
        .await
        .map_err(|_| unknown())?;
    Ok(StatusCode::NO_CONTENT)
}

impl From<BadSend> for ApiError {
    fn from(error: BadSend) -> Self {
        let status = match error {
            BadSend::NotFrames(_) => 400,
            BadSend::TooMany => 413,
            BadSend::TooLarge { .. } => 413,
        };
        Self::new(status, error.to_string())
    }
}
