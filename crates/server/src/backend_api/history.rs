//! `GET channels/{name}/events`: pages through a channel's history. This request isn't part of Pusher's protocol.

use axum::Json;
use axum::extract::{Path, State};
use fanfare_engine::{HistoryQuery, Recorded};
use fanfare_protocol::{ChannelName, HistoryPosition, Unrecovered};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::auth::SignedRequest;
use crate::app_state::AppState;
use crate::http::error::ApiError;

/// Default number of events on a page.
const PAGE: usize = 100;
/// Largest number of events on a page.
const MAX_PAGE: usize = 1000;

#[derive(Deserialize)]
pub(crate) struct ChannelPath {
    channel: String,
}

/// A page of a channel's history.
#[derive(Serialize, ToSchema)]
#[schema(as = ChannelHistory)]
pub(crate) struct History {
    /// The events: the newest first, or the oldest where `after` was given.
    events: Vec<HistoryEvent>,
    /// The history's newest position: later events come after it.
    #[schema(example = "5f0c1f6e:42")]
    position: String,
    /// Whether there is more in this direction.
    more: bool,
}

/// An event of a channel's history.
#[derive(Serialize, ToSchema)]
pub(crate) struct HistoryEvent {
    /// The event's position.
    #[schema(example = "5f0c1f6e:41")]
    position: String,
    /// Its name.
    #[schema(example = "greeting")]
    name: String,
    /// Its data, as it was published.
    #[schema(example = r#"{"text":"hello"}"#)]
    data: String,
    /// The user who sent it, for client events on presence channels only.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<String>,
    /// When it was published, Unix time in milliseconds.
    #[schema(example = 1_790_000_000_000_u64)]
    time: u64,
}

impl From<Recorded> for HistoryEvent {
    fn from(event: Recorded) -> Self {
        Self {
            position: event.position.to_string(),
            name: event.name.to_string(),
            data: event.data.to_string(),
            user_id: event.user_id.map(|user| user.to_string()),
            time: event.time,
        }
    }
}

/// Page through a channel's history
///
/// Without a position from the newest event backwards; with `before` further back from there; with `after` forwards from there,
/// oldest first. Hand back the position of the last event of a page to get the next one. A channel keeps a history where the
/// app's setting `history` says so.
#[utoipa::path(
    get, path = "/apps/{app_id}/channels/{channel}/events", tag = "Backend", operation_id = "list_channel_events",
    params(
        ("app_id" = String, Path, description = "The app's id"),
        ("channel" = String, Path, description = "The channel's name"),
        ("before" = Option<String>, Query, description = "A position: events before it, newest first"),
        ("after" = Option<String>, Query, description = "A position: events after it, oldest first; `0` begins with the oldest"),
        ("limit" = Option<usize>, Query, description = "The most events to return, 1 to 1000", minimum = 1, maximum = 1000, example = 100),
    ),
    responses(
        (status = 200, body = History),
        (status = 410, description = "The history of the position, or some of what came after it, is not there any more"),
    ),
)]
pub(crate) async fn list(
    State(state): State<AppState>,
    Path(ChannelPath { channel }): Path<ChannelPath>,
    request: SignedRequest,
) -> Result<Json<History>, ApiError> {
    let settings = request.app.settings();
    let channel = ChannelName::parse(&channel, settings.limits.channel_name)
        .map_err(|error| ApiError::new(400, error.to_string()))?;
    if settings.history_of(channel.as_str()).is_none() {
        let message =
            format!("{channel} keeps no history: add a rule to the app's setting history");
        return Err(ApiError::new(400, message));
    }
    let limit = limit(&request)?;
    // One event beyond the page shows whether there are more.
    let query = query(&request, limit + 1)?;
    let answer = state.engine.history(&request.app, &channel, query).await;
    let answer = answer.map_err(|error| {
        ApiError::new(
            503,
            format!("The history is not known now: {error}; try again later"),
        )
    })?;
    let mut events = answer.events.map_err(gone)?;
    let more = events.len() > limit;
    events.truncate(limit);
    Ok(Json(History {
        events: events.into_iter().map(HistoryEvent::from).collect(),
        position: answer.position.to_string(),
        more,
    }))
}

fn gone(reason: Unrecovered) -> ApiError {
    let message = match reason {
        Unrecovered::TooOld => {
            "Some of what came after the position is not kept any more: begin with after=0"
        }
        Unrecovered::Off | Unrecovered::Expired | Unrecovered::TooLarge => {
            "The position is of a history that is not there any more: begin without one"
        }
    };
    ApiError::new(410, message)
}

fn limit(request: &SignedRequest) -> Result<usize, ApiError> {
    let Some(text) = request.parameter("limit") else {
        return Ok(PAGE);
    };
    let limit = text
        .parse()
        .ok()
        .filter(|limit| (1..=MAX_PAGE).contains(limit));
    limit.ok_or_else(|| {
        ApiError::new(
            400,
            format!("Invalid limit: 1 to {MAX_PAGE}, it is {text:?}"),
        )
    })
}

fn query(request: &SignedRequest, count: usize) -> Result<HistoryQuery, ApiError> {
    let position = |name: &str| {
        let Some(text) = request.parameter(name) else {
            return Ok(None);
        };
        let position = HistoryPosition::parse(&text);
        let invalid = || {
            format!(
                "Invalid {name}: {text:?} is no position; hand back one that came with an event"
            )
        };
        position
            .map(Some)
            .ok_or_else(|| ApiError::new(400, invalid()))
    };
    match request.parameter("after").as_deref() {
        Some("0") => Ok(HistoryQuery::Forward(None, count)),
        Some(_) => Ok(HistoryQuery::Forward(position("after")?, count)),
        None => Ok(HistoryQuery::Backward(position("before")?, count)),
    }
}
