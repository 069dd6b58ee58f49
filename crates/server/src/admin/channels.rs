//! The occupied channels of an app, and their members.

use axum::Json;
use axum::extract::State;
use fanfare_engine::{App, Occupancy};
use fanfare_protocol::{ChannelName, UserId};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::apps::{AppName, live_app};
use super::connections::{self, ConnectionList};
use super::extract::{PathParams, QueryParams};
use super::page::{Page, PageQuery};
use super::problem::Problem;
use crate::access::Caller;
use crate::app_state::AppState;
use crate::nodes::Filter;

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

fn channel_name(app: &App, name: &str) -> Result<ChannelName, Problem> {
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
    let app = live_app(&state, &caller, &app_id)?;
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
/// A channel without subscribers has a count of 0.
#[utoipa::path(
    get, path = "/apps/{app_id}/channels/{channel}", tag = "State", operation_id = "show_occupied_channel",
    params(ChannelPath),
    responses(
        (status = 200, body = Channel),
        (status = 404),
    ),
)]
pub(super) async fn channel(
    State(state): State<AppState>,
    caller: Caller,
    PathParams(ChannelPath { app_id, channel }): PathParams<ChannelPath>,
) -> Result<Json<Channel>, Problem> {
    let app = live_app(&state, &caller, &app_id)?;
    let name = channel_name(&app, &channel)?;
    let occupancy = state.engine.channel(&app, &name).await?;
    Ok(Json(view(&name, occupancy)))
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
    let app = live_app(&state, &caller, &app_id)?;
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
    let app = live_app(&state, &caller, &app_id)?;
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
