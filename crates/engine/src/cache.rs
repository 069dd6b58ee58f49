//! The last event of each cache channel (docs/protocol.md#cache-channels), bounded for each app:
//! the oldest are evicted first.

use std::sync::Arc;
use std::time::Duration;

use fanfare_protocol::{AppId, ChannelName, Limits};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::eviction_map::EvictionMap;
use crate::recent_events::{KeptBytes, RecentEvents};
use crate::sequence::{Offset, Position};

/// Bytes that an entry takes besides its texts.
const ENTRY_WEIGHT: usize = 256;

/// An event that a cache channel keeps.
#[derive(Debug, Clone)]
pub struct CachedEvent {
    /// Its name.
    pub name: Arc<str>,
    /// Its data, as it was published.
    pub data: Arc<str>,
    expires: Instant,
    offset: Option<Offset>,
}

impl CachedEvent {
    /// Returns an event that the back end keeps for `ttl` more.
    #[must_use]
    pub fn new(name: &str, data: &str, ttl: Duration, position: Position) -> Self {
        Self {
            name: name.into(),
            data: data.into(),
            expires: Instant::now() + ttl.min(Duration::from_secs(Limits::MAX_CACHE_TTL)),
            offset: Offset::of(position),
        }
    }

    /// Returns how much longer it is kept.
    #[must_use]
    pub fn ttl(&self) -> Duration {
        self.expires.saturating_duration_since(Instant::now())
    }

    fn weight(&self, channel: &str) -> usize {
        ENTRY_WEIGHT + channel.len() + self.name.len() + self.data.len()
    }
}

/// The kept events of one app.
#[derive(Debug)]
pub(crate) struct Cache {
    app: AppId,
    entries: Mutex<Entries>,
    kept: KeptBytes,
}

/// Events by channel, of which the oldest is evicted first.
type Entries = EvictionMap<Option<Offset>, CachedEvent>;

impl Cache {
    pub(crate) fn new(app: AppId, all: &Arc<RecentEvents>) -> Self {
        Self {
            app,
            entries: Mutex::default(),
            kept: KeptBytes::new(all),
        }
    }

    /// Returns the bytes that its events take.
    pub(crate) fn bytes(&self) -> usize {
        self.kept.get()
    }

    /// Evicts the oldest events until `bytes` are free, and returns how many bytes were freed.
    pub(crate) fn evict(&self, bytes: usize) -> usize {
        let mut entries = self.entries.lock();
        let before = entries.weight();
        let max = before.saturating_sub(bytes);
        self.shrink(&mut entries, max, self.kept.max_of_all(), Instant::now());
        before - entries.weight()
    }

    /// Keeps an event in place of the channel's last one. Called under the channel's lock, so the
    /// kept event is the one queued last.
    pub(crate) fn keep(
        &self,
        channel: &ChannelName,
        (name, data): (&Arc<str>, &Arc<str>),
        limits: &Limits,
        offset: Offset,
    ) {
        let mut entries = self.entries.lock();
        let now = Instant::now();
        let offset = Some(offset);
        if has(&entries, channel.as_str(), offset) {
            // The event was in what [`Self::seed`] took already.
            return;
        }
        let expires = now + Duration::from_secs(limits.cache_ttl.min(Limits::MAX_CACHE_TTL));
        let event = CachedEvent {
            name: Arc::clone(name),
            data: Arc::clone(data),
            expires,
            offset,
        };
        insert(&mut entries, channel, event);
        self.shrink(&mut entries, limits.cache_bytes, limits.cache_bytes, now);
        // `make_room` locks the caches of apps, this one perhaps included.
        drop(entries);
        self.kept.make_room();
    }

    /// Takes the event that the back end kept before this node listened, unless a newer one has
    /// come since.
    pub(crate) fn seed(&self, channel: &ChannelName, event: Option<CachedEvent>, limits: &Limits) {
        let mut entries = self.entries.lock();
        if let Some(event) = event
            && !has(&entries, channel.as_str(), event.offset)
        {
            insert(&mut entries, channel, event);
            let max = limits.cache_bytes;
            self.shrink(&mut entries, max, max, Instant::now());
        }
        drop(entries);
        self.kept.make_room();
    }

    /// Drops a channel's event, because this node doesn't receive newer ones any more.
    pub(crate) fn forget(&self, channel: &str) {
        let mut entries = self.entries.lock();
        entries.remove(channel);
        self.kept.set(entries.weight());
    }

    /// Drops all events.
    pub(crate) fn clear(&self) {
        let mut entries = self.entries.lock();
        entries.clear();
        self.kept.set(0);
    }

    /// Evicts events down to `max` bytes. `bound` is the setting's value that the log names.
    fn shrink(&self, entries: &mut Entries, max: usize, bound: usize, now: Instant) {
        let before = entries.evicted();
        shrink(entries, max, now);
        self.kept.set(entries.weight());
        // A line for every doubling: the first says that evictions began, and no flood follows.
        if entries.evicted().checked_ilog2() != before.checked_ilog2() {
            tracing::warn!(
                app = %self.app,
                evicted = entries.evicted(),
                bytes = bound,
                "cache channels keep more than they may: the oldest events go before their time (limits.cache_bytes, or \
                 recent_events.max_bytes of all apps)"
            );
        }
    }

    /// Returns the channel's last event unless it has expired, and its offset.
    pub(crate) fn recall(&self, channel: &str) -> (Option<CachedEvent>, Option<Offset>) {
        let mut entries = self.entries.lock();
        if entries
            .get(channel)
            .is_some_and(|event| event.expires <= Instant::now())
        {
            entries.remove(channel);
            self.kept.set(entries.weight());
        }
        let event = entries.get(channel).cloned();
        let offset = event.as_ref().and_then(|event| event.offset);
        (event, offset)
    }
}

/// Returns whether the channel keeps this event or a later one.
fn has(entries: &Entries, channel: &str, offset: Option<Offset>) -> bool {
    let kept = entries.get(channel);
    kept.is_some_and(|event| event.offset >= offset)
}

/// Adds an event in place of the channel's last one.
fn insert(entries: &mut Entries, channel: &ChannelName, event: CachedEvent) {
    let (rank, weight) = (event.offset, event.weight(channel.as_str()));
    entries.insert(channel, rank, weight, event);
}

/// Drops what has expired, and the oldest beyond the bound. All are kept equally long, so the
/// oldest expires first.
fn shrink(entries: &mut Entries, max: usize, now: Instant) {
    while let Some((_, event)) = entries.first() {
        if event.expires <= now {
            entries.pop_first();
        } else if entries.weight() > max {
            entries.evict_first();
        } else {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache() -> Cache {
        Cache::new(AppId::parse("1").unwrap(), &RecentEvents::new(usize::MAX))
    }

    fn offset(number: usize) -> Offset {
        Offset::of(number as u64).unwrap()
    }

    fn name(text: &str) -> ChannelName {
        ChannelName::parse(text, 200).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_go_first_when_the_app_keeps_too_much_and_they_are_counted() {
        let (cache, text) = (cache(), Arc::<str>::from("x".repeat(1000)));
        let limits = Limits {
            cache_bytes: 5 * (ENTRY_WEIGHT + "cache-0".len() + 1001),
            ..Limits::HOSTED
        };
        for number in 0..8 {
            cache.keep(
                &name(&format!("cache-{number}")),
                (&"e".into(), &text),
                &limits,
                offset(number + 1),
            );
        }
        let kept = |number: usize| cache.recall(&format!("cache-{number}")).0.is_some();
        assert_eq!(
            (0..8).map(kept).collect::<Vec<_>>(),
            [false, false, false, true, true, true, true, true]
        );
        assert_eq!(cache.entries.lock().evicted(), 3);
        cache.keep(&name("cache-3"), (&"e".into(), &text), &limits, offset(9));
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
        cache.keep(
            &name("cache-a"),
            (&"e".into(), &"d".into()),
            &limits,
            offset(9),
        );
        assert_eq!(
            cache.recall("cache-a").0.unwrap().ttl(),
            Duration::from_secs(Limits::MAX_CACHE_TTL)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_expired_is_gone_and_counts_as_no_eviction() {
        let cache = cache();
        cache.keep(
            &name("cache-a"),
            (&"e".into(), &"d".into()),
            &Limits::HOSTED,
            offset(1),
        );
        tokio::time::advance(Duration::from_secs(1799)).await;
        assert_eq!(
            cache.recall("cache-a").0.unwrap().ttl(),
            Duration::from_secs(1)
        );
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(cache.recall("cache-a").0.is_none());
        cache.keep(
            &name("cache-b"),
            (&"e".into(), &"d".into()),
            &Limits::HOSTED,
            offset(2),
        );
        assert_eq!(cache.entries.lock().len(), 1);
        assert_eq!(cache.entries.lock().evicted(), 0);
    }
}
