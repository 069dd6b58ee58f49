//! Sign-in, and what signed-in operators may do about themselves.

use std::net::IpAddr;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use fanfare_store::{
    Actor, ActorKind, NewSession, OperatorRecord, Role, Rotation, SessionProof, SessionRecord,
};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::audit::ActorName;
use super::extract::{Body, PathParams, QueryParams};
use super::operators::RoleName;
use super::problem::Problem;
use crate::access::{Attempt, Caller, Candidate, Kind, check_password, draw_secret, hash};
use crate::app_state::AppState;
use crate::body::discard;
use crate::clock::unix_millis;
use crate::http::ClientAddress;

pub(crate) mod browser;

/// How long an access token is valid, in milliseconds.
const ACCESS_TOKEN_LIFETIME: i64 = 15 * 60 * 1000;
/// How long a session lives without being refreshed, in milliseconds.
const SESSION_LIFETIME: i64 = 30 * 24 * 60 * 60 * 1000;

/// The operator who signs in.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SignIn {
    /// The operator's name.
    #[schema(example = "owner")]
    name: String,
    /// The operator's password.
    #[schema(value_type = String, format = Password, example = "correct horse battery staple")]
    password: SecretString,
}

/// The token that refreshes a session.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Refresh {
    /// The refresh token of the sign-in, or of the previous refresh. It can be used once.
    #[schema(value_type = String, format = Password)]
    refresh_token: SecretString,
}

/// A session and its tokens.
#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct SignedIn {
    /// The session's id.
    pub(crate) session_id: String,
    /// The token for `Authorization: Bearer`, valid for 15 minutes.
    #[schema(format = Password, example = "eyJ...")]
    pub(crate) access_token: String,
    /// Unix time in milliseconds.
    pub(crate) access_expires_at: i64,
    /// The token for `POST /api/v1/sessions/refresh`, valid once and for 30 days.
    #[schema(format = Password, example = "shown once")]
    pub(crate) refresh_token: String,
    /// Unix time in milliseconds.
    pub(crate) refresh_expires_at: i64,
}

/// A session of an operator who signed in.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Session {
    /// Its id.
    pub(crate) id: String,
    /// The operator's id.
    pub(crate) operator_id: String,
    /// Unix time in milliseconds.
    pub(crate) created_at: i64,
    /// When it was refreshed last, Unix time in milliseconds.
    pub(crate) last_used_at: i64,
    /// Unix time in milliseconds.
    pub(crate) expires_at: i64,
    /// The network address of the sign-in.
    #[schema(required)]
    pub(crate) address: Option<String>,
    /// The `User-Agent` of the sign-in.
    #[schema(required)]
    pub(crate) agent: Option<String>,
    /// Whether it is the one that asks.
    pub(crate) current: bool,
}

/// The caller and its rights.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Me {
    /// `operator`, `token` or `command_line`.
    #[schema(value_type = ActorName)]
    pub(crate) kind: String,
    /// The operator's or the token's id.
    #[schema(required)]
    pub(crate) id: Option<String>,
    /// The name that people see.
    pub(crate) name: String,
    /// The caller's role.
    #[schema(value_type = RoleName)]
    pub(crate) role: Role,
    /// On which apps; all of them if `null`.
    #[schema(required)]
    pub(crate) apps: Option<Vec<String>>,
}

impl From<OperatorRecord> for Me {
    fn from(operator: OperatorRecord) -> Self {
        Self {
            kind: ActorKind::Operator.to_string(),
            id: Some(operator.id),
            name: operator.name,
            role: operator.role,
            apps: operator.apps,
        }
    }
}

/// A new password, and the old one to prove who asks.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SetOwnPassword {
    /// The password of now.
    #[schema(value_type = String, format = Password, example = "correct horse battery staple")]
    current_password: SecretString,
    /// 10 to 1000 characters.
    #[schema(value_type = String, format = Password)]
    new_password: SecretString,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct WhoseSessions {
    /// Another operator's sessions, or `all`; owners only.
    operator_id: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct SessionName {
    /// The session's id, or `current`.
    session_id: String,
}

async fn signed_in(
    state: &AppState,
    session: &SessionRecord,
    refresh_token: &SecretString,
) -> Result<SignedIn, Problem> {
    let access_expires_at = unix_millis() + ACCESS_TOKEN_LIFETIME;
    let expires_at = u64::try_from(access_expires_at / 1000).unwrap_or_default();
    let access_token = state
        .admin
        .jwts
        .sign(Kind::Session, &session.id, expires_at)
        .await?;
    Ok(SignedIn {
        session_id: session.id.clone(),
        access_token: access_token.expose_secret().to_owned(),
        access_expires_at,
        refresh_token: refresh_token.expose_secret().to_owned(),
        refresh_expires_at: session.expires_at,
    })
}

fn attempt(state: &AppState, client: &ClientAddress, name: &str) -> Result<Attempt, Problem> {
    let attempt = state.admin.sign_in_limiter.attempt(Candidate {
        address: client.address,
        name,
        agent: client.agent.as_deref(),
    });
    attempt.map_err(|error| Problem::too_many(error.to_string(), error.seconds))
}

/// Sign in with name and password
///
/// The one answer to a wrong name, a wrong password and a disabled operator is 401. Who fails too often from one network
/// waits, ten times a minute with one name; no account is ever locked.
#[utoipa::path(
    post, path = "/sessions", tag = "Sessions", operation_id = "sign_in", security(()),
    request_body = SignIn,
    responses(
        (status = 201, body = SignedIn),
        (status = 401),
        (status = 429),
    ),
)]
pub(super) async fn sign_in(
    State(state): State<AppState>,
    client: ClientAddress,
    request: Request,
) -> Result<(StatusCode, Json<SignedIn>), Problem> {
    // Checked before the body is read, so that an attempt too many costs only its head.
    if let Err(error) = state.admin.sign_in_limiter.has_attempts(client.address) {
        discard(request).await;
        return Err(Problem::too_many(error.to_string(), error.seconds));
    }
    let body = Body::<SignIn>::of_stranger(request, &state).await;
    let body = body.inspect_err(|_| state.admin.sign_in_limiter.count_malformed(client.address))?;
    let operator = operator_of(&state, &client, body.value).await?;
    let address = client.address.map(|address| address.to_string());
    let refresh_token = draw_secret();
    let new = NewSession {
        operator_id: operator.id.clone(),
        proof: SessionProof::RefreshToken(hash(&refresh_token)),
        expires_at: unix_millis() + SESSION_LIFETIME,
        address: address.clone(),
        agent: client.agent,
    };
    let by = Actor::operator(&operator, address);
    let session = state.admin.store.create_session(&new, &by).await?;
    Ok((
        StatusCode::CREATED,
        Json(signed_in(&state, &session, &refresh_token).await?),
    ))
}

/// Returns the operator whose name and password these are.
async fn operator_of(
    state: &AppState,
    client: &ClientAddress,
    SignIn { name, password }: SignIn,
) -> Result<OperatorRecord, Problem> {
    // Counted as failed before the store and argon2 are asked, so that parallel attempts can't exceed the bound.
    let attempt = attempt(state, client, &name)?;
    let known = state.admin.store.operator_for_sign_in(&name).await?;
    let (operator, hashed) = known.unzip();
    // Verified even for an unknown name, so that both refusals take as long.
    let right = verify(state, password, hashed, attempt.is_from_known_network).await?;
    let known_id = operator.as_ref().map(|operator| operator.id.clone());
    let Some(operator) = operator.filter(|operator| right && operator.enabled) else {
        refused(state, known_id, client.address).await;
        return Err(Problem::unauthorized(
            "name or password is wrong, or the operator is disabled",
        ));
    };
    attempt.succeeded();
    Ok(operator)
}

/// Records a refused attempt. The name as given may be a password typed into the wrong field, so it isn't kept.
async fn refused(state: &AppState, known_id: Option<String>, address: Option<IpAddr>) {
    let target = known_id.unwrap_or_else(|| "unknown".into());
    let (admin, store) = (&state.admin, &state.admin.store);
    admin.refusals.note(store, address, &target).await;
}

async fn verify(
    state: &AppState,
    password: SecretString,
    hashed: Option<SecretString>,
    is_known: bool,
) -> Result<bool, Problem> {
    let verified = state.admin.passwords.verify(password, hashed, is_known);
    let verified = verified.await;
    verified.map_err(|busy| Problem::too_many(busy.to_string(), 5))
}

/// Stay signed in
///
/// The refresh token is good for once and replaced by the one in the answer. One that was used before ends the session, for
/// then two have it.
#[utoipa::path(
    post, path = "/sessions/refresh", tag = "Sessions", operation_id = "refresh_session", security(()),
    request_body = Refresh,
    responses(
        (status = 200, body = SignedIn),
        (status = 401),
        (status = 409, description = "Another request has just used the refresh token"),
    ),
)]
pub(super) async fn refresh(
    State(state): State<AppState>,
    request: Request,
) -> Result<Json<SignedIn>, Problem> {
    let body = Body::<Refresh>::of_stranger(request, &state).await?;
    let refresh_token = draw_secret();
    let now = unix_millis();
    let rotation = state.admin.store.rotate_session(
        hash(&body.value.refresh_token),
        hash(&refresh_token),
        now,
        now + SESSION_LIFETIME,
    );
    match rotation.await? {
        Rotation::Rotated(session) => Ok(Json(signed_in(&state, &session, &refresh_token).await?)),
        Rotation::Raced => Err(Problem::conflict(
            "another request has just used this refresh token; use the one that it got",
        )),
        Rotation::Reused(session) => {
            tracing::warn!(
                session = session.id,
                operator = session.operator_id,
                "a session has ended: its refresh token was used twice, so that somebody else may have had it"
            );
            Err(Problem::unauthorized(
                "this refresh token was used before, so the session has ended; sign in again",
            ))
        }
        Rotation::Unknown => Err(Problem::unauthorized(
            "there is no session with this refresh token; sign in again",
        )),
    }
}

/// Show who is asking, and what it may do
#[utoipa::path(
    get, path = "/me", tag = "Sessions", operation_id = "show_me",
    responses((status = 200, body = Me)),
)]
pub(super) async fn me(caller: Caller) -> Json<Me> {
    Json(Me {
        kind: caller.actor.kind.to_string(),
        role: caller.role(),
        apps: caller.apps().map(<[String]>::to_vec),
        id: caller.actor.id,
        name: caller.actor.name,
    })
}

/// Change one's own password
///
/// Ends all sessions of the caller, this one as well. Not for API tokens.
#[utoipa::path(
    put, path = "/me/password", tag = "Sessions", operation_id = "set_own_password",
    request_body = SetOwnPassword,
    responses(
        (status = 204),
        (status = 429),
    ),
)]
pub(super) async fn set_own_password(
    State(state): State<AppState>,
    caller: Caller,
    client: ClientAddress,
    body: Body<SetOwnPassword>,
) -> Result<StatusCode, Problem> {
    let Some(id) = caller.person() else {
        return Err(Problem::forbidden(
            "only an operator who signed in has a password",
        ));
    };
    let SetOwnPassword {
        current_password,
        new_password,
    } = body.value;
    check_password(&new_password).map_err(Problem::invalid)?;
    let operator = state.admin.store.operator(id).await?;
    // Bounded like a sign-in: a stolen session must not allow guessing the password.
    let attempt = attempt(&state, &client, &operator.name)?;
    let known = state
        .admin
        .store
        .operator_for_sign_in(&operator.name)
        .await?;
    let hashed = known.map(|(_, hashed)| hashed);
    if !verify(&state, current_password, hashed, true).await? {
        return Err(Problem::forbidden("current_password is wrong"));
    }
    attempt.succeeded();
    let hashed = state.admin.passwords.hash(new_password).await;
    let hashed = hashed.map_err(|busy| Problem::too_many(busy.to_string(), 5))?;
    state
        .admin
        .store
        .set_password(id, &hashed, &caller.actor)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// List the sessions that have not ended
///
/// An operator gets their own sessions, and an owner those of others as well. An API token has none.
#[utoipa::path(
    get, path = "/sessions", tag = "Sessions", operation_id = "list_sessions",
    params(WhoseSessions),
    responses(
        (status = 200, body = Vec<Session>),
    ),
)]
pub(super) async fn list(
    State(state): State<AppState>,
    caller: Caller,
    QueryParams(WhoseSessions { operator_id }): QueryParams<WhoseSessions>,
) -> Result<Json<Vec<Session>>, Problem> {
    let own = caller.person();
    let whose = match operator_id {
        Some(other) if own != Some(&other) => {
            caller.require_everywhere(Role::Owner)?;
            Some(other).filter(|id| id != "all")
        }
        _ => Some(own.cloned().unwrap_or_default()),
    };
    let sessions = state.admin.store.sessions(whose.as_deref()).await?;
    let view = |session: SessionRecord| Session {
        current: caller.session_id.as_ref() == Some(&session.id),
        id: session.id,
        operator_id: session.operator_id,
        created_at: session.created_at,
        last_used_at: session.last_used_at,
        expires_at: session.expires_at,
        address: session.address,
        agent: session.agent,
    };
    Ok(Json(sessions.into_iter().map(view).collect()))
}

/// End a session: sign out
///
/// `current` is the session that asks. Owners may end those of others.
#[utoipa::path(
    delete, path = "/sessions/{session_id}", tag = "Sessions", operation_id = "end_session",
    params(SessionName),
    responses(
        (status = 204),
        (status = 404),
    ),
)]
pub(super) async fn end(
    State(state): State<AppState>,
    caller: Caller,
    PathParams(SessionName { session_id }): PathParams<SessionName>,
) -> Result<StatusCode, Problem> {
    let none = || Problem::not_found(format!("there is no session with id {session_id:?}"));
    let id = match (session_id.as_str(), &caller.session_id) {
        ("current", Some(current)) => current.clone(),
        ("current", None) => return Err(none()),
        (id, _) => id.to_owned(),
    };
    let session = state.admin.store.session(&id).await?;
    if caller.person() != Some(&session.operator_id) {
        caller.require_everywhere(Role::Owner).map_err(|_| none())?;
    }
    state.admin.store.revoke_session(&id, &caller.actor).await?;
    Ok(StatusCode::NO_CONTENT)
}
