//! Outboxes.

use fanfare_store::{AuditFilter, NewOutbox, OutboxState, StoreError};
use secrecy::ExposeSecret;
use serde_json::json;

use crate::harness::{Kind, app, by};

const URL: &str = "postgres://me:very-secret@db:5432/shop?sslmode=require";

fn outbox(url: &str) -> NewOutbox {
    NewOutbox {
        url: url.into(),
        stream: None,
        poll_interval: 50,
    }
}

fn report(at: i64) -> OutboxState {
    OutboxState {
        node: "a".into(),
        connected: true,
        published: 3,
        reported_at: at,
        ..OutboxState::default()
    }
}

#[tokio::test]
async fn an_outbox_is_set_delivered_with_its_app_and_removed() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let (one, _) = store.create_app(app("one"), &by()).await.unwrap();
        assert!(store.outbox(&one.id).await.unwrap().is_none());
        let set = store
            .set_outbox(&one.id, outbox(URL), None, &by())
            .await
            .unwrap();
        let found = store.outbox(&one.id).await.unwrap().unwrap();
        assert_eq!(found.url.expose_secret(), URL);
        assert_eq!((found.stream, found.poll_interval), (None, 50));
        let changes = store.changes_since(one.revision).await.unwrap();
        let delivered = changes.apps[0].outbox.as_ref().unwrap();
        assert_eq!(delivered.url.expose_secret(), URL);
        assert_eq!(delivered.created_at, set.created_at);
        store.remove_outbox(&one.id, None, &by()).await.unwrap();
        assert!(store.outbox(&one.id).await.unwrap().is_none());
        let changes = store.changes_since(changes.revision).await.unwrap();
        assert!(changes.apps[0].outbox.is_none());
    }
}

#[tokio::test]
async fn the_audit_log_shows_where_an_outbox_is_and_no_credentials() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let (one, _) = store.create_app(app("one"), &by()).await.unwrap();
        let other_password = "postgres://me:new-secret@db:5432/shop?sslmode=require";
        let redis = NewOutbox {
            url: "redis://:redis-secret@cache/1".into(),
            stream: Some("events".into()),
            poll_interval: 100,
        };
        for new in [outbox(URL), outbox(URL), outbox(other_password), redis] {
            store.set_outbox(&one.id, new, None, &by()).await.unwrap();
        }
        store.remove_outbox(&one.id, None, &by()).await.unwrap();
        let entries = store.audit(&AuditFilter::default(), 10).await.unwrap();
        let (postgres, redis) = ("postgres://db:5432/shop", "redis://cache/1");
        let details: Vec<_> = entries
            .iter()
            .rev()
            .skip(1)
            .map(|entry| (entry.action.as_str(), entry.details.clone()))
            .collect();
        assert_eq!(
            details,
            [
                (
                    "outbox.set",
                    json!({"url": postgres, "stream": null, "poll_interval": 50})
                ),
                // The second one was the same, and made no entry.
                (
                    "outbox.set",
                    json!({"url": {"before": postgres, "after": postgres}})
                ),
                (
                    "outbox.set",
                    json!({
                        "url": {"before": postgres, "after": redis},
                        "stream": {"before": null, "after": "events"},
                        "poll_interval": {"before": 50, "after": 100},
                    })
                ),
                (
                    "outbox.remove",
                    json!({"url": redis, "stream": "events", "poll_interval": 100})
                ),
            ]
        );
        assert!(!format!("{entries:?}").contains("secret"));
        assert_eq!(entries[0].target_id, one.id);
    }
}

#[tokio::test]
async fn reports_add_up_until_the_outbox_is_another_one() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let (one, _) = store.create_app(app("one"), &by()).await.unwrap();
        let set = async |url: &str| {
            store
                .set_outbox(&one.id, outbox(url), None, &by())
                .await
                .unwrap()
        };
        set(URL).await;
        assert_eq!(store.outbox_state(&one.id).await.unwrap(), None);
        let first = OutboxState {
            rejected: 1,
            last_event_at: Some(7),
            last_error: Some("refused".into()),
            last_error_at: Some(8),
            ..report(9)
        };
        store.report_outbox(&one.id, &first).await.unwrap();
        assert_eq!(
            store.outbox_state(&one.id).await.unwrap(),
            Some(first.clone())
        );
        let second = OutboxState {
            node: "b".into(),
            backlog: 4,
            backlog_is_exact: true,
            oldest_at: Some(18),
            ..report(19)
        };
        store.report_outbox(&one.id, &second).await.unwrap();
        let both = OutboxState {
            published: 6,
            rejected: 1,
            last_event_at: Some(7),
            last_error: Some("refused".into()),
            last_error_at: Some(8),
            ..second
        };
        assert_eq!(
            store.outbox_state(&one.id).await.unwrap(),
            Some(both.clone())
        );
        // Other credentials for the same place.
        set("postgres://me:new@db:5432/shop").await;
        assert_eq!(store.outbox_state(&one.id).await.unwrap(), Some(both));
        set("postgres://me:new@db:5432/other").await;
        assert_eq!(store.outbox_state(&one.id).await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_report_of_an_outbox_that_was_removed_has_no_effect() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let (one, _) = store.create_app(app("one"), &by()).await.unwrap();
        let set = async || {
            store
                .set_outbox(&one.id, outbox(URL), None, &by())
                .await
                .unwrap()
        };
        set().await;
        store.report_outbox(&one.id, &report(1)).await.unwrap();
        store.remove_outbox(&one.id, None, &by()).await.unwrap();
        store.report_outbox(&one.id, &report(2)).await.unwrap();
        assert_eq!(store.outbox_state(&one.id).await.unwrap(), None);
        set().await;
        assert_eq!(store.outbox_state(&one.id).await.unwrap(), None);
        store.report_outbox(&one.id, &report(3)).await.unwrap();
        store.delete_app(&one.id, &by()).await.unwrap();
        assert!(store.outbox(&one.id).await.unwrap().is_none());
        store.report_outbox(&one.id, &report(4)).await.unwrap();
        assert_eq!(store.outbox_state(&one.id).await.unwrap(), None);
        assert_eq!(kind.number("SELECT COUNT(*) FROM outbox_states").await, 0);
    }
}

#[tokio::test]
async fn an_outbox_is_of_an_app_that_nobody_changed_meanwhile_and_keeps_the_rules() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let (one, _) = store.create_app(app("one"), &by()).await.unwrap();
        let refused = store.set_outbox("none", outbox(URL), None, &by()).await;
        assert!(matches!(refused, Err(StoreError::NotFound(_))));
        let stale = Some(one.revision + 1);
        let refused = store.set_outbox(&one.id, outbox(URL), stale, &by()).await;
        assert!(matches!(refused, Err(StoreError::Stale(_))));
        let none = store.remove_outbox(&one.id, None, &by()).await;
        assert!(matches!(none, Err(StoreError::NotFound(_))));
        for invalid in [
            NewOutbox {
                poll_interval: 4,
                ..outbox(URL)
            },
            NewOutbox {
                poll_interval: 60_001,
                ..outbox(URL)
            },
        ] {
            let refused = store.set_outbox(&one.id, invalid, None, &by()).await;
            assert!(matches!(refused, Err(StoreError::Invalid(_))));
        }
        assert_eq!(store.app(&one.id).await.unwrap().revision, one.revision);
    }
}

#[tokio::test]
async fn an_outbox_that_does_not_open_leaves_its_app_and_may_be_replaced_or_removed() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let (one, _) = store.create_app(app("one"), &by()).await.unwrap();
        let set = async || store.set_outbox(&one.id, outbox(URL), None, &by()).await;
        let damage = || kind.execute("UPDATE outboxes SET url = (SELECT secret FROM keys)");
        set().await.unwrap();
        damage().await;
        assert!(store.outbox(&one.id).await.is_err());
        let changed = store.changes_since(0).await.unwrap().apps.remove(0);
        assert!(changed.outbox.is_none());
        assert_eq!(changed.keys.len(), 1);
        set().await.unwrap();
        assert!(store.outbox(&one.id).await.unwrap().is_some());
        damage().await;
        store.remove_outbox(&one.id, None, &by()).await.unwrap();
    }
}
