//! Database.

use fanfare_store::{Database, MasterKey, NewApp, NewKey, StoreError};

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
