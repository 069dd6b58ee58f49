//! What subscriptions take is charged to the client's network and the node, and given back.

use std::net::IpAddr;

use fanfare_engine::testing::{Client, LocalNode, arrival, options, run_paused};
use fanfare_engine::{Arrival, Bounds, Budgets, Options, Resource};

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
    let admitted = node.engine.admit(Arrival {
        charged_address: Some(IpAddr::from([192, 0, 2, last])),
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
