//! The nodes of the installation.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use fanfare_store::Role;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use super::extract::PathParams;
use super::problem::Problem;
use crate::access::Caller;
use crate::app_state::AppState;
use crate::nodes::{
    self, Drain, DrainOutcome, EndDrain, NodeState, NodeStatus, Status, ask_all, ask_one,
};

/// A node of the installation.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Node)]
pub(crate) struct NodeView {
    /// Its name: that of its machine, in a cluster with a part that each start draws.
    #[schema(example = "web-1-9f3c21d0")]
    pub(crate) name: String,
    /// Whether it is the one that answers this request.
    pub(crate) is_answering_node: bool,
    #[serde(flatten)]
    pub(crate) status: NodeStatus,
}

/// All nodes.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Nodes)]
pub(crate) struct NodeList {
    /// The nodes that answered within one and a half seconds, by name.
    pub(crate) nodes: Vec<NodeView>,
    /// The names of those that didn't.
    pub(crate) unanswered: Vec<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct NodeName {
    /// The node's name.
    #[param(example = "web-1-9f3c21d0")]
    name: String,
}

/// List the nodes
///
/// Asks each node what it does and holds. Totals count from its start, so two answers make a rate. Needs to see all apps.
#[utoipa::path(
    get, path = "/nodes", tag = "Server", operation_id = "list_nodes",
    responses((status = 200, body = NodeList)),
)]
pub(super) async fn list(
    State(state): State<AppState>,
    caller: Caller,
) -> Result<Json<NodeList>, Problem> {
    caller.require_everywhere(Role::Viewer)?;
    let found = ask_all(&state, Status {}).await;
    let view = |(name, status): (String, NodeStatus)| NodeView {
        is_answering_node: *name == *state.node_name,
        name,
        status,
    };
    Ok(Json(NodeList {
        nodes: found.answers.into_iter().map(view).collect(),
        unanswered: found.unanswered,
    }))
}

/// Drain a node
///
/// Moves its clients to other nodes over `drain.period`, and keeps new ones away: `/readyz` says 503. The node runs on,
/// until the drain is ended or it is restarted. Refused if no other node is ready. Needs the role admin of all apps.
#[utoipa::path(
    post, path = "/nodes/{name}/drain", tag = "Server", operation_id = "drain_node",
    params(NodeName),
    responses(
        (status = 204),
        (status = 404),
        (status = 409, description = "No other node is ready, or this one stops"),
    ),
)]
pub(super) async fn drain(
    State(state): State<AppState>,
    caller: Caller,
    PathParams(NodeName { name }): PathParams<NodeName>,
) -> Result<StatusCode, Problem> {
    caller.require_everywhere(Role::Admin)?;
    check_name(&state, &name)?;
    check_others(&state, &name).await?;
    record(&state, &caller, "node.drain", &name).await?;
    let by = caller.actor.name.clone();
    let drained = done(
        &name,
        ask_one(&state, &name, Drain { by: by.clone() }).await,
    )?;
    // The others may have been drained at the same moment.
    if let Err(problem) = check_others(&state, &name).await {
        record(&state, &caller, "node.end_drain", &name).await?;
        ask_one(&state, &name, EndDrain { by }).await;
        return Err(problem);
    }
    Ok(drained)
}

/// Checks that a node other than this one is ready.
async fn check_others(state: &AppState, name: &str) -> Result<(), Problem> {
    let all = ask_all(state, Status {}).await;
    let mut others = all.answers.iter().filter(|(other, _)| *other != name);
    if others.any(|(_, status)| status.state == NodeState::Ready) {
        return Ok(());
    }
    Err(Problem::conflict(format!(
        "no other node is ready to take the clients of {name:?}: start one, or end the drain of another"
    )))
}

/// End the drain of a node
///
/// The node takes clients again; those that moved stay where they are. Needs the role admin of all apps.
#[utoipa::path(
    delete, path = "/nodes/{name}/drain", tag = "Server", operation_id = "end_drain",
    params(NodeName),
    responses(
        (status = 204),
        (status = 404),
        (status = 409, description = "The node stops"),
    ),
)]
pub(super) async fn end_drain(
    State(state): State<AppState>,
    caller: Caller,
    PathParams(NodeName { name }): PathParams<NodeName>,
) -> Result<StatusCode, Problem> {
    caller.require_everywhere(Role::Admin)?;
    check_name(&state, &name)?;
    record(&state, &caller, "node.end_drain", &name).await?;
    let by = caller.actor.name.clone();
    done(&name, ask_one(&state, &name, EndDrain { by }).await)
}

/// Checks that a node is known.
pub(super) fn check_name(state: &AppState, name: &str) -> Result<(), Problem> {
    let known = nodes::names(state);
    if known.iter().any(|known| known == name) {
        return Ok(());
    }
    Err(Problem::not_found(format!(
        "there is no node {name:?}: there are {}",
        known.join(", ")
    )))
}

/// Writes to the audit log what is about to be done, because what can't be recorded isn't done.
async fn record(
    state: &AppState,
    caller: &Caller,
    action: &str,
    name: &str,
) -> Result<(), Problem> {
    let (by, store) = (&caller.actor, &state.admin.store);
    store
        .record(by, action, "node", name, None, &json!({}))
        .await?;
    Ok(())
}

fn done(name: &str, outcome: Option<DrainOutcome>) -> Result<StatusCode, Problem> {
    match outcome {
        Some(DrainOutcome::Done) => Ok(StatusCode::NO_CONTENT),
        Some(DrainOutcome::Stopping) => Err(Problem::conflict(format!(
            "the node {name:?} is starting or shutting down"
        ))),
        None => Err(Problem::unavailable(format!(
            "the node {name:?} did not answer in time: look whether it did what it was asked (GET /api/v1/nodes), and try again"
        ))),
    }
}
