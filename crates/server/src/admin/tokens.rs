//! API tokens: credentials of programs, with a role, perhaps for some apps, until they expire.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use fanfare_store::{NewToken, Role, TokenRecord};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::apps::check_exist;
use super::extract::{Body, PathParams, QueryParams};
use super::idempotent_request::IdempotentRequest;
use super::operators::RoleName;
use super::page::{Page, PageQuery};
use super::problem::Problem;
use crate::access::{Caller, Kind};
use crate::app_state::AppState;
use crate::clock::unix_millis;

const DAY: i64 = 24 * 60 * 60 * 1000;
/// How long a token lives by default, and at most, in days.
const DEFAULT_DAYS: u16 = 90;
pub(crate) const MAX_DAYS: u16 = 366;

/// An API token, without the token itself.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Token {
    /// Its id.
    pub(crate) id: String,
    /// The purpose of the token.
    #[schema(example = "deploy pipeline")]
    pub(crate) name: String,
    /// The token's role, which is never higher than that of its maker.
    #[schema(value_type = RoleName)]
    pub(crate) role: Role,
    /// The apps it sees; all of them if `null`.
    #[schema(required)]
    pub(crate) apps: Option<Vec<String>>,
    /// The operator who made it; `null` if it was made on the command line.
    #[schema(required)]
    pub(crate) operator_id: Option<String>,
    /// Whether requests with it are accepted.
    // A server of an earlier version, which this command line may ask, has the other name alone.
    #[serde(default)]
    #[schema(required)]
    pub(crate) active: bool,
    /// The former name of `active`, with the same value.
    #[schema(deprecated)]
    pub(crate) in_force: bool,
    /// Unix time in milliseconds.
    pub(crate) created_at: i64,
    /// Unix time in milliseconds.
    #[schema(required)]
    pub(crate) expires_at: Option<i64>,
    /// Unix time in milliseconds.
    #[schema(required)]
    pub(crate) revoked_at: Option<i64>,
    /// Unix time in milliseconds, as coarse as a minute.
    #[schema(required)]
    pub(crate) last_used_at: Option<i64>,
}

/// A new token, which is shown this once.
#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct CreatedToken {
    /// The token's record.
    #[serde(flatten)]
    pub(crate) token: Token,
    /// The token for `Authorization: Bearer`.
    #[schema(format = Password, example = "eyJ...")]
    pub(crate) secret: String,
}

/// A token to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateToken {
    /// The purpose of the token.
    #[schema(example = "deploy pipeline")]
    name: String,
    /// `viewer`, `admin` or `owner`; no higher than one's own.
    #[schema(value_type = RoleName)]
    role: Role,
    /// The apps it sees; all of one's own if left out.
    apps: Option<Vec<String>>,
    /// Days until the token expires.
    #[schema(minimum = 1, maximum = 366, default = 90, example = 90)]
    expires_in_days: Option<u16>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct TokenName {
    /// The token's id.
    token_id: String,
}

impl Token {
    /// Returns whether the server accepts requests with it, whichever name its answer has for that.
    pub(crate) fn is_active(&self) -> bool {
        self.active || self.in_force
    }
}

impl From<TokenRecord> for Token {
    fn from(token: TokenRecord) -> Self {
        Self {
            active: token.is_active(),
            in_force: token.is_active(),
            id: token.id,
            name: token.name,
            role: token.role,
            apps: token.apps,
            operator_id: token.operator_id,
            created_at: token.created_at,
            expires_at: token.expires_at,
            revoked_at: token.revoked_at,
            last_used_at: token.last_used_at,
        }
    }
}

/// Returns whether a caller sees a token. Owners see all tokens, other operators those that they made. A token sees
/// those of its maker's tokens whose rights don't exceed its own: it must not learn of other apps, or revoke a token
/// with more rights.
fn sees(caller: &Caller, token: &TokenRecord) -> bool {
    let own = caller.operator_id.is_some() && caller.operator_id == token.operator_id;
    let is_person = caller.session_id.is_some();
    let within = || {
        caller
            .check_grant(token.role, token.apps.as_deref())
            .is_ok()
    };
    own && (is_person || within()) || caller.require_everywhere(Role::Owner).is_ok()
}

/// Returns a token as this caller may see it, without apps that the caller may not see.
fn view(caller: &Caller, token: TokenRecord) -> Token {
    let mut token = Token::from(token);
    if let Some(apps) = &mut token.apps {
        apps.retain(|app| caller.see(app).is_ok());
    }
    token
}

async fn find(state: &AppState, caller: &Caller, id: &str) -> Result<TokenRecord, Problem> {
    let token = state.admin.store.token(id).await?;
    if sees(caller, &token) {
        return Ok(token);
    }
    Err(Problem::not_found(format!(
        "there is no token with id {id:?}"
    )))
}

/// List API tokens, oldest first
///
/// An owner gets all tokens, another operator their own, and an API token those of its maker whose rights are no more than
/// its own. Expired and revoked tokens are included.
#[utoipa::path(
    get, path = "/tokens", tag = "Tokens", operation_id = "list_tokens",
    params(PageQuery),
    responses(
        (status = 200, body = Page<Token>),
    ),
)]
pub(super) async fn list(
    State(state): State<AppState>,
    caller: Caller,
    QueryParams(page): QueryParams<PageQuery>,
) -> Result<Json<Page<Token>>, Problem> {
    let (limit, mut after) = (page.limit()?, page.after()?);
    let position = |token: &TokenRecord| (token.created_at, token.id.clone());
    let mut seen = Vec::new();
    // Tokens that the caller doesn't see are left out, so one page of the store may not fill the answer.
    loop {
        let tokens = state
            .admin
            .store
            .tokens(after.take(), limit as i64 + 1)
            .await?;
        let (last, many) = (tokens.last().map(position), tokens.len() > limit);
        seen.extend(tokens.into_iter().filter(|token| sees(&caller, token)));
        if seen.len() > limit || !many {
            break;
        }
        after = last;
    }
    Ok(Json(Page::of(seen, limit, position, |token| {
        view(&caller, token)
    })))
}

/// Create an API token
///
/// The token is shown this once. Its rights are no more than its maker's, and shrink with them. A token that another
/// token makes ends with that one. Needs the role admin.
#[utoipa::path(
    post, path = "/tokens", tag = "Tokens", operation_id = "create_token",
    params(("idempotency-key" = Option<String>, Header, description = "A request with the same key within a day gets the same answer")),
    request_body = CreateToken,
    responses(
        (status = 201, body = CreatedToken),
        (status = 400, description = "A value is invalid, or there is no such app among `apps`"),
        (status = 404, description = "The caller, who has rights on some apps, sees no such app among `apps`"),
    ),
)]
pub(super) async fn create(
    State(state): State<AppState>,
    caller: Caller,
    idempotent: IdempotentRequest,
    body: Body<CreateToken>,
) -> Result<Response, Problem> {
    caller.require(Role::Admin)?;
    let Body { value, bytes } = body;
    let given = value.apps.clone().unwrap_or_default();
    let apps = value.apps.or_else(|| caller.apps().map(<[String]>::to_vec));
    caller.check_grant(value.role, apps.as_deref())?;
    let days = match value.expires_in_days.unwrap_or(DEFAULT_DAYS) {
        days @ 1..=MAX_DAYS => i64::from(days),
        days => {
            let detail = format!("expires_in_days is 1 to {MAX_DAYS}, not {days}");
            return Err(Problem::invalid(detail));
        }
    };
    let expires_at = unix_millis() + days * DAY;
    let created = async {
        check_exist(&state, &given).await?;
        let new = NewToken {
            name: value.name,
            role: value.role,
            apps,
            operator_id: caller.operator_id.clone(),
            expires_at: Some(expires_at),
        };
        let token = state.admin.store.create_token(&new, &caller.actor).await?;
        let expires_at = token.expires_at.unwrap_or(expires_at);
        let seconds = u64::try_from(expires_at / 1000).unwrap_or_default();
        let secret = state
            .admin
            .jwts
            .sign(Kind::Token, &token.id, seconds)
            .await?;
        Ok(CreatedToken {
            token: token.into(),
            secret: secret.expose_secret().to_owned(),
        })
    };
    idempotent
        .create(&state.admin.store, &caller, &bytes, created)
        .await
}

/// Show an API token
#[utoipa::path(
    get, path = "/tokens/{token_id}", tag = "Tokens", operation_id = "show_token",
    params(TokenName),
    responses(
        (status = 200, body = Token),
        (status = 404),
    ),
)]
pub(super) async fn show(
    State(state): State<AppState>,
    caller: Caller,
    PathParams(TokenName { token_id }): PathParams<TokenName>,
) -> Result<Json<Token>, Problem> {
    let token = find(&state, &caller, &token_id).await?;
    Ok(Json(view(&caller, token)))
}

/// Revoke an API token
///
/// The token is refused with its next request. Needs the role admin.
#[utoipa::path(
    delete, path = "/tokens/{token_id}", tag = "Tokens", operation_id = "revoke_token",
    params(TokenName),
    responses(
        (status = 204),
        (status = 404),
        (status = 409, description = "The token is revoked already"),
    ),
)]
pub(super) async fn revoke(
    State(state): State<AppState>,
    caller: Caller,
    PathParams(TokenName { token_id }): PathParams<TokenName>,
) -> Result<StatusCode, Problem> {
    caller.require(Role::Admin)?;
    find(&state, &caller, &token_id).await?;
    state
        .admin
        .store
        .revoke_token(&token_id, &caller.actor)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}
