//! Database.

use std::sync::atomic::{AtomicBool, Ordering};

use fanfare_store::{Database, MINUTE, MasterKey, NewApp, NewKey, StoreError, UsageMinute};

use crate::harness::{Kind, app, by};

#[tokio::test]
async fn a_wrong_master_key_is_refused_and_changes_nothing() {
    for kind in Kind::all().await {
        assert!(
            !Database::connect(&kind.url())
                .await
                .expect("connect")
                .is_sealed()
                .await
                .expect("sealed")
        );
        let (app, _) = kind
            .store()
            .await
            .create_app(app("one"), &by())
            .await
            .expect("create");
        let database = Database::connect(&kind.url()).await.expect("connect");
        assert!(database.is_sealed().await.expect("sealed"));
        let wrong = database.unlock(MasterKey::random()).await;
        assert!(
            matches!(wrong, Err(StoreError::WrongMasterKey)),
            "{wrong:?}"
        );
        assert_eq!(
            kind.store().await.keys(&app.id).await.expect("keys").len(),
            1
        );
    }
}

#[tokio::test]
async fn secrets_are_not_in_the_database() {
    let kind = Kind::Sqlite(tempfile::tempdir().expect("a folder"));
    let key = NewKey {
        secret: Some("very-secret-text".into()),
        ..NewKey::default()
    };
    kind.store()
        .await
        .create_app(NewApp { key, ..app("one") }, &by())
        .await
        .expect("create");
    let Kind::Sqlite(folder) = &kind else {
        unreachable!()
    };
    for file in std::fs::read_dir(folder.path()).expect("a folder") {
        let bytes = std::fs::read(file.expect("a file").path()).expect("readable");
        assert!(
            !bytes
                .windows(16)
                .any(|window| window == b"very-secret-text")
        );
    }
}

#[tokio::test]
async fn a_url_of_no_known_database_is_refused_in_words() {
    let error = Database::connect("mysql://localhost/x")
        .await
        .expect_err("mysql");
    assert!(
        error.to_string().contains("sqlite: or postgres:"),
        "{error}"
    );
}

#[tokio::test]
async fn a_store_from_before_master_keys_had_ids_opens_with_its_key_only() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        store.create_app(app("one"), &by()).await.unwrap();
        kind.execute("UPDATE installation SET master_key_id = NULL")
            .await;
        let database = Database::connect(&kind.url()).await.unwrap();
        let wrong = database.unlock(MasterKey::random()).await;
        assert!(matches!(wrong, Err(StoreError::WrongMasterKey)));
        let store = kind.store().await;
        store.create_app(app("two"), &by()).await.unwrap();
        assert_eq!(store.changes_since(0).await.unwrap().apps.len(), 2);
    }
}

/// SQLite lets those who wait look now and then whether the writer is done, so that one who writes without a pause would
/// keep all others waiting.
#[tokio::test]
async fn whoever_waits_to_write_gets_a_turn_however_much_another_writes() {
    const TURNS: usize = 10;
    for kind in Kind::all().await {
        let store = kind.store().await;
        let (one, _) = store.create_app(app("one"), &by()).await.unwrap();
        let minutes: Vec<_> = (0..2_000)
            .map(|at| UsageMinute {
                at: at * MINUTE,
                ..UsageMinute::default()
            })
            .collect();
        let done = AtomicBool::new(false);
        let greedy = async {
            let mut written = 0;
            while !done.load(Ordering::Relaxed) {
                store.write_usage("x", 1, &minutes, 0).await.unwrap();
                written += 1;
            }
            written
        };
        let modest = async {
            for turn in 0..TURNS {
                // Some statements are a transaction by themselves.
                match turn % 2 {
                    0 => drop(
                        store
                            .create_key(&one.id, NewKey::default(), &by())
                            .await
                            .unwrap(),
                    ),
                    _ => store.delete_refused_sign_ins(0).await.unwrap(),
                }
            }
            done.store(true, Ordering::Relaxed);
        };
        let (written, ()) = tokio::join!(greedy, modest);
        assert!(
            written <= TURNS + 1,
            "{written} of one against {TURNS} of the other"
        );
    }
}
