//! Clients that don't speak Pusher's protocol: docs/any-client.md#plain-websocket and docs/any-client.md#raw-websocket.

use fanfare_engine::testing::Seen;
use fanfare_protocol::{AppSettings, Framing, HistoryRule};
use serde_json::{Value, json};

use crate::node::{KEY, Node, data, definition, settings, with_node};

const CHAT: &str = "chat-1";

/// Lets clients write on public chats.
fn open_chats(node: &Node) {
    let chats = AppSettings {
        client_event_channels: vec!["chat-*".into()],
        history: vec![HistoryRule {
            channels: "kept-*".into(),
            size: 10,
            ttl: 60,
        }],
        ..settings()
    };
    node.engine
        .update_apps(vec![definition("1", KEY, chats)], &[]);
}

#[test]
fn the_channels_of_a_url_are_subscribed_in_their_order_and_events_are_objects() {
    with_node(1, async |node| {
        open_chats(&node);
        let plain = node
            .connect_plain(Framing::Object, &["kept-b", "chat-1"])
            .await;
        let events = plain.events();
        assert_eq!(events[0]["event"], "pusher:connection_established");
        assert_eq!(events[0]["data"]["socket_id"], plain.socket_id);
        assert_eq!(events[1]["channel"], "kept-b");
        assert_eq!(events[1]["event"], "pusher:subscription_succeeded");
        let position = |value: &Value| value.as_str().is_some_and(|text| text.contains(':'));
        assert!(position(&events[1]["data"]["position"]), "{}", events[1]);
        assert_eq!(
            events[2],
            json!({"channel": "chat-1", "event": "pusher:subscription_succeeded", "data": {}})
        );
        node.publish(CHAT, "say", r#"{"n":[1,2]}"#).await;
        node.publish(CHAT, "say", "words").await;
        node.publish("kept-b", "say", "7").await;
        let events = plain.events();
        assert_eq!(
            events[..2],
            [
                json!({"channel": CHAT, "event": "say", "data": {"n": [1, 2]}}),
                json!({"channel": CHAT, "event": "say", "data": "words"}),
            ]
        );
        assert_eq!(events[2]["data"], 7);
        assert!(position(&events[2]["position"]));
    });
}

#[test]
fn a_message_with_a_reference_is_acknowledged_or_refused_with_it() {
    with_node(1, async |node| {
        open_chats(&node);
        let plain = node.connect_plain(Framing::Object, &[]).await;
        plain.seen();
        plain
            .send(&json!({"type": "subscribe", "channel": "a", "ref": 1}))
            .await;
        let events = plain.events();
        assert_eq!(events[0]["event"], "pusher:subscription_succeeded");
        assert_eq!(
            events[1],
            json!({"event": "pusher:ack", "data": {}, "ref": 1})
        );
        for (message, words) in [
            (
                json!({"type": "subscribe", "channel": "a"}),
                "Existing subscription",
            ),
            (
                json!({"type": "subscribe", "channel": "private-a"}),
                "Auth info",
            ),
            (
                json!({"type": "unsubscribe", "channel": "b"}),
                "No current subscription",
            ),
            (
                json!({"type": "event", "channel": "a", "event": "client-x", "data": 1}),
                "client_event_channels",
            ),
            (json!({"type": "join"}), "Unsupported type"),
        ] {
            let mut message = message;
            message["ref"] = json!("two");
            plain.send(&message).await;
            let events = plain.events();
            assert_eq!(events[0]["event"], "pusher:error");
            assert_eq!(events[0]["ref"], "two", "{message}");
            assert!(events.iter().all(|event| event["event"] != "pusher:ack"));
            let complaint = events[0]["data"]["message"].as_str().unwrap_or_default();
            assert!(complaint.contains(words), "{message}: {complaint}");
        }
        plain.send(&json!({"type": "ping", "ref": 3})).await;
        assert_eq!(plain.names(), ["pusher:pong", "pusher:ack"]);
        plain
            .send(&json!({"type": "unsubscribe", "channel": "a", "ref": 4}))
            .await;
        assert_eq!(plain.events()[0]["ref"], 4);
        // Without a reference there is no acknowledgement.
        plain.send(&json!({"type": "ping"})).await;
        assert_eq!(plain.names(), ["pusher:pong"]);
        plain.send_text("hello").await;
        let events = plain.events();
        assert_eq!((events.len(), &events[0]["ref"]), (1, &Value::Null));
    });
}

#[test]
fn a_private_channel_opens_with_the_signature_of_pusher_clients() {
    with_node(1, async |node| {
        let plain = node.connect_plain(Framing::Object, &[]).await;
        plain.seen();
        let (channel, member) = (
            "presence-a",
            r#"{"user_id":"7","user_info":{"name":"Ada"}}"#,
        );
        let auth = plain.auth(channel, Some(member));
        plain
            .send(&json!({"type": "subscribe", "channel": channel, "auth": auth, "channel_data": member, "ref": 1}))
            .await;
        let events = plain.events();
        assert_eq!(events[0]["data"]["presence"]["hash"]["7"]["name"], "Ada");
        assert_eq!(events[1]["event"], "pusher:ack");
    });
}

#[test]
fn clients_of_every_kind_get_the_same_events_in_the_same_order() {
    with_node(2, async |node| {
        open_chats(&node);
        let pusher = node.connect();
        pusher.subscribe(CHAT).await;
        pusher.seen();
        let plain = node.connect_plain(Framing::Object, &[CHAT]).await;
        let raw = node.connect_plain(Framing::Raw, &[CHAT]).await;
        let other = node.connect_plain(Framing::Raw, &[CHAT]).await;
        plain.seen();
        assert!(raw.seen().is_empty());
        raw.send_text("hello \"you\"").await;
        node.publish(CHAT, "news", r#"{"n":1}"#).await;
        pusher
            .send(&json!({"event": "client-message", "channel": CHAT, "data": "from pusher"}))
            .await;
        plain
            .send(&json!({"type": "event", "channel": CHAT, "event": "client-message", "data": {"n": 2}, "ref": 9}))
            .await;
        assert_eq!(
            other.events(),
            ["hello \"you\"", r#"{"n":1}"#, "from pusher", r#"{"n":2}"#]
        );
        assert_eq!(raw.events(), [r#"{"n":1}"#, "from pusher", r#"{"n":2}"#]);
        let of_pusher = pusher.events();
        assert_eq!(of_pusher[0]["event"], "client-message");
        assert_eq!(of_pusher[0]["data"], "hello \"you\"");
        assert_eq!(data(&of_pusher[2]), json!({"n": 2}));
        let of_plain = plain.events();
        assert_eq!(of_plain[0]["data"], "hello \"you\"");
        assert_eq!(of_plain[2]["data"], "from pusher");
        assert_eq!(
            of_plain[3],
            json!({"event": "pusher:ack", "data": {}, "ref": 9})
        );
    });
}

#[test]
fn a_raw_client_that_is_refused_is_closed_and_nothing_is_written_to_it() {
    with_node(1, async |node| {
        open_chats(&node);
        for channel in ["private-a", "not a name", "presence-a"] {
            let raw = node.connect_plain(Framing::Raw, &[channel]).await;
            assert_eq!(raw.seen(), [Seen::Close(1008)], "{channel}");
        }
        // It may listen where clients may not write.
        let raw = node.connect_plain(Framing::Raw, &["news"]).await;
        node.publish("news", "n", "first").await;
        assert_eq!(raw.events(), ["first"]);
        raw.send_text("a word").await;
        assert_eq!(raw.seen(), [Seen::Close(1008)]);
        let raw = node.connect_plain(Framing::Raw, &[CHAT]).await;
        raw.send_text(&"x".repeat(10_241)).await;
        assert_eq!(raw.seen(), [Seen::Close(1008)]);
    });
}

#[test]
fn texts_of_a_raw_client_that_come_too_fast_are_dropped_and_it_stays() {
    with_node(1, async |node| {
        open_chats(&node);
        let raw = node.connect_plain(Framing::Raw, &[CHAT]).await;
        let other = node.connect_plain(Framing::Raw, &[CHAT]).await;
        for number in 0..30 {
            raw.send_text(&number.to_string()).await;
        }
        assert_eq!(other.events().len(), 10);
        assert!(raw.seen().is_empty());
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        raw.send_text("again").await;
        assert_eq!(other.events(), ["again"]);
    });
}
