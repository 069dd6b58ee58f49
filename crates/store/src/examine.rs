//! Looks at a database without changing it, as an operator would who asks whether a server can work with it.

use std::path::Path;
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::postgres::PgConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection, Row};
use tokio::time::{Instant, timeout};

use crate::database::{CHECK_TEXT, MASTER_KEY_CHECK, now};
use crate::error::StoreError;
use crate::seal::MasterKey;
use crate::{dialect, migrations, postgres};

/// How long the whole examination may take.
const EXAMINE_TIMEOUT: Duration = Duration::from_secs(15);
/// Number of round trips of which the median counts.
const ROUND_TRIPS: usize = 5;

const APPLIED: &str = "SELECT version FROM _sqlx_migrations ORDER BY version";
const POSTGRES_STATE: &str = "SELECT current_setting('server_version'), \
     current_setting('max_connections')::bigint \
       - current_setting('superuser_reserved_connections')::bigint, \
     (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'), \
     pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on'";

/// What was found out about a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examination {
    /// Name and version of its software, for example `PostgreSQL 15.5`.
    pub software: String,
    /// Whether there is an installation in it.
    pub has_installation: bool,
    /// Number of migrations that a server of this version would run.
    pub missing_migrations: usize,
    /// Number of migrations of a newer version, which this version refuses.
    pub newer_migrations: usize,
    /// A known text, sealed with the installation's master key, if there is one.
    pub master_key_check: Option<Vec<u8>>,
    /// What SQLite's check of the file found, if not `ok`.
    pub damage: Option<String>,
    /// What only a database behind a network has.
    pub server: Option<ServerExamination>,
}

/// What was found out about a Postgres server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerExamination {
    /// Median time of a statement.
    pub round_trip: Duration,
    /// Milliseconds by which its clock is ahead of this machine's.
    pub clock_ahead: i64,
    /// Connections of clients that it allows.
    pub max_connections: i64,
    /// Connections of clients that it has, this one included.
    pub connections: i64,
    /// Whether it refuses changes, as a replica does.
    pub is_read_only: bool,
    /// Whether a connection pooler in transaction mode is in front of it.
    pub is_pooled: bool,
}

impl Examination {
    /// Returns whether only one master key opens the secrets in the database.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        self.master_key_check.is_some()
    }

    /// Returns whether this is the installation's master key.
    #[must_use]
    pub fn is_sealed_with(&self, master_key: &MasterKey) -> bool {
        let check = self.master_key_check.as_ref();
        check.is_some_and(|check| master_key.open(check, CHECK_TEXT).is_ok())
    }

    /// Examines the database at a URL, which begins with `sqlite:` or `postgres:`.
    ///
    /// # Errors
    ///
    /// Returns an error if the URL is of another kind, or the database doesn't answer within 15 seconds.
    pub async fn of_url(url: &str) -> Result<Self, StoreError> {
        match dialect::sqlite_file(url) {
            Some(file) => Self::of_file(&file).await,
            None => within_timeout(examine_postgres(url)).await,
        }
    }

    /// Examines an SQLite file.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::Missing`] if there is no such file, and otherwise the database's error.
    pub async fn of_file(file: &Path) -> Result<Self, StoreError> {
        if !file.exists() {
            return Err(StoreError::Missing);
        }
        within_timeout(examine_sqlite(file)).await
    }
}

async fn within_timeout<T>(
    examine: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let done = timeout(EXAMINE_TIMEOUT, examine).await;
    done.unwrap_or_else(|_| Err(sqlx::Error::PoolTimedOut.into()))
}

async fn examine_sqlite(file: &Path) -> Result<Examination, StoreError> {
    let mut connection = SqliteConnectOptions::new()
        .filename(file)
        .read_only(true)
        .connect()
        .await?;
    let version: String = sqlx::query_scalar("SELECT sqlite_version()")
        .fetch_one(&mut connection)
        .await?;
    let damage: String = sqlx::query_scalar("PRAGMA quick_check(1)")
        .fetch_one(&mut connection)
        .await?;
    let begun: bool = sqlx::query_scalar(dialect::IS_BEGUN)
        .fetch_one(&mut connection)
        .await?;
    let applied = match begun {
        true => applied_of_sqlite(&mut connection).await?,
        false => Vec::new(),
    };
    let (missing, newer) = compare(&migrations::sqlite(), &applied);
    let master_key_check = match begun {
        true => sqlx::query_scalar(MASTER_KEY_CHECK)
            .fetch_optional(&mut connection)
            .await?
            .flatten(),
        false => None,
    };
    connection.close().await?;
    Ok(Examination {
        software: format!("SQLite {version}"),
        has_installation: begun,
        missing_migrations: missing,
        newer_migrations: newer,
        master_key_check,
        damage: (damage != "ok").then_some(damage),
        server: None,
    })
}

async fn applied_of_sqlite(connection: &mut SqliteConnection) -> Result<Vec<i64>, StoreError> {
    Ok(sqlx::query_scalar(APPLIED).fetch_all(connection).await?)
}

async fn examine_postgres(url: &str) -> Result<Examination, StoreError> {
    let options = postgres::options(url)?;
    let is_pooled = postgres::detect_pooling(&options).await? == postgres::Pooling::Transaction;
    let mut connection = options.connect().await?;
    // Each statement is sent as text in one message, which every pooler passes on.
    let state = sqlx::raw_sql(POSTGRES_STATE)
        .fetch_one(&mut connection)
        .await?;
    let begun = sqlx::raw_sql(postgres::IS_BEGUN)
        .fetch_one(&mut connection)
        .await?
        .try_get(0)?;
    let applied = match begun {
        true => applied_of_postgres(&mut connection).await?,
        false => Vec::new(),
    };
    let (missing, newer) = compare(&migrations::postgres(), &applied);
    let master_key_check = match begun {
        true => check_of_postgres(&mut connection).await?,
        false => None,
    };
    let (round_trip, clock_ahead) = clock(&mut connection).await?;
    connection.close().await?;
    Ok(Examination {
        software: format!("PostgreSQL {}", state.try_get::<String, _>(0)?),
        has_installation: begun,
        missing_migrations: missing,
        newer_migrations: newer,
        master_key_check,
        damage: None,
        server: Some(ServerExamination {
            round_trip,
            clock_ahead,
            max_connections: state.try_get(1)?,
            connections: state.try_get(2)?,
            is_read_only: state.try_get(3)?,
            is_pooled,
        }),
    })
}

async fn applied_of_postgres(connection: &mut PgConnection) -> Result<Vec<i64>, StoreError> {
    let rows = sqlx::raw_sql(APPLIED).fetch_all(connection).await?;
    let versions: Result<Vec<i64>, _> = rows.iter().map(|row| row.try_get(0)).collect();
    Ok(versions?)
}

async fn check_of_postgres(connection: &mut PgConnection) -> Result<Option<Vec<u8>>, StoreError> {
    let row = sqlx::raw_sql(MASTER_KEY_CHECK)
        .fetch_optional(connection)
        .await?;
    match row {
        Some(row) => Ok(row.try_get(0)?),
        None => Ok(None),
    }
}

/// Returns the median round trip, and how far the server's clock is ahead, from the quickest one.
async fn clock(connection: &mut PgConnection) -> Result<(Duration, i64), StoreError> {
    let mut trips = Vec::new();
    for _ in 0..ROUND_TRIPS {
        let (sent, sent_at) = (Instant::now(), now());
        let there: i64 = sqlx::raw_sql(postgres::CLOCK)
            .fetch_one(&mut *connection)
            .await?
            .try_get(0)?;
        // The server read its clock about halfway.
        trips.push((sent.elapsed(), there - (sent_at + now()) / 2));
    }
    trips.sort_unstable();
    Ok((trips[ROUND_TRIPS / 2].0, trips[0].1))
}

/// Returns how many migrations of this version are missing, and how many of a newer one there are.
fn compare(known: &Migrator, applied: &[i64]) -> (usize, usize) {
    let is_known = |version: &&i64| known.iter().any(|migration| migration.version == **version);
    let found = applied.iter().filter(is_known).count();
    (known.iter().count() - found, applied.len() - found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Database;

    #[tokio::test]
    async fn a_file_with_an_installation_is_up_to_date_and_unchanged() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("fanfare.db");
        drop(Database::open(&file).await.expect("a database"));
        let examination = Examination::of_file(&file).await.expect("an examination");
        assert!(examination.software.starts_with("SQLite 3."));
        assert!(examination.has_installation);
        assert_eq!(
            (
                examination.missing_migrations,
                examination.newer_migrations,
                examination.damage
            ),
            (0, 0, None)
        );
    }

    #[tokio::test]
    async fn only_the_key_of_the_installation_is_recognised() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("fanfare.db");
        let database = Database::open(&file).await.expect("a database");
        let before = Examination::of_file(&file).await.expect("an examination");
        assert!(!before.is_sealed());
        let key = MasterKey::random();
        drop(database.unlock(key.clone()).await.expect("a store"));
        let sealed = Examination::of_file(&file).await.expect("an examination");
        assert!(sealed.is_sealed() && sealed.is_sealed_with(&key));
        assert!(!sealed.is_sealed_with(&MasterKey::random()));
    }

    #[tokio::test]
    async fn a_file_that_is_not_there_is_not_created() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("fanfare.db");
        let error = Examination::of_file(&file).await;
        assert!(matches!(error, Err(StoreError::Missing)));
        assert!(!file.exists());
    }

    #[tokio::test]
    async fn an_empty_database_misses_all_migrations() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("empty.db");
        std::fs::write(&file, "").expect("a file");
        let examination = Examination::of_file(&file).await.expect("an examination");
        assert!(!examination.has_installation);
        assert_eq!(
            examination.missing_migrations,
            migrations::sqlite().iter().count()
        );
    }
}
