//! Transitions of channels and members, and those of one app that wait on a node by itself.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::sparse::ShrinkIfSparse;

/// How long a client that left may take to return, as on hosted Pusher: a page that is reloaded is
/// back by then.
pub const LEAVE_GRACE: Duration = Duration::from_secs(3);
/// The same for clients that left because their node stops or is dead: they find another node.
pub const LOST_NODE_GRACE: Duration = Duration::from_secs(20);
/// How much later members are added than their channel is occupied, and a channel is vacated than
/// its members are removed. Both are reported almost at once, in either order.
pub const ORDER_DELAY: Duration = Duration::from_millis(50);

/// What a transition leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TransitionKind {
    /// The channel has subscriptions.
    Occupied,
    /// The user is on the presence channel.
    Added,
    /// The user has left the presence channel.
    Removed,
    /// The channel has no subscriptions left.
    Vacated,
}

impl TransitionKind {
    /// Returns whether the channel or member is present afterwards.
    #[must_use]
    pub fn is_present(self) -> bool {
        matches!(self, Self::Occupied | Self::Added)
    }

    /// Returns how long after the transition receivers are told. `grace` is the time within which
    /// the client may return.
    #[must_use]
    pub fn delay(self, grace: Duration) -> Duration {
        match self {
            Self::Occupied => Duration::ZERO,
            Self::Added => ORDER_DELAY,
            Self::Removed => grace,
            Self::Vacated => grace + ORDER_DELAY,
        }
    }

    /// Returns the kind of a waiting entry that this transition cancels. A channel that is vacated
    /// does not cancel that it was occupied, so a short visit is told as both.
    fn cancels(self) -> Option<Self> {
        match self {
            Self::Occupied => Some(Self::Vacated),
            Self::Added => Some(Self::Removed),
            Self::Removed | Self::Vacated => None,
        }
    }
}

/// What an entry is about: there is one entry at most for each key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransitionKey {
    /// What the transition leads to.
    pub kind: TransitionKind,
    /// The channel.
    pub channel: String,
    /// The user, for members of presence channels.
    pub user: Option<String>,
}

/// An entry of a transition log.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Transition {
    /// When it is due, in milliseconds since 1970 on the log's clock.
    pub due_ms: u64,
    /// What it is about.
    pub key: TransitionKey,
}

/// The entries of an app that are due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueTransitions {
    /// The time of the read in microseconds since 1970. Each read of an app's log has a higher stamp
    /// than all before, so a state that was recorded under a higher stamp is newer.
    pub stamp: i64,
    /// The entries in the order in which receivers are told. A channel's short visit is in here
    /// twice, as occupied and then as vacated.
    pub due: Vec<Transition>,
    /// How long until the first entry after these is due: zero if more are due now.
    pub next_due: Option<Duration>,
    /// How many entries were refused so far because the log was full. What became absent is owed to
    /// receivers, and `TransitionLog::arm` finds it.
    pub refused: u64,
}

/// The transition log of one app on a node by itself. Called under the locks that decide the
/// transitions; its own lock is the innermost.
#[derive(Debug)]
pub(crate) struct LocalTransitions {
    entries: Mutex<Entries>,
    max_entries: usize,
    /// A time on the log's clock, in microseconds, and when that was. The clock goes on evenly from
    /// there, so stamps follow the order of reads.
    began: (u64, Instant),
}

#[derive(Debug, Default)]
struct Entries {
    by_due: BTreeSet<(u64, Arc<TransitionKey>)>,
    due_ms: HashMap<Arc<TransitionKey>, u64>,
    newest_stamp: i64,
    refused: u64,
}

impl LocalTransitions {
    /// Creates an empty log that holds at most `max_entries`.
    pub(crate) fn new(max_entries: usize) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = since.map_or(0, |since| since.as_micros());
        Self {
            entries: Mutex::default(),
            max_entries,
            began: (u64::try_from(now).unwrap_or(u64::MAX), Instant::now()),
        }
    }

    /// Adds the entry of a transition, and removes the one that it cancels. An entry that waits
    /// already becomes due anew: it may have been read, and what is settled then is the transition
    /// before this one.
    pub(crate) fn add(
        &self,
        kind: TransitionKind,
        channel: &str,
        user: Option<&str>,
        grace: Duration,
    ) {
        self.insert(kind, channel, user, grace, false);
    }

    /// Adds an entry, unless it waits already.
    pub(crate) fn add_if_none(
        &self,
        kind: TransitionKind,
        channel: &str,
        user: Option<&str>,
        grace: Duration,
    ) {
        self.insert(kind, channel, user, grace, true);
    }

    fn insert(
        &self,
        kind: TransitionKind,
        channel: &str,
        user: Option<&str>,
        grace: Duration,
        only_if_none: bool,
    ) {
        let mut key = TransitionKey {
            kind,
            channel: channel.to_owned(),
            user: user.map(str::to_owned),
        };
        let mut entries = self.entries.lock();
        if let Some(cancelled) = kind.cancels() {
            key.kind = cancelled;
            entries.remove(&key);
            key.kind = kind;
        }
        if only_if_none && entries.due_ms.contains_key(&key) {
            return;
        }
        entries.remove(&key);
        let due_ms = (self.now() + micros(kind.delay(grace))) / 1000;
        entries.insert(key, due_ms, self.max_entries);
    }

    /// Reads at most `max` entries that are due.
    pub(crate) fn due(&self, max: usize) -> DueTransitions {
        let mut entries = self.entries.lock();
        let now = self.now();
        let now_ms = now / 1000;
        let stamp = i64::try_from(now).unwrap_or(i64::MAX);
        entries.newest_stamp = stamp.max(entries.newest_stamp + 1);
        let transition = |(due_ms, key): &(u64, Arc<TransitionKey>)| Transition {
            due_ms: *due_ms,
            key: TransitionKey::clone(key),
        };
        let mut waiting = entries.by_due.iter().peekable();
        let mut due = Vec::new();
        while due.len() < max
            && let Some(next) = waiting.next_if(|(due_ms, _)| *due_ms <= now_ms)
        {
            due.push(transition(next));
        }
        let left = |(due_ms, _): &(u64, _)| Duration::from_millis(due_ms.saturating_sub(now_ms));
        DueTransitions {
            stamp: entries.newest_stamp,
            next_due: waiting.next().map(left),
            due,
            refused: entries.refused,
        }
    }

    /// Removes entries whose due time is still the same.
    pub(crate) fn settle(&self, handled: &[Transition]) {
        let mut entries = self.entries.lock();
        for Transition { due_ms, key } in handled {
            if entries.due_ms.get(key) == Some(due_ms) {
                entries.remove(key);
            }
        }
        entries.due_ms.shrink_if_sparse();
    }

    /// Makes all stamps from now on higher than `newest_stamp`.
    pub(crate) fn raise_stamp(&self, newest_stamp: i64) {
        let mut entries = self.entries.lock();
        entries.newest_stamp = entries.newest_stamp.max(newest_stamp);
    }

    /// Removes all entries.
    pub(crate) fn clear(&self) {
        let mut entries = self.entries.lock();
        entries.by_due.clear();
        entries.due_ms = HashMap::new();
    }

    /// Returns the time on the log's clock, in microseconds since 1970.
    fn now(&self) -> u64 {
        let (then, at) = self.began;
        then.saturating_add(micros(at.elapsed()))
    }
}

impl Entries {
    fn insert(&mut self, key: TransitionKey, due_ms: u64, max: usize) {
        if self.due_ms.len() >= max {
            self.refused += 1;
            return;
        }
        let key = Arc::new(key);
        self.by_due.insert((due_ms, Arc::clone(&key)));
        self.due_ms.insert(key, due_ms);
    }

    fn remove(&mut self, key: &TransitionKey) {
        if let Some((key, due_ms)) = self.due_ms.remove_entry(key) {
            self.by_due.remove(&(due_ms, key));
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
