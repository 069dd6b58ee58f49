//! What Postgres and the poolers before it do to connections.

use std::time::Duration;

use fanfare_store::{Database, StoreError};
use sqlx::{Connection, Executor, PgConnection};
use tokio::time::timeout;

use crate::harness::{Kind, app, by};

/// The URL that leads to the server itself.
fn direct(kind: &Kind) -> Option<&str> {
    match kind {
        Kind::Sqlite(_) => None,
        Kind::Postgres(url) | Kind::Pooled(_, url) => Some(url),
    }
}

#[tokio::test]
async fn a_connection_that_is_lost_in_a_transaction_spoils_no_later_change() {
    for kind in Kind::all().await {
        let Some(url) = direct(&kind) else { continue };
        let store = kind.store().await;
        // Within a transaction the list of others would not change.
        let mut observer = PgConnection::connect(url).await.unwrap();
        for _ in 0..12 {
            let mut other = PgConnection::connect(url).await.unwrap();
            let mut lock = other.begin().await.unwrap();
            lock.execute("UPDATE installation SET revision = revision WHERE id = 1")
                .await
                .unwrap();
            let changing = store.clone();
            let change = tokio::spawn(async move { changing.create_app(app("lost"), &by()).await });
            let waiting = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                           WHERE datname = current_database() AND wait_event_type = 'Lock'";
            while observer.execute(waiting).await.unwrap().rows_affected() == 0 {
                tokio::task::yield_now().await;
            }
            let lost = timeout(Duration::from_secs(10), change).await.unwrap();
            assert!(lost.unwrap().is_err(), "its connection was cut");
            lock.rollback().await.unwrap();
        }
        for _ in 0..12 {
            store.create_app(app("kept"), &by()).await.unwrap();
        }
        let apps = store.apps().await.unwrap();
        assert!(apps.len() == 12 && apps.iter().all(|app| app.name == "kept"));
    }
}

/// Others may listen on the connection that a pooler gives us, and its notifications are then sent to us.
#[tokio::test]
async fn a_change_that_was_made_is_never_said_to_have_failed_whoever_listens_on_the_connection() {
    for kind in Kind::all().await {
        let Kind::Pooled(pooler, _) = &kind else {
            continue;
        };
        let store = kind.store().await;
        let mut listening = Vec::new();
        for _ in 0..3 {
            let mut other = PgConnection::connect_with(&plain(pooler)).await.unwrap();
            sqlx::raw_sql("LISTEN fanfare_changes")
                .execute(&mut other)
                .await
                .unwrap();
            listening.push(other);
        }
        let mut made = 0;
        for _ in 0..20 {
            made += usize::from(store.create_app(app("x"), &by()).await.is_ok());
        }
        // Also a store that was not there at the time.
        assert_eq!(made, kind.store().await.apps().await.unwrap().len());
        drop(listening);
    }
}

fn plain(url: &str) -> sqlx::postgres::PgConnectOptions {
    let options: sqlx::postgres::PgConnectOptions = url.parse().unwrap();
    options.extra_float_digits(None)
}

#[tokio::test]
async fn changes_are_announced_past_a_pooler_that_cannot_do_it() {
    for kind in Kind::all().await {
        let Kind::Pooled(pooler, direct) = &kind else {
            continue;
        };
        let mut database = Database::connect(pooler).await.unwrap();
        database.listen_on(direct).await.unwrap();
        let key = fanfare_store::MasterKey::parse(crate::harness::KEY).unwrap();
        let store = database.unlock(key).await.unwrap();
        let mut watch = store.watch();
        let long = Duration::from_secs(20);
        watch.changed(long).await;
        let quiet = timeout(Duration::from_millis(900), watch.changed(long)).await;
        assert!(quiet.is_err(), "it listens, and does not ask in intervals");
        kind.store()
            .await
            .create_app(app("x"), &by())
            .await
            .unwrap();
        timeout(Duration::from_secs(5), watch.changed(long))
            .await
            .expect("it is told");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told_at_once_in_words() {
    let refused = timeout(
        Duration::from_secs(4),
        Database::connect("postgres://me:hunter2@127.0.0.1:9/x"),
    )
    .await
    .expect("at once")
    .unwrap_err();
    assert!(matches!(refused, StoreError::Unreachable(_)), "{refused:?}");
    let text = refused.to_string();
    assert!(
        text.contains("cannot connect") && text.contains("refused") && !text.contains("hunter2"),
        "{text}"
    );
}

#[tokio::test]
async fn a_user_without_rights_is_told_what_to_grant() {
    for kind in Kind::all().await {
        let Some(url) = direct(&kind) else { continue };
        let role = format!("guest_{:016x}", rand::random::<u64>());
        kind.execute(&format!("CREATE ROLE {role} LOGIN PASSWORD 'x'"))
            .await;
        let (_, place) = url.split_once('@').expect("a URL with a user");
        let guest = format!("postgres://{role}:x@{place}");
        let refused = Database::connect(&guest).await.unwrap_err();
        assert!(matches!(refused, StoreError::Configured(_)), "{refused:?}");
        let text = refused.to_string();
        assert!(
            text.contains("permission denied for schema public")
                && text.contains("GRANT CREATE ON SCHEMA public")
                && !text.contains("line"),
            "{text}"
        );
        kind.execute(&format!("DROP ROLE {role}")).await;
    }
}

#[tokio::test]
async fn a_store_of_a_newer_version_is_told_once_and_left_as_it_is() {
    for kind in Kind::all().await {
        drop(kind.store().await);
        kind.execute(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
             VALUES (99, 'later', TRUE, '', 0)",
        )
        .await;
        let refused = Database::connect(&kind.url()).await.unwrap_err();
        assert!(
            matches!(refused, StoreError::Newer { found: 99, .. }),
            "{refused:?}"
        );
        assert!(std::error::Error::source(&refused).is_none(), "said twice");
    }
}

#[tokio::test]
async fn a_store_is_begun_only_where_that_was_asked_for() {
    for kind in Kind::all().await {
        let missing = Database::connect_existing(&kind.url()).await.unwrap_err();
        assert!(matches!(missing, StoreError::Missing), "{missing:?}");
        if let Kind::Sqlite(folder) = &kind {
            assert_eq!(folder.path().read_dir().unwrap().count(), 0);
        }
        kind.store().await;
        Database::connect_existing(&kind.url()).await.unwrap();
    }
}
