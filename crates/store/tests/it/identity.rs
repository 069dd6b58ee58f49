//! Identities.

use fanfare_store::{AuditFilter, StoreError};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use crate::harness::{Kind, app, by};

#[tokio::test]
async fn an_identity_is_set_delivered_with_its_app_and_removed() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let (one, _) = store.create_app(app("one"), &by()).await.unwrap();
        assert!(store.identity(&one.id).await.unwrap().is_none());
        let config = SecretString::from(r#"{"hs256":"very-secret"}"#);
        store
            .set_identity(&one.id, Some(&config), None, &by())
            .await
            .unwrap();
        let found = store.identity(&one.id).await.unwrap().unwrap();
        assert_eq!(found.expose_secret(), config.expose_secret());
        let changes = store.changes_since(one.revision).await.unwrap();
        let delivered = changes.apps[0].identity.as_ref().unwrap();
        assert_eq!(delivered.expose_secret(), config.expose_secret());
        assert!(changes.apps[0].app.revision > one.revision);
        store
            .set_identity(&one.id, None, None, &by())
            .await
            .unwrap();
        assert!(store.identity(&one.id).await.unwrap().is_none());
        let changes = store.changes_since(changes.revision).await.unwrap();
        assert!(changes.apps[0].identity.is_none());
        let entries = store.audit(&AuditFilter::default(), 10).await.unwrap();
        assert_eq!(
            entries[1].details,
            json!({"identity": {"before": false, "after": true}})
        );
        assert!(!format!("{entries:?}").contains("very-secret"));
    }
}

#[tokio::test]
async fn an_identity_is_of_an_app() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let config = SecretString::from("{}");
        let refused = store.set_identity("none", Some(&config), None, &by()).await;
        assert!(matches!(refused, Err(StoreError::NotFound(_))));
    }
}
