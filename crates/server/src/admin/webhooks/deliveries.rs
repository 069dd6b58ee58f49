//! A webhook's log: what was recorded for it, every attempt to send it, and what its receiver asks for.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use fanfare_protocol::{ChannelName, WebhookEvent};
use fanfare_store::{
    DeliveryAttempt, DeliveryFilter, DeliveryPage, DeliveryRecord, DeliveryState, Store,
    WebhookRecord,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::time::{Instant, timeout};
use utoipa::{IntoParams, ToSchema};

use super::WebhookName;
use super::signing::Signer;
use crate::access::Caller;
use crate::admin::extract::{PathParams, QueryParams};
use crate::admin::page::{PageQuery, cursor};
use crate::admin::problem::Problem;
use crate::app_state::AppState;
use crate::config::nearest;

/// Longest that a request waits for deliveries, in seconds. Proxies end requests after a minute.
const MAX_WAIT: u32 = 30;
/// How often a request that waits looks whether the node stops.
const LOOK_PERIOD: Duration = Duration::from_secs(1);

/// What became of a delivery.
#[derive(ToSchema)]
#[schema(as = DeliveryState, rename_all = "lowercase")]
#[expect(
    dead_code,
    reason = "describes `DeliveryState`, which knows nothing of HTTP"
)]
pub(crate) enum DeliveryStateName {
    /// It waits to be sent, for the first time or again.
    Waiting,
    /// The receiver has it.
    Delivered,
    /// It was given up.
    Failed,
    /// It is kept until the receiver asks for it.
    Kept,
}

/// A request as it would be sent at this moment, signed.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct DeliveryRequest {
    /// Its headers, with lowercase names. Those that were set for the webhook are only there for callers with the role
    /// admin, because they may be credentials.
    #[schema(example = json!({"content-type": "application/json", "fanfare-delivery": "wh_9e3f7a10c5d8b2461f7e_7"}))]
    pub(crate) headers: BTreeMap<String, String>,
    /// Its body, to which the signatures belong: pass it on byte by byte.
    #[schema(
        example = r#"{"time_ms":1767225600000,"events":[{"name":"channel_occupied","channel":"news"}]}"#
    )]
    pub(crate) body: String,
}

/// What was recorded for one request.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Delivery {
    /// Its id, which receivers get in `Fanfare-Delivery`. It is the same for each attempt and each replay.
    #[schema(example = "wh_9e3f7a10c5d8b2461f7e_7")]
    pub(crate) id: String,
    /// Its sequence number. Those of a webhook are counted from 1 without gaps.
    #[schema(example = 7)]
    pub(crate) sequence: i64,
    /// When it was recorded, Unix time in milliseconds.
    pub(crate) created_at: i64,
    /// What became of it.
    #[schema(value_type = DeliveryStateName)]
    #[serde(with = "state_name")]
    pub(crate) state: DeliveryState,
    /// Names of its events, each once.
    #[schema(value_type = Vec<WebhookEvent>)]
    pub(crate) names: Vec<String>,
    /// The channel, if all its events are of one.
    #[schema(required)]
    pub(crate) channel: Option<String>,
    /// Its events, as receivers get them.
    #[schema(value_type = Vec<Object>, example = json!([{"name": "channel_occupied", "channel": "news"}]))]
    pub(crate) events: Box<RawValue>,
    /// Attempts so far.
    pub(crate) attempt_count: i64,
    /// When it was delivered or given up, Unix time in milliseconds.
    #[schema(required)]
    pub(crate) finished_at: Option<i64>,
    /// The request, if deliveries `after` a sequence number were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) request: Option<DeliveryRequest>,
}

/// An attempt to send a delivery.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Attempt {
    /// Its number, from 1 on.
    pub(crate) attempt: i64,
    /// When it began, Unix time in milliseconds.
    pub(crate) at: i64,
    /// How long the receiver took.
    pub(crate) milliseconds: i64,
    /// The status of the answer; `null` if there was none.
    #[schema(required, example = 503)]
    pub(crate) status: Option<i64>,
    /// Why it failed, in words; `null` if it didn't.
    #[schema(required, example = "it answers 503 Service Unavailable")]
    pub(crate) error: Option<String>,
    /// The beginning of the answer's body.
    #[schema(required)]
    pub(crate) answer: Option<String>,
    /// The node that made it.
    pub(crate) node: String,
    /// Whether it was one of a replay.
    pub(crate) is_replay: bool,
}

/// A delivery with the attempts to send it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeliveryWithAttempts {
    /// The delivery.
    #[serde(flatten)]
    pub(crate) delivery: Delivery,
    /// Its attempts, oldest first; of more than 200 the last ones.
    pub(crate) attempts: Vec<Attempt>,
}

/// A page of the log.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct DeliveryList {
    /// The deliveries. A page may be empty although others follow, because a filter looks at a part of the log at a time.
    pub(crate) items: Vec<Delivery>,
    /// The cursor of the next page; `null` if this is the last one.
    #[schema(required)]
    pub(crate) next_cursor: Option<String>,
    /// The sequence number up to which the log was looked at: a receiver asks for those `after` it next.
    pub(crate) position: i64,
    /// The oldest sequence number that is kept; `null` if there is none. What is older was dropped.
    #[schema(required)]
    pub(crate) oldest: Option<i64>,
}

/// The deliveries to return; all of them without a filter.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct DeliveryQuery {
    /// The deliveries after this sequence number, oldest first, with their requests; 0 for all.
    #[param(minimum = 0)]
    after: Option<i64>,
    /// The deliveries before this sequence number.
    before: Option<i64>,
    /// The deliveries in this state.
    #[param(value_type = Option<DeliveryStateName>)]
    state: Option<String>,
    /// The deliveries with an event of this name.
    #[param(value_type = Option<WebhookEvent>)]
    event: Option<String>,
    /// The deliveries with an event of this channel.
    channel: Option<String>,
    /// The deliveries recorded at or after this Unix time in milliseconds.
    from: Option<i64>,
    /// The deliveries recorded before this Unix time in milliseconds.
    to: Option<i64>,
    /// Seconds to wait if there is nothing after `after` yet.
    #[param(minimum = 0, maximum = 30, default = 0)]
    wait: Option<u32>,
}

/// A delivery of a webhook.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct DeliveryName {
    /// The app's id.
    app_id: String,
    /// The webhook's id.
    webhook_id: String,
    /// The delivery's sequence number.
    #[param(minimum = 1, example = 7)]
    sequence: i64,
}

/// Writes and reads the state as its name.
mod state_name {
    use fanfare_store::DeliveryState;
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(
        state: &DeliveryState,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.serialize_str(state.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<DeliveryState, D::Error> {
        let name = String::deserialize(from)?;
        name.parse().map_err(de::Error::custom)
    }
}

/// Returns the state that a filter names.
pub(super) fn state_of(name: &str) -> Result<DeliveryState, Problem> {
    name.parse()
        .map_err(|error| Problem::invalid(format!("state: {error}")))
}

/// Returns the event that a filter or a test names.
pub(super) fn event_of(name: &str) -> Result<WebhookEvent, Problem> {
    let all = WebhookEvent::ALL.map(WebhookEvent::as_str);
    name.parse().map_err(|()| {
        let hint = match nearest(name, all.into_iter()) {
            Some(near) => format!("did you mean {near}?"),
            None => format!("there are {}", all.join(", ")),
        };
        Problem::invalid(format!("event: no event is called {name:?}; {hint}"))
    })
}

/// Checks that the channel that a filter names is one that the app can have.
pub(super) async fn check_channel(
    store: &Store,
    app_id: &str,
    filter: &DeliveryFilter,
) -> Result<(), Problem> {
    let Some(name) = &filter.channel else {
        return Ok(());
    };
    let max = store.app(app_id).await?.settings.limits.channel_name;
    let wrong = |error| Problem::invalid(format!("channel {name:?}: {error}"));
    ChannelName::parse(name, max).map(drop).map_err(wrong)
}

impl DeliveryQuery {
    fn filter(&self) -> Result<DeliveryFilter, Problem> {
        if self.after.is_some_and(|after| after < 0) {
            return Err(Problem::invalid(
                "after must be a sequence number, or 0 for all",
            ));
        }
        let event = self.event.as_deref().map(event_of).transpose()?;
        Ok(DeliveryFilter {
            after: self.after,
            before: self.before,
            state: self.state.as_deref().map(state_of).transpose()?,
            event: event.map(|event| event.to_string()),
            channel: self.channel.clone(),
            from: self.from,
            until: self.to,
        })
    }

    /// Returns until when the request waits for deliveries.
    fn deadline(&self) -> Result<Instant, Problem> {
        let wait = self.wait.unwrap_or_default();
        if wait > MAX_WAIT {
            return Err(Problem::invalid(format!(
                "wait must be 0 to {MAX_WAIT} seconds, not {wait}"
            )));
        }
        if wait > 0 && self.after.is_none() {
            return Err(Problem::invalid(
                "wait needs after: the sequence number after which deliveries are waited for",
            ));
        }
        Ok(Instant::now() + Duration::from_secs(wait.into()))
    }
}

impl Delivery {
    fn new(webhook_id: &str, record: DeliveryRecord) -> Self {
        // What isn't JSON was never written; an empty list is better than an answer that isn't JSON either.
        let events = RawValue::from_string(record.events);
        let none = || RawValue::from_string("[]".into()).expect("a list is JSON");
        Self {
            id: format!("{webhook_id}_{}", record.sequence),
            sequence: record.sequence,
            created_at: record.created_at,
            state: record.state,
            names: record.names.split(' ').map(str::to_owned).collect(),
            channel: record.channel,
            events: events.unwrap_or_else(|_| none()),
            attempt_count: record.attempts,
            finished_at: record.finished_at,
            request: None,
        }
    }
}

impl From<DeliveryAttempt> for Attempt {
    fn from(attempt: DeliveryAttempt) -> Self {
        Self {
            attempt: attempt.attempt,
            at: attempt.at,
            milliseconds: attempt.milliseconds,
            status: attempt.status,
            error: attempt.error,
            answer: attempt.answer.filter(|answer| !answer.is_empty()),
            node: attempt.node,
            is_replay: attempt.is_replay,
        }
    }
}

/// List a webhook's deliveries, newest first
///
/// With `after`, deliveries come oldest first and with their requests, freshly signed, so that a receiver can ask for what
/// it missed and verify it. `wait` answers as soon as there is one.
#[utoipa::path(
    get, path = "/apps/{app_id}/webhooks/{webhook_id}/deliveries", tag = "Webhooks", operation_id = "list_deliveries",
    params(WebhookName, DeliveryQuery, PageQuery),
    responses(
        (status = 200, body = DeliveryList),
        (status = 404),
        (status = 429, description = "Too many requests wait for deliveries"),
    ),
)]
pub(in crate::admin) async fn list(
    State(state): State<AppState>,
    caller: Caller,
    PathParams(WebhookName { app_id, webhook_id }): PathParams<WebhookName>,
    QueryParams(query): QueryParams<DeliveryQuery>,
    QueryParams(page): QueryParams<PageQuery>,
) -> Result<Json<DeliveryList>, Problem> {
    caller.see(&app_id)?;
    let limit = page.limit()?;
    let mut filter = query.filter()?;
    let deadline = query.deadline()?;
    if let Some(position) = page.after::<i64>()? {
        match filter.after {
            Some(_) => filter.after = Some(position),
            None => filter.before = Some(position),
        }
    }
    let webhook = state.admin.store.webhook(&app_id, &webhook_id).await?;
    check_channel(&state.admin.store, &app_id, &filter).await?;
    let found = read_or_wait(&state, &webhook_id, &mut filter, limit, deadline).await?;
    let next_cursor = found.has_more.then(|| cursor(&found.position));
    let signer = match filter.after {
        Some(_) => {
            let shows_headers = caller.change(&app_id).is_ok();
            Some(Signer::read(&state, webhook, shows_headers).await?)
        }
        None => None,
    };
    let mut items = Vec::with_capacity(found.deliveries.len());
    for record in found.deliveries {
        let request = match &signer {
            Some(signer) => Some(signer.sign(&record)?),
            None => None,
        };
        items.push(Delivery {
            request,
            ..Delivery::new(&webhook_id, record)
        });
    }
    Ok(Json(DeliveryList {
        items,
        next_cursor,
        position: found.position,
        oldest: found.oldest,
    }))
}

/// Reads a page, and waits until the deadline while there is nothing that could be on it.
async fn read_or_wait(
    state: &AppState,
    webhook_id: &str,
    filter: &mut DeliveryFilter,
    limit: usize,
    deadline: Instant,
) -> Result<DeliveryPage, Problem> {
    let store = &state.admin.store;
    // A process without a node is never ready, and never stops.
    let was_ready = state.ready.load(Ordering::Relaxed);
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    loop {
        let page = store.webhook_deliveries(webhook_id, filter, limit).await?;
        if !page.deliveries.is_empty() || page.has_more || Instant::now() >= deadline {
            return Ok(page);
        }
        // What didn't match isn't looked at again.
        filter.after = Some(page.position);
        let mut waiting = state.admin.pulls.watch(store, webhook_id)?;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let is_stopping = was_ready && !state.ready.load(Ordering::Relaxed);
            if left.is_zero() || is_stopping {
                return Ok(page);
            }
            match timeout(left.min(LOOK_PERIOD), waiting.beyond(page.position)).await {
                Ok(true) => break,
                Ok(false) => {
                    let gone = format!("there is no webhook {webhook_id:?} any more");
                    return Err(Problem::not_found(gone));
                }
                Err(_) => {}
            }
        }
    }
}

/// Show a delivery, with every attempt to send it
#[utoipa::path(
    get, path = "/apps/{app_id}/webhooks/{webhook_id}/deliveries/{sequence}", tag = "Webhooks", operation_id = "show_delivery",
    params(DeliveryName),
    responses(
        (status = 200, body = DeliveryWithAttempts),
        (status = 404, description = "There is no such delivery, or it was dropped from the log"),
    ),
)]
pub(in crate::admin) async fn show(
    State(state): State<AppState>,
    caller: Caller,
    PathParams(name): PathParams<DeliveryName>,
) -> Result<Json<DeliveryWithAttempts>, Problem> {
    let DeliveryName {
        app_id,
        webhook_id,
        sequence,
    } = name;
    caller.see(&app_id)?;
    let store = &state.admin.store;
    let WebhookRecord { id, .. } = store.webhook(&app_id, &webhook_id).await?;
    let found = store.webhook_delivery(&id, sequence).await?;
    let none = || {
        Problem::not_found(format!(
            "the webhook {id:?} has no delivery {sequence} in its log: it was never recorded, or dropped with its day"
        ))
    };
    let found = found.ok_or_else(none)?;
    Ok(Json(DeliveryWithAttempts {
        delivery: Delivery::new(&id, found.delivery),
        attempts: found.attempts.into_iter().map(Attempt::from).collect(),
    }))
}
