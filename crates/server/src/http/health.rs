//! Probes, and a word for whoever looks at `/`.

use std::sync::atomic::Ordering;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Redirect, Response};

use super::AppState;
use super::error::ApiError;
use crate::ws::upgrade;

/// The process runs.
pub(crate) async fn alive() -> &'static str {
    "ok\n"
}

/// It takes connections and events.
pub(crate) async fn ready(State(state): State<AppState>) -> Response {
    if !state.ready.load(Ordering::Relaxed) {
        return ApiError::new(503, "Not ready: starting or shutting down").into_response();
    }
    match state.engine.unready() {
        Some(reason) => ApiError::new(503, format!("Not ready: {reason}")).into_response(),
        None => "ready\n".into_response(),
    }
}

pub(crate) async fn root(State(state): State<AppState>, request: Request) -> Response {
    if upgrade::is_upgrade(request.headers()) {
        return upgrade::refuse_path(request).await;
    }
    match state.demo {
        Some(_) => Redirect::temporary("/demo").into_response(),
        None => "Fanfare is running. Clients connect to /app/APP_KEY, backends publish to /apps/APP_ID/events.\n".into_response(),
    }
}
