//! An app's keys. Several are active at once, so that one can replace another while backends and clients run.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use fanfare_store::{KeyRecord, NewKey};
use secrecy::ExposeSecret;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::apps::AppName;
use super::etag::{IfMatch, Tagged};
use super::extract::{Body, PathParams, QueryParams};
use super::idempotent_request::IdempotentRequest;
use super::page::{Page, PageQuery};
use super::problem::Problem;
use crate::access::Caller;
use crate::app_state::AppState;
use crate::clock::unix_millis;

/// Whether a key signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum KeyState {
    /// The key signs.
    Active,
    /// The key signs until `expires_at`.
    Expiring,
    /// The key signed until `expires_at`.
    Expired,
    /// The key was revoked, for good.
    Revoked,
}

impl std::fmt::Display for KeyState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Active => "active",
            Self::Expiring => "expiring",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        })
    }
}

/// A key, without its secret.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub(crate) struct Key {
    /// The public half.
    #[schema(example = "278d425bdf160c739803")]
    pub(crate) key: String,
    /// The app's id.
    pub(crate) app_id: String,
    /// The purpose of the key.
    #[schema(required)]
    pub(crate) label: Option<String>,
    /// Whether it signs.
    pub(crate) state: KeyState,
    /// Unix time in milliseconds.
    pub(crate) created_at: i64,
    /// Unix time in milliseconds from which it signs no more.
    #[schema(required)]
    pub(crate) expires_at: Option<i64>,
    /// Unix time in milliseconds.
    #[schema(required)]
    pub(crate) revoked_at: Option<i64>,
    /// When it last signed a request, a channel auth or a sign-in, or let a connection in; Unix time in milliseconds, as
    /// coarse as some seconds.
    #[schema(required)]
    pub(crate) last_used_at: Option<i64>,
    /// The network address that was.
    #[schema(required)]
    pub(crate) last_used_from: Option<String>,
}

/// A key with its secret, which is shown this once.
#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct CreatedKey {
    /// The key.
    #[serde(flatten)]
    pub(crate) key: Key,
    /// The private half: for the app's backends, never for browsers.
    #[schema(format = Password, example = "shown once")]
    pub(crate) secret: String,
}

impl std::fmt::Debug for CreatedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.key.fmt(f)
    }
}

/// A key to be: what is left out is drawn.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateKey {
    /// The purpose of the key; at most 200 characters.
    #[schema(example = "web, from 2027")]
    label: Option<String>,
    /// Unix time in milliseconds from which it signs no more.
    expires_at: Option<i64>,
    /// A key to import.
    key: Option<String>,
    /// A secret to import.
    #[schema(format = Password)]
    secret: Option<String>,
}

/// The fields to change; `null` removes one, and those that are left out stay.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpdateKey {
    /// The purpose of the key.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    label: Option<Option<String>>,
    /// Unix time in milliseconds from which it signs no more.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<i64>)]
    expires_at: Option<Option<i64>>,
}

/// Deserializes a field so that `null` (`Some(None)`) differs from a missing field (`None`).
pub(super) fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    value: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(value).map(Some)
}

/// A key of an app.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct KeyName {
    /// The app's id.
    app_id: String,
    /// The key.
    key: String,
}

impl From<KeyRecord> for Key {
    fn from(key: KeyRecord) -> Self {
        let state = match (key.revoked_at, key.expires_at) {
            (Some(_), _) => KeyState::Revoked,
            (None, Some(expires_at)) if expires_at <= unix_millis() => KeyState::Expired,
            (None, Some(_)) => KeyState::Expiring,
            (None, None) => KeyState::Active,
        };
        Self {
            key: key.key,
            app_id: key.app_id,
            label: key.label,
            state,
            created_at: key.created_at,
            expires_at: key.expires_at,
            revoked_at: key.revoked_at,
            last_used_at: key.last_used_at,
            last_used_from: key.last_used_from,
        }
    }
}

impl From<KeyRecord> for CreatedKey {
    fn from(key: KeyRecord) -> Self {
        Self {
            secret: key.secret.expose_secret().to_owned(),
            key: key.into(),
        }
    }
}

/// List an app's keys, oldest first
///
/// The list has expired and revoked keys as well.
#[utoipa::path(
    get, path = "/apps/{app_id}/keys", tag = "Keys", operation_id = "list_keys",
    params(AppName, PageQuery),
    responses(
        (status = 200, body = Page<Key>),
        (status = 404),
    ),
)]
pub(super) async fn list(
    State(state): State<AppState>,
    caller: Caller,
    PathParams(AppName { app_id }): PathParams<AppName>,
    QueryParams(page): QueryParams<PageQuery>,
) -> Result<Json<Page<Key>>, Problem> {
    caller.see(&app_id)?;
    let limit = page.limit()?;
    let after: Option<(i64, String)> = page.after()?;
    let position = |key: &KeyRecord| (key.created_at, key.key.clone());
    let keys = state.admin.store.keys(&app_id).await?;
    let rest = keys
        .into_iter()
        .filter(|key| after.as_ref().is_none_or(|after| position(key) > *after));
    Ok(Json(Page::of(
        rest.take(limit + 1).collect(),
        limit,
        position,
        Key::from,
    )))
}

/// Add a key to an app
///
/// The others stay active. Its secret is shown this once. Needs the role admin.
#[utoipa::path(
    post, path = "/apps/{app_id}/keys", tag = "Keys", operation_id = "create_key",
    params(AppName, ("idempotency-key" = Option<String>, Header, description = "A request with the same key within a day gets the same answer")),
    request_body = CreateKey,
    responses(
        (status = 201, body = CreatedKey),
        (status = 404),
        (status = 409, description = "The key is in use"),
    ),
)]
pub(super) async fn create(
    State(state): State<AppState>,
    caller: Caller,
    PathParams(AppName { app_id }): PathParams<AppName>,
    idempotent: IdempotentRequest,
    body: Body<CreateKey>,
) -> Result<Response, Problem> {
    caller.change(&app_id)?;
    let Body { value, bytes } = body;
    let store = &state.admin.store;
    let created = async {
        let new = NewKey {
            key: value.key,
            secret: value.secret,
            label: value.label,
            expires_at: value.expires_at,
        };
        let key = store.create_key(&app_id, new, &caller.actor).await?;
        Ok(CreatedKey::from(key))
    };
    idempotent.create(store, &caller, &bytes, created).await
}

/// Returns a key with its app's revision, which changes with each of the app's keys.
async fn find(state: &AppState, KeyName { app_id, key }: &KeyName) -> Result<Tagged<Key>, Problem> {
    let revision = state.admin.store.app(app_id).await?.revision;
    let keys = state.admin.store.keys(app_id).await?;
    let found = keys.into_iter().find(|candidate| candidate.key == *key);
    found
        .map(|key| Tagged(key.into(), revision))
        .ok_or_else(|| Problem::not_found(format!("the app {app_id:?} has no key {key:?}")))
}

/// Show a key
#[utoipa::path(
    get, path = "/apps/{app_id}/keys/{key}", tag = "Keys", operation_id = "show_key",
    params(KeyName),
    responses(
        (status = 200, body = Key, headers(("etag" = String, description = "For If-Match"))),
        (status = 404),
    ),
)]
pub(super) async fn show(
    State(state): State<AppState>,
    caller: Caller,
    PathParams(name): PathParams<KeyName>,
) -> Result<Tagged<Key>, Problem> {
    caller.see(&name.app_id)?;
    find(&state, &name).await
}

/// Change a key's label or the time it expires
///
/// A key that expires closes its connections. Needs the role admin.
#[utoipa::path(
    patch, path = "/apps/{app_id}/keys/{key}", tag = "Keys", operation_id = "update_key",
    params(KeyName, IfMatch),
    request_body = UpdateKey,
    responses(
        (status = 200, body = Key, headers(("etag" = String, description = "For If-Match"))),
        (status = 404),
        (status = 409, description = "The key is revoked"),
        (status = 412, description = "The app, or one of its keys, was changed in the meantime"),
    ),
)]
pub(super) async fn update(
    State(state): State<AppState>,
    caller: Caller,
    PathParams(name): PathParams<KeyName>,
    if_match: IfMatch,
    body: Body<UpdateKey>,
) -> Result<Tagged<Key>, Problem> {
    caller.change(&name.app_id)?;
    let UpdateKey { label, expires_at } = body.value;
    let store = &state.admin.store;
    let expected = if_match.revision()?;
    let by = &caller.actor;
    store
        .update_key(&name.app_id, &name.key, label, expires_at, expected, by)
        .await?;
    find(&state, &name).await
}

/// Revoke a key, for good
///
/// The key's signatures are refused and its connections closed on every node within a second. Needs the role admin.
#[utoipa::path(
    delete, path = "/apps/{app_id}/keys/{key}", tag = "Keys", operation_id = "revoke_key",
    params(KeyName),
    responses(
        (status = 204),
        (status = 404),
        (status = 409, description = "The key is revoked already"),
    ),
)]
pub(super) async fn revoke(
    State(state): State<AppState>,
    caller: Caller,
    PathParams(KeyName { app_id, key }): PathParams<KeyName>,
) -> Result<StatusCode, Problem> {
    caller.change(&app_id)?;
    state
        .admin
        .store
        .revoke_key(Some(&app_id), &key, &caller.actor)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}
