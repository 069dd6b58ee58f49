//! How an app's end users prove who they are, if Fanfare signs for them (`docs/channel-auth.md`).

use axum::extract::State;
use axum::http::StatusCode;
use fanfare_protocol::Identity;
use fanfare_protocol::identity::InvalidIdentity;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::apps::AppName;
use super::etag::{IfMatch, StaleApp, Tagged};
use super::extract::{Body, PathParams};
use super::problem::Problem;
use crate::access::Caller;
use crate::app_state::AppState;

/// Show an app's identity
///
/// Secrets are shown as `"set"`.
#[utoipa::path(
    get, path = "/apps/{app_id}/identity", tag = "Identity", operation_id = "show_identity",
    params(AppName),
    responses(
        (status = 200, body = Identity, headers(("etag" = String, description = "For If-Match"))),
        (status = 404, description = "There is no such app, or it has none"),
    ),
)]
pub(super) async fn show(
    State(state): State<AppState>,
    caller: Caller,
    PathParams(AppName { app_id }): PathParams<AppName>,
) -> Result<Tagged<Value>, Problem> {
    caller.see(&app_id)?;
    let revision = state.admin.store.app(&app_id).await?.revision;
    let text = state.admin.store.identity(&app_id).await?;
    let none = || Problem::not_found(format!("the app {app_id:?} has no identity"));
    let text = text.ok_or_else(none)?;
    Ok(Tagged(read(&text)?.redacted(), revision))
}

fn read(stored: &SecretString) -> Result<Identity, Problem> {
    serde_json::from_str(stored.expose_secret()).map_err(|_| {
        Problem::conflict(
            "the identity was stored by another version and cannot be read; set it again",
        )
    })
}

/// Set an app's identity
///
/// Replaces the previous identity, secrets included; a secret that is `"set"`, as it is shown, is kept if the provider
/// with that issuer has one. The change is active on every node within a second. Needs the role admin.
#[utoipa::path(
    put, path = "/apps/{app_id}/identity", tag = "Identity", operation_id = "set_identity",
    params(AppName, IfMatch),
    request_body = Identity,
    responses(
        (status = 204),
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
    body: Body<Identity>,
) -> Result<StatusCode, Problem> {
    caller.change(&app_id)?;
    let mut identity = body.value;
    let mut revision = if_match.revision()?;
    let invalid = |error: InvalidIdentity| Problem::invalid(error.to_string());
    if identity.keeps_secrets() {
        // Of the revision that was read, so that no other change is taken back.
        revision = revision.or(Some(state.admin.store.app(&app_id).await?.revision));
        let stored = state.admin.store.identity(&app_id).await?;
        let stored = stored.map_or(Ok(Identity::default()), |text| read(&text))?;
        identity.keep_secrets(&stored).map_err(invalid)?;
    }
    state.identities.compile(&identity).map_err(invalid)?;
    let text = serde_json::to_string(&identity).expect("an identity is JSON");
    let text = SecretString::from(text);
    state
        .admin
        .store
        .set_identity(&app_id, Some(&text), revision, &caller.actor)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Take an app's identity away
///
/// Tokens grant nothing from then on. Needs the role admin.
#[utoipa::path(
    delete, path = "/apps/{app_id}/identity", tag = "Identity", operation_id = "delete_identity",
    params(AppName, IfMatch),
    responses(
        (status = 204),
        (status = 404),
        StaleApp,
    ),
)]
pub(super) async fn delete(
    State(state): State<AppState>,
    caller: Caller,
    PathParams(AppName { app_id }): PathParams<AppName>,
    if_match: IfMatch,
) -> Result<StatusCode, Problem> {
    caller.change(&app_id)?;
    state
        .admin
        .store
        .set_identity(&app_id, None, if_match.revision()?, &caller.actor)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}
