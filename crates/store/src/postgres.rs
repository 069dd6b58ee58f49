//! Postgres, directly or through a connection pooler such as pgbouncer.
//!
//! A pooler in transaction mode gives a client another server connection for each transaction. Named statements,
//! session locks and `LISTEN`, which belong to a server connection, don't work there. [`Pooling`] tells the two apart.
//! All statements of this crate go through the executors of this file, which then avoid what doesn't work.

use std::str::FromStr;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use sqlx::postgres::{
    PgArguments, PgConnectOptions, PgConnection, PgPoolOptions, PgQueryResult, PgRow, PgStatement,
    PgTypeInfo,
};
use sqlx::{ConnectOptions, Connection, Either, Execute, Executor, PgPool, Row, SqlStr};
use tokio::time::{Instant, sleep, timeout};

use crate::dialect::ACQUIRE_TIMEOUT;
use crate::error::StoreError;
use crate::migrations;

/// Serializes the migrations of nodes that start at once. The number is arbitrary.
const LOCK_MIGRATIONS: &str = "SELECT pg_advisory_xact_lock(5201860395146293177)";
/// Named statements stay on a server connection, where they would collide with those of a pooler's next client.
const DEALLOCATE_ALL: &str = "DEALLOCATE ALL";
pub(crate) const IS_BEGUN: &str = "SELECT to_regclass('installation') IS NOT NULL";
const SERVER_PROCESS: &str = "SELECT pg_backend_pid()";
/// The server's time, Unix time in milliseconds.
pub(crate) const CLOCK: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint";
const TRANSACTION_ID: &str = "SELECT pg_current_xact_id_if_assigned()::text";
const TRANSACTION_STATUS: &str = "SELECT pg_xact_status($1::text::xid8)";
/// Number of comparisons of two connections to find out what is between this process and the server.
const COMPARISONS: usize = 3;
/// How often the outcome of a transaction is queried whose end isn't known.
const STATUS_INTERVAL: Duration = Duration::from_millis(100);

/// How long a connection of this process keeps its server connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pooling {
    /// As long as it lives: there is no pooler, or one in session mode.
    Session,
    /// For one transaction: a pooler in transaction mode.
    Transaction,
}

/// A pool of connections to Postgres.
#[derive(Debug, Clone)]
pub(crate) struct Postgres {
    pub(crate) pool: PgPool,
    pooling: Pooling,
    /// Pool for notifications of changes, if not `pool`.
    listen: Option<PgPool>,
}

/// A transaction on Postgres.
#[derive(Debug)]
pub(crate) struct PostgresTx {
    tx: sqlx::Transaction<'static, sqlx::Postgres>,
    postgres: Postgres,
}

impl Postgres {
    /// Connects and brings the tables up to date. Returns [`StoreError::Missing`] for a database without an
    /// installation unless `create` is set.
    pub(crate) async fn connect(url: &str, create: bool) -> Result<Self, StoreError> {
        let mut options = options(url)?;
        let pooling = detect_pooling(&options).await?;
        if pooling == Pooling::Transaction {
            options = options.statement_cache_capacity(0);
            tracing::debug!("the store is behind a connection pooler in transaction mode");
        }
        let pool = PgPoolOptions::new()
            // One of them listens for changes.
            .max_connections(9)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_with(options)
            .await?;
        let postgres = Self {
            pool,
            pooling,
            listen: None,
        };
        if !create && !postgres.is_begun().await? {
            return Err(StoreError::Missing);
        }
        postgres.migrate().await?;
        Ok(postgres)
    }

    /// Receives notifications of changes over another URL, which must not lead through a pooler in transaction mode.
    pub(crate) async fn listen_on(&mut self, url: &str) -> Result<(), StoreError> {
        let options = options(url)?;
        if detect_pooling(&options).await? == Pooling::Transaction {
            return Err(StoreError::Invalid(
                "store.listen_url leads through a connection pooler in transaction mode, which cannot announce changes; \
                 give the address of the Postgres server itself, or leave it out: changes are then looked for every 400 ms"
                    .into(),
            ));
        }
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_lazy_with(options);
        self.listen = Some(pool);
        Ok(())
    }

    /// Returns the pool to listen with, or `None` if the server can't notify this process.
    pub(crate) fn listening_pool(&self) -> Option<PgPool> {
        let own = (self.pooling == Pooling::Session).then_some(&self.pool);
        self.listen.as_ref().or(own).cloned()
    }

    async fn is_begun(&self) -> Result<bool, StoreError> {
        let row = self.fetch_one(IS_BEGUN).await?;
        Ok(row.try_get(0)?)
    }

    /// Brings the tables up to date in one transaction, under a lock that ends with it.
    async fn migrate(&self) -> Result<(), StoreError> {
        let mut migrator = migrations::postgres();
        // sqlx takes a lock of the session, which a pooler gives to another client.
        migrator.set_locking(false);
        let mut tx = self.pool.begin().await?;
        sqlx::raw_sql(LOCK_MIGRATIONS).execute(&mut *tx).await?;
        let pooled = self.pooling == Pooling::Transaction;
        if pooled {
            sqlx::raw_sql(DEALLOCATE_ALL).execute(&mut *tx).await?;
        }
        migrator.run_direct(None, &mut *tx, false).await?;
        if pooled {
            sqlx::raw_sql(DEALLOCATE_ALL).execute(&mut *tx).await?;
        }
        Ok(tx.commit().await?)
    }

    pub(crate) async fn begin(&self) -> Result<PostgresTx, sqlx::Error> {
        let pool = self.pool.clone();
        // In a task of its own: if the caller went away between `BEGIN` and its answer, sqlx would return the
        // connection to the pool with the transaction open.
        let begun = tokio::spawn(async move { pool.begin().await }).await;
        let tx = begun.map_err(|_| sqlx::Error::WorkerCrashed)??;
        Ok(PostgresTx {
            tx,
            postgres: self.clone(),
        })
    }

    /// Returns the outcome of a transaction whose `COMMIT` wasn't answered: success, [`StoreError::Late`] if it was
    /// aborted, or [`StoreError::Uncertain`] after [`ACQUIRE_TIMEOUT`].
    async fn outcome(&self, id: &str) -> Result<(), StoreError> {
        let until = Instant::now() + ACQUIRE_TIMEOUT;
        while Instant::now() < until {
            let status: Result<Option<String>, _> = sqlx::query_scalar(TRANSACTION_STATUS)
                .bind(id)
                .fetch_one(self)
                .await;
            match status.ok().flatten().as_deref() {
                Some("committed") => return Ok(()),
                Some("aborted") => return Err(StoreError::Late),
                _ => sleep(STATUS_INTERVAL).await,
            }
        }
        Err(StoreError::Uncertain)
    }
}

impl PostgresTx {
    /// Commits. After an error nothing was changed, except perhaps after [`StoreError::Uncertain`].
    pub(crate) async fn commit(mut self) -> Result<(), StoreError> {
        // Asked for before the commit: afterwards it may be too late to ask on this connection.
        let id: Option<String> = sqlx::query_scalar(TRANSACTION_ID)
            .fetch_one(self.statements())
            .await?;
        match (self.tx.commit().await, id) {
            (Ok(()), _) => Ok(()),
            // The server has answered, so it is certain that nothing was changed.
            (Err(error @ sqlx::Error::Database(_)), _) | (Err(error), None) => Err(error.into()),
            // The connection is lost, or something else came before the answer: sqlx 0.9 takes a notification that
            // arrives then for an error although the transaction is committed.
            (Err(error), Some(id)) => {
                tracing::debug!(%error, "the answer to a COMMIT did not come; asking what became of it");
                self.postgres.outcome(&id).await
            }
        }
    }

    /// Returns an executor for statements in this transaction.
    pub(crate) fn statements(&mut self) -> Statements<'_> {
        Statements {
            connection: &mut self.tx,
            pooling: self.postgres.pooling,
        }
    }
}

/// Checks that a URL is one of Postgres.
pub(crate) fn check_url(url: &str) -> Result<(), sqlx::Error> {
    PgConnectOptions::from_str(url).map(drop)
}

/// Parses a URL. It leaves out `extra_float_digits`, which sqlx would send and pgbouncer refuses by default.
pub(crate) fn options(url: &str) -> Result<PgConnectOptions, StoreError> {
    Ok(PgConnectOptions::from_str(url)?.extra_float_digits(None))
}

/// Detects a pooler in transaction mode: only there do two connections share a server process, or does one have
/// several.
pub(crate) async fn detect_pooling(options: &PgConnectOptions) -> Result<Pooling, StoreError> {
    let connect = async || {
        let connected = timeout(ACQUIRE_TIMEOUT, options.connect()).await;
        connected.unwrap_or(Err(sqlx::Error::PoolTimedOut))
    };
    let mut one = connect().await?;
    let mut other = match connect().await {
        Ok(other) => other,
        // A pooler in session mode whose last connection is already taken, or a server with as few.
        Err(_) => return Ok(Pooling::Session),
    };
    let mut seen = Vec::new();
    let mut shared = false;
    for _ in 0..COMPARISONS {
        let (first, second) = (
            server_process(&mut one).await?,
            server_process(&mut other).await?,
        );
        shared |= first == second || seen.last().is_some_and(|before| *before != (first, second));
        seen.push((first, second));
    }
    // The result doesn't depend on how these connections close.
    tokio::spawn(async move {
        let _ = one.close().await;
        let _ = other.close().await;
    });
    Ok(if shared {
        Pooling::Transaction
    } else {
        Pooling::Session
    })
}

async fn server_process(connection: &mut PgConnection) -> Result<i32, sqlx::Error> {
    // Without arguments, so that it is one message: a prepared statement takes several, which a pooler would already
    // separate.
    let row = sqlx::raw_sql(SERVER_PROCESS).fetch_one(connection).await?;
    row.try_get(0)
}

/// A query that is prepared without a name, so that nothing stays on the server connection.
struct Unnamed<E>(E);

impl<'q, E: Execute<'q, sqlx::Postgres>> Execute<'q, sqlx::Postgres> for Unnamed<E> {
    fn sql(self) -> SqlStr {
        self.0.sql()
    }

    fn statement(&self) -> Option<&PgStatement> {
        self.0.statement()
    }

    fn take_arguments(&mut self) -> Result<Option<PgArguments>, sqlx::error::BoxDynError> {
        self.0.take_arguments()
    }

    fn persistent(&self) -> bool {
        false
    }
}

/// Executor on one connection, within a transaction.
#[derive(Debug)]
pub(crate) struct Statements<'c> {
    connection: &'c mut PgConnection,
    pooling: Pooling,
}

type Items<'e> = BoxStream<'e, Result<Either<PgQueryResult, PgRow>, sqlx::Error>>;

impl<'c> Executor<'c> for Statements<'c> {
    type Database = sqlx::Postgres;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> Items<'e>
    where
        'c: 'e,
        E: 'q + Execute<'q, sqlx::Postgres>,
    {
        match self.pooling {
            Pooling::Session => self.connection.fetch_many(query),
            Pooling::Transaction => self.connection.fetch_many(Unnamed(query)),
        }
    }

    fn fetch_optional<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxFuture<'e, Result<Option<PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, sqlx::Postgres>,
    {
        match self.pooling {
            Pooling::Session => self.connection.fetch_optional(query),
            Pooling::Transaction => self.connection.fetch_optional(Unnamed(query)),
        }
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, sqlx::Error>>
    where
        'c: 'e,
    {
        self.connection.prepare_with(sql, parameters)
    }
}

/// Runs single statements. Behind a pooler in transaction mode each runs in its own transaction, so that it is prepared
/// and run on the same server connection.
impl<'c> Executor<'c> for &'c Postgres {
    type Database = sqlx::Postgres;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> Items<'e>
    where
        'c: 'e,
        E: 'q + Execute<'q, sqlx::Postgres>,
    {
        if self.pooling == Pooling::Session {
            return self.pool.fetch_many(query);
        }
        let items = async move {
            let mut tx = self.pool.begin().await?;
            let items: Vec<_> = (&mut *tx).fetch_many(Unnamed(query)).try_collect().await?;
            tx.commit().await?;
            Ok::<_, sqlx::Error>(stream::iter(items.into_iter().map(Ok)))
        };
        stream::once(items).try_flatten().boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxFuture<'e, Result<Option<PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, sqlx::Postgres>,
    {
        if self.pooling == Pooling::Session {
            return self.pool.fetch_optional(query);
        }
        Box::pin(async move {
            let mut tx = self.pool.begin().await?;
            let row = (&mut *tx).fetch_optional(Unnamed(query)).await?;
            tx.commit().await?;
            Ok(row)
        })
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, sqlx::Error>>
    where
        'c: 'e,
    {
        self.pool.prepare_with(sql, parameters)
    }
}
