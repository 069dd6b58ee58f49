//! Subscribers get the number of subscribers: docs/compatibility.md#client-events-and-subscription-counts, C-071.

use std::time::Duration;

use fanfare_protocol::AppSettings;
use serde_json::Value;

use crate::node::{Client, KEY, Node, data, definition, settings, with_node};

fn enable(node: &Node) {
    let counted = AppSettings {
        subscription_count: true,
        ..settings()
    };
    node.engine
        .update_apps(vec![definition("1", KEY, counted)], &[]);
}

fn counts(client: &Client) -> Vec<u64> {
    let counted = |event: &Value| event["event"] == "pusher_internal:subscription_count";
    client
        .events()
        .iter()
        .filter(|event| counted(event))
        .map(|event| data(event)["subscription_count"].as_u64().unwrap())
        .collect()
}

#[test]
fn everybody_is_told_when_somebody_comes_or_goes_where_the_app_wants_that() {
    with_node(2, async |node| {
        let before = node.connect();
        before.subscribe("a").await;
        assert!(counts(&before).is_empty());
        enable(&node);
        let (one, mut two) = (node.connect(), node.connect());
        one.subscribe("a").await;
        two.subscribe("a").await;
        assert_eq!(counts(&before), [2, 3]);
        assert_eq!(counts(&one), [2, 3]);
        assert_eq!(counts(&two), [3], "the newcomer as well");
        one.unsubscribe("a").await;
        two.leave().await;
        assert_eq!(counts(&before), [2, 1]);
        assert!(counts(&one).is_empty());
    });
}

#[test]
fn presence_and_encrypted_channels_are_not_counted() {
    with_node(1, async |node| {
        enable(&node);
        let client = node.connect();
        client.join("presence-a", r#"{"user_id":1}"#).await;
        client.subscribe("private-encrypted-a").await;
        assert!(counts(&client).is_empty());
        client.subscribe("private-a").await;
        assert_eq!(counts(&client), [1]);
    });
}

#[test]
fn more_than_a_hundred_are_told_every_five_seconds_and_the_last_number_always() {
    with_node(2, async |node| {
        enable(&node);
        let mut clients = Vec::new();
        for _ in 0..150 {
            let client = node.connect();
            client.subscribe("a").await;
            clients.push(client);
        }
        assert_eq!(
            counts(&clients[0]).last(),
            Some(&100),
            "and then no more at once"
        );
        tokio::time::sleep(Duration::from_secs(7)).await;
        assert_eq!(counts(&clients[0]), [150]);
        for client in &clients[140..] {
            client.unsubscribe("a").await;
        }
        tokio::time::sleep(Duration::from_secs(7)).await;
        assert_eq!(counts(&clients[0]).last(), Some(&140));
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(counts(&clients[0]).is_empty());
    });
}
