//! What a backend promises, the same for the simulated one, for Redis in all its forms and for Postgres. Postgres runs
//! where `FANFARE_TEST_POSTGRES` holds the URL of a server on which databases may be created.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fanfare_cluster::testing::conformance::{Stage, history};
pub(crate) use fanfare_cluster::testing::conformance::{event, topic_of};
use fanfare_cluster::{Postgres, Redis};
use fanfare_engine::testing::run_paused;
use fanfare_testkit::RedisServer;

use crate::servers::{self, PASSWORD};
use crate::sim::{Sim, Weather};

/// Runs a case on a Redis, under a prefix of its own.
fn run<F: Future<Output = ()>>(case: impl FnOnce(Stage) -> F, url: &str) {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let prefix = format!("test-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let stage = Stage::new(Arc::new(Redis::new(url, &prefix).unwrap()));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(case(stage));
}

mod simulated {
    use super::*;

    fn run<F: Future<Output = ()>>(case: impl FnOnce(Stage) -> F) {
        run_paused(async {
            let sim = Sim::new(1, Weather::Windy);
            case(Stage::new(sim.backend(0))).await;
        });
    }

    fanfare_cluster::conformance_suite!(run);
}

mod redis {
    use super::*;

    fn run<F: Future<Output = ()>>(case: impl FnOnce(Stage) -> F) {
        let server = servers::single();
        super::run(case, &format!("redis://127.0.0.1:{}", server.port));
    }

    fanfare_cluster::conformance_suite!(run);
}

mod redis_cluster {
    use super::*;

    fn run<F: Future<Output = ()>>(case: impl FnOnce(Stage) -> F) {
        let servers = servers::cluster();
        super::run(case, &format!("redis://127.0.0.1:{}", servers[1].port));
    }

    fanfare_cluster::conformance_suite!(run);
}

mod sentinel {
    use super::*;

    fn run<F: Future<Output = ()>>(case: impl FnOnce(Stage) -> F) {
        let watched = servers::watched();
        let password = PASSWORD.replace('@', "%40").replace(':', "%3A");
        let port = watched.sentinel.port;
        let url = format!("redis://:{password}@127.0.0.1:{port}?sentinel=chosen");
        super::run(case, &url);
    }

    fanfare_cluster::conformance_suite!(run);
}

mod postgres {
    use fanfare_cluster::backend::{BackendError, Published};
    use fanfare_testkit::Database;
    use futures_util::future::join;
    use sqlx::{Connection, PgConnection};

    use super::*;

    /// What others set for their own sessions, which makes no difference.
    const SESSION_SETTINGS: [&str; 3] = [
        "default_transaction_isolation = 'serializable'",
        "statement_timeout = '50ms'",
        "idle_session_timeout = '1s'",
    ];

    fn run<F: Future<Output = ()>>(case: impl FnOnce(Stage) -> F) {
        run_on(async |stage, _| case(stage).await);
    }

    /// Runs a case on a database of its own, whose address it gets.
    fn run_on(case: impl AsyncFnOnce(Stage, &str)) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let Some(database) = Database::create("cluster", &SESSION_SETTINGS).await else {
                return;
            };
            let postgres = Postgres::new(&database.url, "test").unwrap();
            case(Stage::new(Arc::new(postgres)), &database.url).await;
            database.remove().await;
        });
    }

    fanfare_cluster::conformance_suite!(run);

    #[test]
    fn a_call_that_was_taken_before_its_session_ended_is_answered_and_a_later_one_is_unknown() {
        let case = async |stage: Stage, url: &str| {
            let peer = stage.connect().await;
            let mut server = PgConnection::connect(url).await.unwrap();
            // The session ends in the middle of an event of one byte.
            let ends = "SET statement_timeout = 0;
                CREATE FUNCTION ends() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                  PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NEW; END $$;
                CREATE TRIGGER ends BEFORE INSERT ON test_cluster.log FOR EACH ROW
                  WHEN (length(new.message) < 100) EXECUTE FUNCTION public.ends();";
            sqlx::raw_sql(ends).execute(&mut server).await.unwrap();
            // So long that it is sent by itself, before the other one.
            let long = "x".repeat(2 << 20);
            let (first, second) =
                join(peer.try_publish("a", &long), peer.try_publish("a", "1")).await;
            assert_eq!(first, Ok(Published::Now));
            assert!(matches!(second, Err(BackendError::Broken(_))), "{second:?}");
            server.close().await.unwrap();
        };
        run_on(case);
    }
}

/// Returns Redis' clients that send commands of nodes: whether each is subscribed to something, and its id.
fn clients(server: &RedisServer) -> Vec<(bool, String)> {
    let list = server.ask(&["client", "list"]);
    let field = |line: &str, name: &str| {
        let mut fields = line.split(' ');
        let value = fields.find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
        value.unwrap_or_default().to_owned()
    };
    let nodes = list
        .lines()
        .filter(|line| !field(line, "cmd").starts_with("client"));
    nodes
        .map(|line| (field(line, "ssub") != "0", field(line, "id")))
        .collect()
}

#[test]
fn histories_are_read_over_a_connection_of_their_own_that_may_break() {
    let server = RedisServer::start(&[]);
    let case = async |stage: Stage| {
        let peer = stage.subscriber(&["a"]).await;
        assert_eq!(clients(&server).len(), 1, "no history was read yet");
        for _ in 0..2 {
            assert_eq!(history::length_of_an_empty_one(&peer).await, 0);
            let all = clients(&server);
            let [(false, id)] = &all
                .into_iter()
                .filter(|(is_subscribed, _)| !is_subscribed)
                .collect::<Vec<_>>()[..]
            else {
                panic!("one connection reads histories alone");
            };
            assert_eq!(server.ask(&["client", "kill", "id", id]).trim(), "1");
        }
        // The connection for everything else is still the first one.
        peer.publish("a", "1").await;
        assert_eq!(peer.events(1).await, ["1"]);
    };
    run(case, &format!("redis://127.0.0.1:{}", server.port));
}
