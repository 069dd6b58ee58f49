//! The two databases behind one interface. One SQL text serves both: `$1` placeholders, 64-bit milliseconds, no types
//! that only one of them has.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection, SqlitePool};
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::timeout;

use crate::error::{StoreError, is_disk_full};
use crate::migrations;
use crate::postgres::{self, Postgres, PostgresTx};

/// Whether the table exists that every installation has.
pub(crate) const IS_BEGUN: &str =
    "SELECT COUNT(*) > 0 FROM sqlite_schema WHERE type = 'table' AND name = 'installation'";

const UNKNOWN_URL: &str = "a store URL starts with sqlite: or postgres:, for example sqlite:data/fanfare.db or \
     postgres://user:password@host/database";

/// How long a statement waits for other users of a table. Meanwhile those who come later wait for it.
const LIMIT_LOCK_WAITS: &str = "SET LOCAL lock_timeout = '2s'";

/// How long a caller waits for a connection, or for SQLite's only writer.
pub(crate) const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// A pool of one of the two databases.
#[derive(Debug, Clone)]
pub(crate) enum Pool {
    Sqlite(SqlitePool),
    Postgres(Postgres),
}

/// A pool, and whether its disk was full at the last write.
#[derive(Debug, Clone)]
pub(crate) struct Db {
    pub(crate) pool: Pool,
    disk_full: Arc<AtomicBool>,
    /// The turn to write to SQLite.
    writer: Arc<Mutex<()>>,
}

/// Runs one body on the pool of either database, in a span of traces.
macro_rules! on_db {
    ($db:expr, $pool:ident => $body:expr) => {
        match &($db).pool {
            $crate::dialect::Pool::Sqlite($pool) => {
                $crate::dialect::traced!("store query", "sqlite", $body)
            }
            $crate::dialect::Pool::Postgres($pool) => {
                $crate::dialect::traced!("store query", "postgresql", $body)
            }
        }
    };
}
pub(crate) use on_db;

/// Runs a body in a span of traces, if the caller's request is traced. The span has no values and no texts of statements.
macro_rules! traced {
    ($name:literal, $system:literal, $body:expr) => {{
        let span = if tracing::Span::current().is_none() {
            tracing::Span::none()
        } else {
            tracing::info_span!(
                target: "exported_spans",
                $name,
                otel.kind = "client",
                db.system.name = $system,
                code.module.name = module_path!(),
            )
        };
        tracing::Instrument::instrument(async { $body }, span).await
    }};
}
pub(crate) use traced;

/// A transaction on one of the two databases.
#[derive(Debug)]
pub(crate) struct Tx {
    pub(crate) kind: TxKind,
    disk_full: Arc<AtomicBool>,
    /// Dropped last, when the transaction is at its end.
    _turn: Turn,
}

/// The turn to write. SQLite has one writer at a time, and those who wait for it only look now and then whether it is free:
/// who writes much would keep all others waiting until they give up. So they queue here.
pub(crate) type Turn = Option<OwnedMutexGuard<()>>;

#[derive(Debug)]
pub(crate) enum TxKind {
    Sqlite(sqlx::Transaction<'static, sqlx::Sqlite>),
    Postgres(PostgresTx),
}

/// Runs one body on the connection of a transaction, and notes whether the disk was full.
macro_rules! on_tx {
    ($tx:expr, $connection:ident => $body:expr) => {{
        let tx: &mut $crate::dialect::Tx = $tx;
        let done = match &mut tx.kind {
            $crate::dialect::TxKind::Sqlite(tx) => {
                let $connection = &mut **tx;
                $crate::dialect::traced!("store statement", "sqlite", $body)
            }
            $crate::dialect::TxKind::Postgres(tx) => {
                let $connection = tx.statements();
                $crate::dialect::traced!("store statement", "postgresql", $body)
            }
        };
        done.inspect_err(|error| tx.note(error))
    }};
}
pub(crate) use on_tx;

/// Runs a statement in a transaction and returns how many rows it changed.
macro_rules! execute {
    ($tx:expr, $sql:expr $(, $value:expr)* $(,)?) => {
        $crate::dialect::on_tx!($tx, connection => sqlx::query($sql)$(.bind($value))*
            .execute(connection).await.map(|done| done.rows_affected()))
    };
}
pub(crate) use execute;

/// Runs a statement that writes, in a transaction of its own, and returns how many rows it changed.
macro_rules! execute_alone {
    ($db:expr, $sql:expr $(, $value:expr)* $(,)?) => {
        match ($db).turn().await {
            Ok(_turn) => $crate::dialect::on_db!($db, pool => sqlx::query($sql)$(.bind($value))*
                .execute(pool).await.map(|done| done.rows_affected())),
            Err(error) => Err(error),
        }
    };
}
pub(crate) use execute_alone;

/// Returns the row that a statement finds in a transaction, if there is one.
macro_rules! fetch_optional {
    ($row:ty, $tx:expr, $sql:expr $(, $value:expr)* $(,)?) => {
        $crate::dialect::on_tx!($tx, connection => sqlx::query_as::<_, $row>($sql)$(.bind($value))*
            .fetch_optional(connection).await)
    };
}
pub(crate) use fetch_optional;

/// Returns the rows that a statement finds in a transaction.
macro_rules! fetch_all {
    ($row:ty, $tx:expr, $sql:expr $(, $value:expr)* $(,)?) => {
        $crate::dialect::on_tx!($tx, connection => sqlx::query_as::<_, $row>($sql)$(.bind($value))*
            .fetch_all(connection).await)
    };
}
pub(crate) use fetch_all;

/// Returns the placeholders of so many rows, each of so many values, from `$first` on: `($1, $2), ($3, $4)`.
pub(crate) fn value_rows(rows: usize, width: usize, first: usize) -> String {
    let mut text = String::with_capacity(rows * width * "$1234, ".len());
    for row in 0..rows {
        text.push_str(if row == 0 { "(" } else { ", (" });
        for column in 0..width {
            let separator = if column == 0 { "$" } else { ", $" };
            text.push_str(separator);
            text.push_str(&(first + row * width + column).to_string());
        }
        text.push(')');
    }
    text
}

/// Returns a statement for SQLite without the numbers of its placeholders, which must be in order and each used once.
/// SQLite compares each numbered placeholder with all before it, which would take most of the time of a statement with
/// thousands.
fn without_numbers(sql: &str) -> String {
    let mut text = String::with_capacity(sql.len());
    let mut count = 0;
    for (index, piece) in sql.split('$').enumerate() {
        if index == 0 {
            text.push_str(piece);
            continue;
        }
        count += 1;
        let rest = piece.trim_start_matches(|c: char| c.is_ascii_digit());
        debug_assert_eq!(
            piece[..piece.len() - rest.len()].parse(),
            Ok(count),
            "{sql}"
        );
        text.push('?');
        text.push_str(rest);
    }
    text
}

impl Tx {
    /// Returns the text of a statement with many placeholders, which must be in order and each used once.
    pub(crate) fn in_order(&self, sql: String) -> String {
        match self.kind {
            TxKind::Sqlite(_) => without_numbers(&sql),
            TxKind::Postgres(_) => sql,
        }
    }

    /// Commits. After an error nothing was changed, except perhaps after [`StoreError::Uncertain`].
    pub(crate) async fn commit(self) -> Result<(), StoreError> {
        let committed = match self.kind {
            TxKind::Sqlite(tx) => {
                let committed = traced!("store commit", "sqlite", tx.commit().await);
                committed.map_err(StoreError::from)
            }
            TxKind::Postgres(tx) => traced!("store commit", "postgresql", tx.commit().await),
        };
        match &committed {
            Ok(()) => self.disk_full.store(false, Ordering::Relaxed),
            Err(StoreError::DiskFull) => self.disk_full.store(true, Ordering::Relaxed),
            Err(_) => {}
        }
        committed
    }

    pub(crate) fn is_postgres(&self) -> bool {
        matches!(self.kind, TxKind::Postgres(_))
    }

    /// Limits how long the transaction's statements wait for locks on tables. After that they fail with
    /// [`StoreError::Late`]. SQLite has no such locks.
    pub(crate) async fn limit_lock_waits(&mut self) -> Result<(), StoreError> {
        if self.is_postgres() {
            execute!(self, LIMIT_LOCK_WAITS)?;
        }
        Ok(())
    }

    /// Notes whether a statement failed because the disk is full.
    pub(crate) fn note(&self, error: &sqlx::Error) {
        if is_disk_full(error) {
            self.disk_full.store(true, Ordering::Relaxed);
        }
    }
}

impl Db {
    fn new(pool: Pool) -> Self {
        Self {
            pool,
            disk_full: Arc::default(),
            writer: Arc::default(),
        }
    }

    /// Returns the file of an SQLite store.
    pub(crate) fn file(&self) -> Option<PathBuf> {
        match &self.pool {
            Pool::Sqlite(pool) => Some(pool.connect_options().get_filename().to_path_buf()),
            Pool::Postgres(_) => None,
        }
    }

    /// Returns whether the last transaction that wrote found the disk full.
    pub(crate) fn is_disk_full(&self) -> bool {
        self.disk_full.load(Ordering::Relaxed)
    }

    /// Waits for the turn to write. On Postgres it is always there.
    pub(crate) async fn turn(&self) -> Result<Turn, sqlx::Error> {
        match &self.pool {
            Pool::Sqlite(_) => {
                let turn = timeout(ACQUIRE_TIMEOUT, Arc::clone(&self.writer).lock_owned()).await;
                let turn = turn.map_err(|_| sqlx::Error::PoolTimedOut)?;
                Ok(Some(turn))
            }
            Pool::Postgres(_) => Ok(None),
        }
    }

    /// Begins a transaction that writes. SQLite's takes the write lock at once: one that only reads at first could not
    /// become the writer after another transaction was.
    pub(crate) async fn begin(&self) -> Result<Tx, StoreError> {
        // Before a connection is taken, so that whoever waits leaves the connections to those who read.
        let turn = self.turn().await?;
        let begun = match &self.pool {
            Pool::Sqlite(pool) => {
                let begun = traced!(
                    "store begin",
                    "sqlite",
                    pool.begin_with("BEGIN IMMEDIATE").await
                );
                begun.map(TxKind::Sqlite)
            }
            Pool::Postgres(postgres) => {
                let begun = traced!("store begin", "postgresql", postgres.begin().await);
                begun.map(TxKind::Postgres)
            }
        };
        let kind = begun.inspect_err(|error| {
            if is_disk_full(error) {
                self.disk_full.store(true, Ordering::Relaxed);
            }
        })?;
        Ok(Tx {
            kind,
            disk_full: Arc::clone(&self.disk_full),
            _turn: turn,
        })
    }

    /// Connects. With `create`, begins an installation if there is none.
    pub(crate) async fn connect(url: &str, create: bool) -> Result<Self, StoreError> {
        match url.split_once(':').map(|(scheme, _)| scheme) {
            Some("sqlite") => Self::sqlite(SqliteConnectOptions::from_str(url)?, create).await,
            Some("postgres" | "postgresql") => {
                let postgres = Postgres::connect(url, create).await?;
                Ok(Self::new(Pool::Postgres(postgres)))
            }
            _ => Err(StoreError::Invalid(UNKNOWN_URL.into())),
        }
    }

    /// Opens an SQLite file. Unlike in a URL, its path may hold any character.
    pub(crate) async fn open(file: &Path, create: bool) -> Result<Self, StoreError> {
        Self::sqlite(SqliteConnectOptions::new().filename(file), create).await
    }

    async fn sqlite(options: SqliteConnectOptions, create: bool) -> Result<Self, StoreError> {
        if !create && !options.get_filename().exists() {
            return Err(StoreError::Missing);
        }
        let options = options
            .create_if_missing(create)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(ACQUIRE_TIMEOUT);
        let pool = SqlitePoolOptions::new()
            .max_connections(4)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .after_release(|connection, _| {
                Box::pin(async move {
                    // A full disk makes SQLite roll back by itself. The ROLLBACK that sqlx then sends fails, and the
                    // connection would refuse every later transaction. The ping comes after that ROLLBACK.
                    connection.ping().await?;
                    Ok(!connection.is_in_transaction())
                })
            })
            .connect_with(options)
            .await?;
        if !create && !sqlx::query_scalar(IS_BEGUN).fetch_one(&pool).await? {
            return Err(StoreError::Missing);
        }
        migrations::sqlite().run(&pool).await?;
        Ok(Self::new(Pool::Sqlite(pool)))
    }
}

/// Checks a URL before anything is opened.
///
/// # Errors
///
/// Returns [`StoreError::Invalid`] with what is wrong.
pub fn check_url(url: &str) -> Result<(), StoreError> {
    let invalid = |error: sqlx::Error| StoreError::Invalid(error.to_string());
    match url.split_once(':').map(|(scheme, _)| scheme) {
        Some("sqlite") => {
            let query = url.split_once('?').map_or("", |(_, query)| query);
            let has = |pair: &str| query.split('&').any(|given| given == pair);
            if url.contains(":memory:") || has("mode=memory") {
                return Err(StoreError::Invalid(
                    "SQLite in memory is another store for every connection and every command; give it a file, for example \
                     sqlite:data/fanfare.db"
                        .into(),
                ));
            }
            if has("mode=ro") || has("immutable=true") || has("immutable=1") {
                return Err(StoreError::Invalid(
                    "a store that is read only takes no change; leave out mode and immutable"
                        .into(),
                ));
            }
            SqliteConnectOptions::from_str(url)
                .map(drop)
                .map_err(invalid)
        }
        Some("postgres" | "postgresql") => postgres::check_url(url).map_err(invalid),
        _ => Err(StoreError::Invalid(UNKNOWN_URL.into())),
    }
}

/// Returns the file that an SQLite URL names, or `None` for another database.
#[must_use]
pub fn sqlite_file(url: &str) -> Option<PathBuf> {
    let options = url
        .starts_with("sqlite:")
        .then(|| SqliteConnectOptions::from_str(url));
    Some(options?.ok()?.get_filename().to_path_buf())
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    reason = "a test stops where something is missing"
)]
mod tests {
    use sqlx::pool::PoolConnection;
    use sqlx::{Executor, Sqlite};

    use super::*;
    use crate::{Actor, AuditFilter, Database, MasterKey, Store};

    #[test]
    fn placeholders_are_numbered_row_by_row() {
        assert_eq!(value_rows(2, 3, 2), "($2, $3, $4), ($5, $6, $7)");
        assert_eq!(value_rows(1, 1, 1), "($1)");
        let sql = format!("INSERT INTO t VALUES {} RETURNING 1", value_rows(1, 11, 1));
        let expected = "INSERT INTO t VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING 1";
        assert_eq!(without_numbers(&sql), expected);
    }

    /// Returns all connections that the pool may have.
    async fn all_connections(pool: &SqlitePool) -> Vec<PoolConnection<Sqlite>> {
        let mut all = Vec::new();
        for _ in 0..pool.options().get_max_connections() {
            all.push(pool.acquire().await.unwrap());
        }
        all
    }

    /// Creates a store whose connections find no room for another page, as on a full disk.
    async fn full_store(file: &Path) -> (Store, SqlitePool) {
        let store = Database::open(file).await.unwrap();
        let store = store.unlock(MasterKey::random()).await.unwrap();
        let Pool::Sqlite(pool) = store.db.pool.clone() else {
            unreachable!("an SQLite file was opened")
        };
        for connection in &mut all_connections(&pool).await {
            let limit = connection.execute("PRAGMA max_page_count = 1").await;
            limit.unwrap();
        }
        (store, pool)
    }

    /// Writes an entry of the audit log that needs more pages than there are.
    async fn write(store: &Store) -> Result<(), StoreError> {
        let by = Actor::system();
        let mut transaction = store.begin(&by).await?;
        let details = serde_json::json!({"text": "x".repeat(20_000)});
        let target = crate::audit::Target::of("app", "x");
        transaction.record("app.update", target, &details).await?;
        transaction.commit().await
    }

    #[tokio::test]
    async fn a_connection_that_met_a_full_disk_in_a_transaction_serves_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let (store, pool) = full_store(&folder.path().join("x.db")).await;
        let full = pool.options().get_max_connections();
        let mut refused = 0;
        // A connection that replaces a closed one has no such limit, so each fails at most once.
        for _ in 0..full {
            match write(&store).await {
                Err(StoreError::DiskFull) => {
                    refused += 1;
                    assert!(store.is_disk_full());
                }
                Ok(()) => assert!(!store.is_disk_full()),
                Err(error) => panic!("{error}"),
            }
        }
        assert!(refused > 0, "the disk was never full");
        for mut connection in all_connections(&pool).await {
            connection
                .execute("PRAGMA max_page_count = 1073741823")
                .await
                .unwrap();
            assert!(!connection.is_in_transaction());
        }
        for _ in 0..3 * full {
            write(&store).await.expect("there is room again");
        }
        assert!(!store.is_disk_full());
        let written = store
            .audit(&AuditFilter::default(), 100)
            .await
            .unwrap()
            .len();
        assert_eq!(written, usize::try_from(4 * full - refused).unwrap());
    }

    #[tokio::test]
    async fn it_is_found_out_that_there_is_room_again_without_a_change() {
        let folder = tempfile::tempdir().unwrap();
        let (store, pool) = full_store(&folder.path().join("x.db")).await;
        assert!(matches!(write(&store).await, Err(StoreError::DiskFull)));
        assert!(store.is_disk_full());
        for connection in &mut all_connections(&pool).await {
            let limit = connection
                .execute("PRAGMA max_page_count = 1073741823")
                .await;
            limit.unwrap();
        }
        store.try_to_write().await.unwrap();
        assert!(!store.is_disk_full());
    }
}
