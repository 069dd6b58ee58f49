//! Probes, and a word for whoever looks at `/`.

use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use serde_json::json;

use super::error::ApiError;
use crate::app_state::AppState;
use crate::edge::ws::upgrade;

/// The process runs.
pub(crate) async fn alive() -> &'static str {
    "ok\n"
}

/// It takes connections and events.
pub(crate) async fn ready(State(state): State<AppState>) -> Response {
    if !state.ready.load(Ordering::Relaxed) {
        return ApiError::new(503, "Not ready: starting or shutting down").into_response();
    }
    if state.sockets.is_full() {
        return ApiError::new(
            503,
            format!(
                "Not ready: no more connections can be accepted, {} sockets are in use (http.max_sockets, or the limit of open \
                 files)",
                state.sockets.open()
            ),
        )
        .into_response();
    }
    match state.engine.unready() {
        Some(reason) => ApiError::new(503, format!("Not ready: {reason}")).into_response(),
        // Events are served all the same, and another node would write to the same disk or has none of our clients.
        None if state.admin.store.is_disk_full() => {
            "ready\nthe disk that holds the store is full: no change of apps, keys and operators is taken until it has room\n"
                .into_response()
        }
        None => "ready\n".into_response(),
    }
}

/// `GET /up` of Laravel Reverb: the process runs.
pub(crate) async fn up() -> Response {
    Json(json!({"health": "OK"})).into_response()
}

/// `GET /ready` of Soketi: it takes connections and events. Probes look at the status, scripts at the text.
pub(crate) async fn soketi_ready(state: State<AppState>) -> Response {
    let response = ready(state).await;
    match response.status() {
        StatusCode::OK => "OK".into_response(),
        _ => response,
    }
}

pub(crate) async fn root(State(state): State<AppState>, request: Request) -> Response {
    if upgrade::is_upgrade(request.headers()) {
        return upgrade::refuse_path(&state, request);
    }
    match &state.demo {
        Some(_) => Redirect::temporary("/demo").into_response(),
        None => {
            let prefix = &state.path_prefix;
            format!(
                "Fanfare is running. Clients connect to {prefix}/app/APP_KEY, backends publish to {prefix}/apps/APP_ID/events.\n"
            )
            .into_response()
        }
    }
}
