//! Demo.

use fanfare_store::StoreError;

use crate::harness::{Kind, by};

#[tokio::test]
async fn the_demo_app_is_made_once_and_found_again() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        assert!(store.is_pristine().await.expect("pristine"));
        assert!(store.demo_app().await.expect("demo").is_none());
        let (app, key) = store.create_demo_app(&by()).await.expect("create");
        let (found, found_key) = store.demo_app().await.expect("demo").expect("there is one");
        assert_eq!((found.id, found_key.key), (app.id, key.key.clone()));
        assert!(!store.is_pristine().await.expect("pristine"));
        let second = store.create_demo_app(&by()).await;
        assert!(matches!(second, Err(StoreError::Conflict(_))), "{second:?}");
        store
            .revoke_key(None, &key.key, &by())
            .await
            .expect("revoke");
        assert!(
            store.demo_app().await.expect("demo").is_none(),
            "without an active key there is no demo"
        );
    }
}
