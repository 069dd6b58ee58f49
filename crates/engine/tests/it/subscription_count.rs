//! Subscribers get the number of subscribers: docs/compatibility.md#client-events-and-subscription-counts, C-071.

use std::collections::BTreeMap;
use std::time::Duration;

use fanfare_engine::Options;
use fanfare_protocol::{AppSettings, ServerMessage};
use serde_json::Value;

use crate::node::{
    Client, KEY, Node, data, definition, options, settings, with_node, with_options,
};

fn enable(node: &Node) {
    let counted = AppSettings {
        subscription_count: true,
        ..settings()
    };
    node.engine
        .update_apps(vec![definition("1", KEY, counted)], &[]);
}

fn counts(client: &Client) -> Vec<u64> {
    let counted = |event: &Value| event["event"] == "pusher_internal:subscription_count";
    client
        .events()
        .iter()
        .filter(|event| counted(event))
        .map(|event| data(event)["subscription_count"].as_u64().unwrap())
        .collect()
}

/// Waits until the next change of a channel is told at once again.
async fn quiet() {
    tokio::time::sleep(Duration::from_millis(260)).await;
}

#[test]
fn everybody_is_told_when_somebody_comes_or_goes_where_the_app_wants_that() {
    with_node(2, async |node| {
        let before = node.connect();
        before.subscribe("a").await;
        assert!(counts(&before).is_empty());
        enable(&node);
        quiet().await;
        assert_eq!(counts(&before), [1], "a client that was there before");
        let (one, mut two) = (node.connect(), node.connect());
        one.subscribe("a").await;
        quiet().await;
        two.subscribe("a").await;
        assert_eq!(counts(&before), [2, 3]);
        assert_eq!(counts(&one), [2, 3]);
        assert_eq!(counts(&two), [3], "the newcomer as well");
        quiet().await;
        one.unsubscribe("a").await;
        quiet().await;
        two.leave().await;
        assert_eq!(counts(&before), [2, 1]);
        assert!(counts(&one).is_empty());
    });
}

#[test]
fn changes_of_a_quarter_of_a_second_are_told_as_one_and_the_last_number_always() {
    with_node(2, async |node| {
        enable(&node);
        let reader = node.connect();
        reader.subscribe("a").await;
        assert_eq!(counts(&reader), [1], "the first change of a quiet channel");
        let mut others = Vec::new();
        for _ in 0..5 {
            let other = node.connect();
            other.subscribe("a").await;
            others.push(other);
        }
        others[0].unsubscribe("a").await;
        assert!(counts(&reader).is_empty());
        tokio::time::sleep(Duration::from_millis(240)).await;
        assert!(counts(&reader).is_empty());
        tokio::time::sleep(Duration::from_millis(15)).await;
        assert_eq!(counts(&reader), [5]);
        assert_eq!(counts(&others[1]), [5]);
        // The interval began with the last number, however many there were before.
        others[1].unsubscribe("a").await;
        tokio::time::sleep(Duration::from_millis(240)).await;
        assert!(counts(&reader).is_empty());
        quiet().await;
        assert_eq!(counts(&reader), [4]);
        quiet().await;
        others[2].unsubscribe("a").await;
        assert_eq!(counts(&reader), [3], "the channel was quiet");
    });
}

#[test]
fn a_number_that_a_subscriber_has_is_not_told_again() {
    with_node(2, async |node| {
        enable(&node);
        let (one, two, three) = (node.connect(), node.connect(), node.connect());
        one.subscribe("a").await;
        two.subscribe("a").await;
        quiet().await;
        assert_eq!(counts(&one), [1, 2]);
        assert_eq!(counts(&two), [2]);
        quiet().await;
        three.subscribe("a").await;
        assert_eq!(counts(&one), [3]);
        assert_eq!(counts(&two), [3]);
        two.unsubscribe("a").await;
        two.subscribe("a").await;
        quiet().await;
        assert!(counts(&one).is_empty());
        assert_eq!(counts(&two), [3], "it has come back");
        assert_eq!(counts(&three), [3], "once");
    });
}

#[test]
fn a_channel_that_was_left_and_is_used_again_is_told_its_own_number() {
    with_node(1, async |node| {
        enable(&node);
        let (mut one, mut two) = (node.connect(), node.connect());
        one.subscribe("a").await;
        two.subscribe("a").await;
        one.leave().await;
        two.leave().await;
        let again = node.connect();
        again.subscribe("a").await;
        assert_eq!(counts(&again), [1]);
        quiet().await;
        quiet().await;
        assert!(counts(&again).is_empty());
    });
}

#[test]
fn toggling_disconnects_no_slow_reader_and_it_gets_the_last_number() {
    with_node(1, async |node| {
        enable(&node);
        let (slow, quick, toggling) = (node.connect(), node.connect(), node.connect());
        for client in [&slow, &quick] {
            client.subscribe("a").await;
            client.subscribe("b").await;
        }
        quiet().await;
        for client in [&slow, &quick] {
            client.events();
        }
        // As many numbers as don't fit into an outbox of 64 KiB.
        for number in 0..1000 {
            if number % 2 == 0 {
                toggling.subscribe("a").await;
            } else {
                toggling.unsubscribe("a").await;
            }
            quiet().await;
            for client in [&slow, &quick] {
                client.session().note_activity();
            }
            // Just enough that it isn't disconnected because it takes nothing.
            slow.allow(1);
            slow.session().flush();
        }
        toggling.subscribe("b").await;
        assert_eq!(counts(&quick).len(), 1001);
        assert!(!slow.session().is_closing());
        slow.allow(usize::MAX);
        slow.session().flush();
        let seen = slow.events();
        let last = |channel: &str| {
            let mut counts = seen.iter().filter(|event| event["channel"] == channel);
            counts.next_back().map(data).unwrap()["subscription_count"].as_u64()
        };
        assert_eq!((last("a"), last("b")), (Some(2), Some(3)));
        assert!(seen.len() < 30, "superseded numbers were not kept");
    });
}

#[test]
fn numbers_of_many_channels_that_a_slow_reader_missed_fit_its_outbox() {
    let options = Options {
        max_subscriptions: 1000,
        ..options(1)
    };
    with_options(options, async |node| {
        enable(&node);
        let (slow, other) = (node.connect(), node.connect());
        let channels: Vec<_> = (0..900).map(|number| format!("{number:0>150}")).collect();
        for channel in &channels {
            slow.subscribe(channel).await;
        }
        quiet().await;
        slow.events();
        slow.allow(0);
        for channel in &channels {
            other.subscribe(channel).await;
        }
        let frame = ServerMessage::SubscriptionCount {
            channel: &channels[0],
            count: 2,
        };
        // The socket takes some at a time.
        let some = 50 * frame.to_frame().len();
        let mut told = BTreeMap::new();
        while told.len() < channels.len() {
            slow.allow(some);
            slow.session().flush();
            assert!(!slow.session().is_closing());
            for event in slow.events() {
                let channel = event["channel"].as_str().unwrap().to_owned();
                told.insert(channel, data(&event)["subscription_count"].as_u64());
            }
        }
        assert!(told.values().all(|count| *count == Some(2)));
    });
}

#[test]
fn presence_and_encrypted_channels_are_not_counted() {
    with_node(1, async |node| {
        enable(&node);
        let client = node.connect();
        client.join("presence-a", r#"{"user_id":1}"#).await;
        client.subscribe("private-encrypted-a").await;
        assert!(counts(&client).is_empty());
        client.subscribe("private-a").await;
        assert_eq!(counts(&client), [1]);
    });
}

#[test]
fn more_than_a_hundred_are_told_every_five_seconds_and_the_last_number_always() {
    with_node(2, async |node| {
        enable(&node);
        let mut clients = Vec::new();
        for _ in 0..150 {
            let client = node.connect();
            client.subscribe("a").await;
            clients.push(client);
        }
        quiet().await;
        assert_eq!(counts(&clients[0]), [1, 150]);
        for client in &clients[140..] {
            client.unsubscribe("a").await;
        }
        tokio::time::sleep(Duration::from_millis(4500)).await;
        assert!(counts(&clients[0]).is_empty());
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(counts(&clients[0]), [140]);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(counts(&clients[0]).is_empty());
    });
}
