//! An app that has used up its quota of connections, most of them by one network.

use std::net::IpAddr;

use fanfare_engine::testing::{
    Client, LocalNode, arrival, definition, options, run_paused, settings,
};
use fanfare_engine::{Arrival, Refusal};
use fanfare_protocol::CloseCode;

use crate::node::{KEY, Seen};

async fn try_from(node: &LocalNode, last: u8) -> Result<Client, Refusal> {
    try_with(node, KEY, last).await
}

async fn try_with(node: &LocalNode, key: &str, last: u8) -> Result<Client, Refusal> {
    try_at(node, key, IpAddr::from([192, 0, 2, last])).await
}

async fn try_at(node: &LocalNode, key: &str, address: IpAddr) -> Result<Client, Refusal> {
    let arrival = Arrival {
        charged_address: Some(address),
        ..arrival(key)
    };
    let admitted = node.engine.admit_on_all_nodes(arrival).await?;
    Ok(node.connect_admitted(admitted))
}

async fn from(node: &LocalNode, last: u8) -> Client {
    try_from(node, last).await.expect("admitted")
}

/// A node of two shards, on which the app may have so many connections.
async fn node(quota: usize) -> LocalNode {
    let node = LocalNode::alone(options(2)).await;
    let mut settings = settings();
    settings.limits.connections = quota;
    let app = definition("1", KEY, settings);
    node.engine.update_apps(vec![app], &[]);
    node
}

fn displaced(clients: &[Client]) -> usize {
    let closed = |client: &&Client| client.seen().last() == Some(&Seen::Close(4100));
    clients.iter().filter(closed).count()
}

#[test]
fn newcomers_of_other_networks_take_the_place_of_connections_of_the_network_that_holds_most() {
    run_paused(async {
        let node = node(20).await;
        let mut held = Vec::new();
        for _ in 0..20 {
            held.push(from(&node, 1).await);
        }
        let mut newcomers = Vec::new();
        for network in 2..7 {
            newcomers.push(from(&node, network).await);
            assert_eq!(node.app().connection_count(), 20);
            // The client that was displaced comes back, as often as it likes.
            let refusal = try_from(&node, 1).await.map(|_| ()).unwrap_err();
            assert_eq!(refusal.code, CloseCode::OverCapacity, "{refusal}");
        }
        assert_eq!(displaced(&held), 5);
        assert_eq!(displaced(&newcomers), 0);
    });
}

#[test]
fn a_network_takes_the_place_of_few_connections_only() {
    run_paused(async {
        let node = node(10).await;
        let mut held = Vec::new();
        for _ in 0..10 {
            held.push(from(&node, 1).await);
        }
        let mut newcomers = Vec::new();
        while let Ok(newcomer) = try_from(&node, 2).await {
            newcomers.push(newcomer);
        }
        assert_eq!((newcomers.len(), displaced(&held)), (2, 2));
        assert_eq!(node.app().connection_count(), 10);
    });
}

#[test]
fn where_no_network_holds_a_large_part_nobody_is_displaced() {
    run_paused(async {
        let node = node(16).await;
        let mut held = Vec::new();
        for network in 1..9 {
            for _ in 0..2 {
                held.push(from(&node, network).await);
            }
        }
        let refusal = try_from(&node, 9).await.map(|_| ()).unwrap_err();
        assert_eq!(refusal.code, CloseCode::OverQuota, "{refusal}");
        assert_eq!(displaced(&held), 0);
    });
}

#[test]
fn connections_of_a_network_to_another_app_do_not_keep_its_clients_out() {
    run_paused(async {
        let node = node(10).await;
        let other = definition("2", "other", settings());
        node.engine.update_apps(vec![other], &[]);
        let mut held = Vec::new();
        for _ in 0..10 {
            held.push(from(&node, 1).await);
        }
        let mut elsewhere = Vec::new();
        for _ in 0..20 {
            elsewhere.push(try_with(&node, "other", 2).await.expect("admitted"));
        }
        let _newcomer = from(&node, 2).await;
        assert_eq!(displaced(&held), 1);
    });
}

#[test]
fn the_networks_of_one_ipv6_customer_count_together_for_a_quarter_each() {
    run_paused(async {
        let node = node(40).await;
        let address = |customer: u16, network: u16| {
            IpAddr::from([0x2001, 0xdb8, customer, network, 0, 0, 0, 1])
        };
        let mut held = Vec::new();
        for network in 0..40 {
            held.push(try_at(&node, KEY, address(1, network)).await.expect("room"));
        }
        let mut newcomers = Vec::new();
        let refusal = loop {
            let from = address(2 + newcomers.len() as u16, 1);
            match try_at(&node, KEY, from).await {
                Ok(newcomer) => newcomers.push(newcomer),
                Err(refusal) => break refusal,
            }
        };
        // A /48 counts as four networks, so it gives way down to four eighths.
        assert_eq!((newcomers.len(), displaced(&held)), (17, 17));
        assert_eq!(refusal.code, CloseCode::OverCapacity, "{refusal}");
        assert_eq!(node.app().connection_count(), 40);
        // Another /64 of the same customer takes the place of nobody.
        let refused = try_at(&node, KEY, address(1, 99)).await;
        assert!(refused.is_err());
    });
}
