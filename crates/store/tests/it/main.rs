//! Every function of the store, on SQLite and on Postgres. Postgres runs where `FANFARE_TEST_POSTGRES` holds the URL of
//! a server on which databases may be created.

use std::sync::atomic::{AtomicU32, Ordering};

use fanfare_protocol::AppSettings;
use fanfare_store::{Database, MasterKey, NewApp, NewKey, Store, StoreError};
use secrecy::ExposeSecret;
use sqlx::Executor;

const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// An empty database of each kind, in turn.
enum Kind {
    Sqlite(tempfile::TempDir),
    Postgres(String),
}

impl Kind {
    #[expect(
        clippy::disallowed_methods,
        reason = "tells whether there is a Postgres to test with"
    )]
    async fn all() -> Vec<Self> {
        let mut kinds = vec![Self::Sqlite(tempfile::tempdir().expect("a folder"))];
        match std::env::var("FANFARE_TEST_POSTGRES") {
            Ok(server) => kinds.push(Self::Postgres(create_database(&server).await)),
            Err(_) => eprintln!("SKIPPED on Postgres: FANFARE_TEST_POSTGRES is not set"),
        }
        kinds
    }

    fn url(&self) -> String {
        match self {
            Self::Sqlite(folder) => {
                format!("sqlite:{}", folder.path().join("fanfare.db").display())
            }
            Self::Postgres(url) => url.clone(),
        }
    }

    async fn store(&self) -> Store {
        let database = Database::connect(&self.url()).await.expect("connect");
        database
            .unlock(MasterKey::parse(KEY).expect("a key"))
            .await
            .expect("unlock")
    }
}

async fn create_database(server: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!(
        "conformance_{}_{}",
        std::process::id(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    );
    let pool = sqlx::PgPool::connect(&format!("{server}/postgres"))
        .await
        .expect("the server of FANFARE_TEST_POSTGRES");
    let create = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
    pool.execute(sqlx::query(create))
        .await
        .expect("create a database");
    format!("{server}/{name}")
}

fn app(name: &str) -> NewApp {
    NewApp {
        name: name.into(),
        ..NewApp::default()
    }
}

#[tokio::test]
async fn an_app_is_created_with_a_key_and_found_again() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let (app, key) = store.create_app(app("one")).await.expect("create");
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
            },
            settings: AppSettings {
                client_events: true,
                ..AppSettings::default()
            },
            ..app("imported")
        };
        let (created, key) = store
            .create_app(import("app-id", "app-key"))
            .await
            .expect("import");
        assert_eq!(
            (created.id.as_str(), key.key.as_str()),
            ("app-id", "app-key")
        );
        assert!(created.settings.client_events);
        let taken_id = store.create_app(import("app-id", "other")).await;
        assert!(
            matches!(taken_id, Err(StoreError::Conflict(_))),
            "{taken_id:?}"
        );
        let taken_key = store.create_app(import("other", "app-key")).await;
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
                .create_app(NewApp {
                    id: Some(bad.into()),
                    ..app("x")
                })
                .await;
            assert!(matches!(id, Err(StoreError::Invalid(_))), "{bad:?}: {id:?}");
            let key = NewKey {
                key: Some(bad.into()),
                secret: None,
            };
            let key = store.create_app(NewApp { key, ..app("x") }).await;
            assert!(
                matches!(key, Err(StoreError::Invalid(_))),
                "{bad:?}: {key:?}"
            );
        }
        assert!(matches!(
            store.create_app(app("  ")).await,
            Err(StoreError::Invalid(_))
        ));
        assert!(matches!(
            store.create_key("none", NewKey::default()).await,
            Err(StoreError::NotFound(_))
        ));
        assert!(store.apps().await.expect("apps").is_empty());
    }
}

#[tokio::test]
async fn an_app_has_several_keys_and_a_revoked_one_stays_revoked() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let (app, first) = store.create_app(app("one")).await.expect("create");
        let second = store
            .create_key(&app.id, NewKey::default())
            .await
            .expect("key");
        store.revoke_key(&first.key).await.expect("revoke");
        assert!(matches!(
            store.revoke_key(&first.key).await,
            Err(StoreError::Conflict(_))
        ));
        assert!(matches!(
            store.revoke_key("none").await,
            Err(StoreError::NotFound(_))
        ));
        let keys = store.keys(&app.id).await.expect("keys");
        let in_force: Vec<_> = keys
            .iter()
            .filter(|key| key.revoked_at.is_none())
            .map(|key| &key.key)
            .collect();
        assert_eq!(in_force, [&second.key]);
    }
}

#[tokio::test]
async fn changes_are_seen_once_by_whoever_asks_since_when() {
    for kind in Kind::all().await {
        let (store, other) = (kind.store().await, kind.store().await);
        let start = store.changes_since(0).await.expect("changes");
        assert!(start.apps.is_empty());
        let (app, first) = other.create_app(app("one")).await.expect("create");
        let created = store.changes_since(start.revision).await.expect("changes");
        assert_eq!(created.apps.len(), 1);
        assert_eq!(created.apps[0].1[0].key, first.key);
        assert!(
            store
                .changes_since(created.revision)
                .await
                .expect("changes")
                .apps
                .is_empty()
        );
        other.revoke_key(&first.key).await.expect("revoke");
        let revoked = store
            .changes_since(created.revision)
            .await
            .expect("changes");
        assert_eq!(revoked.apps[0].0.id, app.id);
        assert!(
            revoked.apps[0].1.is_empty(),
            "a revoked key is not in force"
        );
        assert_eq!(store.changes_since(0).await.expect("changes").apps.len(), 1);
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
                    .create_app(app(&format!("app {number}")))
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
            .create_app(app("one"))
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
        key: None,
        secret: Some("very-secret-text".into()),
    };
    kind.store()
        .await
        .create_app(NewApp { key, ..app("one") })
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
async fn the_demo_app_is_made_once_and_found_again() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        assert!(store.is_pristine().await.expect("pristine"));
        assert!(store.demo_app().await.expect("demo").is_none());
        let (app, key) = store.create_demo_app().await.expect("create");
        let (found, found_key) = store.demo_app().await.expect("demo").expect("there is one");
        assert_eq!((found.id, found_key.key), (app.id, key.key.clone()));
        assert!(!store.is_pristine().await.expect("pristine"));
        let second = store.create_demo_app().await;
        assert!(matches!(second, Err(StoreError::Conflict(_))), "{second:?}");
        store.revoke_key(&key.key).await.expect("revoke");
        assert!(
            store.demo_app().await.expect("demo").is_none(),
            "without a key in force there is no demo"
        );
    }
}

#[tokio::test]
async fn an_app_that_changes_while_it_is_read_never_seems_to_have_no_key() {
    for kind in Kind::all().await {
        let (store, other) = (kind.store().await, kind.store().await);
        let (app, _) = store.create_app(app("one")).await.expect("create");
        let id = app.id.clone();
        let writer = tokio::spawn(async move {
            for _ in 0..200 {
                other.create_key(&id, NewKey::default()).await.expect("key");
            }
        });
        while !writer.is_finished() {
            for (_, keys) in store.changes_since(0).await.expect("changes").apps {
                assert!(!keys.is_empty());
            }
        }
        writer.await.expect("the writer");
    }
}

#[tokio::test]
async fn a_secret_that_does_not_open_leaves_out_its_key_and_nothing_else() {
    let kind = Kind::Sqlite(tempfile::tempdir().expect("a folder"));
    let store = kind.store().await;
    let (broken, _) = store.create_app(app("broken")).await.expect("create");
    let (sound, key) = store.create_app(app("sound")).await.expect("create");
    let pool = sqlx::SqlitePool::connect(&kind.url())
        .await
        .expect("the file");
    let damage = sqlx::query("UPDATE keys SET secret = x'00' WHERE app_id = $1").bind(&broken.id);
    pool.execute(damage).await.expect("damage");
    let apps = store.changes_since(0).await.expect("changes").apps;
    let keys = |id: &str| {
        apps.iter()
            .find(|(app, _)| app.id == id)
            .map(|(_, keys)| keys.len())
    };
    assert_eq!((keys(&broken.id), keys(&sound.id)), (Some(0), Some(1)));
    assert_eq!(store.keys(&sound.id).await.expect("keys")[0].key, key.key);
}

#[tokio::test]
async fn an_apps_settings_are_changed_and_seen_by_others() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let (mut app, _) = store.create_app(app("one")).await.expect("create");
        let before = store.changes_since(0).await.expect("changes").revision;
        app.name = "renamed".into();
        app.settings.set("enabled", "false").expect("a setting");
        app.settings
            .set("limits.presence_members", "7")
            .expect("a setting");
        store.update_app(&app).await.expect("update");
        let changes = store.changes_since(before).await.expect("changes").apps;
        assert_eq!(changes[0].0, app);
        app.id = "none".into();
        assert!(matches!(
            store.update_app(&app).await,
            Err(StoreError::NotFound(_))
        ));
    }
}
