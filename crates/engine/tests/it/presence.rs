//! Presence channels: docs/compatibility.md#presence-channels.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::node::{Client, complaint, data, with_node};

fn members(event: &Value) -> BTreeSet<String> {
    let presence = data(event)["presence"].clone();
    let ids: BTreeSet<String> = serde_json::from_value(presence["ids"].clone()).unwrap();
    let hash: BTreeSet<String> = presence["hash"]
        .as_object()
        .expect("an object")
        .keys()
        .cloned()
        .collect();
    assert_eq!(ids, hash);
    assert_eq!(presence["count"], ids.len());
    ids
}

fn set(ids: &[&str]) -> BTreeSet<String> {
    ids.iter().map(|id| (*id).to_owned()).collect()
}

async fn refused(client: &Client, channel_data: &str) -> String {
    client.join("presence-a", channel_data).await;
    complaint(&client.events())
}

#[test]
fn the_first_subscriber_sees_itself() {
    with_node(1, async |node| {
        let client = node.connect();
        client
            .join("presence-a", r#"{"user_id":"a","user_info":{"name":"A"}}"#)
            .await;
        let events = client.events();
        assert_eq!(
            data(&events[0]),
            json!({"presence": {"ids": ["a"], "hash": {"a": {"name": "A"}}, "count": 1}})
        );
        assert_eq!(events.len(), 1);
    });
}

#[test]
fn others_are_told_once_per_user_however_many_tabs() {
    with_node(2, async |node| {
        let a = node.connect();
        let (mut b1, mut b2) = (node.connect(), node.connect());
        a.join("presence-a", r#"{"user_id":"a"}"#).await;
        b1.join("presence-a", r#"{"user_id":"b","user_info":{"n":1}}"#)
            .await;
        b2.join("presence-a", r#"{"user_id":"b","user_info":{"n":1}}"#)
            .await;
        let seen = a.events();
        assert_eq!(seen.len(), 2, "{seen:?}");
        assert_eq!(seen[1]["event"], "pusher_internal:member_added");
        assert_eq!(
            data(&seen[1]),
            json!({"user_id": "b", "user_info": {"n": 1}})
        );
        for tab in [&b1, &b2] {
            let seen = tab.events();
            assert_eq!(members(&seen[0]), set(&["a", "b"]));
            assert_eq!(seen.len(), 1, "nobody hears of itself: {seen:?}");
        }
        b1.leave().await;
        assert!(a.seen().is_empty());
        b2.leave().await;
        let seen = a.events();
        assert_eq!(seen.len(), 1);
        assert_eq!(
            (seen[0]["event"].as_str(), data(&seen[0])),
            (
                Some("pusher_internal:member_removed"),
                json!({"user_id": "b"})
            )
        );
    });
}

#[test]
fn unsubscribing_leaves_like_disconnecting() {
    with_node(1, async |node| {
        let (a, b) = (node.connect(), node.connect());
        a.join("presence-a", r#"{"user_id":"a"}"#).await;
        b.join("presence-a", r#"{"user_id":"b"}"#).await;
        a.events();
        b.unsubscribe("presence-a").await;
        assert_eq!(a.names(), ["pusher_internal:member_removed"]);
    });
}

#[test]
fn a_number_and_its_text_are_one_user_and_keep_their_digits() {
    with_node(1, async |node| {
        let (a, b) = (node.connect(), node.connect());
        a.join("presence-a", r#"{"user_id":9007199254740993}"#)
            .await;
        b.join("presence-a", r#"{"user_id":"9007199254740993"}"#)
            .await;
        assert_eq!(members(&a.events()[0]), set(&["9007199254740993"]));
        assert_eq!(members(&b.events()[0]), set(&["9007199254740993"]));
        assert!(a.seen().is_empty());
    });
}

#[test]
fn absent_and_null_info_are_null_in_the_hash() {
    with_node(1, async |node| {
        let client = node.connect();
        client
            .join("presence-a", r#"{"user_id":"a","user_info":null}"#)
            .await;
        client
            .join("presence-b", r#"{"user_id":"__proto__"}"#)
            .await;
        let events = client.events();
        assert_eq!(data(&events[0])["presence"]["hash"], json!({"a": null}));
        assert_eq!(
            data(&events[1])["presence"]["hash"],
            json!({"__proto__": null})
        );
    });
}

#[test]
fn channel_data_that_names_no_member_is_refused_whatever_its_signature() {
    with_node(1, async |node| {
        let client = node.connect();
        for channel_data in [
            "nope",
            "[]",
            "{}",
            r#"{"user_id":{}}"#,
            r#"{"user_id":true}"#,
            r#"{"user_id":""}"#,
        ] {
            assert!(
                refused(&client, channel_data)
                    .await
                    .contains("channel_data"),
                "{channel_data}"
            );
        }
        for info in ["true", "\"x\"", "[]"] {
            let channel_data = format!(r#"{{"user_id":1,"user_info":{info}}}"#);
            assert!(
                refused(&client, &channel_data).await.contains("user_info"),
                "{info}"
            );
        }
        let long = format!(r#"{{"user_id":"{}"}}"#, "x".repeat(129));
        assert!(refused(&client, &long).await.contains("129 characters"));
        let large = format!(
            r#"{{"user_id":1,"user_info":{{"x":"{}"}}}}"#,
            "x".repeat(1024)
        );
        assert!(refused(&client, &large).await.contains("at most 1024"));
        client.subscribe("presence-a").await;
        assert!(complaint(&client.events()).contains("channel_data is required"));
    });
}

#[test]
fn signed_text_is_compared_byte_for_byte() {
    with_node(1, async |node| {
        let client = node.connect();
        client
            .join(
                "presence-a",
                "{\"user_id\": \"a\", \"user_info\": {\"name\": \"\\u00e9\\/\"}}",
            )
            .await;
        assert_eq!(
            data(&client.events()[0])["presence"]["hash"],
            json!({"a": {"name": "é/"}})
        );
    });
}

#[test]
fn a_full_channel_takes_another_tab_of_a_known_user_and_nobody_new() {
    with_node(2, async |node| {
        let clients: Vec<_> = (0..100).map(|_| node.connect()).collect();
        for (number, client) in clients.iter().enumerate() {
            client
                .join("presence-a", &format!(r#"{{"user_id":{number}}}"#))
                .await;
        }
        let (tab, newcomer) = (node.connect(), node.connect());
        tab.join("presence-a", r#"{"user_id":7}"#).await;
        assert_eq!(members(&tab.events()[0]).len(), 100);
        assert!(
            refused(&newcomer, r#"{"user_id":"new"}"#)
                .await
                .contains("100 members")
        );
        node.publish("presence-a", "e", "d").await;
        assert!(newcomer.seen().is_empty());
        assert_eq!(
            node.engine
                .users(&node.app(), &"presence-a".parse_name())
                .await
                .unwrap()
                .len(),
            100
        );
    });
}

#[test]
fn everybodys_view_is_complete_after_fifty_users_join_at_once() {
    with_node(3, async |node| {
        let clients: Vec<_> = (0..50).map(|_| node.connect()).collect();
        let joins = clients.iter().enumerate().map(|(number, client)| {
            let channel_data = format!(r#"{{"user_id":"u{number}"}}"#);
            async move { client.join("presence-a", &channel_data).await }
        });
        futures(joins.collect()).await;
        for client in &clients {
            let events = client.events();
            let mut view = members(&events[0]);
            for event in &events[1..] {
                assert_eq!(event["event"], "pusher_internal:member_added");
                let user = data(event)["user_id"].as_str().unwrap().to_owned();
                assert!(view.insert(user.clone()), "{user} was announced twice");
            }
            assert_eq!(view.len(), 50);
        }
    });
}

/// Runs futures together, each making progress in turn.
async fn futures<F: std::future::Future<Output = ()>>(futures: Vec<F>) {
    let mut futures: Vec<_> = futures.into_iter().map(Box::pin).collect();
    std::future::poll_fn(|cx| {
        futures.retain_mut(|future| future.as_mut().poll(cx).is_pending());
        if futures.is_empty() {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
}

trait ParseName {
    fn parse_name(&self) -> fanfare_protocol::ChannelName;
}

impl ParseName for str {
    fn parse_name(&self) -> fanfare_protocol::ChannelName {
        fanfare_protocol::ChannelName::parse(self, 200).unwrap()
    }
}
