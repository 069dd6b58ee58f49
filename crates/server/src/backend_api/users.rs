//! `POST users/{id}/terminate_connections` (docs/http-api.md#terminate-a-user).

use axum::Json;
use axum::extract::{Path, State};
use fanfare_protocol::UserId;
use serde::Deserialize;
use serde_json::{Value, json};

use super::auth::SignedRequest;
use crate::app_state::AppState;
use crate::http::error::ApiError;

#[derive(Deserialize)]
pub(crate) struct UserPath {
    user: String,
}

/// Close the connections of a user
///
/// The answer is the same whether the user has connections or not.
#[utoipa::path(
    post, path = "/apps/{app_id}/users/{user}/terminate_connections", tag = "Backend", operation_id = "terminate_user_connections",
    params(("app_id" = String, Path, description = "The app's id"), ("user" = String, Path, description = "The user's id")),
    responses((status = 200, body = Object, description = "Done: an empty object")),
)]
pub(crate) async fn terminate(
    State(state): State<AppState>,
    Path(UserPath { user }): Path<UserPath>,
    request: SignedRequest,
) -> Result<Json<Value>, ApiError> {
    let user = UserId::new(&user).ok_or_else(|| {
        ApiError::new(
            400,
            "Invalid user id: it is empty, or has the character U+0000",
        )
    })?;
    state.engine.terminate_user(&request.app, &user).await?;
    Ok(Json(json!({})))
}
