//! The keys that sign Fanfare's own tokens.

use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use crate::actor::Actor;
use crate::audit::Target;
use crate::database::{Store, issue_id, now};
use crate::dialect::{execute, fetch_all, on_db};
use crate::error::StoreError;
use crate::row::from_row;
use crate::transaction::Transaction;

const INSERT: &str = "INSERT INTO signing_keys (id, secret, created_at) VALUES ($1, $2, $3)";
/// The key that signs comes first. It alone has no end.
const SELECT: &str = "SELECT id, secret, created_at, retired_at FROM signing_keys \
                      WHERE retired_at IS NULL OR retired_at > $1 \
                      ORDER BY retired_at IS NOT NULL, created_at DESC, id";
const RETIRE: &str =
    "UPDATE signing_keys SET retired_at = $1 WHERE retired_at IS NULL OR retired_at > $1";

/// A key that signs tokens, or still verifies them.
#[derive(Debug, Clone)]
pub struct SigningKeyRecord {
    /// The `kid` of the tokens it signs.
    pub id: String,
    /// 64 hex digits (32 bytes).
    pub secret: SecretString,
    /// Unix time in milliseconds.
    pub created_at: i64,
    /// When it stops verifying, Unix time in milliseconds, or `None` for the key that signs.
    pub retired_at: Option<i64>,
}

struct SealedSigningKey {
    id: String,
    secret: Vec<u8>,
    created_at: i64,
    retired_at: Option<i64>,
}

from_row!(row => SealedSigningKey { id, secret, created_at, retired_at });

impl Store {
    /// Returns the keys that aren't retired, at least one. The first one signs, all of them verify. The first call ever
    /// makes a key.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::WrongMasterKey`] if a key doesn't open, or the database's error.
    pub async fn signing_keys(&self) -> Result<Vec<SigningKeyRecord>, StoreError> {
        let sealed: Vec<SealedSigningKey> =
            on_db!(&self.db, pool => sqlx::query_as(SELECT).bind(now()).fetch_all(pool).await)?;
        if sealed.is_empty() {
            return self.first_signing_key().await;
        }
        self.open_signing_keys(sealed)
    }

    /// Makes a new key, which signs from now on. Old keys verify until `keep_old_until`, Unix time in milliseconds, or
    /// until an earlier end that they already have.
    ///
    /// # Errors
    ///
    /// Returns the database's error.
    pub async fn rotate_signing_key(
        &self,
        keep_old_until: i64,
        by: &Actor,
    ) -> Result<SigningKeyRecord, StoreError> {
        let mut transaction = self.begin(by).await?;
        execute!(&mut transaction.tx, RETIRE, keep_old_until)?;
        let key = self.insert_signing_key(&mut transaction).await?;
        let details = json!({"old_retired_at": keep_old_until});
        transaction
            .record(
                "signing_key.rotate",
                Target::of("signing_key", &key.id),
                &details,
            )
            .await?;
        transaction.commit().await?;
        Ok(key)
    }

    async fn first_signing_key(&self) -> Result<Vec<SigningKeyRecord>, StoreError> {
        let by = Actor::system();
        let mut transaction = self.begin(&by).await?;
        // Read again under the lock, because another node may have made the first key.
        let sealed = fetch_all!(
            SealedSigningKey,
            &mut transaction.tx,
            SELECT,
            transaction.at
        )?;
        if !sealed.is_empty() {
            return self.open_signing_keys(sealed);
        }
        let key = self.insert_signing_key(&mut transaction).await?;
        let target = Target::of("signing_key", &key.id);
        transaction
            .record("signing_key.create", target, &json!({}))
            .await?;
        transaction.commit().await?;
        Ok(vec![key])
    }

    async fn insert_signing_key(
        &self,
        transaction: &mut Transaction<'_>,
    ) -> Result<SigningKeyRecord, StoreError> {
        let key = SigningKeyRecord {
            id: issue_id("sig"),
            secret: hex::encode(rand::random::<[u8; 32]>()).into(),
            created_at: transaction.at,
            retired_at: None,
        };
        let sealed = self
            .master_key
            .seal(key.secret.expose_secret(), &context(&key.id));
        execute!(&mut transaction.tx, INSERT, &key.id, sealed, key.created_at)?;
        Ok(key)
    }

    fn open_signing_keys(
        &self,
        sealed: Vec<SealedSigningKey>,
    ) -> Result<Vec<SigningKeyRecord>, StoreError> {
        let open = |key: SealedSigningKey| {
            let secret = self
                .master_key
                .open(&key.secret, &context(&key.id))
                .map_err(|_| StoreError::WrongMasterKey)?;
            Ok(SigningKeyRecord {
                id: key.id,
                secret: secret.into(),
                created_at: key.created_at,
                retired_at: key.retired_at,
            })
        };
        sealed.into_iter().map(open).collect()
    }
}

/// Returns the context in which a signing key is sealed.
pub(crate) fn context(id: &str) -> String {
    format!("signing_key::{id}")
}
