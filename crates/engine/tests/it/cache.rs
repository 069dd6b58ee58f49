//! Cache channels: docs/compatibility.md#cache-channels.

use std::time::Duration;

use serde_json::{Value, json};

use crate::node::{settle, with_node};

const SUCCEEDED: &str = "pusher_internal:subscription_succeeded";

#[test]
fn an_empty_cache_channel_says_that_it_misses() {
    with_node(1, async |node| {
        let client = node.connect();
        client.subscribe("cache-x").await;
        let events = client.events();
        assert_eq!(events[0]["event"], SUCCEEDED);
        assert_eq!(
            events[1],
            json!({"event": "pusher:cache_miss", "channel": "cache-x", "data": "{}"})
        );
    });
}

#[test]
fn the_last_event_is_replayed_once_between_success_and_live_events() {
    with_node(2, async |node| {
        let early = node.connect();
        for channel in ["cache-x", "private-cache-x", "private-encrypted-cache-x"] {
            early.subscribe(channel).await;
            early.events();
            node.publish(channel, "first", "1").await;
            node.try_publish(channel, "last", "2", Some(&early.socket_id))
                .await
                .unwrap();
            let late = node.connect();
            late.subscribe(channel).await;
            node.publish(channel, "live", "3").await;
            let events = late.events();
            assert_eq!(events[0]["event"], SUCCEEDED);
            assert_eq!(
                events[1],
                json!({"event": "last", "channel": channel, "data": "2"})
            );
            assert_eq!(events[2]["event"], "live");
            assert_eq!(events.len(), 3);
            assert_eq!(
                early.names(),
                ["first", "live"],
                "who was left out is, but the event is kept"
            );
        }
    });
}

#[test]
fn an_event_to_nobody_is_kept() {
    with_node(1, async |node| {
        node.publish("presence-cache-x", "e", "d").await;
        let client = node.connect();
        client.join("presence-cache-x", r#"{"user_id":1}"#).await;
        assert_eq!(client.names(), [SUCCEEDED, "e"]);
    });
}

#[test]
fn an_event_on_its_way_to_a_new_subscriber_arrives_once() {
    with_node(1, async |node| {
        let (old, new) = (node.connect(), node.connect());
        old.subscribe("cache-x").await;
        old.events();
        // Queued for the shard, which has not run since: the newcomer finds it in the cache as well.
        node.try_publish("cache-x", "e", "d", None).await.unwrap();
        new.session()
            .handle(r#"{"event":"pusher:subscribe","data":{"channel":"cache-x"}}"#)
            .await;
        new.session().flush();
        settle().await;
        assert_eq!(new.names(), [SUCCEEDED, "e"]);
        assert_eq!(old.names(), ["e"]);
        node.publish("cache-x", "f", "d").await;
        assert_eq!(new.names(), ["f"]);
    });
}

#[test]
fn client_events_are_relayed_and_not_kept() {
    with_node(1, async |node| {
        let (one, two) = (node.connect(), node.connect());
        for client in [&one, &two] {
            client.subscribe("private-cache-x").await;
            client.events();
        }
        one.send(&json!({"event": "client-say", "channel": "private-cache-x", "data": {}}))
            .await;
        assert_eq!(two.names(), ["client-say"]);
        let late = node.connect();
        late.subscribe("private-cache-x").await;
        assert_eq!(late.names(), [SUCCEEDED, "pusher:cache_miss"]);
    });
}

#[test]
fn an_event_is_kept_for_half_an_hour() {
    with_node(1, async |node| {
        node.publish("cache-x", "e", "d").await;
        tokio::time::sleep(Duration::from_secs(1799)).await;
        let replayed = async || {
            let client = node.connect();
            client.subscribe("cache-x").await;
            client.names().pop()
        };
        assert_eq!(replayed().await.as_deref(), Some("e"));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(replayed().await.as_deref(), Some("pusher:cache_miss"));
    });
}

#[test]
fn names_that_only_look_cached_are_not() {
    with_node(1, async |node| {
        for channel in ["my-cache-x", "cache", "private-my-cache-x"] {
            node.publish(channel, "e", "d").await;
            let client = node.connect();
            client.subscribe(channel).await;
            let events: Vec<Value> = client.events();
            assert_eq!(events.len(), 1, "{channel}: {events:?}");
        }
    });
}
