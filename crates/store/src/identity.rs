//! The identity of each app (how its end users prove who they are): one JSON text, which this crate doesn't parse.

use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use crate::actor::Actor;
use crate::audit::Target;
use crate::database::Store;
use crate::dialect::{execute, fetch_optional};
use crate::error::StoreError;
use crate::row::from_row;

const SELECT: &str = "SELECT app_id, config FROM identities WHERE app_id = $1";
const SET: &str = "INSERT INTO identities (app_id, config) VALUES ($1, $2) \
                   ON CONFLICT (app_id) DO UPDATE SET config = excluded.config";
const DELETE: &str = "DELETE FROM identities WHERE app_id = $1";
const UPDATED: &str = "UPDATE apps SET updated_at = $2 WHERE id = $1";

pub(crate) struct SealedIdentity {
    pub(crate) app_id: String,
    config: Vec<u8>,
}

from_row!(row => SealedIdentity { app_id, config });

impl Store {
    /// Sets or removes an app's identity. The audit log records that it changed, not its content.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::NotFound`] if there is no such app, or [`StoreError::Stale`] if its revision isn't the
    /// expected one.
    pub async fn set_identity(
        &self,
        app_id: &str,
        identity: Option<&SecretString>,
        expected_app_revision: Option<i64>,
        by: &Actor,
    ) -> Result<(), StoreError> {
        let mut transaction = self.begin(by).await?;
        transaction
            .check_revision(app_id, expected_app_revision)
            .await?;
        transaction.touch_app(app_id).await?;
        let found = fetch_optional!(SealedIdentity, &mut transaction.tx, SELECT, app_id)?;
        // An identity that doesn't open may be replaced.
        let before = found.map(|found| self.open_identity(&found).ok());
        let is_same = match (&before, identity) {
            (None, None) => true,
            (Some(Some(before)), Some(after)) => before.expose_secret() == after.expose_secret(),
            _ => false,
        };
        if is_same {
            return Ok(());
        }
        match identity {
            Some(identity) => {
                let sealed = self
                    .master_key
                    .seal(identity.expose_secret(), &context(app_id));
                execute!(&mut transaction.tx, SET, app_id, sealed)?
            }
            None => execute!(&mut transaction.tx, DELETE, app_id)?,
        };
        execute!(&mut transaction.tx, UPDATED, app_id, transaction.at)?;
        let details =
            json!({"identity": {"before": before.is_some(), "after": identity.is_some()}});
        transaction
            .record("identity.update", Target::app(app_id), &details)
            .await?;
        transaction.commit().await
    }

    /// Returns an app's identity, if it has one.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::WrongMasterKey`] if it doesn't open, or the database's error.
    pub async fn identity(&self, app_id: &str) -> Result<Option<SecretString>, StoreError> {
        let sealed: Option<SealedIdentity> = self.find(SELECT, app_id).await?;
        sealed.map(|sealed| self.open_identity(&sealed)).transpose()
    }

    pub(crate) fn open_identity(
        &self,
        sealed: &SealedIdentity,
    ) -> Result<SecretString, StoreError> {
        let config = self
            .master_key
            .open(&sealed.config, &context(&sealed.app_id))
            .map_err(|_| StoreError::WrongMasterKey)?;
        Ok(config.into())
    }
}

/// Returns the context in which an identity is sealed. It has two colons, a key's context has one, so they never
/// collide.
pub(crate) fn context(app_id: &str) -> String {
    format!("identity::{app_id}")
}
