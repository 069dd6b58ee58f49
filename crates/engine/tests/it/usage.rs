//! What each app did since it was asked last.

use std::sync::Arc;
use std::time::Duration;

use fanfare_engine::NodeUsage;
use fanfare_engine::testing::definition;
use fanfare_protocol::AppSettings;
use serde_json::json;

use crate::node::{Client, Node, options, settle, with_node, with_options};

/// The numbers of the test's app: connections, deliveries, client events, published events and users.
fn numbers(usage: &NodeUsage) -> Option<[u64; 5]> {
    let (_, app) = usage.apps.iter().find(|(id, _)| id.as_str() == "1")?;
    Some([
        app.connections,
        app.clients.deliveries,
        app.clients.client_events,
        app.backend.events,
        app.users.estimate(),
    ])
}

async fn subscribed(node: &Node, channel: &str) -> Client {
    let client = node.connect();
    client.subscribe(channel).await;
    client
}

#[test]
fn usage_is_what_came_since_it_was_taken_last_over_all_shards() {
    with_node(2, async |node| {
        let one = subscribed(&node, "private-a").await;
        let _two = subscribed(&node, "private-a").await;
        node.publish("private-a", "e", "x").await;
        let taken = node.engine.take_usage().await;
        assert_eq!(numbers(&taken), Some([2, 2, 0, 1, 0]));
        one.send(&json!({"event": "client-e", "channel": "private-a", "data": {}}))
            .await;
        let taken = node.engine.take_usage().await;
        assert_eq!(numbers(&taken), Some([2, 1, 1, 0, 0]));
        let taken = node.engine.take_usage().await;
        assert_eq!(numbers(&taken), Some([2, 0, 0, 0, 0]), "they are there");
    });
}

#[test]
fn apps_without_connections_and_traffic_are_not_listed() {
    with_node(1, async |node| {
        let others = (2..1000)
            .map(|n| definition(&n.to_string(), &format!("key-{n}"), AppSettings::default()));
        node.engine.update_apps(others.collect(), &[]);
        assert!(node.engine.take_usage().await.apps.is_empty());
        let mut client = subscribed(&node, "a").await;
        client.leave().await;
        let taken = node.engine.take_usage().await;
        assert_eq!(taken.apps.len(), 1);
        assert_eq!(numbers(&taken), Some([0; 5]), "it was there in between");
        assert!(node.engine.take_usage().await.apps.is_empty());
        node.publish("a", "e", "x").await;
        assert_eq!(
            numbers(&node.engine.take_usage().await),
            Some([0, 0, 0, 1, 0])
        );
        assert!(node.engine.take_usage().await.apps.is_empty());
    });
}

#[test]
fn what_a_deleted_app_did_is_taken_once_more() {
    with_node(1, async |node| {
        let mut client = subscribed(&node, "a").await;
        let app = node.app();
        node.publish("a", "e", "x").await;
        node.engine.update_apps(vec![], &["1".into()]);
        settle().await;
        client.leave().await;
        let taken = node.engine.take_usage().await;
        assert_eq!(numbers(&taken), Some([0, 1, 0, 1, 0]));
        assert!(node.engine.take_usage().await.apps.is_empty());
        drop(app);
    });
}

#[test]
fn what_an_app_published_counts_after_it_is_let_go() {
    with_node(1, async |node| {
        node.publish("a", "e", "x").await;
        let app = Arc::downgrade(&node.app());
        node.engine.update_apps(vec![], &["1".into()]);
        settle().await;
        assert!(app.upgrade().is_none());
        let taken = node.engine.take_usage().await;
        assert_eq!(numbers(&taken), Some([0, 0, 0, 1, 0]));
        assert!(node.engine.take_usage().await.apps.is_empty());
    });
}

#[test]
fn a_user_counts_when_they_come_and_while_they_stay() {
    with_node(2, async |node| {
        let one = node.connect();
        let two = node.connect();
        for client in [&one, &two] {
            client.join("presence-a", r#"{"user_id":"ann"}"#).await;
        }
        two.join("presence-b", r#"{"user_id":"bob"}"#).await;
        let users = async || numbers(&node.engine.take_usage().await).map(|app| app[4]);
        assert_eq!(users().await, Some(2));
        assert_eq!(users().await, Some(0));
        for minute in 0..3 {
            tokio::time::sleep(Duration::from_secs(31)).await;
            settle().await;
            assert_eq!(users().await, Some(2), "minute {minute}");
        }
    });
}

#[test]
fn refusals_count_for_their_app_and_for_the_node() {
    with_options(options(1), async |node| {
        let client = node.connect();
        client.send_text("{").await;
        let refused = |kind, app| fanfare_engine::Refused {
            kind,
            app,
            address: None,
            reason: "",
        };
        let path = refused(fanfare_engine::RefusalKind::Path, None);
        node.engine.refusals().note(path);
        node.engine.refusals().note(path);
        let taken = node.engine.take_usage().await;
        let app = taken.apps.values().next().expect("the app");
        assert_eq!(app.refused.get("message"), Some(&1));
        assert_eq!(taken.refused.get("path"), Some(&2));
        assert!(node.engine.take_usage().await.refused.is_empty());
    });
}
