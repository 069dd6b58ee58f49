//! `GET /metrics`: what this node does and holds, for Prometheus and whatever reads its formats. Nothing is collected
//! until it is asked for.
//!
//! | file | content |
//! |---|---|
//! | `catalog` | every metric: its name, meaning and where its value comes from |
//! | `snapshot` | reads all values at one moment |
//! | `process` | memory, CPU and files of the process |
//! | `encode` | the three formats |

mod catalog;
mod encode;
mod process;
mod snapshot;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};

use crate::access::Scraper;
use crate::app_state::AppState;
use encode::Format;
use snapshot::Snapshot;

pub(crate) use snapshot::Named;

/// Answers with all metrics to a caller that may read those of all apps.
pub(crate) async fn metrics(
    State(state): State<AppState>,
    _: Scraper,
    headers: HeaderMap,
) -> Response {
    answer(&state, &headers).await
}

/// Answers with all metrics to anybody. Only the listener for operators has it.
pub(crate) async fn open_metrics(State(state): State<AppState>, headers: HeaderMap) -> Response {
    answer(&state, &headers).await
}

async fn answer(state: &AppState, headers: &HeaderMap) -> Response {
    let accepted = headers.get_all(ACCEPT).into_iter();
    let accepted = accepted.filter_map(|line| line.to_str().ok());
    let format = Format::negotiate(accepted);
    let body = encode::encode(Snapshot::take(state).await, format);
    ([(CONTENT_TYPE, format.content_type())], body).into_response()
}
