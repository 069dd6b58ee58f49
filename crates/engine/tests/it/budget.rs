//! What subscriptions and histories take is charged to the client's network and the node, and given back.

use std::net::IpAddr;

use fanfare_engine::testing::{Client, LocalNode, arrival, options, run_paused};
use fanfare_engine::{Arrival, Bounds, Budgets, Options, Resource};
use fanfare_protocol::{AppSettings, HistoryRule};
use serde_json::json;

use crate::node::{KEY, Seen, complaint, data, definition, settings, with_node};

/// A node on which ten subscriptions of a network and forty of all clients have room.
fn small() -> Options {
    let bounds = |bytes| Bounds::unlimited().with(Resource::SubscriptionBytes, bytes);
    Options {
        budgets: Budgets {
            node: bounds(27_500),
            network: bounds(6_100),
            ..Budgets::default()
        },
        ..options(1)
    }
}

fn from(node: &LocalNode, last: u8) -> Client {
    at(node, IpAddr::from([192, 0, 2, last]))
}

fn at(node: &LocalNode, address: IpAddr) -> Client {
    let admitted = node.engine.admit(Arrival {
        charged_address: Some(address),
        ..arrival(KEY)
    });
    node.connect_admitted(admitted.expect("admitted"))
}

#[test]
fn a_network_has_its_share_of_subscriptions_and_gets_it_back() {
    run_paused(async {
        let node = LocalNode::alone(small()).await;
        let (first, mut second) = (from(&node, 1), from(&node, 1));
        for number in 0..5 {
            first.subscribe(&format!("a{number}")).await;
            second.subscribe(&format!("b{number}")).await;
        }
        first.events();
        for number in 0..5 {
            first.subscribe(&format!("c{number}")).await;
        }
        assert!(complaint(&first.events()).contains("Your network 192.0.2.1 has reached"));
        let other = from(&node, 2);
        other.subscribe("a0").await;
        assert_eq!(other.names().len(), 2, "a greeting and a success");
        second.leave().await;
        first.subscribe("again").await;
        first.unsubscribe("again").await;
        assert_eq!(first.names(), ["pusher_internal:subscription_succeeded"]);
    });
}

#[test]
fn a_node_that_is_nearly_full_sends_newcomers_elsewhere_and_keeps_those_that_are_there() {
    run_paused(async {
        let node = LocalNode::alone(small()).await;
        let mut held: Vec<_> = (1..6).map(|last| from(&node, last)).collect();
        for client in &held {
            for number in 0..10 {
                client.subscribe(&format!("{number}")).await;
            }
        }
        let refused = node.engine.admit(arrival(KEY)).expect_err("no room");
        assert_eq!(refused.code.number(), 4100);
        let closed = |client: &Client| client.seen().contains(&Seen::Close(4100));
        // The last one asked for more than the node had left.
        assert_eq!(held.iter().filter(|client| closed(client)).count(), 1);
        for client in &mut held {
            client.leave().await;
        }
        assert_eq!(node.engine.ledger().used(Resource::SubscriptionBytes), 0);
        assert!(node.engine.admit(arrival(KEY)).is_ok());
    });
}

#[test]
fn an_app_has_its_quota_of_subscriptions_on_all_its_connections() {
    with_node(1, async |node| {
        let limit = |subscriptions| {
            let mut changed = settings();
            changed.limits.subscriptions = subscriptions;
            let changed = definition("1", KEY, changed);
            let other = definition("2", "other", settings());
            node.engine.update_apps(vec![changed, other], &[]);
        };
        limit(3);
        let (mut first, second) = (node.connect(), node.connect());
        first.subscribe("a").await;
        first.subscribe("private-a").await;
        second.join("presence-a", r#"{"user_id":"u"}"#).await;
        second.events();
        second.subscribe("a").await;
        let refused = second.events();
        assert_eq!(
            complaint(&refused),
            "The app has 3 subscriptions on this server, the most it may have (limits.subscriptions)"
        );
        let error = data(&refused[1]);
        assert_eq!(
            (&error["type"], &error["status"]),
            (&"LimitReached".into(), &403.into())
        );
        node.connect_with("other").subscribe("a").await;
        // One that was refused for another reason has taken nothing, and what is given up is there again.
        first.subscribe("a").await;
        first.unsubscribe("a").await;
        first.events();
        second.subscribe("b").await;
        assert_eq!(second.names(), ["pusher_internal:subscription_succeeded"]);
        first.leave().await;
        second.subscribe("c").await;
        assert_eq!(second.names(), ["pusher_internal:subscription_succeeded"]);
        limit(2);
        second.subscribe("d").await;
        assert!(complaint(&second.events()).contains("has 2 subscriptions"));
        limit(0);
        second.subscribe("d").await;
        assert_eq!(second.names(), ["pusher_internal:subscription_succeeded"]);
    });
}

/// Clients of one network that each ask for fifty subscriptions, and how many they get in all.
async fn fill(node: &LocalNode, address: IpAddr, clients: usize) -> (Vec<Client>, usize) {
    let mut held = Vec::new();
    let mut count = 0;
    for _ in 0..clients {
        let client = at(node, address);
        for number in 0..50 {
            client.subscribe(&format!("{number}")).await;
        }
        let names = client.names();
        let succeeded = |name: &&String| *name == "pusher_internal:subscription_succeeded";
        count += names.iter().filter(succeeded).count();
        held.push(client);
    }
    (held, count)
}

#[test]
fn one_network_leaves_subscriptions_of_an_apps_quota_to_others() {
    with_node(2, async |node| {
        let mut limited = settings();
        limited.limits.subscriptions = 800;
        let changed = definition("1", KEY, limited);
        node.engine.update_apps(vec![changed], &[]);
        let address = |last| IpAddr::from([192, 0, 2, last]);
        let (mut first, count) = fill(&node, address(1), 15).await;
        assert_eq!(count, 700);
        // However many networks come, each gets some.
        let mut held = Vec::new();
        for last in 2..9 {
            let (clients, count) = fill(&node, address(last), 2).await;
            assert!(count > 0, "network {last}");
            held.extend(clients);
        }
        let asked = &first[14];
        asked.subscribe("more").await;
        let refused = complaint(&asked.events());
        assert_eq!(
            refused,
            "Your network 192.0.2.1 has 700 of the 800 subscriptions that the app may have on this server, and the rest is kept for \
             other networks (limits.subscriptions)"
        );
        // Those that it has stay, and what its clients give up is there again.
        for mut client in first.drain(..).chain(held) {
            client.leave().await;
        }
        let (_, count) = fill(&node, address(1), 15).await;
        assert_eq!(count, 700);
    });
}

#[test]
fn the_networks_of_one_ipv6_customer_share_subscriptions_of_a_quota() {
    with_node(1, async |node| {
        let mut limited = settings();
        limited.limits.subscriptions = 80;
        let changed = definition("1", KEY, limited);
        node.engine.update_apps(vec![changed], &[]);
        let address = |customer: u16, network: u16| {
            IpAddr::from([0x2001, 0xdb8, customer, network, 0, 0, 0, 1])
        };
        let (mut held, mut count) = (Vec::new(), 0);
        for network in 0..60 {
            let (clients, more) = fill(&node, address(1, network), 1).await;
            held.extend(clients);
            count += more;
        }
        // It counts as four networks, so the last of it is left.
        assert!(count < 80, "{count}");
        let (_other, count) = fill(&node, address(2, 0), 1).await;
        assert!(count > 0);
    });
}

/// A node on which a network may hold one long history.
async fn with_a_history() -> LocalNode {
    let bounds = |bytes| Bounds::unlimited().with(Resource::HistoryBytes, bytes);
    let budgets = Budgets {
        node: bounds(400_000),
        network: bounds(210_000),
        ..Budgets::default()
    };
    let node = LocalNode::alone(Options {
        budgets,
        ..options(1)
    })
    .await;
    let rule = HistoryRule {
        channels: "room".into(),
        size: 20,
        ttl: 60,
    };
    let settings = AppSettings {
        history: vec![rule],
        ..settings()
    };
    let definitions = vec![definition("1", KEY, settings)];
    node.engine.update_apps(definitions, &[]);
    for _ in 0..20 {
        node.publish("room", "e", &"x".repeat(10_000)).await;
    }
    node
}

async fn rewind(client: &Client) {
    let data = json!({"channel": "room", "recover": true, "rewind": 20});
    client
        .send(&json!({"event": "pusher:subscribe", "data": data}))
        .await;
}

/// Writes a history of 200 KB, which takes several turns.
fn write_all(client: &Client) {
    for _ in 0..3 {
        client.session().flush();
    }
}

#[test]
fn a_history_waits_until_its_network_was_sent_those_that_it_holds_and_other_networks_do_not() {
    run_paused(async {
        let node = with_a_history().await;
        let (slow, second, other) = (from(&node, 1), from(&node, 1), from(&node, 2));
        for client in [&slow, &second, &other] {
            client.seen();
        }
        slow.allow(0);
        rewind(&slow).await;
        assert!(node.engine.ledger().used(Resource::HistoryBytes) > 100_000);
        let waits = async {
            rewind(&second).await;
            second.names().len()
        };
        let goes_on = async {
            rewind(&other).await;
            assert_eq!(other.names().len(), 21, "the success and the events");
            assert!(second.seen().is_empty());
            slow.allow(usize::MAX);
            write_all(&slow);
        };
        assert_eq!(tokio::join!(waits, goes_on).0, 21);
        assert_eq!(node.engine.ledger().used(Resource::HistoryBytes), 0);
    });
}

#[test]
fn a_history_that_waits_too_long_closes_its_connection_so_that_the_client_comes_back() {
    run_paused(async {
        let node = with_a_history().await;
        let (slow, second) = (from(&node, 1), from(&node, 1));
        slow.allow(0);
        rewind(&slow).await;
        second.seen();
        rewind(&second).await;
        let seen = second.seen();
        assert_eq!(seen.last(), Some(&Seen::Close(4100)));
        let Some(Seen::Event(error)) = seen.first() else {
            panic!("an error comes first: {seen:?}");
        };
        let message = error["data"]["message"].as_str().unwrap();
        assert!(
            message.starts_with("Too many histories are being read"),
            "{message}"
        );
        drop(slow);
    });
}
