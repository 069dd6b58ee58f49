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
    /// The database cannot be reached, or failed.
    #[error("the database failed: {0}")]
    Database(#[from] sqlx::Error),
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
