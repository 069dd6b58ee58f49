//! Names in Postgres, and creating what is missing there.

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use crate::backend::{ConnectError, Topic};

const TABLES: &str = include_str!("tables.sql");
const FUNCTIONS: &str = include_str!("functions.sql");
/// Classes of advisory locks: of the calls that are taken, of the sessions that listen, and of the
/// creation of tables. The numbers are arbitrary.
const CALLS: i32 = 0x0fa1_fa01;
const LISTENING: i32 = 0x0fa1_fa02;
const CREATION: i32 = 0x0fa1_fa03;

/// What all sessions are told first: what a server or a user has set for sessions in general must not end these, and
/// each statement of `take` must see what was committed while it waited for the lock.
pub(super) const SESSION: &str = "SET statement_timeout = 0; SET idle_session_timeout = 0; \
     SET default_transaction_isolation = 'read committed'";

/// The names of one installation.
#[derive(Debug, Clone)]
pub(super) struct Schema {
    /// The schema of the tables, which is the name of the notifications as well.
    tables: String,
    /// The schema of the functions of this build: nodes of other versions have their own.
    functions: String,
    /// Tells installations apart in advisory locks.
    number: i32,
}

impl Schema {
    pub(super) fn new(prefix: &str) -> Self {
        let tables = format!("{prefix}_cluster");
        let functions = format!("{tables}_{:016x}", hash(FUNCTIONS));
        let number = hash(&tables).to_le_bytes();
        Self {
            number: i32::from_le_bytes([number[0], number[1], number[2], number[3]]),
            tables,
            functions,
        }
    }

    /// Returns the name of the notifications that wake nodes.
    pub(super) fn notifications(&self) -> &str {
        &self.tables
    }

    /// Returns the lock under which calls are taken.
    pub(super) fn calls_lock(&self) -> (i32, i32) {
        (CALLS, self.number)
    }

    /// Returns the lock that all sessions share that listen.
    pub(super) fn listening_lock(&self) -> (i32, i32) {
        (LISTENING, self.number)
    }

    /// Returns what a session has to be told besides [`SESSION`] before it calls functions.
    ///
    /// Plans are made while the tables are empty, and must suit full ones. A node that doesn't get the lock
    /// in time asks again over another connection.
    pub(super) fn settings(&self) -> String {
        format!(
            "SET search_path = {}, {}, pg_catalog; SET synchronous_commit = off; SET jit = off; \
             SET enable_seqscan = off; SET plan_cache_mode = force_generic_plan; \
             SET lock_timeout = '3s'; SET client_min_messages = warning",
            quoted(&self.functions),
            quoted(&self.tables)
        )
    }

    /// Creates tables and functions that are missing, in one transaction. If something of what is there can't be used,
    /// which a crash or the promotion of a standby may leave behind, drops all tables and creates them again.
    ///
    /// # Errors
    ///
    /// Returns [`ConnectError`] if Postgres refuses, for example for a missing right.
    pub(super) async fn create(&self, session: &mut PgConnection) -> Result<(), ConnectError> {
        self.creation(session, "COMMIT").await?;
        let unusable = match self.unusable(session).await {
            Ok(unusable) if unusable.is_empty() => return Ok(()),
            Ok(_) => self.recreate(session).await,
            Err(error) => Err(error),
        };
        let unusable = unusable.map_err(|error| {
            ConnectError(format!(
                "looking whether the tables that nodes share can be used: {error}"
            ))
        })?;
        // Another node was faster, and has logged it.
        if !unusable.is_empty() {
            tracing::warn!(
                reason = unusable.join("; "),
                "what nodes share in Postgres could not be used, so its tables were dropped and created again"
            );
        }
        Ok(())
    }

    /// Creates tables and functions that are missing, and takes it back.
    ///
    /// # Errors
    ///
    /// Returns [`ConnectError`] if Postgres refuses.
    pub(super) async fn trial(&self, session: &mut PgConnection) -> Result<(), ConnectError> {
        self.creation(session, "ROLLBACK").await
    }

    async fn creation(&self, session: &mut PgConnection, end: &str) -> Result<(), ConnectError> {
        let (tables, functions) = (quoted(&self.tables), quoted(&self.functions));
        let mut statements = format!(
            "BEGIN; SET LOCAL client_min_messages = warning;
             SELECT pg_advisory_xact_lock({CREATION}, {number});\n",
            number = self.number
        );
        // A user without the right to create schemas may use those that somebody has made for it.
        if !self.exists(session, &self.tables).await? {
            statements += &format!("CREATE SCHEMA IF NOT EXISTS {tables};\n");
        }
        statements += &format!("SET LOCAL search_path = {tables}, pg_catalog;\n{TABLES}\n");
        if !self.exists(session, &self.functions).await? {
            statements += &format!(
                "CREATE SCHEMA IF NOT EXISTS {functions};
                 SET LOCAL search_path = {functions}, {tables}, pg_catalog;\n{}\n",
                FUNCTIONS
                    .replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION")
                    .replace("CREATE PROCEDURE", "CREATE OR REPLACE PROCEDURE")
            );
        }
        statements += end;
        let created = sqlx::raw_sql(AssertSqlSafe(statements))
            .execute(session)
            .await;
        created.map(|_| ()).map_err(|error| {
            ConnectError(format!(
                "creating the tables that nodes share: {error}; the user must be allowed to create schemas: GRANT \
                 CREATE ON DATABASE"
            ))
        })
    }

    /// Returns what of the tables can't be used, each with the reason.
    async fn unusable(&self, session: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
        let unusable = format!("SELECT {}.unusable($1)", quoted(&self.functions));
        sqlx::query_scalar(AssertSqlSafe(unusable))
            .bind(&self.tables)
            .fetch_all(session)
            .await
    }

    /// Drops the tables and creates them again, in one transaction, unless another node has just done so. Returns what
    /// couldn't be used.
    async fn recreate(&self, session: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
        let (tables, functions) = (quoted(&self.tables), quoted(&self.functions));
        let mut transaction = session.begin().await?;
        let lock = format!("SELECT pg_advisory_xact_lock({CREATION}, {})", self.number);
        transaction.execute(AssertSqlSafe(lock)).await?;
        let unusable = self.unusable(&mut transaction).await?;
        if !unusable.is_empty() {
            let statements = format!(
                "SET LOCAL client_min_messages = warning;
                 SELECT {functions}.drop_shared('{}', {CALLS}, {number}, {LISTENING});
                 SET LOCAL search_path = {tables}, pg_catalog;\n{TABLES}",
                self.tables,
                number = self.number
            );
            transaction
                .execute(sqlx::raw_sql(AssertSqlSafe(statements)))
                .await?;
        }
        transaction.commit().await?;
        Ok(unusable)
    }

    async fn exists(&self, session: &mut PgConnection, schema: &str) -> Result<bool, ConnectError> {
        sqlx::query_scalar("SELECT to_regnamespace(quote_ident($1)) IS NOT NULL")
            .bind(schema)
            .fetch_one(session)
            .await
            .map_err(|error| {
                ConnectError(format!("looking for the tables that nodes share: {error}"))
            })
    }
}

/// Returns the name of a topic in the log.
pub(super) fn topic_name(topic: &Topic) -> String {
    match topic {
        Topic::Nodes => "nodes".into(),
        Topic::Users(app) => format!("users:{app}"),
        Topic::Live(app) => format!("live:{app}"),
        Topic::Channel(app, channel) => format!("channel:{app}:{channel}"),
    }
}

/// Returns a name as it stands in statements. A prefix has no quotation marks.
fn quoted(name: &str) -> String {
    format!("\"{name}\"")
}

/// FNV-1a: the same in all builds, unlike the hashes of the standard library.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_holds_rows_is_unlogged_and_what_has_partitions_is_not() {
        for statement in TABLES
            .split(';')
            .filter(|text| text.contains("TABLE IF NOT EXISTS"))
        {
            let is_unlogged = statement.contains("CREATE UNLOGGED TABLE");
            let has_partitions = statement.contains("PARTITION BY");
            assert_ne!(is_unlogged, has_partitions, "{statement}");
        }
    }
}
