//! Answers an ACME server that looks over HTTP whether this node serves a name (RFC 8555 section 8.3).

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

use crate::app_state::AppState;

/// `GET /.well-known/acme-challenge/TOKEN`: the answer of any node, whichever has ordered.
pub(crate) async fn answer(State(state): State<AppState>, Path(token): Path<String>) -> Response {
    let challenges = state.tls.as_ref().map(|tls| &tls.challenges);
    match challenges.and_then(|challenges| challenges.answer(&token)) {
        Some(answer) => ([(CONTENT_TYPE, "application/octet-stream")], answer).into_response(),
        None => (StatusCode::NOT_FOUND, "No such challenge is awaited here\n").into_response(),
    }
}
