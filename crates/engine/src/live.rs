//! Live events of an app for operators who watch: filtered where they happen, bounded for each
//! viewer, and kept for a while so that a console isn't empty when it is opened.
//!
//! An app that nobody watches pays one relaxed load for each event. It keeps its last refusals and
//! failed deliveries of webhooks only, because people open a console to find out about those.
//!
//! | module | what it holds |
//! |---|---|
//! | `event` | [`LiveKind`], [`LiveEvent`]: what can happen |
//! | `line` | [`LiveLine`]: an event that is kept or sent |
//! | `filter` | [`LiveQuery`]: which events a viewer wants |
//! | `viewer` | what waits for a viewer |

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fanfare_protocol::AppId;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::time::Instant;

mod event;
mod filter;
mod line;
mod viewer;

pub use event::{LiveEvent, LiveKind};
pub use filter::LiveQuery;
pub use line::LiveLine;
pub(crate) use line::public_reason;
pub(crate) use viewer::Viewer;
pub use viewer::Waiting;

/// Most viewers of an app on a node.
pub const MAX_VIEWERS: usize = 100;
/// Most viewers of an app on a node that one caller may have, so that nobody keeps the others out.
pub const MAX_VIEWERS_OF_CALLER: usize = 20;
/// Most lines that an app keeps.
pub const MAX_RECENT: usize = 1000;
/// Most lines that an app keeps that nobody has watched lately.
const MAX_UNWATCHED: usize = 100;
/// How long an app keeps all lines after its last viewer has gone.
const KEEP_ALL_FOR: Duration = Duration::from_secs(600);
/// Most bytes of kept lines that a node sends to a viewer of another node.
const MAX_RECENT_BYTES: usize = 512 << 10;
/// Over the bound of all apps, one of this many parts of it is freed at once.
const EVICTED_PART: usize = 16;

/// What the apps of a node share.
#[derive(Debug)]
pub(crate) struct LiveNode {
    /// The name that lines have.
    name: OnceLock<Arc<str>>,
    max_bytes: usize,
    /// Bytes of the kept lines of all apps.
    bytes: AtomicUsize,
    /// The apps that have kept lines.
    keeping: Mutex<Vec<Weak<Mutex<State>>>>,
    making_room: Mutex<()>,
    viewers: AtomicUsize,
    left_out: AtomicU64,
    /// Apps whose viewers on this node have changed since the other nodes were told.
    changed: Mutex<BTreeSet<AppId>>,
    has_changed: Notify,
    /// Apps that viewers of other nodes watch.
    watched_from_afar: Mutex<BTreeSet<AppId>>,
    is_watched_from_afar: Notify,
}

impl LiveNode {
    pub(crate) fn new(max_bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            name: OnceLock::new(),
            max_bytes,
            bytes: AtomicUsize::new(0),
            keeping: Mutex::default(),
            making_room: Mutex::default(),
            viewers: AtomicUsize::new(0),
            left_out: AtomicU64::new(0),
            changed: Mutex::default(),
            has_changed: Notify::new(),
            watched_from_afar: Mutex::default(),
            is_watched_from_afar: Notify::new(),
        })
    }

    /// Returns the node's name: a random one, if none was set.
    pub(crate) fn name(&self) -> &Arc<str> {
        self.name
            .get_or_init(|| format!("{:016x}", rand::random::<u64>()).into())
    }

    /// Sets the node's name, before the first line.
    pub(crate) fn set_name(&self, name: &str) {
        // A second name would make two nodes of one in the eyes of viewers.
        let _ = self.name.set(name.into());
    }

    /// Returns the number of viewers on this node.
    pub(crate) fn viewers(&self) -> usize {
        self.viewers.load(Ordering::Relaxed)
    }

    /// Returns how many lines that a viewer wanted were left out.
    pub(crate) fn left_out(&self) -> u64 {
        self.left_out.load(Ordering::Relaxed)
    }

    /// Counts lines that were left out.
    pub(crate) fn count_left_out(&self, count: u64) {
        self.left_out.fetch_add(count, Ordering::Relaxed);
    }

    /// Notes that an app's viewers on this node have changed.
    fn note_change(&self, app: &AppId) {
        self.changed.lock().insert(app.clone());
        self.has_changed.notify_one();
    }

    /// Waits until the viewers of some app have changed.
    pub(crate) async fn changed(&self) {
        self.has_changed.notified().await;
    }

    /// Returns the apps whose viewers have changed since the last call.
    pub(crate) fn take_changed(&self) -> BTreeSet<AppId> {
        std::mem::take(&mut *self.changed.lock())
    }

    /// Waits until a viewer of another node watches some app.
    pub(crate) async fn watched_from_afar(&self) {
        self.is_watched_from_afar.notified().await;
    }

    /// Returns the apps that viewers of other nodes watch.
    pub(crate) fn apps_watched_from_afar(&self) -> BTreeSet<AppId> {
        self.watched_from_afar.lock().clone()
    }

    /// Forgets an app that was deleted.
    pub(crate) fn forget_watched_from_afar(&self, app: &AppId) {
        self.watched_from_afar.lock().remove(app);
    }

    /// Frees kept lines if all apps keep more than they may. The caller must hold no app's lock.
    fn make_room(&self) {
        if self.bytes.load(Ordering::Relaxed) <= self.max_bytes {
            return;
        }
        // Another thread that makes room is enough.
        let Some(_at_it) = self.making_room.try_lock() else {
            return;
        };
        let keeping: Vec<_> = {
            let mut keeping = self.keeping.lock();
            keeping.retain(|app| app.strong_count() > 0);
            keeping.iter().filter_map(Weak::upgrade).collect()
        };
        let target = self.max_bytes - self.max_bytes / EVICTED_PART;
        while self.bytes.load(Ordering::Relaxed) > target {
            let largest = keeping.iter().max_by_key(|app| app.lock().bytes);
            let Some(mut app) = largest.map(|app| app.lock()) else {
                return;
            };
            // Half at most, so that one app doesn't lose all while others keep nearly as much.
            let half = app.bytes / 2;
            if app.lines.is_empty() {
                return;
            }
            while app.bytes > half && app.drop_oldest(self) {}
        }
    }
}

/// The live events of one app on this node.
#[derive(Debug)]
pub(crate) struct LiveApp {
    /// Whether all events are wanted: for viewers, or to be kept.
    is_watched: AtomicBool,
    app: AppId,
    node: Arc<LiveNode>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    viewers: Vec<Arc<Viewer>>,
    /// The kept lines, oldest first, and their bytes.
    lines: VecDeque<Arc<LiveLine>>,
    bytes: usize,
    /// Until when all lines are kept, after the last viewer has gone.
    kept_until: Option<Instant>,
    /// The viewers of this node, for other nodes.
    orders: Vec<LiveOrder>,
    last_sequence: u64,
    /// Whether it is in the list of those that have kept lines.
    is_listed: bool,
}

impl State {
    /// Returns whether all lines are kept, or only those that are always kept.
    fn keeps_all(&self, now: Instant) -> bool {
        !self.viewers.is_empty() || self.kept_until.is_some_and(|until| now < until)
    }

    fn keep(&mut self, line: Arc<LiveLine>, max: usize, node: &LiveNode) {
        let bytes = line.bytes();
        self.bytes += bytes;
        node.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.lines.push_back(line);
        while self.lines.len() > max {
            self.drop_oldest(node);
        }
    }

    fn drop_oldest(&mut self, node: &LiveNode) -> bool {
        let Some(oldest) = self.lines.pop_front() else {
            return false;
        };
        let bytes = oldest.bytes();
        self.bytes -= bytes;
        node.bytes.fetch_sub(bytes, Ordering::Relaxed);
        true
    }

    /// Returns the last of the kept lines that a viewer wants, oldest first.
    fn recent(&self, viewer: &Viewer, max: usize) -> Vec<Arc<LiveLine>> {
        let wanted = |line: &&Arc<LiveLine>| viewer.filter.matches(&line.as_event());
        let newest = self.lines.iter().rev().filter(wanted).take(max);
        let mut recent: Vec<_> = newest.cloned().collect();
        recent.reverse();
        recent
    }
}

/// A viewer as its node describes it to others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveOrder {
    /// A random number, by which nodes name the viewer.
    pub id: u64,
    /// Which events it wants.
    pub query: LiveQuery,
    /// The most lines that it wants each second.
    pub rate: u32,
    /// The most kept lines that it wants.
    pub recent: usize,
}

/// Lines for viewers of other nodes.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct LiveBatch {
    /// Each line, with the viewers that get it.
    pub lines: Vec<(Vec<u64>, Arc<LiveLine>)>,
    /// How many other lines were left out, for each viewer that misses some.
    pub more: Vec<(u64, u64)>,
    /// What the node had kept before a viewer came.
    pub recent: Vec<(u64, Vec<Arc<LiveLine>>)>,
}

impl LiveBatch {
    /// Returns whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.more.is_empty() && self.recent.is_empty()
    }

    /// Returns how many lines each viewer misses if the batch doesn't arrive.
    pub(crate) fn missed(&self) -> impl Iterator<Item = (u64, u64)> {
        let lines = self.lines.iter().flat_map(|(viewers, _)| viewers);
        lines.map(|id| (*id, 1)).chain(self.more.iter().copied())
    }
}

impl LiveApp {
    pub(crate) fn new(app: AppId, node: Arc<LiveNode>) -> Self {
        Self {
            is_watched: AtomicBool::new(false),
            app,
            node,
            state: Arc::new(Mutex::new(State {
                // A node has the same name after a restart, and no number may come again. No app has a
                // thousand lines each millisecond.
                last_sequence: unix_millis() * 1000,
                ..State::default()
            })),
        }
    }

    /// Returns whether [`Self::record`] is to be called. This is all that an event costs while
    /// nobody watches.
    #[inline]
    pub(crate) fn is_watched(&self) -> bool {
        // Relaxed, because it doesn't matter whether a viewer gets what happens while it comes.
        self.is_watched.load(Ordering::Relaxed)
    }

    /// Queues an event to the viewers that want it, and keeps it. Called if the app is watched, and
    /// with events that are always kept.
    pub(crate) fn record(&self, event: &LiveEvent<'_>) {
        let now = Instant::now();
        let mut guard = self.state.lock();
        let keeps_all = guard.keeps_all(now);
        let State {
            viewers,
            last_sequence,
            ..
        } = &mut *guard;
        let mut line = None;
        let mut make = || {
            let line = line.get_or_insert_with(|| {
                *last_sequence += 1;
                let name = Arc::clone(self.node.name());
                Arc::new(LiveLine::new(name, *last_sequence, unix_millis(), event))
            });
            Arc::clone(line)
        };
        for viewer in viewers.iter() {
            if viewer.filter.matches(event) && !viewer.offer(now, &mut make) {
                self.node.count_left_out(1);
            }
        }
        if !keeps_all && !event.is_always_kept() {
            return;
        }
        let line = make();
        let max = if keeps_all { MAX_RECENT } else { MAX_UNWATCHED };
        guard.keep(line, max, &self.node);
        if !std::mem::replace(&mut guard.is_listed, true) {
            self.node.keeping.lock().push(Arc::downgrade(&self.state));
        }
        // Before room is made, which takes the locks of apps.
        drop(guard);
        self.node.make_room();
    }

    /// Adds a viewer of this node, and returns it with the kept lines that it wants. `caller` is who watches.
    ///
    /// # Errors
    ///
    /// Returns [`OpenError`] if the query is invalid or the app has too many viewers here.
    pub(crate) fn open(
        &self,
        caller: &str,
        query: &LiveQuery,
        rate: u32,
        recent: usize,
    ) -> Result<Opened, OpenError> {
        let filter = query.compile().map_err(OpenError::Invalid)?;
        let mut state = self.state.lock();
        let callers = state
            .viewers
            .iter()
            .filter_map(|other| other.caller.as_deref());
        if callers.clone().filter(|other| *other == caller).count() >= MAX_VIEWERS_OF_CALLER {
            return Err(OpenError::TooManyOfCaller);
        }
        if callers.count() >= MAX_VIEWERS {
            return Err(OpenError::TooMany);
        }
        let viewer = Viewer::new(rand::random(), filter, rate, None);
        let viewer = Arc::new(viewer.of_caller(caller));
        // Under the lock, so that no line is in both or in neither.
        let kept = state.recent(&viewer, recent);
        let order = LiveOrder {
            id: viewer.id,
            query: query.clone(),
            rate,
            recent,
        };
        state.viewers.push(Arc::clone(&viewer));
        state.orders.push(order);
        self.is_watched.store(true, Ordering::Relaxed);
        drop(state);
        self.node.viewers.fetch_add(1, Ordering::Relaxed);
        self.node.note_change(&self.app);
        Ok(Opened { viewer, kept })
    }

    /// Removes a viewer of this node.
    pub(crate) fn close(&self, viewer: &Viewer) {
        let mut state = self.state.lock();
        state.viewers.retain(|other| other.id != viewer.id);
        state.orders.retain(|order| order.id != viewer.id);
        state.kept_until = Some(Instant::now() + KEEP_ALL_FOR);
        drop(state);
        self.node.viewers.fetch_sub(1, Ordering::Relaxed);
        self.node.note_change(&self.app);
    }

    /// Returns the viewers of this node, for other nodes.
    pub(crate) fn orders(&self) -> Vec<LiveOrder> {
        self.state.lock().orders.clone()
    }

    /// Takes what another node asks for: these viewers, and no others of it.
    pub(crate) fn apply_orders(&self, from: &str, orders: Vec<LiveOrder>, lease: Duration) {
        let until = Instant::now() + lease;
        let mut state = self.state.lock();
        let is_theirs = |viewer: &Viewer| viewer.remote.as_deref() == Some(from);
        let is_asked_for = |viewer: &Viewer| orders.iter().any(|order| order.id == viewer.id);
        state
            .viewers
            .retain(|viewer| !is_theirs(viewer) || is_asked_for(viewer));
        for order in orders.into_iter().take(MAX_VIEWERS) {
            let known = state.viewers.iter().find(|viewer| viewer.id == order.id);
            if let Some(known) = known {
                known.lease(until);
                continue;
            }
            // A node of a later version may ask for what this one doesn't know.
            let Ok(filter) = order.query.compile() else {
                continue;
            };
            let remote = Some((from.to_owned(), until));
            let viewer = Viewer::new(order.id, filter, order.rate, remote);
            let recent = state.recent(&viewer, order.recent.min(MAX_RECENT));
            viewer.add_recent(recent);
            state.viewers.push(Arc::new(viewer));
        }
        if state.viewers.iter().any(|viewer| is_theirs(viewer)) {
            state.kept_until = Some(until + KEEP_ALL_FOR);
            self.is_watched.store(true, Ordering::Relaxed);
            drop(state);
            self.node.watched_from_afar.lock().insert(self.app.clone());
            self.node.is_watched_from_afar.notify_one();
        }
    }

    /// Takes what waits for viewers of other nodes, about `max_bytes` of it, and forgets those whose
    /// nodes ask for them no more.
    pub(crate) fn take_for_others(&self, max_bytes: usize) -> LiveBatch {
        let now = Instant::now();
        let mut state = self.state.lock();
        state.viewers.retain(|viewer| !viewer.has_expired(now));
        let theirs = state
            .viewers
            .iter()
            .filter(|viewer| viewer.remote.is_some());
        let theirs: Vec<_> = theirs.cloned().collect();
        if theirs.is_empty() {
            // Under the app's lock, so that an order that comes now adds it again.
            self.node.watched_from_afar.lock().remove(&self.app);
        }
        drop(state);
        let mut batch = LiveBatch::default();
        let mut left = max_bytes;
        // A line for several viewers is in the batch once.
        let mut places = HashMap::new();
        for viewer in &theirs {
            if let Some(recent) = viewer.take_recent() {
                let mut newest = Vec::new();
                let mut bytes = 0;
                for line in recent.into_iter().rev() {
                    bytes += line.bytes();
                    if bytes > MAX_RECENT_BYTES {
                        break;
                    }
                    newest.push(line);
                }
                newest.reverse();
                batch.recent.push((viewer.id, newest));
            }
            let waiting = viewer.take(left);
            for line in waiting.lines {
                let place = *places.entry(line.sequence).or_insert(batch.lines.len());
                match batch.lines.get_mut(place) {
                    Some((viewers, _)) => viewers.push(viewer.id),
                    None => {
                        left = left.saturating_sub(line.bytes());
                        batch.lines.push((vec![viewer.id], line));
                    }
                }
            }
            if waiting.more > 0 {
                batch.more.push((viewer.id, waiting.more));
            }
        }
        batch
    }

    /// Hands lines of another node to the viewers of this one.
    pub(crate) fn receive(&self, batch: LiveBatch) {
        let viewers = self.state.lock().viewers.clone();
        let find = |id: u64| {
            let mut here = viewers.iter().filter(|viewer| viewer.remote.is_none());
            here.find(|viewer| viewer.id == id)
        };
        for (id, lines) in batch.recent {
            if let Some(viewer) = find(id) {
                viewer.add_recent(lines);
            }
        }
        let now = Instant::now();
        for (ids, line) in batch.lines {
            for viewer in ids.into_iter().filter_map(find) {
                if !viewer.offer(now, || Arc::clone(&line)) {
                    self.node.count_left_out(1);
                }
            }
        }
        for (id, count) in batch.more {
            if let Some(viewer) = find(id) {
                viewer.add_more(count);
            }
        }
    }

    /// Counts what could not be sent as left out.
    pub(crate) fn give_back(&self, batch: &LiveBatch) {
        let viewers = self.state.lock().viewers.clone();
        for (id, count) in batch.missed() {
            if let Some(viewer) = viewers.iter().find(|viewer| viewer.id == id) {
                viewer.add_more(count);
            }
        }
    }

    /// Forgets kept lines that nobody has watched for long.
    pub(crate) fn sweep(&self) {
        if !self.is_watched() {
            return;
        }
        let now = Instant::now();
        let mut state = self.state.lock();
        state.viewers.retain(|viewer| !viewer.has_expired(now));
        if state.keeps_all(now) {
            return;
        }
        self.is_watched.store(false, Ordering::Relaxed);
        let State { lines, bytes, .. } = &mut *state;
        let before = *bytes;
        lines.retain(|line| line.is_always_kept());
        let excess = lines.len().saturating_sub(MAX_UNWATCHED);
        lines.drain(..excess);
        lines.shrink_to_fit();
        *bytes = lines.iter().map(|line| line.bytes()).sum();
        self.node
            .bytes
            .fetch_sub(before - *bytes, Ordering::Relaxed);
    }
}

impl Drop for LiveApp {
    fn drop(&mut self) {
        let bytes = self.state.lock().bytes;
        self.node.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// A viewer that was added, and the kept lines that it wants.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) viewer: Arc<Viewer>,
    pub(crate) kept: Vec<Arc<LiveLine>>,
}

/// Why there is no viewer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The query breaks a rule, in words.
    #[error("{0}")]
    Invalid(String),
    /// The app has as many viewers on this node as it may have.
    #[error("{MAX_VIEWERS} viewers watch this app on this node already, the most there may be")]
    TooMany,
    /// The caller has as many viewers of the app on this node as one may have.
    #[error(
        "you watch this app {MAX_VIEWERS_OF_CALLER} times on this node already, the most one caller may: close a console or program that you no longer need"
    )]
    TooManyOfCaller,
}

fn unix_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}
