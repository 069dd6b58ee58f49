//! The audit log.

use fanfare_store::{Actor, ActorKind, AuditFilter, AuditRecord, NewKey, Store};
use serde_json::json;

use crate::harness::{Kind, app, by};

fn actions(entries: &[AuditRecord]) -> Vec<&str> {
    entries.iter().map(|entry| &*entry.action).collect()
}

async fn all(store: &Store) -> Vec<AuditRecord> {
    store.audit(&AuditFilter::default(), 1000).await.unwrap()
}

#[tokio::test]
async fn every_change_is_written_down_with_who_made_it_and_what_changed() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let somebody = Actor {
            kind: ActorKind::Operator,
            id: Some("op_1".into()),
            name: "ada@example.com".into(),
            address: Some("192.0.2.1".into()),
        };
        let (mut one, key) = store.create_app(app("one"), &somebody).await.unwrap();
        one.name = "renamed".into();
        one.settings.set("client_events", "true").unwrap();
        store.update_app(&one, None, &somebody).await.unwrap();
        store
            .revoke_key(None, &key.key, &Actor::command_line())
            .await
            .unwrap();
        let entries = all(&store).await;
        assert_eq!(
            actions(&entries),
            ["key.revoke", "app.update", "app.create"]
        );
        assert_eq!(entries[0].actor, Actor::command_line());
        assert_eq!(
            (&*entries[0].target_kind, &*entries[0].target_id),
            ("key", &*key.key)
        );
        let update = &entries[1];
        assert_eq!(update.actor, somebody);
        assert_eq!(update.app_id.as_deref(), Some(&*one.id));
        assert_eq!(
            update.details,
            json!({
                "name": {"before": "one", "after": "renamed"},
                "settings.client_events": {"before": false, "after": true},
            })
        );
        let secret = secrecy::ExposeSecret::expose_secret(&key.secret);
        assert!(!format!("{entries:?}").contains(secret));
    }
}

#[tokio::test]
async fn what_changes_nothing_or_is_refused_is_not_written_down() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let (one, key) = store.create_app(app("one"), &by()).await.unwrap();
        let same = store.update_app(&one, None, &by()).await.unwrap();
        assert_eq!(same, one);
        store
            .update_key(&one.id, &key.key, Some(None), Some(None), None, &by())
            .await
            .unwrap();
        store
            .set_identity(&one.id, None, None, &by())
            .await
            .unwrap();
        let taken = NewKey {
            key: Some(key.key.clone()),
            ..NewKey::default()
        };
        assert!(store.create_key(&one.id, taken, &by()).await.is_err());
        assert!(store.delete_app("none", &by()).await.is_err());
        assert_eq!(actions(&all(&store).await), ["app.create"]);
        let changes = store.changes_since(0).await.unwrap();
        assert_eq!(
            changes.revision, one.revision,
            "and it takes no revision either"
        );
    }
}

#[tokio::test]
async fn entries_are_found_by_app_actor_action_target_and_time() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let (one, key) = store.create_app(app("one"), &by()).await.unwrap();
        let (two, _) = store.create_app(app("two"), &by()).await.unwrap();
        let token = Actor {
            kind: ActorKind::Token,
            id: Some("tok_1".into()),
            ..by()
        };
        store
            .revoke_key(Some(&one.id), &key.key, &token)
            .await
            .unwrap();
        store
            .record(
                &token,
                "session.refuse",
                "operator",
                "nobody",
                None,
                &json!({"why": "x"}),
            )
            .await
            .unwrap();
        let found = async |filter: AuditFilter| {
            let entries = store.audit(&filter, 100).await.unwrap();
            entries
                .into_iter()
                .map(|entry| entry.action)
                .collect::<Vec<_>>()
        };
        let some = |text: &str| Some(text.to_owned());
        let nothing = AuditFilter::default;
        let of_one = found(AuditFilter {
            app: some(&one.id),
            ..nothing()
        });
        assert_eq!(of_one.await, ["key.revoke", "app.create"]);
        for (apps, count) in [
            (vec![one.id.clone()], 2),
            (vec![one.id.clone(), two.id.clone()], 3),
            (vec![one.id[1..].to_owned()], 0),
            (vec![], 0),
        ] {
            let filter = AuditFilter {
                apps: Some(apps.clone()),
                ..nothing()
            };
            assert_eq!(found(filter).await.len(), count, "{apps:?}");
        }
        let by_token = found(AuditFilter {
            actor_id: some("tok_1"),
            ..nothing()
        });
        assert_eq!(by_token.await, ["session.refuse", "key.revoke"]);
        let created = found(AuditFilter {
            action: some("app.create"),
            target_id: some(&two.id),
            ..nothing()
        });
        assert_eq!(created.await, ["app.create"]);
        let entries = all(&store).await;
        let newest = entries[0].at;
        let since = |since, until| AuditFilter {
            since: Some(since),
            until: Some(until),
            ..nothing()
        };
        assert_eq!(found(since(0, newest + 1)).await.len(), 4);
        assert!(found(since(newest + 1, i64::MAX)).await.is_empty());
        assert!(found(since(0, entries[3].at)).await.is_empty());
    }
}

#[tokio::test]
async fn pages_of_the_audit_log_follow_each_other_without_a_gap() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        for number in 0..5 {
            store
                .record(
                    &by(),
                    "app.update",
                    "x",
                    &number.to_string(),
                    None,
                    &json!({}),
                )
                .await
                .unwrap();
        }
        let mut filter = AuditFilter::default();
        let mut seen = Vec::new();
        loop {
            let page = store.audit(&filter, 2).await.unwrap();
            let Some(last) = page.last() else { break };
            filter.before_id = Some(last.id);
            seen.extend(page.into_iter().map(|entry| entry.target_id));
        }
        assert_eq!(seen, ["4", "3", "2", "1", "0"]);
    }
}
