//! Links that sign an operator in, once. A link's token is stored as its SHA-256 hash.

use serde_json::json;

use crate::actor::Actor;
use crate::audit::Target;
use crate::database::Store;
use crate::dialect::{execute, on_db};
use crate::error::StoreError;
use crate::operators::OperatorRecord;
use crate::sessions::{NewSession, SessionRecord};
use crate::transaction::Transaction;

const INSERT: &str =
    "INSERT INTO sign_in_links (hash, operator_id, expires_at) VALUES ($1, $2, $3)";
const SELECT: &str = "SELECT operator_id FROM sign_in_links WHERE hash = $1 AND expires_at > $2";
const DELETE: &str = "DELETE FROM sign_in_links WHERE hash = $1 AND operator_id = $2";
const DELETE_OF: &str = "DELETE FROM sign_in_links WHERE operator_id = $1";
const DELETE_EXPIRED: &str = "DELETE FROM sign_in_links WHERE expires_at <= $1";

impl Store {
    /// Creates a link for an operator, whose token has this SHA-256. It can be used until `expires_at`, a Unix time in
    /// milliseconds.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::NotFound`] if there is no such operator, or [`StoreError::Conflict`] if the operator is
    /// disabled.
    pub async fn create_sign_in_link(
        &self,
        operator_id: &str,
        hash: [u8; 32],
        expires_at: i64,
        by: &Actor,
    ) -> Result<(), StoreError> {
        let mut transaction = self.begin_quietly(by).await?;
        transaction.check_operator_enabled(operator_id).await?;
        let tx = &mut transaction.tx;
        execute!(tx, DELETE_EXPIRED, transaction.at)?;
        execute!(tx, INSERT, &hash[..], operator_id, expires_at)?;
        let details = json!({"expires_at": expires_at});
        let target = Target::of("operator", operator_id);
        transaction
            .record("operator.sign_in_link", target, &details)
            .await?;
        transaction.commit().await
    }

    /// Returns the operator whom a link signs in, if it can be used. Its token has this SHA-256, and `now` is a Unix time in
    /// milliseconds.
    ///
    /// # Errors
    ///
    /// Returns the database's error.
    pub async fn operator_of_sign_in_link(
        &self,
        hash: [u8; 32],
        now: i64,
    ) -> Result<Option<OperatorRecord>, StoreError> {
        let found: Option<(String,)> = on_db!(&self.db, pool => sqlx::query_as(SELECT)
            .bind(&hash[..]).bind(now).fetch_optional(pool).await)?;
        let Some((operator_id,)) = found else {
            return Ok(None);
        };
        match self.operator(&operator_id).await {
            Ok(operator) => Ok(Some(operator).filter(|operator| operator.enabled)),
            Err(StoreError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Uses up the link whose token has this SHA-256, and creates a session of its operator. Returns `None` if another
    /// request has used it.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::NotFound`] if there is no such operator, or [`StoreError::Conflict`] if the operator is
    /// disabled.
    pub async fn create_session_by_link(
        &self,
        hash: [u8; 32],
        new: &NewSession,
        by: &Actor,
    ) -> Result<Option<SessionRecord>, StoreError> {
        let mut transaction = self.begin_quietly(by).await?;
        transaction.check_operator_enabled(&new.operator_id).await?;
        if execute!(&mut transaction.tx, DELETE, &hash[..], &new.operator_id)? == 0 {
            return Ok(None);
        }
        let session = transaction.create_session(new).await?;
        transaction.commit().await?;
        Ok(Some(session))
    }
}

impl Transaction<'_> {
    pub(crate) async fn delete_sign_in_links_of(
        &mut self,
        operator_id: &str,
    ) -> Result<(), StoreError> {
        execute!(&mut self.tx, DELETE_OF, operator_id)?;
        Ok(())
    }
}
