//! Why an outbox can't be read.

/// Why an outbox can't be read. The texts are for operators and never hold the password of the URL.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// The database has no outbox, or one of a version that this program doesn't read.
    #[error("{0}")]
    NotInstalled(String),
    /// Another node reads it, because this one was silent for too long.
    #[error("another node has taken over this outbox")]
    LeaseLost,
    /// The database refuses, or can't be reached.
    #[error("{0}")]
    Database(String),
}

impl From<redis::RedisError> for OutboxError {
    fn from(error: redis::RedisError) -> Self {
        Self::Database(format!("Redis: {error}"))
    }
}
