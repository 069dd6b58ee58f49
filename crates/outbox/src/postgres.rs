//! The outbox in a database of Postgres: a table that callers fill with `fanfare.publish`, and the functions of
//! `postgres/schema.sql` that a node reads it with.

use std::str::FromStr;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::{PgConnectOptions, PgRow};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, Row};
use tokio::time::{Instant, sleep, timeout};

use crate::error::OutboxError;
use crate::event::{BatchLimits, OutboxEvent, Rejection};
use crate::reader::{Backlog, Identity, Lease, MAX_COUNTED, PublishLimits};

/// What creates the outbox. It may be run again.
pub const SCHEMA: &str = include_str!("postgres/schema.sql");

/// Version of the schema that this program reads, as `fanfare.version()` returns it.
const VERSION: i32 = 1;
/// How long a connection or an answer may take.
const TIMEOUT: Duration = Duration::from_secs(15);
/// First pause while nothing waits; each further one is twice as long, up to the poll interval.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
/// How far below the last position that was read the next look begins: transactions that had their position before and
/// end later.
const POSITION_MARGIN: i64 = 1_000;
/// How often the whole table is looked at, for rows below that margin: of prepared transactions, or copied here.
const WHOLE_LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// What a look at the whole table may take of the time, as one part of so many. Rows that a long transaction keeps from
/// being vacuumed make it slow.
const WHOLE_LOOK_PART: u32 = 20;
/// Begins a transaction as the functions need it, whatever the database's defaults are. What was taken must be on disk
/// before it is published.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL statement_timeout = 14000; \
     SET LOCAL synchronous_commit = on";
/// SQLSTATE of the functions for a node that isn't the reader.
const LEASE_LOST: &str = "FF001";
/// SQLSTATEs of a function, or a schema, that isn't there.
const UNDEFINED: [&str; 2] = ["42883", "3F000"];
const NOT_INSTALLED: &str = "the database has no outbox; run `fanfare outbox install --database URL` as the role that is to own it, \
     or give the file of `fanfare outbox sql` to your migrations";

/// One connection to an outbox.
#[derive(Debug)]
pub(crate) struct PostgresOutbox {
    connection: PgConnection,
    identity: Identity,
    poll_interval: Duration,
    /// Ids of the events that were delivered and are removed with the next call.
    delivered: Vec<String>,
    /// Highest position that was read.
    position: i64,
    next_whole_look: Instant,
}

impl PostgresOutbox {
    pub(crate) async fn connect(
        url: &SecretString,
        identity: Identity,
        poll_interval: Duration,
    ) -> Result<Self, OutboxError> {
        let mut connection = connect(url).await?;
        check_version(&mut connection).await?;
        Ok(Self {
            connection,
            identity,
            poll_interval,
            delivered: Vec::new(),
            position: 0,
            next_whole_look: Instant::now(),
        })
    }

    pub(crate) async fn lease(&mut self) -> Result<Lease, OutboxError> {
        let Identity { app, node } = &self.identity;
        let statement = format!(
            "SELECT is_mine, app, holder FROM fanfare.lease({}, {})",
            text(app),
            text(node)
        );
        let row = self.one(statement).await?;
        Ok(match row.try_get(0).map_err(words)? {
            true => Lease::Mine,
            false => Lease::Other {
                app: row
                    .try_get::<Option<_>, _>(1)
                    .map_err(words)?
                    .unwrap_or_default(),
                node: row
                    .try_get::<Option<_>, _>(2)
                    .map_err(words)?
                    .unwrap_or_default(),
            },
        })
    }

    /// Returns the next batch, without events if none come within `wait`.
    pub(crate) async fn next(
        &mut self,
        limits: BatchLimits,
        wait: Duration,
    ) -> Result<Vec<OutboxEvent>, OutboxError> {
        let until = Instant::now() + wait;
        let mut pause = FIRST_PAUSE;
        let mut is_waiting = !self.delivered.is_empty();
        loop {
            let now = Instant::now();
            let from = self.first_position(now);
            if !is_waiting {
                let statement = format!("SELECT fanfare.is_waiting({from})");
                is_waiting = self.one(statement).await?.try_get(0).map_err(words)?;
            }
            if is_waiting {
                let events = self.take(from, limits).await?;
                if !events.is_empty() {
                    self.looked_from(from, now);
                    return Ok(events);
                }
            }
            self.looked_from(from, now);
            is_waiting = false;
            if Instant::now() + pause > until {
                return Ok(Vec::new());
            }
            sleep(pause).await;
            pause = (pause * 2).min(self.poll_interval);
        }
    }

    fn first_position(&self, now: Instant) -> i64 {
        if now >= self.next_whole_look {
            return 0;
        }
        (self.position - POSITION_MARGIN).max(0)
    }

    fn looked_from(&mut self, from: i64, began: Instant) {
        if began >= self.next_whole_look && from == 0 {
            let took = began.elapsed();
            self.next_whole_look = Instant::now() + WHOLE_LOOK_INTERVAL.max(took * WHOLE_LOOK_PART);
        }
    }

    async fn take(
        &mut self,
        from: i64,
        limits: BatchLimits,
    ) -> Result<Vec<OutboxEvent>, OutboxError> {
        let BatchLimits {
            events,
            channels,
            bytes,
        } = limits;
        let statement = format!(
            "SELECT id::text, commit_position, channels, event, data, socket_id \
             FROM fanfare.take({}, {}, {from}, {events}, {channels}, {bytes})",
            text(&self.identity.node),
            ids(&self.delivered)
        );
        let rows = self.rows(statement).await?;
        self.delivered.clear();
        let mut events = Vec::with_capacity(rows.len());
        for row in &rows {
            self.position = self.position.max(row.try_get(1).map_err(words)?);
            events.push(event(row).map_err(words)?);
        }
        Ok(events)
    }

    pub(crate) fn delivered(&mut self, ids: impl IntoIterator<Item = String>) {
        self.delivered.extend(ids);
    }

    pub(crate) async fn reject(&mut self, rejections: &[Rejection]) -> Result<(), OutboxError> {
        let rejected: Vec<String> = rejections.iter().map(|one| one.id.clone()).collect();
        let reasons: Vec<String> = rejections.iter().map(|one| text(&one.reason)).collect();
        let statement = format!(
            "SELECT fanfare.reject({}, {}, ARRAY[{}]::text[])",
            text(&self.identity.node),
            ids(&rejected),
            reasons.join(",")
        );
        self.one(statement).await.map(drop)
    }

    pub(crate) async fn release(&mut self) -> Result<(), OutboxError> {
        let statement = format!(
            "SELECT fanfare.release({}, {})",
            text(&self.identity.node),
            ids(&self.delivered)
        );
        self.one(statement).await.map(drop)
    }

    pub(crate) async fn backlog(&mut self) -> Result<Backlog, OutboxError> {
        let statement = format!(
            "SELECT waiting, oldest_age_ms FROM fanfare.backlog({})",
            MAX_COUNTED + 1
        );
        let row = self.one(statement).await?;
        let waiting: i64 = row.try_get(0).map_err(words)?;
        let age: Option<i64> = row.try_get(1).map_err(words)?;
        let waiting = u64::try_from(waiting).unwrap_or(0);
        Ok(Backlog {
            waiting: waiting.min(MAX_COUNTED),
            is_exact: waiting <= MAX_COUNTED,
            oldest_age: age.map(|age| Duration::from_millis(u64::try_from(age).unwrap_or(0))),
        })
    }

    pub(crate) async fn set_limits(&mut self, limits: PublishLimits) -> Result<(), OutboxError> {
        let PublishLimits {
            event_data,
            event_name,
            channel_name,
            channels,
        } = limits;
        let statement = format!(
            "SELECT fanfare.set_limits({event_data}, {event_name}, {channel_name}, {channels})"
        );
        self.one(statement).await.map(drop)
    }

    pub(crate) async fn tidy(&mut self) -> Result<(), OutboxError> {
        self.one("SELECT fanfare.tidy()".into()).await.map(drop)
    }

    async fn one(&mut self, statement: String) -> Result<PgRow, OutboxError> {
        let row = self.rows(statement).await?.pop();
        row.ok_or_else(|| OutboxError::Database("Postgres: an answer without a row".into()))
    }

    /// Runs a statement in a transaction of its own. All of it is one message, so a pooler in transaction mode leaves it
    /// together.
    async fn rows(&mut self, statement: String) -> Result<Vec<PgRow>, OutboxError> {
        let statement = format!("{BEGIN}; {statement}; COMMIT");
        let rows = sqlx::raw_sql(AssertSqlSafe(statement)).fetch_all(&mut self.connection);
        in_time(rows).await
    }
}

/// Creates the outbox in a database, or brings it up to date, and lets roles publish.
///
/// # Errors
///
/// Returns [`OutboxError::Database`] if the database can't be reached or refuses. Nothing is changed then.
pub async fn install(url: &SecretString, publishers: &[String]) -> Result<(), OutboxError> {
    let mut connection = connect(url).await?;
    let read_write = "SET default_transaction_read_only = off";
    in_time(sqlx::raw_sql(read_write).execute(&mut connection)).await?;
    let mut tx = in_time(connection.begin()).await?;
    let number = sqlx::raw_sql("SELECT current_setting('server_version_num')::int");
    let number: i32 = in_time(number.fetch_one(&mut *tx))
        .await?
        .try_get(0)
        .map_err(words)?;
    if number < 150_000 {
        return Err(OutboxError::Database(format!(
            "it is Postgres {}; the outbox needs version 15 or later",
            number / 10_000
        )));
    }
    in_time(sqlx::raw_sql(SCHEMA).execute(&mut *tx)).await?;
    for statement in grants(publishers) {
        in_time(sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut *tx)).await?;
    }
    in_time(tx.commit()).await
}

/// Returns the statements that let roles publish.
#[must_use]
pub fn grants(publishers: &[String]) -> Vec<String> {
    let grants = publishers.iter().map(|role| {
        let role = format!("\"{}\"", role.replace('"', "\"\""));
        format!(
            "GRANT USAGE ON SCHEMA fanfare TO {role};\n\
             GRANT EXECUTE ON FUNCTION fanfare.publish(text, text, jsonb, text, text), \
             fanfare.publish(text[], text, jsonb, text, text) TO {role};"
        )
    });
    grants.collect()
}

async fn connect(url: &SecretString) -> Result<PgConnection, OutboxError> {
    let options = PgConnectOptions::from_str(url.expose_secret()).map_err(words)?;
    // Poolers refuse what sqlx would ask for otherwise.
    let options = options
        .extra_float_digits(None)
        .application_name("fanfare outbox");
    in_time(options.connect()).await
}

async fn check_version(connection: &mut PgConnection) -> Result<(), OutboxError> {
    let version = sqlx::raw_sql("SELECT fanfare.version()").fetch_one(connection);
    let row = match timeout(TIMEOUT, version).await {
        Ok(Err(error)) if UNDEFINED.contains(&&*code(&error)) => {
            return Err(OutboxError::NotInstalled(NOT_INSTALLED.into()));
        }
        Ok(row) => row.map_err(words)?,
        Err(_) => return Err(unanswered()),
    };
    let version: i32 = row.try_get(0).map_err(words)?;
    if version < VERSION {
        return Err(OutboxError::NotInstalled(format!(
            "the database's outbox has version {version}, this program reads version {VERSION}: run `fanfare outbox install` again"
        )));
    }
    Ok(())
}

fn event(row: &PgRow) -> Result<OutboxEvent, sqlx::Error> {
    Ok(OutboxEvent {
        id: row.try_get(0)?,
        channels: row.try_get(2)?,
        name: row.try_get(3)?,
        data: row.try_get(4)?,
        socket_id: row.try_get(5)?,
    })
}

/// A text as SQL, whatever is in it and whatever the database makes of a backslash.
fn text(text: &str) -> String {
    format!(
        "convert_from(decode('{}', 'hex'), 'UTF8')",
        hex::encode(text)
    )
}

/// Ids, which came out of a column of their type, as SQL.
fn ids(ids: &[String]) -> String {
    format!("'{{{}}}'::uuid[]", ids.join(","))
}

async fn in_time<T>(work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, OutboxError> {
    match timeout(TIMEOUT, work).await {
        Ok(done) => done.map_err(words),
        Err(_) => Err(unanswered()),
    }
}

fn unanswered() -> OutboxError {
    OutboxError::Database(format!("Postgres: no answer within {TIMEOUT:?}"))
}

fn code(error: &sqlx::Error) -> String {
    let code = error.as_database_error().and_then(|error| error.code());
    code.unwrap_or_default().into_owned()
}

#[expect(clippy::needless_pass_by_value, reason = "is given to map_err")]
fn words(error: sqlx::Error) -> OutboxError {
    match error.as_database_error() {
        Some(refusal) if refusal.code().as_deref() == Some(LEASE_LOST) => OutboxError::LeaseLost,
        Some(refusal) => OutboxError::Database(format!("Postgres: {}", refusal.message())),
        None => OutboxError::Database(format!("Postgres: {error}")),
    }
}
