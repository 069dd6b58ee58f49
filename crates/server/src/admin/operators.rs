//! Operators: the people who may change things.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use fanfare_store::{NewOperator, OperatorRecord, Role};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::apps::check_exist;
use super::etag::{IfMatch, Tagged};
use super::extract::{Body, PathParams, QueryParams};
use super::idempotent_request::IdempotentRequest;
use super::page::{Page, PageQuery};
use super::problem::Problem;
use crate::access::{Caller, check_password};
use crate::app_state::AppState;

/// The rights of an operator or token. A higher role has all rights of a lower one.
#[derive(ToSchema)]
#[schema(as = Role, rename_all = "lowercase")]
#[expect(dead_code, reason = "describes `Role`, which knows nothing of HTTP")]
pub(crate) enum RoleName {
    /// Looks.
    Viewer,
    /// Changes apps and keys.
    Admin,
    /// Changes operators as well.
    Owner,
}

/// A person who may sign in.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Operator {
    /// Their id.
    pub(crate) id: String,
    /// The name to sign in with.
    #[schema(example = "ada@example.com")]
    pub(crate) name: String,
    /// `viewer` looks, `admin` changes apps and keys, `owner` changes operators as well.
    #[schema(value_type = RoleName)]
    pub(crate) role: Role,
    /// The apps they see; all of them if `null`.
    #[schema(required)]
    pub(crate) apps: Option<Vec<String>>,
    /// Whether they may sign in.
    pub(crate) enabled: bool,
    /// Unix time in milliseconds.
    pub(crate) created_at: i64,
    /// Unix time in milliseconds.
    pub(crate) updated_at: i64,
}

/// An operator to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateOperator {
    /// The name to sign in with, for example an e-mail address.
    #[schema(example = "ada@example.com")]
    name: String,
    /// 10 to 1000 characters.
    #[schema(value_type = String, format = Password)]
    password: SecretString,
    /// `viewer`, `admin` or `owner`.
    #[schema(value_type = RoleName)]
    role: Role,
    /// The apps they see; all of them if left out.
    apps: Option<Vec<String>>,
}

/// The fields to change; the others stay.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpdateOperator {
    /// The name to sign in with.
    name: Option<String>,
    /// `viewer`, `admin` or `owner`.
    #[schema(value_type = Option<RoleName>)]
    role: Option<Role>,
    /// The apps they see; `null` for all of them.
    #[serde(default, deserialize_with = "super::keys::given")]
    #[schema(value_type = Option<Vec<String>>)]
    apps: Option<Option<Vec<String>>>,
    /// Whether they may sign in. One who may not any more is signed out, and the tokens they made are revoked.
    enabled: Option<bool>,
}

/// A new password.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SetPassword {
    /// 10 to 1000 characters.
    #[schema(value_type = String, format = Password)]
    password: SecretString,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct OperatorName {
    /// The operator's id.
    pub(crate) operator_id: String,
}

impl From<OperatorRecord> for Operator {
    fn from(operator: OperatorRecord) -> Self {
        Self {
            id: operator.id,
            name: operator.name,
            role: operator.role,
            apps: operator.apps,
            enabled: operator.enabled,
            created_at: operator.created_at,
            updated_at: operator.updated_at,
        }
    }
}

async fn hash(state: &AppState, password: SecretString) -> Result<SecretString, Problem> {
    check_password(&password).map_err(Problem::invalid)?;
    let hashed = state.admin.passwords.hash(password).await;
    hashed.map_err(|busy| Problem::too_many(busy.to_string(), 5))
}

/// List operators, oldest first
///
/// Needs the role owner.
#[utoipa::path(
    get, path = "/operators", tag = "Operators", operation_id = "list_operators",
    params(PageQuery),
    responses(
        (status = 200, body = Page<Operator>),
    ),
)]
pub(super) async fn list(
    State(state): State<AppState>,
    caller: Caller,
    QueryParams(page): QueryParams<PageQuery>,
) -> Result<Json<Page<Operator>>, Problem> {
    caller.require_everywhere(Role::Owner)?;
    let limit = page.limit()?;
    let operators = state
        .admin
        .store
        .operators(page.after()?, limit as i64 + 1)
        .await?;
    let position = |operator: &OperatorRecord| (operator.created_at, operator.id.clone());
    Ok(Json(Page::of(operators, limit, position, Operator::from)))
}

/// Create an operator
///
/// Needs the role owner.
#[utoipa::path(
    post, path = "/operators", tag = "Operators", operation_id = "create_operator",
    params(("idempotency-key" = Option<String>, Header, description = "A request with the same key within a day gets the same answer")),
    request_body = CreateOperator,
    responses(
        (status = 201, body = Operator),
        (status = 400, description = "A value is invalid, or there is no such app among `apps`"),
        (status = 409, description = "The name is taken"),
    ),
)]
pub(super) async fn create(
    State(state): State<AppState>,
    caller: Caller,
    idempotent: IdempotentRequest,
    body: Body<CreateOperator>,
) -> Result<Response, Problem> {
    caller.require_everywhere(Role::Owner)?;
    let Body { value, bytes } = body;
    check_role(value.role)?;
    let created = async {
        check_exist(&state, value.apps.as_deref().unwrap_or_default()).await?;
        let new = NewOperator {
            name: value.name,
            role: value.role,
            apps: value.apps,
            password_hash: hash(&state, value.password).await?,
        };
        let operator = state
            .admin
            .store
            .create_operator(&new, &caller.actor)
            .await?;
        Ok(Operator::from(operator))
    };
    idempotent
        .create(&state.admin.store, &caller, &bytes, created)
        .await
}

/// Show an operator
///
/// Needs the role owner.
#[utoipa::path(
    get, path = "/operators/{operator_id}", tag = "Operators", operation_id = "show_operator",
    params(OperatorName),
    responses(
        (status = 200, body = Operator, headers(("etag" = String, description = "For If-Match"))),
        (status = 404),
    ),
)]
pub(super) async fn show(
    State(state): State<AppState>,
    caller: Caller,
    PathParams(OperatorName { operator_id }): PathParams<OperatorName>,
) -> Result<Tagged<Operator>, Problem> {
    caller.require_everywhere(Role::Owner)?;
    let operator = state.admin.store.operator(&operator_id).await?;
    let revision = operator.revision;
    Ok(Tagged(operator.into(), revision))
}

/// Change an operator's name, rights or whether they may sign in
///
/// The change is active with their next request. Needs the role owner.
#[utoipa::path(
    patch, path = "/operators/{operator_id}", tag = "Operators", operation_id = "update_operator",
    params(OperatorName, IfMatch),
    request_body = UpdateOperator,
    responses(
        (status = 200, body = Operator, headers(("etag" = String, description = "For If-Match"))),
        (status = 404),
        (status = 409, description = "The name is taken, or no operator would be left who may do everything"),
        (status = 412, description = "The operator was changed in the meantime"),
    ),
)]
pub(super) async fn update(
    State(state): State<AppState>,
    caller: Caller,
    PathParams(OperatorName { operator_id }): PathParams<OperatorName>,
    if_match: IfMatch,
    body: Body<UpdateOperator>,
) -> Result<Tagged<Operator>, Problem> {
    caller.require_everywhere(Role::Owner)?;
    let store = &state.admin.store;
    let mut operator = store.operator(&operator_id).await?;
    let expected = if_match.revision()?.unwrap_or(operator.revision);
    let UpdateOperator {
        name,
        role,
        apps,
        enabled,
    } = body.value;
    operator.name = name.unwrap_or(operator.name);
    operator.role = role.unwrap_or(operator.role);
    check_role(operator.role)?;
    if let Some(apps) = apps {
        let had = operator.apps.unwrap_or_default();
        let is_new = |app: &&String| !had.contains(*app);
        // One that was deleted since may stay, so that what was read can be written back.
        let new: Vec<_> = apps.iter().flatten().filter(is_new).cloned().collect();
        check_exist(&state, &new).await?;
        operator.apps = apps;
    }
    operator.enabled = enabled.unwrap_or(operator.enabled);
    let operator = store
        .update_operator(&operator, Some(expected), &caller.actor)
        .await?;
    let revision = operator.revision;
    Ok(Tagged(operator.into(), revision))
}

/// Set an operator's password
///
/// Ends all sessions of the operator. Needs the role owner.
#[utoipa::path(
    put, path = "/operators/{operator_id}/password", tag = "Operators", operation_id = "set_password",
    params(OperatorName),
    request_body = SetPassword,
    responses(
        (status = 204),
        (status = 404),
    ),
)]
pub(super) async fn set_password(
    State(state): State<AppState>,
    caller: Caller,
    PathParams(OperatorName { operator_id }): PathParams<OperatorName>,
    body: Body<SetPassword>,
) -> Result<StatusCode, Problem> {
    caller.require_everywhere(Role::Owner)?;
    let hashed = hash(&state, body.value.password).await?;
    state
        .admin
        .store
        .set_password(&operator_id, &hashed, &caller.actor)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Delete an operator
///
/// The operator is signed out, and the tokens they made are revoked. Needs the role owner.
#[utoipa::path(
    delete, path = "/operators/{operator_id}", tag = "Operators", operation_id = "delete_operator",
    params(OperatorName),
    responses(
        (status = 204),
        (status = 404),
        (status = 409, description = "No operator would be left who may do everything"),
    ),
)]
pub(super) async fn delete(
    State(state): State<AppState>,
    caller: Caller,
    PathParams(OperatorName { operator_id }): PathParams<OperatorName>,
) -> Result<StatusCode, Problem> {
    caller.require_everywhere(Role::Owner)?;
    state
        .admin
        .store
        .delete_operator(&operator_id, &caller.actor)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Checks that a person may have a role.
fn check_role(role: Role) -> Result<(), Problem> {
    match role {
        Role::Metrics => Err(Problem::invalid(
            "role: metrics is for API tokens, which read metrics with it and nothing else; the lowest role of operators is viewer",
        )),
        Role::Viewer | Role::Admin | Role::Owner => Ok(()),
    }
}
