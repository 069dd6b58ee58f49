//! All routes, each with who calls it.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, options, post};
use fanfare_engine::{Engine, RefusalKind, Refused};
use fanfare_protocol::Ceilings;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::access::Addresses;
use crate::admin::problem::Problem;
use crate::admin::{self, Admin};
use crate::app_sync::ConfigBarrier;
use crate::demo::Demo;
use crate::identity::Identities;
use crate::openapi::{self, Described};
use crate::sockets::Sockets;
use crate::ws::upgrade;
use crate::xhr::{self, HangingRequests, Sessions, WebSocketRetry};

mod auth;
mod channel_auth;
mod channels;
mod client_address;
mod cors;
mod demo;
pub(crate) mod error;
mod events;
pub(crate) mod headers;
mod health;
mod history;
mod idempotency;
pub(crate) mod paths;
mod pending_bodies;
mod sdk;
mod users;

pub(crate) use auth::{BodyError, discard, read_body, unix_millis, unix_seconds};
pub(crate) use client_address::ClientAddress;
use error::ApiError;
pub(crate) use idempotency::Idempotency;
pub(crate) use pending_bodies::read_pending;

/// What handlers share. It is cloned several times for each request, so that is one count.
#[derive(Clone)]
pub(crate) struct AppState(Arc<Shared>);

impl Deref for AppState {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl From<Shared> for AppState {
    fn from(shared: Shared) -> Self {
        Self(Arc::new(shared))
    }
}

/// What an [`AppState`] holds.
pub(crate) struct Shared {
    pub(crate) engine: Arc<Engine>,
    pub(crate) ready: Arc<AtomicBool>,
    pub(crate) demo: Option<Arc<Demo>>,
    pub(crate) path_prefix: Arc<str>,
    pub(crate) idempotency: Idempotency,
    pub(crate) sessions: Sessions,
    pub(crate) hanging: HangingRequests,
    pub(crate) websocket_retry: Arc<WebSocketRetry>,
    pub(crate) identities: Arc<Identities>,
    pub(crate) admin: Admin,
    pub(crate) in_force: ConfigBarrier,
    pub(crate) addresses: Addresses,
    pub(crate) ceilings: Ceilings,
    pub(crate) sockets: Sockets,
    /// Unix time in milliseconds.
    pub(crate) started_at: i64,
    pub(crate) max_body_bytes: usize,
    pub(crate) max_message_bytes: usize,
    /// The time in which a long WebSocket message must have come whole.
    pub(crate) message_timeout: Duration,
}

/// The route table.
pub(crate) fn router(state: AppState) -> Router {
    let Described {
        admin,
        pusher,
        document,
    } = openapi::describe(&state.path_prefix);
    let admin = admin.route_layer(from_fn_with_state(state.clone(), admin::finish));
    let pusher = pusher
        // Browsers and mobile clients, with an app key.
        .route("/app/{key}", any(upgrade::connect))
        .route("/app/", any(upgrade::connect_without_key))
        .route("/app", any(upgrade::connect_without_key))
        // pusher-js where no WebSocket gets through.
        .merge(xhr::router())
        // What browsers ask before they send a token.
        .route("/app/{key}/auth", options(channel_auth::preflight))
        .route("/app/{key}/user-auth", options(channel_auth::preflight))
        // Where the Python SDK asks for it: the app is the one whose key has signed.
        .route(
            "/users/{user}/terminate_connections",
            post(users::terminate),
        );
    let pusher = match &*state.path_prefix {
        "" => pusher,
        prefix => Router::new().nest(prefix, pusher),
    };
    let mut router = pusher
        // Operators and automation, with a session or an API token.
        .merge(admin)
        // People and generators.
        .merge(openapi::pages(&document))
        // Browsers, by a script tag.
        .merge(sdk::router())
        // Orchestrators and load balancers.
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        // The same for people who come from Reverb and from Soketi, with their probes.
        .route("/up", get(health::up))
        .route("/ready", get(health::soketi_ready))
        // People who see what is listening here.
        .route("/", get(health::root));
    if state.demo.is_some() {
        router = router
            // The demo page and its own backend.
            .route("/demo", get(demo::page))
            .route("/demo/app", get(demo::app))
            .route("/demo/auth", post(demo::auth));
    }
    router
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(CatchPanicLayer::custom(|_| {
            ApiError::new(500, "Internal error").into_response()
        }))
        .with_state(state)
}

/// What backends call, through the Pusher server SDKs, signed.
pub(crate) fn backend() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(events::publish))
        .routes(routes!(events::publish_batch))
        .routes(routes!(channels::list))
        .routes(routes!(channels::show))
        .routes(routes!(channels::users))
        .routes(routes!(channels::connections))
        .routes(routes!(users::terminate))
        // Backends that would rather ask for a signature than make one.
        .routes(routes!(channel_auth::for_backend))
        .routes(routes!(channel_auth::user_for_backend))
        // Older SDKs.
        .routes(routes!(history::list, events::publish_to_channel))
        .routes(routes!(channels::stats))
}

/// What browsers of apps without an auth endpoint of their own ask, with a token of the app's identity provider.
pub(crate) fn clients() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(channel_auth::for_bearer))
        .routes(routes!(channel_auth::user_for_bearer))
}

async fn not_found(State(state): State<AppState>, request: Request) -> Response {
    let path = paths::sent(request.uri(), request.extensions());
    let message = if path.starts_with("/api/") {
        format!("There is nothing at {}", paths::shown(path))
    } else {
        paths::nothing(&state.path_prefix, path)
    };
    refuse(&state, request, 404, message).await
}

async fn method_not_allowed(State(state): State<AppState>, request: Request) -> Response {
    let path = paths::shown(paths::sent(request.uri(), request.extensions()));
    let message = format!("{} is not possible at {path}", request.method());
    refuse(&state, request, 405, message).await
}

/// In the words of the API that was asked.
async fn refuse(state: &AppState, request: Request, status: u16, message: String) -> Response {
    if upgrade::is_upgrade(request.headers()) {
        return upgrade::refuse_path(state, request);
    }
    state.engine.refusals().note(Refused {
        kind: RefusalKind::Path,
        app: None,
        address: state.addresses.of(request.headers(), request.extensions()),
        reason: &message,
    });
    let is_admin = request.uri().path().starts_with("/api/");
    auth::discard(request.into_body()).await;
    match (is_admin, status) {
        (true, 405) => Problem::wrong_method(message).into_response(),
        (true, _) => Problem::not_found(message).into_response(),
        (false, _) => ApiError::new(status, message).into_response(),
    }
}
