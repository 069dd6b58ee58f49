//! Another master key for the whole installation.

use fanfare_store::{Database, MasterKey, NewKey, NewOutbox, Reservation, Store, StoreError};
use secrecy::{ExposeSecret, SecretString};

use crate::harness::{KEY, Kind, app, by};

/// A store with one secret of each kind.
async fn filled(kind: &Kind) -> (Store, String) {
    let store = kind.store().await;
    let (one, _) = store.create_app(app("one"), &by()).await.unwrap();
    let secret = SecretString::from("{}");
    store
        .set_identity(&one.id, Some(&secret), None, &by())
        .await
        .unwrap();
    let outbox = NewOutbox {
        url: "postgres://me:secret@db/app".into(),
        stream: None,
        poll_interval: 50,
    };
    store
        .set_outbox(&one.id, outbox, None, &by())
        .await
        .unwrap();
    store.signing_keys().await.unwrap();
    store.reserve_answer("op", "k", b"x").await.unwrap();
    store.save_answer("op", "k", 201, &secret).await.unwrap();
    store.reserve_answer("op", "pending", b"x").await.unwrap();
    (store, one.id)
}

#[tokio::test]
async fn everything_opens_with_the_new_master_key_and_nothing_with_the_old_one() {
    for kind in Kind::all().await {
        let (store, app_id) = filled(&kind).await;
        let (old_key, old_signing) = (
            store.keys(&app_id).await.unwrap().remove(0),
            store.signing_keys().await.unwrap().remove(0),
        );
        let new = MasterKey::random();
        let (store, resealed) = store.rotate_master_key(&new, &by()).await.unwrap();
        assert_eq!(resealed, 7);
        let reopened = Database::connect(&kind.url()).await.unwrap();
        for store in [store, reopened.unlock(new).await.unwrap()] {
            let key = store.keys(&app_id).await.unwrap().remove(0);
            assert_eq!(key.secret.expose_secret(), old_key.secret.expose_secret());
            let signing = store.signing_keys().await.unwrap().remove(0);
            assert_eq!(
                signing.secret.expose_secret(),
                old_signing.secret.expose_secret()
            );
            assert!(store.identity(&app_id).await.unwrap().is_some());
            assert!(store.outbox(&app_id).await.unwrap().is_some());
            let answer = store.reserve_answer("op", "k", b"x").await.unwrap();
            assert!(matches!(answer, Reservation::Answered { status: 201, .. }));
            let changes = store.changes_since(0).await.unwrap();
            assert_eq!(changes.apps[0].keys.len(), 1);
            store.create_app(app("two"), &by()).await.unwrap();
        }
        let database = Database::connect(&kind.url()).await.unwrap();
        let old = database.unlock(MasterKey::parse(KEY).unwrap()).await;
        assert!(matches!(old, Err(StoreError::WrongMasterKey)), "{old:?}");
    }
}

#[tokio::test]
async fn a_process_with_the_old_key_changes_nothing_and_forgets_nothing() {
    for kind in Kind::all().await {
        let (store, app_id) = filled(&kind).await;
        let other = kind.store().await;
        store.reserve_answer("op", "late", b"x").await.unwrap();
        let (store, _) = store
            .rotate_master_key(&MasterKey::random(), &by())
            .await
            .unwrap();
        let secret = SecretString::from("{}");
        let refusals = [
            other.create_app(app("x"), &by()).await.err(),
            other
                .create_key(&app_id, NewKey::default(), &by())
                .await
                .err(),
            other
                .set_identity(&app_id, Some(&secret), None, &by())
                .await
                .err(),
            other.rotate_signing_key(0, &by()).await.err(),
            other.save_answer("op", "late", 200, &secret).await.err(),
            other.changes_since(0).await.err(),
            other
                .rotate_master_key(&MasterKey::random(), &by())
                .await
                .err(),
        ];
        for refusal in refusals {
            assert!(
                matches!(refusal, Some(StoreError::WrongMasterKey)),
                "{refusal:?}"
            );
        }
        assert_eq!(store.apps().await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn writers_during_the_change_lose_nothing_and_seal_nothing_with_the_old_key() {
    for kind in Kind::all().await {
        let (store, app_id) = filled(&kind).await;
        let other = kind.store().await;
        let id = app_id.clone();
        let writer = tokio::spawn(async move {
            let mut made = 0;
            while other
                .create_key(&id, NewKey::default(), &by())
                .await
                .is_ok()
            {
                made += 1;
            }
            made
        });
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        let new = MasterKey::random();
        let (store, _) = store.rotate_master_key(&new, &by()).await.unwrap();
        let made = writer.await.unwrap();
        assert_eq!(store.keys(&app_id).await.unwrap().len(), 1 + made);
    }
}

#[tokio::test]
async fn a_secret_that_does_not_open_stops_the_change_and_nothing_was_changed() {
    for kind in Kind::all().await {
        let (store, app_id) = filled(&kind).await;
        let broken = NewKey {
            key: Some("zzz".into()),
            ..NewKey::default()
        };
        store.create_key(&app_id, broken, &by()).await.unwrap();
        kind.execute(
            "UPDATE keys SET secret = (SELECT secret FROM keys WHERE key <> 'zzz') WHERE key = 'zzz'",
        )
        .await;
        let refused = store.rotate_master_key(&MasterKey::random(), &by()).await;
        let Err(StoreError::Conflict(text)) = refused else {
            panic!("{refused:?}")
        };
        assert!(text.contains("zzz"), "{text}");
        let store = kind.store().await;
        assert!(store.identity(&app_id).await.unwrap().is_some());
        assert_eq!(store.changes_since(0).await.unwrap().apps[0].keys.len(), 1);
    }
}
