//! Where the subscribers of an app's channels are on this node: plain data behind locks, changed by `registry`,
//! `subscription_count` and `deliver`.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use fanfare_protocol::ChannelName;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::sequence::Generation;

/// Locks per app. Publishes to channels of different stripes do not wait for each other.
const STRIPES: usize = 16;

/// An occupied channel on this node, while it is occupied. Numbers are never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ChannelId(pub(crate) u64);

/// The channels of one app that are occupied on this node.
#[derive(Debug, Default)]
pub(crate) struct Channels {
    hasher: RandomState,
    pub(crate) stripes: [Mutex<HashMap<ChannelName, Route>>; STRIPES],
}

/// Where a channel's subscribers are.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) id: ChannelId,
    pub(crate) shards: u64,
    pub(crate) subscribers: usize,
    /// Those of them that are told where in the channel's history an event is.
    pub(crate) positioned: usize,
    pub(crate) told: CountAnnounced,
    /// Since when this node gets the channel's events, if it does.
    pub(crate) listening: Option<Generation>,
    /// Whether the other nodes are to be told how many subscribers there are.
    pub(crate) changed: bool,
}

/// When a channel's subscribers were told how many they are.
#[derive(Debug, Clone, Copy)]
pub(crate) enum CountAnnounced {
    Never,
    At(Instant),
    /// Not since the number changed; they will be when this time has come.
    Due(Instant),
}

/// A channel that somebody on a shard is about to subscribe to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attached {
    pub(crate) id: ChannelId,
    /// Since when this node gets the channel's events, if it does.
    pub(crate) listening: Option<Generation>,
}

impl Channels {
    pub(crate) fn stripe(&self, channel: &str) -> &Mutex<HashMap<ChannelName, Route>> {
        &self.stripes[self.hasher.hash_one(channel) as usize % STRIPES]
    }

    /// Subscribed connections of a channel.
    pub(crate) fn subscribers(&self, channel: &str) -> usize {
        self.stripe(channel)
            .lock()
            .get(channel)
            .map_or(0, |route| route.subscribers)
    }

    /// Occupied channels whose names start with `prefix`, with their subscribed connections, by name. Users' own channels
    /// are not among them.
    pub(crate) fn list(&self, prefix: &str) -> Vec<(ChannelName, usize)> {
        let mut found: Vec<_> = self
            .stripes
            .iter()
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
