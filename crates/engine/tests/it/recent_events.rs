//! What cache channels and histories of all apps keep together.

use std::sync::Arc;

use fanfare_engine::{App, HistoryQuery, Options};
use fanfare_protocol::api::Event;
use fanfare_protocol::{AppSettings, ChannelName, HistoryRule, Limits};
use serde_json::json;

use crate::node::{KEY, Node, definition, options, settings, with_options};

const MAX_BYTES: usize = 100_000;

fn with_two_apps(test: impl AsyncFnOnce(Node, [Arc<App>; 2])) {
    let options = Options {
        recent_events_bytes: MAX_BYTES,
        ..options(1)
    };
    with_options(options, async |node| {
        let settings = AppSettings {
            history: vec![HistoryRule {
                channels: "room-*".into(),
                size: 10_000,
                ttl: 3600,
            }],
            ..settings()
        };
        let definitions = vec![
            definition("1", KEY, settings.clone()),
            definition("2", "other-key", settings),
        ];
        node.engine.update_apps(definitions, &[]);
        let apps = ["1", "2"].map(|id| node.engine.apps().by_id(id).unwrap());
        test(node, apps).await;
    });
}

async fn publish(node: &Node, app: &Arc<App>, channel: &str) {
    let body = json!({"name": "e", "channel": channel, "data": "x".repeat(1000)}).to_string();
    let event = Event::parse(body.as_bytes(), &Limits::HOSTED).unwrap();
    node.engine.publish(app, &[event], None).await.unwrap();
}

fn name(channel: &str) -> ChannelName {
    ChannelName::parse(channel, 200).unwrap()
}

async fn cached(node: &Node, app: &Arc<App>, channels: usize) -> usize {
    let mut found = 0;
    for number in 0..channels {
        let channel = name(&format!("cache-{number}"));
        let event = node.engine.cached(app, &channel).await.unwrap();
        found += usize::from(event.is_some());
    }
    found
}

async fn recorded(node: &Node, app: &Arc<App>, channel: &str) -> usize {
    let query = HistoryQuery::Last(10_000);
    let answer = node.engine.history(app, &name(channel), query).await;
    answer.unwrap().events.unwrap().len()
}

#[test]
fn the_app_that_caches_most_gives_way_and_no_other() {
    with_two_apps(async |node, [quiet, loud]| {
        for number in 0..10 {
            publish(&node, &quiet, &format!("cache-{number}")).await;
        }
        for number in 0..1000 {
            publish(&node, &loud, &format!("cache-{number}")).await;
        }
        assert_eq!(cached(&node, &quiet, 10).await, 10);
        let kept = cached(&node, &loud, 1000).await;
        assert!((10..MAX_BYTES / 1000).contains(&kept), "{kept}");
    });
}

#[test]
fn the_app_whose_histories_are_largest_gives_way_and_keeps_the_newest() {
    with_two_apps(async |node, [quiet, loud]| {
        for _ in 0..10 {
            publish(&node, &quiet, "room-a").await;
        }
        for _ in 0..1000 {
            publish(&node, &loud, "room-b").await;
        }
        assert_eq!(recorded(&node, &quiet, "room-a").await, 10);
        let kept = recorded(&node, &loud, "room-b").await;
        assert!((10..MAX_BYTES / 1000).contains(&kept), "{kept}");
        for number in 0..1000 {
            publish(&node, &loud, &format!("room-{number}")).await;
        }
        assert_eq!(recorded(&node, &loud, "room-999").await, 1);
        assert_eq!(recorded(&node, &loud, "room-0").await, 0);
        assert_eq!(recorded(&node, &quiet, "room-a").await, 10);
    });
}

#[test]
fn what_a_deleted_app_kept_is_room_for_others() {
    with_two_apps(async |node, [quiet, loud]| {
        for number in 0..50 {
            publish(&node, &loud, &format!("cache-{number}")).await;
        }
        drop(loud);
        node.engine.update_apps(Vec::new(), &["2".into()]);
        for number in 0..70 {
            publish(&node, &quiet, &format!("cache-{number}")).await;
        }
        assert_eq!(cached(&node, &quiet, 70).await, 70);
    });
}
