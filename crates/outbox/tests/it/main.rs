//! Outboxes in a real Postgres and in a real Redis.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test stops where something is missing, and its settings are variables"
)]

mod databases;
mod postgres;
mod redis;

use std::time::Duration;

use fanfare_outbox::{BatchLimits, Identity, Lease, Location, OutboxEvent, Reader};

const LIMITS: BatchLimits = BatchLimits {
    events: 100,
    channels: 100,
    bytes: 100_000,
};
/// How long to wait for something that is there already.
const SOON: Duration = Duration::from_secs(5);
const NOW: Duration = Duration::ZERO;

/// Connects as a node.
async fn connect(location: &Location, node: &str) -> Reader {
    let identity = Identity {
        app: "1".into(),
        node: node.into(),
    };
    let poll_interval = Duration::from_millis(10);
    Reader::connect(location, identity, poll_interval)
        .await
        .unwrap()
}

/// Connects as a node, and becomes the reader.
async fn reader(location: &Location, node: &str) -> Reader {
    let mut reader = connect(location, node).await;
    assert_eq!(reader.lease().await.unwrap(), Lease::Mine);
    reader
}

async fn next(reader: &mut Reader) -> Vec<OutboxEvent> {
    reader.next(LIMITS, SOON).await.unwrap()
}

/// Reads all that waits, in batches of at most `at_once`, and returns the names of the events.
async fn drain(reader: &mut Reader, at_once: usize) -> Vec<String> {
    let limits = BatchLimits {
        events: at_once,
        ..LIMITS
    };
    let mut names = Vec::new();
    loop {
        let events = reader.next(limits, NOW).await.unwrap();
        if events.is_empty() {
            return names;
        }
        assert!(events.len() <= at_once);
        reader.delivered(events.iter().map(|event| event.id.clone()));
        names.extend(events.into_iter().map(|event| event.name));
    }
}

fn ids(events: &[OutboxEvent]) -> Vec<String> {
    events.iter().map(|event| event.id.clone()).collect()
}
