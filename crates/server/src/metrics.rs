//! `GET /metrics`: what this node does and holds, for Prometheus and whatever reads its formats. Nothing is collected
//! until it is asked for.
//!
//! | file | content |
//! |---|---|
//! | `catalog` | every metric: its name, meaning and where its value comes from |
//! | `snapshot` | reads all values at one moment |
//! | `process` | memory, CPU and files of the process |
//! | `encode` | Prometheus' formats |
//! | `document` | the same as JSON |

mod catalog;
mod document;
mod encode;
mod process;
mod snapshot;

use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};

use crate::access::Scraper;
use crate::app_state::AppState;
use crate::http::error::ApiError;
use encode::Format;
use snapshot::Snapshot;

pub(crate) use catalog::{names, table};
pub(crate) use document::{Buckets, Document};
pub(crate) use process::Process;
pub(crate) use snapshot::Named;

/// Most apps that a scraper may ask for.
const MAX_APPS: usize = 100_000;

/// Answers with all metrics to a caller that may read those of all apps.
pub(crate) async fn metrics(
    State(state): State<AppState>,
    _: Scraper,
    query: RawQuery,
    headers: HeaderMap,
) -> Response {
    answer(&state, &query, &headers).await
}

/// Answers with all metrics to anybody. Only the listener for operators has it.
pub(crate) async fn open_metrics(
    State(state): State<AppState>,
    query: RawQuery,
    headers: HeaderMap,
) -> Response {
    answer(&state, &query, &headers).await
}

async fn answer(state: &AppState, RawQuery(query): &RawQuery, headers: &HeaderMap) -> Response {
    let apps = match busiest_apps(query.as_deref()) {
        Ok(apps) => apps,
        Err(refused) => return refused.into_response(),
    };
    let accepted = headers.get_all(ACCEPT).into_iter();
    let accepted = accepted.filter_map(|line| line.to_str().ok());
    let format = Format::negotiate(accepted);
    let body = encode::encode(Snapshot::take(state, apps).await, format);
    ([(CONTENT_TYPE, format.content_type())], body).into_response()
}

/// Returns how many of the busiest apps the query asks for, if it does.
fn busiest_apps(query: Option<&str>) -> Result<Option<usize>, ApiError> {
    let pairs = query.unwrap_or_default().split('&');
    let Some(apps) = pairs.filter_map(|pair| pair.strip_prefix("apps=")).next() else {
        return Ok(None);
    };
    let number = apps.parse().ok().filter(|apps| *apps <= MAX_APPS);
    let refused = || {
        ApiError::new(
            400,
            format!(
                "apps must be a number from 0 to {MAX_APPS}: the busiest apps that get series of their own; it was {apps:?}"
            ),
        )
    };
    number.map(Some).ok_or_else(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scraper_may_ask_for_another_number_of_apps() {
        assert_eq!(busiest_apps(None).ok(), Some(None));
        assert_eq!(busiest_apps(Some("a=1&apps=7")).ok(), Some(Some(7)));
        for wrong in ["apps=", "apps=-1", "apps=all", "apps=100001"] {
            assert!(busiest_apps(Some(wrong)).is_err(), "{wrong}");
        }
    }
}
