//! `GET channels`, `GET channels/{name}`, `GET channels/{name}/users` (docs/http-api.md#read-channels).

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, State};
use fanfare_engine::Occupancy;
use fanfare_protocol::api::Info;
use fanfare_protocol::presence::Member;
use fanfare_protocol::{ChannelName, excerpt};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::auth::SignedRequest;
use crate::app_state::AppState;
use crate::http::error::ApiError;

/// The requested attributes of a channel.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct Attributes {
    /// Distinct users, on presence channels.
    #[schema(nullable = false, example = 2)]
    #[serde(skip_serializing_if = "Option::is_none")]
    user_count: Option<usize>,
    /// Subscribed connections.
    #[schema(nullable = false, example = 3)]
    #[serde(skip_serializing_if = "Option::is_none")]
    subscription_count: Option<usize>,
    /// The event that is kept; `null` where nothing is.
    #[serde(skip_serializing_if = "Option::is_none")]
    cache: Option<Option<Kept>>,
}

/// The event that a cache channel keeps.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Kept {
    /// The event's data.
    #[schema(example = r#"{"text":"hello"}"#)]
    data: String,
    /// Seconds for which the event is still kept.
    #[schema(example = 1740)]
    ttl: u64,
}

/// Occupied channels, by name.
#[derive(Serialize, ToSchema)]
#[schema(as = BackendChannels)]
pub(crate) struct Channels {
    /// The requested attributes of each channel, by name.
    #[schema(example = json!({"presence-room-1": {"user_count": 2}}))]
    channels: BTreeMap<String, Attributes>,
}

/// A channel.
#[derive(Serialize, ToSchema)]
#[schema(as = BackendChannel)]
pub(crate) struct Channel {
    /// Whether the channel has subscribers.
    occupied: bool,
    #[serde(flatten)]
    attributes: Attributes,
}

/// A channel, as older SDKs ask.
#[derive(Serialize, ToSchema)]
#[schema(as = BackendStats)]
pub(crate) struct Stats {
    /// Whether the channel has subscribers.
    occupied: bool,
    /// Distinct users, on presence channels.
    #[schema(nullable = false, example = 2)]
    #[serde(skip_serializing_if = "Option::is_none")]
    user_count: Option<usize>,
    /// Subscribed connections.
    #[schema(example = 3)]
    connection_count: usize,
}

/// Users of a presence channel.
#[derive(Serialize, ToSchema)]
#[schema(as = BackendUsers)]
pub(crate) struct Users {
    /// The list has each user once, by id.
    users: Vec<User>,
}

/// A user.
#[derive(Serialize, ToSchema)]
#[schema(as = BackendUser)]
pub(crate) struct User {
    /// The user's id.
    #[schema(example = "ada")]
    id: String,
    /// The `user_info` that the app's backend signed, if `with_user_info` asks for it.
    #[schema(value_type = Option<Object>, nullable = true, required = false, example = json!({"name": "Ada"}))]
    #[serde(skip_serializing_if = "Option::is_none")]
    user_info: Option<Option<Box<RawValue>>>,
}

/// Connections of an app, in the form of Reverb.
#[derive(Serialize, ToSchema)]
#[schema(as = BackendConnections)]
pub(crate) struct Connections {
    /// The number of connections.
    #[schema(example = 3)]
    connections: usize,
}

#[derive(Deserialize)]
pub(crate) struct ChannelPath {
    channel: String,
}

/// Returns those of the requested attributes that the channel has.
pub(crate) fn attributes(occupancy: &Occupancy, info: Info) -> Attributes {
    Attributes {
        user_count: occupancy.user_count.filter(|_| info.user_count),
        subscription_count: info
            .subscription_count
            .then_some(occupancy.subscription_count),
        cache: None,
    }
}

fn info(request: &SignedRequest) -> Result<Info, ApiError> {
    Ok(Info::parse(&request.parameter("info").unwrap_or_default())?)
}

/// List occupied channels
#[utoipa::path(
    get, path = "/apps/{app_id}/channels", tag = "Backend", operation_id = "list_channels",
    params(("app_id" = String, Path, description = "The app's id"), ("filter_by_prefix" = Option<String>, Query, description = "The prefix of their names"), ("info" = Option<String>, Query, description = "`subscription_count`, `user_count`, with commas")),
    responses((status = 200, body = Channels)),
)]
pub(crate) async fn list(
    State(state): State<AppState>,
    request: SignedRequest,
) -> Result<Json<Channels>, ApiError> {
    let info = info(&request)?;
    let prefix = request.parameter("filter_by_prefix").unwrap_or_default();
    if info.user_count && !prefix.starts_with("presence-") {
        return Err(ApiError::new(
            400,
            "Invalid info: user_count is for presence channels, add filter_by_prefix=presence- or longer",
        ));
    }
    if info.cache {
        return Err(ApiError::new(
            400,
            "Invalid info: cache is told of one channel, at channels/NAME",
        ));
    }
    let occupied = state.engine.channels(&request.app, &prefix).await?;
    let channels = occupied
        .into_iter()
        .map(|(name, occupancy)| (name.to_string(), attributes(&occupancy, info)));
    Ok(Json(Channels {
        channels: channels.collect(),
    }))
}

/// Show a channel
#[utoipa::path(
    get, path = "/apps/{app_id}/channels/{channel}", tag = "Backend", operation_id = "show_channel",
    params(("app_id" = String, Path, description = "The app's id"), ("channel" = String, Path, description = "The channel's name"), ("info" = Option<String>, Query, description = "`subscription_count`, `user_count`, `cache`, with commas")),
    responses((status = 200, body = Channel)),
)]
pub(crate) async fn show(
    State(state): State<AppState>,
    Path(ChannelPath { channel }): Path<ChannelPath>,
    request: SignedRequest,
) -> Result<Json<Channel>, ApiError> {
    let info = info(&request)?;
    let channel = parse(&channel, &request)?;
    if info.user_count && !channel.kind().has_members() {
        return Err(ApiError::new(
            400,
            format!("Invalid info: user_count is for presence channels, {channel} isn't one"),
        ));
    }
    if info.cache && !channel.keeps_last() {
        return Err(ApiError::new(
            400,
            format!("Invalid info: cache is for cache channels, {channel} isn't one"),
        ));
    }
    let occupancy = state.engine.channel(&request.app, &channel).await?;
    let mut attributes = attributes(&occupancy, info);
    if info.cache {
        let event = state.engine.cached(&request.app, &channel).await?;
        attributes.cache = Some(event.map(|event| Kept {
            data: event.data.to_string(),
            ttl: event.ttl().as_secs(),
        }));
    }
    Ok(Json(Channel {
        occupied: occupancy.subscription_count > 0,
        attributes,
    }))
}

/// Show a channel, as older SDKs ask
#[utoipa::path(
    get, path = "/apps/{app_id}/channels/{channel}/stats", tag = "Backend", operation_id = "show_channel_stats",
    params(("app_id" = String, Path, description = "The app's id"), ("channel" = String, Path, description = "The channel's name")),
    responses((status = 200, body = Stats)),
)]
pub(crate) async fn stats(
    State(state): State<AppState>,
    Path(ChannelPath { channel }): Path<ChannelPath>,
    request: SignedRequest,
) -> Result<Json<Stats>, ApiError> {
    let channel = parse(&channel, &request)?;
    let occupancy = state.engine.channel(&request.app, &channel).await?;
    let connection_count = occupancy.subscription_count;
    Ok(Json(Stats {
        occupied: connection_count > 0,
        user_count: occupancy.user_count,
        connection_count,
    }))
}

/// Count an app's connections, as Reverb does
///
/// The number over all nodes.
#[utoipa::path(
    get, path = "/apps/{app_id}/connections", tag = "Backend", operation_id = "count_connections",
    params(("app_id" = String, Path, description = "The app's id")),
    responses((status = 200, body = Connections)),
)]
pub(crate) async fn connections(
    State(state): State<AppState>,
    request: SignedRequest,
) -> Result<Json<Connections>, ApiError> {
    let connections = state.engine.count_connections(&request.app).await?;
    Ok(Json(Connections { connections }))
}

/// Returns whether a boolean parameter is on. Soketi's scripts send `1`.
fn is_on(request: &SignedRequest, name: &str) -> Result<bool, ApiError> {
    match request.parameter(name).as_deref() {
        None | Some("" | "0" | "false") => Ok(false),
        Some("1" | "true") => Ok(true),
        Some(other) => {
            let other = excerpt(other);
            Err(ApiError::new(
                400,
                format!("Invalid {name}: it must be 1 or 0, it is {other:?}"),
            ))
        }
    }
}

/// List the users of a presence channel
#[utoipa::path(
    get, path = "/apps/{app_id}/channels/{channel}/users", tag = "Backend", operation_id = "list_channel_users",
    params(("app_id" = String, Path, description = "The app's id"), ("channel" = String, Path, description = "The channel's name"), ("with_user_info" = Option<String>, Query, description = "`1` to tell each user's `user_info` as well; not of Pusher's API, but of Soketi's", pattern = "^(0|1|true|false)?$", example = "1")),
    responses((status = 200, body = Users)),
)]
pub(crate) async fn users(
    State(state): State<AppState>,
    Path(ChannelPath { channel }): Path<ChannelPath>,
    request: SignedRequest,
) -> Result<Json<Users>, ApiError> {
    let channel = parse(&channel, &request)?;
    if !channel.kind().has_members() {
        return Err(ApiError::new(
            400,
            format!("Users are known on presence channels only, {channel} isn't one"),
        ));
    }
    let with_info = is_on(&request, "with_user_info")?;
    let members = state.engine.members(&request.app, &channel).await?;
    let user = |member: Member| User {
        id: member.user_id.to_string(),
        user_info: with_info.then(|| member.user_info.as_deref().and_then(raw)),
    };
    Ok(Json(Users {
        users: members.into_iter().map(user).collect(),
    }))
}

/// Returns the text as JSON that is written unchanged, or `None` if it isn't JSON.
fn raw(text: &str) -> Option<Box<RawValue>> {
    RawValue::from_string(text.to_owned()).ok()
}

fn parse(channel: &str, request: &SignedRequest) -> Result<ChannelName, ApiError> {
    let max = request.app.settings().limits.channel_name;
    ChannelName::parse(channel, max).map_err(|error| ApiError::new(400, error.to_string()))
}
