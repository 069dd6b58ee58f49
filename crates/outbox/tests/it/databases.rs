//! Databases with an outbox, on the server that `FANFARE_TEST_POSTGRES` names.

use std::ops::Deref;

use fanfare_outbox::{Location, install};
use fanfare_testkit::Database;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

/// A database of one test, with an outbox.
pub(crate) struct OutboxDatabase(Database);

impl Deref for OutboxDatabase {
    type Target = Database;

    fn deref(&self) -> &Database {
        &self.0
    }
}

/// Creates a database with an outbox, or returns `None` without a server.
pub(crate) async fn create() -> Option<OutboxDatabase> {
    // What an application's database sets for all sessions makes no difference.
    let settings = [
        "default_transaction_isolation = 'serializable'",
        "default_transaction_read_only = on",
        "standard_conforming_strings = off",
        "search_path = ''",
        "bytea_output = 'escape'",
        "datestyle = 'German'",
    ];
    let database = Database::create("outbox", &settings).await?;
    install(&database.url.as_str().into(), &[]).await.unwrap();
    Some(OutboxDatabase(database))
}

impl OutboxDatabase {
    pub(crate) fn location(&self) -> Location {
        Location::parse(&self.url, None).unwrap()
    }

    /// Opens a session of an application.
    pub(crate) async fn session(&self) -> PgConnection {
        let mut session = PgConnection::connect(&self.url).await.unwrap();
        let settings = "SET default_transaction_read_only = off; SET default_transaction_isolation = 'read committed'";
        session.execute(settings).await.unwrap();
        session
    }

    /// Removes the database.
    pub(crate) async fn remove(self) {
        self.0.remove().await;
    }
}

/// Runs a statement.
pub(crate) async fn run(session: &mut PgConnection, statement: &str) {
    session
        .execute(AssertSqlSafe(statement.to_owned()))
        .await
        .unwrap();
}

/// Publishes an event to a channel, with its name as its data.
pub(crate) async fn publish(session: &mut PgConnection, event: &str) {
    run(
        session,
        &format!("SELECT fanfare.publish('news', '{event}', '\"{event}\"')"),
    )
    .await;
}

/// Runs a statement that is refused, and returns the message.
pub(crate) async fn refused(session: &mut PgConnection, statement: &str) -> String {
    let refused = session
        .execute(AssertSqlSafe(statement.to_owned()))
        .await
        .unwrap_err();
    refused.as_database_error().unwrap().message().to_owned()
}
