//! Who does not read is disconnected, costs a bounded amount, and nobody else notices.

use std::task::{Context, Waker};

use crate::node::{Seen, settle, with_node};

#[test]
fn a_client_that_does_not_read_is_closed_and_the_others_miss_nothing() {
    with_node(1, async |node| {
        let (slow, quick) = (node.connect(), node.connect());
        for client in [&slow, &quick] {
            client.subscribe("a").await;
            client.events();
        }
        slow.allow(1500);
        let data = "x".repeat(1000);
        for _ in 0..200 {
            node.publish("a", "e", &data).await;
        }
        assert_eq!(quick.events().len(), 200);
        assert!(slow.session().is_closing());
        assert!(
            slow.session()
                .poll_interest(&Context::from_waker(Waker::noop()))
                .write
        );
        slow.allow(usize::MAX);
        slow.session().flush();
        settle().await;
        let seen = slow.seen();
        assert!(seen.len() < 50, "what waited was dropped, not kept");
        assert_eq!(seen.last(), Some(&Seen::Close(4100)));
        let error = &seen[seen.len() - 2];
        assert!(
            matches!(error, Seen::Event(error) if error["data"]["code"] == 4100),
            "{error:?}"
        );
    });
}

#[test]
fn a_client_that_catches_up_gets_everything_in_order() {
    with_node(1, async |node| {
        let client = node.connect();
        client.subscribe("a").await;
        client.events();
        client.allow(100);
        for number in 0..50 {
            node.publish("a", &number.to_string(), "d").await;
        }
        client.allow(usize::MAX);
        client.session().flush();
        let expected: Vec<_> = (0..50).map(|number| number.to_string()).collect();
        assert_eq!(client.names(), expected);
    });
}
