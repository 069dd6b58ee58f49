//! Sends again what is in a webhook's log, and tries its receiver out.

use axum::Json;
use axum::extract::State;
use fanfare_protocol::WebhookEvent;
use fanfare_store::DeliveryFilter;
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::WebhookName;
use super::deliveries::{DeliveryStateName, check_channel, event_of, state_of};
use super::signing::{hook_of, oldest_key};
use crate::access::Caller;
use crate::admin::extract::{Body, PathParams};
use crate::admin::problem::Problem;
use crate::app_state::AppState;
use crate::clock::unix_millis;

/// Most deliveries that a request may name.
const MAX_SEQUENCES: usize = 100;

/// The deliveries to send again. At least one field must select some.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReplayRequest {
    /// These deliveries; at most 100, and without other fields.
    #[schema(min_items = 1, max_items = 100, example = json!([7]))]
    sequences: Option<Vec<i64>>,
    /// Those after this sequence number; 0 for all.
    #[schema(minimum = 0)]
    after: Option<i64>,
    /// Those before this sequence number.
    before: Option<i64>,
    /// Those in this state.
    #[schema(value_type = Option<DeliveryStateName>)]
    state: Option<String>,
    /// Those with an event of this name.
    #[schema(value_type = Option<WebhookEvent>)]
    event: Option<String>,
    /// Those with an event of this channel.
    #[schema(example = "presence-room-1")]
    channel: Option<String>,
    /// Those recorded at or after this Unix time in milliseconds.
    from: Option<i64>,
    /// Those recorded before this Unix time in milliseconds.
    to: Option<i64>,
    /// Only count them.
    #[serde(default)]
    #[schema(default = false)]
    dry_run: bool,
}

/// What is sent again, or would be.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
pub(crate) struct Replayed {
    /// How many deliveries.
    pub(crate) deliveries: i64,
    /// How many more are selected and left out, because they wait to be sent already.
    pub(crate) waiting: i64,
    /// Those of `sequences` that aren't in the log: they were never recorded, or were dropped with their day.
    pub(crate) unknown: Vec<i64>,
    /// Whether they were only counted.
    pub(crate) dry_run: bool,
    /// If the selection is larger than a request may look at: ask again with this as `after`.
    #[schema(required)]
    pub(crate) next: Option<i64>,
}

/// What to try a webhook's receiver with.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TestWebhook {
    /// The event to send an example of; without one, one of each that the webhook tells of.
    #[schema(value_type = Option<WebhookEvent>)]
    event: Option<String>,
}

/// How a receiver has answered an example.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct TestResult {
    /// The event.
    #[schema(value_type = WebhookEvent)]
    pub(crate) event: String,
    /// The status of the answer; `null` if there was none.
    #[schema(required, example = 200)]
    pub(crate) status: Option<u16>,
    /// How long the receiver took.
    pub(crate) milliseconds: u64,
    /// Why it failed, in words; `null` if it didn't.
    #[schema(required)]
    pub(crate) error: Option<String>,
    /// The beginning of the answer's body.
    pub(crate) answer: String,
}

/// How a receiver has answered examples.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct TestResults {
    /// One for each event.
    pub(crate) items: Vec<TestResult>,
}

impl ReplayRequest {
    /// Returns what is selected, as one or more filters.
    fn filters(&self) -> Result<Vec<DeliveryFilter>, Problem> {
        let event = self.event.as_deref().map(event_of).transpose()?;
        let filter = DeliveryFilter {
            after: self.after,
            before: self.before,
            state: self.state.as_deref().map(state_of).transpose()?,
            event: event.map(|event| event.to_string()),
            channel: self.channel.clone(),
            from: self.from,
            until: self.to,
        };
        let is_filtered = filter != DeliveryFilter::default();
        let Some(sequences) = &self.sequences else {
            if is_filtered {
                return Ok(vec![filter]);
            }
            return Err(Problem::invalid(
                "select deliveries with sequences, after, before, state, event, channel, from or to; {\"after\":0} selects all",
            ));
        };
        if is_filtered {
            return Err(Problem::invalid(
                "sequences select by themselves: leave out the other fields",
            ));
        }
        if !(1..=MAX_SEQUENCES).contains(&sequences.len()) {
            return Err(Problem::invalid(format!(
                "sequences must name 1 to {MAX_SEQUENCES} deliveries, not {}; select more with the other fields",
                sequences.len()
            )));
        }
        Ok(sequences
            .iter()
            .copied()
            .map(DeliveryFilter::of_sequence)
            .collect())
    }
}

/// Send deliveries again
///
/// They are queued as they were recorded, with the same ids, a fresh signature and the header `Fanfare-Replay`, also on a
/// disabled webhook. Needs the role admin. An app may be asked for this 60 times a minute on each node.
#[utoipa::path(
    post, path = "/apps/{app_id}/webhooks/{webhook_id}/replay", tag = "Webhooks", operation_id = "replay_deliveries",
    params(WebhookName),
    request_body = ReplayRequest,
    responses(
        (status = 200, body = Replayed),
        (status = 400, description = "Nothing is selected, or a field is invalid"),
        (status = 404, description = "There is no such webhook, or none of `sequences` is in its log"),
        (status = 409, description = "The webhook has no URL"),
        (status = 429, description = "Too many replays and tests of the app"),
    ),
)]
pub(in crate::admin) async fn replay(
    State(state): State<AppState>,
    caller: Caller,
    PathParams(WebhookName { app_id, webhook_id }): PathParams<WebhookName>,
    body: Body<ReplayRequest>,
) -> Result<Json<Replayed>, Problem> {
    caller.change(&app_id)?;
    let store = &state.admin.store;
    let webhook = store.webhook(&app_id, &webhook_id).await?;
    if webhook.url.is_none() {
        return Err(Problem::conflict(
            "the webhook has no URL to send to: its receiver can ask for old deliveries again, with after",
        ));
    }
    let filters = body.value.filters()?;
    for filter in &filters {
        check_channel(store, &app_id, filter).await?;
    }
    // There is a filter for each of them.
    let sequences = body.value.sequences.as_deref().unwrap_or_default();
    state.admin.webhook_limiter.check(&app_id)?;
    let dry_run = body.value.dry_run;
    let mut all = Replayed {
        dry_run,
        ..Replayed::default()
    };
    for (n, filter) in filters.iter().enumerate() {
        let (now, by) = (unix_millis(), &caller.actor);
        let found = store
            .replay_deliveries(&app_id, &webhook_id, filter, dry_run, now, by)
            .await?;
        all.deliveries += found.deliveries;
        all.waiting += found.waiting;
        all.next = found.next;
        if found.deliveries + found.waiting == 0 {
            all.unknown.extend(sequences.get(n));
        }
    }
    if !all.unknown.is_empty() && all.deliveries + all.waiting == 0 {
        return Err(none_known(&webhook_id, &all.unknown));
    }
    Ok(Json(all))
}

fn none_known(webhook_id: &str, sequences: &[i64]) -> Problem {
    let sequences: Vec<String> = sequences.iter().map(i64::to_string).collect();
    Problem::not_found(format!(
        "the webhook {webhook_id:?} has no delivery {} in its log: it was never recorded, or dropped with its day",
        sequences.join(", ")
    ))
}

/// Send a webhook's receiver examples
///
/// They are sent at once, whatever the webhook's state, and the answers are returned. They have the header `Fanfare-Test`,
/// and are neither recorded nor retried. Needs the role admin. An app may be asked for this 60 times a minute on each node.
#[utoipa::path(
    post, path = "/apps/{app_id}/webhooks/{webhook_id}/test", tag = "Webhooks", operation_id = "test_webhook",
    params(WebhookName),
    request_body = TestWebhook,
    responses(
        (status = 200, body = TestResults),
        (status = 400, description = "There is no such event"),
        (status = 404),
        (status = 409, description = "The webhook has no URL"),
        (status = 429, description = "Too many replays and tests of the app"),
    ),
)]
pub(in crate::admin) async fn test(
    State(state): State<AppState>,
    caller: Caller,
    PathParams(WebhookName { app_id, webhook_id }): PathParams<WebhookName>,
    body: Body<TestWebhook>,
) -> Result<Json<TestResults>, Problem> {
    caller.change(&app_id)?;
    let named = body.value.event.as_deref().map(event_of).transpose()?;
    let store = &state.admin.store;
    let webhook = store.webhook(&app_id, &webhook_id).await?;
    if webhook.url.is_none() {
        return Err(Problem::conflict(
            "the webhook has no URL to send to; try its receiver with fanfare webhook forward or check",
        ));
    }
    state.admin.webhook_limiter.check(&app_id)?;
    let hook = hook_of(webhook)?;
    let key = oldest_key(store, &app_id).await?;
    let events: Vec<WebhookEvent> = match named {
        Some(event) => vec![event],
        None => WebhookEvent::ALL
            .into_iter()
            .filter(|event| hook.tells_of(*event))
            .collect(),
    };
    let names: Vec<&str> = events.iter().map(|event| event.as_str()).collect();
    let (by, details) = (&caller.actor, json!({"events": names}));
    // Recorded first, because what can't be recorded isn't done.
    store
        .record(
            by,
            "webhook.test",
            "webhook",
            &webhook_id,
            Some(&app_id),
            &details,
        )
        .await?;
    let sent = events.iter().map(async |event| {
        let answer = state.webhooks.test(&hook, key.as_ref(), *event).await?;
        Some(TestResult {
            event: event.to_string(),
            status: answer.status,
            milliseconds: u64::try_from(answer.took.as_millis()).unwrap_or(u64::MAX),
            error: answer.error,
            answer: answer.text,
        })
    });
    let items = join_all(sent).await.into_iter().flatten().collect();
    Ok(Json(TestResults { items }))
}
