//! The connections of an app on the node that answers.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use fanfare_engine::ConnectionInfo;
use fanfare_protocol::{Framing, SocketId, UserId};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use super::apps::{AppName, live_app};
use super::extract::{PathParams, QueryParams};
use super::page::{Page, PageQuery};
use super::problem::Problem;
use crate::access::Caller;
use crate::app_state::AppState;
use crate::clock::unix_millis;

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

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ConnectionQuery {
    /// The connections of one signed-in user.
    user_id: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct ConnectionPath {
    /// The app's id.
    app_id: String,
    /// The connection's socket id.
    socket_id: String,
}

fn socket_id(id: &str) -> Result<SocketId, Problem> {
    SocketId::parse(id).map_err(|error| Problem::invalid(format!("{id:?}: {error}")))
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
    let app = live_app(&state, &caller, &app_id)?;
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
    let app = live_app(&state, &caller, &app_id)?;
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
    let app = live_app(&state, &caller, &path.app_id)?;
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
    let app = live_app(&state, &caller, &path.app_id)?;
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
