//! What a caller may have to do about a failure.

/// Why the store did not do what it was asked. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// What was given cannot be stored; the text says why.
    #[error("{0}")]
    Invalid(String),
    /// Something with this name is there already.
    #[error("{0}")]
    Conflict(String),
    /// It was changed since it was read; read it again.
    #[error("{0}")]
    Stale(String),
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// The store's secrets were sealed with another master key.
    #[error("this store's secrets were sealed with another master key")]
    WrongMasterKey,
    /// The database's migrations are not ours.
    #[error("cannot bring the database's tables up to date: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// The database was asked and says nothing.
    #[error("the database does not answer in time")]
    Late,
    /// The database cannot be reached, or failed.
    #[error("the database failed: {0}")]
    Database(sqlx::Error),
}

/// What Postgres calls a text that it cannot keep (`character_not_in_repertoire`).
const NO_TEXT: &str = "22021";

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(|cause| cause.code());
        if code.as_deref() == Some(NO_TEXT) {
            return Self::Invalid("a text must not hold the character U+0000".into());
        }
        Self::Database(error)
    }
}

impl StoreError {
    /// Turns a violated uniqueness into a conflict in words.
    pub(crate) fn or_conflict(error: sqlx::Error, message: impl FnOnce() -> String) -> Self {
        match error.as_database_error() {
            Some(cause) if cause.is_unique_violation() => Self::Conflict(message()),
            _ => error.into(),
        }
    }
}
