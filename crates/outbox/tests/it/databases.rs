//! Databases with an outbox, on the server that `FANFARE_TEST_POSTGRES` names.

use fanfare_outbox::{Location, install};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

/// A database of one test.
pub(crate) struct Database {
    server: String,
    name: String,
    pub(crate) url: String,
}

/// Creates a database with an outbox, or returns `None` without a server.
pub(crate) async fn create() -> Option<Database> {
    let Ok(server) = std::env::var("FANFARE_TEST_POSTGRES") else {
        eprintln!("SKIPPED: FANFARE_TEST_POSTGRES is not set");
        return None;
    };
    let name = format!("outbox_{:016x}", rand::random::<u64>());
    let database = Database {
        url: format!("{server}/{name}"),
        server,
        name,
    };
    database
        .on_the_server("CREATE DATABASE NAME TEMPLATE template0")
        .await;
    // What an application's database sets for all sessions makes no difference.
    for setting in [
        "default_transaction_isolation = 'serializable'",
        "default_transaction_read_only = on",
        "standard_conforming_strings = off",
        "search_path = ''",
        "bytea_output = 'escape'",
        "datestyle = 'German'",
    ] {
        database
            .on_the_server(&format!("ALTER DATABASE NAME SET {setting}"))
            .await;
    }
    install(&database.url.as_str().into(), &[]).await.unwrap();
    Some(database)
}

impl Database {
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

    /// Removes the database, whoever uses it, and the roles that are named.
    pub(crate) async fn remove(self, roles: &[&str]) {
        self.on_the_server("DROP DATABASE NAME WITH (FORCE)").await;
        for role in roles {
            self.on_the_server(&format!("DROP ROLE {role}")).await;
        }
    }

    async fn on_the_server(&self, statement: &str) {
        let server = PgConnection::connect(&format!("{}/postgres", self.server));
        let statement = AssertSqlSafe(statement.replace("NAME", &self.name));
        server.await.unwrap().execute(statement).await.unwrap();
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
