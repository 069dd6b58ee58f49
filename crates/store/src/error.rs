//! Errors of the store, by what a caller can do about them.

use sqlx::migrate::MigrateError;

/// Error of the store. Nothing was changed, except perhaps with [`Self::Uncertain`].
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The input isn't valid; the text says why.
    #[error("{0}")]
    Invalid(String),
    /// Something with this name exists already, or the change isn't possible now.
    #[error("{0}")]
    Conflict(String),
    /// The record was changed since the caller read it, who has to read it again.
    #[error("{0}")]
    Stale(String),
    /// There is no such record.
    #[error("{0}")]
    NotFound(String),
    /// The store's secrets were sealed with another master key.
    #[error("this store's secrets were sealed with another master key")]
    WrongMasterKey,
    /// There is no installation in this database, and none was to be begun.
    #[error("there is no Fanfare installation")]
    Missing,
    /// A newer version of Fanfare has changed the database's tables.
    #[error(
        "a newer version of Fanfare wrote this store (migration {found} is unknown to this one): run that version or a \
         later one, or restore a backup from before the update"
    )]
    Newer {
        /// The migration that is unknown here.
        found: i64,
    },
    /// The database's migrations aren't those of this program.
    #[error("cannot bring the database's tables up to date: {0}")]
    Migrate(String),
    /// The database's disk is full. Changes are accepted again once it has room.
    #[error("the disk that holds the store is full")]
    DiskFull,
    /// The database takes no writes.
    #[error(
        "the database takes no writes, because it is a standby or default_transaction_read_only is set: let store.url lead \
         to the primary"
    )]
    ReadOnly,
    /// The file is not an SQLite database.
    #[error("the file is not an SQLite database, or it is damaged: {0}")]
    NotADatabase(String),
    /// The URL, a file's rights or the credentials are wrong.
    #[error("the database refuses: {0}")]
    Configured(String),
    /// The connection was lost while the change was committed.
    #[error(
        "the connection to the database was lost while it took the change, and it does not say whether the change was made"
    )]
    Uncertain,
    /// The database didn't answer in time.
    #[error("the database does not answer in time")]
    Late,
    /// The database cannot be reached.
    #[error("cannot connect to the database: {0}")]
    Unreachable(String),
    /// The database failed.
    #[error("the database failed: {0}")]
    Database(sqlx::Error),
}

/// Postgres' code for text that it can't store (`character_not_in_repertoire`).
const NO_TEXT: &str = "22021";
/// Postgres' code for a lock that wasn't free in time (`lock_not_available`).
const LOCK_NOT_AVAILABLE: &str = "55P03";
/// Codes for a full disk: of SQLite (`SQLITE_FULL`), and of Postgres (`disk_full`).
const DISK_FULL: [&str; 2] = ["13", "53100"];
/// SQLite's codes for a file that it can't read (`SQLITE_CORRUPT`, `SQLITE_NOTADB`).
const NOT_A_DATABASE: [&str; 2] = ["11", "26"];
/// Codes for a wrong URL: of SQLite (`SQLITE_READONLY`, `SQLITE_CANTOPEN`), and of Postgres (no such database, user or
/// password).
const CONFIGURED_WRONGLY: [&str; 5] = ["8", "14", "3D000", "28000", "28P01"];
/// Postgres' code for a write where none is taken (`read_only_sql_transaction`).
const READ_ONLY: &str = "25006";
/// Postgres' code for missing rights (`insufficient_privilege`).
const NO_RIGHTS: &str = "42501";
/// pgbouncer's message for `BEGIN` in statement pooling mode.
const STATEMENT_POOLING: &str = "transaction blocks not allowed in statement pooling mode";
/// Postgres' codes for a named statement that is missing, or exists already, because a pooler shares server connections
/// after all.
const SHARED_STATEMENTS: [&str; 2] = ["26000", "42P05"];

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(|cause| cause.code());
        let code = code.as_deref().unwrap_or_default();
        if code == NO_TEXT {
            return Self::Invalid("a text must not hold the character U+0000".into());
        }
        if DISK_FULL.contains(&code) {
            return Self::DiskFull;
        }
        if code == LOCK_NOT_AVAILABLE {
            return Self::Late;
        }
        if NOT_A_DATABASE.contains(&code) {
            return Self::NotADatabase(error.to_string());
        }
        if error.to_string().contains(STATEMENT_POOLING) {
            return Self::Invalid(
                "the connection pooler before the database gives a server connection for one statement only: set its \
                 pool_mode to session or transaction for this database, or let store.url lead to Postgres itself"
                    .into(),
            );
        }
        if SHARED_STATEMENTS.contains(&code) {
            return Self::Unreachable(format!(
                "{error}: a connection pooler has changed to transaction mode since this process started; restart it"
            ));
        }
        if code == READ_ONLY {
            return Self::ReadOnly;
        }
        if code == NO_RIGHTS {
            // The message alone: the error also names a line of a migration, which says nothing to an operator.
            let message = error.as_database_error().map(|cause| cause.message());
            return Self::Configured(format!(
                "{}; its owner or a superuser grants the rights with `GRANT CREATE ON SCHEMA public TO USER`, or makes the \
                 user of store.url the owner with `ALTER DATABASE NAME OWNER TO USER`",
                message.unwrap_or_default()
            ));
        }
        if CONFIGURED_WRONGLY.contains(&code) {
            return Self::Configured(error.to_string());
        }
        match error {
            sqlx::Error::PoolTimedOut => Self::Late,
            sqlx::Error::Configuration(_) => Self::Configured(error.to_string()),
            sqlx::Error::Protocol(_) => Self::Unreachable(format!(
                "what answers there does not speak as Postgres does ({error}); check the host and the port, and that it is \
                 Postgres or a pooler before it"
            )),
            sqlx::Error::Io(_) | sqlx::Error::Tls(_) => Self::Unreachable(error.to_string()),
            error => Self::Database(error),
        }
    }
}

impl From<MigrateError> for StoreError {
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => error.into(),
            MigrateError::VersionMissing(found) => Self::Newer { found },
            error => Self::Migrate(error.to_string()),
        }
    }
}

/// Returns whether a write failed because the disk is full.
pub(crate) fn is_disk_full(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|cause| cause.code());
    DISK_FULL.contains(&code.as_deref().unwrap_or_default())
}

impl StoreError {
    /// Returns [`Self::Conflict`] with a message for a violated uniqueness, and otherwise the error itself.
    pub(crate) fn or_conflict(error: sqlx::Error, message: impl FnOnce() -> String) -> Self {
        match error.as_database_error() {
            Some(cause) if cause.is_unique_violation() => Self::Conflict(message()),
            _ => error.into(),
        }
    }
}
