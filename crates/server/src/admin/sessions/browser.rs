//! Sign-in of the dashboard, which keeps its session in a cookie, and links that sign in once.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::SET_COOKIE;
use axum::response::{IntoResponse, Response};
use fanfare_store::{Actor, NewSession, OperatorRecord, Role, SessionProof, SessionRecord};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Body, Me, PathParams, Problem, SignIn};
use crate::access::{Caller, IDLE_LIFETIME, draw_secret, hash, set_session_cookie};
use crate::admin::operators::OperatorName;
use crate::app_state::AppState;
use crate::body::discard;
use crate::clock::unix_millis;
use crate::http::ClientAddress;

/// How long a sign-in link is good, in milliseconds.
pub(crate) const LINK_LIFETIME: i64 = 60 * 60 * 1000;

/// Who signs in: a name with a password, or a link.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(
    untagged,
    expecting = "it must have name and password, or link, and nothing else"
)]
pub(crate) enum BrowserSignIn {
    /// An operator's name and password.
    Password(SignIn),
    /// A sign-in link.
    Link(LinkSignIn),
}

/// A link that signs in once.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LinkSignIn {
    /// What comes after `link=` in the link.
    #[schema(value_type = String, format = Password)]
    link: SecretString,
}

/// A browser's session. Its cookie is in the header `set-cookie`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BrowserSession {
    /// The session's id.
    session_id: String,
    /// When it ends unless it is used, Unix time in milliseconds.
    expires_at: i64,
    /// Who signed in, and what they may do.
    me: Me,
}

/// A link that signs an operator in, once.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct SignInLink {
    /// The link from the dashboard's address on.
    #[schema(example = "/#/sign-in?link=...")]
    pub(crate) path: String,
    /// Until when it is good, Unix time in milliseconds.
    pub(crate) expires_at: i64,
}

/// Sign a browser in
///
/// The session is in a cookie that scripts can't read and other sites can't use, for the requests below `/api/v1`. Those
/// that aren't `GET` also need the header `Fanfare-Dashboard: 1`. A session ends after a week without use, and after 30 days.
/// Refusals are those of `POST /api/v1/sessions`.
#[utoipa::path(
    post, path = "/browser-sessions", tag = "Sessions", operation_id = "sign_browser_in", security(()),
    request_body = BrowserSignIn,
    responses(
        (status = 201, body = BrowserSession, headers(("set-cookie" = String, description = "The session's cookie"))),
        (status = 401),
        (status = 429),
    ),
)]
pub(in crate::admin) async fn sign_in(
    State(state): State<AppState>,
    client: ClientAddress,
    request: Request,
) -> Result<Response, Problem> {
    if let Err(error) = state.admin.sign_in_limiter.has_attempts(client.address) {
        discard(request).await;
        return Err(Problem::too_many(error.to_string(), error.seconds));
    }
    let (uri, headers) = (request.uri().clone(), request.headers().clone());
    let is_secure = state.addresses.is_secure(&headers, request.extensions());
    let body = Body::<BrowserSignIn>::of_stranger(request, &state).await;
    let body = body.inspect_err(|_| state.admin.sign_in_limiter.count_malformed(client.address))?;
    let cookie = draw_secret();
    let (operator, session) = match body.value {
        BrowserSignIn::Password(sign_in) => {
            let operator = super::operator_of(&state, &client, sign_in).await?;
            let (new, by) = new_session(&operator, &client, &cookie);
            let session = state.admin.store.create_session(&new, &by).await?;
            (operator, session)
        }
        BrowserSignIn::Link(LinkSignIn { link }) => {
            let signed_in = session_of_link(&state, &client, &link, &cookie).await?;
            signed_in.ok_or_else(|| {
                // A link can't be guessed, but trying should cost no less than a wrong password.
                state.admin.sign_in_limiter.count_malformed(client.address);
                Problem::unauthorized(
                    "the link was used, has expired, or is none of this installation's: sign in with name and password, or make \
                     another (fanfare operator sign-in-link NAME)",
                )
            })?
        }
    };
    let set_cookie = set_session_cookie(&uri, &headers, &cookie, is_secure);
    let answer = Json(BrowserSession {
        session_id: session.id,
        expires_at: session.expires_at,
        me: operator.into(),
    });
    Ok((StatusCode::CREATED, [(SET_COOKIE, set_cookie)], answer).into_response())
}

fn new_session(
    operator: &OperatorRecord,
    client: &ClientAddress,
    cookie: &SecretString,
) -> (NewSession, Actor) {
    let address = client.address.map(|address| address.to_string());
    let new = NewSession {
        operator_id: operator.id.clone(),
        proof: SessionProof::Cookie(hash(cookie)),
        expires_at: unix_millis() + IDLE_LIFETIME,
        address: address.clone(),
        agent: client.agent.clone(),
    };
    (new, Actor::operator(operator, address))
}

/// Uses a link up. Returns `None` if it can't be used.
async fn session_of_link(
    state: &AppState,
    client: &ClientAddress,
    link: &SecretString,
    cookie: &SecretString,
) -> Result<Option<(OperatorRecord, SessionRecord)>, Problem> {
    let (store, link) = (&state.admin.store, hash(link));
    let operator = store.operator_of_sign_in_link(link, unix_millis()).await?;
    let Some(operator) = operator else {
        return Ok(None);
    };
    let (new, by) = new_session(&operator, client, cookie);
    let session = store.create_session_by_link(link, &new, &by).await?;
    Ok(session.map(|session| (operator, session)))
}

/// Make a link that signs an operator in
///
/// It is good once and for an hour, and useless after the operator's password was set. Needs the role owner.
#[utoipa::path(
    post, path = "/operators/{operator_id}/sign-in-links", tag = "Operators", operation_id = "create_sign_in_link",
    params(OperatorName),
    responses(
        (status = 201, body = SignInLink),
        (status = 404),
        (status = 409, description = "The operator is disabled"),
    ),
)]
pub(in crate::admin) async fn create_link(
    State(state): State<AppState>,
    caller: Caller,
    PathParams(OperatorName { operator_id }): PathParams<OperatorName>,
) -> Result<(StatusCode, Json<SignInLink>), Problem> {
    caller.require_everywhere(Role::Owner)?;
    let link = new_link(&state.admin.store, &operator_id, &caller.actor).await?;
    Ok((StatusCode::CREATED, Json(link)))
}

/// Makes a link for an operator.
pub(crate) async fn new_link(
    store: &fanfare_store::Store,
    operator_id: &str,
    by: &Actor,
) -> Result<SignInLink, fanfare_store::StoreError> {
    let (token, expires_at) = (draw_secret(), unix_millis() + LINK_LIFETIME);
    store
        .create_sign_in_link(operator_id, hash(&token), expires_at, by)
        .await?;
    Ok(SignInLink {
        path: format!("/#/sign-in?link={}", token.expose_secret()),
        expires_at,
    })
}
