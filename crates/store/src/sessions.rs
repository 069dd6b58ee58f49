//! Sessions of operators who are signed in. Programs keep a session with refresh tokens, each of which can be used once,
//! and browsers with a cookie. Both are stored as their SHA-256 hash.

use serde_json::json;

use crate::actor::Actor;
use crate::audit::Target;
use crate::database::{Store, issue_id, now};
use crate::dialect::{execute, fetch_optional, on_db};
use crate::error::StoreError;
use crate::row::from_row;
use crate::transaction::Transaction;

const INSERT: &str = "INSERT INTO sessions (id, operator_id, created_at, last_used_at, expires_at, address, agent, \
                                            cookie_hash) \
                      VALUES ($1, $2, $3, $3, $4, $5, $6, $7)";
const INSERT_TOKEN: &str = "INSERT INTO refresh_tokens (hash, session_id) VALUES ($1, $2)";
const REPLACE_TOKEN: &str = "UPDATE refresh_tokens SET replaced_at = $2 WHERE hash = $1";
const SELECT_TOKEN: &str = "SELECT session_id, replaced_at FROM refresh_tokens WHERE hash = $1";
const SELECT: &str = "SELECT id, operator_id, created_at, last_used_at, expires_at, revoked_at, address, agent \
                      FROM sessions WHERE id = $1";
const SELECT_BY_COOKIE: &str = "SELECT id, operator_id, created_at, last_used_at, expires_at, revoked_at, address, agent \
                                FROM sessions WHERE cookie_hash = $1";
const SELECT_ACTIVE: &str = "SELECT id, operator_id, created_at, last_used_at, expires_at, revoked_at, address, agent \
                               FROM sessions WHERE revoked_at IS NULL AND expires_at > $2 \
                                 AND ($1 IS NULL OR operator_id = $1) \
                               ORDER BY last_used_at DESC, id";
const EXTEND: &str = "UPDATE sessions SET last_used_at = $2, expires_at = $3 WHERE id = $1";
const REVOKE: &str = "UPDATE sessions SET revoked_at = $2 WHERE id = $1";
const REVOKE_ALL: &str = "UPDATE sessions SET revoked_at = $2 \
                          WHERE operator_id = $1 AND revoked_at IS NULL AND expires_at > $2";
/// Deletes their refresh tokens too, through the foreign key.
const DELETE_EXPIRED: &str = "DELETE FROM sessions WHERE expires_at < $1";

/// How long, in milliseconds, a replaced refresh token may still be presented without counting as stolen: by a second
/// tab of a browser, or after a lost answer.
const REUSE_GRACE: i64 = 10_000;
/// How long an expired session is kept, in milliseconds.
const KEEP: i64 = 30 * 24 * 60 * 60 * 1000;

/// An operator who is or was signed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRecord {
    /// Its id.
    pub id: String,
    /// Operator that the session belongs to.
    pub operator_id: String,
    /// Unix time in milliseconds.
    pub created_at: i64,
    /// When its refresh token was last replaced, or its cookie last used, Unix time in milliseconds.
    pub last_used_at: i64,
    /// Unix time in milliseconds.
    pub expires_at: i64,
    /// When it was ended before that, Unix time in milliseconds.
    pub revoked_at: Option<i64>,
    /// Network address of the sign-in.
    pub address: Option<String>,
    /// `User-Agent` of the sign-in.
    pub agent: Option<String>,
}

from_row!(row => SessionRecord {
    id, operator_id, created_at, last_used_at, expires_at, revoked_at, address, agent,
});

/// The SHA-256 of what proves that a request belongs to a session.
#[derive(Debug, Clone, Copy)]
pub enum SessionProof {
    /// The session's first refresh token.
    RefreshToken([u8; 32]),
    /// The cookie of a browser.
    Cookie([u8; 32]),
}

/// A session to create.
#[derive(Debug, Clone)]
pub struct NewSession {
    /// Operator that signs in.
    pub operator_id: String,
    /// What the client proves itself with.
    pub proof: SessionProof,
    /// Unix time in milliseconds.
    pub expires_at: i64,
    /// Network address of the sign-in.
    pub address: Option<String>,
    /// `User-Agent` of the sign-in.
    pub agent: Option<String>,
}

/// Result of presenting a refresh token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rotation {
    /// It was the session's current one and was replaced.
    Rotated(SessionRecord),
    /// It was replaced less than 10 seconds ago by another request. Nothing changed.
    Raced,
    /// It was replaced longer ago, so it may be stolen, and the session was revoked.
    Reused(SessionRecord),
    /// It belongs to no active session.
    Unknown,
}

impl SessionRecord {
    /// Returns whether the session is active at this Unix time in milliseconds.
    #[must_use]
    pub fn is_active(&self, now: i64) -> bool {
        self.revoked_at.is_none() && self.expires_at > now
    }
}

impl Store {
    /// Creates a session. The audit log records it as `session.create`.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::NotFound`] if there is no such operator, or [`StoreError::Conflict`] if the operator is
    /// disabled.
    pub async fn create_session(
        &self,
        new: &NewSession,
        by: &Actor,
    ) -> Result<SessionRecord, StoreError> {
        let mut transaction = self.begin_quietly(by).await?;
        transaction.check_operator_enabled(&new.operator_id).await?;
        let session = transaction.create_session(new).await?;
        transaction.commit().await?;
        Ok(session)
    }

    /// Returns the session of a browser's cookie, of which this is the SHA-256. It may have ended.
    ///
    /// # Errors
    ///
    /// Returns the database's error.
    pub async fn session_of_cookie(
        &self,
        cookie_hash: [u8; 32],
    ) -> Result<Option<SessionRecord>, StoreError> {
        Ok(
            on_db!(&self.db, pool => sqlx::query_as(SELECT_BY_COOKIE).bind(&cookie_hash[..])
            .fetch_optional(pool).await)?,
        )
    }

    /// Writes down that a session was used at `now`, and until when it lasts. Both are Unix times in milliseconds.
    ///
    /// # Errors
    ///
    /// Returns the database's error.
    pub async fn extend_session(
        &self,
        id: &str,
        now: i64,
        expires_at: i64,
    ) -> Result<(), StoreError> {
        on_db!(&self.db, pool => sqlx::query(EXTEND).bind(id).bind(now).bind(expires_at).execute(pool).await.map(drop))?;
        Ok(())
    }

    /// Replaces a refresh token that was presented. `now` and `new_expires_at` are Unix times in milliseconds.
    ///
    /// # Errors
    ///
    /// Returns the database's error.
    pub async fn rotate_session(
        &self,
        presented_hash: [u8; 32],
        new_hash: [u8; 32],
        now: i64,
        new_expires_at: i64,
    ) -> Result<Rotation, StoreError> {
        // Checked without the lock first, so that a stranger's guesses don't delay changes.
        let known: Option<(String, Option<i64>)> = on_db!(&self.db, pool =>
            sqlx::query_as(SELECT_TOKEN).bind(&presented_hash[..]).fetch_optional(pool).await)?;
        if known.is_none() {
            return Ok(Rotation::Unknown);
        }
        let by = Actor::system();
        let mut transaction = self.begin_quietly(&by).await?;
        let tx = &mut transaction.tx;
        // Read again under the lock, because another request may have replaced the token since.
        let token = fetch_optional!((String, Option<i64>), tx, SELECT_TOKEN, &presented_hash[..])?;
        let Some((session_id, replaced_at)) = token else {
            return Ok(Rotation::Unknown);
        };
        let session = fetch_optional!(SessionRecord, tx, SELECT, &session_id)?;
        let Some(session) = session.filter(|session| session.is_active(now)) else {
            return Ok(Rotation::Unknown);
        };
        match replaced_at {
            None => {}
            Some(replaced_at) if now - replaced_at <= REUSE_GRACE => return Ok(Rotation::Raced),
            Some(_) => return transaction.revoke_reused(session, now).await,
        }
        execute!(tx, REPLACE_TOKEN, &presented_hash[..], now)?;
        execute!(tx, INSERT_TOKEN, &new_hash[..], &session.id)?;
        execute!(tx, EXTEND, &session.id, now, new_expires_at)?;
        transaction.commit().await?;
        Ok(Rotation::Rotated(SessionRecord {
            last_used_at: now,
            expires_at: new_expires_at,
            ..session
        }))
    }

    /// Returns a session, which may have ended.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::NotFound`] if there is no such session.
    pub async fn session(&self, id: &str) -> Result<SessionRecord, StoreError> {
        self.find(SELECT, id).await?.ok_or_else(|| not_found(id))
    }

    /// Returns the active sessions, of one operator or of all, most recently used first.
    ///
    /// # Errors
    ///
    /// Returns the database's error.
    pub async fn sessions(
        &self,
        operator_id: Option<&str>,
    ) -> Result<Vec<SessionRecord>, StoreError> {
        Ok(
            on_db!(&self.db, pool => sqlx::query_as(SELECT_ACTIVE).bind(operator_id).bind(now())
            .fetch_all(pool).await)?,
        )
    }

    /// Ends a session. One that has ended stays as it is.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::NotFound`] if there is no such session.
    pub async fn revoke_session(&self, id: &str, by: &Actor) -> Result<(), StoreError> {
        let mut transaction = self.begin(by).await?;
        let session = fetch_optional!(SessionRecord, &mut transaction.tx, SELECT, id)?
            .ok_or_else(|| not_found(id))?;
        if !session.is_active(transaction.at) {
            return Ok(());
        }
        execute!(&mut transaction.tx, REVOKE, id, transaction.at)?;
        let details = json!({"operator_id": session.operator_id});
        transaction
            .record("session.revoke", Target::of("session", id), &details)
            .await?;
        transaction.commit().await
    }

    /// Ends all sessions of an operator and returns how many.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::NotFound`] if there is no such operator.
    pub async fn revoke_sessions(&self, operator_id: &str, by: &Actor) -> Result<u64, StoreError> {
        let mut transaction = self.begin(by).await?;
        transaction.operator(operator_id).await?;
        let revoked = transaction.revoke_sessions_of(operator_id).await?;
        if revoked == 0 {
            return Ok(0);
        }
        let target = Target::of("operator", operator_id);
        let details = json!({"sessions_revoked": revoked});
        transaction
            .record("session.revoke_all", target, &details)
            .await?;
        transaction.commit().await?;
        Ok(revoked)
    }
}

impl Transaction<'_> {
    pub(crate) async fn create_session(
        &mut self,
        new: &NewSession,
    ) -> Result<SessionRecord, StoreError> {
        let session = SessionRecord {
            id: issue_id("ses"),
            operator_id: new.operator_id.clone(),
            created_at: self.at,
            last_used_at: self.at,
            expires_at: new.expires_at,
            revoked_at: None,
            address: new.address.clone(),
            agent: new.agent.clone(),
        };
        let (refresh_hash, cookie_hash) = match &new.proof {
            SessionProof::RefreshToken(hash) => (Some(hash), None),
            SessionProof::Cookie(hash) => (None, Some(&hash[..])),
        };
        let tx = &mut self.tx;
        // Deleted here, because sign-ins are rare and expired sessions need no task of their own.
        execute!(tx, DELETE_EXPIRED, session.created_at - KEEP)?;
        execute!(
            tx,
            INSERT,
            &session.id,
            &session.operator_id,
            session.created_at,
            session.expires_at,
            &session.address,
            &session.agent,
            cookie_hash,
        )?;
        if let Some(hash) = refresh_hash {
            execute!(tx, INSERT_TOKEN, &hash[..], &session.id)?;
        }
        let details = json!({"operator_id": session.operator_id, "agent": session.agent});
        self.record(
            "session.create",
            Target::of("session", &session.id),
            &details,
        )
        .await?;
        Ok(session)
    }

    /// Ends an operator's sessions and makes their sign-in links useless. Returns how many sessions.
    pub(crate) async fn revoke_sessions_of(
        &mut self,
        operator_id: &str,
    ) -> Result<u64, StoreError> {
        self.delete_sign_in_links_of(operator_id).await?;
        Ok(execute!(&mut self.tx, REVOKE_ALL, operator_id, self.at)?)
    }

    async fn revoke_reused(
        mut self,
        session: SessionRecord,
        now: i64,
    ) -> Result<Rotation, StoreError> {
        self.take_revision().await?;
        execute!(&mut self.tx, REVOKE, &session.id, now)?;
        let details = json!({"operator_id": session.operator_id});
        self.record(
            "session.reuse",
            Target::of("session", &session.id),
            &details,
        )
        .await?;
        self.commit().await?;
        Ok(Rotation::Reused(SessionRecord {
            revoked_at: Some(now),
            ..session
        }))
    }
}

fn not_found(id: &str) -> StoreError {
    StoreError::NotFound(format!("there is no session with id {id:?}"))
}
