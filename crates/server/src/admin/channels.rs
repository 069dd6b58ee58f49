//! The occupied channels of an app, and their members.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use fanfare_engine::{App, HistoryAnswer, HistoryQuery, Occupancy, Recorded};
use fanfare_protocol::{ChannelName, HistoryPosition, HistoryRule, UserId};
use fanfare_store::Role;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::apps::{AppName, live_app};
use super::connections::{self, ConnectionList};
use super::extract::{PathParams, QueryParams};
use super::page::{Page, PageQuery};
use super::problem::Problem;
use crate::access::Caller;
use crate::app_state::AppState;
use crate::clock::unix_millis;
use crate::nodes::Filter;

/// Most events from whose times a pace is taken.
const PACE_EVENTS: usize = 20;

/// An occupied channel.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Channel {
    /// Its name.
    #[schema(example = "presence-room-1")]
    pub(crate) name: String,
    /// Subscribed connections.
    pub(crate) subscription_count: usize,
    /// Distinct users, on presence channels.
    #[schema(required)]
    pub(crate) user_count: Option<usize>,
}

/// A channel as it is now.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct ChannelDetails {
    #[serde(flatten)]
    pub(crate) channel: Channel,
    /// The event that a cache channel keeps; `null` if it keeps none.
    #[schema(required)]
    pub(crate) cache: Option<KeptEvent>,
    /// The channel's history; `null` if it keeps none.
    #[schema(required)]
    pub(crate) history: Option<ChannelHistory>,
    /// Events of the last minute, or at the pace of the last 20 if those are younger. `null` without a history.
    #[schema(required)]
    pub(crate) events_per_minute: Option<f64>,
}

/// The event that a cache channel keeps.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct KeptEvent {
    /// Its name.
    #[schema(example = "greeting")]
    pub(crate) event: String,
    /// Its data; `null` for those who may not see it.
    #[schema(required)]
    pub(crate) data: Option<String>,
    /// Bytes of its data.
    pub(crate) data_bytes: usize,
    /// Until when it is kept, Unix time in milliseconds.
    pub(crate) expires_at: i64,
}

/// A channel's history.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = HistoryState)]
pub(crate) struct ChannelHistory {
    /// The rule by which it is kept.
    pub(crate) rule: HistoryRule,
    /// The position of the oldest event that is kept; `null` if none is.
    #[schema(required, example = "5f0c1f6e:12")]
    pub(crate) oldest: Option<String>,
    /// The newest position.
    #[schema(example = "5f0c1f6e:42")]
    pub(crate) newest: String,
    /// When the newest event was published, Unix time in milliseconds; `null` if none is kept.
    #[schema(required)]
    pub(crate) newest_at: Option<u64>,
}

/// A page of a channel's history.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = HistoryPage)]
pub(crate) struct HistoryEvents {
    /// The events: the newest first, or the oldest where `after` was given.
    pub(crate) items: Vec<HistoryItem>,
    /// The history's newest position: later events come after it.
    #[schema(example = "5f0c1f6e:42")]
    pub(crate) position: String,
    /// Whether there is more in this direction: pass the last position as `before`, or as `after`.
    pub(crate) more: bool,
    /// Why `data` is `null` everywhere; `null` if it isn't.
    #[schema(required)]
    pub(crate) data_hidden_because: Option<String>,
}

/// An event of a channel's history.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct HistoryItem {
    /// Its position.
    #[schema(example = "5f0c1f6e:41")]
    pub(crate) position: String,
    /// Its name.
    #[schema(example = "greeting")]
    pub(crate) event: String,
    /// Its data; `null` for those who may not see it.
    #[schema(required)]
    pub(crate) data: Option<String>,
    /// Bytes of its data.
    pub(crate) data_bytes: usize,
    /// The user who sent it, for client events on presence channels.
    #[schema(required)]
    pub(crate) user_id: Option<String>,
    /// The connection that the publisher left out.
    #[schema(required)]
    pub(crate) except: Option<String>,
    /// When it was published, Unix time in milliseconds.
    pub(crate) time_ms: u64,
}

/// A user on a presence channel.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Member {
    /// The user's id.
    pub(crate) user_id: String,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ChannelQuery {
    /// The prefix of their names.
    prefix: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct ChannelPath {
    /// The app's id.
    app_id: String,
    /// The channel's name.
    channel: String,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct HistoryParams {
    /// Events after this position, the oldest first; 0 for all that are kept.
    after: Option<String>,
    /// Events before this position, the newest first. By default from the newest.
    before: Option<String>,
    /// Most events of a page.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u16>,
}

impl HistoryItem {
    fn of(event: Recorded, shows_data: bool) -> Self {
        Self {
            position: event.position.to_string(),
            event: event.name.to_string(),
            data_bytes: event.data.len(),
            data: shows_data.then(|| event.data.to_string()),
            user_id: event.user_id.map(|user| user.to_string()),
            except: event.except.map(|id| id.to_string()),
            time_ms: event.time,
        }
    }
}

/// Returns why the caller may not see what events say, if so.
fn data_hidden(caller: &Caller) -> Option<String> {
    let role = caller.role();
    (role < Role::Admin)
        .then(|| format!("what events say needs the role admin, and yours is {role}"))
}

impl HistoryParams {
    fn query(&self, count: usize) -> Result<HistoryQuery, Problem> {
        let position = |name: &str, text: &String| {
            HistoryPosition::parse(text).ok_or_else(|| {
                Problem::invalid(format!(
                    "{name}: {text:?} is no position; pass one that came with an event"
                ))
            })
        };
        match (&self.after, &self.before) {
            (Some(_), Some(_)) => Err(Problem::invalid("pass after or before, not both")),
            (Some(zero), None) if zero == "0" => Ok(HistoryQuery::Forward(None, count)),
            (Some(after), None) => Ok(HistoryQuery::Forward(
                Some(position("after", after)?),
                count,
            )),
            (None, before) => {
                let before = before.as_ref().map(|before| position("before", before));
                Ok(HistoryQuery::Backward(before.transpose()?, count))
            }
        }
    }
}

async fn read_history(
    state: &AppState,
    app: &Arc<App>,
    channel: &ChannelName,
    query: HistoryQuery,
) -> Result<HistoryAnswer, Problem> {
    let answer = state.engine.history(app, channel, query).await;
    answer.map_err(|error| {
        Problem::unavailable(format!(
            "the history is not known now: {error}; try again later"
        ))
    })
}

/// Returns the state of a channel's history, and the events of a minute, if it keeps one.
async fn history_state(
    state: &AppState,
    app: &Arc<App>,
    channel: &ChannelName,
) -> Result<Option<(ChannelHistory, f64)>, Problem> {
    let settings = app.settings();
    let Some(rule) = settings.history_of(channel.as_str()) else {
        return Ok(None);
    };
    let newest = read_history(
        state,
        app,
        channel,
        HistoryQuery::Backward(None, PACE_EVENTS),
    )
    .await?;
    let oldest = read_history(state, app, channel, HistoryQuery::Forward(None, 1)).await?;
    let oldest = oldest.events.unwrap_or_default().into_iter().next();
    let events = newest.events.unwrap_or_default();
    let times: Vec<u64> = events.iter().map(|event| event.time).collect();
    let history = ChannelHistory {
        rule: rule.clone(),
        oldest: oldest.map(|event| event.position.to_string()),
        newest: newest.position.to_string(),
        newest_at: times.first().copied(),
    };
    Ok(Some((history, per_minute(&times, unix_millis()))))
}

/// Returns the events of a minute, from the times of the newest ones.
fn per_minute(times: &[u64], now: i64) -> f64 {
    let minute = 60_000.0;
    let age = |time: &u64| now.saturating_sub_unsigned(*time).max(1) as f64;
    match times.last() {
        Some(oldest) if times.len() >= PACE_EVENTS && age(oldest) < minute => {
            times.len() as f64 * minute / age(oldest)
        }
        _ => times.iter().filter(|time| age(time) < minute).count() as f64,
    }
}

/// Reads a channel's name.
pub(super) fn channel_name(app: &App, name: &str) -> Result<ChannelName, Problem> {
    let max = app.settings().limits.channel_name;
    ChannelName::parse(name, max)
        .map_err(|error| Problem::invalid(format!("the channel {name:?}: {error}")))
}

fn view(name: &ChannelName, occupancy: Occupancy) -> Channel {
    Channel {
        name: name.to_string(),
        subscription_count: occupancy.subscription_count,
        user_count: occupancy.user_count,
    }
}

/// List an app's occupied channels, by name
#[utoipa::path(
    get, path = "/apps/{app_id}/channels", tag = "State", operation_id = "list_occupied_channels",
    params(AppName, ChannelQuery, PageQuery),
    responses(
        (status = 200, body = Page<Channel>),
        (status = 404),
    ),
)]
pub(super) async fn channels(
    State(state): State<AppState>,
    caller: Caller,
    PathParams(AppName { app_id }): PathParams<AppName>,
    QueryParams(ChannelQuery { prefix }): QueryParams<ChannelQuery>,
    QueryParams(page): QueryParams<PageQuery>,
) -> Result<Json<Page<Channel>>, Problem> {
    let app = live_app(&state, &caller, &app_id).await?;
    let (limit, after) = (page.limit()?, page.after::<String>()?);
    let prefix = prefix.unwrap_or_default();
    let found = state.engine.channels(&app, &prefix).await?;
    let rest = found.into_iter().filter(|(name, _)| {
        after
            .as_ref()
            .is_none_or(|after| name.as_str() > after.as_str())
    });
    // One item beyond the page shows whether there are more.
    let rest: Vec<_> = rest.take(limit + 1).collect();
    let view = |(name, occupancy): (ChannelName, Occupancy)| view(&name, occupancy);
    Ok(Json(Page::of(
        rest,
        limit,
        |(name, _)| name.to_string(),
        view,
    )))
}

/// Show a channel
///
/// A channel without subscribers has a count of 0. What the kept event says needs the role admin.
#[utoipa::path(
    get, path = "/apps/{app_id}/channels/{channel}", tag = "State", operation_id = "show_occupied_channel",
    params(ChannelPath),
    responses(
        (status = 200, body = ChannelDetails),
        (status = 404),
    ),
)]
pub(super) async fn channel(
    State(state): State<AppState>,
    caller: Caller,
    PathParams(ChannelPath { app_id, channel }): PathParams<ChannelPath>,
) -> Result<Json<ChannelDetails>, Problem> {
    let app = live_app(&state, &caller, &app_id).await?;
    let name = channel_name(&app, &channel)?;
    let occupancy = state.engine.channel(&app, &name).await?;
    let cache = match name.keeps_last() {
        true => state.engine.cached(&app, &name).await.map_err(|error| {
            Problem::unavailable(format!(
                "the kept event is not known now: {error}; try again later"
            ))
        })?,
        false => None,
    };
    let shows_data = data_hidden(&caller).is_none();
    let cache = cache.map(|kept| KeptEvent {
        event: kept.name.to_string(),
        data_bytes: kept.data.len(),
        expires_at: unix_millis() + i64::try_from(kept.ttl().as_millis()).unwrap_or(i64::MAX),
        data: shows_data.then(|| kept.data.to_string()),
    });
    let history = history_state(&state, &app, &name).await?;
    let (history, events_per_minute) = history.unzip();
    Ok(Json(ChannelDetails {
        channel: view(&name, occupancy),
        cache,
        history,
        events_per_minute,
    }))
}

/// Page through a channel's history
///
/// What the events say needs the role admin; others see names, sizes and times.
#[utoipa::path(
    get, path = "/apps/{app_id}/channels/{channel}/history", tag = "State", operation_id = "list_history",
    params(ChannelPath, HistoryParams),
    responses(
        (status = 200, body = HistoryEvents),
        (status = 404, description = "There is no such app, or the channel keeps no history"),
    ),
)]
pub(super) async fn history(
    State(state): State<AppState>,
    caller: Caller,
    PathParams(ChannelPath { app_id, channel }): PathParams<ChannelPath>,
    QueryParams(params): QueryParams<HistoryParams>,
) -> Result<Json<HistoryEvents>, Problem> {
    let app = live_app(&state, &caller, &app_id).await?;
    let name = channel_name(&app, &channel)?;
    let limit = PageQuery {
        limit: params.limit,
        cursor: None,
    };
    let limit = limit.limit()?;
    // One event beyond the page shows whether there are more.
    let query = params.query(limit + 1)?;
    if app.retention(&name).is_none() {
        return Err(Problem::not_found(format!(
            "the channel {channel:?} keeps no history: give the app a rule for it (history in its settings)"
        )));
    }
    let answer = read_history(&state, &app, &name, query).await?;
    let mut events = answer.events.map_err(|_| {
        Problem::invalid(
            "the position is not kept any more: begin with after=0, or without a position",
        )
    })?;
    let more = events.len() > limit;
    events.truncate(limit);
    let data_hidden_because = data_hidden(&caller);
    let shows_data = data_hidden_because.is_none();
    let items = events.into_iter();
    Ok(Json(HistoryEvents {
        items: items
            .map(|event| HistoryItem::of(event, shows_data))
            .collect(),
        position: answer.position.to_string(),
        more,
        data_hidden_because,
    }))
}

/// List the subscribers of a channel over all nodes
///
/// Like the list of connections: in no particular order, a node after the other.
#[utoipa::path(
    get, path = "/apps/{app_id}/channels/{channel}/subscribers", tag = "State", operation_id = "list_subscribers",
    params(ChannelPath, PageQuery),
    responses(
        (status = 200, body = ConnectionList),
        (status = 404),
    ),
)]
pub(super) async fn subscribers(
    State(state): State<AppState>,
    caller: Caller,
    PathParams(ChannelPath { app_id, channel }): PathParams<ChannelPath>,
    QueryParams(page): QueryParams<PageQuery>,
) -> Result<Json<ConnectionList>, Problem> {
    let app = live_app(&state, &caller, &app_id).await?;
    let filter = Filter {
        channel: Some(channel),
        ..Filter::default()
    };
    connections::list(&state, &app, None, filter, &page)
        .await
        .map(Json)
}

/// List the members of a presence channel, by id
#[utoipa::path(
    get, path = "/apps/{app_id}/channels/{channel}/members", tag = "State", operation_id = "list_members",
    params(ChannelPath, PageQuery),
    responses(
        (status = 200, body = Page<Member>),
        (status = 400, description = "The channel isn't a presence channel"),
        (status = 404),
    ),
)]
pub(super) async fn members(
    State(state): State<AppState>,
    caller: Caller,
    PathParams(ChannelPath { app_id, channel }): PathParams<ChannelPath>,
    QueryParams(page): QueryParams<PageQuery>,
) -> Result<Json<Page<Member>>, Problem> {
    let app = live_app(&state, &caller, &app_id).await?;
    let name = channel_name(&app, &channel)?;
    if !name.kind().has_members() {
        let detail = format!("only presence channels have members, and {channel:?} isn't one");
        return Err(Problem::invalid(detail));
    }
    let (limit, after) = (page.limit()?, page.after::<String>()?);
    let users = state.engine.users(&app, &name).await?;
    let rest = users.into_iter().filter(|user| {
        after
            .as_ref()
            .is_none_or(|after| user.as_str() > after.as_str())
    });
    let view = |user: UserId| Member {
        user_id: user.to_string(),
    };
    let rest = rest.take(limit + 1).collect();
    Ok(Json(Page::of(rest, limit, ToString::to_string, view)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_is_that_of_the_last_minute_or_of_the_last_events() {
        let now = 1_000_000;
        assert_eq!(per_minute(&[], now), 0.0);
        assert_eq!(per_minute(&[995_000, 970_000, 900_000], now), 2.0);
        // Twenty events within ten seconds.
        let fast: Vec<u64> = (0..20).map(|n| 999_500 - n * 500).collect();
        assert_eq!(per_minute(&fast, now), 120.0);
        // A clock that is ahead.
        assert!(per_minute(&[1_000_500; 20], now).is_finite());
    }
}
