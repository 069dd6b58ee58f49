//! The caller of a request to the admin API, and its rights.

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use fanfare_store::{
    Actor, ActorKind, OperatorRecord, Role, SessionRecord, StoreError, TokenRecord,
};
use secrecy::SecretString;

use super::jwt::{Claims, InvalidToken, Kind};
use super::session_cookie::{self, check_own_header, session_cookie};
use crate::admin::problem::Problem;
use crate::app_state::AppState;
use crate::clock::unix_millis;
use crate::http::headers::bearer_token;

/// Resolution of a token's last use, in milliseconds.
const LAST_USE_RESOLUTION: i64 = 60_000;

/// An operator, an API token, or the command line on this machine.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// The actor for the audit log.
    pub(crate) actor: Actor,
    role: Role,
    /// The apps that the caller may see, or `None` for all apps.
    apps: Option<Vec<String>>,
    /// The operator, or the operator that made the token.
    pub(crate) operator_id: Option<String>,
    /// The session, if the caller signed in.
    pub(crate) session_id: Option<String>,
}

impl Caller {
    /// Returns the caller for a person who can read this machine's configuration and store, and so could do everything
    /// anyway. Only this caller is ever put into a request's extensions, and only in requests that never were on a
    /// network (`cli/api/local.rs`).
    pub(crate) fn command_line() -> Self {
        Self {
            actor: Actor::command_line(),
            role: Role::Owner,
            apps: None,
            operator_id: None,
            session_id: None,
        }
    }

    pub(crate) fn role(&self) -> Role {
        self.role
    }

    /// Returns the operator if the operator signed in. An operator's own account isn't open to their tokens.
    pub(crate) fn person(&self) -> Option<&String> {
        self.session_id.as_ref().and(self.operator_id.as_ref())
    }

    /// Returns the apps that the caller may see, or `None` for all apps.
    pub(crate) fn apps(&self) -> Option<&[String]> {
        self.apps.as_deref()
    }

    /// Checks that the caller may see an app. For other apps, returns the same error as for one that doesn't exist.
    pub(crate) fn see(&self, app_id: &str) -> Result<(), Problem> {
        match &self.apps {
            Some(apps) if !apps.iter().any(|app| app == app_id) => Err(Problem::no_app(app_id)),
            _ => Ok(()),
        }
    }

    /// Checks that the caller may change an app.
    pub(crate) fn change(&self, app_id: &str) -> Result<(), Problem> {
        self.see(app_id)?;
        self.require(Role::Admin)
    }

    /// Checks that the caller has a role, on the apps it sees.
    pub(crate) fn require(&self, role: Role) -> Result<(), Problem> {
        if self.role >= role {
            return Ok(());
        }
        let message = format!("this needs the role {role}, and yours is {}", self.role);
        Err(Problem::forbidden(message))
    }

    /// Checks that the caller has a role and may see all apps.
    pub(crate) fn require_everywhere(&self, role: Role) -> Result<(), Problem> {
        self.require(role)?;
        match self.apps {
            None => Ok(()),
            Some(_) => Err(Problem::forbidden(
                "this concerns all apps, and yours are only some",
            )),
        }
    }

    /// Checks that the caller may give these rights. No caller gives more rights than its own.
    pub(crate) fn check_grant(&self, role: Role, apps: Option<&[String]>) -> Result<(), Problem> {
        if role > self.role {
            let message = format!(
                "you cannot give the role {role}, because yours is {}",
                self.role
            );
            return Err(Problem::forbidden(message));
        }
        match (&self.apps, apps) {
            (None, _) => Ok(()),
            (Some(_), None) => Err(Problem::forbidden(
                "you cannot give rights on all apps, because yours are only some: say which (apps)",
            )),
            (Some(_), Some(apps)) => apps.iter().try_for_each(|app| self.see(app)),
        }
    }

    /// Returns the caller with its rights at this moment, for a request that lasts.
    ///
    /// # Errors
    ///
    /// Returns why the caller has none any more: its session has ended, or its token was revoked. A session outlasts
    /// the access token with which the request began.
    pub(crate) async fn renewed(&self, state: &AppState) -> Result<Self, Problem> {
        let address = self.actor.address.clone();
        match (&self.session_id, &self.actor.kind, &self.actor.id) {
            (Some(session), _, _) => {
                let session = found(state.admin.store.session(session).await)?;
                Self::of_session(state, session, address).await
            }
            (None, ActorKind::Token, Some(token)) => Self::of_token(state, token, address).await,
            _ => Ok(self.clone()),
        }
    }

    /// Identifies a browser by its session's cookie.
    async fn of_cookie(
        state: &AppState,
        cookie: &SecretString,
        parts: &Parts,
    ) -> Result<Self, Problem> {
        check_own_header(parts)?;
        let store = &state.admin.store;
        let session = store
            .session_of_cookie(session_cookie::hash(cookie))
            .await?;
        let now = unix_millis();
        if let Some(active) = session.as_ref().filter(|session| session.is_active(now))
            && let Some(expires_at) =
                session_cookie::extended(now, active.created_at, active.last_used_at)
        {
            // The session works even if it can't be extended.
            if let Err(error) = store.extend_session(&active.id, now, expires_at).await {
                tracing::debug!(%error, session = active.id, "a session's last use is not written down");
            }
        }
        Self::of_session(state, session, address(state, parts)).await
    }

    async fn of_session(
        state: &AppState,
        session: Option<SessionRecord>,
        address: Option<String>,
    ) -> Result<Self, Problem> {
        let ended = || Problem::unauthorized("the session has ended; sign in again");
        let session = session
            .filter(|session| session.is_active(unix_millis()))
            .ok_or_else(ended)?;
        // Looked up with every request, so that a disabled operator's session loses its rights at once.
        let operator = found(state.admin.store.operator(&session.operator_id).await)?;
        let operator = operator
            .filter(|operator| operator.enabled)
            .ok_or_else(ended)?;
        Ok(Self {
            actor: Actor::operator(&operator, address),
            role: operator.role,
            apps: operator.apps,
            operator_id: Some(operator.id),
            session_id: Some(session.id),
        })
    }

    async fn of_token(
        state: &AppState,
        id: &str,
        address: Option<String>,
    ) -> Result<Self, Problem> {
        let revoked = || Problem::unauthorized("the API token was revoked or has expired");
        let token = found(state.admin.store.token(id).await)?;
        let token = token.filter(TokenRecord::is_active).ok_or_else(revoked)?;
        let maker = match &token.operator_id {
            Some(maker) => {
                Some(found(state.admin.store.operator(maker).await)?.ok_or_else(revoked)?)
            }
            None => None,
        };
        if maker.as_ref().is_some_and(|maker| !maker.enabled) {
            return Err(revoked());
        }
        let now = unix_millis();
        if token
            .last_used_at
            .is_none_or(|last| last + LAST_USE_RESOLUTION <= now)
        {
            // The token works even if its last use can't be recorded.
            if let Err(error) = state.admin.store.touch_token(&token.id, now).await {
                tracing::debug!(%error, token = token.id, "a token's last use is not written down");
            }
        }
        let (role, apps) = limited_by(maker.as_ref(), &token);
        Ok(Self {
            actor: Actor::token(&token, address),
            role,
            apps,
            operator_id: token.operator_id,
            session_id: None,
        })
    }
}

fn address(state: &AppState, parts: &Parts) -> Option<String> {
    state
        .addresses
        .of(&parts.headers, &parts.extensions)
        .map(|address| address.to_string())
}

/// Returns the rights of a token, which are never more than its maker's at this moment.
fn limited_by(maker: Option<&OperatorRecord>, token: &TokenRecord) -> (Role, Option<Vec<String>>) {
    let Some(maker) = maker else {
        return (token.role, token.apps.clone());
    };
    let apps = match (&maker.apps, &token.apps) {
        (None, apps) | (apps, None) => apps.clone(),
        (Some(makers), Some(apps)) => {
            let both = apps.iter().filter(|app| makers.contains(app));
            Some(both.cloned().collect())
        }
    };
    (token.role.min(maker.role), apps)
}

fn found<T>(result: Result<T, StoreError>) -> Result<Option<T>, Problem> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(StoreError::NotFound(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

impl FromRequestParts<AppState> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let caller = Self::identify(parts, state).await?;
        // Some endpoints ask for no more than a valid token.
        caller.require(Role::Viewer)?;
        Ok(caller)
    }
}

/// A caller that may read the metrics of all apps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scraper;

impl FromRequestParts<AppState> for Scraper {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let Some(token) = bearer_token(&parts.headers) else {
            let caller = Caller::identify(parts, state).await?;
            caller.require_everywhere(Role::Metrics)?;
            return Ok(Self);
        };
        let ask_store = async {
            let claims = state.admin.jwts.verify(token).await?;
            let caller = Caller::of_claims(&claims, parts, state).await?;
            caller.require_everywhere(Role::Metrics)?;
            Ok(claims.exp)
        };
        let scrapers = &state.admin.confirmed_scrapers;
        scrapers.check(token, ask_store).await?;
        Ok(Self)
    }
}

impl Caller {
    async fn identify(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        // Only a request made within this process can carry one: extensions don't come over the network.
        if let Some(caller) = parts.extensions.get::<Self>() {
            return Ok(caller.clone());
        }
        if !parts.headers.contains_key(AUTHORIZATION)
            && let Some(cookie) = session_cookie(parts)
        {
            return Self::of_cookie(state, &cookie, parts).await;
        }
        let token = bearer_token(&parts.headers)
            .ok_or_else(|| {
                Problem::unauthorized("this needs the header `Authorization: Bearer TOKEN`, once, with the token of a session (POST /api/v1/sessions) or an API token")
            })?;
        let claims = state.admin.jwts.verify(token).await?;
        Self::of_claims(&claims, parts, state).await
    }

    async fn of_claims(claims: &Claims, parts: &Parts, state: &AppState) -> Result<Self, Problem> {
        let address = address(state, parts);
        match claims.kind {
            Kind::Session => {
                let session = found(state.admin.store.session(&claims.sub).await)?;
                Self::of_session(state, session, address).await
            }
            Kind::Token => Self::of_token(state, &claims.sub, address).await,
        }
    }
}

impl From<InvalidToken> for Problem {
    fn from(error: InvalidToken) -> Self {
        match error {
            InvalidToken::Unknown | InvalidToken::Expired => Self::unauthorized(error.to_string()),
            InvalidToken::Store(error) => error.into(),
        }
    }
}
