//! Who is silent is asked, and who does not answer is closed: C-012, C-013, C-014.

use std::time::Duration;

use tokio::time::sleep;

use crate::node::{Seen, with_node};

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
                client.session().heard();
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
            client.session().heard();
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
