//! The back end that a URL names.

use std::sync::Arc;

use crate::backend::Backend;
use crate::postgres::{InvalidPostgres, Postgres};
use crate::redis::{InvalidUrl, Redis};

/// A back end, by what serves it.
#[derive(Debug)]
pub enum Choice {
    /// Redis or Valkey.
    Redis(Redis),
    /// Postgres.
    Postgres(Box<Postgres>),
}

/// Why a URL or a prefix is not possible.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidChoice {
    /// For Redis.
    #[error(transparent)]
    Redis(#[from] InvalidUrl),
    /// For Postgres.
    #[error(transparent)]
    Postgres(#[from] InvalidPostgres),
}

impl Choice {
    /// Returns the back end at `url`: `postgres://` and `postgresql://` name Postgres, all else Redis.
    /// Nodes with different prefixes don't exchange anything.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidChoice`], which says what is wrong.
    pub fn new(url: &str, prefix: &str) -> Result<Self, InvalidChoice> {
        if ["postgres:", "postgresql:"]
            .iter()
            .any(|scheme| url.starts_with(scheme))
        {
            return Ok(Self::Postgres(Box::new(Postgres::new(url, prefix)?)));
        }
        Ok(Self::Redis(Redis::new(url, prefix)?))
    }

    /// Returns it as nodes use it.
    #[must_use]
    pub fn into_back_end(self) -> Arc<dyn Backend> {
        match self {
            Self::Redis(redis) => Arc::new(redis),
            Self::Postgres(postgres) => Arc::new(*postgres),
        }
    }
}
