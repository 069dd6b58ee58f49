//! Histories: what a client that comes back gets, and what stock clients do not notice.

use std::time::Duration;

use fanfare_engine::HistoryQuery;
use fanfare_protocol::{AppSettings, ChannelName, HistoryRule, Limits};
use serde_json::{Value, json};
use tokio::time::advance;

use crate::node::{Client, KEY, Node, data, definition, settings, with_node};

fn with_history(test: impl AsyncFnOnce(Node)) {
    with_limits(10, 60, Limits::HOSTED, test);
}

fn with_limits(size: usize, ttl: u64, limits: Limits, test: impl AsyncFnOnce(Node)) {
    with_node(2, async |node| {
        let rule = HistoryRule {
            channels: "*room*".into(),
            size,
            ttl,
        };
        let settings = AppSettings {
            history: vec![rule],
            limits,
            ..settings()
        };
        node.engine
            .update_apps(vec![definition("1", KEY, settings)], &[]);
        test(node).await;
    });
}

async fn ask(client: &Client, channel: &str, fields: Value) -> Vec<Value> {
    let auth = client.auth(channel, None);
    let mut content = json!({"channel": channel, "auth": auth});
    for (name, value) in fields.as_object().unwrap() {
        content[name] = value.clone();
    }
    client
        .send(&json!({"event": "pusher:subscribe", "data": content}))
        .await;
    client.events()
}

fn texts(events: &[Value]) -> Vec<&str> {
    events.iter().map(|e| e["data"].as_str().unwrap()).collect()
}

fn position(event: &Value) -> String {
    event["position"].as_str().unwrap().to_owned()
}

#[test]
fn who_asks_is_told_positions_and_stock_clients_see_what_they_always_saw() {
    with_history(async |node| {
        let (stock, asks) = (node.connect(), node.connect());
        stock.subscribe("room").await;
        let told = ask(&asks, "room", json!({"recover": true})).await;
        let start = data(&told[0])["position"].as_str().unwrap().to_owned();
        assert!(start.ends_with(":0"), "{start}");
        node.publish("room", "e", "a").await;
        let seen = stock.events();
        assert_eq!(data(&seen[0]), json!({}));
        assert_eq!(
            seen[1],
            json!({"event": "e", "channel": "room", "data": "a"})
        );
        let seen = asks.events();
        assert!(position(&seen[0]).ends_with(":1"));
        assert_eq!(seen.len(), 1);
    });
}

#[test]
fn who_comes_back_gets_what_was_missed_in_order_and_then_what_is_live() {
    with_history(async |node| {
        let mut client = node.connect();
        ask(&client, "room", json!({"recover": true})).await;
        node.publish("room", "e", "a").await;
        let last = position(&client.events()[0]);
        let former = client.socket_id.clone();
        client.leave().await;
        for text in ["b", "c", "d"] {
            node.publish("room", "e", text).await;
        }
        let client = node.connect();
        let recover = json!({"recover": {"position": last, "socket_id": former}});
        let seen = ask(&client, "room", recover).await;
        assert_eq!(data(&seen[0])["recovered"], true);
        assert_eq!(texts(&seen[1..]), ["b", "c", "d"]);
        assert_eq!(
            data(&seen[0])["position"],
            last,
            "whoever breaks off now has got nothing of it"
        );
        assert!(position(&seen[3]).ends_with(":4"));
        node.publish("room", "e", "live").await;
        assert_eq!(texts(&client.events()), ["live"]);
    });
}

#[test]
fn what_a_client_was_left_out_of_is_not_missed_by_it() {
    with_history(async |node| {
        let (mut sender, other) = (node.connect(), node.connect());
        for client in [&sender, &other] {
            ask(client, "private-room", json!({"recover": true})).await;
        }
        let event = json!({"event": "client-e", "channel": "private-room", "data": "mine"});
        sender.send(&event).await;
        assert_eq!(
            texts(&other.events()),
            ["mine"],
            "client events have positions as well"
        );
        let start = "0".to_owned();
        let former = sender.socket_id.clone();
        node.publish("private-room", "e", "x").await;
        let last = position(&sender.events()[0]);
        let epoch = last.split(':').next().unwrap();
        sender.leave().await;
        let sender = node.connect();
        let from =
            json!({"recover": {"position": format!("{epoch}:{start}"), "socket_id": former}});
        let seen = ask(&sender, "private-room", from).await;
        assert_eq!(texts(&seen[1..]), ["x"]);
        assert_eq!(
            data(&seen[0])["position"],
            format!("{epoch}:1"),
            "its own is behind it"
        );
    });
}

#[test]
fn what_leaves_out_a_connection_that_is_about_to_subscribe_is_not_replayed_to_it() {
    with_history(async |node| {
        let client = node.connect();
        node.publish("room", "e", "a").await;
        let own = Some(client.socket_id.as_str());
        node.try_publish("room", "e", "mine", own).await.unwrap();
        let seen = ask(&client, "room", json!({"recover": true, "rewind": 5})).await;
        assert_eq!(texts(&seen[1..]), ["a"]);
        assert!(position(&seen[1]).ends_with(":2"), "its own is behind it");
    });
}

#[test]
fn what_is_not_kept_any_more_is_said_and_nothing_of_it_is_replayed() {
    with_history(async |node| {
        let client = node.connect();
        let told = ask(&client, "room", json!({"recover": true})).await;
        let start = data(&told[0])["position"].as_str().unwrap().to_owned();
        for number in 0..12 {
            node.publish("room", "e", &number.to_string()).await;
        }
        let reason = async |position: &str, channel: &str| {
            let late = node.connect();
            let recover = json!({"recover": {"position": position}});
            let seen = ask(&late, channel, recover).await;
            assert_eq!(seen.len(), 1, "{seen:?}");
            assert_eq!(data(&seen[0])["recovered"], false);
            data(&seen[0])["reason"].as_str().unwrap().to_owned()
        };
        assert_eq!(reason(&start, "room").await, "too_old");
        assert_eq!(reason("another:3", "room").await, "expired");
        assert_eq!(reason("?", "room").await, "expired");
        assert_eq!(reason(&start, "elsewhere").await, "off");
        let newest = position(client.events().last().unwrap());
        advance(Duration::from_secs(61)).await;
        assert_eq!(reason(&start, "room").await, "too_old");
        let back = node.connect();
        let seen = ask(&back, "room", json!({"recover": {"position": newest}})).await;
        assert_eq!(data(&seen[0])["recovered"], true, "nothing was missed");
    });
}

#[test]
fn more_than_one_subscription_may_be_sent_is_not_replayed_in_part() {
    with_limits(1000, 60, Limits::HOSTED, async |node| {
        let client = node.connect();
        let told = ask(&client, "room", json!({"recover": true})).await;
        let start = data(&told[0])["position"].as_str().unwrap().to_owned();
        for _ in 0..150 {
            node.publish("room", "e", &"x".repeat(10_000)).await;
        }
        let late = node.connect();
        let seen = ask(&late, "room", json!({"recover": {"position": start}})).await;
        assert_eq!(data(&seen[0])["reason"], "too_large");
        let rewinding = node.connect();
        let seen = ask(&rewinding, "room", json!({"recover": true, "rewind": 150})).await;
        assert_eq!(seen.len(), 1 + 102, "the newest that there is room for");
    });
}

#[test]
fn rewinding_gives_the_last_events_before_live_ones() {
    with_history(async |node| {
        for text in ["a", "b", "c"] {
            node.publish("room", "e", text).await;
        }
        let client = node.connect();
        let seen = ask(&client, "room", json!({"recover": true, "rewind": 2})).await;
        assert_eq!(texts(&seen[1..]), ["b", "c"]);
        assert!(data(&seen[0]).get("recovered").is_none());
    });
}

#[test]
fn on_a_cache_channel_nothing_comes_twice() {
    with_history(async |node| {
        let mut client = node.connect();
        ask(&client, "cache-room", json!({"recover": true})).await;
        node.publish("cache-room", "e", "a").await;
        let last = position(&client.events()[0]);
        client.leave().await;
        node.publish("cache-room", "e", "b").await;
        let client = node.connect();
        let seen = ask(
            &client,
            "cache-room",
            json!({"recover": {"position": last}}),
        )
        .await;
        assert_eq!(texts(&seen[1..]), ["b"]);
        let new = node.connect();
        let seen = ask(&new, "cache-room", json!({"recover": true})).await;
        assert_eq!(texts(&seen[1..]), ["b"], "as on any cache channel");
    });
}

#[test]
fn histories_of_an_app_are_bounded_and_the_longest_unused_goes_first() {
    let limits = Limits {
        history_bytes: 20_000,
        ..Limits::HOSTED
    };
    with_limits(100, 60, limits, async |node| {
        for channel in ["room-1", "room-2", "room-3", "room-1"] {
            node.publish(channel, "e", &"x".repeat(6000)).await;
        }
        let held = async |channel: &str| {
            let channel = ChannelName::parse(channel, 200).unwrap();
            let query = HistoryQuery::Backward(None, 10);
            let answer = node.engine.history(&node.app(), &channel, query).await;
            answer.unwrap().events.unwrap().len()
        };
        assert_eq!(held("room-1").await, 2);
        assert_eq!(held("room-2").await, 0);
    });
}

#[test]
fn a_history_is_paged_in_both_directions() {
    with_history(async |node| {
        for number in 0..5 {
            node.publish("room", "e", &number.to_string()).await;
        }
        let channel = ChannelName::parse("room", 200).unwrap();
        let page = async |query: HistoryQuery| {
            let answer = node.engine.history(&node.app(), &channel, query).await;
            let events = answer.unwrap().events.unwrap();
            let texts: String = events.iter().map(|event| &*event.data).collect();
            (texts, events.last().map(|event| event.position.clone()))
        };
        let (texts, last) = page(HistoryQuery::Backward(None, 2)).await;
        assert_eq!(texts, "43");
        let (texts, last) = page(HistoryQuery::Backward(last, 2)).await;
        assert_eq!(texts, "21");
        assert_eq!(page(HistoryQuery::Backward(last, 2)).await.0, "0");
        let (texts, last) = page(HistoryQuery::Forward(None, 3)).await;
        assert_eq!(texts, "012");
        let (texts, last) = page(HistoryQuery::Forward(last, 3)).await;
        assert_eq!(texts, "34");
        assert_eq!(page(HistoryQuery::Forward(last, 3)).await.0, "");
    });
}
