//! Waiting for changes.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::harness::{Kind, app, by};

const LONG: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_change_wakes_whoever_watches_another_store_well_within_a_second() {
    for kind in Kind::all().await {
        let (store, other) = (kind.store().await, kind.store().await);
        let mut watch = store.watch();
        watch.changed(LONG).await;
        for _ in 0..3 {
            let start = Instant::now();
            let waiting = tokio::spawn(async move {
                watch.changed(LONG).await;
                watch
            });
            other.create_app(app("one"), &by()).await.unwrap();
            let woken = timeout(Duration::from_millis(800), waiting).await;
            watch = woken.expect("it did not wake").unwrap();
            assert!(start.elapsed() < Duration::from_millis(800));
        }
    }
}

#[tokio::test]
async fn a_watch_returns_after_the_time_given_though_nothing_changes() {
    for kind in Kind::all().await {
        let mut watch = kind.store().await.watch();
        watch.changed(LONG).await;
        let start = Instant::now();
        watch.changed(Duration::from_millis(50)).await;
        let took = start.elapsed();
        assert!(
            took >= Duration::from_millis(50) && took < Duration::from_millis(300),
            "{took:?}"
        );
    }
}

#[tokio::test]
async fn a_watch_on_postgres_sleeps_while_nothing_changes_and_recovers_when_it_is_cut_off() {
    for kind in Kind::all().await {
        let Kind::Postgres(_) = kind else {
            continue;
        };
        let store = kind.store().await;
        let mut watch = store.watch();
        watch.changed(LONG).await;
        assert!(
            timeout(Duration::from_millis(1500), watch.changed(LONG))
                .await
                .is_err(),
            "nothing has changed"
        );
        kind.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        .await;
        // Lost, and listening again; then only changes wake it.
        for _ in 0..2 {
            timeout(Duration::from_secs(2), watch.changed(LONG))
                .await
                .expect("it looks more often while nobody tells it");
        }
        let quiet = timeout(Duration::from_millis(700), watch.changed(LONG)).await;
        assert!(quiet.is_err(), "it listens again");
        let other = kind.store().await;
        other.create_app(app("one"), &by()).await.unwrap();
        timeout(Duration::from_millis(800), watch.changed(LONG))
            .await
            .expect("it is told of changes again");
    }
}
