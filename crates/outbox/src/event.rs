//! Events as an outbox holds them, not checked yet.

use sha2::{Digest, Sha256};

/// Characters of a batch's key that come from its digest.
const KEY_LENGTH: usize = 40;

/// An event that waits in an outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxEvent {
    /// The row's or the entry's id.
    pub id: String,
    /// Its channels.
    pub channels: Vec<String>,
    /// Its name.
    pub name: String,
    /// The `data` that subscribers get.
    pub data: String,
    /// The connection that doesn't get it.
    pub socket_id: Option<String>,
}

/// An event that can't be delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The event's id.
    pub id: String,
    /// What is wrong with it.
    pub reason: String,
}

/// The most that a batch holds. An event that is larger is a batch of its own.
#[derive(Debug, Clone, Copy)]
pub struct BatchLimits {
    /// Events.
    pub events: usize,
    /// Channels of all its events.
    pub channels: usize,
    /// Bytes of the data of all its events.
    pub bytes: usize,
}

/// Returns the idempotency key of a batch of these events. Whichever node publishes them again has the same key.
#[must_use]
pub fn batch_key<'a>(ids: impl IntoIterator<Item = &'a str>) -> String {
    let mut digest = Sha256::new();
    for id in ids {
        digest.update(id);
        digest.update([0]);
    }
    format!("outbox-{}", &hex::encode(digest.finalize())[..KEY_LENGTH])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_events_in_the_same_order_have_one_key_and_others_another() {
        assert_eq!(batch_key(["a", "b"]), batch_key(["a", "b"]));
        assert_ne!(batch_key(["a", "b"]), batch_key(["b", "a"]));
        assert_ne!(batch_key(["ab"]), batch_key(["a", "b"]));
    }
}
