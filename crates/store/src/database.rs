//! Connect, bring the tables up to date, unlock.

use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::dialect::{Db, Pool, on_db};
use crate::error::StoreError;
use crate::seal::MasterKey;

const MASTER_KEY_CHECK: &str = "SELECT master_key_check FROM installation WHERE id = 1";
const SET_MASTER_KEY_CHECK: &str =
    "UPDATE installation SET master_key_check = $1 WHERE id = 1 AND master_key_check IS NULL";
const SET_MASTER_KEY_ID: &str =
    "UPDATE installation SET master_key_id = $1 WHERE id = 1 AND master_key_id IS NULL";

/// What the check row holds, sealed.
pub(crate) const CHECK_TEXT: &str = "fanfare";

/// A database whose tables are up to date and whose secrets are still sealed.
#[derive(Debug)]
pub struct Database {
    db: Db,
}

/// What an installation knows and has to keep. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) db: Db,
    pub(crate) master_key: Arc<MasterKey>,
}

impl Database {
    /// Opens an SQLite file, made if it is not there, and migrates. One process at a time may do so.
    ///
    /// # Errors
    ///
    /// The file cannot be opened or migrated.
    pub async fn open(file: &Path) -> Result<Self, StoreError> {
        Ok(Self {
            db: Db::open(file, true).await?,
        })
    }

    /// Opens an SQLite file that is there already, and migrates.
    ///
    /// # Errors
    ///
    /// [`StoreError::Missing`] if the file is not there or holds no installation; or it cannot be opened or migrated.
    pub async fn open_existing(file: &Path) -> Result<Self, StoreError> {
        Ok(Self {
            db: Db::open(file, false).await?,
        })
    }

    /// Connects and migrates. Several nodes may do so at once on Postgres, one process at a time on SQLite.
    ///
    /// # Errors
    ///
    /// The URL is of no database we know, or the database cannot be reached or migrated.
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        Ok(Self {
            db: Db::connect(url, true).await?,
        })
    }

    /// Connects to a database that holds an installation already, and migrates.
    ///
    /// # Errors
    ///
    /// [`StoreError::Missing`] if there is no installation; else as [`Self::connect`].
    pub async fn connect_existing(url: &str) -> Result<Self, StoreError> {
        Ok(Self {
            db: Db::connect(url, false).await?,
        })
    }

    /// Has Postgres announce changes over another URL, where the one of the store leads through a connection pooler in
    /// transaction mode. Without effect on SQLite.
    ///
    /// # Errors
    ///
    /// The URL is of no Postgres, cannot be reached, or leads through such a pooler as well.
    pub async fn listen_on(&mut self, url: &str) -> Result<(), StoreError> {
        match &mut self.db.pool {
            Pool::Sqlite(_) => Ok(()),
            Pool::Postgres(postgres) => postgres.listen_on(url).await,
        }
    }

    /// Whether secrets were sealed here already, so that only one master key will do.
    ///
    /// # Errors
    ///
    /// The database failed.
    pub async fn is_sealed(&self) -> Result<bool, StoreError> {
        Ok(self.check().await?.is_some())
    }

    /// Takes the master key. The first key ever given becomes the installation's.
    ///
    /// # Errors
    ///
    /// [`StoreError::WrongMasterKey`]; nothing was changed.
    pub async fn unlock(&self, master_key: MasterKey) -> Result<Store, StoreError> {
        let sealed = master_key.seal(CHECK_TEXT, CHECK_TEXT);
        on_db!(&self.db, pool => sqlx::query(SET_MASTER_KEY_CHECK).bind(sealed).execute(pool).await.map(|_| ()))?;
        // Read back: another node may have been first.
        let check = self.check().await?.ok_or(StoreError::WrongMasterKey)?;
        master_key
            .open(&check, CHECK_TEXT)
            .map_err(|_| StoreError::WrongMasterKey)?;
        let id = master_key.id();
        on_db!(&self.db, pool => sqlx::query(SET_MASTER_KEY_ID).bind(id).execute(pool).await.map(|_| ()))?;
        Ok(Store {
            db: self.db.clone(),
            master_key: Arc::new(master_key),
        })
    }

    async fn check(&self) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(on_db!(&self.db, pool => sqlx::query_scalar(MASTER_KEY_CHECK).fetch_one(pool).await)?)
    }
}

/// An id nobody can guess, which says what it is of: 20 hex digits after `prefix`.
pub(crate) fn issue_id(prefix: &str) -> String {
    format!("{prefix}_{}", hex::encode(rand::random::<[u8; 10]>()))
}

/// Unix time in milliseconds.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
