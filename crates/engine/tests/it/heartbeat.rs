//! A silent client gets a PING and is closed if it does not answer: docs/compatibility.md#connections, C-012 to C-014.

use std::time::Duration;

use fanfare_engine::Options;
use tokio::time::sleep;

use crate::node::{Seen, options, with_node, with_options};

#[test]
fn a_client_that_answers_pings_stays_for_ever() {
    with_node(1, async |node| {
        let client = node.connect();
        let mut pings = 0;
        for _ in 0..600 {
            sleep(Duration::from_secs(1)).await;
            for seen in client.seen() {
                assert_eq!(seen, Seen::Ping);
                pings += 1;
                client.session().note_activity();
            }
        }
        assert_eq!(pings, 4, "one ping every two minutes of silence");
    });
}

#[test]
fn a_client_that_pings_by_itself_is_not_asked() {
    with_node(1, async |node| {
        let client = node.connect();
        for _ in 0..5 {
            sleep(Duration::from_secs(60)).await;
            client.session().note_activity();
        }
        assert!(client.seen().is_empty());
    });
}

#[test]
fn a_client_that_answers_nothing_is_closed_with_4201() {
    with_node(1, async |node| {
        let client = node.connect();
        sleep(Duration::from_secs(140)).await;
        assert_eq!(client.seen(), [Seen::Ping]);
        sleep(Duration::from_secs(12)).await;
        let seen = client.seen();
        assert!(matches!(&seen[0], Seen::Event(error) if error["data"]["code"] == 4201));
        assert_eq!(seen[1], Seen::Close(4201));
        assert!(client.session().is_closing());
    });
}

const PING_INTERVAL: Duration = Duration::from_secs(25);

fn with_pings() -> Options {
    Options {
        ping_interval: Some(PING_INTERVAL),
        ..options(1)
    }
}

/// PINGs to a client in each of the next `seconds`.
async fn pings_by_second(client: &crate::node::Client, seconds: usize) -> Vec<usize> {
    let mut pings = Vec::new();
    for _ in 0..seconds {
        sleep(Duration::from_secs(1)).await;
        let seen = client.seen();
        if !seen.is_empty() {
            client.session().note_activity();
        }
        pings.push(seen.iter().filter(|seen| **seen == Seen::Ping).count());
    }
    pings
}

#[test]
fn an_idle_client_gets_a_ping_every_25_seconds_whatever_the_activity_timeout_is() {
    with_options(with_pings(), async |node| {
        let client = node.connect();
        let pings = pings_by_second(&client, 600).await;
        assert_eq!(pings.iter().sum::<usize>(), 600 / 25);
        let when: Vec<_> = (0..600).filter(|second| pings[*second] > 0).collect();
        assert!(when.windows(2).all(|two| two[1] - two[0] == 25), "{when:?}");
        assert!(client.session.is_some_and(|session| !session.is_closing()));
    });
}

#[test]
fn a_client_that_only_sends_gets_pings_as_well() {
    // What it sends says nothing about the other direction, which a proxy may count alone.
    with_options(with_pings(), async |node| {
        let client = node.connect();
        for _ in 0..75 {
            sleep(Duration::from_secs(1)).await;
            client.session().note_activity();
        }
        assert_eq!(client.seen(), [Seen::Ping, Seen::Ping, Seen::Ping]);
    });
}

#[test]
fn clients_that_came_at_once_get_their_pings_one_after_the_other() {
    with_options(with_pings(), async |node| {
        let clients: Vec<_> = (0..500).map(|_| node.connect()).collect();
        for second in 0..50 {
            sleep(Duration::from_secs(1)).await;
            let pinged = clients.iter().filter(|client| !client.seen().is_empty());
            let pinged = pinged.count();
            assert!((18..=22).contains(&pinged), "{pinged} in second {second}");
        }
    });
}

#[test]
fn a_client_that_answers_no_ping_is_closed_when_it_always_was() {
    with_options(with_pings(), async |node| {
        let client = node.connect();
        sleep(Duration::from_secs(149)).await;
        assert!(client.seen().iter().all(|seen| *seen == Seen::Ping));
        sleep(Duration::from_secs(3)).await;
        assert_eq!(client.seen().last(), Some(&Seen::Close(4201)));
    });
}

#[test]
fn a_client_whose_socket_takes_nothing_gets_no_pings_on_top() {
    with_options(with_pings(), async |node| {
        let client = node.connect();
        client.subscribe("a").await;
        client.seen();
        client.allow(0);
        node.publish("a", "e", "d").await;
        // Beyond its turn for a PING, and not for as long as such a client may stay.
        sleep(Duration::from_secs(28)).await;
        client.allow(usize::MAX);
        client.session().flush();
        assert_eq!(client.names(), ["e"]);
    });
}
