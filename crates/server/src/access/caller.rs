//! Who a request is from, and what that may do.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use fanfare_store::{Actor, OperatorRecord, Role, StoreError, TokenRecord};

use super::jwt::{InvalidToken, Kind};
use crate::admin::problem::Problem;
use crate::app_state::AppState;
use crate::clock::unix_millis;
use crate::http::headers::bearer_token;

/// A token's last use is kept as coarse as this, in milliseconds.
const TOUCHED_EVERY: i64 = 60_000;

/// An operator, an API token, or whoever runs the command line on the machine.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// For the audit log.
    pub(crate) actor: Actor,
    role: Role,
    /// The apps it may see; all of them if `None`.
    apps: Option<Vec<String>>,
    /// The operator, or whoever made the token.
    pub(crate) operator_id: Option<String>,
    /// The session, if it is one's.
    pub(crate) session_id: Option<String>,
}

impl Caller {
    /// Whoever may read this machine's configuration and store, and so could do everything anyway. The only one that is
    /// put into a request's extensions, and only into requests that never were on a network (`cli/api/local.rs`).
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

    /// The operator, if they have signed in themselves: what is theirs alone is not their tokens'.
    pub(crate) fn person(&self) -> Option<&String> {
        self.session_id.as_ref().and(self.operator_id.as_ref())
    }

    /// The apps it may see; all of them if `None`.
    pub(crate) fn apps(&self) -> Option<&[String]> {
        self.apps.as_deref()
    }

    /// Whether an app is there for this caller. One that is not looks as if it did not exist.
    pub(crate) fn see(&self, app_id: &str) -> Result<(), Problem> {
        match &self.apps {
            Some(apps) if !apps.iter().any(|app| app == app_id) => Err(Problem::no_app(app_id)),
            _ => Ok(()),
        }
    }

    /// Whether it may change an app.
    pub(crate) fn change(&self, app_id: &str) -> Result<(), Problem> {
        self.see(app_id)?;
        self.require(Role::Admin)
    }

    /// Whether it may do what needs a role, on the apps it sees.
    pub(crate) fn require(&self, role: Role) -> Result<(), Problem> {
        if self.role >= role {
            return Ok(());
        }
        let message = format!("this needs the role {role}, and yours is {}", self.role);
        Err(Problem::forbidden(message))
    }

    /// Whether it may do what concerns all apps.
    pub(crate) fn require_everywhere(&self, role: Role) -> Result<(), Problem> {
        self.require(role)?;
        match self.apps {
            None => Ok(()),
            Some(_) => Err(Problem::forbidden(
                "this concerns all apps, and yours are only some",
            )),
        }
    }

    /// Whether it may give these rights to somebody else: nobody gives more than they have.
    pub(crate) fn give(&self, role: Role, apps: Option<&[String]>) -> Result<(), Problem> {
        if role > self.role {
            let message = format!(
                "you cannot give the role {role}, for yours is {}",
                self.role
            );
            return Err(Problem::forbidden(message));
        }
        match (&self.apps, apps) {
            (None, _) => Ok(()),
            (Some(_), None) => Err(Problem::forbidden(
                "you cannot give rights on all apps, for yours are only some: say which (apps)",
            )),
            (Some(_), Some(apps)) => apps.iter().try_for_each(|app| self.see(app)),
        }
    }

    async fn of_session(state: &AppState, id: &str, parts: &Parts) -> Result<Self, Problem> {
        let ended = || Problem::unauthorized("the session has ended; sign in again");
        let session = found(state.admin.store.session(id).await)?.ok_or_else(ended)?;
        if !session.is_in_force(unix_millis()) {
            return Err(ended());
        }
        let operator = found(state.admin.store.operator(&session.operator_id).await)?;
        let operator = operator
            .filter(|operator| operator.enabled)
            .ok_or_else(ended)?;
        let address = address(state, parts);
        Ok(Self {
            actor: Actor::operator(&operator, address),
            role: operator.role,
            apps: operator.apps,
            operator_id: Some(operator.id),
            session_id: Some(session.id),
        })
    }

    async fn of_token(state: &AppState, id: &str, parts: &Parts) -> Result<Self, Problem> {
        let revoked = || Problem::unauthorized("the API token was revoked or has expired");
        let token = found(state.admin.store.token(id).await)?;
        let token = token.filter(TokenRecord::is_in_force).ok_or_else(revoked)?;
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
            .is_none_or(|last| last + TOUCHED_EVERY <= now)
        {
            // Not knowing when it was used is no reason not to let it look.
            if let Err(error) = state.admin.store.touch_token(&token.id, now).await {
                tracing::debug!(%error, token = token.id, "a token's last use is not written down");
            }
        }
        let (role, apps) = limited_by(maker.as_ref(), &token);
        Ok(Self {
            actor: Actor::token(&token, address(state, parts)),
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

/// A token never has more rights than whoever made it has now.
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
        // Only a request that is made within this process can have one.
        if let Some(caller) = parts.extensions.get::<Self>() {
            return Ok(caller.clone());
        }
        let token = bearer_token(&parts.headers)
            .ok_or_else(|| {
                Problem::unauthorized("this needs the header `Authorization: Bearer TOKEN`, once, with the token of a session (POST /api/v1/sessions) or an API token")
            })?;
        let claims = state.admin.jwts.verify(token).await?;
        match claims.kind {
            Kind::Session => Self::of_session(state, &claims.sub, parts).await,
            Kind::Token => Self::of_token(state, &claims.sub, parts).await,
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
