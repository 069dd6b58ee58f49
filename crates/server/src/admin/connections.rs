//! The connections of an app over all nodes.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use fanfare_engine::{App, HistoryQuery};
use fanfare_protocol::{ChannelName, SocketId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::Instant;
use utoipa::{IntoParams, ToSchema};

use super::apps::{AppName, live_app};
use super::extract::{PathParams, QueryParams};
use super::nodes;
use super::page::{PageQuery, cursor};
use super::problem::Problem;
use crate::access::Caller;
use crate::app_state::AppState;
use crate::nodes::{
    Ask, Connection, ConnectionDetails, Connections, Disconnect, Filter, FindTrail, Place,
    ShowConnection, Subscription, ask_all, ask_one,
};

/// After this long a page is what was found by then.
const LIST_TIMEOUT: Duration = Duration::from_secs(3);
/// Most subscriptions of a connection whose positions are read.
const MAX_POSITIONS: usize = 20;

/// Some of an app's connections.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Connections)]
pub(crate) struct ConnectionList {
    /// The connections. A page may have fewer than `limit`, even none, although more follow.
    pub(crate) items: Vec<Connection>,
    /// The cursor of the next page; `null` if this is the last one.
    #[schema(required)]
    pub(crate) next_cursor: Option<String>,
    /// The names of the nodes that didn't answer, so that their connections are missing from this page.
    pub(crate) unanswered: Vec<String>,
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
    /// Those of a user: signed in, or a member of a presence channel.
    user_id: Option<String>,
    /// Those from an address, or from a network like `10.0.0.0/8`.
    address: Option<String>,
    /// Those that came in with a key.
    key: Option<String>,
    /// Those that are subscribed to a channel.
    channel: Option<String>,
    /// Those of one node.
    node: Option<String>,
    /// Those whose socket ids contain this text.
    q: Option<String>,
}

impl ConnectionQuery {
    /// Returns the node, if one is asked for, and the other filters.
    fn split(self) -> (Option<String>, Filter) {
        let filter = Filter {
            user_id: self.user_id,
            address: self.address,
            key: self.key,
            channel: self.channel,
            socket_id: self.q,
        };
        (self.node, filter)
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct NodeQuery {
    /// The node that it is on, if that is known. All are asked otherwise.
    node: Option<String>,
}

/// Where a page of connections of all nodes begins.
#[derive(Debug, Serialize, Deserialize)]
struct Cursor {
    node: String,
    place: Place,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct ConnectionPath {
    /// The app's id.
    app_id: String,
    /// The connection's socket id.
    socket_id: String,
}

/// Reads a socket id.
pub(super) fn socket_id(id: &str) -> Result<SocketId, Problem> {
    SocketId::parse(id).map_err(|error| Problem::invalid(format!("{id:?}: {error}")))
}

/// List an app's connections over all nodes
///
/// Each connection that stays is listed once, in no particular order. A node is asked after the other, so that nothing is
/// gathered; nodes that don't answer within one and a half seconds are named.
#[utoipa::path(
    get, path = "/apps/{app_id}/connections", tag = "State", operation_id = "list_connections",
    params(AppName, ConnectionQuery, PageQuery),
    responses(
        (status = 200, body = ConnectionList),
        (status = 404),
    ),
)]
pub(super) async fn connections(
    State(state): State<AppState>,
    caller: Caller,
    PathParams(AppName { app_id }): PathParams<AppName>,
    QueryParams(query): QueryParams<ConnectionQuery>,
    QueryParams(page): QueryParams<PageQuery>,
) -> Result<Json<ConnectionList>, Problem> {
    let app = live_app(&state, &caller, &app_id).await?;
    let (node, filter) = query.split();
    list(&state, &app, node, filter, &page).await.map(Json)
}

/// Lists connections of all nodes, or of one, from where the page before ended.
pub(super) async fn list(
    state: &AppState,
    app: &App,
    node: Option<String>,
    filter: Filter,
    page: &PageQuery,
) -> Result<ConnectionList, Problem> {
    filter.parse(app).map_err(Problem::invalid)?;
    let (limit, after) = (page.limit()?, page.after::<Cursor>()?);
    let names = match node {
        Some(node) => {
            nodes::check_name(state, &node)?;
            vec![node]
        }
        None => crate::nodes::names(state),
    };
    let until = Instant::now() + LIST_TIMEOUT;
    let mut items = Vec::new();
    let mut unanswered = Vec::new();
    let mut next = None;
    for node in names {
        let from = match &after {
            Some(after) if node < after.node => continue,
            Some(after) if node == after.node => after.place,
            _ => Place::default(),
        };
        if items.len() >= limit || Instant::now() >= until {
            next = Some(Cursor { node, place: from });
            break;
        }
        let question = Connections {
            app: app.id().to_string(),
            filter: filter.clone(),
            from,
            limit: limit - items.len(),
        };
        let Some(found) = ask_one(state, &node, question).await else {
            unanswered.push(node);
            continue;
        };
        items.extend(found.items);
        if let Some(place) = found.next {
            next = Some(Cursor { node, place });
            break;
        }
    }
    Ok(ConnectionList {
        items,
        next_cursor: next.map(|next| cursor(&next)),
        unanswered,
    })
}

/// Returns a connection from the node that has it.
async fn find(
    state: &AppState,
    app_id: &str,
    id: &str,
    node: Option<&str>,
) -> Result<ConnectionDetails, Problem> {
    socket_id(id)?;
    let question = ShowConnection {
        app: app_id.to_owned(),
        socket_id: id.to_owned(),
    };
    if let Some(node) = node {
        nodes::check_name(state, node)?;
        let answer = ask_one(state, node, question).await;
        let found = answer.ok_or_else(|| silent(id, &[node.to_owned()]))?;
        return match found {
            Some(found) => Ok(found),
            None => Err(no_connection(state, app_id, id).await),
        };
    }
    // Most often it is here: no other node is asked then.
    if let Some(found) = question.clone().answer(state).await {
        return Ok(found);
    }
    let all = ask_all(state, question).await;
    let mut answers = all.answers.into_iter();
    match answers.find_map(|(_, found)| found) {
        Some(found) => Ok(found),
        None if all.unanswered.is_empty() => Err(no_connection(state, app_id, id).await),
        None => Err(silent(id, &all.unanswered)),
    }
}

/// Says that there is no such connection, and how it ended if a node remembers that.
async fn no_connection(state: &AppState, app_id: &str, id: &str) -> Problem {
    let question = FindTrail {
        app: app_id.to_owned(),
        // Its subscriptions don't matter.
        channel: "any".into(),
        user_id: None,
        socket_id: Some(id.to_owned()),
    };
    let all = ask_all(state, question).await;
    let mut ended = all.answers.into_iter().flat_map(|(_, trail)| trail.closed);
    let detail = match ended.next() {
        Some(gone) => {
            let code = gone.code.map(|code| format!("closed with {code}, "));
            let at = Timestamp::from_millisecond(gone.closed_at).unwrap_or_default();
            let code = code.unwrap_or_default();
            format!(
                "the connection {id} ended at {at:.0}: {code}{}",
                gone.reason
            )
        }
        None => format!("there is no connection {id} of this app on any node"),
    };
    Problem::not_found(detail)
}

fn silent(id: &str, nodes: &[String]) -> Problem {
    Problem::unavailable(format!(
        "the connection {id} may be on a node that did not answer in time: {}",
        nodes.join(", ")
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
    let app = live_app(&state, &caller, &app_id).await?;
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
///
/// It may be on any node.
#[utoipa::path(
    get, path = "/apps/{app_id}/connections/{socket_id}", tag = "State", operation_id = "show_connection",
    params(ConnectionPath, NodeQuery),
    responses(
        (status = 200, body = ConnectionDetails),
        (status = 404),
    ),
)]
pub(super) async fn connection(
    State(state): State<AppState>,
    caller: Caller,
    PathParams(path): PathParams<ConnectionPath>,
    QueryParams(NodeQuery { node }): QueryParams<NodeQuery>,
) -> Result<Json<ConnectionDetails>, Problem> {
    let app = live_app(&state, &caller, &path.app_id).await?;
    let mut found = find(&state, &path.app_id, &path.socket_id, node.as_deref()).await?;
    if found.connection.waiting_bytes == 0 {
        add_positions(&state, &app, &mut found.subscriptions).await;
    }
    Ok(Json(found))
}

/// Adds the positions up to which everything is written, where channels keep a history.
async fn add_positions(state: &AppState, app: &Arc<App>, subscriptions: &mut [Subscription]) {
    for subscription in subscriptions.iter_mut().take(MAX_POSITIONS) {
        let max = app.settings().limits.channel_name;
        let Ok(channel) = ChannelName::parse(&subscription.channel, max) else {
            continue;
        };
        if app.retention(&channel).is_none() {
            continue;
        }
        let newest = state.engine.history(app, &channel, HistoryQuery::Last(0));
        // Without it, the rest is still worth showing.
        subscription.position = newest.await.ok().map(|found| found.position.to_string());
    }
}

/// Disconnect a client
///
/// The close code keeps the client away until it is restarted. It may be on any node. Needs the role admin.
#[utoipa::path(
    delete, path = "/apps/{app_id}/connections/{socket_id}", tag = "State", operation_id = "disconnect",
    params(ConnectionPath, NodeQuery),
    responses(
        (status = 204),
        (status = 404),
    ),
)]
pub(super) async fn disconnect(
    State(state): State<AppState>,
    caller: Caller,
    PathParams(path): PathParams<ConnectionPath>,
    QueryParams(NodeQuery { node }): QueryParams<NodeQuery>,
) -> Result<StatusCode, Problem> {
    caller.change(&path.app_id)?;
    live_app(&state, &caller, &path.app_id).await?;
    let id = &path.socket_id;
    let found = find(&state, &path.app_id, id, node.as_deref()).await?;
    let node = found.connection.node;
    // Recorded first, because what can't be recorded isn't done.
    let (by, app_id) = (&caller.actor, Some(path.app_id.as_str()));
    let target = ("connection", path.socket_id.as_str());
    let store = &state.admin.store;
    let (details, action) = (json!({"node": node}), "connection.close");
    store
        .record(by, action, target.0, target.1, app_id, &details)
        .await?;
    let question = Disconnect {
        app: path.app_id.clone(),
        socket_id: id.clone(),
    };
    match ask_one(&state, &node, question).await {
        // It may have left by itself in between.
        Some(_) => Ok(StatusCode::NO_CONTENT),
        None => Err(silent(id, &[node])),
    }
}
