//! Keys.

use fanfare_store::{KeyUse, NewKey, StoreError};

use crate::harness::{Kind, app, by};

#[tokio::test]
async fn an_app_has_several_keys_and_a_revoked_one_stays_revoked() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let (app, first) = store.create_app(app("one"), &by()).await.expect("create");
        let second = store
            .create_key(&app.id, NewKey::default(), &by())
            .await
            .expect("key");
        store
            .revoke_key(None, &first.key, &by())
            .await
            .expect("revoke");
        assert!(matches!(
            store.revoke_key(None, &first.key, &by()).await,
            Err(StoreError::Conflict(_))
        ));
        assert!(matches!(
            store.revoke_key(None, "none", &by()).await,
            Err(StoreError::NotFound(_))
        ));
        let keys = store.keys(&app.id).await.expect("keys");
        let active: Vec<_> = keys
            .iter()
            .filter(|key| key.revoked_at.is_none())
            .map(|key| &key.key)
            .collect();
        assert_eq!(active, [&second.key]);
    }
}

#[tokio::test]
async fn a_key_has_a_label_and_an_end_which_can_be_changed() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let (one, _) = store.create_app(app("one"), &by()).await.unwrap();
        let new = NewKey {
            label: Some(" web ".into()),
            expires_at: Some(i64::MAX),
            ..NewKey::default()
        };
        let key = store.create_key(&one.id, new, &by()).await.unwrap();
        assert_eq!(key.label.as_deref(), Some("web"));
        assert!(key.is_active());
        let update = async |label, expires_at| {
            store
                .update_key(&one.id, &key.key, label, expires_at, None, &by())
                .await
        };
        let changed = update(Some(Some("mobile".into())), None).await.unwrap();
        assert_eq!(
            (changed.label.as_deref(), changed.expires_at),
            (Some("mobile"), Some(i64::MAX))
        );
        let known = store.changes_since(0).await.unwrap().revision;
        let expired = update(None, Some(Some(1))).await.unwrap();
        assert!(!expired.is_active());
        let changes = store.changes_since(known).await.unwrap();
        assert_eq!(changes.apps[0].keys.len(), 1, "an expired key is left out");
        let back = update(Some(None), Some(None)).await.unwrap();
        assert!(back.is_active() && back.label.is_none());
        let bad = update(Some(Some("x".repeat(201))), None).await;
        assert!(matches!(bad, Err(StoreError::Invalid(_))));
        let past = NewKey {
            expires_at: Some(1_700_000_000),
            ..NewKey::default()
        };
        let past = store.create_key(&one.id, past, &by()).await;
        assert!(matches!(past, Err(StoreError::Invalid(_))));
    }
}

#[tokio::test]
async fn a_key_is_changed_and_revoked_only_as_the_key_of_its_app() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let (one, key) = store.create_app(app("one"), &by()).await.unwrap();
        let (two, _) = store.create_app(app("two"), &by()).await.unwrap();
        let wrong = store.revoke_key(Some(&two.id), &key.key, &by()).await;
        assert!(matches!(wrong, Err(StoreError::NotFound(_))));
        let label = Some(Some("x".to_owned()));
        let wrong = store
            .update_key(&two.id, &key.key, label.clone(), None, None, &by())
            .await;
        assert!(matches!(wrong, Err(StoreError::NotFound(_))));
        store
            .revoke_key(Some(&one.id), &key.key, &by())
            .await
            .unwrap();
        let revoked = store
            .update_key(&one.id, &key.key, label, None, None, &by())
            .await;
        assert!(matches!(revoked, Err(StoreError::Conflict(_))));
    }
}

#[tokio::test]
async fn the_latest_use_of_a_key_is_kept_and_is_no_change() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let (one, key) = store.create_app(app("one"), &by()).await.unwrap();
        let used = |at, from: &str| KeyUse {
            key: key.key.clone(),
            at,
            from: Some(from.into()),
        };
        let unknown = KeyUse {
            key: "none".into(),
            ..used(9, "x")
        };
        store
            .note_key_uses(&[used(7, "b"), unknown, used(5, "a")])
            .await
            .unwrap();
        store.note_key_uses(&[used(6, "c")]).await.unwrap();
        let found = store.keys(&one.id).await.unwrap().remove(0);
        assert_eq!(
            (found.last_used_at, found.last_used_from.as_deref()),
            (Some(7), Some("b"))
        );
        assert_eq!(store.changes_since(0).await.unwrap().revision, one.revision);
    }
}

#[tokio::test]
async fn nodes_that_note_uses_of_the_same_keys_do_not_get_in_each_others_way() {
    for kind in Kind::all().await {
        let stores = [kind.store().await, kind.store().await];
        let (one, first) = stores[0].create_app(app("one"), &by()).await.unwrap();
        let mut keys = vec![first.key];
        for _ in 0..4 {
            let new = stores[0]
                .create_key(&one.id, NewKey::default(), &by())
                .await;
            keys.push(new.unwrap().key);
        }
        let noting = stores.into_iter().enumerate().map(|(number, store)| {
            let mut keys = keys.clone();
            if number == 1 {
                keys.reverse();
            }
            tokio::spawn(async move {
                for at in 0..50 {
                    let used = |key: &String| KeyUse {
                        key: key.clone(),
                        at,
                        from: None,
                    };
                    let uses: Vec<_> = keys.iter().map(used).collect();
                    store.note_key_uses(&uses).await.unwrap();
                }
            })
        });
        for noted in noting.collect::<Vec<_>>() {
            noted.await.unwrap();
        }
    }
}
