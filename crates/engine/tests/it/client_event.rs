//! Client events: docs/compatibility.md#client-events-and-subscription-counts.

use std::time::Duration;

use fanfare_protocol::AppSettings;
use serde_json::{Value, json};

use crate::node::{Client, KEY, complaint, data, definition, settings, with_node};

async fn trigger(client: &Client, channel: &str, data: &Value) {
    client.send(&json!({"event": "client-say", "channel": channel, "data": data, "user_id": "forged", "extra": 1})).await;
}

#[test]
fn an_event_reaches_the_others_and_not_its_sender() {
    with_node(2, async |node| {
        let (a, b, c) = (node.connect(), node.connect(), node.connect());
        for client in [&a, &b, &c] {
            client.subscribe("private-a").await;
            client.events();
        }
        trigger(&a, "private-a", &json!({"x": [1, 2]})).await;
        for client in [&b, &c] {
            let events = client.events();
            assert_eq!(
                events,
                [json!({"event": "client-say", "channel": "private-a", "data": "{\"x\":[1,2]}"})]
            );
        }
        trigger(&a, "private-a", &json!("text")).await;
        assert_eq!(b.events()[0]["data"], "text");
        a.send(&json!({"event": "client-say", "channel": "private-a"}))
            .await;
        assert_eq!(b.events()[0]["data"], "null");
        assert!(a.seen().is_empty());
    });
}

#[test]
fn on_presence_channels_the_sender_is_named_and_cannot_be_forged() {
    with_node(1, async |node| {
        let (a, tab, b) = (node.connect(), node.connect(), node.connect());
        for (client, user) in [(&a, "a"), (&tab, "a"), (&b, "b")] {
            client
                .join("presence-a", &format!(r#"{{"user_id":"{user}"}}"#))
                .await;
        }
        [&a, &tab, &b]
            .iter()
            .for_each(|client| drop(client.events()));
        trigger(&a, "presence-a", &json!({})).await;
        for client in [&tab, &b] {
            assert_eq!(
                client.events(),
                [
                    json!({"event": "client-say", "channel": "presence-a", "data": "{}", "user_id": "a"})
                ]
            );
        }
    });
}

#[test]
fn on_a_public_channel_that_the_app_names_clients_send_too() {
    let chat = AppSettings {
        client_event_channels: vec!["chat-*".into()],
        ..settings()
    };
    with_node(1, async |node| {
        node.engine
            .update_apps(vec![definition("1", KEY, chat)], &[]);
        let (a, b) = (node.connect(), node.connect());
        for client in [&a, &b] {
            client.subscribe("chat-1").await;
            client.subscribe("news").await;
            client.events();
        }
        trigger(&a, "chat-1", &json!("hello")).await;
        assert_eq!(
            b.events(),
            [json!({"event": "client-say", "channel": "chat-1", "data": "hello"})]
        );
        trigger(&a, "news", &json!("hello")).await;
        assert!(b.events().is_empty());
        assert!(complaint(&a.events()).contains("client_event_channels"));
        // Sending needs a subscription there as everywhere.
        trigger(&a, "chat-2", &json!("hello")).await;
        assert!(complaint(&a.events()).contains("not subscribed"));
    });
}

#[test]
fn what_breaks_a_rule_is_refused_and_not_relayed() {
    with_node(1, async |node| {
        let (a, b) = (node.connect(), node.connect());
        for client in [&a, &b] {
            client.subscribe("public").await;
            client.subscribe("private-a").await;
            client.events();
        }
        for (channel, data, words) in [
            ("public", json!({}), "private or presence"),
            ("private-other", json!({}), "not subscribed"),
            ("#server-to-user-1", json!({}), "private or presence"),
            (
                "private-a",
                json!("x".repeat(10_241)),
                "exceeds 10240 bytes",
            ),
        ] {
            trigger(&a, channel, &data).await;
            let complaint = complaint(&a.events());
            assert!(complaint.contains(words), "{complaint}");
        }
        a.send(&json!({"event": "client-say", "data": {}})).await;
        assert!(complaint(&a.events()).contains("channel"));
        a.send(&json!({"event": format!("client-{}", "x".repeat(200)), "channel": "private-a"}))
            .await;
        assert!(complaint(&a.events()).contains("at most 200"));
        a.send_text(r#"{"event":"client-say","channel":"private-a","data":"\ud800"}"#)
            .await;
        assert!(complaint(&a.events()).contains("Invalid data"));
        node.engine.update_apps(
            vec![definition(
                "1",
                KEY,
                AppSettings {
                    client_events: false,
                    ..settings()
                },
            )],
            &[],
        );
        trigger(&a, "private-a", &json!({})).await;
        assert!(complaint(&a.events()).contains("not enabled"));
        assert!(b.seen().is_empty());
    });
}

#[test]
fn more_than_ten_a_second_are_dropped_with_4301() {
    with_node(1, async |node| {
        let (a, b) = (node.connect(), node.connect());
        for client in [&a, &b] {
            client.subscribe("private-a").await;
            client.events();
        }
        for number in 0..30 {
            trigger(&a, "private-a", &json!({"n": number})).await;
        }
        let errors = a.events();
        assert_eq!(errors.len(), 20);
        assert!(errors.iter().all(|error| error["data"]["code"] == 4301));
        assert_eq!(b.events().len(), 10);
        tokio::time::sleep(Duration::from_secs(1)).await;
        trigger(&a, "private-a", &json!({"n": 30})).await;
        assert_eq!(data(&b.events()[0]), json!({"n": 30}));
    });
}

#[test]
fn a_limit_that_is_changed_holds_for_connections_that_are_there_already() {
    with_node(1, async |node| {
        let (a, b) = (node.connect(), node.connect());
        for client in [&a, &b] {
            client.subscribe("private-a").await;
            client.events();
        }
        let allow = |per_second| {
            let mut changed = settings();
            changed.limits.client_events_per_second = per_second;
            node.engine
                .update_apps(vec![definition("1", KEY, changed)], &[]);
        };
        for (per_second, arrive) in [(10, 10), (1000, 50), (3, 3), (0, 50)] {
            allow(per_second);
            for number in 0..50 {
                trigger(&a, "private-a", &json!({"n": number})).await;
            }
            assert_eq!(b.events().len(), arrive, "{per_second} a second");
            a.events();
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
}
