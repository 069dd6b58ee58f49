//! Events from backends, and what a success promises: docs/compatibility.md#http-api, C-074, C-075, C-079 and C-092.

use fanfare_engine::PublishError;
use fanfare_protocol::Limits;
use fanfare_protocol::api::Event;
use serde_json::json;

use crate::node::{KEY, definition, options, settings, settle, with_node, with_options};

#[test]
fn every_subscriber_gets_the_event_once_as_it_was_published() {
    with_node(3, async |node| {
        let clients: Vec<_> = (0..9).map(|_| node.connect()).collect();
        for client in &clients {
            client.subscribe("a").await;
            client.events();
        }
        let payload = "{\"text\":\"é \u{2028} \\\" 😀\"}";
        node.publish("a", "App\\Events\\Sent", payload).await;
        for client in &clients {
            assert_eq!(
                client.events(),
                [json!({"event": "App\\Events\\Sent", "channel": "a", "data": payload})]
            );
        }
    });
}

#[test]
fn one_connection_can_be_left_out_on_every_channel() {
    with_node(2, async |node| {
        let (a, b) = (node.connect(), node.connect());
        for client in [&a, &b] {
            client.subscribe("x").await;
            client.events();
        }
        node.try_publish("x", "e", "d", Some(&a.socket_id))
            .await
            .unwrap();
        node.try_publish("x", "f", "d", Some("1.2")).await.unwrap();
        settle().await;
        assert_eq!(a.names(), ["f"]);
        assert_eq!(b.names(), ["e", "f"]);
    });
}

#[test]
fn equal_channel_names_of_two_apps_are_two_channels() {
    with_node(1, async |node| {
        node.engine
            .update_apps(vec![definition("2", "other-key", settings())], &[]);
        let (mine, theirs) = (node.connect(), node.connect_with("other-key"));
        mine.subscribe("a").await;
        theirs.subscribe("a").await;
        theirs.events();
        node.publish("a", "e", "d").await;
        assert_eq!(mine.names().len(), 2);
        assert!(theirs.seen().is_empty());
        assert_eq!(
            node.engine
                .channels(&node.engine.apps().by_key(KEY).unwrap(), "")
                .await
                .unwrap()
                .len(),
            1
        );
    });
}

#[test]
fn events_of_a_channel_arrive_in_the_order_they_were_taken() {
    with_node(2, async |node| {
        let clients: Vec<_> = (0..4).map(|_| node.connect()).collect();
        for client in &clients {
            client.subscribe("a").await;
            client.events();
        }
        let event = |number: usize| {
            let body = json!({"name": number.to_string(), "channel": "a", "data": "d"}).to_string();
            Event::parse(body.as_bytes(), &Limits::HOSTED).unwrap()
        };
        let events: Vec<_> = (0..100).map(event).collect();
        node.engine
            .publish(&node.app(), &events, None)
            .await
            .unwrap();
        settle().await;
        let expected: Vec<_> = (0..100).map(|number| number.to_string()).collect();
        for client in &clients {
            assert_eq!(client.names(), expected);
        }
    });
}

#[test]
fn a_full_inbox_refuses_all_of_a_publish_and_takes_the_next_when_it_is_drained() {
    let mut options = options(2);
    options.inbox_bytes = 10_000;
    with_options(options, async |node| {
        let client = node.connect();
        client.subscribe("a").await;
        client.events();
        let data = "x".repeat(4000);
        let mut taken = 0;
        while node.try_publish("a", "e", &data, None).await.is_ok() {
            taken += 1;
        }
        assert_eq!(taken, 2);
        assert!(matches!(
            node.try_publish("a", "e", &data, None).await,
            Err(PublishError::Bus(_))
        ));
        settle().await;
        assert_eq!(
            client.events().len(),
            taken,
            "what was refused reached nobody"
        );
        assert!(node.try_publish("a", "e", &data, None).await.is_ok());
    });
}

#[test]
fn an_apps_backends_publish_as_many_events_a_second_as_they_may() {
    with_node(1, async |node| {
        let mut settings = settings();
        settings.limits.backend_events_per_second = 5;
        node.engine
            .update_apps(vec![definition("1", KEY, settings)], &[]);
        for _ in 0..5 {
            node.try_publish("a", "e", "d", None).await.unwrap();
        }
        let refused = node.try_publish("a", "e", "d", None).await.unwrap_err();
        assert_eq!(refused, PublishError::OverRate { limit: 5, sent: 1 });
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        node.try_publish("a", "e", "d", None).await.unwrap();
        node.engine
            .update_apps(vec![definition("1", KEY, crate::node::settings())], &[]);
        for _ in 0..100 {
            node.try_publish("a", "e", "d", None).await.unwrap();
        }
    });
}
