//! Looks at a Postgres server as an operator would who asks whether a cluster can work with it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sqlx::{Connection, PgConnection, Row};
use tokio::time::Instant;

use super::{Postgres, sessions};
use crate::backend::ConnectError;

/// Number of round trips of which the median counts.
const ROUND_TRIPS: usize = 5;

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
        sessions::listen(&self.options, &self.schema, &mut session).await?;
        let in_words = |error: sqlx::Error| ConnectError(error.to_string());
        let state = sqlx::query(
            "SELECT current_setting('server_version'), current_setting('max_connections')::bigint \
             - current_setting('superuser_reserved_connections')::bigint \
             - (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')",
        )
        .fetch_one(&mut session)
        .await
        .map_err(in_words)?;
        let (round_trip, clock_ahead) = clock(&mut session).await.map_err(in_words)?;
        let trial = self.schema.trial(&mut session).await;
        Ok(PostgresExamination {
            software: format!("PostgreSQL {}", state.get::<&str, _>(0)),
            round_trip,
            clock_ahead,
            free_connections: state.get(1),
            refused: trial.err().map(|error| error.0),
        })
    }
}

/// Returns the median round trip, and how far the server's clock is ahead, from the quickest one.
async fn clock(session: &mut PgConnection) -> Result<(Duration, i64), sqlx::Error> {
    session.ping().await?;
    let mut trips = Vec::new();
    for _ in 0..ROUND_TRIPS {
        let (sent, sent_at) = (Instant::now(), unix_millis());
        let there: i64 =
            sqlx::query_scalar("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint")
                .fetch_one(&mut *session)
                .await?;
        // The server read its clock about halfway.
        trips.push((sent.elapsed(), there - (sent_at + unix_millis()) / 2));
    }
    trips.sort_unstable();
    Ok((trips[ROUND_TRIPS / 2].0, trips[0].1))
}

fn unix_millis() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
