//! Keys and their secrets. An app has several at once, so that one can be replaced while another still works.

use std::fmt;

use fanfare_protocol::ids::check_credential;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use crate::actor::Actor;
use crate::audit::{Target, difference};
use crate::database::{Store, now};
use crate::dialect::{execute, fetch_optional, on_db};
use crate::error::StoreError;
use crate::row::from_row;
use crate::transaction::Transaction;

const INSERT: &str = "INSERT INTO keys (key, app_id, secret, label, created_at, expires_at) \
                      VALUES ($1, $2, $3, $4, $5, $6)";
const SELECT: &str = "SELECT key, app_id, secret, label, created_at, expires_at, revoked_at, \
                             last_used_at, last_used_from FROM keys WHERE key = $1";
const SELECT_BY_APP: &str = "SELECT key, app_id, secret, label, created_at, expires_at, revoked_at, \
                                    last_used_at, last_used_from FROM keys WHERE app_id = $1 \
                             ORDER BY created_at, key";
const UPDATE: &str = "UPDATE keys SET label = $2, expires_at = $3 WHERE key = $1";
const REVOKE: &str = "UPDATE keys SET revoked_at = $2 WHERE key = $1";
const NOTE_USE: &str = "UPDATE keys SET last_used_at = $2, last_used_from = $3 \
                        WHERE key = $1 AND (last_used_at IS NULL OR last_used_at < $2)";

/// Longest label of a key, in characters.
const MAX_LABEL: usize = 200;

/// A key and its secret.
#[derive(Debug, Clone)]
pub struct KeyRecord {
    /// The public half.
    pub key: String,
    /// App that the key belongs to.
    pub app_id: String,
    /// The private half.
    pub secret: SecretString,
    /// Purpose of the key, for people.
    pub label: Option<String>,
    /// Unix time in milliseconds.
    pub created_at: i64,
    /// When the key expires, Unix time in milliseconds.
    pub expires_at: Option<i64>,
    /// When the key was revoked, Unix time in milliseconds.
    pub revoked_at: Option<i64>,
    /// Approximate time of its last use, Unix time in milliseconds.
    pub last_used_at: Option<i64>,
    /// Network address of its last use.
    pub last_used_from: Option<String>,
}

/// A key that isn't active any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormerKeyRecord {
    /// The public half.
    pub key: String,
    /// App that the key belongs to.
    pub app_id: String,
    /// When it expired, or would have, Unix time in milliseconds.
    pub expires_at: Option<i64>,
    /// When it was revoked, Unix time in milliseconds.
    pub revoked_at: Option<i64>,
}

from_row!(row => FormerKeyRecord { key, app_id, expires_at, revoked_at });

impl FormerKeyRecord {
    /// Returns whether the key was revoked while it was active. Otherwise it has expired.
    #[must_use]
    pub fn is_revoked(&self) -> bool {
        let Some(revoked_at) = self.revoked_at else {
            return false;
        };
        self.expires_at
            .is_none_or(|expires_at| revoked_at <= expires_at)
    }

    /// Returns since when the key isn't active, Unix time in milliseconds.
    #[must_use]
    pub fn ended_at(&self) -> i64 {
        let ends = [self.expires_at, self.revoked_at];
        ends.into_iter().flatten().min().unwrap_or_default()
    }
}

impl From<KeyRecord> for FormerKeyRecord {
    fn from(key: KeyRecord) -> Self {
        Self {
            key: key.key,
            app_id: key.app_id,
            expires_at: key.expires_at,
            revoked_at: key.revoked_at,
        }
    }
}

/// A key to create. Absent fields are generated.
#[derive(Clone, Default)]
pub struct NewKey {
    /// An imported key.
    pub key: Option<String>,
    /// An imported secret.
    pub secret: Option<String>,
    /// Purpose of the key, for people.
    pub label: Option<String>,
    /// When the key expires, Unix time in milliseconds.
    pub expires_at: Option<i64>,
}

/// A use of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyUse {
    /// The key.
    pub key: String,
    /// Unix time in milliseconds.
    pub at: i64,
    /// Network address that the use came from.
    pub from: Option<String>,
}

impl fmt::Debug for NewKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewKey")
            .field("key", &self.key)
            .field("label", &self.label)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

pub(crate) struct SealedKey {
    pub(crate) key: String,
    pub(crate) app_id: String,
    secret: Vec<u8>,
    label: Option<String>,
    created_at: i64,
    expires_at: Option<i64>,
    revoked_at: Option<i64>,
    last_used_at: Option<i64>,
    last_used_from: Option<String>,
}

from_row!(row => SealedKey {
    key, app_id, secret, label, created_at, expires_at, revoked_at, last_used_at, last_used_from,
});

impl KeyRecord {
    /// Returns whether the key is active: neither revoked nor expired.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|expires_at| expires_at > now())
    }
}

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
        let created_at = now();
        if let Some(expires_at) = self.expires_at
            && expires_at <= created_at
        {
            return Err(StoreError::Invalid(format!(
                "a key cannot expire in the past: {expires_at} is before now, {created_at} (Unix time in milliseconds)"
            )));
        }
        Ok(KeyRecord {
            key,
            app_id: app_id.into(),
            secret: secret.into(),
            label: check_label(self.label)?,
            created_at,
            expires_at: self.expires_at,
            revoked_at: None,
            last_used_at: None,
            last_used_from: None,
        })
    }
}

impl Store {
    /// Adds a key to an app.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::NotFound`] for the app, [`StoreError::Invalid`] for the key, or [`StoreError::Conflict`]
    /// if the key is in use.
    pub async fn create_key(
        &self,
        app_id: &str,
        new: NewKey,
        by: &Actor,
    ) -> Result<KeyRecord, StoreError> {
        let key = new.issue(app_id)?;
        let mut transaction = self.begin(by).await?;
        transaction.touch_app(app_id).await?;
        transaction.insert_key(&key, self.seal(&key)).await?;
        let details = json!({"label": key.label, "expires_at": key.expires_at});
        transaction
            .record("key.create", Target::key(&key.key, app_id), &details)
            .await?;
        transaction.commit().await?;
        Ok(key)
    }

    /// Changes those of a key's label and expiry that are given, and returns the changed key. An expired key is active
    /// again if its expiry is moved.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::NotFound`] if the app has no such key, [`StoreError::Conflict`] if it was revoked,
    /// [`StoreError::Invalid`] for the label, or [`StoreError::Stale`] if the app's revision isn't the expected one.
    pub async fn update_key(
        &self,
        app_id: &str,
        key: &str,
        label: Option<Option<String>>,
        expires_at: Option<Option<i64>>,
        expected_app_revision: Option<i64>,
        by: &Actor,
    ) -> Result<KeyRecord, StoreError> {
        let mut transaction = self.begin(by).await?;
        transaction
            .check_revision(app_id, expected_app_revision)
            .await?;
        let sealed = transaction.active_key(Some(app_id), key).await?;
        let before = self.open(sealed)?;
        let after = KeyRecord {
            label: label.map_or_else(|| Ok(before.label.clone()), check_label)?,
            expires_at: expires_at.unwrap_or(before.expires_at),
            ..before.clone()
        };
        let changed = difference(&fields(&before), &fields(&after));
        if changed.is_empty() {
            return Ok(before);
        }
        execute!(
            &mut transaction.tx,
            UPDATE,
            key,
            &after.label,
            after.expires_at
        )?;
        transaction.touch_app(app_id).await?;
        transaction
            .record("key.update", Target::key(key, app_id), &changed.into())
            .await?;
        transaction.commit().await?;
        Ok(after)
    }

    /// Revokes a key for good. If an app is given, the key must be one of its keys.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::NotFound`] if there is no such key, or [`StoreError::Conflict`] if it was revoked before.
    pub async fn revoke_key(
        &self,
        app_id: Option<&str>,
        key: &str,
        by: &Actor,
    ) -> Result<(), StoreError> {
        let mut transaction = self.begin(by).await?;
        let sealed = transaction.active_key(app_id, key).await?;
        execute!(&mut transaction.tx, REVOKE, key, transaction.at)?;
        transaction.touch_app(&sealed.app_id).await?;
        transaction
            .record(
                "key.revoke",
                Target::key(key, &sealed.app_id),
                &json!({"label": sealed.label}),
            )
            .await?;
        transaction.commit().await
    }

    /// Records when and from where keys were last used; of several uses of a key, the latest.
    ///
    /// # Errors
    ///
    /// Returns the database's error.
    pub async fn note_key_uses(&self, uses: &[KeyUse]) -> Result<(), StoreError> {
        if uses.is_empty() {
            return Ok(());
        }
        let by = Actor::system();
        // Not a change, but serialized with changes: another transaction that locks several keys may lock them in
        // another order, and the two would deadlock.
        let mut transaction = self.begin_quietly(&by).await?;
        for KeyUse { key, at, from } in uses {
            execute!(&mut transaction.tx, NOTE_USE, key, at, from)?;
        }
        transaction.commit().await
    }

    /// Returns an app's keys, oldest first, including revoked and expired ones.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::NotFound`] if there is no such app.
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
            label: sealed.label,
            created_at: sealed.created_at,
            expires_at: sealed.expires_at,
            revoked_at: sealed.revoked_at,
            last_used_at: sealed.last_used_at,
            last_used_from: sealed.last_used_from,
        })
    }
}

impl Transaction<'_> {
    pub(crate) async fn insert_key(
        &mut self,
        key: &KeyRecord,
        sealed: Vec<u8>,
    ) -> Result<(), StoreError> {
        let inserted = execute!(
            &mut self.tx,
            INSERT,
            &key.key,
            &key.app_id,
            sealed,
            &key.label,
            key.created_at,
            key.expires_at,
        );
        inserted.map_err(|error| {
            StoreError::or_conflict(error, || format!("the key {:?} is in use already", key.key))
        })?;
        Ok(())
    }

    /// Returns a key that wasn't revoked, of this app if one is given.
    async fn active_key(
        &mut self,
        app_id: Option<&str>,
        key: &str,
    ) -> Result<SealedKey, StoreError> {
        let found = fetch_optional!(SealedKey, &mut self.tx, SELECT, key)?
            .filter(|found| app_id.is_none_or(|app_id| found.app_id == app_id))
            .ok_or_else(|| StoreError::NotFound(format!("there is no key {key:?}")))?;
        if found.revoked_at.is_some() {
            return Err(StoreError::Conflict(format!(
                "the key {key:?} was revoked already"
            )));
        }
        Ok(found)
    }
}

fn fields(key: &KeyRecord) -> Value {
    json!({"label": key.label, "expires_at": key.expires_at})
}

/// Checks a label. A label of white space only counts as none.
fn check_label(label: Option<String>) -> Result<Option<String>, StoreError> {
    let Some(label) = label else { return Ok(None) };
    let label = label.trim();
    if label.chars().count() > MAX_LABEL || label.chars().any(char::is_control) {
        return Err(StoreError::Invalid(format!(
            "a key's label has at most {MAX_LABEL} printable characters"
        )));
    }
    Ok((!label.is_empty()).then(|| label.to_owned()))
}

/// Returns the context in which a key's secret is sealed. Neither part can hold a colon.
pub(crate) fn context(app_id: &str, key: &str) -> String {
    format!("{app_id}:{key}")
}
