//! An empty database of each kind.

use fanfare_store::{Actor, Database, MasterKey, NewApp, Store};
use sqlx::Executor;

pub(crate) const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// An empty database of each kind, in turn.
pub(crate) enum Kind {
    Sqlite(tempfile::TempDir),
    Postgres(String),
    /// Behind a connection pooler: the URL of the store, and the one that leads to Postgres itself.
    Pooled(String, String),
}

impl Kind {
    #[expect(
        clippy::disallowed_methods,
        reason = "tells whether there is a Postgres to test with"
    )]
    pub(crate) async fn all() -> Vec<Self> {
        let mut kinds = vec![Self::Sqlite(tempfile::tempdir().expect("a folder"))];
        match std::env::var("FANFARE_TEST_POSTGRES") {
            Ok(server) => kinds.push(Self::Postgres(create_database(&server).await)),
            Err(_) => eprintln!("SKIPPED on Postgres: FANFARE_TEST_POSTGRES is not set"),
        }
        let poolers = std::env::var("FANFARE_TEST_POOLERS").unwrap_or_default();
        for pooler in poolers.split_whitespace() {
            let server =
                std::env::var("FANFARE_TEST_POSTGRES").expect("the server behind the poolers");
            let direct = create_database(&server).await;
            let (_, name) = direct.rsplit_once('/').expect("a database's name");
            kinds.push(Self::Pooled(format!("{pooler}/{name}"), direct));
        }
        kinds
    }

    pub(crate) fn url(&self) -> String {
        match self {
            Self::Sqlite(folder) => {
                format!("sqlite:{}", folder.path().join("fanfare.db").display())
            }
            Self::Postgres(url) | Self::Pooled(url, _) => url.clone(),
        }
    }

    /// The stores of several nodes. On SQLite they are one, because one process alone serves from a file; several would
    /// wait for its lock without an order, and longer than they may on a busy machine.
    pub(crate) async fn stores_of_nodes(&self, nodes: usize) -> Vec<Store> {
        let first = self.store().await;
        let mut stores = vec![first.clone(); nodes];
        if !matches!(self, Self::Sqlite(_)) {
            for store in &mut stores[1..] {
                *store = self.store().await;
            }
        }
        stores
    }

    pub(crate) async fn store(&self) -> Store {
        let database = Database::connect(&self.url()).await.expect("connect");
        database
            .unlock(MasterKey::parse(KEY).expect("a key"))
            .await
            .expect("unlock")
    }
}

impl Kind {
    /// Runs a statement behind the store's back.
    pub(crate) async fn execute(&self, sql: &str) {
        let sql = sqlx::AssertSqlSafe(sql.to_owned());
        match self {
            Self::Sqlite(_) => {
                let pool = sqlx::SqlitePool::connect(&self.url()).await.unwrap();
                pool.execute(sqlx::query(sql)).await.unwrap();
            }
            Self::Postgres(url) | Self::Pooled(_, url) => {
                let pool = sqlx::PgPool::connect(url).await.unwrap();
                pool.execute(sqlx::query(sql)).await.unwrap();
            }
        }
    }
}

impl Kind {
    /// Returns the number that a statement finds behind the store's back.
    pub(crate) async fn number(&self, sql: &str) -> i64 {
        let sql = sqlx::AssertSqlSafe(sql.to_owned());
        match self {
            Self::Sqlite(_) => {
                let pool = sqlx::SqlitePool::connect(&self.url()).await.unwrap();
                sqlx::query_scalar(sql).fetch_one(&pool).await.unwrap()
            }
            Self::Postgres(url) | Self::Pooled(_, url) => {
                let pool = sqlx::PgPool::connect(url).await.unwrap();
                sqlx::query_scalar(sql).fetch_one(&pool).await.unwrap()
            }
        }
    }
}

async fn create_database(server: &str) -> String {
    // Process ids come again; a random number does not.
    let name = format!("conformance_{:016x}", rand::random::<u64>());
    let pool = sqlx::PgPool::connect(&format!("{server}/postgres"))
        .await
        .expect("the server of FANFARE_TEST_POSTGRES");
    let create = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
    pool.execute(sqlx::query(create))
        .await
        .expect("create a database");
    format!("{server}/{name}")
}

pub(crate) fn app(name: &str) -> NewApp {
    NewApp {
        name: name.into(),
        ..NewApp::default()
    }
}

/// Whoever it was.
pub(crate) fn by() -> Actor {
    Actor::system()
}
