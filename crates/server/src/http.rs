//! All routes, each with who calls it.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use fanfare_engine::Engine;
use tower_http::catch_panic::CatchPanicLayer;

use crate::demo::Demo;
use crate::identity::Identities;
use crate::ws::upgrade;
use crate::xhr::{self, Sessions};

mod auth;
mod channel_auth;
mod channels;
mod cors;
mod demo;
pub(crate) mod error;
mod events;
mod health;
mod idempotency;
mod users;

pub(crate) use auth::{read_body, unix_seconds};
use error::ApiError;
pub(crate) use idempotency::Idempotency;

/// What handlers share. Cheap to clone.
#[derive(Clone)]
pub(crate) struct AppState {
    pub(crate) engine: Arc<Engine>,
    pub(crate) ready: Arc<AtomicBool>,
    pub(crate) demo: Option<Arc<Demo>>,
    pub(crate) path_prefix: Arc<str>,
    pub(crate) idempotency: Idempotency,
    pub(crate) sessions: Sessions,
    pub(crate) identities: Arc<Identities>,
    pub(crate) max_body_bytes: usize,
    pub(crate) max_message_bytes: usize,
}

/// The route table.
pub(crate) fn router(state: AppState) -> Router {
    let pusher = Router::new()
        // Browsers and mobile clients, with an app key.
        .route("/app/{key}", any(upgrade::connect))
        .route("/app/", any(upgrade::connect_without_key))
        .route("/app", any(upgrade::connect_without_key))
        // pusher-js where no WebSocket gets through.
        .merge(xhr::router())
        // Backends, through the Pusher server SDKs, signed.
        .route("/apps/{app_id}/events", post(events::publish))
        .route("/apps/{app_id}/batch_events", post(events::publish_batch))
        .route("/apps/{app_id}/channels", get(channels::list))
        .route("/apps/{app_id}/channels/{channel}", get(channels::show))
        .route(
            "/apps/{app_id}/channels/{channel}/users",
            get(channels::users),
        )
        .route(
            "/apps/{app_id}/users/{user}/terminate_connections",
            post(users::terminate),
        )
        // Backends that would rather ask for a signature than make one.
        .route("/apps/{app_id}/auth", post(channel_auth::for_backend))
        .route(
            "/apps/{app_id}/user-auth",
            post(channel_auth::user_for_backend),
        )
        // Browsers of apps without an auth endpoint of their own, with a token of the app's identity provider.
        .route(
            "/app/{key}/auth",
            post(channel_auth::for_bearer).options(channel_auth::preflight),
        )
        .route(
            "/app/{key}/user-auth",
            post(channel_auth::user_for_bearer).options(channel_auth::preflight),
        )
        // Where the Python SDK asks for it: the app is the one whose key has signed.
        .route(
            "/users/{user}/terminate_connections",
            post(users::terminate),
        )
        // Older SDKs.
        .route(
            "/apps/{app_id}/channels/{channel}/events",
            post(events::publish_to_channel),
        )
        .route(
            "/apps/{app_id}/channels/{channel}/stats",
            get(channels::stats),
        );
    let pusher = match &*state.path_prefix {
        "" => pusher,
        prefix => Router::new().nest(prefix, pusher),
    };
    let mut router = pusher
        // Orchestrators and load balancers.
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
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

async fn not_found(request: Request) -> Response {
    let refused = ApiError::new(404, format!("There is nothing at {}", request.uri().path()));
    refuse(request, refused).await
}

async fn method_not_allowed(request: Request) -> Response {
    let refused = ApiError::new(
        405,
        format!(
            "{} is not possible at {}",
            request.method(),
            request.uri().path()
        ),
    );
    refuse(request, refused).await
}

async fn refuse(request: Request, refused: ApiError) -> Response {
    if upgrade::is_upgrade(request.headers()) {
        return upgrade::refuse_path(request).await;
    }
    auth::discard(request.into_body()).await;
    refused.into_response()
}
