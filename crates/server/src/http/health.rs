//! Probes of orchestrators, and the text at `/`.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use serde_json::json;

use super::error::ApiError;
use crate::app_state::AppState;
use crate::assets::dashboard;
use crate::edge::ws::upgrade;
use crate::http::headers::is_upgrade;

/// `GET /healthz`: answers while the process runs.
pub(crate) async fn alive() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: answers 200 if the node takes connections and events, and otherwise 503 with the reason.
pub(crate) async fn ready(State(state): State<AppState>) -> Response {
    match state.unready() {
        Some(reason) => ApiError::new(503, format!("Not ready: {reason}")).into_response(),
        // Events are still served. Another node would write to the same disk, or have none of this node's clients.
        None if state.admin.store.is_disk_full() => {
            "ready\nthe disk that holds the store is full: no change of apps, keys and operators is taken until it has room\n"
                .into_response()
        }
        None => "ready\n".into_response(),
    }
}

/// `GET /up` as in Laravel Reverb: answers while the process runs.
pub(crate) async fn up() -> Response {
    Json(json!({"health": "OK"})).into_response()
}

/// `GET /ready` as in Soketi: like `/readyz`. Probes look at the status, scripts at the text.
pub(crate) async fn soketi_ready(state: State<AppState>) -> Response {
    let response = ready(state).await;
    match response.status() {
        StatusCode::OK => "OK".into_response(),
        _ => response,
    }
}

/// `GET /` where operators are served: the dashboard for browsers, and a text for other programs.
pub(crate) async fn dashboard_or_root(state: State<AppState>, request: Request) -> Response {
    if !is_upgrade(request.headers())
        && let Some(page) = dashboard::page(&request)
    {
        return page;
    }
    root(state, request).await
}

/// `GET /`: the demo page if there is one, or a text.
pub(crate) async fn root(State(state): State<AppState>, request: Request) -> Response {
    if is_upgrade(request.headers()) {
        return upgrade::refuse_path(&state, request);
    }
    match &state.demo {
        Some(_) => Redirect::temporary("demo").into_response(),
        None => {
            let prefix = &state.path_prefix;
            format!(
                "Fanfare is running. Clients connect to {prefix}/app/APP_KEY, backends publish to {prefix}/apps/APP_ID/events.\n"
            )
            .into_response()
        }
    }
}
