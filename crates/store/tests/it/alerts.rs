//! Alerts are opened once and resolved once, however many nodes see them.

use fanfare_store::{Actor, AuditFilter, NewAlert, Store, StoreError};

use crate::harness::{Kind, by};

fn alert(kind: &str, summary: &str) -> NewAlert {
    NewAlert {
        id: NewAlert::issue_id(),
        kind: kind.into(),
        subject: "a:6001".into(),
        app_id: None,
        summary: summary.into(),
    }
}

async fn actions(store: &Store) -> Vec<String> {
    let entries = store.audit(&AuditFilter::default(), 100).await.unwrap();
    let mut actions: Vec<String> = entries.into_iter().map(|entry| entry.action).collect();
    actions.retain(|action| action.starts_with("alert."));
    actions.reverse();
    actions
}

#[tokio::test]
async fn many_nodes_open_an_alert_once_and_resolve_it_once() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let condition = alert("store_away", "10 s");
        let opened = futures_util::future::join_all((0..4).map(|_| store.open_alert(&condition)));
        let opened: Vec<_> = opened
            .await
            .into_iter()
            .filter_map(Result::unwrap)
            .collect();
        let [opened] = &opened[..] else {
            panic!("{opened:?}")
        };
        assert!(
            store
                .open_alert(&alert("store_away", "20 s"))
                .await
                .unwrap()
                .is_none()
        );
        let listed = store.alerts(10).await.unwrap();
        assert_eq!((listed.len(), &*listed[0].summary), (1, "20 s"));
        assert_eq!(listed[0].id, opened.id);

        let resolved = store
            .resolve_alert("store_away", "a:6001")
            .await
            .unwrap()
            .unwrap();
        assert_eq!(resolved.id, opened.id);
        assert!(resolved.resolved_at.is_some());
        assert!(
            store
                .resolve_alert("store_away", "a:6001")
                .await
                .unwrap()
                .is_none()
        );
        assert_eq!(actions(&store).await, ["alert.open", "alert.resolve"]);
    }
}

#[tokio::test]
async fn a_condition_that_comes_again_is_another_alert_in_the_same_row() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let first = store
            .open_alert(&alert("budget", "1"))
            .await
            .unwrap()
            .unwrap();
        store.resolve_alert("budget", "a:6001").await.unwrap();
        let second = store
            .open_alert(&alert("budget", "2"))
            .await
            .unwrap()
            .unwrap();
        assert_ne!(first.id, second.id);
        assert_eq!(second.resolved_at, None);
        assert_eq!(store.alerts(10).await.unwrap(), [second]);
    }
}

#[tokio::test]
async fn a_silence_lasts_over_occurrences_until_it_is_ended() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let first = store
            .open_alert(&alert("budget", "1"))
            .await
            .unwrap()
            .unwrap();
        assert!(!first.is_silenced());
        let silenced = store
            .silence_alert(&first.id, Some(i64::MAX), &by())
            .await
            .unwrap();
        assert!(silenced.is_silenced());
        store.resolve_alert("budget", "a:6001").await.unwrap();
        let second = store
            .open_alert(&alert("budget", "2"))
            .await
            .unwrap()
            .unwrap();
        assert!(second.is_silenced());
        let heard = store.silence_alert(&second.id, None, &by()).await.unwrap();
        assert!(!heard.is_silenced());
        let unknown = store.silence_alert(&first.id, None, &Actor::system()).await;
        assert!(
            matches!(unknown, Err(StoreError::NotFound(_))),
            "its id was the first one's"
        );
    }
}

#[tokio::test]
async fn alerts_that_no_node_sees_are_found_and_old_ones_deleted() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let opened = store
            .open_alert(&alert("budget", "1"))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(store.unseen_alerts(opened.seen_at).await.unwrap(), []);
        let unseen = store.unseen_alerts(opened.seen_at + 1).await.unwrap();
        assert_eq!(unseen, [opened]);
        store.delete_old_alerts(i64::MAX).await.unwrap();
        assert_eq!(
            store.alerts(10).await.unwrap().len(),
            1,
            "an open one stays"
        );
        store.resolve_alert("budget", "a:6001").await.unwrap();
        store.delete_old_alerts(i64::MAX).await.unwrap();
        assert_eq!(store.alerts(10).await.unwrap(), []);
    }
}
