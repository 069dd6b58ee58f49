//! Connects, brings the tables up to date and unlocks.

use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use sqlx::FromRow;
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;

use crate::dialect::{Db, Pool, execute_alone, on_db};
use crate::error::StoreError;
use crate::postgres;
use crate::seal::MasterKey;
use crate::webhooks::known_day::KnownDay;

pub(crate) const MASTER_KEY_CHECK: &str = "SELECT master_key_check FROM installation WHERE id = 1";
const SET_MASTER_KEY_CHECK: &str =
    "UPDATE installation SET master_key_check = $1 WHERE id = 1 AND master_key_check IS NULL";
const SET_MASTER_KEY_ID: &str =
    "UPDATE installation SET master_key_id = $1 WHERE id = 1 AND master_key_id IS NULL";

const INSTALLATION_UID: &str = "SELECT uid FROM installation WHERE id = 1";

/// Text that is sealed in the check column, to recognise the master key.
pub(crate) const CHECK_TEXT: &str = "fanfare";

/// A database whose tables are up to date and whose secrets are still sealed.
#[derive(Debug)]
pub struct Database {
    db: Db,
}

/// The unlocked store of an installation. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) db: Db,
    pub(crate) master_key: Arc<MasterKey>,
    pub(crate) webhook_day: KnownDay,
}

impl Database {
    /// Opens an SQLite file, which is created if it doesn't exist, and migrates it. One process at a time may do so.
    ///
    /// # Errors
    ///
    /// Returns an error if the file can't be opened or migrated.
    pub async fn open(file: &Path) -> Result<Self, StoreError> {
        Ok(Self {
            db: Db::open(file, true).await?,
        })
    }

    /// Opens an existing SQLite file and migrates it.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::Missing`] if the file doesn't exist or holds no installation, or an error if it can't be
    /// opened or migrated.
    pub async fn open_existing(file: &Path) -> Result<Self, StoreError> {
        Ok(Self {
            db: Db::open(file, false).await?,
        })
    }

    /// Connects and migrates. Several nodes may do so at once on Postgres, one process at a time on SQLite.
    ///
    /// # Errors
    ///
    /// Returns an error if the URL isn't of SQLite or Postgres, or the database can't be reached or migrated.
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        Ok(Self {
            db: Db::connect(url, true).await?,
        })
    }

    /// Connects to a database with an existing installation and migrates it.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::Missing`] if there is no installation, and otherwise the errors of [`Self::connect`].
    pub async fn connect_existing(url: &str) -> Result<Self, StoreError> {
        Ok(Self {
            db: Db::connect(url, false).await?,
        })
    }

    /// Receives Postgres' notifications of changes over another URL, if the store's URL leads through a connection
    /// pooler in transaction mode. Has no effect on SQLite.
    ///
    /// # Errors
    ///
    /// Returns an error if the URL isn't of Postgres, can't be reached, or leads through such a pooler too.
    pub async fn listen_on(&mut self, url: &str) -> Result<(), StoreError> {
        match &mut self.db.pool {
            Pool::Sqlite(_) => Ok(()),
            Pool::Postgres(postgres) => postgres.listen_on(url).await,
        }
    }

    /// Returns whether secrets are sealed in the database, so that only one master key opens it.
    ///
    /// # Errors
    ///
    /// Returns the database's error.
    pub async fn is_sealed(&self) -> Result<bool, StoreError> {
        Ok(self.check().await?.is_some())
    }

    /// Unlocks the store with the master key. The first key ever given becomes the installation's.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::WrongMasterKey`] if it isn't the installation's key; nothing was changed then.
    pub async fn unlock(&self, master_key: MasterKey) -> Result<Store, StoreError> {
        let sealed = master_key.seal(CHECK_TEXT, CHECK_TEXT);
        execute_alone!(&self.db, SET_MASTER_KEY_CHECK, sealed)?;
        // Read back, because another node may have set its key first.
        let check = self.check().await?.ok_or(StoreError::WrongMasterKey)?;
        master_key
            .open(&check, CHECK_TEXT)
            .map_err(|_| StoreError::WrongMasterKey)?;
        let id = master_key.id();
        execute_alone!(&self.db, SET_MASTER_KEY_ID, id)?;
        Ok(Store {
            db: self.db.clone(),
            master_key: Arc::new(master_key),
            webhook_day: KnownDay::default(),
        })
    }

    async fn check(&self) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(on_db!(&self.db, pool => sqlx::query_scalar(MASTER_KEY_CHECK).fetch_one(pool).await)?)
    }
}

/// A struct that rows of both databases are read into.
pub(crate) trait AnyRow:
    for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin
{
}

impl<T> AnyRow for T where
    T: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin
{
}

impl Store {
    /// Returns the row that `select` finds by an id.
    pub(crate) async fn find<T: AnyRow>(
        &self,
        select: &'static str,
        id: &str,
    ) -> Result<Option<T>, StoreError> {
        Ok(on_db!(&self.db, pool => sqlx::query_as(select).bind(id).fetch_optional(pool).await)?)
    }

    /// Returns what tells this installation from others: random, made with the tables, and the same for all who use them.
    ///
    /// # Errors
    ///
    /// Returns an error if the database doesn't answer.
    pub async fn installation_uid(&self) -> Result<String, StoreError> {
        Ok(on_db!(&self.db, pool => sqlx::query_scalar(INSTALLATION_UID).fetch_one(pool).await)?)
    }

    /// Returns the database's time, which is the same for all nodes, as Unix time in milliseconds.
    pub(crate) async fn clock(&self) -> Result<i64, StoreError> {
        match &self.db.pool {
            Pool::Sqlite(_) => Ok(now()),
            Pool::Postgres(pool) => Ok(sqlx::query_scalar(postgres::CLOCK).fetch_one(pool).await?),
        }
    }

    /// Returns at most `limit` rows, oldest first: those after the one with this `created_at` and id.
    pub(crate) async fn page<T: AnyRow>(
        &self,
        select: &'static str,
        after: Option<(i64, String)>,
        limit: i64,
    ) -> Result<Vec<T>, StoreError> {
        let (created_at, id) = after.unwrap_or((i64::MIN, String::new()));
        let rows = on_db!(&self.db, pool => sqlx::query_as(select).bind(created_at).bind(id).bind(limit)
            .fetch_all(pool).await);
        Ok(rows?)
    }
}

/// Returns an id that can't be guessed: `prefix`, which names its kind, and 20 hex digits.
pub(crate) fn issue_id(prefix: &str) -> String {
    format!("{prefix}_{}", hex::encode(rand::random::<[u8; 10]>()))
}

/// Returns the Unix time in milliseconds.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
