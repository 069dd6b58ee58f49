//! A stopping node closes its connections one after the other: docs/compatibility.md#connections, C-022.

use std::time::Duration;

use fanfare_protocol::CloseCode;
use tokio::time::{Instant, sleep};

use crate::node::{KEY, Seen, arrival, with_node};

#[test]
fn connections_are_closed_with_4200_spread_over_the_period() {
    with_node(2, async |node| {
        let clients: Vec<_> = (0..100).map(|_| node.connect()).collect();
        let engine = node.engine.clone();
        let draining =
            tokio::task::spawn_local(async move { engine.drain(Duration::from_secs(10)).await });
        sleep(Duration::from_millis(250)).await;
        let closed = clients
            .iter()
            .filter(|client| client.session().is_closing())
            .count();
        assert!(
            (1..100).contains(&closed),
            "{closed} of 100 after a quarter of a second"
        );
        let newcomer = node.engine.admit(arrival(KEY)).unwrap_err().code;
        assert_eq!(
            newcomer,
            CloseCode::OverCapacity,
            "it would come back here at once otherwise"
        );
        sleep(Duration::from_secs(10)).await;
        assert!(!draining.is_finished(), "it waits for the clients to leave");
        for mut client in clients {
            assert_eq!(client.seen().last(), Some(&Seen::Close(4200)));
            client.leave().await;
        }
        draining.await.unwrap();
    });
}

#[test]
fn clients_are_told_whether_the_node_stops_or_runs_on() {
    with_node(1, async |node| {
        let mut moved = node.connect();
        let admitted = node.engine.admit(arrival(KEY)).unwrap();
        let engine = node.engine.clone();
        let moving =
            tokio::task::spawn_local(async move { engine.move_clients(Duration::ZERO).await });
        sleep(Duration::from_millis(50)).await;
        let mut late = node.connect_admitted(admitted);
        let told = |seen: Vec<Seen>| {
            let message = |seen: Seen| match seen {
                Seen::Event(event) => event["data"]["message"].as_str().map(str::to_owned),
                _ => None,
            };
            seen.into_iter().filter_map(message).collect::<Vec<_>>()
        };
        let words = |code| {
            let refusal = node.engine.admit(arrival(KEY)).unwrap_err();
            assert_eq!(refusal.code, code);
            refusal.message
        };
        let drained = "This server is being drained, reconnect";
        assert_eq!(words(CloseCode::OverCapacity), drained);
        for client in [&mut moved, &mut late] {
            assert_eq!(told(client.seen()), [drained]);
            client.leave().await;
        }
        moving.await.unwrap();
        // Stopped before the drain was ended.
        node.engine.drain(Duration::ZERO).await;
        let stops = "This server is shutting down, reconnect";
        assert_eq!(words(CloseCode::OverCapacity), stops);
    });
}

#[test]
fn a_node_without_connections_stops_at_once() {
    with_node(1, async |node| {
        let start = Instant::now();
        node.engine.drain(Duration::from_secs(20)).await;
        assert!(start.elapsed() < Duration::from_millis(100));
    });
}

#[test]
fn a_connection_that_was_on_its_way_when_the_drain_began_is_closed_too() {
    with_node(1, async |node| {
        let admitted = node.engine.admit(arrival(KEY)).unwrap();
        let engine = node.engine.clone();
        let draining = tokio::task::spawn_local(async move { engine.drain(Duration::ZERO).await });
        sleep(Duration::from_millis(50)).await;
        draining.await.unwrap();
        let mut client = node.connect_admitted(admitted);
        assert_eq!(client.seen().last(), Some(&Seen::Close(4200)));
        client.leave().await;
    });
}

#[test]
fn a_second_drain_closes_at_once_what_the_first_would_close_later() {
    with_node(1, async |node| {
        let mut clients: Vec<_> = (0..20).map(|_| node.connect()).collect();
        let slow = node.engine.clone();
        tokio::task::spawn_local(async move { slow.drain(Duration::from_secs(60)).await });
        let fast = node.engine.clone();
        tokio::task::spawn_local(async move { fast.drain(Duration::ZERO).await });
        sleep(Duration::from_millis(50)).await;
        for client in &mut clients {
            assert_eq!(client.seen().last(), Some(&Seen::Close(4200)));
        }
    });
}
