//! Signed-in users: docs/compatibility.md#users, C-057 to C-062, and docs/compatibility.md#presence-channels, C-047.

use fanfare_engine::{ConnectionFilter, ConnectionPlace};
use fanfare_protocol::signature::{SigningKey, user_auth_text};
use fanfare_protocol::{AppSettings, HistoryRule, UserId};
use serde_json::json;

use crate::node::{
    Client, KEY, SECRET, Seen, complaint, data, definition, settings, settle, with_node,
};

const SUCCEEDED: &str = "pusher_internal:subscription_succeeded";

pub(crate) async fn sign_in(client: &Client, user_data: &str) {
    let text = user_auth_text(client.session().socket_id(), user_data);
    let auth = format!("{KEY}:{}", SigningKey::new(SECRET).sign(&text));
    client
        .send(&json!({"event": "pusher:signin", "data": {"auth": auth, "user_data": user_data}}))
        .await;
}

async fn subscribe(client: &Client, channel: &str) {
    client
        .send(&json!({"event": "pusher:subscribe", "data": {"channel": channel, "auth": ""}}))
        .await;
}

#[test]
fn signing_in_gives_back_the_text_that_was_sent() {
    with_node(1, async |node| {
        let client = node.connect();
        let user_data = "{ \"id\": \"12345\", \"user_info\": {\"name\":\"\\u00e9\"}}";
        sign_in(&client, user_data).await;
        let events = client.events();
        assert_eq!(events[0]["event"], "pusher:signin_success");
        assert_eq!(data(&events[0])["user_data"], user_data);
        sign_in(&client, user_data).await;
        assert_eq!(
            client.names(),
            ["pusher:signin_success"],
            "the same user again is a success again"
        );
    });
}

#[test]
fn what_does_not_name_a_user_signs_nobody_in() {
    with_node(1, async |node| {
        let client = node.connect();
        for user_data in [
            "nope",
            "{}",
            r#"{"id":1}"#,
            r#"{"id":""}"#,
            r#"{"id":"a b"}"#,
        ] {
            sign_in(&client, user_data).await;
            assert!(
                complaint(&client.events()).contains("user_data"),
                "{user_data}"
            );
        }
        for auth in ["", "app-key", "other:00", "app-key:00"] {
            client.send(&json!({"event": "pusher:signin", "data": {"auth": auth, "user_data": "{\"id\":\"a\"}"}})).await;
            assert!(
                complaint(&client.events()).contains("auth") || auth == "app-key:00",
                "{auth}"
            );
        }
        subscribe(&client, "#server-to-user-a").await;
        assert!(complaint(&client.events()).contains("only for the user"));
    });
}

#[test]
fn a_connection_stays_the_user_it_was_first() {
    with_node(1, async |node| {
        let client = node.connect();
        sign_in(&client, r#"{"id":"a"}"#).await;
        client.events();
        sign_in(&client, r#"{"id":"b"}"#).await;
        assert!(complaint(&client.events()).contains("signed in as a already"));
        subscribe(&client, "#server-to-user-b").await;
        complaint(&client.events());
        subscribe(&client, "#server-to-user-a").await;
        assert_eq!(client.names(), [SUCCEEDED]);
    });
}

#[test]
fn events_to_a_user_reach_each_of_their_connections_once_and_nobody_else() {
    with_node(2, async |node| {
        let clients = [node.connect(), node.connect(), node.connect()];
        for (client, user) in clients.iter().zip(["a", "a", "b"]) {
            sign_in(client, &format!(r#"{{"id":"{user}"}}"#)).await;
            subscribe(client, &format!("#server-to-user-{user}")).await;
            client.events();
        }
        node.publish("#server-to-user-a", "e", "d").await;
        for client in &clients[..2] {
            assert_eq!(
                client.events(),
                [json!({"event": "e", "channel": "#server-to-user-a", "data": "d"})]
            );
        }
        assert!(clients[2].seen().is_empty());
        assert!(
            node.engine
                .channels(&node.app(), "")
                .await
                .unwrap()
                .is_empty(),
            "their channels are not listed"
        );
    });
}

#[test]
fn terminating_a_user_closes_all_they_are_signed_in_on_and_nothing_else() {
    with_node(2, async |node| {
        let (one, two, other, present) = (
            node.connect(),
            node.connect(),
            node.connect(),
            node.connect(),
        );
        for (client, user) in [(&one, "a"), (&two, "a"), (&other, "b")] {
            sign_in(client, &format!(r#"{{"id":"{user}"}}"#)).await;
            client.events();
        }
        present.join("presence-x", r#"{"user_id":"a"}"#).await;
        present.events();
        node.engine
            .terminate_user(&node.app(), &UserId::new("a").unwrap())
            .await
            .unwrap();
        node.engine
            .terminate_user(&node.app(), &UserId::new("nobody").unwrap())
            .await
            .unwrap();
        settle().await;
        for client in [&one, &two] {
            assert_eq!(client.seen().last(), Some(&Seen::Close(4009)));
        }
        assert!(other.seen().is_empty() && present.seen().is_empty());
    });
}

#[test]
fn a_signed_in_user_joins_presence_channels_without_channel_data() {
    with_node(1, async |node| {
        let (signed_in, other) = (node.connect(), node.connect());
        sign_in(&signed_in, r#"{"id":"a","user_info":{"name":"A"}}"#).await;
        other.join("presence-x", r#"{"user_id":"b"}"#).await;
        signed_in.events();
        other.events();
        signed_in.subscribe("presence-x").await;
        assert_eq!(
            data(&signed_in.events()[0])["presence"]["hash"],
            json!({"a": {"name": "A"}, "b": null})
        );
        assert_eq!(
            data(&other.events()[0]),
            json!({"user_id": "a", "user_info": {"name": "A"}})
        );
        signed_in.join("presence-y", r#"{"user_id":"given"}"#).await;
        assert_eq!(
            data(&signed_in.events()[0])["presence"]["ids"],
            json!(["given"]),
            "channel_data wins"
        );
    });
}

#[test]
fn a_signed_in_user_gets_what_is_sent_before_the_client_subscribes_and_everything_once() {
    with_node(2, async |node| {
        let clients = [node.connect(), node.connect()];
        let event =
            |data: &str| json!({"event": "e", "channel": "#server-to-user-a", "data": data});
        for client in &clients {
            sign_in(client, r#"{"id":"a"}"#).await;
        }
        node.publish("#server-to-user-a", "e", "1").await;
        for client in &clients {
            let events = client.events();
            assert_eq!(events[0]["event"], "pusher:signin_success");
            assert_eq!(events[1..], [event("1")]);
        }
        let user = UserId::new("a");
        let list = || {
            let app = node.app();
            let (engine, user) = (&node.engine, user.clone());
            let filter = ConnectionFilter {
                user,
                ..ConnectionFilter::default()
            };
            let from = ConnectionPlace::default();
            async move {
                let page = engine.list_connections(&app, &filter, from, 10);
                page.await.connections
            }
        };
        assert!(
            list().await.iter().all(|found| found.channels.is_empty()),
            "nobody has subscribed yet"
        );
        clients[0].unsubscribe("#server-to-user-a").await;
        assert!(complaint(&clients[0].events()).contains("No current subscription"));
        for client in &clients {
            subscribe(client, "#server-to-user-a").await;
            assert_eq!(client.names(), [SUCCEEDED]);
        }
        node.publish("#server-to-user-a", "e", "2").await;
        for client in &clients {
            assert_eq!(client.events(), [event("2")]);
        }
        let listed = list().await;
        let [only] = &listed[0].channels[..] else {
            panic!("{listed:?}");
        };
        assert_eq!(only.channel.as_str(), "#server-to-user-a");
        subscribe(&clients[0], "#server-to-user-a").await;
        assert!(complaint(&clients[0].events()).contains("Existing subscription"));
        clients[0].unsubscribe("#server-to-user-a").await;
        node.publish("#server-to-user-a", "e", "3").await;
        assert!(clients[0].seen().is_empty(), "it has left the channel");
        assert_eq!(clients[1].events(), [event("3")]);
    });
}

#[test]
fn a_signed_in_user_who_asks_for_positions_gets_everything_once() {
    with_node(1, async |node| {
        let history = vec![HistoryRule {
            channels: "*".into(),
            size: 10,
            ttl: 60,
        }];
        let settings = AppSettings {
            history,
            ..settings()
        };
        node.engine
            .update_apps(vec![definition("1", KEY, settings)], &[]);
        let client = node.connect();
        sign_in(&client, r#"{"id":"a"}"#).await;
        node.publish("#server-to-user-a", "e", "1").await;
        assert_eq!(client.events()[1]["position"], json!(null));
        let subscribe = json!({"event": "pusher:subscribe", "data": {"channel": "#server-to-user-a", "auth": "", "recover": true}});
        client.send(&subscribe).await;
        node.publish("#server-to-user-a", "e", "2").await;
        let events = client.events();
        assert_eq!(events.len(), 2, "{events:?}");
        assert_eq!(events[0]["event"], SUCCEEDED);
        assert_eq!(events[1]["data"], "2");
        assert!(events[1]["position"].is_string());
    });
}
