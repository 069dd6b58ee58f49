//! Apps.

use fanfare_protocol::AppSettings;
use fanfare_store::{NewApp, NewKey, StoreError};
use secrecy::ExposeSecret;

use crate::harness::{Kind, app, by};

#[tokio::test]
async fn an_app_is_created_with_a_key_and_found_again() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let (app, key) = store.create_app(app("one"), &by()).await.expect("create");
        assert!(
            app.id.bytes().all(|b| b.is_ascii_digit()),
            "issued ids are digits: {}",
            app.id
        );
        assert_eq!((key.key.len(), key.secret.expose_secret().len()), (20, 40));
        assert_eq!(store.app(&app.id).await.expect("app"), app);
        assert_eq!(
            store.apps().await.expect("apps"),
            std::slice::from_ref(&app)
        );
        let keys = store.keys(&app.id).await.expect("keys");
        assert_eq!(keys.len(), 1);
        assert_eq!(keys[0].secret.expose_secret(), key.secret.expose_secret());
    }
}

#[tokio::test]
async fn credentials_are_imported_as_they_are_and_only_once() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let import = |id: &str, key: &str| NewApp {
            id: Some(id.into()),
            key: NewKey {
                key: Some(key.into()),
                secret: Some("app-secret".into()),
                ..NewKey::default()
            },
            settings: AppSettings {
                client_events: true,
                ..AppSettings::default()
            },
            ..app("imported")
        };
        let (created, key) = store
            .create_app(import("app-id", "app-key"), &by())
            .await
            .expect("import");
        assert_eq!(
            (created.id.as_str(), key.key.as_str()),
            ("app-id", "app-key")
        );
        assert!(created.settings.client_events);
        let taken_id = store.create_app(import("app-id", "other"), &by()).await;
        assert!(
            matches!(taken_id, Err(StoreError::Conflict(_))),
            "{taken_id:?}"
        );
        let taken_key = store.create_app(import("other", "app-key"), &by()).await;
        assert!(
            matches!(taken_key, Err(StoreError::Conflict(_))),
            "{taken_key:?}"
        );
        let left = store.app("other").await;
        assert!(
            matches!(left, Err(StoreError::NotFound(_))),
            "a refused import leaves nothing: {left:?}"
        );
    }
}

#[tokio::test]
async fn what_cannot_be_stored_is_refused() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        for bad in ["", "a:b", "a/b", ".."] {
            let id = store
                .create_app(
                    NewApp {
                        id: Some(bad.into()),
                        ..app("x")
                    },
                    &by(),
                )
                .await;
            assert!(matches!(id, Err(StoreError::Invalid(_))), "{bad:?}: {id:?}");
            let key = NewKey {
                key: Some(bad.into()),
                ..NewKey::default()
            };
            let key = store.create_app(NewApp { key, ..app("x") }, &by()).await;
            assert!(
                matches!(key, Err(StoreError::Invalid(_))),
                "{bad:?}: {key:?}"
            );
        }
        assert!(matches!(
            store.create_app(app("  "), &by()).await,
            Err(StoreError::Invalid(_))
        ));
        assert!(matches!(
            store.create_key("none", NewKey::default(), &by()).await,
            Err(StoreError::NotFound(_))
        ));
        assert!(store.apps().await.expect("apps").is_empty());
    }
}

#[tokio::test]
async fn an_apps_settings_are_changed_and_seen_by_others() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let (mut app, _) = store.create_app(app("one"), &by()).await.expect("create");
        let before = store.changes_since(0).await.expect("changes").revision;
        app.name = "renamed".into();
        app.settings.set("enabled", "false").expect("a setting");
        app.settings
            .set("limits.presence_members", "7")
            .expect("a setting");
        let updated = store.update_app(&app, None, &by()).await.expect("update");
        let changes = store.changes_since(before).await.expect("changes").apps;
        assert_eq!(changes[0].app, updated);
        assert_eq!(
            (&*updated.name, &updated.settings),
            ("renamed", &app.settings)
        );
        app.id = "none".into();
        assert!(matches!(
            store.update_app(&app, None, &by()).await,
            Err(StoreError::NotFound(_))
        ));
    }
}

#[tokio::test]
async fn an_app_changed_in_the_meantime_is_not_overwritten() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let (mut one, _) = store.create_app(app("one"), &by()).await.unwrap();
        let read = one.revision;
        one.name = "two".into();
        let two = store.update_app(&one, Some(read), &by()).await.unwrap();
        assert!(two.revision > read && two.updated_at >= two.created_at);
        assert_eq!(store.app(&one.id).await.unwrap(), two);
        one.name = "three".into();
        let stale = store.update_app(&one, Some(read), &by()).await;
        assert!(matches!(stale, Err(StoreError::Stale(_))), "{stale:?}");
        assert_eq!(store.app(&one.id).await.unwrap().name, "two");
        store
            .update_app(&one, Some(two.revision), &by())
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn apps_are_listed_in_pages_and_only_those_asked_for() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        for id in ["1", "11", "2", "3", "x%"] {
            let new = NewApp {
                id: Some(id.into()),
                ..app(id)
            };
            store.create_app(new, &by()).await.unwrap();
        }
        let pages = async |only: Option<&[String]>| {
            let (mut after, mut seen) = (None, Vec::new());
            loop {
                let page = store.apps_page(after, 2, only).await.unwrap();
                let Some(last) = page.last() else { break };
                after = Some((last.created_at, last.id.clone()));
                seen.extend(page.into_iter().map(|app| app.id));
            }
            seen.sort();
            seen
        };
        assert_eq!(pages(None).await, ["1", "11", "2", "3", "x%"]);
        let only = ["3", "1", "x%", "none"].map(str::to_owned);
        assert_eq!(pages(Some(&only)).await, ["1", "3", "x%"]);
        assert!(pages(Some(&[])).await.is_empty());
    }
}

#[tokio::test]
async fn a_deleted_app_is_gone_with_its_keys_and_others_learn_of_it() {
    for kind in Kind::all().await {
        let (store, other) = (kind.store().await, kind.store().await);
        let (one, key) = store.create_app(app("one"), &by()).await.unwrap();
        let secret = secrecy::SecretString::from("{}");
        store
            .set_identity(&one.id, Some(&secret), None, &by())
            .await
            .unwrap();
        let known = other.changes_since(0).await.unwrap().revision;
        store.delete_app(&one.id, &by()).await.unwrap();
        let gone = store.app(&one.id).await;
        assert!(matches!(gone, Err(StoreError::NotFound(_))));
        assert!(store.identity(&one.id).await.unwrap().is_none());
        let changes = other.changes_since(known).await.unwrap();
        assert_eq!(
            (changes.deleted, changes.apps.len()),
            (vec![one.id.clone()], 0)
        );
        let again = store.delete_app(&one.id, &by()).await;
        assert!(matches!(again, Err(StoreError::NotFound(_))));
        let anew = NewApp {
            id: Some(one.id.clone()),
            key: NewKey {
                key: Some(key.key),
                ..NewKey::default()
            },
            ..app("anew")
        };
        store.create_app(anew, &by()).await.unwrap();
        for revision in [0, changes.revision] {
            let changes = other.changes_since(revision).await.unwrap();
            assert!(changes.deleted.is_empty(), "it is there again");
            assert_eq!(changes.apps[0].app.id, one.id);
            assert!(changes.apps[0].identity.is_none());
        }
    }
}
