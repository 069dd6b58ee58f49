//! The limits: hosted Pusher's where they are known, with room where SDKs need it (docs/protocol.md#limits).

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ceilings::Ceilings;

/// Bounds on what clients and backends may send. Lengths are bytes of UTF-8 unless said otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Limits {
    /// Most connections of the app, over all nodes; 0 for no limit. Further clients are refused
    /// with 4004, or with 4100 while one network has many of the connections.
    #[schema(value_type = u64, maximum = 100_000_000)]
    pub connections: usize,
    /// Most subscriptions of the app's connections on each node; 0 for no limit. Further
    /// subscriptions are refused.
    #[schema(value_type = u64, maximum = 1_000_000_000)]
    pub subscriptions: usize,
    /// Events that backends may publish per second, and the burst that they may publish at once; 0
    /// for no limit. Further events are refused with status 429.
    #[schema(value_type = u64, maximum = 4_294_967_295_u32)]
    pub backend_events_per_second: u32,
    /// Longest channel name. Hosted Pusher documents 164; no SDK refuses less than 200, so neither
    /// does this server.
    #[schema(minimum = 1, maximum = 1024)]
    pub channel_name: usize,
    /// Longest event name.
    #[schema(minimum = 1, maximum = 1024)]
    pub event_name: usize,
    /// Most bytes in the `data` of one event from the HTTP API; larger events are refused with
    /// status 413.
    #[schema(minimum = 1, maximum = 67_108_864)]
    pub event_data: usize,
    /// Most bytes in the `data` of one client event.
    #[schema(minimum = 1, maximum = 16_777_216)]
    pub client_event_data: usize,
    /// Client events that one connection may send per second, and the burst that it may send at
    /// once; 0 for no limit.
    #[schema(value_type = u64, maximum = 1_000_000)]
    pub client_events_per_second: u32,
    /// Most channels in one `POST events`.
    #[schema(minimum = 1, maximum = 10_000)]
    pub channels_per_publish: usize,
    /// Most events in one `POST batch_events`.
    #[schema(minimum = 1, maximum = 10_000)]
    pub batch_events: usize,
    /// Most distinct users on a presence channel.
    #[schema(minimum = 1, maximum = 1_000_000)]
    pub presence_members: usize,
    /// Most bytes in a presence member: its `user_id` and `user_info` together.
    #[schema(minimum = 1, maximum = 1_048_576)]
    pub presence_member_size: usize,
    /// Longest presence `user_id`, in characters.
    #[schema(minimum = 1, maximum = 1024)]
    pub user_id: usize,
    /// Most users on a watchlist; of a longer one only the first count.
    #[schema(maximum = 10_000)]
    pub watchlist: usize,
    /// Seconds that a cache channel keeps its last event; at most a year.
    #[schema(minimum = 1, maximum = 31_536_000)]
    pub cache_ttl: u64,
    /// Most bytes that the cached events of an app take together; the oldest are dropped first.
    #[schema(maximum = 1_099_511_627_776_u64)]
    pub cache_bytes: usize,
    /// Most bytes that the histories of an app take together on a node by itself; the longest
    /// unused is dropped first. In a cluster Redis keeps the histories, bounded by their sizes and
    /// times.
    #[schema(maximum = 1_099_511_627_776_u64)]
    pub history_bytes: usize,
}

impl Limits {
    /// Longest that a cache channel may keep an event, in seconds: a year. Far longer ones are no times any more.
    pub const MAX_CACHE_TTL: u64 = 365 * 24 * 60 * 60;

    /// What hosted Pusher grants.
    pub const HOSTED: Self = Self {
        connections: 0,
        subscriptions: 0,
        backend_events_per_second: 0,
        channel_name: 200,
        event_name: 200,
        event_data: 10 * 1024,
        client_event_data: 10 * 1024,
        client_events_per_second: 10,
        channels_per_publish: 100,
        batch_events: 10,
        presence_members: 100,
        presence_member_size: 1024,
        user_id: 128,
        watchlist: 100,
        cache_ttl: 30 * 60,
        cache_bytes: 16 << 20,
        history_bytes: 64 << 20,
    };
}

impl Limits {
    /// Checks that an app can work within these limits.
    ///
    /// # Errors
    ///
    /// Returns a text with the limit that is too low or too high, and its bound.
    pub fn check(&self) -> Result<(), String> {
        let needed = [
            ("channel_name", self.channel_name),
            ("event_name", self.event_name),
            ("event_data", self.event_data),
            ("client_event_data", self.client_event_data),
            ("channels_per_publish", self.channels_per_publish),
            ("batch_events", self.batch_events),
            ("presence_members", self.presence_members),
            ("presence_member_size", self.presence_member_size),
            ("user_id", self.user_id),
        ];
        if self.cache_ttl == 0 {
            return Err("limits.cache_ttl must be at least 1 second".into());
        }
        if self.cache_ttl > Self::MAX_CACHE_TTL {
            return Err(format!(
                "limits.cache_ttl must be at most {} seconds, a year",
                Self::MAX_CACHE_TTL
            ));
        }
        if let Some((name, _)) = needed.iter().find(|(_, limit)| *limit == 0) {
            return Err(format!("limits.{name} must be at least 1"));
        }
        match Ceilings::MOST.exceeded(self) {
            Some((name, most)) => Err(format!("limits.{name} must be at most {most}")),
            None => Ok(()),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::HOSTED
    }
}
