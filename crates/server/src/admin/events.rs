//! Test events, as backends and clients send them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use fanfare_engine::{App, OverQuota, PublishError, SimulateError, SimulatedClientEvent};
use fanfare_protocol::api::{BadRequest, Event, NewEvent};
use fanfare_protocol::{ChannelName, SocketId, UserId, json};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::time::Instant;
use utoipa::ToSchema;

use super::apps::{AppName, live_app};
use super::channels::channel_name;
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
    /// The channels to publish to.
    #[schema(example = json!(["news"]))]
    channels: Vec<String>,
    /// The payload: a string as it is, anything else as its JSON text.
    #[schema(schema_with = crate::openapi::any_but_null)]
    data: Box<RawValue>,
    /// The connection that doesn't get it.
    #[schema(example = "123.456", pattern = r"^[0-9]+\.[0-9]+$")]
    socket_id: Option<String>,
}

/// Test events of one request.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct PublishBatch {
    /// The events, each for one channel.
    #[serde(rename = "batch")]
    #[schema(min_items = 1)]
    _batch: Vec<BatchedEvent>,
}

/// An event of a batch.
#[derive(Debug, Deserialize, ToSchema)]
#[expect(dead_code, reason = "describes what the batch's reader takes")]
pub(crate) struct BatchedEvent {
    /// The event's name.
    #[schema(example = "greeting", min_length = 1, max_length = 200)]
    name: String,
    /// The channel to publish to.
    #[schema(
        example = "news",
        min_length = 1,
        max_length = 200,
        pattern = "^(#server-to-user-)?[-a-zA-Z0-9_=@,.;]+$"
    )]
    channel: String,
    /// The payload: a string as it is, anything else as its JSON text.
    #[schema(schema_with = crate::openapi::any_but_null)]
    data: Box<RawValue>,
    /// The connection that doesn't get it.
    #[schema(example = "123.456", pattern = r"^[0-9]+\.[0-9]+$")]
    socket_id: Option<String>,
}

/// A client event that is sent in place of a client.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SimulateClientEvent {
    /// The event's name, which begins with `client-`.
    #[schema(example = "client-typing")]
    name: String,
    /// The private or presence channel to send it on.
    #[schema(
        example = "private-room-1",
        min_length = 1,
        max_length = 200,
        pattern = "^(#server-to-user-)?[-a-zA-Z0-9_=@,.;]+$"
    )]
    channel: String,
    /// The payload: a string as it is, anything else as its JSON text.
    #[schema(schema_with = crate::openapi::any_but_null)]
    data: Box<RawValue>,
    /// The connection that counts as its sender, and doesn't get it.
    #[schema(example = "123.456", pattern = r"^[0-9]+\.[0-9]+$")]
    socket_id: Option<String>,
    /// The user that counts as its sender; needed on presence channels.
    user_id: Option<String>,
}

/// What became of test events.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct PublishedEvents {
    /// The channels that they were published to, by name.
    pub(crate) channels: BTreeMap<String, Audience>,
    /// How long the node took to accept them, in microseconds.
    pub(crate) took_us: u64,
}

/// Who is on a channel that an event was published to.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = EventAudience)]
pub(crate) struct Audience {
    /// Subscribed connections over all nodes, right after the event was accepted; `null` if the other nodes couldn't be
    /// asked.
    #[schema(required)]
    pub(crate) subscribers: Option<usize>,
}

/// Publish a test event
///
/// Publishes as a backend does with `POST /apps/{app_id}/events`, within the same limits. Needs the role admin.
#[utoipa::path(
    post, path = "/apps/{app_id}/events", tag = "State", operation_id = "publish_test_event",
    params(AppName),
    request_body = PublishEvent,
    responses(
        (status = 200, body = PublishedEvents),
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
) -> Result<Json<PublishedEvents>, Problem> {
    caller.change(&app_id)?;
    let app = enabled_app(&state, &caller, &app_id).await?;
    let PublishEvent {
        name,
        channels,
        data,
        socket_id,
    } = body.value;
    let new = NewEvent {
        name: &name,
        data: text_of(&data)?.into(),
        channels,
        socket_id: socket_id.as_deref(),
    };
    let event = Event::new(new, &app.settings().limits).map_err(|error| refused(&error))?;
    publish_all(&state, &caller, &app, &[event]).await
}

/// Publish several test events
///
/// Publishes as a backend does with `POST /apps/{app_id}/batch_events`, within the same limits: all of them or none. Needs the
/// role admin.
#[utoipa::path(
    post, path = "/apps/{app_id}/events/batch", tag = "State", operation_id = "publish_test_events",
    params(AppName),
    request_body = PublishBatch,
    responses(
        (status = 200, body = PublishedEvents),
        (status = 404),
        (status = 409, description = "The app is disabled"),
        (status = 429, description = "The app's limit of events per second"),
    ),
)]
pub(super) async fn publish_batch(
    State(state): State<AppState>,
    caller: Caller,
    PathParams(AppName { app_id }): PathParams<AppName>,
    body: Body<Value>,
) -> Result<Json<PublishedEvents>, Problem> {
    caller.change(&app_id)?;
    let app = enabled_app(&state, &caller, &app_id).await?;
    let events =
        Event::parse_batch(&body.bytes, &app.settings().limits).map_err(|error| refused(&error))?;
    publish_all(&state, &caller, &app, &events).await
}

/// Send a client event in place of a client
///
/// The app's clients get it as if a subscribed client had sent it, and so do its webhooks, within the app's settings: client
/// events must be enabled. Needs the role admin.
#[utoipa::path(
    post, path = "/apps/{app_id}/client-events", tag = "State", operation_id = "simulate_client_event",
    params(AppName),
    request_body = SimulateClientEvent,
    responses(
        (status = 200, body = PublishedEvents),
        (status = 404),
        (status = 409, description = "The app is disabled"),
    ),
)]
pub(super) async fn simulate_client_event(
    State(state): State<AppState>,
    caller: Caller,
    PathParams(AppName { app_id }): PathParams<AppName>,
    body: Body<SimulateClientEvent>,
) -> Result<Json<PublishedEvents>, Problem> {
    caller.change(&app_id)?;
    let app = enabled_app(&state, &caller, &app_id).await?;
    let sent = body.value;
    let channel = channel_name(&app, &sent.channel)?;
    let socket_id = sent.socket_id.as_deref().map(SocketId::parse).transpose();
    let socket_id = socket_id.map_err(|error| Problem::invalid(format!("socket_id: {error}")))?;
    let simulated = SimulatedClientEvent {
        data: text_of(&sent.data)?,
        name: sent.name,
        channel: channel.clone(),
        socket_id,
        user_id: sent.user_id.as_deref().and_then(UserId::new),
    };
    let details = json!({"name": simulated.name, "channels": [channel.as_str()]});
    record(&state, &caller, &app, "event.simulate", &details).await?;
    let began = Instant::now();
    let done = state.engine.simulate_client_event(&app, simulated).await;
    done.map_err(|error| match error {
        SimulateError::Invalid(why) => Problem::invalid(why),
        SimulateError::Publish(error) => not_published(&error),
    })?;
    let took = began.elapsed();
    published(&state, &app, &[&channel], took).await
}

/// Returns an app that clients can use.
async fn enabled_app(state: &AppState, caller: &Caller, id: &str) -> Result<Arc<App>, Problem> {
    let app = live_app(state, caller, id).await?;
    if app.settings().enabled {
        return Ok(app);
    }
    Err(Problem::conflict(format!("the app {id:?} is disabled")))
}

/// Returns a payload as text: digits, order and escapes stay as the caller wrote them.
fn text_of(data: &RawValue) -> Result<String, Problem> {
    let text = match data.get() {
        "null" => return Err(Problem::invalid("Missing parameter: data")),
        _ => json::as_text(data),
    };
    let text = text.map_err(|error| Problem::invalid(format!("Invalid data: {error}")))?;
    Ok(text.into_owned())
}

async fn publish_all(
    state: &AppState,
    caller: &Caller,
    app: &Arc<App>,
    events: &[Event],
) -> Result<Json<PublishedEvents>, Problem> {
    let channels: Vec<_> = events.iter().flat_map(|event| &event.channels).collect();
    let names: Vec<_> = events.iter().map(|event| &event.name).collect();
    let channel_names: Vec<_> = channels.iter().map(|name| name.as_str()).collect();
    let details = match names[..] {
        [name] => json!({"name": name, "channels": channel_names}),
        _ => json!({"names": names, "channels": channel_names}),
    };
    record(state, caller, app, "event.publish", &details).await?;
    let began = Instant::now();
    let done = state
        .engine
        .publish_traced(app, events, None, state.traces.current())
        .await;
    done.map_err(|error| not_published(&error))?;
    let took = began.elapsed();
    published(state, app, &channels, took).await
}

/// Records what is about to be sent, because what can't be recorded isn't done.
async fn record(
    state: &AppState,
    caller: &Caller,
    app: &App,
    action: &str,
    details: &Value,
) -> Result<(), Problem> {
    let (by, id) = (&caller.actor, app.id().as_str());
    let store = &state.admin.store;
    Ok(store
        .record(by, action, "app", id, Some(id), details)
        .await?)
}

/// Returns what became of events on these channels.
async fn published(
    state: &AppState,
    app: &Arc<App>,
    channels: &[&ChannelName],
    took: Duration,
) -> Result<Json<PublishedEvents>, Problem> {
    let mut audiences = BTreeMap::new();
    for &channel in channels {
        if audiences.contains_key(channel.as_str()) {
            continue;
        }
        // The event is out, so the answer comes even if the others can't be asked.
        let subscribers = state.engine.channel(app, channel).await;
        let subscribers = subscribers.ok().map(|found| found.subscription_count);
        audiences.insert(channel.to_string(), Audience { subscribers });
    }
    Ok(Json(PublishedEvents {
        channels: audiences,
        took_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
    }))
}

fn refused(error: &BadRequest) -> Problem {
    Problem::invalid(error.to_string())
}

fn not_published(error: &PublishError) -> Problem {
    match error {
        PublishError::Bus(_) | PublishError::OverQuota(OverQuota::Unknown) => {
            Problem::unavailable(error.to_string())
        }
        PublishError::OverQuota(OverQuota::UsedUp(_)) => Problem::forbidden(error.to_string()),
        PublishError::OverRate { .. } => Problem::too_many(error.to_string(), 1),
    }
}
