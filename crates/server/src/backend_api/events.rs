//! `POST events` and `POST batch_events` (docs/http-api.md#publish, docs/http-api.md#publish-a-batch).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use fanfare_engine::{App, IdempotencyKey, PublishError, PublishOutcome};
use fanfare_protocol::ChannelName;
use fanfare_protocol::api::{Event, Info, NewEvent};
use fanfare_protocol::signature::body_md5;
use serde::{Deserialize, Serialize};
use tracing::Instrument;
use utoipa::{IntoParams, IntoResponses, ToSchema};

use super::auth::{SignedRequest, note_refusal};
use super::channels::{Attributes, attributes};
use crate::app_state::AppState;
use crate::http::error::ApiError;
use crate::traces::{PublishTrace, log_span};

/// The answer to a publish that asks for no attributes.
const NOTHING_ASKED: Bytes = Bytes::from_static(b"{}");

/// One event for up to 100 channels.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what fanfare_protocol::api reads")]
pub(crate) struct Trigger {
    /// The event's name.
    #[schema(example = "greeting", min_length = 1, max_length = 200)]
    name: String,
    /// The payload: a string as it is, anything else as its JSON text.
    #[schema(schema_with = crate::openapi::any_but_null)]
    data: String,
    /// The channel to publish to; this or `channels`.
    #[schema(example = "news")]
    channel: Option<String>,
    /// The channels to publish to.
    #[schema(example = json!(["news"]))]
    channels: Option<Vec<String>>,
    /// The connection that does not get the event.
    #[schema(example = "123.456", pattern = r"^([0-9]+\.[0-9]+)?$")]
    socket_id: Option<String>,
    /// The attributes of the channels to return: `subscription_count`, `user_count`, `cache`, separated by commas.
    #[schema(
        example = "subscription_count",
        pattern = "^ *((user_count|subscription_count|cache)? *(, *(user_count|subscription_count|cache)? *)*)$"
    )]
    info: Option<String>,
    /// Like the header `Idempotency-Key`.
    #[schema(example = "5f0c1f6e", min_length = 1, max_length = 255)]
    idempotency_key: Option<String>,
}

/// One event for one channel.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what fanfare_protocol::api reads")]
pub(crate) struct BatchTrigger {
    /// The event's name.
    #[schema(example = "greeting", min_length = 1, max_length = 200)]
    name: String,
    /// The payload: a string as it is, anything else but null as its JSON text.
    #[schema(schema_with = crate::openapi::any_but_null)]
    data: String,
    /// The channel to publish to.
    #[schema(example = "news")]
    channel: String,
    /// The connection that does not get the event.
    #[schema(example = "123.456", pattern = r"^([0-9]+\.[0-9]+)?$")]
    socket_id: Option<String>,
    /// The attributes of the channel to return: `subscription_count`, `user_count`, `cache`, separated by commas.
    #[schema(
        example = "subscription_count",
        pattern = "^ *((user_count|subscription_count|cache)? *(, *(user_count|subscription_count|cache)? *)*)$"
    )]
    info: Option<String>,
}

/// Up to ten events, each for one channel.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what fanfare_protocol::api reads")]
pub(crate) struct TriggerBatch {
    /// The events.
    #[schema(min_items = 1, max_items = 10)]
    batch: Vec<BatchTrigger>,
}

/// The header that makes a publish safe to repeat.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "describes what SignedRequest reads")]
struct IdempotencyHeader {
    /// Delivered once, however often it is sent within two minutes
    #[param(rename = "idempotency-key")]
    idempotency_key: Option<String>,
}

/// Why nothing was published, besides what is wrong with the request.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "describes the answers of PublishError")]
enum Unpublished {
    #[response(
        status = 403,
        description = "A quota of the app or of the installation is used up; the answer says which, and when it begins again"
    )]
    OverQuota,
    #[response(status = 429, description = "The app's limit of events per second")]
    OverRate,
    #[response(
        status = 503,
        description = "Overloaded, or cut off from the other nodes; nothing was published, unless the answer says that this is not known"
    )]
    Unavailable,
}

/// The requested attributes of the channels.
#[derive(Serialize, ToSchema)]
pub(crate) struct Published {
    /// The attributes that `info` requested, by channel; absent without `info`.
    #[schema(nullable = false, example = json!({"news": {"subscription_count": 3}}))]
    #[serde(skip_serializing_if = "Option::is_none")]
    channels: Option<BTreeMap<String, Attributes>>,
}

/// The requested attributes of each event's channel.
#[derive(Serialize, ToSchema)]
pub(crate) struct BatchPublished {
    /// The attributes that `info` requested, by event; absent without `info`.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    batch: Option<Vec<Attributes>>,
}

/// Publish an event
///
/// 200 means: it will be written, in each channel's order, to every subscriber whose connection stays open.
#[utoipa::path(
    post, path = "/apps/{app_id}/events", tag = "Backend", operation_id = "publish_event",
    params(
        ("app_id" = String, Path, description = "The app's id"),
        IdempotencyHeader,
    ),
    request_body = Trigger,
    responses(
        (status = 200, body = Published),
        Unpublished,
    ),
)]
pub(crate) async fn publish(
    State(state): State<AppState>,
    request: SignedRequest,
) -> Result<Response, ApiError> {
    PublishRequest::from(&request)
        .answer(&state, Endpoint::Events)
        .await
        .map(json)
}

fn json(answer: Bytes) -> Response {
    ([(CONTENT_TYPE, "application/json")], answer).into_response()
}

/// What a publish is sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// `POST events`.
    Events,
    /// `POST batch_events`.
    BatchEvents,
}

/// A publish whose signature and body were verified.
pub(crate) struct PublishRequest<'a> {
    pub(crate) app: &'a Arc<App>,
    pub(crate) body: &'a [u8],
    /// The header `Idempotency-Key`.
    pub(crate) idempotency_key: Option<&'a str>,
    /// Set if publishes are traced.
    pub(crate) trace: Option<&'a PublishTrace>,
    /// The backend's address, if it came over a network.
    pub(crate) address: Option<IpAddr>,
}

impl<'a> From<&'a SignedRequest> for PublishRequest<'a> {
    fn from(request: &'a SignedRequest) -> Self {
        Self {
            app: &request.app,
            body: &request.body,
            idempotency_key: request.idempotency_key.as_deref(),
            trace: request.trace.as_ref(),
            address: request.address,
        }
    }
}

impl PublishRequest<'_> {
    /// Publishes, and returns the JSON of the answer.
    ///
    /// # Errors
    ///
    /// Returns why nothing was published. The operator is told as well.
    pub(crate) async fn answer(
        &self,
        state: &AppState,
        endpoint: Endpoint,
    ) -> Result<Bytes, ApiError> {
        self.noted(state, async {
            match endpoint {
                Endpoint::Events => publish_one(state, self).await,
                Endpoint::BatchEvents => publish_several(state, self).await,
            }
        })
        .await
    }

    /// Waits for an answer, and tells the operator of a refusal. Log lines of a sampled request name its trace.
    async fn noted<T>(
        &self,
        state: &AppState,
        answered: impl Future<Output = Result<T, ApiError>>,
    ) -> Result<T, ApiError> {
        let answered = async {
            let answer = answered.await;
            answer.inspect_err(|error| note_refusal(state, self.app, self.address, error))
        };
        let context = self.trace.and_then(PublishTrace::context);
        match context {
            Some(_) => answered.instrument(log_span(context)).await,
            None => answered.await,
        }
    }

    /// Returns the key under which every node recognises the request when a backend sends it again, perhaps to
    /// another node.
    fn node_key(&self, key: Option<&str>) -> Option<IdempotencyKey> {
        key.map(|key| IdempotencyKey {
            key: key.to_owned(),
            digest: body_md5(self.body),
        })
    }
}

async fn publish_one(state: &AppState, request: &PublishRequest<'_>) -> Result<Bytes, ApiError> {
    let event = Event::parse(request.body, &request.app.settings().limits)?;
    let key = request.idempotency_key.or(event.idempotency_key.as_deref());
    let published = publish_event(state, request, &event, request.node_key(key));
    answer_once(state, request, key, published).await
}

/// Waits for `published` and answers with its result. With an idempotency key, a repeated request gets the first one's
/// answer and `published` isn't polled.
async fn answer_once(
    state: &AppState,
    request: &PublishRequest<'_>,
    key: Option<&str>,
    published: impl Future<Output = Result<Bytes, ApiError>>,
) -> Result<Bytes, ApiError> {
    match key {
        // Boxed, because few requests have a key, and its state is larger than the rest.
        Some(key) => {
            let once = state
                .idempotency
                .once(request.app, key, request.body, published);
            Box::pin(once).await
        }
        None => published.await,
    }
}

/// Publishes, and records that if it is sampled or slow.
async fn publish_traced(
    state: &AppState,
    request: &PublishRequest<'_>,
    events: &[Event],
    idempotency_key: Option<IdempotencyKey>,
) -> Result<PublishOutcome, PublishError> {
    let PublishRequest { app, trace, .. } = request;
    let context = trace.and_then(PublishTrace::context);
    let outcome = state
        .engine
        .publish_traced(app, events, idempotency_key, context)
        .await;
    if let Some(trace) = trace {
        let of = (&*state.engine, &***app);
        state.traces.record_publish(trace, of, events, &outcome);
    }
    outcome
}

async fn publish_event(
    state: &AppState,
    request: &PublishRequest<'_>,
    event: &Event,
    idempotency_key: Option<IdempotencyKey>,
) -> Result<Bytes, ApiError> {
    publish_traced(state, request, std::slice::from_ref(event), idempotency_key).await?;
    let Some(info) = event.info else {
        return Ok(NOTHING_ASKED);
    };
    let mut channels = BTreeMap::new();
    for channel in &event.channels {
        channels.insert(
            channel.to_string(),
            requested_attributes(state, request.app, channel, info).await,
        );
    }
    Ok(to_json(&Published {
        channels: Some(channels),
    }))
}

fn to_json(answer: &impl Serialize) -> Bytes {
    serde_json::to_vec(answer).expect("answers are JSON").into()
}

#[derive(Deserialize)]
pub(crate) struct ChannelPath {
    channel: String,
}

/// Publish an event, as older SDKs do
///
/// The body is the data, the rest is in the query.
#[utoipa::path(
    post, path = "/apps/{app_id}/channels/{channel}/events", tag = "Backend", operation_id = "publish_to_channel",
    params(
        ("app_id" = String, Path, description = "The app's id"),
        ("channel" = String, Path, description = "The channel's name"),
        ("name" = String, Query, description = "The event's name", min_length = 1, max_length = 200, example = "greeting"),
        ("socket_id" = Option<String>, Query, description = "The connection that does not get the event"),
    ),
    request_body(content = Option<serde_json::Value>, content_type = "application/json", description = "The event's data, whatever it is"),
    responses(
        (status = 202, description = "Published"),
        Unpublished,
    ),
)]
pub(crate) async fn publish_to_channel(
    State(state): State<AppState>,
    Path(ChannelPath { channel }): Path<ChannelPath>,
    request: SignedRequest,
) -> Result<StatusCode, ApiError> {
    let publish = PublishRequest::from(&request);
    publish
        .noted(&state, publish_body(&state, &request, channel))
        .await
}

async fn publish_body(
    state: &AppState,
    request: &SignedRequest,
    channel: String,
) -> Result<StatusCode, ApiError> {
    let data = std::str::from_utf8(&request.body)
        .map_err(|_| ApiError::new(400, "Invalid body: not UTF-8"))?;
    let name = request.parameter("name");
    let name = name.ok_or_else(|| {
        ApiError::new(
            400,
            "Missing parameter: name, which belongs in the query here, as the body is the data",
        )
    })?;
    let socket_id = request.parameter("socket_id");
    let event = Event::new(
        NewEvent {
            name: &name,
            data: data.into(),
            channels: vec![channel],
            socket_id: socket_id.as_deref(),
        },
        &request.app.settings().limits,
    )?;
    publish_traced(state, &request.into(), std::slice::from_ref(&event), None).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Publish up to ten events
#[utoipa::path(
    post, path = "/apps/{app_id}/batch_events", tag = "Backend", operation_id = "publish_events",
    params(
        ("app_id" = String, Path, description = "The app's id"),
        IdempotencyHeader,
    ),
    request_body = TriggerBatch,
    responses(
        (status = 200, body = BatchPublished),
        Unpublished,
    ),
)]
pub(crate) async fn publish_batch(
    State(state): State<AppState>,
    request: SignedRequest,
) -> Result<Response, ApiError> {
    PublishRequest::from(&request)
        .answer(&state, Endpoint::BatchEvents)
        .await
        .map(json)
}

async fn publish_several(
    state: &AppState,
    request: &PublishRequest<'_>,
) -> Result<Bytes, ApiError> {
    let events = Event::parse_batch(request.body, &request.app.settings().limits)?;
    let key = request.idempotency_key;
    let published = publish_events(state, request, &events, request.node_key(key));
    answer_once(state, request, key, published).await
}

async fn publish_events(
    state: &AppState,
    request: &PublishRequest<'_>,
    events: &[Event],
    idempotency_key: Option<IdempotencyKey>,
) -> Result<Bytes, ApiError> {
    publish_traced(state, request, events, idempotency_key).await?;
    if events.iter().all(|event| event.info.is_none()) {
        return Ok(NOTHING_ASKED);
    }
    let mut batch = Vec::with_capacity(events.len());
    for event in events {
        batch.push(match (event.info, event.channels.first()) {
            (Some(info), Some(channel)) => {
                requested_attributes(state, request.app, channel, info).await
            }
            _ => Attributes::default(),
        });
    }
    Ok(to_json(&BatchPublished { batch: Some(batch) }))
}

/// Returns those of the requested attributes that the channel has. Asking for others is no error here
/// (docs/http-api.md#publish). Neither is a lost connection to the other nodes, because the event is already published.
async fn requested_attributes(
    state: &AppState,
    app: &Arc<App>,
    channel: &ChannelName,
    info: Info,
) -> Attributes {
    let occupancy = state.engine.channel(app, channel).await;
    occupancy.map_or_else(|_| Attributes::default(), |found| attributes(&found, info))
}
