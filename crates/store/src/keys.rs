//! Keys and their secrets. An app has several at once, so that one can be replaced while the other still works.

use std::fmt;

use fanfare_protocol::ids::check_credential;
use secrecy::{ExposeSecret, SecretString};

use crate::changes::{NEXT_REVISION, TOUCH_APP};
use crate::database::{Store, now};
use crate::dialect::on_db;
use crate::error::StoreError;

pub(crate) const INSERT: &str =
    "INSERT INTO keys (key, app_id, secret, created_at) VALUES ($1, $2, $3, $4)";
const SELECT_BY_APP: &str = "SELECT key, app_id, secret, created_at, revoked_at FROM keys WHERE app_id = $1 ORDER BY created_at, key";
const REVOKE: &str =
    "UPDATE keys SET revoked_at = $2 WHERE key = $1 AND revoked_at IS NULL RETURNING app_id";
const SELECT_REVOKED_AT: &str = "SELECT revoked_at FROM keys WHERE key = $1";

/// A key and its secret.
#[derive(Debug, Clone)]
pub struct KeyRecord {
    /// The public half.
    pub key: String,
    /// Whose it is.
    pub app_id: String,
    /// The private half.
    pub secret: SecretString,
    /// Unix time in milliseconds.
    pub created_at: i64,
    /// Unix time in milliseconds, if it is no longer in force.
    pub revoked_at: Option<i64>,
}

/// A key to be: what is left out is drawn.
#[derive(Clone, Default)]
pub struct NewKey {
    /// An imported key.
    pub key: Option<String>,
    /// An imported secret.
    pub secret: Option<String>,
}

impl fmt::Debug for NewKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewKey")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

#[derive(sqlx::FromRow)]
pub(crate) struct SealedKey {
    pub(crate) key: String,
    pub(crate) app_id: String,
    secret: Vec<u8>,
    created_at: i64,
    revoked_at: Option<i64>,
}

/// Inserts a key within a transaction of either database.
macro_rules! insert {
    ($tx:expr, $key:expr, $sealed:expr) => {
        sqlx::query($crate::keys::INSERT)
            .bind(&$key.key)
            .bind(&$key.app_id)
            .bind(&$sealed)
            .bind($key.created_at)
            .execute($tx)
            .await
            .map_err(|error| {
                StoreError::or_conflict(error, || {
                    format!("the key {:?} is in use already", $key.key)
                })
            })?
    };
}
pub(crate) use insert;

impl NewKey {
    pub(crate) fn issue(self, app_id: &str) -> Result<KeyRecord, StoreError> {
        let key = self
            .key
            .unwrap_or_else(|| hex::encode(rand::random::<[u8; 10]>()));
        let secret = self
            .secret
            .unwrap_or_else(|| hex::encode(rand::random::<[u8; 20]>()));
        check_credential(&key).map_err(|error| {
            StoreError::Invalid(format!("key {key:?} is not possible: {error}"))
        })?;
        check_credential(&secret).map_err(|error| {
            StoreError::Invalid(format!("this secret is not possible: {error}"))
        })?;
        Ok(KeyRecord {
            key,
            app_id: app_id.into(),
            secret: secret.into(),
            created_at: now(),
            revoked_at: None,
        })
    }
}

impl Store {
    /// Adds a key to an app.
    ///
    /// # Errors
    ///
    /// There is no such app, or key or secret are not allowed, or the key is taken.
    pub async fn create_key(&self, app_id: &str, new: NewKey) -> Result<KeyRecord, StoreError> {
        let key = new.issue(app_id)?;
        let sealed = self.seal(&key);
        self.app(app_id).await?;
        on_db!(&self.db, pool => {
            let mut tx = pool.begin().await?;
            let revision: i64 = sqlx::query_scalar(NEXT_REVISION).fetch_one(&mut *tx).await?;
            insert!(&mut *tx, key, sealed);
            sqlx::query(TOUCH_APP).bind(app_id).bind(revision).execute(&mut *tx).await?;
            tx.commit().await?;
        });
        Ok(key)
    }

    /// Takes a key out of force, for good.
    ///
    /// # Errors
    ///
    /// There is no such key, or it was revoked before.
    pub async fn revoke_key(&self, key: &str) -> Result<(), StoreError> {
        on_db!(&self.db, pool => {
            let mut tx = pool.begin().await?;
            let revision: i64 = sqlx::query_scalar(NEXT_REVISION).fetch_one(&mut *tx).await?;
            let app: Option<String> = sqlx::query_scalar(REVOKE).bind(key).bind(now()).fetch_optional(&mut *tx).await?;
            let Some(app) = app else {
                let known: Option<Option<i64>> =
                    sqlx::query_scalar(SELECT_REVOKED_AT).bind(key).fetch_optional(&mut *tx).await?;
                return Err(match known {
                    None => StoreError::NotFound(format!("there is no key {key:?}")),
                    Some(_) => StoreError::Conflict(format!("the key {key:?} was revoked already")),
                });
            };
            sqlx::query(TOUCH_APP).bind(app).bind(revision).execute(&mut *tx).await?;
            tx.commit().await?;
        });
        Ok(())
    }

    /// An app's keys, oldest first, those out of force as well.
    ///
    /// # Errors
    ///
    /// There is no such app.
    pub async fn keys(&self, app_id: &str) -> Result<Vec<KeyRecord>, StoreError> {
        self.app(app_id).await?;
        let sealed: Vec<SealedKey> = on_db!(&self.db, pool => sqlx::query_as(SELECT_BY_APP).bind(app_id).fetch_all(pool).await)?;
        sealed.into_iter().map(|key| self.open(key)).collect()
    }

    pub(crate) fn seal(&self, key: &KeyRecord) -> Vec<u8> {
        self.master_key
            .seal(key.secret.expose_secret(), &context(&key.app_id, &key.key))
    }

    pub(crate) fn open(&self, sealed: SealedKey) -> Result<KeyRecord, StoreError> {
        let secret = self
            .master_key
            .open(&sealed.secret, &context(&sealed.app_id, &sealed.key))
            .map_err(|_| StoreError::WrongMasterKey)?;
        Ok(KeyRecord {
            key: sealed.key,
            app_id: sealed.app_id,
            secret: secret.into(),
            created_at: sealed.created_at,
            revoked_at: sealed.revoked_at,
        })
    }
}

/// What a secret is sealed for. Neither part can hold a colon.
fn context(app_id: &str, key: &str) -> String {
    format!("{app_id}:{key}")
}
