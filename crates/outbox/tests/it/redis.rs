use std::ops::Deref;

use fanfare_outbox::{BatchLimits, Lease, Location, Rejection};
use fanfare_testkit::RedisServer;

use crate::{LIMITS, NOW, connect, drain, ids, next, reader};

/// A Redis of one test, with an outbox.
struct Server(RedisServer);

impl Deref for Server {
    type Target = RedisServer;

    fn deref(&self) -> &RedisServer {
        &self.0
    }
}

impl Server {
    fn start() -> Self {
        Self(RedisServer::start(&[]))
    }

    fn location(&self) -> Location {
        Location::parse(&format!("redis://127.0.0.1:{}", self.port), Some("events")).unwrap()
    }

    /// Adds an event with its name as its data.
    fn publish(&self, event: &str) {
        self.ask(&[
            "XADD", "events", "*", "channel", "news", "event", event, "data", event,
        ]);
    }
}

#[tokio::test]
async fn entries_come_in_order_those_before_the_first_reader_too_and_are_deleted() {
    let server = Server::start();
    server.publish("a");
    server.publish("b");
    let mut reader = reader(&server.location(), "n1").await;
    server.publish("c");
    assert_eq!(drain(&mut reader, 2).await, ["a", "b", "c"]);
    assert_eq!(server.ask(&["XLEN", "events"]), "0");
}

#[tokio::test]
async fn what_was_taken_and_not_delivered_comes_again_in_the_same_batches() {
    let server = Server::start();
    let limits = BatchLimits {
        events: 2,
        ..LIMITS
    };
    let mut first = reader(&server.location(), "n1").await;
    for name in ["a", "b", "c"] {
        server.publish(name);
    }
    let taken = first.next(limits, NOW).await.unwrap();
    server.publish("d");
    let mut second = connect(&server.location(), "n2").await;
    assert!(matches!(second.lease().await.unwrap(), Lease::Other { node, .. } if node == "n1"));
    // The first one dies: five seconds later nobody holds the lease.
    server.ask(&["DEL", "events:reader"]);
    let mut second = reader(&server.location(), "n2").await;
    let again = second.next(limits, NOW).await.unwrap();
    assert_eq!(ids(&again), ids(&taken));
    second.delivered(ids(&again));
    assert_eq!(drain(&mut second, 10).await, ["c", "d"]);
}

#[tokio::test]
async fn a_node_that_lost_the_lease_and_has_it_again_forgets_what_it_had_taken() {
    let server = Server::start();
    let limits = BatchLimits {
        events: 1,
        ..LIMITS
    };
    let mut first = reader(&server.location(), "n1").await;
    for name in ["a", "b"] {
        server.publish(name);
    }
    first.next(limits, NOW).await.unwrap();
    server.ask(&["DEL", "events:reader"]);
    let mut second = reader(&server.location(), "n2").await;
    assert!(matches!(first.lease().await.unwrap(), Lease::Other { .. }));
    assert_eq!(drain(&mut second, 10).await, ["a", "b"]);
    server.publish("c");
    next(&mut second).await;
    server.ask(&["DEL", "events:reader"]);
    assert_eq!(first.lease().await.unwrap(), Lease::Mine);
    assert_eq!(drain(&mut first, 10).await, ["c"]);
}

#[tokio::test]
async fn what_a_node_had_taken_when_it_gave_the_lease_up_comes_again_for_itself_too() {
    let server = Server::start();
    let mut reader = reader(&server.location(), "n1").await;
    server.publish("a");
    next(&mut reader).await;
    reader.release().await.unwrap();
    assert_eq!(reader.lease().await.unwrap(), Lease::Mine);
    assert_eq!(drain(&mut reader, 10).await, ["a"]);
}

#[tokio::test]
async fn an_entry_that_can_be_no_event_is_set_aside_with_the_reason() {
    let server = Server::start();
    let mut reader = reader(&server.location(), "n1").await;
    server.ask(&["XADD", "events", "*", "channel", "news", "data", "1"]);
    server.publish("refused-later");
    server.publish("good");
    let taken = next(&mut reader).await;
    let rejection = Rejection {
        id: taken[0].id.clone(),
        reason: "later".into(),
    };
    reader.reject(&[rejection]).await.unwrap();
    reader.delivered([taken[1].id.clone()]);
    assert_eq!(drain(&mut reader, 10).await, [""; 0]);
    let rejected = server.ask(&["XRANGE", "events:rejected", "-", "+"]);
    assert!(
        rejected.contains("no field event") && rejected.contains("refused-later"),
        "{rejected}"
    );
    assert_eq!(server.ask(&["XLEN", "events"]), "0");
}

#[tokio::test]
async fn a_key_counts_once() {
    let server = Server::start();
    let mut reader = reader(&server.location(), "n1").await;
    for _ in 0..2 {
        let mut entry = vec![
            "XADD", "events", "*", "channel", "news", "event", "e", "data", "1",
        ];
        entry.extend(["idempotency_key", "order-7"]);
        server.ask(&entry);
    }
    assert_eq!(drain(&mut reader, 10).await, ["e"]);
}

#[tokio::test]
async fn entries_stay_for_other_groups() {
    let server = Server::start();
    server.publish("a");
    server.ask(&["XGROUP", "CREATE", "events", "billing", "0"]);
    let mut reader = reader(&server.location(), "n1").await;
    assert_eq!(drain(&mut reader, 10).await, ["a"]);
    server.publish("b");
    assert_eq!(server.ask(&["XLEN", "events"]), "2");
    let backlog = reader.backlog().await.unwrap();
    assert_eq!((backlog.waiting, backlog.is_exact), (1, true));
    assert!(backlog.oldest_age.is_some());
}

#[tokio::test]
async fn a_node_that_leaves_is_followed_at_once() {
    let server = Server::start();
    let mut first = reader(&server.location(), "n1").await;
    server.publish("a");
    let taken = next(&mut first).await;
    first.delivered(ids(&taken));
    first.release().await.unwrap();
    let mut second = reader(&server.location(), "n2").await;
    assert_eq!(drain(&mut second, 10).await, [""; 0]);
    assert_eq!(second.backlog().await.unwrap().waiting, 0);
}
