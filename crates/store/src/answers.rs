//! Idempotent requests of the admin API: a repeated request gets the answer of the first.

use secrecy::{ExposeSecret, SecretString};

use crate::actor::Actor;
use crate::database::Store;
use crate::dialect::{execute, execute_alone, fetch_optional};
use crate::error::StoreError;
use crate::row::from_row;

const DELETE_EXPIRED: &str = "DELETE FROM answers WHERE created_at < $1";
const DELETE_PENDING: &str =
    "DELETE FROM answers WHERE scope = $1 AND key = $2 AND status IS NULL AND created_at < $3";
const RESERVE: &str = "INSERT INTO answers (scope, key, body_hash, created_at) VALUES ($1, $2, $3, $4) \
                       ON CONFLICT (scope, key) DO NOTHING";
const SELECT: &str = "SELECT body_hash, status, body FROM answers WHERE scope = $1 AND key = $2";
const SAVE: &str = "UPDATE answers SET status = $3, body = $4 WHERE scope = $1 AND key = $2";
const RELEASE: &str = "DELETE FROM answers WHERE scope = $1 AND key = $2 AND status IS NULL";

/// How long an answer is kept, in milliseconds.
const KEEP: i64 = 24 * 60 * 60 * 1000;
/// How long a request may take, in milliseconds, before its process counts as dead.
const PENDING_TIMEOUT_MILLIS: i64 = 60 * 1000;

/// State of a request's idempotency key.
#[derive(Debug, Clone)]
pub enum Reservation {
    /// The request is new. The caller handles it and then calls [`Store::save_answer`] or [`Store::release_answer`].
    Reserved,
    /// The request was answered before.
    Answered {
        /// The status of the answer.
        status: u16,
        /// The body of the answer.
        body: SecretString,
    },
    /// The first request is being handled now.
    Pending,
    /// The key was used with another body.
    DifferentBody,
}

struct AnswerRow {
    body_hash: Vec<u8>,
    status: Option<i64>,
    body: Option<Vec<u8>>,
}

from_row!(row => AnswerRow { body_hash, status, body });

impl Store {
    /// Reserves a key for a request, unless it is reserved or answered. `scope` names the caller and endpoint of `key`;
    /// `body_hash` tells requests with the same key apart.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::WrongMasterKey`] if the answer doesn't open, or the database's error.
    pub async fn reserve_answer(
        &self,
        scope: &str,
        key: &str,
        body_hash: &[u8],
    ) -> Result<Reservation, StoreError> {
        let by = Actor::system();
        let mut transaction = self.begin_quietly(&by).await?;
        let (tx, at) = (&mut transaction.tx, transaction.at);
        // Sealed, because a password in the body could be guessed from its hash much faster than from argon2's.
        let body_hash = hex::encode(body_hash);
        let sealed_hash = self
            .master_key
            .seal(&body_hash, &request_context(scope, key));
        execute!(tx, DELETE_EXPIRED, at - KEEP)?;
        execute!(tx, DELETE_PENDING, scope, key, at - PENDING_TIMEOUT_MILLIS)?;
        let reserved = execute!(tx, RESERVE, scope, key, sealed_hash, at)? == 1;
        let found = fetch_optional!(AnswerRow, tx, SELECT, scope, key)?;
        transaction.commit().await?;
        if reserved {
            return Ok(Reservation::Reserved);
        }
        let is_same = |found: &AnswerRow| {
            let opened = self
                .master_key
                .open(&found.body_hash, &request_context(scope, key));
            opened.is_ok_and(|opened| opened == body_hash)
        };
        match found {
            Some(found) if !is_same(&found) => Ok(Reservation::DifferentBody),
            Some(AnswerRow {
                status: Some(status),
                body: Some(body),
                ..
            }) => {
                let body = self
                    .master_key
                    .open(&body, &context(scope, key))
                    .map_err(|_| StoreError::WrongMasterKey)?;
                Ok(Reservation::Answered {
                    status: u16::try_from(status).unwrap_or_default(),
                    body: body.into(),
                })
            }
            _ => Ok(Reservation::Pending),
        }
    }

    /// Saves the answer to a reserved request.
    ///
    /// # Errors
    ///
    /// Returns the database's error.
    pub async fn save_answer(
        &self,
        scope: &str,
        key: &str,
        status: u16,
        body: &SecretString,
    ) -> Result<(), StoreError> {
        let by = Actor::system();
        // In a transaction that checks the master key, because this seals.
        let mut transaction = self.begin_quietly(&by).await?;
        let sealed = self
            .master_key
            .seal(body.expose_secret(), &context(scope, key));
        execute!(
            &mut transaction.tx,
            SAVE,
            scope,
            key,
            i64::from(status),
            sealed
        )?;
        transaction.commit().await
    }

    /// Releases a reserved request that did nothing, so that it can be sent again.
    ///
    /// # Errors
    ///
    /// Returns the database's error.
    pub async fn release_answer(&self, scope: &str, key: &str) -> Result<(), StoreError> {
        execute_alone!(&self.db, RELEASE, scope, key)?;
        Ok(())
    }
}

/// Returns the context in which the hash of a request's body is sealed.
pub(crate) fn request_context(scope: &str, key: &str) -> String {
    format!("request::{}:{scope}:{key}", scope.len())
}

/// Returns the context in which an answer is sealed.
pub(crate) fn context(scope: &str, key: &str) -> String {
    format!("answer::{}:{scope}:{key}", scope.len())
}
