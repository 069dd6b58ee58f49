//! The last event of each cache channel (spec 2.6), bounded for each app: the oldest go first.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use fanfare_protocol::{AppId, ChannelName, Limits};
use parking_lot::Mutex;
use tokio::time::Instant;

/// What an entry takes besides its texts, in bytes.
const ENTRY_WEIGHT: usize = 256;

/// When an event was kept, among all events kept for an app. Never used twice; grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Offset(u64);

impl Offset {
    /// Of events that are not kept: later than any that is.
    pub(crate) const LIVE: Self = Self(u64::MAX);
}

/// An event that is kept.
#[derive(Debug, Clone)]
pub struct CachedEvent {
    /// Its name.
    pub name: Arc<str>,
    /// Its data, as it was published.
    pub data: Arc<str>,
    expires: Instant,
    offset: Offset,
}

impl CachedEvent {
    /// How much longer it is kept.
    #[must_use]
    pub fn ttl(&self) -> Duration {
        self.expires.saturating_duration_since(Instant::now())
    }

    fn weight(&self) -> usize {
        ENTRY_WEIGHT + self.name.len() + self.data.len()
    }
}

/// The kept events of one app.
#[derive(Debug)]
pub(crate) struct Cache {
    app: AppId,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    by_channel: HashMap<ChannelName, CachedEvent>,
    by_age: BTreeMap<Offset, ChannelName>,
    weight: usize,
    newest: Offset,
    /// Events that had to go before their time.
    evicted: u64,
}

impl Cache {
    pub(crate) fn new(app: AppId) -> Self {
        Self {
            app,
            entries: Mutex::default(),
        }
    }

    /// Keeps an event in place of the channel's last one. Called in the order in which the channel's events leave.
    pub(crate) fn keep(
        &self,
        channel: &ChannelName,
        name: &Arc<str>,
        data: &Arc<str>,
        limits: &Limits,
    ) -> Offset {
        let mut entries = self.entries.lock();
        let now = Instant::now();
        entries.newest.0 += 1;
        let offset = entries.newest;
        let expires = now + Duration::from_secs(limits.cache_ttl.min(Limits::MAX_CACHE_TTL));
        entries.remove(channel.as_str());
        entries.insert(
            channel,
            CachedEvent {
                name: Arc::clone(name),
                data: Arc::clone(data),
                expires,
                offset,
            },
        );
        let before = entries.evicted;
        entries.shrink(limits.cache_bytes, now);
        // A line for every doubling: the first says that it began, and no flood follows.
        if entries.evicted.checked_ilog2() != before.checked_ilog2() {
            tracing::warn!(
                app = %self.app,
                evicted = entries.evicted,
                bytes = limits.cache_bytes,
                "cache channels keep more than they may: the oldest events go before their time"
            );
        }
        offset
    }

    /// The channel's last event, if it is kept still, and the offset up to which events are accounted for with that.
    pub(crate) fn recall(&self, channel: &str) -> (Option<CachedEvent>, Offset) {
        let mut entries = self.entries.lock();
        if entries
            .by_channel
            .get(channel)
            .is_some_and(|event| event.expires <= Instant::now())
        {
            entries.remove(channel);
        }
        (entries.by_channel.get(channel).cloned(), entries.newest)
    }
}

impl Entries {
    fn insert(&mut self, channel: &ChannelName, event: CachedEvent) {
        self.weight += event.weight();
        self.by_age.insert(event.offset, channel.clone());
        self.by_channel.insert(channel.clone(), event);
    }

    fn remove(&mut self, channel: &str) {
        if let Some(event) = self.by_channel.remove(channel) {
            self.weight -= event.weight();
            self.by_age.remove(&event.offset);
        }
    }

    /// Lets go of what has expired, and of the oldest beyond the bound. All are kept equally long, so the oldest expires
    /// first.
    fn shrink(&mut self, max: usize, now: Instant) {
        while let Some((_, channel)) = self.by_age.first_key_value() {
            let channel = channel.clone();
            let expired = self
                .by_channel
                .get(&channel)
                .is_none_or(|event| event.expires <= now);
            if !expired && self.weight <= max {
                return;
            }
            self.evicted += u64::from(!expired);
            self.remove(channel.as_str());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache() -> Cache {
        Cache::new(AppId::parse("1").unwrap())
    }

    fn name(text: &str) -> ChannelName {
        ChannelName::parse(text, 200).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_go_first_when_the_app_keeps_too_much_and_they_are_counted() {
        let (cache, text) = (cache(), Arc::<str>::from("x".repeat(1000)));
        let limits = Limits {
            cache_bytes: 5 * (ENTRY_WEIGHT + 1001),
            ..Limits::HOSTED
        };
        for number in 0..8 {
            cache.keep(
                &name(&format!("cache-{number}")),
                &"e".into(),
                &text,
                &limits,
            );
        }
        let kept = |number: usize| cache.recall(&format!("cache-{number}")).0.is_some();
        assert_eq!(
            (0..8).map(kept).collect::<Vec<_>>(),
            [false, false, false, true, true, true, true, true]
        );
        assert_eq!(cache.entries.lock().evicted, 3);
        cache.keep(&name("cache-3"), &"e".into(), &text, &limits);
        assert!(
            kept(4),
            "a newer event of the same channel takes the place of the older"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_time_that_is_none_is_as_long_as_there_is() {
        let cache = cache();
        let limits = Limits {
            cache_ttl: u64::MAX,
            ..Limits::HOSTED
        };
        cache.keep(&name("cache-a"), &"e".into(), &"d".into(), &limits);
        assert_eq!(
            cache.recall("cache-a").0.unwrap().ttl(),
            Duration::from_secs(Limits::MAX_CACHE_TTL)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_expired_is_gone_and_counts_as_no_eviction() {
        let cache = cache();
        cache.keep(&name("cache-a"), &"e".into(), &"d".into(), &Limits::HOSTED);
        tokio::time::advance(Duration::from_secs(1799)).await;
        assert_eq!(
            cache.recall("cache-a").0.unwrap().ttl(),
            Duration::from_secs(1)
        );
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(cache.recall("cache-a").0.is_none());
        cache.keep(&name("cache-b"), &"e".into(), &"d".into(), &Limits::HOSTED);
        assert_eq!(cache.entries.lock().by_age.len(), 1);
        assert_eq!(cache.entries.lock().evicted, 0);
    }
}
