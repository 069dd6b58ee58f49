//! Public and private channels: docs/compatibility.md#public-and-private-channels, and C-016, C-017 and C-020 of
//! docs/compatibility.md#connections.

use serde_json::{Value, json};

use crate::node::{KEY, SECRET, Seen, complaint, data, definition, settings, with_node};
use fanfare_protocol::signature::SigningKey;

const SUCCEEDED: &str = "pusher_internal:subscription_succeeded";

#[test]
fn a_public_channel_takes_anybody_with_or_without_an_empty_auth() {
    with_node(1, async |node| {
        let client = node.connect();
        client
            .send(&json!({"event": "pusher:subscribe", "data": {"channel": "a", "auth": ""}}))
            .await;
        client
            .send(&json!({"event": "pusher:subscribe", "data": {"channel": "b"}}))
            .await;
        let expected = |channel: &str| {
            Seen::Event(json!({"event": SUCCEEDED, "channel": channel, "data": "{}"}))
        };
        assert_eq!(client.seen(), [expected("a"), expected("b")]);
    });
}

#[test]
fn names_that_only_look_private_are_public() {
    with_node(1, async |node| {
        let client = node.connect();
        for channel in ["private", "presence", "my-private-x", "privatefoo"] {
            client
                .send(&json!({"event": "pusher:subscribe", "data": {"channel": channel}}))
                .await;
            assert_eq!(client.names(), [SUCCEEDED], "{channel}");
        }
    });
}

#[test]
fn a_second_subscription_is_refused_and_events_still_arrive_once() {
    with_node(1, async |node| {
        let client = node.connect();
        client.subscribe("a").await;
        client.events();
        client.subscribe("a").await;
        let answer = client.events();
        assert!(complaint(&answer).contains("Existing subscription to channel a"));
        assert_eq!(answer.len(), 2, "and no second success");
        assert_eq!(told(&answer, "a")["type"], "AlreadySubscribed");
        node.publish("a", "e", "d").await;
        assert_eq!(client.names(), ["e"]);
    });
}

#[test]
fn unsubscribing_stops_delivery_and_subscribing_again_works() {
    with_node(1, async |node| {
        let client = node.connect();
        client.subscribe("a").await;
        client.unsubscribe("a").await;
        node.publish("a", "e", "d").await;
        assert_eq!(client.names(), [SUCCEEDED]);
        client.unsubscribe("a").await;
        assert!(complaint(&client.events()).contains("No current subscription"));
        client.subscribe("a").await;
        node.publish("a", "e", "d").await;
        assert_eq!(client.names(), [SUCCEEDED, "e"]);
    });
}

/// What the channel is told of its refusal, besides the client.
fn told(answer: &[Value], channel: &str) -> Value {
    let error = &answer[1];
    assert_eq!(error["event"], "pusher:subscription_error");
    assert_eq!(error["channel"], channel);
    data(error)
}

#[test]
fn a_refused_name_is_told_to_its_channel_as_well() {
    with_node(1, async |node| {
        let client = node.connect();
        for channel in ["bad channel!", "", "#foo", &"x".repeat(201), "é"] {
            client.subscribe(channel).await;
            let answer = client.events();
            let told = told(&answer, channel);
            assert_eq!(
                (&told["type"], &told["status"]),
                (&json!("InvalidChannel"), &json!(400))
            );
            assert_eq!(told["error"], complaint(&answer), "{channel}");
        }
        // A name that no client is bound to is not sent back.
        client.subscribe(&"x".repeat(50_000)).await;
        let answer = client.events();
        assert_eq!(answer.len(), 1, "{answer:?}");
        assert!(complaint(&answer).len() <= 1000);
    });
}

#[test]
fn impossible_names_are_refused_and_nothing_is_subscribed() {
    with_node(1, async |node| {
        let client = node.connect();
        for data in [
            json!({"channel": "bad channel!"}),
            json!({"channel": ""}),
            json!({"channel": "#foo"}),
            json!({"channel": "#server-to-user-1"}),
            json!({"channel": "x".repeat(201)}),
            json!({"channel": 7}),
            json!({}),
            json!(null),
        ] {
            client
                .send(&json!({"event": "pusher:subscribe", "data": data}))
                .await;
            assert!(!complaint(&client.events()).is_empty(), "{data}");
        }
        assert!(
            node.engine
                .channels(&node.app(), "")
                .await
                .unwrap()
                .is_empty()
        );
    });
}

#[test]
fn a_private_channel_takes_a_signature_of_its_own_for_this_connection() {
    with_node(1, async |node| {
        let (client, other) = (node.connect(), node.connect());
        let good = client.auth("private-a", None);
        let signature = good.split_once(':').unwrap().1;
        let wrong_secret = format!("{KEY}:{}", SigningKey::new("other").sign("x"));
        for auth in [
            None,
            Some(String::new()),
            Some(wrong_secret),
            Some(good.to_uppercase().replace("APP-KEY", KEY)),
            Some(signature.to_owned()),
            Some(format!("other-key:{signature}")),
            Some(other.auth("private-a", None)),
            Some(client.auth("private-b", None)),
        ] {
            client.send(&json!({"event": "pusher:subscribe", "data": {"channel": "private-a", "auth": auth}})).await;
            let answer = client.events();
            assert!(!complaint(&answer).is_empty(), "{auth:?}");
            assert_eq!(answer[1]["event"], "pusher:subscription_error");
            assert_eq!(answer[1]["channel"], "private-a");
        }
        node.publish("private-a", "e", "d").await;
        assert!(
            client.seen().is_empty(),
            "a refused subscriber gets no event"
        );
        client.send(&json!({"event": "pusher:subscribe", "data": {"channel": "private-a", "auth": good}})).await;
        assert_eq!(client.names(), [SUCCEEDED]);
    });
}

#[test]
fn channel_data_counts_on_private_channels_too() {
    with_node(1, async |node| {
        let client = node.connect();
        client.join("private-a", "{ \"custom\": true }").await;
        assert_eq!(client.names(), [SUCCEEDED]);
        let data = json!({"channel": "private-b", "auth": client.auth("private-b", None), "channel_data": "{}"});
        client
            .send(&json!({"event": "pusher:subscribe", "data": data}))
            .await;
        assert!(complaint(&client.events()).contains("Invalid signature"));
    });
}

#[test]
fn any_key_of_the_app_signs() {
    with_node(1, async |node| {
        let mut both = definition("1", KEY, settings());
        both.keys.extend(definition("1", "second", settings()).keys);
        node.engine.update_apps(vec![both], &[]);
        let client = node.connect();
        let text = format!("{}:private-a", client.socket_id);
        let auth = format!("second:{}", SigningKey::new(SECRET).sign(&text));
        client.send(&json!({"event": "pusher:subscribe", "data": {"channel": "private-a", "auth": auth}})).await;
        assert_eq!(client.names(), [SUCCEEDED]);
    });
}

#[test]
fn whatever_is_wrong_with_a_message_the_connection_stays_usable() {
    with_node(1, async |node| {
        let client = node.connect();
        let deep = "[".repeat(100_000);
        for text in [
            "",
            "{",
            "[]",
            "7",
            "null",
            "{}",
            r#"{"event":"foo"}"#,
            r#"{"event":"\ud800"}"#,
            &deep,
        ] {
            client.send_text(text).await;
            assert!(!complaint(&client.events()).is_empty(), "{text:.20}");
        }
        client.subscribe("a").await;
        assert_eq!(client.names(), [SUCCEEDED]);
    });
}

#[test]
fn a_ping_is_answered() {
    with_node(1, async |node| {
        let client = node.connect();
        client.send_text(r#"{"event":"pusher:ping"}"#).await;
        client
            .send_text(r#"{"event":"pusher:ping","data":{}}"#)
            .await;
        assert_eq!(client.names(), ["pusher:pong", "pusher:pong"]);
    });
}

#[test]
fn nothing_is_left_of_a_connection_that_ended() {
    with_node(2, async |node| {
        let (mut one, mut two) = (node.connect(), node.connect());
        for client in [&one, &two] {
            client.subscribe("a").await;
            client.subscribe("private-b").await;
            client.join("presence-c", r#"{"user_id":1}"#).await;
        }
        let counts = node.engine.channels(&node.app(), "").await.unwrap();
        assert!(
            counts
                .iter()
                .all(|(_, occupancy)| occupancy.subscription_count == 2)
        );
        assert_eq!(counts.len(), 3);
        one.leave().await;
        two.leave().await;
        assert!(
            node.engine
                .channels(&node.app(), "")
                .await
                .unwrap()
                .is_empty()
        );
        assert_eq!(node.engine.connections(), 0);
    });
}

#[test]
fn a_connection_is_subscribed_to_as_many_channels_as_it_may_be() {
    with_node(1, async |node| {
        let client = node.connect();
        for number in 0..100 {
            client.subscribe(&format!("c{number}")).await;
        }
        assert_eq!(client.names().len(), 100);
        client.subscribe("one-more").await;
        let answer = client.events();
        assert!(complaint(&answer).contains("100 channels"));
        assert!(answer[1]["data"].as_str().unwrap().contains("LimitReached"));
        client.unsubscribe("c0").await;
        client.subscribe("one-more").await;
        assert_eq!(client.names(), [SUCCEEDED]);
    });
}

#[test]
fn what_a_client_sent_is_not_echoed_at_length() {
    with_node(1, async |node| {
        let client = node.connect();
        let long = "\u{7f}".repeat(100_000);
        client.unsubscribe(&long).await;
        client
            .send(&json!({"event": "pusher:subscribe", "data": {"channel": long}}))
            .await;
        let data = json!({"channel": "private-a", "auth": "app-key:00", "channel_data": long});
        client
            .send(&json!({"event": "pusher:subscribe", "data": data}))
            .await;
        client
            .send(&json!({"event": format!("client-{long}"), "channel": long}))
            .await;
        assert!(!client.session().is_closing());
        for event in client.events() {
            assert!(event.to_string().len() < 10_000);
        }
    });
}
