//! Which shards have subscribers of an app's channels: plain data behind locks, changed by
//! `registry` and `subscription_count`, and read by `deliver` and `presence`.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use fanfare_protocol::ChannelName;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::sequence::Generation;

/// Locks per app. Publishes to channels of different stripes don't wait for each other.
const STRIPES: usize = 16;

/// The number of an occupied channel on this node. A channel that is vacated and occupied again
/// gets another number, so commands that are still queued for the old one find nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ChannelId(pub(crate) u64);

/// The channels of one app that are occupied on this node.
#[derive(Debug, Default)]
pub(crate) struct Channels {
    hasher: RandomState,
    pub(crate) stripes: [Mutex<HashMap<ChannelName, Route>>; STRIPES],
}

/// A channel's shards and the number of its subscribers.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) id: ChannelId,
    /// One bit for each shard that has subscribers.
    pub(crate) shards: u64,
    pub(crate) subscribers: usize,
    /// The subscribers that get each event's position in the channel's history.
    pub(crate) positioned: usize,
    pub(crate) count_announced: CountAnnounced,
    /// Whether this node reports the next count that it announces, because it has changed it.
    pub(crate) owes_count_notice: bool,
    /// Generation since which this node receives the channel's events, if it does.
    pub(crate) received_since: Option<Generation>,
    /// Whether the channel is in the list of counts to report to other nodes.
    pub(crate) changed: bool,
}

/// When a channel's subscribers on this node got their subscription count.
#[derive(Debug, Clone, Copy)]
pub(crate) enum CountAnnounced {
    Never,
    At(Instant),
    /// They get this count soon, unless it changes until then.
    Due(usize),
}

/// A channel to which a connection is about to subscribe.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attached {
    pub(crate) id: ChannelId,
    /// Generation since which this node receives the channel's events, if it does.
    pub(crate) received_since: Option<Generation>,
}

impl Channels {
    pub(crate) fn stripe(&self, channel: &str) -> &Mutex<HashMap<ChannelName, Route>> {
        &self.stripes[self.hasher.hash_one(channel) as usize % STRIPES]
    }

    /// Returns the number of subscribed connections of a channel.
    pub(crate) fn subscribers(&self, channel: &str) -> usize {
        self.stripe(channel)
            .lock()
            .get(channel)
            .map_or(0, |route| route.subscribers)
    }

    /// Returns the occupied channels whose names start with `prefix`, with their subscribed
    /// connections, by name. Users' own channels are not among them.
    pub(crate) fn list(&self, prefix: &str) -> Vec<(ChannelName, usize)> {
        let mut found: Vec<_> = self
            .stripes
            .iter()
            // One stripe is locked at a time: the list is not a snapshot of one moment.
            .flat_map(|stripe| {
                let routes = stripe.lock();
                let matching = routes
                    .iter()
                    .filter(|(name, _)| name.as_str().starts_with(prefix) && name.user().is_none());
                matching
                    .map(|(name, route)| (name.clone(), route.subscribers))
                    .collect::<Vec<_>>()
            })
            .collect();
        found.sort();
        found
    }
}
