//! How much may wait for clients that read slowly, all together.

use std::time::Duration;

use fanfare_engine::{Arrival, Options, WaitingLimits};
use tokio::time::sleep;

use crate::node::{Client, KEY, Node, Seen, arrival, options, with_options};

const MIB: usize = 1 << 20;

fn limits(total: usize, app: usize, network: usize) -> Options {
    Options {
        outbox_bytes: 10 * MIB,
        max_waiting: WaitingLimits {
            total,
            app,
            network,
        },
        ..options(1)
    }
}

/// A client from an address, on a channel of its own, that reads nothing from now on.
async fn stuck(node: &Node, key: &str, address: &str, channel: &str) -> Client {
    let arrival = Arrival {
        charged_address: Some(address.parse().unwrap()),
        ..arrival(key)
    };
    let admitted = node.engine.admit(arrival).unwrap();
    let client = node.connect_admitted(admitted);
    client.subscribe(channel).await;
    client.seen();
    client.allow(0);
    client
}

async fn publish(node: &Node, channel: &str, events: usize) {
    for _ in 0..events {
        node.publish(channel, "e", &"x".repeat(10_000)).await;
    }
}

fn is_closing(client: &Client) -> bool {
    client.session().is_closing()
}

#[test]
fn over_the_bound_of_a_node_the_largest_holder_goes_at_once_and_the_others_stay() {
    with_options(limits(MIB, MIB, MIB), async |node| {
        let key = crate::node::KEY;
        let large = stuck(&node, key, "192.0.2.1", "a").await;
        let small = stuck(&node, key, "192.0.2.2", "b").await;
        publish(&node, "a", 70).await;
        publish(&node, "b", 30).await;
        assert!(!is_closing(&large) && !is_closing(&small));
        publish(&node, "b", 5).await;
        // One more connection flushes, which is when the account is looked at.
        let other = node.connect();
        other.subscribe("c").await;
        assert!(is_closing(&large) && !is_closing(&small));
        large.allow(usize::MAX);
        large.session().flush();
        assert_eq!(large.seen().last(), Some(&Seen::Close(4100)));
        small.allow(usize::MAX);
        small.session().flush();
        assert_eq!(small.names().len(), 35);
    });
}

#[test]
fn over_the_bound_of_a_network_its_largest_holder_goes_and_other_networks_stay() {
    with_options(limits(10 * MIB, 10 * MIB, MIB), async |node| {
        let key = crate::node::KEY;
        let ours = stuck(&node, key, "2001:db8::1", "a").await;
        let theirs = stuck(&node, key, "2001:db8::2", "b").await;
        let elsewhere = stuck(&node, key, "2001:db8:0:1::1", "c").await;
        publish(&node, "a", 70).await;
        publish(&node, "b", 40).await;
        publish(&node, "c", 100).await;
        sleep(Duration::from_secs(2)).await;
        assert!(is_closing(&ours));
        assert!(!is_closing(&theirs) && !is_closing(&elsewhere));
    });
}

#[test]
fn over_the_bound_of_an_app_its_largest_holder_goes_and_other_apps_stay() {
    with_options(limits(10 * MIB, MIB, 10 * MIB), async |node| {
        let other = crate::node::definition("2", "other", crate::node::settings());
        node.engine.update_apps(vec![other], &[]);
        let key = crate::node::KEY;
        let large = stuck(&node, key, "192.0.2.1", "a").await;
        let small = stuck(&node, key, "192.0.2.1", "b").await;
        publish(&node, "a", 70).await;
        publish(&node, "b", 40).await;
        sleep(Duration::from_secs(2)).await;
        assert!(is_closing(&large) && !is_closing(&small));
    });
}

#[test]
fn frames_that_many_share_count_once() {
    with_options(limits(MIB, MIB, MIB), async |node| {
        let mut clients = Vec::new();
        for number in 0..50 {
            let address = format!("192.0.2.{number}");
            clients.push(stuck(&node, crate::node::KEY, &address, "a").await);
        }
        publish(&node, "a", 80).await;
        sleep(Duration::from_secs(2)).await;
        assert!(!clients.iter().any(is_closing), "they hold less than 1 MiB");
    });
}

#[test]
fn an_answer_longer_than_a_bound_is_sent_to_one_client_at_a_time() {
    let bound = 8_000;
    with_options(limits(bound, bound, bound), async |node| {
        let small = stuck(&node, KEY, "192.0.2.1", "a").await;
        node.publish("a", "e", &"x".repeat(2_000)).await;
        node.publish("cache-b", "e", &"x".repeat(10_000)).await;
        let first = stuck_on_arrival(&node, "192.0.2.1", "cache-b").await;
        sleep(Duration::from_secs(2)).await;
        assert_eq!(
            [&first, &small].map(is_closing),
            [false, false],
            "{:?}",
            first.session()
        );
        let second = stuck_on_arrival(&node, "192.0.2.1", "cache-b").await;
        sleep(Duration::from_secs(2)).await;
        assert!(!is_closing(&small));
        assert_ne!(is_closing(&first), is_closing(&second));
    });
}

/// A client that subscribes and reads nothing of what that brings.
async fn stuck_on_arrival(node: &Node, address: &str, channel: &str) -> Client {
    let arrival = Arrival {
        charged_address: Some(address.parse().unwrap()),
        ..arrival(KEY)
    };
    let client = node.connect_admitted(node.engine.admit(arrival).unwrap());
    client.seen();
    client.allow(0);
    client.subscribe(channel).await;
    client
}
