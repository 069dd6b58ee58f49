//! Keys that sign our tokens.

use std::collections::HashSet;

use secrecy::ExposeSecret;

use crate::harness::{Kind, by};

#[tokio::test]
async fn the_first_signing_key_is_made_once_however_many_ask() {
    for kind in Kind::all().await {
        let stores = [kind.store().await, kind.store().await];
        let asking = (0..8).map(|number| {
            let store = stores[number % 2].clone();
            tokio::spawn(async move { store.signing_keys().await })
        });
        let mut seen = HashSet::new();
        for asked in asking.collect::<Vec<_>>() {
            let keys = asked.await.unwrap().unwrap();
            assert_eq!(keys.len(), 1);
            assert_eq!(keys[0].secret.expose_secret().len(), 64);
            seen.insert((
                keys[0].id.clone(),
                keys[0].secret.expose_secret().to_owned(),
            ));
        }
        assert_eq!(seen.len(), 1);
    }
}

#[tokio::test]
async fn a_new_key_signs_and_the_old_one_verifies_until_its_end() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let old = store.signing_keys().await.unwrap().remove(0);
        let far = i64::MAX;
        let new = store.rotate_signing_key(far, &by()).await.unwrap();
        let keys = store.signing_keys().await.unwrap();
        let ids: Vec<_> = keys.iter().map(|key| &*key.id).collect();
        assert_eq!(ids, [&*new.id, &*old.id]);
        assert_eq!(keys[1].secret.expose_secret(), old.secret.expose_secret());
        assert_eq!((keys[0].retired_at, keys[1].retired_at), (None, Some(far)));
        let last = store.rotate_signing_key(0, &by()).await.unwrap();
        let keys = store.signing_keys().await.unwrap();
        assert_eq!(keys.len(), 1, "an end in the past is one for all old keys");
        assert_eq!(keys[0].id, last.id);
        assert!(!format!("{keys:?}").contains(last.secret.expose_secret()));
    }
}
