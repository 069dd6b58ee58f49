//! How far quotas are used.

use axum::Json;
use axum::extract::State;
use fanfare_store::Role;

use super::apps::AppName;
use super::extract::PathParams;
use super::problem::Problem;
use crate::access::Caller;
use crate::app_state::AppState;
use crate::quotas::{QuotaUse, status};

/// Show how far an app's quotas are used
///
/// The quotas that are set, in their current day or month of UTC. Nodes take shares of a quota, so `used` may be a share
/// for each node above what was used. Connections are under `limits.connections`.
#[utoipa::path(
    get, path = "/apps/{app_id}/quotas", tag = "Usage", operation_id = "show_app_quotas",
    params(AppName),
    responses(
        (status = 200, body = Vec<QuotaUse>),
        (status = 404),
    ),
)]
pub(super) async fn show_app(
    State(state): State<AppState>,
    caller: Caller,
    PathParams(AppName { app_id }): PathParams<AppName>,
) -> Result<Json<Vec<QuotaUse>>, Problem> {
    caller.see(&app_id)?;
    let store = &state.admin.store;
    let app = store.app(&app_id).await?;
    let found = status(store, Some(&app_id), &app.settings.quotas).await?;
    Ok(Json(found))
}

/// Show how far the installation's quotas are used
///
/// The quotas that the configuration of this node sets for all apps together. Needs rights on all apps.
#[utoipa::path(
    get, path = "/quotas", tag = "Usage", operation_id = "show_quotas",
    responses(
        (status = 200, body = Vec<QuotaUse>),
    ),
)]
pub(super) async fn show(
    State(state): State<AppState>,
    caller: Caller,
) -> Result<Json<Vec<QuotaUse>>, Problem> {
    caller.require_everywhere(Role::Viewer)?;
    let found = status(&state.admin.store, None, &state.quotas).await?;
    Ok(Json(found))
}
