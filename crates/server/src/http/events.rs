//! `POST events` and `POST batch_events` (spec 4.4, 4.5).

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use fanfare_engine::App;
use fanfare_protocol::ChannelName;
use fanfare_protocol::api::{Event, Info};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::AppState;
use super::auth::SignedRequest;
use super::channels::{Attributes, attributes};
use super::error::ApiError;

#[derive(Serialize)]
struct Published {
    #[serde(skip_serializing_if = "Option::is_none")]
    channels: Option<BTreeMap<String, Attributes>>,
}

#[derive(Serialize)]
struct BatchPublished {
    #[serde(skip_serializing_if = "Option::is_none")]
    batch: Option<Vec<Attributes>>,
}

pub(crate) async fn publish(
    State(state): State<AppState>,
    request: SignedRequest,
) -> Result<Response, ApiError> {
    let event = Event::parse(&request.body, &request.app.settings().limits)?;
    let key = request
        .idempotency_key
        .as_ref()
        .or(event.idempotency_key.as_ref());
    answer_once(
        &state,
        &request,
        key,
        publish_event(&state, &request.app, &event),
    )
    .await
}

/// Publishes, once for an idempotency key if there is one.
async fn answer_once(
    state: &AppState,
    request: &SignedRequest,
    key: Option<&String>,
    published: impl Future<Output = Result<Bytes, ApiError>>,
) -> Result<Response, ApiError> {
    let answer = match key {
        Some(key) => {
            state
                .idempotency
                .once(&request.app, key, &request.body, published)
                .await?
        }
        None => published.await?,
    };
    Ok(([(CONTENT_TYPE, "application/json")], answer).into_response())
}

async fn publish_event(state: &AppState, app: &Arc<App>, event: &Event) -> Result<Bytes, ApiError> {
    state
        .engine
        .publish(app, std::slice::from_ref(event))
        .await?;
    let mut channels = None;
    if let Some(info) = event.info {
        let mut asked = BTreeMap::new();
        for channel in &event.channels {
            asked.insert(
                channel.to_string(),
                applicable(state, app, channel, info).await,
            );
        }
        channels = Some(asked);
    }
    Ok(to_json(&Published { channels }))
}

fn to_json(answer: &impl Serialize) -> Bytes {
    serde_json::to_vec(answer).expect("answers are JSON").into()
}

#[derive(Deserialize)]
pub(crate) struct ChannelPath {
    channel: String,
}

/// Deprecated, and called by older SDKs: the body is the data, the rest is in the query (spec 4.1).
pub(crate) async fn publish_to_channel(
    State(state): State<AppState>,
    Path(ChannelPath { channel }): Path<ChannelPath>,
    request: SignedRequest,
) -> Result<StatusCode, ApiError> {
    let data = std::str::from_utf8(&request.body)
        .map_err(|_| ApiError::new(400, "Invalid body: not UTF-8"))?;
    let fields = json!({
        "name": request.parameter("name"),
        "socket_id": request.parameter("socket_id"),
        "channel": channel,
        "data": data,
    });
    let event = Event::parse(
        fields.to_string().as_bytes(),
        &request.app.settings().limits,
    )?;
    state
        .engine
        .publish(&request.app, std::slice::from_ref(&event))
        .await?;
    Ok(StatusCode::ACCEPTED)
}

pub(crate) async fn publish_batch(
    State(state): State<AppState>,
    request: SignedRequest,
) -> Result<Response, ApiError> {
    let events = Event::parse_batch(&request.body, &request.app.settings().limits)?;
    let published = publish_events(&state, &request.app, &events);
    answer_once(
        &state,
        &request,
        request.idempotency_key.as_ref(),
        published,
    )
    .await
}

async fn publish_events(
    state: &AppState,
    app: &Arc<App>,
    events: &[Event],
) -> Result<Bytes, ApiError> {
    state.engine.publish(app, events).await?;
    let mut batch = None;
    if events.iter().any(|event| event.info.is_some()) {
        let mut answers = Vec::with_capacity(events.len());
        for event in events {
            answers.push(match (event.info, event.channels.first()) {
                (Some(info), Some(channel)) => applicable(state, app, channel, info).await,
                _ => Attributes::default(),
            });
        }
        batch = Some(answers);
    }
    Ok(to_json(&BatchPublished { batch }))
}

/// The attributes that the channel has; asking for others is no error here (spec 4.4).
async fn applicable(
    state: &AppState,
    app: &Arc<App>,
    channel: &ChannelName,
    info: Info,
) -> Attributes {
    attributes(&state.engine.channel(app, channel).await, info)
}
