//! Test events.

use axum::extract::State;
use axum::http::StatusCode;
use fanfare_engine::{OverQuota, PublishError};
use fanfare_protocol::api::{Event, NewEvent};
use fanfare_protocol::json;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::apps::{AppName, live_app};
use super::extract::{Body, PathParams};
use super::problem::Problem;
use crate::access::Caller;
use crate::app_state::AppState;

/// A test event.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PublishEvent {
    /// The event's name.
    #[schema(example = "greeting", min_length = 1, max_length = 200)]
    name: String,
    /// The channel to publish to.
    #[schema(example = json!(["news"]))]
    channels: Vec<String>,
    /// The payload: a string as it is, anything else as its JSON text.
    #[schema(schema_with = crate::openapi::any_but_null)]
    data: Box<RawValue>,
}

/// Publish a test event
///
/// Publishes as a backend does with `POST /apps/{app_id}/events`, within the same limits. Needs the role admin.
#[utoipa::path(
    post, path = "/apps/{app_id}/events", tag = "State", operation_id = "publish_test_event",
    params(AppName),
    request_body = PublishEvent,
    responses(
        (status = 204),
        (status = 404),
        (status = 409, description = "The app is disabled"),
        (status = 429, description = "The app's limit of events per second"),
    ),
)]
pub(super) async fn publish(
    State(state): State<AppState>,
    caller: Caller,
    PathParams(AppName { app_id }): PathParams<AppName>,
    body: Body<PublishEvent>,
) -> Result<StatusCode, Problem> {
    caller.change(&app_id)?;
    let app = live_app(&state, &caller, &app_id)?;
    let PublishEvent {
        name,
        channels,
        data,
    } = body.value;
    // Kept as text: digits, order and escapes of the data stay as the caller wrote them.
    let text = match data.get() {
        "null" => return Err(Problem::invalid("Missing parameter: data")),
        _ => json::as_text(&data),
    };
    let text = text.map_err(|error| Problem::invalid(format!("Invalid data: {error}")))?;
    let new = NewEvent {
        name: &name,
        data: text,
        channels: channels.clone(),
        socket_id: None,
    };
    let event = Event::new(new, &app.settings().limits);
    let event = event.map_err(|error| Problem::invalid(error.to_string()))?;
    if !app.settings().enabled {
        return Err(Problem::conflict(format!("the app {app_id:?} is disabled")));
    }
    // Recorded first, because what can't be recorded isn't done.
    let details = json!({"name": name, "channels": channels});
    let (by, id) = (&caller.actor, app_id.as_str());
    let store = &state.admin.store;
    store
        .record(by, "event.publish", "app", id, Some(id), &details)
        .await?;
    let published = state
        .engine
        .publish_traced(&app, &[event], None, state.traces.current())
        .await;
    published.map_err(|error| match error {
        PublishError::Bus(_) => Problem::unavailable(error.to_string()),
        PublishError::OverQuota(OverQuota::UsedUp(_)) => Problem::forbidden(error.to_string()),
        PublishError::OverQuota(OverQuota::Unknown) => Problem::unavailable(error.to_string()),
        PublishError::OverRate { .. } => Problem::too_many(error.to_string(), 1),
    })?;
    Ok(StatusCode::NO_CONTENT)
}
