//! Live events of an app, as server-sent events.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::HeaderName;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use fanfare_engine::{LiveKind, LiveOpenError, LiveQuery, MAX_RECENT};
use fanfare_store::{Actor, AuditFilter, AuditRecord, Role};
use futures_util::stream;
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use self::console::Console;
use super::apps::{AppName, live_app};
use super::extract::{PathParams, QueryParams};
use super::problem::Problem;
use crate::access::Caller;
use crate::app_state::AppState;
use crate::clock::unix_millis;

mod console;

/// The audit log's name of an opened console.
const OPENING: &str = "console.open";
/// Time within which a console that is opened again is not recorded again.
const OPENING_PERIOD: Duration = Duration::from_secs(60 * 60);
/// Lines a second, if the caller doesn't say how many, and the most.
const RATE: u32 = 50;
const MAX_RATE: u32 = 200;
/// Kept lines that come first, if the caller doesn't say how many.
const RECENT: usize = 200;
/// Seconds after which a caller is to try again if the app has too many viewers.
const RETRY_AFTER: u64 = 10;

/// The live events to send; all of them without a filter.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct LiveParams {
    /// Kinds, with commas between them: `connected`, `disconnected`, `signed_in`, `subscribed`, `unsubscribed`,
    /// `client_event`, `publish`, `cache_miss`, `occupied`, `vacated`, `member_added`, `member_removed`, `webhook`,
    /// `refused`.
    #[param(example = "publish,refused", pattern = "^([a-z_]+(,[a-z_]+)*)?$")]
    kinds: Option<String>,
    /// A pattern of channels: `*` stands for any characters.
    #[param(example = "private-*", max_length = 200)]
    channel: Option<String>,
    /// A pattern of names of events: `*` stands for any characters.
    #[param(example = "client-*", max_length = 200)]
    event: Option<String>,
    /// A user.
    user_id: Option<String>,
    /// A connection.
    #[param(example = "123.456", pattern = r"^(\d{1,10}\.\d{1,10})?$")]
    socket_id: Option<String>,
    /// A text within the data or the reason. Data that the caller doesn't see isn't searched.
    #[param(max_length = 200)]
    text: Option<String>,
    /// The most lines a second, 50 without it.
    #[param(minimum = 1, maximum = 200)]
    rate: Option<u32>,
    /// The most lines that were kept from before and come first, 200 without it.
    #[param(minimum = 0, maximum = 1000)]
    recent: Option<usize>,
    /// `false` to end after the lines that were kept.
    follow: Option<bool>,
}

/// The name of a server-sent event.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "describes what `Console` writes")]
pub(crate) enum ServerEventName {
    /// `payloads`: whether data is shown; `payloads_hidden_because`; `nodes`: how many nodes are seen.
    Hello,
    /// A live event.
    Line,
    /// `count`: how many lines matched and were left out.
    More,
    /// `reason`: why the answer ends.
    End,
}

/// A server-sent event.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what `Console` writes")]
pub(crate) struct ServerEvent {
    /// What it is.
    event: ServerEventName,
    /// A JSON object.
    #[schema(example = r#"{"count":12}"#)]
    data: String,
}

impl LiveParams {
    fn rate(&self) -> Result<u32, Problem> {
        let rate = self.rate.unwrap_or(RATE);
        match (1..=MAX_RATE).contains(&rate) {
            true => Ok(rate),
            false => Err(Problem::invalid(format!(
                "rate must be 1 to {MAX_RATE} lines a second, it is {rate}"
            ))),
        }
    }

    fn recent(&self) -> Result<usize, Problem> {
        let recent = self.recent.unwrap_or(RECENT);
        match recent <= MAX_RECENT {
            true => Ok(recent),
            false => Err(Problem::invalid(format!(
                "recent must be 0 to {MAX_RECENT} lines, it is {recent}"
            ))),
        }
    }

    fn query(self, payloads: bool) -> Result<LiveQuery, Problem> {
        let kind = |name: &str| {
            name.parse().map_err(|()| {
                let names = LiveKind::ALL.map(LiveKind::as_str).join(", ");
                Problem::invalid(format!(
                    "kinds: there is no kind {name:?}; there are {names}"
                ))
            })
        };
        // A form sends its empty fields as well.
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        let kinds = given(self.kinds);
        let kinds = kinds
            .as_deref()
            .map(|kinds| kinds.split(',').map(kind).collect());
        Ok(LiveQuery {
            kinds: kinds.transpose()?.unwrap_or_default(),
            channel: given(self.channel),
            event: given(self.event),
            user_id: given(self.user_id),
            socket_id: given(self.socket_id),
            text: given(self.text),
            payloads,
        })
    }
}

/// Watch an app's live events
///
/// Server-sent events until the caller disconnects: `hello`; a `line` for each event, first those that were kept;
/// `more` with the `count` of lines that matched and were left out; and `end` with a `reason`. Every role sees names
/// and sizes, admins and owners see data as well. Each call is in the audit log.
#[utoipa::path(
    get, path = "/apps/{app_id}/events/live", tag = "State", operation_id = "watch_live_events",
    params(AppName, LiveParams),
    responses(
        (status = 200, body = ServerEvent, content_type = "text/event-stream"),
        (status = 404),
        (status = 429, description = "The app or the caller has as many viewers on this node as there may be"),
    ),
)]
pub(super) async fn watch(
    State(state): State<AppState>,
    caller: Caller,
    PathParams(AppName { app_id }): PathParams<AppName>,
    QueryParams(params): QueryParams<LiveParams>,
) -> Result<Response, Problem> {
    let app = live_app(&state, &caller, &app_id).await?;
    let (rate, recent) = (params.rate()?, params.recent()?);
    let follows = params.follow.unwrap_or(true);
    let query = params.query(caller.role() >= Role::Admin)?;
    // An operator's tokens count with the operator.
    let watcher = caller.operator_id.as_ref().or(caller.actor.id.as_ref());
    let watcher = watcher.map(String::as_str).unwrap_or_default();
    let opened = state.engine.watch_live(&app, watcher, &query, rate, recent);
    let viewer = opened.map_err(|error| match error {
        LiveOpenError::Invalid(rule) => Problem::invalid(rule),
        LiveOpenError::TooMany | LiveOpenError::TooManyOfCaller => {
            Problem::too_many(error.to_string(), RETRY_AFTER)
        }
    })?;
    // Recorded first, because what can't be recorded isn't done.
    let details = json!({
        "payloads": query.payloads,
        "kinds": query.kinds,
        "channel": query.channel,
        "event": query.event,
        "user_id": query.user_id,
        "socket_id": query.socket_id,
        "text": query.text,
    });
    record_opening(&state, &caller.actor, app_id.as_str(), &details).await?;
    let console = Console::new(state, caller, viewer, query.payloads, follows);
    let parts = stream::unfold(console, async |mut console| {
        let part = console.next().await?;
        Some((
            Ok::<_, std::convert::Infallible>(Bytes::from(part)),
            console,
        ))
    });
    let headers = [
        (CONTENT_TYPE, "text/event-stream"),
        (CACHE_CONTROL, "no-store"),
        // nginx would keep lines back until a buffer is full.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    Ok((headers, Body::from_stream(parts)).into_response())
}

/// Records that a caller opens a console, unless the same was recorded within [`OPENING_PERIOD`]: a page opens its stream
/// again with each change of a filter, and the log would hold little else.
async fn record_opening(
    state: &AppState,
    by: &Actor,
    app_id: &str,
    details: &Value,
) -> Result<(), Problem> {
    let store = &state.admin.store;
    if by.id.is_some() {
        let last = AuditFilter {
            app: Some(app_id.to_owned()),
            actor_id: by.id.clone(),
            action: Some(OPENING.into()),
            since: Some(unix_millis() - OPENING_PERIOD.as_millis() as i64),
            ..AuditFilter::default()
        };
        let recorded = store.audit(&last, 1).await?;
        let is_same = |last: &AuditRecord| {
            last.actor.address == by.address && last.details["payloads"] == details["payloads"]
        };
        if recorded.first().is_some_and(is_same) {
            return Ok(());
        }
    }
    store
        .record(by, OPENING, "app", app_id, Some(app_id), details)
        .await?;
    Ok(())
}
