//! Databases of the tests' own, on the server that `FANFARE_TEST_POSTGRES` names.

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

/// A database of one test.
pub(crate) struct Database {
    server: String,
    name: String,
    pub(crate) url: String,
}

/// Creates a database, or returns `None` without a server.
pub(crate) async fn create() -> Option<Database> {
    let Ok(server) = std::env::var("FANFARE_TEST_POSTGRES") else {
        eprintln!("SKIPPED: FANFARE_TEST_POSTGRES is not set");
        return None;
    };
    let name = format!("cluster_{:016x}", rand::random::<u64>());
    let database = Database {
        url: format!("{server}/{name}"),
        server,
        name,
    };
    database
        .on_the_server("CREATE DATABASE NAME TEMPLATE template0")
        .await;
    // What others set for their own sessions makes no difference.
    for setting in [
        "default_transaction_isolation = 'serializable'",
        "statement_timeout = '50ms'",
        "idle_session_timeout = '1s'",
    ] {
        let set = format!("ALTER DATABASE NAME SET {setting}");
        database.on_the_server(&set).await;
    }
    Some(database)
}

impl Database {
    /// Removes the database, whoever uses it.
    pub(crate) async fn remove(self) {
        self.on_the_server("DROP DATABASE NAME WITH (FORCE)").await;
    }

    async fn on_the_server(&self, statement: &str) {
        let mut server = PgConnection::connect(&format!("{}/postgres", self.server))
            .await
            .unwrap();
        let statement = AssertSqlSafe(statement.replace("NAME", &self.name));
        server.execute(statement).await.unwrap();
    }
}
