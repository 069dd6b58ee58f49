//! What is newer than a revision: how a running node learns of changes that others made.

use std::collections::HashMap;

use crate::apps::AppRecord;
use crate::database::Store;
use crate::dialect::on_db;
use crate::error::StoreError;
use crate::keys::{KeyRecord, SealedKey};

/// First statement of every transaction that changes something. Its row lock makes revisions commit in their order.
pub(crate) const NEXT_REVISION: &str =
    "UPDATE installation SET revision = revision + 1 WHERE id = 1 RETURNING revision";
pub(crate) const TOUCH_APP: &str = "UPDATE apps SET revision = $2 WHERE id = $1";

const REVISION: &str = "SELECT revision FROM installation WHERE id = 1";
const CHANGED_APPS: &str = "SELECT id, name, settings, created_at FROM apps \
                            WHERE revision > $1 AND revision <= $2";
/// Read after the apps, and without an upper bound: an app that is changed once more in between would seem to have no key.
const CHANGED_KEYS: &str = "SELECT k.key, k.app_id, k.secret, k.created_at, k.revoked_at \
                            FROM keys k JOIN apps a ON a.id = k.app_id \
                            WHERE a.revision > $1 AND k.revoked_at IS NULL \
                            ORDER BY k.created_at, k.key";

/// Apps that are new or have changed, each with all its keys in force.
#[derive(Debug)]
pub struct Changes {
    /// Ask for what is newer than this next time.
    pub revision: i64,
    /// The apps.
    pub apps: Vec<(AppRecord, Vec<KeyRecord>)>,
}

impl Store {
    /// What is newer than `revision`; 0 asks for everything.
    ///
    /// # Errors
    ///
    /// The database failed.
    pub async fn changes_since(&self, revision: i64) -> Result<Changes, StoreError> {
        let newest: i64 =
            on_db!(&self.db, pool => sqlx::query_scalar(REVISION).fetch_one(pool).await)?;
        if newest == revision {
            return Ok(Changes {
                revision,
                apps: Vec::new(),
            });
        }
        let apps: Vec<AppRecord> = on_db!(&self.db, pool =>
            sqlx::query_as(CHANGED_APPS).bind(revision).bind(newest).fetch_all(pool).await)?;
        let keys: Vec<SealedKey> = on_db!(&self.db, pool =>
            sqlx::query_as(CHANGED_KEYS).bind(revision).fetch_all(pool).await)?;
        let mut by_app: HashMap<String, Vec<KeyRecord>> = HashMap::new();
        for key in keys {
            let (app, name) = (key.app_id.clone(), key.key.clone());
            match self.open(key) {
                Ok(key) => by_app.entry(app).or_default().push(key),
                Err(error) => {
                    tracing::error!(app, key = name, %error, "this key is left out: its secret does not open")
                }
            }
        }
        let with_keys = |app: AppRecord| {
            let keys = by_app.remove(&app.id).unwrap_or_default();
            (app, keys)
        };
        Ok(Changes {
            revision: newest,
            apps: apps.into_iter().map(with_keys).collect(),
        })
    }
}
