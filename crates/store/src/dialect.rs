//! The two databases. One SQL text serves both: `$1` placeholders, 64-bit milliseconds, no types of either alone.

use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::postgres::PgPoolOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{PgPool, SqlitePool};

use crate::error::StoreError;

static SQLITE: Migrator = sqlx::migrate!("../../migrations/sqlite");
static POSTGRES: Migrator = sqlx::migrate!("../../migrations/postgres");

/// How long a caller waits for a connection, or for SQLite's one writer.
const PATIENCE: Duration = Duration::from_secs(5);

/// A pool of one of the two databases.
#[derive(Debug, Clone)]
pub(crate) enum Db {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

/// Runs one body on whichever pool there is.
macro_rules! on_db {
    ($db:expr, $pool:ident => $body:expr) => {
        match $db {
            $crate::dialect::Db::Sqlite($pool) => $body,
            $crate::dialect::Db::Postgres($pool) => $body,
        }
    };
}
pub(crate) use on_db;

/// A transaction on one of the two databases.
#[derive(Debug)]
pub(crate) enum Tx {
    Sqlite(sqlx::Transaction<'static, sqlx::Sqlite>),
    Postgres(sqlx::Transaction<'static, sqlx::Postgres>),
}

/// Runs one body on whichever connection a transaction has.
macro_rules! on_tx {
    ($tx:expr, $connection:ident => $body:expr) => {
        match $tx {
            $crate::dialect::Tx::Sqlite(tx) => {
                let $connection = &mut **tx;
                $body
            }
            $crate::dialect::Tx::Postgres(tx) => {
                let $connection = &mut **tx;
                $body
            }
        }
    };
}
pub(crate) use on_tx;

/// Runs a statement within a transaction and says how many rows it changed.
macro_rules! execute {
    ($tx:expr, $sql:expr $(, $value:expr)* $(,)?) => {
        $crate::dialect::on_tx!($tx, connection => sqlx::query($sql)$(.bind($value))*
            .execute(connection).await.map(|done| done.rows_affected()))
    };
}
pub(crate) use execute;

/// The row that a statement finds within a transaction, if there is one.
macro_rules! fetch_optional {
    ($row:ty, $tx:expr, $sql:expr $(, $value:expr)* $(,)?) => {
        $crate::dialect::on_tx!($tx, connection => sqlx::query_as::<_, $row>($sql)$(.bind($value))*
            .fetch_optional(connection).await)
    };
}
pub(crate) use fetch_optional;

/// The rows that a statement finds within a transaction.
macro_rules! fetch_all {
    ($row:ty, $tx:expr, $sql:expr $(, $value:expr)* $(,)?) => {
        $crate::dialect::on_tx!($tx, connection => sqlx::query_as::<_, $row>($sql)$(.bind($value))*
            .fetch_all(connection).await)
    };
}
pub(crate) use fetch_all;

impl Tx {
    pub(crate) async fn commit(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(tx) => tx.commit().await,
            Self::Postgres(tx) => tx.commit().await,
        }
    }
}

impl Db {
    /// Begins a transaction that writes. SQLite's takes the place of the one writer at once: one that only reads at
    /// first could not become the writer after somebody else was.
    pub(crate) async fn begin(&self) -> Result<Tx, sqlx::Error> {
        Ok(match self {
            Self::Sqlite(pool) => Tx::Sqlite(pool.begin_with("BEGIN IMMEDIATE").await?),
            Self::Postgres(pool) => Tx::Postgres(pool.begin().await?),
        })
    }

    pub(crate) async fn connect(url: &str) -> Result<Self, StoreError> {
        match url.split_once(':').map(|(scheme, _)| scheme) {
            Some("sqlite") => Self::sqlite(SqliteConnectOptions::from_str(url)?).await,
            Some("postgres" | "postgresql") => Self::postgres(url).await,
            _ => Err(StoreError::Invalid(
                "a store URL starts with sqlite: or postgres:, for example sqlite:data/fanfare.db or \
                 postgres://user:password@host/database"
                    .into(),
            )),
        }
    }

    /// An SQLite file; unlike a URL, a path may hold any character.
    pub(crate) async fn open(file: &Path) -> Result<Self, StoreError> {
        Self::sqlite(SqliteConnectOptions::new().filename(file)).await
    }

    async fn sqlite(options: SqliteConnectOptions) -> Result<Self, StoreError> {
        let options = options
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(PATIENCE);
        let pool = SqlitePoolOptions::new()
            .max_connections(4)
            .acquire_timeout(PATIENCE)
            .connect_with(options)
            .await?;
        SQLITE.run(&pool).await?;
        Ok(Self::Sqlite(pool))
    }

    async fn postgres(url: &str) -> Result<Self, StoreError> {
        let pool = PgPoolOptions::new()
            // One of them listens for changes.
            .max_connections(9)
            .acquire_timeout(PATIENCE)
            .connect(url)
            .await?;
        POSTGRES.run(&pool).await?;
        Ok(Self::Postgres(pool))
    }
}
