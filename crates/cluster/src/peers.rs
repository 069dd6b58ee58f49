//! The other nodes, and whether this node and they receive each other's heartbeats.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::message::Heartbeat;

/// The state of all nodes as this one knows it, itself included.
#[derive(Debug)]
pub(crate) struct Peers {
    me: String,
    /// How long a node may be silent and still count as received.
    silence: Duration,
    state: Mutex<State>,
    changed: watch::Sender<()>,
}

#[derive(Debug)]
struct State {
    heartbeats: HashMap<String, LastHeartbeat>,
    /// Nodes whose lease has not run out.
    live: Vec<String>,
    /// Processes that this node knew before its connection broke, and until when it waits for them.
    expected: HashSet<String>,
    expected_until: Instant,
}

#[derive(Debug)]
struct LastHeartbeat {
    at: Instant,
    receives_me: bool,
}

impl State {
    /// Returns the processes that this node knew before, while it waits for them.
    fn awaited(&self) -> impl Iterator<Item = &str> {
        let waits = Instant::now() < self.expected_until;
        let expected = self.expected.iter().filter(move |_| waits);
        expected.map(String::as_str)
    }
}

/// Returns a node's name without the number of its connection, which is the same over all its
/// connections.
pub(crate) fn process(node: &str) -> &str {
    node.split_once('.').map_or(node, |(process, _)| process)
}

impl Peers {
    pub(crate) fn new(
        me: &str,
        silence: Duration,
        expected: HashSet<String>,
        expected_until: Instant,
    ) -> Self {
        Self {
            me: me.into(),
            silence,
            state: Mutex::new(State {
                heartbeats: HashMap::new(),
                live: Vec::new(),
                expected,
                expected_until,
            }),
            changed: watch::channel(()).0,
        }
    }

    /// Notes a heartbeat, and returns whether its node receives those of this one.
    pub(crate) fn note_heartbeat(&self, beat: &Heartbeat) -> bool {
        let receives_me = beat.receives.contains(&self.me);
        let heartbeat = LastHeartbeat {
            at: Instant::now(),
            receives_me,
        };
        let mut state = self.state.lock();
        state.heartbeats.insert(beat.node.clone(), heartbeat);
        self.changed.send_replace(());
        receives_me
    }

    /// Notes that a node has stopped.
    pub(crate) fn forget(&self, node: &str) {
        let mut state = self.state.lock();
        state.heartbeats.remove(node);
        state.live.retain(|live| live != node);
        state.expected.remove(process(node));
    }

    /// Notes the nodes whose lease has not run out.
    pub(crate) fn set_live(&self, live: Vec<String>) {
        let mut state = self.state.lock();
        let silence = self.silence;
        state
            .heartbeats
            .retain(|_, heartbeat| heartbeat.at.elapsed() <= silence);
        state.live = live;
        self.changed.send_replace(());
    }

    /// Returns a receiver that is notified of each heartbeat from now on.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Waits until a heartbeat of each of these nodes has arrived after this call.
    pub(crate) async fn wait_for_heartbeats(&self, names: &[String]) {
        // Subscribed before the first look, so that no heartbeat falls between look and wait.
        let (now, mut changes) = (Instant::now(), self.changes());
        let arrived = || {
            let state = self.state.lock();
            let later = |name: &String| {
                state
                    .heartbeats
                    .get(name)
                    .is_some_and(|heartbeat| heartbeat.at > now)
            };
            names.iter().all(later)
        };
        while !arrived() {
            // The wait ends with the connection over which the caller asks.
            let _ = changes.changed().await;
        }
    }

    /// Returns whether the process of a node is alive, under whichever name.
    pub(crate) fn is_process_alive(&self, node: &str) -> bool {
        let state = self.state.lock();
        let lately = |heartbeat: &LastHeartbeat| heartbeat.at.elapsed() <= self.silence;
        let heartbeats = state
            .heartbeats
            .iter()
            .filter(|(_, heartbeat)| lately(heartbeat));
        let mut alive = state.live.iter().chain(heartbeats.map(|(name, _)| name));
        process(node) == process(&self.me) || alive.any(|name| process(name) == process(node))
    }

    /// Returns how long ago this node received its own heartbeat.
    pub(crate) fn silent_for(&self, since: Instant) -> Duration {
        let state = self.state.lock();
        let last = state
            .heartbeats
            .get(&self.me)
            .map_or(since, |heartbeat| heartbeat.at);
        last.elapsed()
    }

    /// Returns the nodes whose heartbeats this node receives.
    pub(crate) fn received_nodes(&self) -> Vec<String> {
        let state = self.state.lock();
        let lately = |heartbeat: &LastHeartbeat| heartbeat.at.elapsed() <= self.silence;
        let names = state
            .heartbeats
            .iter()
            .filter(|(_, heartbeat)| lately(heartbeat));
        names.map(|(name, _)| name.clone()).collect()
    }

    /// Returns the processes of the other nodes, and of those for which this node still waits.
    pub(crate) fn others(&self) -> HashSet<String> {
        let state = self.state.lock();
        let names = state.live.iter().chain(state.heartbeats.keys());
        let others = names
            .map(|name| process(name))
            .chain(state.awaited())
            .filter(|other| *other != process(&self.me));
        others.map(str::to_owned).collect()
    }

    /// Returns which node is missing, because its heartbeats don't arrive or it doesn't receive
    /// those of this node; `None` if none is.
    pub(crate) fn missing(&self) -> Option<String> {
        let state = self.state.lock();
        let lately = |heartbeat: &LastHeartbeat| heartbeat.at.elapsed() <= self.silence;
        if !state.heartbeats.get(&self.me).is_some_and(lately) {
            return Some("its own heartbeats do not come back".into());
        }
        let live = state.live.iter().map(|name| process(name));
        let mut others = live
            .chain(state.awaited())
            .filter(|other| *other != process(&self.me));
        // A process may have several leases: those of its former connections don't count.
        let reached = |other: &str| {
            let mut heartbeats = state.heartbeats.iter();
            heartbeats.any(|(name, heartbeat)| {
                process(name) == other && lately(heartbeat) && heartbeat.receives_me
            })
        };
        let missing = others.find(|other| !reached(other))?;
        Some(format!(
            "node {missing} and this one do not receive each other's messages yet"
        ))
    }
}
