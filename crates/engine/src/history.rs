//! What channels keep of their events for clients that come back: bounded for each channel by its rule, and for each app in
//! bytes; the longest unused history goes first.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fanfare_protocol::{AppId, ChannelName, HistoryPosition, SocketId, Unrecovered, UserId};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::recent_events::{KeptBytes, RecentEvents};
use crate::sequence::Offset;

/// What an event takes besides its texts, and what a history takes besides its events, in bytes.
const EVENT_WEIGHT: usize = 160;
const LOG_WEIGHT: usize = 320;

/// What a channel's history holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// How many events, the newest.
    pub size: usize,
    /// For how long.
    pub ttl: Duration,
    /// Of which rules that is: what was recorded under others is another history.
    pub rules: u64,
}

/// An event that a history holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// Where in the history it is.
    pub position: HistoryPosition,
    /// Its name.
    pub name: Arc<str>,
    /// Its data, as it was published.
    pub data: Arc<str>,
    /// Who sent it: client events on presence channels only.
    pub user_id: Option<UserId>,
    /// The connection that did not get it.
    pub except: Option<SocketId>,
    /// When it was published, Unix time in milliseconds.
    pub time: u64,
}

/// An event that a history is to hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewEvent<'a> {
    pub(crate) name: &'a Arc<str>,
    pub(crate) data: &'a Arc<str>,
    pub(crate) user_id: Option<&'a UserId>,
    pub(crate) except: Option<SocketId>,
}

/// What is asked of a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HistoryQuery {
    /// The last events, at most so many.
    Last(usize),
    /// All events after a position; nothing if some of them are not there any more.
    After(HistoryPosition),
    /// At most so many events after a position, oldest first, and nothing if some are not there any more; from the oldest that
    /// is there, without a position.
    Forward(Option<HistoryPosition>, usize),
    /// At most so many events before a position, newest first; from the newest, without a position.
    Backward(Option<HistoryPosition>, usize),
}

/// What a history answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryAnswer {
    /// Where the history is at this moment.
    pub position: HistoryPosition,
    /// When that was so, among what is kept for the app: later events are not in the answer.
    pub(crate) newest: Offset,
    /// The events, or why there are none.
    pub events: Result<Vec<Recorded>, Unrecovered>,
}

impl HistoryAnswer {
    /// What other nodes keep. `newest` is the position of the newest event.
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
    /// Which events of a history are asked for, of which `length` are there and `newest` is the offset of the last: how
    /// many from the end to leave out, and how many to take before those.
    ///
    /// # Errors
    ///
    /// Some of what is asked for is not there.
    pub fn range(
        &self,
        epoch: &str,
        newest: u64,
        length: usize,
    ) -> Result<(usize, usize), Unrecovered> {
        // How many of the last events come after a position.
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
                    // The one at the position itself is not before it.
                    Some(position) => after(position)?.saturating_add(1).min(length),
                    None => 0,
                };
                Ok((skipped, (*count).min(length - skipped)))
            }
        }
    }

    /// Whether the newest event comes first.
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
    logs: HashMap<ChannelName, Log>,
    /// Histories by when they were used last.
    by_use: BTreeMap<u64, ChannelName>,
    uses: u64,
    weight: usize,
    evicted: u64,
}

#[derive(Debug)]
struct Log {
    epoch: Arc<str>,
    /// How many events there were.
    offset: u64,
    /// Of the newest event.
    newest: Offset,
    events: VecDeque<(Recorded, Instant)>,
    weight: usize,
    used: u64,
}

impl Histories {
    pub(crate) fn new(app: AppId, all: &Arc<RecentEvents>) -> Self {
        Self {
            app,
            state: Mutex::default(),
            kept: KeptBytes::new(all),
        }
    }

    /// Bytes that its histories take.
    pub(crate) fn bytes(&self) -> usize {
        self.kept.get()
    }

    /// Lets go of the longest unused histories, and of the oldest events of the last one, until so many bytes are free; says
    /// how many are.
    pub(crate) fn give_way(&self, bytes: usize) -> usize {
        let mut state = self.state.lock();
        let (before, evicted) = (state.weight, state.evicted);
        state.give_way(before.saturating_sub(bytes));
        self.note(&state, evicted, self.kept.max_of_all());
        before - state.weight
    }

    /// Notes how much is kept, and says in the log where it is too much: a line for every doubling.
    fn note(&self, state: &State, evicted_before: u64, bound: usize) {
        self.kept.set(state.weight);
        if state.evicted.checked_ilog2() != evicted_before.checked_ilog2() {
            tracing::warn!(
                app = %self.app,
                evicted = state.evicted,
                bytes = bound,
                "histories keep more than they may: the longest unused goes (limits.history_bytes, or \
                 recent_events.max_bytes of all apps)"
            );
        }
    }

    /// Records an event, and says where. Called in the order in which the channel's events leave.
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
        log.newest = offset;
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
        let before = state.evicted;
        state.shrink(max_bytes, channel);
        self.note(&state, before, max_bytes);
        drop(state);
        self.kept.make_room();
        position
    }

    /// Forgets all histories: other rules make others.
    pub(crate) fn clear(&self) {
        let mut state = self.state.lock();
        *state = State::default();
        self.kept.set(0);
    }

    /// Answers a question about a channel's history, which begins now if there is none.
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
        let before = state.evicted;
        state.shrink(max_bytes, channel);
        self.note(&state, before, max_bytes);
        drop(state);
        self.kept.make_room();
        answer
    }
}

impl State {
    /// Takes a history out, to be put back.
    fn take(&mut self, channel: &ChannelName) -> Log {
        match self.logs.remove(channel) {
            Some(log) => {
                self.weight -= log.weight;
                self.by_use.remove(&log.used);
                log
            }
            None => Log::new(),
        }
    }

    fn put(&mut self, channel: &ChannelName, mut log: Log) {
        self.uses += 1;
        log.used = self.uses;
        self.weight += log.weight;
        self.by_use.insert(log.used, channel.clone());
        self.logs.insert(channel.clone(), log);
    }

    /// Lets go of the longest unused, and of the oldest events of the last one, which may be in use.
    fn give_way(&mut self, max: usize) {
        while self.weight > max
            && let Some((_, channel)) = self.by_use.first_key_value()
        {
            let channel = channel.clone();
            let mut log = self.take(&channel);
            self.evicted += 1;
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

    /// Lets go of the longest unused, but for one that is used now.
    fn shrink(&mut self, max: usize, but: &ChannelName) {
        while self.weight > max {
            let Some((_, channel)) = self.by_use.first_key_value() else {
                return;
            };
            if channel == but {
                return;
            }
            let channel = channel.clone();
            self.take(&channel);
            self.evicted += 1;
        }
    }
}

impl Log {
    fn new() -> Self {
        let epoch = format!("{:08x}", rand::random::<u32>());
        Self {
            epoch: epoch.into(),
            offset: 0,
            newest: Offset::default(),
            events: VecDeque::new(),
            weight: LOG_WEIGHT,
            used: 0,
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
