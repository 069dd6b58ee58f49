//! An app's quota of connections over several nodes, most of it used up by one network.

use std::net::IpAddr;

use fanfare_engine::testing::{Client, KEY, Seen, arrival, run_paused};
use fanfare_engine::{Arrival, Refusal};
use fanfare_protocol::CloseCode;
use tokio::time::{Instant, sleep};

use crate::nodes::{ClusterNode, LEASE, with_quota};
use crate::sim::{Sim, Weather};

async fn connect(node: &ClusterNode, address: impl Into<IpAddr>) -> Result<Client, Refusal> {
    let arrival = Arrival {
        charged_address: Some(address.into()),
        ..arrival(KEY)
    };
    let admitted = node.engine().admit_on_all_nodes(arrival).await?;
    Ok(node.node.connect_admitted(admitted))
}

fn displaced(clients: &[Client]) -> usize {
    let is_closed = |client: &&Client| client.seen().contains(&Seen::Close(4100));
    clients.iter().filter(is_closed).count()
}

#[test]
fn a_network_with_few_connections_on_each_of_many_nodes_gives_way() {
    run_paused(async {
        let sim = Sim::new(1, Weather::Windy);
        let nodes = with_quota(&sim, 4, 40).await;
        let mut held = Vec::new();
        // On no node does the network hold more than an eighth.
        for node in &nodes {
            for _ in 0..5 {
                held.push(connect(node, [192, 0, 2, 1]).await.unwrap());
            }
        }
        let mut others = Vec::new();
        for number in 0..20 {
            let node = &nodes[usize::from(number) % 4];
            others.push(connect(node, [198, 51, 100, number]).await.unwrap());
        }
        for number in 20..24 {
            let node = &nodes[usize::from(number) % 4];
            let start = Instant::now();
            others.push(connect(node, [198, 51, 100, number]).await.unwrap());
            assert!(start.elapsed() < LEASE, "{:?}", start.elapsed());
        }
        assert_eq!((displaced(&held), displaced(&others)), (4, 0));
    });
}

#[test]
fn a_client_that_comes_back_at_once_gets_no_place_that_was_made_for_another() {
    run_paused(async {
        let sim = Sim::new(2, Weather::Windy);
        let nodes = with_quota(&sim, 2, 20).await;
        let mut held = Vec::new();
        for _ in 0..20 {
            held.push(connect(&nodes[0], [192, 0, 2, 1]).await.unwrap());
        }
        let again = async |node: &ClusterNode| {
            for _ in 0..200 {
                if let Ok(client) = connect(node, [192, 0, 2, 1]).await {
                    return Some(client);
                }
            }
            None
        };
        let newcomers = async {
            let mut newcomers = Vec::new();
            for number in 2..7 {
                newcomers.push(connect(&nodes[1], [192, 0, 2, number]).await.unwrap());
            }
            // Longer than a displaced connection's place is kept.
            sleep(LEASE).await;
            newcomers
        };
        tokio::select! {
            newcomers = newcomers => {
                assert_eq!((displaced(&held), displaced(&newcomers)), (5, 0));
                let counted = nodes.iter().map(|node| node.node.app().connection_count());
                assert_eq!(counted.collect::<Vec<_>>(), [15, 5]);
            }
            Some(_) = again(&nodes[0]) => panic!("its node let it in"),
            Some(_) = again(&nodes[1]) => panic!("the other node let it in"),
        }
    });
}

#[test]
fn only_many_networks_over_all_nodes_keep_a_client_away() {
    run_paused(async {
        let sim = Sim::new(3, Weather::Windy);
        let nodes = with_quota(&sim, 3, 24).await;
        let mut held = Vec::new();
        for number in 0..24 {
            let (node, network) = (&nodes[usize::from(number) % 3], number / 2);
            held.push(connect(node, [198, 51, 100, network]).await.unwrap());
        }
        for node in &nodes {
            let refusal = connect(node, [192, 0, 2, 1]).await.map(|_| ()).unwrap_err();
            assert_eq!(refusal.code, CloseCode::OverQuota, "{refusal}");
        }
        assert_eq!(displaced(&held), 0);
    });
}

#[test]
fn attempts_of_one_network_that_wait_for_an_answer_keep_nobody_out() {
    run_paused(async {
        let sim = Sim::new(3, Weather::Windy);
        let nodes = with_quota(&sim, 2, 8).await;
        let mut held = Vec::new();
        for number in 0..4 {
            held.push(connect(&nodes[1], [198, 51, 100, number]).await.unwrap());
            held.push(connect(&nodes[0], [192, 0, 2, 1]).await.unwrap());
        }
        // The attempts take what is left of the quota on their node until the other node has answered.
        let attempt = || connect(&nodes[0], [192, 0, 2, 1]);
        let attempts = async { tokio::join!(attempt(), attempt(), attempt(), attempt()) };
        let other = connect(&nodes[0], [203, 0, 113, 1]);
        let (attempts, other) = tokio::join!(attempts, other);
        other.expect("a place of the network that holds most");
        for attempt in [attempts.0, attempts.1, attempts.2, attempts.3] {
            let Err(refusal) = attempt else {
                panic!("its network holds most");
            };
            assert_eq!(refusal.code, CloseCode::OverCapacity);
        }
        assert_eq!(displaced(&held), 1);
    });
}
