//! An app's outbox: where its backends write events in their own database, which a node reads and publishes.

use axum::extract::State;
use axum::http::StatusCode;
use fanfare_outbox::Location;
use fanfare_store::{NewOutbox, OutboxRecord, OutboxState as StoredState, Role};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::apps::AppName;
use super::etag::{IfMatch, StaleApp, Tagged};
use super::extract::{Body, PathParams};
use super::problem::Problem;
use crate::access::Caller;
use crate::app_state::AppState;
use crate::config::{HIDDEN, without_password};

/// How often an outbox is looked at unless another interval is given, in milliseconds.
const DEFAULT_POLL_INTERVAL: i64 = 50;

/// What the node that reads an outbox last said of it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub(crate) struct OutboxState {
    /// The node.
    #[schema(example = "web-1-9f3c21d0")]
    pub(crate) node: String,
    /// Whether it reaches the outbox.
    pub(crate) connected: bool,
    /// How many events wait.
    #[schema(minimum = 0)]
    pub(crate) backlog: i64,
    /// Whether `backlog` was counted; it is a least number otherwise.
    pub(crate) backlog_is_exact: bool,
    /// When the oldest event that waits was written, Unix time in milliseconds.
    #[schema(required)]
    pub(crate) oldest_at: Option<i64>,
    /// Events that were published since the outbox was set.
    #[schema(minimum = 0)]
    pub(crate) published: i64,
    /// Events that were refused since then, because they are invalid.
    #[schema(minimum = 0)]
    pub(crate) rejected: i64,
    /// When an event was last published, Unix time in milliseconds.
    #[schema(required)]
    pub(crate) last_event_at: Option<i64>,
    /// What last went wrong, also if it is over.
    #[schema(required)]
    pub(crate) last_error: Option<String>,
    /// When that was, Unix time in milliseconds.
    #[schema(required)]
    pub(crate) last_error_at: Option<i64>,
    /// When the node said so, Unix time in milliseconds.
    pub(crate) reported_at: i64,
}

impl From<StoredState> for OutboxState {
    fn from(state: StoredState) -> Self {
        Self {
            node: state.node,
            connected: state.connected,
            backlog: state.backlog,
            backlog_is_exact: state.backlog_is_exact,
            oldest_at: state.oldest_at,
            published: state.published,
            rejected: state.rejected,
            last_event_at: state.last_event_at,
            last_error: state.last_error,
            last_error_at: state.last_error_at,
            reported_at: state.reported_at,
        }
    }
}

/// An outbox, without its password.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub(crate) struct Outbox {
    /// Where it is. The password is shown as `(hidden)`.
    #[schema(example = "postgres://fanfare:(hidden)@db.example.com/shop")]
    pub(crate) url: String,
    /// The stream's key in Redis; `null` for `fanfare`, and in Postgres.
    #[schema(required)]
    pub(crate) stream: Option<String>,
    /// How often a node looks for events, in milliseconds.
    #[schema(example = 50)]
    pub(crate) poll_interval: i64,
    /// What the node that reads it last said; `null` before the first time.
    #[schema(required)]
    pub(crate) state: Option<OutboxState>,
    /// When the app got an outbox, Unix time in milliseconds.
    pub(crate) created_at: i64,
    /// Unix time in milliseconds.
    pub(crate) updated_at: i64,
}

/// An outbox to set.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SetOutbox {
    /// Where it is: `postgres://` for a database in which `fanfare outbox install` was run, `redis://` or `rediss://` for a
    /// stream.
    #[schema(
        format = Password,
        max_length = 2048,
        example = "postgres://fanfare:password@db.example.com/shop"
    )]
    url: String,
    /// The stream's key, only in Redis; `fanfare` without one.
    #[schema(
        min_length = 1,
        max_length = 512,
        pattern = r"^[^\x00-\x1f\x7f-\x9f]*$"
    )]
    stream: Option<String>,
    /// How often a node looks for events, in milliseconds.
    #[serde(default = "default_poll_interval")]
    #[schema(minimum = 5, maximum = 60_000, default = 50)]
    poll_interval: i64,
}

fn default_poll_interval() -> i64 {
    DEFAULT_POLL_INTERVAL
}

impl SetOutbox {
    /// Checks what the store can't judge, and returns what it keeps.
    fn checked(self) -> Result<NewOutbox, Problem> {
        if self.url.contains(HIDDEN) {
            return Err(Problem::invalid(format!(
                "url has {HIDDEN} where its password belongs, as an outbox is shown: pass the URL with the password"
            )));
        }
        Location::parse(&self.url, self.stream.as_deref()).map_err(Problem::invalid)?;
        Ok(NewOutbox {
            url: self.url.into(),
            stream: self.stream,
            poll_interval: self.poll_interval,
        })
    }
}

impl Outbox {
    fn new(outbox: &OutboxRecord, state: Option<StoredState>) -> Self {
        Self {
            url: without_password(outbox.url.expose_secret()),
            stream: outbox.stream.clone(),
            poll_interval: outbox.poll_interval,
            state: state.map(OutboxState::from),
            created_at: outbox.created_at,
            updated_at: outbox.updated_at,
        }
    }
}

/// Checks that the caller may change an app's outbox. Nodes connect to its address from inside the network, so it is not
/// the app's own to choose.
fn check_change(caller: &Caller, app_id: &str) -> Result<(), Problem> {
    caller.change(app_id)?;
    caller.require_everywhere(Role::Admin).map_err(|_| {
        Problem::forbidden(
            "an outbox needs the role admin on all apps, and your rights are on some: nodes connect to its URL from inside \
             their network",
        )
    })
}

/// Returns an app's outbox as it is shown, with the app's revision.
async fn find(state: &AppState, app_id: &str) -> Result<Tagged<Outbox>, Problem> {
    let store = &state.admin.store;
    // First, so that the revision is never newer than what it is sent with.
    let revision = store.app(app_id).await?.revision;
    let none = || Problem::not_found(format!("the app {app_id:?} has no outbox"));
    let outbox = store.outbox(app_id).await?.ok_or_else(none)?;
    let said = store.outbox_state(app_id).await?;
    Ok(Tagged(Outbox::new(&outbox, said), revision))
}

/// Show an app's outbox
///
/// With what the node that reads it last said of it. The password of the URL is hidden.
#[utoipa::path(
    get, path = "/apps/{app_id}/outbox", tag = "Outbox", operation_id = "show_outbox",
    params(AppName),
    responses(
        (status = 200, body = Outbox, headers(("etag" = String, description = "For If-Match"))),
        (status = 404, description = "There is no such app, or it has none"),
    ),
)]
pub(super) async fn show(
    State(state): State<AppState>,
    caller: Caller,
    PathParams(AppName { app_id }): PathParams<AppName>,
) -> Result<Tagged<Outbox>, Problem> {
    caller.see(&app_id)?;
    find(&state, &app_id).await
}

/// Set an app's outbox
///
/// Replaces the previous one; what was counted stays if only credentials, parameters or the interval differ. The change is
/// active on every node within a second. Needs the role admin, on all apps: nodes connect to the URL from inside their
/// network.
#[utoipa::path(
    put, path = "/apps/{app_id}/outbox", tag = "Outbox", operation_id = "set_outbox",
    params(AppName, IfMatch),
    request_body = SetOutbox,
    responses(
        (status = 200, body = Outbox, headers(("etag" = String, description = "For If-Match"))),
        (status = 400, description = "A field is invalid; the answer names it"),
        (status = 404),
        StaleApp,
    ),
)]
pub(super) async fn set(
    State(state): State<AppState>,
    caller: Caller,
    PathParams(AppName { app_id }): PathParams<AppName>,
    if_match: IfMatch,
    body: Body<SetOutbox>,
) -> Result<Tagged<Outbox>, Problem> {
    check_change(&caller, &app_id)?;
    let revision = if_match.revision()?;
    let new = body.value.checked()?;
    let store = &state.admin.store;
    store
        .set_outbox(&app_id, new, revision, &caller.actor)
        .await?;
    find(&state, &app_id).await
}

/// Remove an app's outbox
///
/// Events that wait there stay there. Needs the role admin, on all apps.
#[utoipa::path(
    delete, path = "/apps/{app_id}/outbox", tag = "Outbox", operation_id = "remove_outbox",
    params(AppName, IfMatch),
    responses(
        (status = 204),
        (status = 404),
        StaleApp,
    ),
)]
pub(super) async fn remove(
    State(state): State<AppState>,
    caller: Caller,
    PathParams(AppName { app_id }): PathParams<AppName>,
    if_match: IfMatch,
) -> Result<StatusCode, Problem> {
    check_change(&caller, &app_id)?;
    let store = &state.admin.store;
    store
        .remove_outbox(&app_id, if_match.revision()?, &caller.actor)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}
