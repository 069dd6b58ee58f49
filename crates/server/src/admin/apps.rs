//! Apps.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use fanfare_protocol::AppSettings;
use fanfare_store::{AppRecord, NewApp, NewKey, Role, StoreError};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::etag::{IfMatch, Tagged};
use super::extract::{Body, PathParams, QueryParams};
use super::idempotent_request::IdempotentRequest;
use super::keys::CreatedKey;
use super::page::{Page, PageQuery};
use super::problem::Problem;
use crate::access::Caller;
use crate::app_state::AppState;

/// Most apps that don't exist that a refusal names.
const MAX_NAMED: usize = 10;

/// A tenant.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct App {
    /// Its id; digits, unless it was imported.
    #[schema(example = "123456789")]
    pub(crate) id: String,
    /// The name that people see.
    #[schema(example = "Shop")]
    pub(crate) name: String,
    /// The settings, which may change while the app runs.
    pub(crate) settings: AppSettings,
    /// Unix time in milliseconds.
    pub(crate) created_at: i64,
    /// Unix time in milliseconds.
    pub(crate) updated_at: i64,
}

/// An app to be: what is left out is drawn or has its default.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateApp {
    /// The name that people see; 1 to 200 printable characters.
    #[schema(example = "Shop")]
    name: String,
    /// An id to import, for a move from another server without a change in clients. Without one it is drawn, and is digits.
    /// Another id than digits works, and gets a warning in the answer: `pusher` of PyPI refuses such ids before it sends
    /// anything, so Python backends can't use it.
    #[schema(example = "123456789")]
    id: Option<String>,
    /// A key to import.
    #[schema(example = "278d425bdf160c739803")]
    key: Option<String>,
    /// The secret of that key.
    #[schema(format = Password)]
    secret: Option<String>,
    /// The settings that are not to be the default.
    #[schema(value_type = Option<AppSettings>)]
    settings: Option<Value>,
}

/// A new app and its first key.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct CreatedApp {
    /// The app.
    #[serde(flatten)]
    pub(crate) app: App,
    /// Its first key, with its secret, which is shown this once.
    pub(crate) key: CreatedKey,
    /// Consequences that may surprise, as texts for people: an id that isn't digits, which `pusher` of PyPI refuses. Absent if there are none.
    #[schema(nullable = false)]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) warnings: Vec<String>,
}

/// Returns warnings about an id that some SDKs refuse.
fn warnings(id: &str) -> Vec<String> {
    let is_digits = id.bytes().all(|byte| byte.is_ascii_digit());
    let warning = || {
        format!(
            "the id {id:?} is not digits only: PyPI pusher refuses such ids before it sends anything, so Python backends cannot \
             use it; leave the id out to have one drawn"
        )
    };
    (!is_digits).then(warning).into_iter().collect()
}

/// The fields to change; the others stay.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpdateApp {
    /// The name that people see; 1 to 200 printable characters.
    #[schema(example = "Shop")]
    name: Option<String>,
    /// The settings to change; the others stay.
    #[schema(value_type = Option<AppSettings>)]
    settings: Option<Value>,
}

/// An app.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct AppName {
    /// Its id.
    pub(super) app_id: String,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Confirmation {
    /// The app's name, to make sure that it is the one that is meant.
    #[param(required, min_length = 1, example = "Shop")]
    confirm: Option<String>,
}

impl From<AppRecord> for App {
    fn from(app: AppRecord) -> Self {
        Self {
            id: app.id,
            name: app.name,
            settings: app.settings,
            created_at: app.created_at,
            updated_at: app.updated_at,
        }
    }
}

/// List apps, oldest first
///
/// The list has the apps that the caller may see.
#[utoipa::path(
    get, path = "/apps", tag = "Apps", operation_id = "list_apps",
    params(PageQuery),
    responses(
        (status = 200, body = Page<App>),
    ),
)]
pub(super) async fn list(
    State(state): State<AppState>,
    caller: Caller,
    QueryParams(page): QueryParams<PageQuery>,
) -> Result<axum::Json<Page<App>>, Problem> {
    let limit = page.limit()?;
    let store = &state.admin.store;
    let apps = store
        .apps_page(page.after()?, limit as i64 + 1, caller.apps())
        .await?;
    let position = |app: &AppRecord| (app.created_at, app.id.clone());
    Ok(axum::Json(Page::of(apps, limit, position, App::from)))
}

/// Create or import an app, with its first key
///
/// Needs the role admin, on all apps. The key's secret is shown this once.
#[utoipa::path(
    post, path = "/apps", tag = "Apps", operation_id = "create_app",
    params(("idempotency-key" = Option<String>, Header, description = "A request with the same key within a day gets the same answer")),
    request_body = CreateApp,
    responses(
        (status = 201, body = CreatedApp),
        (status = 409, description = "The id or the key is in use"),
    ),
)]
pub(super) async fn create(
    State(state): State<AppState>,
    caller: Caller,
    idempotent: IdempotentRequest,
    body: Body<CreateApp>,
) -> Result<Response, Problem> {
    // On all apps, because a caller of some apps would not see the new one.
    caller.require_everywhere(Role::Admin)?;
    let Body { value, bytes } = body;
    let store = &state.admin.store;
    let created = async {
        let mut settings = AppSettings::default();
        // A default above a ceiling would be shown but have no effect.
        state.ceilings.clamp(&mut settings);
        if let Some(patch) = &value.settings {
            let before = settings.clone();
            settings
                .merge(patch)
                .map_err(|error| Problem::invalid(error.to_string()))?;
            let allowed = state.ceilings.allow(&before, &settings);
            allowed.map_err(Problem::invalid)?;
        }
        let new = NewApp {
            id: value.id,
            name: value.name,
            settings,
            key: NewKey {
                key: value.key,
                secret: value.secret,
                ..NewKey::default()
            },
            demo: false,
        };
        let (app, key) = store.create_app(new, &caller.actor).await?;
        Ok(CreatedApp {
            warnings: warnings(&app.id),
            app: app.into(),
            key: key.into(),
        })
    };
    Box::pin(idempotent.create(store, &caller, &bytes, created)).await
}

/// Show an app
#[utoipa::path(
    get, path = "/apps/{app_id}", tag = "Apps", operation_id = "show_app",
    params(AppName),
    responses(
        (status = 200, body = App, headers(("etag" = String, description = "For If-Match"))),
        (status = 404),
    ),
)]
pub(super) async fn show(
    State(state): State<AppState>,
    caller: Caller,
    PathParams(AppName { app_id }): PathParams<AppName>,
) -> Result<Tagged<App>, Problem> {
    caller.see(&app_id)?;
    let app = state.admin.store.app(&app_id).await?;
    let revision = app.revision;
    Ok(Tagged(app.into(), revision))
}

/// Change an app's name, settings or limits
///
/// Fields that are left out stay. The change is active on every node within a second. Needs the role admin. Limits protect
/// other apps, so raising one, and keeping more history, needs the role admin on all apps; lowering does not. Changing a quota
/// always does.
#[utoipa::path(
    patch, path = "/apps/{app_id}", tag = "Apps", operation_id = "update_app",
    params(AppName, IfMatch),
    request_body = UpdateApp,
    responses(
        (status = 200, body = App, headers(("etag" = String, description = "For If-Match"))),
        (status = 403, description = "Not an admin, or a limit would be raised by an admin of some apps"),
        (status = 404),
        (status = 412, description = "The app was changed in the meantime"),
    ),
)]
pub(super) async fn update(
    State(state): State<AppState>,
    caller: Caller,
    PathParams(AppName { app_id }): PathParams<AppName>,
    if_match: IfMatch,
    body: Body<UpdateApp>,
) -> Result<Tagged<App>, Problem> {
    caller.change(&app_id)?;
    let store = &state.admin.store;
    let mut app = store.app(&app_id).await?;
    // Without an ETag too, a change between this read and the write must not be lost.
    let expected = if_match.revision()?.unwrap_or(app.revision);
    app.name = body.value.name.unwrap_or(app.name);
    if let Some(patch) = &body.value.settings {
        let before = app.settings.clone();
        let merged = app.settings.merge(patch);
        merged.map_err(|error| Problem::invalid(error.to_string()))?;
        require_right_to_raise(&caller, &before, &app.settings)?;
        let allowed = state.ceilings.allow(&before, &app.settings);
        allowed.map_err(Problem::invalid)?;
    }
    let app = store
        .update_app(&app, Some(expected), &caller.actor)
        .await?;
    let revision = app.revision;
    Ok(Tagged(app.into(), revision))
}

/// Checks that the caller may raise limits and histories, because these protect the other apps of a node.
fn require_right_to_raise(
    caller: &Caller,
    before: &AppSettings,
    after: &AppSettings,
) -> Result<(), Problem> {
    let mut raised = after.raised(before);
    if after.quotas != before.quotas {
        // Lowering too: an app has no say in what it may use.
        raised.push("quotas".into());
    }
    if raised.is_empty() || caller.require_everywhere(Role::Admin).is_ok() {
        return Ok(());
    }
    let raised = raised.join(", ");
    Err(Problem::forbidden(format!(
        "raising {raised} needs the role admin on all apps, and your rights are on some: these settings protect the other \
         apps of the server; lowering them is free, except quotas"
    )))
}

/// Delete an app with its keys
///
/// The app's connections are closed. Needs the role admin, and the app's name in `confirm`.
#[utoipa::path(
    delete, path = "/apps/{app_id}", tag = "Apps", operation_id = "delete_app",
    params(AppName, Confirmation),
    responses(
        (status = 204),
        (status = 400, description = "Not confirmed"),
        (status = 404),
    ),
)]
pub(super) async fn delete(
    State(state): State<AppState>,
    caller: Caller,
    PathParams(AppName { app_id }): PathParams<AppName>,
    QueryParams(Confirmation { confirm }): QueryParams<Confirmation>,
) -> Result<StatusCode, Problem> {
    caller.change(&app_id)?;
    let app = state.admin.store.app(&app_id).await?;
    if confirm.as_ref() != Some(&app.name) {
        return Err(Problem::invalid(
            "deleting an app wants its name, as it is, in the query: ?confirm=NAME",
        ));
    }
    state.admin.store.delete_app(&app_id, &caller.actor).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Checks that all of these apps exist, before somebody gets rights on them.
pub(super) async fn check_exist(state: &AppState, apps: &[String]) -> Result<(), Problem> {
    let mut unknown = Vec::new();
    for id in apps {
        if state.engine.apps().by_id(id).is_some() {
            continue;
        }
        // It may have been created a moment ago, on another node.
        match state.admin.store.app(id).await {
            Ok(_) => {}
            Err(StoreError::NotFound(_)) => unknown.push(format!("{id:?}")),
            Err(error) => return Err(error.into()),
        }
        if unknown.len() >= MAX_NAMED {
            break;
        }
    }
    if unknown.is_empty() {
        return Ok(());
    }
    Err(Problem::invalid(format!(
        "apps names apps that don't exist: {}. Create them first, or take them out",
        unknown.join(", ")
    )))
}

/// Returns the app as this node has it. Waits for one that was created a moment ago on another node.
pub(super) async fn live_app(
    state: &AppState,
    caller: &Caller,
    id: &str,
) -> Result<Arc<fanfare_engine::App>, Problem> {
    caller.see(id)?;
    let app = state.find_app(id).await;
    app.ok_or_else(|| Problem::no_app(id))
}
