//! Databases of the tests' own, on the Postgres that `FANFARE_TEST_POSTGRES` names.

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

/// A database of one test.
#[derive(Debug)]
pub struct Database {
    server: String,
    name: String,
    /// URL of the database.
    pub url: String,
}

impl Database {
    /// Creates a database whose name begins with `prefix`, or returns `None` without a server. `settings`, such as
    /// `search_path = ''`, are those of all its sessions.
    #[expect(
        clippy::disallowed_methods,
        reason = "tells whether there is a Postgres to test with"
    )]
    pub async fn create(prefix: &str, settings: &[&str]) -> Option<Self> {
        let Ok(server) = std::env::var("FANFARE_TEST_POSTGRES") else {
            eprintln!("SKIPPED: FANFARE_TEST_POSTGRES is not set");
            return None;
        };
        // Process ids come again; a random number does not.
        let name = format!("{prefix}_{:016x}", rand::random::<u64>());
        let database = Self {
            url: format!("{server}/{name}"),
            server,
            name,
        };
        let Self { name, .. } = &database;
        database
            .on_server(&format!("CREATE DATABASE {name} TEMPLATE template0"))
            .await;
        for setting in settings {
            let set = format!("ALTER DATABASE {name} SET {setting}");
            database.on_server(&set).await;
        }
        Some(database)
    }

    /// Removes the database, even if it is in use.
    pub async fn remove(self) {
        let drop = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        self.on_server(&drop).await;
    }

    /// Runs a statement in the server's own database.
    pub async fn on_server(&self, statement: &str) {
        let server = PgConnection::connect(&format!("{}/postgres", self.server));
        let statement = AssertSqlSafe(statement.to_owned());
        server.await.unwrap().execute(statement).await.unwrap();
    }
}
