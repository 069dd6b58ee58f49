//! Changes.

use fanfare_store::{DAY, FORMER_KEY_DAYS, MAX_FORMER_KEYS, NewKey};
use sqlx::Executor;

use crate::harness::{Kind, app, by};

#[tokio::test]
async fn changes_are_seen_once_by_whoever_asks_since_when() {
    for kind in Kind::all().await {
        let (store, other) = (kind.store().await, kind.store().await);
        let start = store.changes_since(0).await.expect("changes");
        assert!(start.apps.is_empty());
        let (app, first) = other.create_app(app("one"), &by()).await.expect("create");
        let created = store.changes_since(start.revision).await.expect("changes");
        assert_eq!(created.apps.len(), 1);
        assert_eq!(created.apps[0].keys[0].key, first.key);
        assert!(
            store
                .changes_since(created.revision)
                .await
                .expect("changes")
                .apps
                .is_empty()
        );
        other
            .revoke_key(None, &first.key, &by())
            .await
            .expect("revoke");
        let revoked = store
            .changes_since(created.revision)
            .await
            .expect("changes");
        assert_eq!(revoked.apps[0].app.id, app.id);
        assert!(
            revoked.apps[0].keys.is_empty(),
            "a revoked key is not active"
        );
        assert_eq!(store.changes_since(0).await.expect("changes").apps.len(), 1);
    }
}

#[tokio::test]
async fn keys_that_ended_lately_are_named_with_their_end() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let (app, revoked) = store.create_app(app("one"), &by()).await.expect("create");
        let mut keys = Vec::new();
        for _ in 0..3 {
            let key = store.create_key(&app.id, NewKey::default(), &by()).await;
            keys.push(key.expect("key").key);
        }
        let [expired, revoked_later, long_ago] = &keys[..] else {
            unreachable!()
        };
        let set_expiry = async |key: &str, at: Option<i64>| {
            store
                .update_key(&app.id, key, None, Some(at), None, &by())
                .await
                .expect("update");
        };
        let now = revoked.created_at;
        set_expiry(expired, Some(now - 2000)).await;
        set_expiry(revoked_later, Some(now - 3000)).await;
        set_expiry(long_ago, Some(now - FORMER_KEY_DAYS * DAY - 1)).await;
        for key in [&revoked.key, revoked_later] {
            store.revoke_key(None, key, &by()).await.expect("revoke");
        }
        let changed = store
            .changes_since(0)
            .await
            .expect("changes")
            .apps
            .remove(0);
        assert!(changed.keys.is_empty());
        let former: Vec<_> = changed
            .former_keys
            .iter()
            .map(|former| (former.key.as_str(), former.is_revoked(), former.ended_at()))
            .collect();
        let revoked_at = former[0].2;
        assert!(revoked_at >= now);
        assert_eq!(
            former,
            [
                (revoked.key.as_str(), true, revoked_at),
                (expired.as_str(), false, now - 2000),
                (revoked_later.as_str(), false, now - 3000),
            ]
        );
        set_expiry(expired, None).await;
        let changed = store
            .changes_since(0)
            .await
            .expect("changes")
            .apps
            .remove(0);
        assert_eq!(changed.keys[0].key, *expired);
        assert_eq!(changed.former_keys.len(), 2);
    }
}

#[tokio::test]
async fn an_app_with_many_former_keys_names_the_last_of_them() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let (app, first) = store.create_app(app("one"), &by()).await.expect("create");
        for ago in 1..=i64::try_from(MAX_FORMER_KEYS).unwrap() + 1 {
            let key = NewKey {
                key: Some(format!("key-{ago}")),
                ..NewKey::default()
            };
            let key = store.create_key(&app.id, key, &by()).await.expect("key");
            let at = Some(Some(first.created_at - ago));
            store
                .update_key(&app.id, &key.key, None, at, None, &by())
                .await
                .expect("expired");
        }
        let changed = store
            .changes_since(0)
            .await
            .expect("changes")
            .apps
            .remove(0);
        let named: Vec<_> = changed
            .former_keys
            .iter()
            .map(|former| former.key.clone())
            .collect();
        let expected: Vec<_> = (1..=MAX_FORMER_KEYS)
            .map(|ago| format!("key-{ago}"))
            .collect();
        assert_eq!(named, expected);
    }
}

#[tokio::test]
async fn writers_of_several_processes_do_not_lose_each_others_changes() {
    for kind in Kind::all().await {
        let stores = [kind.store().await, kind.store().await];
        let writers = (0..20).map(|number| {
            let store = stores[number % 2].clone();
            tokio::spawn(async move {
                store
                    .create_app(app(&format!("app {number}")), &by())
                    .await
                    .map(|_| ())
            })
        });
        for writer in writers.collect::<Vec<_>>() {
            writer.await.expect("join").expect("create");
        }
        assert_eq!(
            stores[0]
                .changes_since(0)
                .await
                .expect("changes")
                .apps
                .len(),
            20
        );
    }
}

#[tokio::test]
async fn an_app_that_changes_while_it_is_read_never_seems_to_have_no_key() {
    for kind in Kind::all().await {
        let (store, other) = (kind.store().await, kind.store().await);
        let (app, _) = store.create_app(app("one"), &by()).await.expect("create");
        let id = app.id.clone();
        let writer = tokio::spawn(async move {
            for _ in 0..200 {
                other
                    .create_key(&id, NewKey::default(), &by())
                    .await
                    .expect("key");
            }
        });
        while !writer.is_finished() {
            for changed in store.changes_since(0).await.expect("changes").apps {
                assert!(!changed.keys.is_empty());
            }
        }
        writer.await.expect("the writer");
    }
}

#[tokio::test]
async fn a_secret_that_does_not_open_leaves_out_its_key_and_nothing_else() {
    let kind = Kind::Sqlite(tempfile::tempdir().expect("a folder"));
    let store = kind.store().await;
    let (broken, _) = store
        .create_app(app("broken"), &by())
        .await
        .expect("create");
    let (sound, key) = store.create_app(app("sound"), &by()).await.expect("create");
    let pool = sqlx::SqlitePool::connect(&kind.url())
        .await
        .expect("the file");
    let damage = sqlx::query("UPDATE keys SET secret = x'00' WHERE app_id = $1").bind(&broken.id);
    pool.execute(damage).await.expect("damage");
    let apps = store.changes_since(0).await.expect("changes").apps;
    let keys = |id: &str| {
        apps.iter()
            .find(|changed| changed.app.id == id)
            .map(|changed| changed.keys.len())
    };
    assert_eq!((keys(&broken.id), keys(&sound.id)), (Some(0), Some(1)));
    assert_eq!(store.keys(&sound.id).await.expect("keys")[0].key, key.key);
}
