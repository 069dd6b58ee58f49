//! Live events of an app, for operators who watch.

use std::sync::Arc;
use std::time::Duration;

use fanfare_engine::{
    LiveKind, LiveLine, LiveQuery, LiveViewer, MAX_VIEWERS, MAX_VIEWERS_OF_CALLER,
};
use fanfare_engine::{LiveOpenError, RefusalKind, Refused};
use serde_json::{Value, json};

use crate::node::{KEY, Node, options, settle, with_node, with_options};

fn watch(node: &Node, query: &LiveQuery) -> LiveViewer {
    let viewer = node
        .engine
        .watch_live(&node.app(), "operator", query, 200, 1000);
    viewer.expect("there is room")
}

fn everything() -> LiveQuery {
    LiveQuery {
        payloads: true,
        ..LiveQuery::default()
    }
}

fn shown(line: &LiveLine) -> Value {
    let mut line: Value = serde_json::from_str(&line.to_json(true)).expect("JSON");
    let parts = line.as_object_mut().expect("an object");
    for changing in ["id", "time_ms", "node"] {
        assert!(parts.remove(changing).is_some(), "{changing}");
    }
    line
}

/// Returns the lines that wait.
fn lines(viewer: &LiveViewer) -> Vec<Value> {
    let waiting = viewer.take();
    assert_eq!(waiting.more, 0);
    waiting.lines.iter().map(|line| shown(line)).collect()
}

fn kinds(viewer: &LiveViewer) -> Vec<String> {
    let lines = lines(viewer);
    let kind = |line: &Value| line["kind"].as_str().expect("a kind").to_owned();
    lines.iter().map(kind).collect()
}

#[test]
fn a_viewer_sees_a_connection_come_subscribe_send_and_go() {
    with_node(2, async |node| {
        let viewer = watch(&node, &everything());
        let mut client = node.connect();
        let socket_id = client.socket_id.clone();
        client.subscribe("private-room").await;
        client
            .send(&json!({"event": "client-say", "channel": "private-room", "data": "hello"}))
            .await;
        client
            .send(&json!({"event": "pusher:unsubscribe", "data": {"channel": "private-room"}}))
            .await;
        client.subscribe("other").await;
        client.leave().await;
        assert_eq!(
            lines(&viewer),
            [
                json!({"kind": "connected", "socket_id": socket_id, "key": KEY, "transport": "websocket"}),
                json!({"kind": "occupied", "channel": "private-room"}),
                json!({"kind": "subscribed", "channel": "private-room", "socket_id": socket_id, "subscribers": 1}),
                json!({"kind": "client_event", "channel": "private-room", "event": "client-say", "data": "hello", "data_bytes": 5, "socket_id": socket_id, "subscribers": 1}),
                json!({"kind": "vacated", "channel": "private-room"}),
                json!({"kind": "unsubscribed", "channel": "private-room", "socket_id": socket_id}),
                json!({"kind": "occupied", "channel": "other"}),
                json!({"kind": "subscribed", "channel": "other", "socket_id": socket_id, "subscribers": 1}),
                json!({"kind": "disconnected", "socket_id": socket_id}),
                json!({"kind": "vacated", "channel": "other"}),
                json!({"kind": "unsubscribed", "channel": "other", "socket_id": socket_id, "reason": "the connection has ended"}),
            ]
        );
    });
}

#[test]
fn members_cache_misses_and_publishes_are_shown() {
    with_node(1, async |node| {
        let client = node.connect();
        let viewer = watch(&node, &everything());
        client.join("presence-room", r#"{"user_id":"ann"}"#).await;
        client.subscribe("cache-news").await;
        node.publish("cache-news", "said", "x").await;
        assert_eq!(
            kinds(&viewer),
            [
                "occupied",
                "member_added",
                "subscribed",
                "occupied",
                "cache_miss",
                "subscribed",
                "publish"
            ]
        );
        let filtered = watch(
            &node,
            &LiveQuery {
                user_id: Some("ann".into()),
                ..everything()
            },
        );
        client
            .send(&json!({"event": "client-say", "channel": "presence-room", "data": "hello"}))
            .await;
        node.publish("presence-room", "said", "x").await;
        let seen = lines(&filtered);
        assert_eq!(seen.len(), 1, "{seen:?}");
        assert_eq!(
            (&seen[0]["kind"], &seen[0]["user_id"]),
            (&json!("client_event"), &json!("ann"))
        );
    });
}

#[test]
fn refusals_are_shown_with_their_reason_also_to_those_who_look_later() {
    with_node(1, async |node| {
        let client = node.connect();
        client
            .send(&json!({"event": "pusher:subscribe", "data": {"channel": "private-a", "auth": "app-key:00"}}))
            .await;
        node.publish("news", "said", "before anybody watched").await;
        node.engine.refusals().note(Refused {
            kind: RefusalKind::ApiSignature,
            app: Some("1"),
            address: "192.0.2.1".parse().ok(),
            reason: "Invalid signature",
        });
        let mut viewer = watch(&node, &everything());
        let recent: Vec<_> = viewer
            .take_recent()
            .await
            .iter()
            .map(|line| shown(line))
            .collect();
        assert_eq!(recent.len(), 2, "only refusals: {recent:?}");
        assert_eq!(recent[0]["refusal"], "subscription_auth");
        assert_eq!(recent[0]["channel"], "private-a");
        assert_eq!(recent[0]["socket_id"], client.socket_id);
        assert_eq!(recent[0]["key"], "app-key");
        let reason = recent[0]["reason"].as_str().expect("a reason");
        assert!(reason.contains("Invalid signature"), "{reason}");
        assert_eq!(
            recent[1],
            json!({"kind": "refused", "refusal": "api_signature", "address": "192.0.2.1", "reason": "Invalid signature"})
        );
    });
}

#[test]
fn an_app_that_was_watched_keeps_all_lines_for_ten_minutes_more() {
    with_node(1, async |node| {
        drop(watch(&node, &everything()));
        for number in 0..1500 {
            node.publish("news", "said", &number.to_string()).await;
        }
        let mut viewer = watch(&node, &everything());
        let recent = viewer.take_recent().await;
        assert_eq!(recent.len(), 1000);
        assert_eq!(shown(&recent[999])["data"], "1499");
        assert_eq!(lines(&viewer), Vec::<Value>::new(), "no line twice");
        drop(viewer);
        tokio::time::advance(Duration::from_secs(601)).await;
        node.engine.sweep_live();
        assert!(!node.app().is_watched());
        node.publish("news", "said", "x").await;
        let mut viewer = watch(&node, &everything());
        assert!(viewer.take_recent().await.is_empty());
    });
}

#[test]
fn kept_lines_are_bounded_by_their_bytes_and_the_app_that_keeps_most_gives_way() {
    let options = fanfare_engine::Options {
        live_events_bytes: 1 << 20,
        ..options(1)
    };
    with_options(options, async |node| {
        node.engine.refusals().note(Refused {
            kind: RefusalKind::ApiSignature,
            app: Some("1"),
            address: None,
            reason: "first",
        });
        drop(watch(&node, &everything()));
        let data = "x".repeat(4000);
        for _ in 0..900 {
            node.publish("news", "said", &data).await;
        }
        let mut viewer = watch(&node, &everything());
        let recent = viewer.take_recent().await;
        let bytes: usize = recent.iter().map(|line| line.bytes()).sum();
        assert!((1 << 19..=1 << 20).contains(&bytes), "{bytes}");
    });
}

#[test]
fn an_app_has_so_many_viewers_and_another_one_when_one_goes() {
    with_node(1, async |node| {
        let caller = |viewer: usize| format!("operator {}", viewer / MAX_VIEWERS_OF_CALLER);
        let open = |caller: &str| {
            node.engine
                .watch_live(&node.app(), caller, &everything(), 1, 1)
        };
        let mut viewers = Vec::new();
        for viewer in 0..MAX_VIEWERS_OF_CALLER {
            viewers.push(open(&caller(viewer)).unwrap());
        }
        let more = open(&caller(0)).err();
        assert_eq!(more, Some(LiveOpenError::TooManyOfCaller));
        for viewer in MAX_VIEWERS_OF_CALLER..MAX_VIEWERS {
            viewers.push(open(&caller(viewer)).unwrap());
        }
        assert_eq!(open("another").err(), Some(LiveOpenError::TooMany));
        assert_eq!(node.engine.live_viewers(), MAX_VIEWERS);
        viewers.swap_remove(0);
        drop(open(&caller(0)).unwrap());
        drop(open("another").unwrap());
        drop(viewers);
        assert_eq!(node.engine.live_viewers(), 0);
    });
}

#[test]
fn a_flood_is_counted_for_those_whose_filter_it_passes() {
    with_node(1, async |node| {
        let all = watch(&node, &everything());
        let news = watch(
            &node,
            &LiveQuery {
                channel: Some("news*".into()),
                kinds: vec![LiveKind::Publish],
                ..everything()
            },
        );
        for number in 0..5000 {
            let channel = if number % 5 == 0 { "news" } else { "other" };
            node.try_publish(channel, "said", "x", None)
                .await
                .expect("accepted");
        }
        settle().await;
        for (viewer, published) in [(all, 5000), (news, 1000)] {
            let waiting = viewer.take();
            assert_eq!(waiting.lines.len(), 200);
            assert_eq!(waiting.more, published - 200);
        }
        assert_eq!(node.engine.live_left_out(), 4800 + 800);
    });
}

#[test]
fn a_viewer_is_woken_by_what_it_wants() {
    with_node(1, async |node| {
        let viewer = Arc::new(watch(
            &node,
            &LiveQuery {
                kinds: vec![LiveKind::Publish],
                ..everything()
            },
        ));
        let woken = {
            let viewer = Arc::clone(&viewer);
            tokio::task::spawn_local(async move { viewer.woken().await })
        };
        let _client = node.connect();
        settle().await;
        assert!(!woken.is_finished());
        node.publish("news", "said", "x").await;
        assert!(woken.is_finished());
    });
}
