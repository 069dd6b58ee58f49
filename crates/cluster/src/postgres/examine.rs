//! Looks at a Postgres server as an operator would who asks whether a cluster can work with it.

use std::time::Duration;

use sqlx::{Connection, PgConnection, Row};

use super::{Postgres, sessions};
use crate::backend::ConnectError;
use crate::server_clock::{self, ServerClock};

/// What was found out about a Postgres server that nodes share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresExamination {
    /// Its name and version, for example `PostgreSQL 15.5`.
    pub software: String,
    /// Median time of a statement.
    pub round_trip: Duration,
    /// Milliseconds by which its clock is ahead of this machine's.
    pub clock_ahead: i64,
    /// Connections of clients that it allows besides those that it has.
    pub free_connections: i64,
    /// Why what nodes do was refused, for example for a missing right.
    pub refused: Option<String>,
}

impl Postgres {
    /// Examines the server, and changes nothing.
    ///
    /// # Errors
    ///
    /// Returns [`ConnectError`] if it can't be reached, or can't be what nodes share.
    pub async fn examine(&self) -> Result<PostgresExamination, ConnectError> {
        let mut session = sessions::connect(&self.options).await?;
        sessions::check(&mut session).await?;
        sessions::listen(&self.options, &self.schema).await?;
        let in_words = |error: sqlx::Error| ConnectError(error.to_string());
        let state = sqlx::query(
            "SELECT current_setting('server_version'), current_setting('max_connections')::bigint \
             - current_setting('superuser_reserved_connections')::bigint \
             - (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')",
        )
        .fetch_one(&mut session)
        .await
        .map_err(in_words)?;
        let clock = measure_clock(&mut session).await.map_err(in_words)?;
        let trial = self.schema.trial(&mut session).await;
        Ok(PostgresExamination {
            software: format!("PostgreSQL {}", state.get::<&str, _>(0)),
            round_trip: clock.round_trip,
            clock_ahead: clock.ahead,
            free_connections: state.get(1),
            refused: trial.err().map(|error| error.0),
        })
    }
}

async fn measure_clock(session: &mut PgConnection) -> Result<ServerClock, sqlx::Error> {
    session.ping().await?;
    server_clock::measure(async || {
        sqlx::query_scalar("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint")
            .fetch_one(&mut *session)
            .await
    })
    .await
}
