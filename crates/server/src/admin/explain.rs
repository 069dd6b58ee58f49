//! Why a client has not got an event.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use fanfare_engine::{App, HistoryQuery, Recorded, Retention};
use fanfare_protocol::{ChannelName, HistoryPosition};
use serde::Deserialize;
use utoipa::IntoParams;

use super::apps::{AppName, live_app};
use super::channels::channel_name;
use super::extract::{PathParams, QueryParams};
use super::problem::Problem;
use crate::access::Caller;
use crate::app_state::AppState;
use crate::clock::unix_millis;
use crate::explanation::{Case, Explanation, FoundEvent, Published};
use crate::nodes::{FindTrail, Trail, ask_all};
use crate::usage::parse_time;

/// How far back an event is looked for unless the caller says so, in milliseconds.
const DEFAULT_SPAN: i64 = 60 * 60_000;
/// Events that are read at once, and in all.
const PAGE: usize = 200;
const MAX_EVENTS: usize = 10_000;

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ExplainQuery {
    /// The channel.
    #[param(required = true, nullable = false, example = "presence-room-1")]
    channel: Option<String>,
    /// The event's name. By default the newest event of the channel.
    event: Option<String>,
    /// The user who has not got it: signed in, or a member of a presence channel. On `#server-to-user-ID` it is that user
    /// unless another is named.
    user_id: Option<String>,
    /// The connection that has not got it, in place of a user.
    socket_id: Option<String>,
    /// The time since when the event is looked for: a date, a time such as `2026-11-21T09:34:10Z`, or Unix time in seconds
    /// or milliseconds. By default an hour ago.
    since: Option<String>,
}

/// Tell why a client has not got an event
///
/// From the channel's history, the times of subscriptions, what waits for the client, and connections that ended within the
/// last hour, on all nodes. Says what isn't known, and what would make it known. Looks for the newest event that fits.
#[utoipa::path(
    get, path = "/apps/{app_id}/explain", tag = "State", operation_id = "explain",
    params(AppName, ExplainQuery),
    responses(
        (status = 200, body = Explanation),
        (status = 404),
    ),
)]
pub(super) async fn explain(
    State(state): State<AppState>,
    caller: Caller,
    PathParams(AppName { app_id }): PathParams<AppName>,
    QueryParams(mut query): QueryParams<ExplainQuery>,
) -> Result<Json<Explanation>, Problem> {
    let app = live_app(&state, &caller, &app_id).await?;
    let name = query.channel.as_deref();
    let name = name.ok_or_else(|| Problem::invalid("say which channel it is: pass channel"))?;
    let channel = channel_name(&app, name)?;
    if query.user_id.is_none() && query.socket_id.is_none() {
        query.user_id = channel.user().map(str::to_owned);
    }
    let client = client(&query)?;
    let since = parse_time("since", query.since.as_deref()).map_err(Problem::invalid)?;
    let now = unix_millis();
    if since.is_some_and(|since| since > now) {
        return Err(Problem::invalid(format!(
            "since is {:?}, which is still to come: pass a time from which on the event may have been published",
            query.since.as_deref().unwrap_or_default()
        )));
    }
    let since = since.unwrap_or(now - DEFAULT_SPAN);
    let event = query.event.as_deref();
    let question = FindTrail {
        app: app_id,
        channel: channel.to_string(),
        user_id: query.user_id.clone(),
        socket_id: query.socket_id.clone(),
    };
    let (published, found) = tokio::join!(
        find_event(&state, &app, &channel, event, since),
        ask_all(&state, question)
    );
    let mut trail = Trail::default();
    for (_, of_node) in found.answers {
        trail.connections.extend(of_node.connections);
        trail.closed.extend(of_node.closed);
    }
    trail.closed.sort_by_key(|gone| -gone.closed_at);
    let case = Case {
        client: &client,
        channel: channel.as_str(),
        event,
        published: &published,
        trail: &trail,
        unanswered: &found.unanswered,
    };
    Ok(Json(case.explain()))
}

/// Returns the client in words.
fn client(query: &ExplainQuery) -> Result<String, Problem> {
    match (&query.user_id, &query.socket_id) {
        (Some(user), None) if !user.is_empty() => Ok(format!("the user {user:?}")),
        (None, Some(id)) => {
            super::connections::socket_id(id)?;
            // Answers name the connection themselves.
            Ok("this client".into())
        }
        _ => Err(Problem::invalid(
            "say whose event it is: pass user_id, or socket_id for a client without a user",
        )),
    }
}

/// Looks in a channel's history for the newest event of a name.
async fn find_event(
    state: &AppState,
    app: &Arc<App>,
    channel: &ChannelName,
    name: Option<&str>,
    since: i64,
) -> Published {
    let Some(retention) = app.retention(channel) else {
        return Published::NoHistory;
    };
    let (mut before, mut seen): (Option<HistoryPosition>, usize) = (None, 0);
    let mut oldest = unix_millis();
    loop {
        let query = HistoryQuery::Backward(before, PAGE);
        let events = match state.engine.history(app, channel, query).await {
            Ok(answer) => answer.events.unwrap_or_default(),
            Err(error) => return Published::Unreadable(error.to_string()),
        };
        for event in &events {
            let at = millis(event);
            if at < since {
                return Published::Not { since };
            }
            oldest = oldest.min(at);
            if name.is_none_or(|name| *event.name == *name) {
                return Published::Found(FoundEvent {
                    name: event.name.to_string(),
                    position: event.position.to_string(),
                    at,
                    except: event.except.map(|id| id.to_string()),
                });
            }
        }
        seen += events.len();
        before = events.last().map(|event| event.position.clone());
        if events.len() < PAGE {
            return unless_dropped(retention, seen, oldest, since, begin(state));
        }
        if seen >= MAX_EVENTS {
            return Published::NotKept { since: oldest };
        }
    }
}

/// Returns when histories began that this node alone keeps, or 0 if nodes share them.
fn begin(state: &AppState) -> i64 {
    match state.engine.cluster_stats() {
        Some(_) => 0,
        None => state.started_at,
    }
}

/// Tells whether a history of `seen` events that began at `begin` may miss one since a time.
fn unless_dropped(
    retention: Retention,
    seen: usize,
    oldest: i64,
    since: i64,
    begin: i64,
) -> Published {
    let ttl = i64::try_from(retention.ttl.as_millis()).unwrap_or(i64::MAX);
    let reaches = unix_millis().saturating_sub(ttl).max(begin);
    if seen >= retention.size {
        Published::NotKept { since: oldest }
    } else if reaches > since {
        Published::NotKept { since: reaches }
    } else {
        Published::Not { since }
    }
}

fn millis(event: &Recorded) -> i64 {
    i64::try_from(event.time).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_event_is_missing_for_certain_only_where_the_history_has_all() {
        let minute = 60_000;
        let now = unix_millis();
        let retention = Retention {
            size: 3,
            ttl: Duration::from_secs(600),
            rules: 1,
        };
        let found =
            |seen, since, begin| unless_dropped(retention, seen, now - minute, since, begin);
        let since = now - 5 * minute;
        assert_eq!(found(2, since, 0), Published::Not { since });
        // It may have dropped an event for its size, or for its age, or did not exist.
        assert_eq!(
            found(3, since, 0),
            Published::NotKept {
                since: now - minute
            }
        );
        assert!(matches!(
            found(2, now - 20 * minute, 0),
            Published::NotKept { .. }
        ));
        let begin = now - 2 * minute;
        assert_eq!(found(2, since, begin), Published::NotKept { since: begin });
    }
}
