//! Opening sessions, looking at whether the server suits, and keeping the tables small.

use std::time::Duration;

use serde_json::json;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection, PgPool, Row};
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::{interval, timeout};

use super::line::Item;
use super::schema::{SESSION, Schema};
use crate::backend::ConnectError;

/// How long each session may take to open.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);
/// The oldest version whose procedures can commit and then answer, and notify as they commit.
const MIN_VERSION: i32 = 150_000;
/// How often two sessions are compared to find out whether they share a server process.
const COMPARISONS: usize = 3;
/// Histories that are read at once.
const READERS: u32 = 2;
/// How often a node removes what is kept no longer, several times while one partition of the log is written.
const TIDY_INTERVAL: Duration = Duration::from_secs(4);

/// What a connection pooler in transaction mode lacks.
const POOLED: &str = "it is reached through a connection pooler in transaction mode, where nothing can be received; give the \
     address of the Postgres server itself (with cluster.url = \"store\", in store.listen_url)";
/// Codes of errors about prepared statements, which such a pooler leaves on another connection.
const UNPREPARED: [&str; 2] = ["26000", "42P05"];

/// The sessions of one connection of a node.
pub(super) struct Sessions {
    pub(super) calls: PgConnection,
    pub(super) listener: PgListener,
    pub(super) pool: PgPool,
}

/// Opens all sessions, and creates what is missing.
///
/// # Errors
///
/// Returns [`ConnectError`] if the server can't be reached, or can't be what nodes share.
pub(super) async fn open(
    options: &PgConnectOptions,
    schema: &Schema,
) -> Result<Sessions, ConnectError> {
    let mut calls = connect(options).await?;
    check(&mut calls).await?;
    schema.create(&mut calls).await?;
    let settings = schema.settings();
    let of_readers = format!("{SESSION}; {settings}");
    in_time(
        "preparing a session",
        calls.execute(AssertSqlSafe(settings)),
    )
    .await?;
    let pool = PgPoolOptions::new()
        .max_connections(READERS)
        .acquire_timeout(OPEN_TIMEOUT)
        .after_connect(move |connection, _| {
            let settings = of_readers.clone();
            Box::pin(async move {
                connection
                    .execute(AssertSqlSafe(settings))
                    .await
                    .map(|_| ())
            })
        })
        .connect_lazy_with(options.clone());
    let listener = listen(options, schema).await?;
    Ok(Sessions {
        calls,
        listener,
        pool,
    })
}

/// Opens a session, after a look at whether there is a pooler in transaction mode: what is set in a session would stay
/// there for whoever gets that connection next, the store of this node included.
pub(super) async fn connect(options: &PgConnectOptions) -> Result<PgConnection, ConnectError> {
    let mut session = in_time("connecting", options.connect()).await?;
    let mut other = in_time("connecting", options.connect()).await?;
    let mut before = None;
    for _ in 0..COMPARISONS {
        let pair = (
            server_process(&mut session).await?,
            server_process(&mut other).await?,
        );
        if pair.0 == pair.1 || *before.get_or_insert(pair) != pair {
            return Err(ConnectError(POOLED.into()));
        }
    }
    // The result doesn't depend on how it closes.
    tokio::spawn(other.close());
    in_time("preparing a session", session.execute(SESSION)).await?;
    Ok(session)
}

/// Opens the session that listens, beside the one for calls.
pub(super) async fn listen(
    options: &PgConnectOptions,
    schema: &Schema,
) -> Result<PgListener, ConnectError> {
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(OPEN_TIMEOUT)
        .connect_lazy_with(options.clone());
    let mut listener = in_time("connecting", PgListener::connect_with(&pool)).await?;
    // Its loss is noticed at once, and ends the whole connection.
    listener.eager_reconnect(false);
    in_time("preparing a session", listener.execute(SESSION)).await?;
    in_time("listening", listener.listen(schema.notifications())).await?;
    // Other nodes count who listens by this lock, which ends with the session.
    let (class, object) = schema.listening_lock();
    let lock = sqlx::query("SELECT pg_advisory_lock_shared($1, $2)")
        .bind(class)
        .bind(object)
        .execute(&mut listener);
    in_time("listening", lock).await?;
    Ok(listener)
}

/// Checks that nodes can share this server.
pub(super) async fn check(connection: &mut PgConnection) -> Result<(), ConnectError> {
    let state = sqlx::query(
        "SELECT current_setting('server_version_num')::int, current_setting('server_version'), \
         pg_is_in_recovery(), current_setting('server_encoding')",
    )
    .fetch_one(connection);
    let state = in_time("looking at the server", state).await?;
    let (number, version): (i32, String) = (state.get(0), state.get(1));
    let encoding: String = state.get(3);
    if number < MIN_VERSION {
        return Err(ConnectError(format!(
            "it is Postgres {version}; nodes need version 15 or later"
        )));
    }
    if state.get(2) {
        return Err(ConnectError(
            "it is a standby, which takes no changes; give the address of the primary".into(),
        ));
    }
    if encoding != "UTF8" {
        return Err(ConnectError(format!(
            "its database has the encoding {encoding}; nodes need one with UTF8"
        )));
    }
    Ok(())
}

async fn server_process<'c>(
    session: impl Executor<'c, Database = sqlx::Postgres>,
) -> Result<i32, ConnectError> {
    let process = sqlx::raw_sql("SELECT pg_backend_pid()").fetch_one(session);
    Ok(in_time("looking at the server", process).await?.get(0))
}

async fn in_time<T>(
    what: &str,
    work: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, ConnectError> {
    match timeout(OPEN_TIMEOUT, work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => {
            let code = error.as_database_error().and_then(|error| error.code());
            let is_pooled = code.is_some_and(|code| UNPREPARED.contains(&&*code));
            Err(ConnectError(match is_pooled {
                true => POOLED.into(),
                false => format!("{what}: {error}"),
            }))
        }
        Err(_) => Err(ConnectError(format!(
            "{what}: no answer within {OPEN_TIMEOUT:?}"
        ))),
    }
}

/// Removes what is kept no longer, again and again.
pub(super) async fn tidy_regularly(pool: PgPool, calls: UnboundedSender<Item>) {
    let mut ticks = interval(TIDY_INTERVAL);
    loop {
        ticks.tick().await;
        let call = Item::call(&json!({ "kind": "tidy" }), Vec::new(), Box::new(|_| {}));
        if calls.send(call).is_err() {
            return;
        }
        for statement in ["SELECT remove_events()", "SELECT empty_log()"] {
            if let Err(error) = sqlx::query(statement).execute(&pool).await {
                // Another attempt follows, and the connection for calls notices if there is no server.
                tracing::debug!(%error, "what nobody reads any more was not removed yet");
            }
        }
    }
}
