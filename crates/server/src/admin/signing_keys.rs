//! The keys that sign Fanfare's own tokens. A rotation signs no operator out, because old keys verify until the tokens
//! they signed have expired.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use fanfare_store::{Role, SigningKeyRecord};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::extract::Body;
use super::problem::Problem;
use super::tokens::MAX_DAYS;
use crate::access::Caller;
use crate::app_state::AppState;
use crate::clock::unix_millis;

const SECOND: i64 = 1000;
/// Longest life of a token that they sign, in seconds.
const KEEP: u32 = MAX_DAYS as u32 * 24 * 60 * 60;

/// A key that signs or verifies tokens, without its secret.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct TokenKey {
    /// The `kid` of the tokens it signs.
    pub(crate) id: String,
    /// Whether it signs new tokens; the others verify old ones.
    pub(crate) signs: bool,
    /// Unix time in milliseconds.
    pub(crate) created_at: i64,
    /// Unix time in milliseconds from which it verifies no more.
    #[schema(required)]
    pub(crate) retired_at: Option<i64>,
}

/// The way to rotate.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RotateKeys {
    /// Seconds for which the old keys still verify; if left out, as long as what they signed is valid. 0 signs all operators
    /// out and revokes all API tokens: for a key that was leaked.
    #[schema(minimum = 0, maximum = 31_622_400)]
    keep_old_for: Option<u32>,
}

fn view(key: SigningKeyRecord) -> TokenKey {
    TokenKey {
        id: key.id,
        signs: key.retired_at.is_none(),
        created_at: key.created_at,
        retired_at: key.retired_at,
    }
}

/// List the keys that sign and verify tokens
///
/// Needs the role owner.
#[utoipa::path(
    get, path = "/signing-keys", tag = "Signing keys", operation_id = "list_signing_keys",
    responses((status = 200, body = Vec<TokenKey>)),
)]
pub(super) async fn list(
    State(state): State<AppState>,
    caller: Caller,
) -> Result<Json<Vec<TokenKey>>, Problem> {
    caller.require_everywhere(Role::Owner)?;
    let keys = state.admin.store.signing_keys().await?;
    Ok(Json(keys.into_iter().map(view).collect()))
}

/// Sign with a new key from now on
///
/// No operator is signed out, unless `keep_old_for` says so. Needs the role owner.
#[utoipa::path(
    post, path = "/signing-keys", tag = "Signing keys", operation_id = "rotate_signing_keys",
    request_body = RotateKeys,
    responses(
        (status = 201, body = TokenKey),
    ),
)]
pub(super) async fn rotate(
    State(state): State<AppState>,
    caller: Caller,
    body: Body<RotateKeys>,
) -> Result<(StatusCode, Json<TokenKey>), Problem> {
    caller.require_everywhere(Role::Owner)?;
    let keep = body.value.keep_old_for.unwrap_or(KEEP);
    if keep > KEEP {
        let detail = format!("keep_old_for is 0 to {KEEP} seconds, not {keep}");
        return Err(Problem::invalid(detail));
    }
    let until = unix_millis() + i64::from(keep) * SECOND;
    let key = state
        .admin
        .store
        .rotate_signing_key(until, &caller.actor)
        .await?;
    Ok((StatusCode::CREATED, Json(view(key))))
}
