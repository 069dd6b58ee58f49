//! All routes, with their callers.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, options, post};
use fanfare_engine::{RefusalKind, Refused};
use tower_http::catch_panic::CatchPanicLayer;

use crate::admin;
use crate::admin::problem::Problem;
use crate::app_state::AppState;
use crate::assets::{api_pages, book, dashboard, sdk};
use crate::backend_api::users;
use crate::body::discard;
use crate::clients_api::token_auth;
use crate::edge::socket_io;
use crate::edge::sse::open;
use crate::edge::ws::upgrade;
use crate::edge::xhr;
use crate::http::error::ApiError;
use crate::http::headers::is_upgrade;
use crate::http::{acme_challenge, base_path, demo, health, paths};
use crate::metrics;
use crate::openapi::{self, Described};

/// Who reaches a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Audience {
    /// Everybody: there is one address for everything.
    All,
    /// Clients and backends: operators have an address of their own.
    ClientsAndBackends,
    /// Operators, at that address.
    Operators,
}

/// Returns the routes for an audience.
pub(crate) fn router(state: AppState, audience: Audience) -> Router {
    let Described {
        admin,
        pusher,
        document,
    } = openapi::describe(&state.base_path, &state.path_prefix);
    let admin = admin.route_layer(from_fn_with_state(state.clone(), admin::finish));
    let pusher = pusher
        // Browsers and mobile clients, with an app key.
        .route("/app/{key}", any(upgrade::connect))
        .route("/app/", any(upgrade::connect_without_key))
        .route("/app", any(upgrade::connect_without_key))
        // Clients that don't speak Pusher's protocol, and requests that are no handshake.
        .route("/ws/{key}", any(upgrade::connect_plain))
        .route("/ws/", any(upgrade::connect_without_key))
        .route("/ws", any(upgrade::connect_without_key))
        // pusher-js where no WebSocket gets through.
        .merge(xhr::router())
        // Clients of Socket.IO.
        .merge(socket_io::router())
        // CORS preflights of requests with a token.
        .route("/sse/{key}", options(open::preflight))
        .route("/app/{key}/auth", options(token_auth::preflight))
        .route("/app/{key}/user-auth", options(token_auth::preflight))
        // The Python SDK sends it here. The app is the one whose key has signed.
        .route(
            "/users/{user}/terminate_connections",
            post(users::terminate),
        );
    let prefix = state.path_prefix.strip_prefix(&*state.base_path);
    let pusher = match prefix.unwrap_or_default() {
        "" => pusher,
        prefix => Router::new().nest(prefix, pusher),
    };
    let mut router = probes();
    if audience != Audience::Operators {
        router = router
            // ACME servers that look whether this node serves a name.
            .route(
                "/.well-known/acme-challenge/{token}",
                get(acme_challenge::answer),
            )
            .merge(pusher)
            // Browsers, through a script tag.
            .merge(sdk::router());
        if state.demo.is_some() {
            router = router
                // The demo page and its own backend.
                .route("/demo", get(demo::page))
                .route("/demo/app", get(demo::app))
                .route("/demo/auth", post(demo::auth));
        }
    }
    if audience != Audience::ClientsAndBackends {
        router = router
            // Operators and automation, with a session or an API token.
            .merge(admin)
            // Code generators.
            .merge(api_pages::description(&document))
            // Operators, with a browser.
            .merge(dashboard::router());
        if state.docs {
            // People and assistants.
            router = router.merge(book::router()).merge(api_pages::page());
        }
    }
    // People who look at what listens here.
    router = match audience {
        Audience::ClientsAndBackends => router.route("/", get(health::root)),
        Audience::All | Audience::Operators => router.route("/", get(health::dashboard_or_root)),
    };
    router = match audience {
        Audience::All => router.route("/metrics", get(metrics::metrics)),
        Audience::Operators => router.route("/metrics", get(metrics::open_metrics)),
        Audience::ClientsAndBackends => router,
    };
    let base = Arc::clone(&state.base_path);
    let router = router
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(CatchPanicLayer::custom(|_| {
            ApiError::new(500, "Internal error").into_response()
        }))
        .with_state(state);
    match &*base {
        "" => router,
        _ => base_path::below(base, router),
    }
}

/// Returns the routes of orchestrators and load balancers.
fn probes() -> Router<AppState> {
    Router::new()
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        // The same probes under the paths of Reverb and Soketi.
        .route("/up", get(health::up))
        .route("/ready", get(health::soketi_ready))
}

async fn not_found(State(state): State<AppState>, request: Request) -> Response {
    let path = paths::requested(request.uri(), request.extensions());
    let message = if request.uri().path().starts_with("/api/") {
        format!(
            "There is nothing at {} (with ops.listen set, the admin API is at that address alone)",
            paths::truncated(path)
        )
    } else {
        paths::not_found_message(&state.path_prefix, path)
    };
    refuse(&state, request, 404, message).await
}

async fn method_not_allowed(State(state): State<AppState>, request: Request) -> Response {
    let path = paths::truncated(paths::requested(request.uri(), request.extensions()));
    let message = format!("{} is not possible at {path}", request.method());
    refuse(&state, request, 405, message).await
}

/// Refuses a request in the error format of the API that its path belongs to.
async fn refuse(state: &AppState, request: Request, status: u16, message: String) -> Response {
    if is_upgrade(request.headers()) {
        return upgrade::refuse_path(state, request);
    }
    state.engine.refusals().note(Refused {
        kind: RefusalKind::Path,
        app: None,
        address: state.addresses.of(request.headers(), request.extensions()),
        reason: &message,
    });
    let is_admin = request.uri().path().starts_with("/api/");
    discard(request).await;
    match (is_admin, status) {
        (true, 405) => Problem::wrong_method(message).into_response(),
        (true, _) => Problem::not_found(message).into_response(),
        (false, _) => ApiError::new(status, message).into_response(),
    }
}
