//! No hole, no double, nobody sent away for good: the sequences that have each broken that once, and what a node must do
//! in them. Each test says first what went wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fanfare_engine::testing::{KEY, LocalNode, Seen, data, definition, options, settings};
use fanfare_protocol::api::Event;
use fanfare_protocol::{AppSettings, HistoryRule, Limits};
use serde_json::{Value, json};
use tokio::task::LocalSet;

use crate::node::{Client, with_node};

fn rules(channels: &str) -> AppSettings {
    let rule = HistoryRule {
        channels: channels.into(),
        size: 1000,
        ttl: 60,
    };
    AppSettings {
        history: vec![rule],
        ..settings()
    }
}

fn give(node: &LocalNode, settings: AppSettings) {
    let definition = definition("1", KEY, settings);
    node.engine.update_apps(vec![definition], &[]);
}

async fn ask(client: &Client, channel: &str, recover: Value) -> Value {
    let content = json!({"channel": channel, "recover": recover});
    client
        .send(&json!({"event": "pusher:subscribe", "data": content}))
        .await;
    data(&client.events()[0])
}

/// Each subscription takes up to half of the outbox, whatever waits there already, and nothing is flushed in between.
#[test]
fn who_comes_back_to_several_channels_is_not_a_slow_consumer() {
    with_node(1, async |node| {
        give(&node, rules("room-*"));
        let mut client = node.connect();
        let mut positions = Vec::new();
        for channel in ["room-a", "room-b", "room-c"] {
            let told = ask(&client, channel, json!(true)).await;
            positions.push((channel, told["position"].as_str().unwrap().to_owned()));
        }
        client.leave().await;
        for (channel, _) in &positions {
            for _ in 0..5 {
                node.publish(channel, "e", &"x".repeat(5000)).await;
            }
        }
        let back = node.connect();
        // As the WebSocket reader does with what came in one packet: all of it is handled, then it is flushed.
        for (channel, position) in &positions {
            let content = json!({"channel": channel, "recover": {"position": position}});
            let message = json!({"event": "pusher:subscribe", "data": content}).to_string();
            back.session().handle(&message).await;
        }
        back.session().flush();
        let seen = back.seen();
        assert_ne!(
            seen.last(),
            Some(&Seen::Close(4100)),
            "closed for being slow, before a byte was written to it"
        );
    });
}

/// What is published while no rule is for the channel is missing in a history that goes on afterwards.
#[test]
fn a_history_that_was_switched_off_for_a_while_does_not_say_that_nothing_was_missed() {
    with_node(1, async |node| {
        give(&node, rules("room"));
        let mut client = node.connect();
        let told = ask(&client, "room", json!(true)).await;
        let position = told["position"].as_str().unwrap().to_owned();
        client.leave().await;
        give(&node, settings());
        node.publish("room", "e", "missed").await;
        give(&node, rules("room"));
        let back = node.connect();
        let told = ask(&back, "room", json!({"position": position})).await;
        assert_eq!(told["recovered"], false, "an event is missing");
    });
}

/// Who publishes looks whether there are subscribers, and records later; who subscribes in between is told a position
/// before the event and does not get it.
#[test]
fn an_event_recorded_after_a_position_was_told_is_delivered() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, async {
        let mut options = options(1);
        options.inbox_bytes = 1 << 26;
        options.outbox_bytes = 1 << 26;
        let node = LocalNode::alone(options).await;
        give(&node, rules("room"));
        let filler = node.connect();
        for number in 0..99 {
            filler.subscribe(&format!("filler-{number}")).await;
        }
        let (engine, app) = (Arc::clone(&node.engine), node.app());
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let mut channels = vec!["room".to_owned()];
        channels.extend((0..99).map(|number| format!("filler-{number}")));
        let body = json!({"name": "e", "channels": channels, "data": "x".repeat(2000)}).to_string();
        let event = Event::parse(body.as_bytes(), &Limits::HOSTED).unwrap();
        let publisher = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            while !stopped.load(Ordering::Relaxed) {
                let _ = runtime.block_on(engine.publish(&app, std::slice::from_ref(&event), None));
                std::thread::sleep(Duration::from_micros(300));
            }
        });
        let mut holes = Vec::new();
        for _ in 0..400 {
            let mut client = node.connect();
            let content = json!({"channel": "room", "recover": true});
            let message = json!({"event": "pusher:subscribe", "data": content}).to_string();
            client.session().handle(&message).await;
            tokio::time::sleep(Duration::from_millis(8)).await;
            client.session().flush();
            let events = client.events();
            let offset = |position: &Value| -> u64 {
                let (_, offset) = position.as_str().unwrap().split_once(':').unwrap();
                offset.parse().unwrap()
            };
            let start = offset(&data(&events[0])["position"]);
            if let Some(first) = events.get(1) {
                let first = offset(&first["position"]);
                if first != start + 1 {
                    holes.push((start, first));
                }
            }
            client.leave().await;
            filler.seen();
        }
        stop.store(true, Ordering::Relaxed);
        publisher.join().unwrap();
        assert!(holes.is_empty(), "told to be at, and then got: {holes:?}");
    });
}
