//! The current state of an app (channels, members, connections), and a test event.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use fanfare_engine::{ConnectionInfo, Occupancy};
use fanfare_protocol::api::{Event, NewEvent};
use fanfare_protocol::{ChannelName, Framing, SocketId, UserId, json};
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use super::apps::AppName;
use super::extract::{Body, PathParams, QueryParams};
use super::page::{Page, PageQuery};
use super::problem::Problem;
use crate::access::Caller;
use crate::app_state::AppState;
use crate::clock::unix_millis;

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

/// The transport of a connection.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "describes what `Connection` says")]
pub(crate) enum Transport {
    /// A WebSocket.
    WebSocket,
    /// One of the HTTP fallbacks.
    Http,
}

/// A connected client.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Connection {
    /// Its public name.
    #[schema(example = "123.456")]
    pub(crate) socket_id: String,
    /// The key it came in with.
    pub(crate) key: String,
    /// `websocket`, or `http` for the fallbacks.
    #[schema(value_type = Transport)]
    pub(crate) transport: String,
    /// The user who is signed in.
    #[schema(required)]
    pub(crate) user_id: Option<String>,
    /// When it came in, Unix time in milliseconds.
    pub(crate) connected_at: i64,
    /// When it was heard last, Unix time in milliseconds.
    pub(crate) heard_at: i64,
    /// Bytes that wait until the client reads.
    pub(crate) waiting_bytes: usize,
    /// The channels that it is subscribed to, by name.
    pub(crate) channels: Vec<String>,
}

/// Connections by client library, the most first.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = AppClients)]
pub(crate) struct Clients {
    /// Each library and version that has connections. Beyond a hundred, further ones count as `other`.
    pub(crate) clients: Vec<ClientCount>,
}

/// A client library of one version.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct ClientCount {
    /// The name that the library gives itself: `js` for pusher-js; empty if it gives none.
    #[schema(example = "js")]
    pub(crate) client: String,
    /// Its version; empty if it says none.
    #[schema(example = "8.4.0")]
    pub(crate) version: String,
    /// Its connections on this node.
    #[schema(example = 3)]
    pub(crate) connections: usize,
    /// A known problem of this version, and what to do.
    #[schema(required)]
    pub(crate) risk: Option<String>,
}

/// A test event.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PublishEvent {
    /// The event's name.
    #[schema(example = "greeting", min_length = 1, max_length = 200)]
    name: String,
    /// The channel to publish to.
    #[schema(example = json!(["news"]))]
    channels: Vec<String>,
    /// The payload: a string as it is, anything else as its JSON text.
    #[schema(schema_with = crate::openapi::any_but_null)]
    data: Box<RawValue>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ChannelQuery {
    /// The prefix of their names.
    prefix: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ConnectionQuery {
    /// The connections of one signed-in user.
    user_id: Option<String>,
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
#[into_params(parameter_in = Path)]
pub(crate) struct ConnectionPath {
    /// The app's id.
    app_id: String,
    /// The connection's socket id.
    socket_id: String,
}

/// Returns the app as this node has it. An app created a moment ago on another node may be missing.
fn app(state: &AppState, caller: &Caller, id: &str) -> Result<Arc<fanfare_engine::App>, Problem> {
    caller.see(id)?;
    state
        .engine
        .apps()
        .by_id(id)
        .ok_or_else(|| Problem::no_app(id))
}

fn channel_name(app: &fanfare_engine::App, name: &str) -> Result<ChannelName, Problem> {
    let max = app.settings().limits.channel_name;
    ChannelName::parse(name, max)
        .map_err(|error| Problem::invalid(format!("the channel {name:?}: {error}")))
}

fn socket_id(id: &str) -> Result<SocketId, Problem> {
    SocketId::parse(id).map_err(|error| Problem::invalid(format!("{id:?}: {error}")))
}

fn view(name: &ChannelName, occupancy: Occupancy) -> Channel {
    Channel {
        name: name.to_string(),
        subscription_count: occupancy.subscription_count,
        user_count: occupancy.user_count,
    }
}

impl From<ConnectionInfo> for Connection {
    fn from(found: ConnectionInfo) -> Self {
        let now = unix_millis();
        let ago = |age: std::time::Duration| now - i64::try_from(age.as_millis()).unwrap_or(now);
        Self {
            socket_id: found.socket_id.to_string(),
            key: found.key.to_string(),
            transport: match found.transport {
                Framing::WebSocket => "websocket".into(),
                Framing::SockJs => "http".into(),
            },
            user_id: found.user_id.map(|user| user.to_string()),
            connected_at: ago(found.age),
            heard_at: ago(found.silent),
            waiting_bytes: found.waiting_bytes,
            channels: found.channels,
        }
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
    let app = app(&state, &caller, &app_id)?;
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
    let app = app(&state, &caller, &app_id)?;
    let name = channel_name(&app, &channel)?;
    let occupancy = state.engine.channel(&app, &name).await?;
    Ok(Json(view(&name, occupancy)))
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
    let app = app(&state, &caller, &app_id)?;
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

/// List an app's connections, by socket id
///
/// The list has the connections of the node that answers.
#[utoipa::path(
    get, path = "/apps/{app_id}/connections", tag = "State", operation_id = "list_connections",
    params(AppName, ConnectionQuery, PageQuery),
    responses(
        (status = 200, body = Page<Connection>),
        (status = 404),
    ),
)]
pub(super) async fn connections(
    State(state): State<AppState>,
    caller: Caller,
    PathParams(AppName { app_id }): PathParams<AppName>,
    QueryParams(ConnectionQuery { user_id }): QueryParams<ConnectionQuery>,
    QueryParams(page): QueryParams<PageQuery>,
) -> Result<Json<Page<Connection>>, Problem> {
    let app = app(&state, &caller, &app_id)?;
    let limit = page.limit()?;
    let after: Option<String> = page.after()?;
    let after = after.map(|id| socket_id(&id)).transpose()?;
    let user = user_id.as_deref().and_then(UserId::new);
    let found = state
        .engine
        .list_connections(&app, user.as_ref(), after, limit + 1)
        .await;
    let position = |connection: &ConnectionInfo| connection.socket_id.to_string();
    Ok(Json(Page::of(found, limit, position, Connection::from)))
}

fn no_connection(id: &str) -> Problem {
    Problem::not_found(format!(
        "there is no connection {id} of this app on this node"
    ))
}

/// Count an app's connections by client library and version
///
/// Counts the connections of the node that answers, by the names that clients give when they connect. Clients that may lose
/// their WebSocket for good have a `risk`.
#[utoipa::path(
    get, path = "/apps/{app_id}/clients", tag = "State", operation_id = "count_clients",
    params(AppName),
    responses(
        (status = 200, body = Clients),
        (status = 404),
    ),
)]
pub(super) async fn clients(
    State(state): State<AppState>,
    caller: Caller,
    PathParams(AppName { app_id }): PathParams<AppName>,
) -> Result<Json<Clients>, Problem> {
    let app = app(&state, &caller, &app_id)?;
    let clients = app.clients().into_iter().map(|found| ClientCount {
        risk: risk(&found.client, &found.version).map(str::to_owned),
        client: found.client,
        version: found.version,
        connections: found.connections,
    });
    Ok(Json(Clients {
        clients: clients.collect(),
    }))
}

/// Returns what is known to go wrong with a client library of this version.
fn risk(client: &str, version: &str) -> Option<&'static str> {
    let mut parts = version.split('.');
    let mut number = || parts.next()?.parse::<u32>().ok();
    let (major, minor) = (number()?, number().unwrap_or(0));
    (client == "js" && (major, minor) < (8, 3)).then_some(
        "pusher-js before 8.3 with enabledTransports ['ws', 'wss'] stays away for good after two broken connections within four \
         minutes: leave enabledTransports out, or update it",
    )
}

/// Show a connection
#[utoipa::path(
    get, path = "/apps/{app_id}/connections/{socket_id}", tag = "State", operation_id = "show_connection",
    params(ConnectionPath),
    responses(
        (status = 200, body = Connection),
        (status = 404),
    ),
)]
pub(super) async fn connection(
    State(state): State<AppState>,
    caller: Caller,
    PathParams(path): PathParams<ConnectionPath>,
) -> Result<Json<Connection>, Problem> {
    let app = app(&state, &caller, &path.app_id)?;
    let found = state
        .engine
        .inspect_connection(&app, socket_id(&path.socket_id)?)
        .await;
    let found = found.ok_or_else(|| no_connection(&path.socket_id))?;
    Ok(Json(found.into()))
}

/// Disconnect a client
///
/// The close code keeps the client away until it is restarted. Needs the role admin.
#[utoipa::path(
    delete, path = "/apps/{app_id}/connections/{socket_id}", tag = "State", operation_id = "disconnect",
    params(ConnectionPath),
    responses(
        (status = 204),
        (status = 404),
    ),
)]
pub(super) async fn disconnect(
    State(state): State<AppState>,
    caller: Caller,
    PathParams(path): PathParams<ConnectionPath>,
) -> Result<StatusCode, Problem> {
    caller.change(&path.app_id)?;
    let app = app(&state, &caller, &path.app_id)?;
    let id = socket_id(&path.socket_id)?;
    let found = state.engine.inspect_connection(&app, id).await;
    found.ok_or_else(|| no_connection(&path.socket_id))?;
    // Recorded first, because what can't be recorded isn't done.
    let (by, app_id) = (&caller.actor, Some(path.app_id.as_str()));
    let target = ("connection", path.socket_id.as_str());
    let store = &state.admin.store;
    let (details, action) = (json!({}), "connection.close");
    store
        .record(by, action, target.0, target.1, app_id, &details)
        .await?;
    state.engine.disconnect(&app, id).await;
    Ok(StatusCode::NO_CONTENT)
}

/// Publish a test event
///
/// Publishes as a backend does with `POST /apps/{app_id}/events`, within the same limits. Needs the role admin.
#[utoipa::path(
    post, path = "/apps/{app_id}/events", tag = "State", operation_id = "publish_test_event",
    params(AppName),
    request_body = PublishEvent,
    responses(
        (status = 204),
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
) -> Result<StatusCode, Problem> {
    caller.change(&app_id)?;
    let app = app(&state, &caller, &app_id)?;
    let PublishEvent {
        name,
        channels,
        data,
    } = body.value;
    // Kept as text: digits, order and escapes of the data stay as the caller wrote them.
    let text = match data.get() {
        "null" => return Err(Problem::invalid("Missing parameter: data")),
        _ => json::as_text(&data),
    };
    let text = text.map_err(|error| Problem::invalid(format!("Invalid data: {error}")))?;
    let new = NewEvent {
        name: &name,
        data: text,
        channels: channels.clone(),
        socket_id: None,
    };
    let event = Event::new(new, &app.settings().limits);
    let event = event.map_err(|error| Problem::invalid(error.to_string()))?;
    if !app.settings().enabled {
        return Err(Problem::conflict(format!("the app {app_id:?} is disabled")));
    }
    // Recorded first, because what can't be recorded isn't done.
    let details = json!({"name": name, "channels": channels});
    let (by, id) = (&caller.actor, app_id.as_str());
    let store = &state.admin.store;
    store
        .record(by, "event.publish", "app", id, Some(id), &details)
        .await?;
    let published = state.engine.publish(&app, &[event], None).await;
    published.map_err(|error| match error {
        fanfare_engine::PublishError::Bus(_) => Problem::unavailable(error.to_string()),
        fanfare_engine::PublishError::OverRate { .. } => Problem::too_many(error.to_string(), 1),
    })?;
    Ok(StatusCode::NO_CONTENT)
}
