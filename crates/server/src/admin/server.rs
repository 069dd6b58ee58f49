//! The node that answers.

use std::net::IpAddr;
use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::State;
use axum::http::request::Parts;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::access::Caller;
use crate::app_state::AppState;

/// The node that answers.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct ServerInfo {
    /// The name of the node, which is its machine's; in a cluster with a part that each start draws.
    #[schema(example = "web-1-9f3c21d0")]
    pub(crate) node: String,
    /// Its version.
    #[schema(example = "0.1.0")]
    pub(crate) version: String,
    /// Whether it takes connections and events.
    pub(crate) ready: bool,
    /// When it started, Unix time in milliseconds.
    pub(crate) started_at: i64,
    /// Connections of all apps; `null` for those who see only some apps.
    #[schema(required)]
    pub(crate) connections: Option<usize>,
    /// The connections that are sessions of the HTTP fallbacks; `null` likewise.
    #[schema(required)]
    pub(crate) fallback_sessions: Option<usize>,
    /// Sessions of the HTTP fallbacks that were asked to try a WebSocket again, since the start; `null` likewise.
    #[schema(required)]
    pub(crate) websocket_retries: Option<u64>,
    /// Address that this request came from, as the node sees it: its client's, if all proxies are declared. `null` for a
    /// request over no network.
    #[schema(required, example = "203.0.113.7")]
    pub(crate) client_address: Option<String>,
    /// Address of a proxy that forwarded this request for another client, and that `http.trusted_proxies` doesn't name.
    #[schema(required)]
    pub(crate) undeclared_proxy: Option<String>,
}

/// Show the node that answers
#[utoipa::path(
    get, path = "/server", tag = "Server", operation_id = "show_server",
    responses((status = 200, body = ServerInfo)),
)]
pub(super) async fn show(
    State(state): State<AppState>,
    caller: Caller,
    parts: Parts,
) -> Json<ServerInfo> {
    let (headers, extensions) = (&parts.headers, &parts.extensions);
    let sees_all = caller.apps().is_none();
    let shown = |address: Option<IpAddr>| address.map(|address| address.to_string());
    Json(ServerInfo {
        node: state.node_name.to_string(),
        version: env!("CARGO_PKG_VERSION").into(),
        ready: state.ready.load(Ordering::Relaxed),
        started_at: state.started_at,
        connections: sees_all.then(|| state.engine.connections()),
        fallback_sessions: sees_all.then(|| state.sessions.len()),
        websocket_retries: sees_all.then(|| state.websocket_retry.asked()),
        client_address: shown(state.addresses.of(headers, extensions)),
        undeclared_proxy: shown(state.addresses.undeclared_proxy(headers, extensions)),
    })
}
