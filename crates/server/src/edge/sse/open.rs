//! `GET /sse/{key}` and `GET /apps/{app_id}/events/stream`: who gets a stream of events.
//!
//! A browser's `EventSource` gives up for good after any status but 200. So a client that is to come back gets a stream
//! that says why, and ends; an error status is for what lasts.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, TRANSFER_ENCODING};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use fanfare_engine::{Admitted, Arrival, Refusal, RefusalKind};
use fanfare_protocol::event_stream::EventStream;
use fanfare_protocol::{CloseCode, Framing, ServerMessage};
use hyper::header::ORIGIN;

use super::{direct, piped};
use crate::app_state::AppState;
use crate::backend_api::SignedRequest;
use crate::edge::refusal_log;
use crate::edge::takeover::{Socket, Takeover};
use crate::edge::url_parameters::{CredentialParams, MemberParams, ReturnParams, StreamParams};
use crate::edge::url_subscriptions::{UrlQuery, UrlRequest, UrlSubscriptions};
use crate::http::cors::Cors;
use crate::http::error::ApiError;
use crate::http::headers::combined;

/// With the character set, without which a Python client reads Latin-1. The last one is for nginx, which would buffer.
const HEADERS: [(HeaderName, &str); 3] = [
    (CONTENT_TYPE, "text/event-stream; charset=utf-8"),
    (CACHE_CONTROL, "no-store, no-transform"),
    (HeaderName::from_static("x-accel-buffering"), "no"),
];
/// A part of a stream, for its description.
const EXAMPLE: &str = "event: created\ndata: {\"id\":7}\nid: news 5f0c1f6e:42\n\n";
/// The client library of a stream that names none.
const CLIENT: &str = "sse";

/// An admitted stream.
pub(super) struct Opened {
    pub(super) admitted: Admitted,
    pub(super) subscriptions: UrlSubscriptions,
    pub(super) is_enveloped: bool,
}

impl Opened {
    /// Returns whether several channels keep a history, so that an event's id must name them all.
    pub(super) fn completes_ids(&self) -> bool {
        self.subscriptions.with_history() > 1
    }

    pub(super) fn stream(&self, is_chunked: bool) -> EventStream {
        EventStream {
            is_enveloped: self.is_enveloped,
            is_chunked,
        }
    }
}

/// Listen to channels
///
/// A stream of server-sent events, for a browser's `EventSource`, curl and every HTTP client. It goes on until the client leaves.
/// A refusal that lasts has an error status. One that passes is a stream with a `pusher:error` that ends. Channels that aren't
/// public are opened by a token of the app's identity provider, or by a URL that the app's backend has signed.
#[utoipa::path(
    get, path = "/sse/{key}", tag = "Clients", operation_id = "open_stream",
    params(
        ("key" = String, Path, description = "A key of the app"),
        StreamParams, CredentialParams, MemberParams, ReturnParams,
    ),
    security((), ("end_user" = [])),
    responses(
        (status = 200, body = String, content_type = "text/event-stream", description = "The events, one after the other", example = json!(EXAMPLE)),
        (status = 400, description = "A parameter or a channel's name is invalid"),
        (status = 401, description = "The token is invalid"),
        (status = 403, description = "A channel isn't open to this client, or the app doesn't admit it"),
        (status = 404, description = "There is no app with this key"),
    ),
)]
pub(crate) async fn connect(
    State(state): State<AppState>,
    key: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    let key = key.map_or_else(|_| String::new(), |Path(key)| key);
    // A body, of which a GET has none, can't be shared with other threads.
    let (parts, _) = request.into_parts();
    Box::pin(answer(state, key, parts, false)).await
}

/// Listen to channels as a backend
///
/// A stream of server-sent events of any channel of the app, as `/sse/{key}` is for clients. The signature is that of the other
/// requests, so it is valid for ten minutes: a backend that returns signs again.
#[utoipa::path(
    get, path = "/apps/{app_id}/events/stream", tag = "Backend", operation_id = "open_backend_stream",
    params(
        ("app_id" = String, Path, description = "The app's id"),
        StreamParams, MemberParams, ReturnParams,
    ),
    responses(
        (status = 200, body = String, content_type = "text/event-stream", description = "The events, one after the other", example = json!(EXAMPLE)),
    ),
)]
pub(crate) async fn connect_backend(
    State(state): State<AppState>,
    parts: Parts,
    signed: SignedRequest,
) -> Response {
    let key = signed.signer().key.to_owned();
    drop(signed);
    Box::pin(answer(state, key, parts, true)).await
}

async fn answer(state: AppState, key: String, request: Parts, is_backend: bool) -> Response {
    state.expect_key(&key).await;
    let app = state.engine.apps().by_key(&key);
    // Where the origin isn't allowed, the connection is refused below, and no page may read that.
    let cors = Cors::of(app.as_deref(), &request.headers).unwrap_or_default();
    let from = state.addresses.of(&request.headers, &request.extensions);
    let answer = match open(&state, &key, &request, is_backend, from).await {
        Ok(opened) => start(&state, opened, &request),
        Err(refused) => {
            refused.note(&state, &key, from);
            refused.into_response()
        }
    };
    cors.allow(answer)
}

/// Starts a stream: on its socket, if that can leave HTTP, or else as a body.
fn start(state: &AppState, opened: Opened, request: &Parts) -> Response {
    let Some(takeover) = request.extensions.get::<Takeover>() else {
        let (source, body) = piped::pair(opened);
        state.engine.adopt(move |shard| source.start(&shard));
        return (HEADERS, body).into_response();
    };
    let engine = Arc::clone(&state.engine);
    takeover.put(Box::new(move |socket: Socket| {
        Box::pin(async move {
            // The stream is registered with this runtime's reactor. The shard registers it with its own.
            if let Ok(stream) = socket.stream.into_portable() {
                engine.adopt(move |shard| direct::start(&shard, opened, stream, socket.place));
            }
        })
    }));
    // Behind the content type, which people look for who see the head.
    let mut answer = (HEADERS, Body::empty()).into_response();
    for (name, value) in [(TRANSFER_ENCODING, "chunked"), (CONNECTION, "close")] {
        answer
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    answer
}

async fn open(
    state: &AppState,
    key: &str,
    request: &Parts,
    is_backend: bool,
    from: Option<IpAddr>,
) -> Result<Opened, NotOpened> {
    let (headers, extensions) = (&request.headers, &request.extensions);
    let origin = combined(headers, ORIGIN);
    let arrival = Arrival {
        key,
        // The newest one: a stream has no version of its own.
        protocol: Some("7"),
        origin: origin.as_deref(),
        secure: state.addresses.is_secure(headers, extensions),
        charged_address: from.filter(|address| state.addresses.is_charged(*address)),
    };
    // Twice: before anything is read for the client, and last, so that a client without rights takes no place.
    state.engine.admit_pending(arrival)?;
    let app = state.engine.apps().by_key(key);
    let app = app.ok_or_else(|| ApiError::new(404, "Could not find an app with this key"))?;
    let raw = request.uri.query().unwrap_or_default();
    let query = match is_backend {
        true => UrlQuery::of_backend(raw),
        false => UrlQuery::parse(raw),
    };
    if query.raw.is_some() {
        let message =
            "raw is for WebSockets at /ws/KEY: name the channels of a stream with channels=a,b";
        return Err(ApiError::new(400, message).into());
    }
    let url = UrlRequest {
        path: request.uri.path(),
        query: raw,
        headers,
        is_backend,
        subscribes_later: false,
        charged_address: arrival.charged_address,
    };
    let subscriptions = UrlSubscriptions::of(state, &app, key, &query, &url).await?;
    let mut admitted = state.engine.admit_on_all_nodes(arrival).await?;
    admitted.came_from(from);
    let client = query.client.as_deref().unwrap_or(CLIENT);
    admitted.count_client(client, query.version.as_deref().unwrap_or_default());
    Ok(Opened {
        admitted,
        subscriptions,
        is_enveloped: matches!(query.enveloped.as_deref(), Some("" | "1" | "true")),
    })
}

/// Why a client gets no stream.
enum NotOpened {
    /// It would be refused again.
    Lasting(RefusalKind, ApiError),
    /// It is to come back.
    Passing(Refusal),
}

impl From<Refusal> for NotOpened {
    fn from(refusal: Refusal) -> Self {
        let status = match refusal.code {
            CloseCode::UnknownApp | CloseCode::PathNotFound => 404,
            code if (4000..4100).contains(&code.number()) => 403,
            _ => return Self::Passing(refusal),
        };
        let kind = RefusalKind::Connection(refusal.code);
        Self::Lasting(kind, ApiError::new(status, refusal.message))
    }
}

impl From<ApiError> for NotOpened {
    fn from(error: ApiError) -> Self {
        match error.status() {
            503 => Self::Passing(Refusal::new(CloseCode::OverCapacity, error.message())),
            400 => Self::Lasting(RefusalKind::Subscription, error),
            _ => Self::Lasting(RefusalKind::SubscriptionAuth, error),
        }
    }
}

impl NotOpened {
    fn note(&self, state: &AppState, key: &str, from: Option<IpAddr>) {
        let (kind, message) = match self {
            Self::Passing(refusal) => return refusal_log::note(state, Some(key), from, refusal),
            Self::Lasting(kind, error) => (*kind, error.message()),
        };
        refusal_log::note_kind(state, kind, Some(key), from, message);
    }
}

impl IntoResponse for NotOpened {
    fn into_response(self) -> Response {
        match self {
            Self::Lasting(_, error) => error.into_response(),
            Self::Passing(refusal) => {
                let error = ServerMessage::Error {
                    code: Some(refusal.code.number()),
                    message: &refusal.message,
                    reference: None,
                };
                let stream = EventStream {
                    is_enveloped: false,
                    is_chunked: false,
                };
                let frame = error.to_frame();
                let event = frame.bytes(Framing::EventStream(stream)).clone();
                (HEADERS, event).into_response()
            }
        }
    }
}

/// Answers the CORS preflight of a page that reads a stream with `fetch`, to send a token or the id of an event.
pub(crate) async fn preflight(
    State(state): State<AppState>,
    Path(key): Path<String>,
    headers: HeaderMap,
) -> Response {
    state.expect_key(&key).await;
    let app = state.engine.apps().by_key(&key);
    match Cors::of(app.as_deref(), &headers) {
        Ok(cors) => cors.allow_get(StatusCode::NO_CONTENT.into_response()),
        Err(error) => error.into_response(),
    }
}
