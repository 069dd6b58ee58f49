//! The events that channels keep for clients that reconnect, bounded for each channel by its rule
//! and for each app in bytes; the longest unused history is evicted first.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fanfare_protocol::{AppId, ChannelName, HistoryPosition, SocketId, Unrecovered, UserId};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::eviction_map::EvictionMap;
use crate::recent_events::{KeptBytes, RecentEvents};
use crate::sequence::Offset;

/// Bytes that an event takes besides its texts, and that a history takes besides its events.
const EVENT_WEIGHT: usize = 160;
const LOG_WEIGHT: usize = 320;

/// The retention of a channel's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// How many events, the newest ones.
    pub size: usize,
    /// How long each event is kept.
    pub ttl: Duration,
    /// The fingerprint of the app's rules: events recorded under other rules are another history.
    pub rules: u64,
}

/// An event that a history holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// Its position in the history.
    pub position: HistoryPosition,
    /// Its name.
    pub name: Arc<str>,
    /// Its data, as it was published.
    pub data: Arc<str>,
    /// The user who sent it: only for client events on presence channels.
    pub user_id: Option<UserId>,
    /// The connection that did not get it.
    pub except: Option<SocketId>,
    /// The time of its publish, Unix time in milliseconds.
    pub time: u64,
}

/// An event to record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewEvent<'a> {
    pub(crate) name: &'a Arc<str>,
    pub(crate) data: &'a Arc<str>,
    pub(crate) user_id: Option<&'a UserId>,
    pub(crate) except: Option<SocketId>,
}

/// A query of a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HistoryQuery {
    /// The last events, at most this many.
    Last(usize),
    /// All events after a position, or none if some of them are no longer kept.
    After(HistoryPosition),
    /// At most this many events after a position, oldest first, or none if some are no longer kept.
    /// Without a position, from the oldest that is kept.
    Forward(Option<HistoryPosition>, usize),
    /// At most this many events before a position, newest first; without a position, from the
    /// newest.
    Backward(Option<HistoryPosition>, usize),
}

/// The answer to a query of a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryAnswer {
    /// The history's newest position.
    pub position: HistoryPosition,
    /// The newest event's place among the app's recorded events: later events are not in the
    /// answer.
    pub(crate) newest: Option<Offset>,
    /// The events, or why there are none.
    pub events: Result<Vec<Recorded>, Unrecovered>,
}

impl HistoryAnswer {
    /// Returns the answer of the back end. `newest` is the place of the newest event among the
    /// app's recorded events.
    #[must_use]
    pub fn new(
        position: HistoryPosition,
        newest: u64,
        events: Result<Vec<Recorded>, Unrecovered>,
    ) -> Self {
        Self {
            position,
            newest: Offset::of(newest),
            events,
        }
    }
}

impl HistoryQuery {
    /// Returns the most events that an answer has, of a history that keeps `size` events.
    pub(crate) fn most_events(&self, size: usize) -> usize {
        match self {
            Self::After(_) => size,
            Self::Last(count) | Self::Forward(_, count) | Self::Backward(_, count) => {
                (*count).min(size)
            }
        }
    }

    /// Returns which events answer the query, in a history with `length` events kept and `newest`
    /// the offset of the last: how many to leave out at the end, and how many to take before those.
    ///
    /// # Errors
    ///
    /// Returns why not, if some of the events are no longer kept.
    pub fn range(
        &self,
        epoch: &str,
        newest: u64,
        length: usize,
    ) -> Result<(usize, usize), Unrecovered> {
        // Returns how many of the last events come after a position.
        let after = |position: &HistoryPosition| {
            let same = *position.epoch == *epoch;
            let missed = newest.checked_sub(position.offset).filter(|_| same);
            let missed = missed.ok_or(Unrecovered::Expired)?;
            Ok(usize::try_from(missed).unwrap_or(usize::MAX))
        };
        match self {
            Self::Last(count) => Ok((0, (*count).min(length))),
            Self::After(position) => match after(position)? {
                missed if missed > length => Err(Unrecovered::TooOld),
                missed => Ok((0, missed)),
            },
            Self::Forward(position, count) => {
                let left = match position {
                    Some(position) => after(position)?,
                    None => length,
                };
                if left > length {
                    return Err(Unrecovered::TooOld);
                }
                let taken = (*count).min(left);
                Ok((left - taken, taken))
            }
            Self::Backward(position, count) => {
                let skipped = match position {
                    // The event at the position itself is not before it.
                    Some(position) => after(position)?.saturating_add(1).min(length),
                    None => 0,
                };
                Ok((skipped, (*count).min(length - skipped)))
            }
        }
    }

    /// Returns whether the newest event comes first.
    #[must_use]
    pub fn is_backward(&self) -> bool {
        matches!(self, Self::Backward(..))
    }
}

/// The histories of one app.
#[derive(Debug)]
pub(crate) struct Histories {
    app: AppId,
    state: Mutex<State>,
    kept: KeptBytes,
}

#[derive(Debug, Default)]
struct State {
    /// Histories by channel. Their rank is the number of their last use.
    logs: EvictionMap<u64, Log>,
    uses: u64,
}

#[derive(Debug)]
struct Log {
    epoch: Arc<str>,
    /// How many events were ever recorded.
    offset: u64,
    /// The newest event's place among the app's recorded events.
    newest: Option<Offset>,
    events: VecDeque<(Recorded, Instant)>,
    weight: usize,
}

impl Histories {
    pub(crate) fn new(app: AppId, all: &Arc<RecentEvents>) -> Self {
        Self {
            app,
            state: Mutex::default(),
            kept: KeptBytes::new(all),
        }
    }

    /// Returns the bytes that the app's histories take.
    pub(crate) fn bytes(&self) -> usize {
        self.kept.get()
    }

    /// Evicts the longest unused histories, and the oldest events of the last one, until `bytes`
    /// are free. Returns how many bytes were freed.
    pub(crate) fn evict(&self, bytes: usize) -> usize {
        let mut state = self.state.lock();
        let (before, evicted) = (state.logs.weight(), state.logs.evicted());
        state.evict_to(before.saturating_sub(bytes));
        self.note(&state, evicted, self.kept.max_of_all());
        before - state.logs.weight()
    }

    /// Notes how much is kept, and logs evictions: a line for every doubling.
    fn note(&self, state: &State, evicted_before: u64, bound: usize) {
        self.kept.set(state.logs.weight());
        if state.logs.evicted().checked_ilog2() != evicted_before.checked_ilog2() {
            tracing::warn!(
                app = %self.app,
                evicted = state.logs.evicted(),
                bytes = bound,
                "histories keep more than they may: the longest unused goes (limits.history_bytes, or \
                 recent_events.max_bytes of all apps)"
            );
        }
    }

    /// Records an event and returns its position. Called under the channel's lock, in the order in
    /// which the channel's events are queued.
    pub(crate) fn record(
        &self,
        channel: &ChannelName,
        event: NewEvent<'_>,
        retention: Retention,
        offset: Offset,
        max_bytes: usize,
    ) -> HistoryPosition {
        let mut state = self.state.lock();
        let now = Instant::now();
        let mut log = state.take(channel);
        log.offset += 1;
        log.newest = Some(offset);
        let position = log.position();
        let recorded = Recorded {
            position: position.clone(),
            name: Arc::clone(event.name),
            data: Arc::clone(event.data),
            user_id: event.user_id.cloned(),
            except: event.except,
            time: unix_millis(),
        };
        log.push(recorded, now + retention.ttl);
        log.trim(retention.size, now);
        state.put(channel, log);
        let before = state.logs.evicted();
        state.shrink(max_bytes, channel);
        self.note(&state, before, max_bytes);
        // `make_room` locks the histories of apps, this one perhaps included.
        drop(state);
        self.kept.make_room();
        position
    }

    /// Drops all histories, because other rules make other histories.
    pub(crate) fn clear(&self) {
        let mut state = self.state.lock();
        state.logs.clear();
        self.kept.set(0);
    }

    /// Answers a query of a channel's history. A channel without one begins it now, so that the
    /// client gets a position.
    pub(crate) fn read(
        &self,
        channel: &ChannelName,
        query: &HistoryQuery,
        max_bytes: usize,
    ) -> HistoryAnswer {
        let mut state = self.state.lock();
        let mut log = state.take(channel);
        log.trim(usize::MAX, Instant::now());
        let answer = HistoryAnswer {
            position: log.position(),
            newest: log.newest,
            events: log.select(query),
        };
        state.put(channel, log);
        let before = state.logs.evicted();
        state.shrink(max_bytes, channel);
        self.note(&state, before, max_bytes);
        drop(state);
        self.kept.make_room();
        answer
    }
}

impl State {
    /// Takes a history out, or begins one; [`Self::put`] puts it back.
    fn take(&mut self, channel: &ChannelName) -> Log {
        self.logs.remove(channel.as_str()).unwrap_or_else(Log::new)
    }

    fn put(&mut self, channel: &ChannelName, log: Log) {
        self.uses += 1;
        self.logs.insert(channel, self.uses, log.weight, log);
    }

    /// Evicts the longest unused histories, and the oldest events of the last one, which may be in
    /// use.
    fn evict_to(&mut self, max: usize) {
        while self.logs.weight() > max
            && let Some((channel, mut log)) = self.logs.evict_first()
        {
            if self.logs.is_empty() {
                while log.weight > max
                    && let Some((event, _)) = log.events.pop_front()
                {
                    log.weight -= weight(&event);
                }
                if !log.events.is_empty() {
                    self.put(&channel, log);
                    return;
                }
            }
        }
    }

    /// Evicts the longest unused histories, except `used`, which is used now.
    fn shrink(&mut self, max: usize, used: &ChannelName) {
        while self.logs.weight() > max
            && self
                .logs
                .first()
                .is_some_and(|(channel, _)| channel != used)
        {
            self.logs.evict_first();
        }
    }
}

impl Log {
    fn new() -> Self {
        let epoch = format!("{:08x}", rand::random::<u32>());
        Self {
            epoch: epoch.into(),
            offset: 0,
            newest: None,
            events: VecDeque::new(),
            weight: LOG_WEIGHT,
        }
    }

    fn position(&self) -> HistoryPosition {
        HistoryPosition {
            epoch: Arc::clone(&self.epoch),
            offset: self.offset,
        }
    }

    fn push(&mut self, event: Recorded, expires: Instant) {
        self.weight += weight(&event);
        self.events.push_back((event, expires));
    }

    fn trim(&mut self, size: usize, now: Instant) {
        while let Some((_, expires)) = self.events.front()
            && (self.events.len() > size || *expires <= now)
        {
            if let Some((event, _)) = self.events.pop_front() {
                self.weight -= weight(&event);
            }
        }
    }

    fn select(&self, query: &HistoryQuery) -> Result<Vec<Recorded>, Unrecovered> {
        let (skipped, taken) = query.range(&self.epoch, self.offset, self.events.len())?;
        let newest_first = self.events.iter().rev().skip(skipped).take(taken);
        let mut found: Vec<_> = newest_first.map(|(event, _)| event.clone()).collect();
        if !query.is_backward() {
            found.reverse();
        }
        Ok(found)
    }
}

fn weight(event: &Recorded) -> usize {
    EVENT_WEIGHT + event.name.len() + event.data.len()
}

fn unix_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}
