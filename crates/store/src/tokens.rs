//! API tokens of programs that administer the installation. The token itself is signed elsewhere. This table holds its
//! rights and how long it is valid.

use serde_json::{Value, json};
use sqlx::Row;

use crate::actor::{Actor, ActorKind};
use crate::audit::Target;
use crate::database::{Store, issue_id, now};
use crate::dialect::{execute, execute_alone, fetch_all, fetch_optional};
use crate::error::StoreError;
use crate::row::{from_row, parsed};
use crate::scope::{Role, apps_from_column, apps_to_column, check_apps, check_name};
use crate::transaction::Transaction;

const INSERT: &str = "INSERT INTO tokens (id, name, role, apps, operator_id, parent_id, created_at, expires_at) \
                      VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
const SELECT: &str = "SELECT id, name, role, apps, operator_id, created_at, expires_at, revoked_at, last_used_at \
                      FROM tokens WHERE id = $1";
const SELECT_PAGE: &str = "SELECT id, name, role, apps, operator_id, created_at, expires_at, revoked_at, last_used_at \
                           FROM tokens WHERE (created_at, id) > ($1, $2) \
                           ORDER BY created_at, id LIMIT $3";
const SELECT_ACTIVE_OF: &str =
    "SELECT id FROM tokens WHERE operator_id = $1 AND revoked_at IS NULL";
const SELECT_ACTIVE_MADE_BY: &str =
    "SELECT id FROM tokens WHERE parent_id = $1 AND revoked_at IS NULL";
const REVOKE: &str = "UPDATE tokens SET revoked_at = $2 WHERE id = $1";
const TOUCH: &str = "UPDATE tokens SET last_used_at = $2 \
                     WHERE id = $1 AND (last_used_at IS NULL OR last_used_at < $2)";

/// An API token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRecord {
    /// Its id.
    pub id: String,
    /// Purpose of the token, for people.
    pub name: String,
    /// Role.
    pub role: Role,
    /// Ids of the apps that the role covers, or `None` for all apps.
    pub apps: Option<Vec<String>>,
    /// Operator that made it, or `None` if it was made on the command line.
    pub operator_id: Option<String>,
    /// Unix time in milliseconds.
    pub created_at: i64,
    /// When the token expires, Unix time in milliseconds.
    pub expires_at: Option<i64>,
    /// When the token was revoked, Unix time in milliseconds.
    pub revoked_at: Option<i64>,
    /// Approximate time of its last use, Unix time in milliseconds.
    pub last_used_at: Option<i64>,
}

from_row!(row => TokenRecord {
    id,
    name,
    role: parsed(row, "role", Role::try_from)?,
    apps: apps_from_column(row.try_get("apps")?),
    operator_id,
    created_at,
    expires_at,
    revoked_at,
    last_used_at,
});

/// A token to create.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// Purpose of the token, for people.
    pub name: String,
    /// Role.
    pub role: Role,
    /// Ids of the apps that the role covers, or `None` for all apps.
    pub apps: Option<Vec<String>>,
    /// Operator that makes it. A token that makes another one passes on its own operator.
    pub operator_id: Option<String>,
    /// When the token expires, Unix time in milliseconds.
    pub expires_at: Option<i64>,
}

impl TokenRecord {
    /// Returns whether the token is active: neither revoked nor expired.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|expires_at| expires_at > now())
    }
}

impl Store {
    /// Creates a token. A token made by another token ends with it: it expires no later, and is revoked with it.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::Invalid`] for name or apps, [`StoreError::NotFound`] for the operator, or
    /// [`StoreError::Conflict`] if the operator is disabled or the token that makes it isn't active.
    pub async fn create_token(
        &self,
        new: &NewToken,
        by: &Actor,
    ) -> Result<TokenRecord, StoreError> {
        let mut transaction = self.begin(by).await?;
        if let Some(operator_id) = &new.operator_id {
            transaction.check_operator_enabled(operator_id).await?;
        }
        // Read under the lock, because the parent may have been revoked since the request began.
        let parent = transaction.parent_token().await?;
        let ends = [
            new.expires_at,
            parent.as_ref().and_then(|parent| parent.expires_at),
        ];
        let token = TokenRecord {
            id: issue_id("tok"),
            name: check_name(&new.name, "a token's")?,
            role: new.role,
            apps: check_apps(new.apps.as_deref())?,
            operator_id: new.operator_id.clone(),
            created_at: transaction.at,
            expires_at: ends.into_iter().flatten().min(),
            revoked_at: None,
            last_used_at: None,
        };
        execute!(
            &mut transaction.tx,
            INSERT,
            &token.id,
            &token.name,
            token.role.as_str(),
            apps_to_column(token.apps.as_deref()),
            &token.operator_id,
            parent.map(|parent| parent.id),
            token.created_at,
            token.expires_at,
        )?;
        let target = Target::of("token", &token.id);
        transaction
            .record("token.create", target, &fields(&token))
            .await?;
        transaction.commit().await?;
        Ok(token)
    }

    /// Returns a token, which may have expired or been revoked.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::NotFound`] if there is no such token.
    pub async fn token(&self, id: &str) -> Result<TokenRecord, StoreError> {
        self.find(SELECT, id).await?.ok_or_else(|| not_found(id))
    }

    /// Returns at most `limit` tokens, oldest first, including revoked and expired ones: those after the one with this
    /// `created_at` and id.
    ///
    /// # Errors
    ///
    /// Returns the database's error.
    pub async fn tokens(
        &self,
        after: Option<(i64, String)>,
        limit: i64,
    ) -> Result<Vec<TokenRecord>, StoreError> {
        self.page(SELECT_PAGE, after, limit).await
    }

    /// Revokes a token and those that it made, for good.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::NotFound`] if there is no such token, or [`StoreError::Conflict`] if it was revoked
    /// before.
    pub async fn revoke_token(&self, id: &str, by: &Actor) -> Result<(), StoreError> {
        let mut transaction = self.begin(by).await?;
        let token = fetch_optional!(TokenRecord, &mut transaction.tx, SELECT, id)?
            .ok_or_else(|| not_found(id))?;
        if token.revoked_at.is_some() {
            return Err(StoreError::Conflict(format!(
                "the token {id:?} was revoked already"
            )));
        }
        transaction
            .revoke_token(id, &json!({"name": token.name}))
            .await?;
        transaction.commit().await
    }

    /// Records when a token was last used, Unix time in milliseconds.
    ///
    /// # Errors
    ///
    /// Returns the database's error.
    pub async fn touch_token(&self, id: &str, at: i64) -> Result<(), StoreError> {
        execute_alone!(&self.db, TOUCH, id, at)?;
        Ok(())
    }
}

impl Transaction<'_> {
    /// Revokes an operator's tokens. Each has its own entry in the audit log, because its operator may be gone.
    pub(crate) async fn revoke_tokens_of(&mut self, operator_id: &str) -> Result<(), StoreError> {
        let tokens = fetch_all!((String,), &mut self.tx, SELECT_ACTIVE_OF, operator_id)?;
        for (id,) in tokens {
            self.revoke_token(&id, &json!({"operator_id": operator_id}))
                .await?;
        }
        Ok(())
    }

    /// Returns the token that makes another one, if the actor is a token.
    async fn parent_token(&mut self) -> Result<Option<TokenRecord>, StoreError> {
        let (ActorKind::Token, Some(id)) = (self.by.kind, &self.by.id) else {
            return Ok(None);
        };
        let parent = fetch_optional!(TokenRecord, &mut self.tx, SELECT, id)?;
        let parent = parent.filter(TokenRecord::is_active);
        let ended = || StoreError::Conflict(format!("the token {id:?} was revoked or has expired"));
        parent.map(Some).ok_or_else(ended)
    }

    async fn revoke_token(&mut self, id: &str, details: &Value) -> Result<(), StoreError> {
        let mut ids = vec![(id.to_owned(), details.clone())];
        while let Some((id, details)) = ids.pop() {
            execute!(&mut self.tx, REVOKE, &id, self.at)?;
            self.record("token.revoke", Target::of("token", &id), &details)
                .await?;
            let made = fetch_all!((String,), &mut self.tx, SELECT_ACTIVE_MADE_BY, &id)?;
            ids.extend(
                made.into_iter()
                    .map(|(made,)| (made, json!({"made_by": id}))),
            );
        }
        Ok(())
    }
}

fn not_found(id: &str) -> StoreError {
    StoreError::NotFound(format!("there is no token with id {id:?}"))
}

fn fields(token: &TokenRecord) -> Value {
    json!({
        "name": token.name,
        "role": token.role,
        "apps": token.apps,
        "operator_id": token.operator_id,
        "expires_at": token.expires_at,
    })
}
