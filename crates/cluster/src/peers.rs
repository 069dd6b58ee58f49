//! Which other nodes there are, and whether this node and they hear each other.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::message::Beat;

/// What is known of the nodes, this one included.
#[derive(Debug)]
pub(crate) struct Peers {
    me: String,
    /// How long a node may be silent and still count as heard.
    silence: Duration,
    state: Mutex<State>,
    changed: watch::Sender<()>,
}

#[derive(Debug)]
struct State {
    heard: HashMap<String, Heard>,
    /// Nodes whose lease runs.
    live: Vec<String>,
    /// Whom this node knew before its connection broke, and until when it waits for them.
    expected: HashSet<String>,
    expected_until: Instant,
}

#[derive(Debug)]
struct Heard {
    at: Instant,
    hears_me: bool,
}

impl State {
    /// Whom this node knew before, while it waits for them.
    fn awaited(&self) -> impl Iterator<Item = &str> {
        let waits = Instant::now() < self.expected_until;
        let expected = self.expected.iter().filter(move |_| waits);
        expected.map(String::as_str)
    }
}

/// A node without the number of its connection: the same with every one.
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
                heard: HashMap::new(),
                live: Vec::new(),
                expected,
                expected_until,
            }),
            changed: watch::channel(()).0,
        }
    }

    /// A beat came by; says whether its node hears this one.
    pub(crate) fn heard(&self, beat: &Beat) -> bool {
        let hears_me = beat.hears.contains(&self.me);
        let heard = Heard {
            at: Instant::now(),
            hears_me,
        };
        let mut state = self.state.lock();
        state.heard.insert(beat.node.clone(), heard);
        self.changed.send_replace(());
        hears_me
    }

    /// A node has ended by itself.
    pub(crate) fn forget(&self, node: &str) {
        let mut state = self.state.lock();
        state.heard.remove(node);
        state.live.retain(|live| live != node);
        state.expected.remove(process(node));
    }

    /// Nodes whose lease runs.
    pub(crate) fn set_live(&self, live: Vec<String>) {
        let mut state = self.state.lock();
        let silence = self.silence;
        state.heard.retain(|_, heard| heard.at.elapsed() <= silence);
        state.live = live;
        self.changed.send_replace(());
    }

    /// Says when something is heard from now on.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Waits until each of these nodes was heard after now.
    pub(crate) async fn hear_all(&self, names: &[String]) {
        let (now, mut changes) = (Instant::now(), self.changes());
        let heard = || {
            let state = self.state.lock();
            let later = |name: &String| state.heard.get(name).is_some_and(|heard| heard.at > now);
            names.iter().all(later)
        };
        while !heard() {
            // It ends with the connection, which this is called over.
            let _ = changes.changed().await;
        }
    }

    /// Whether the process of a node lives, under whichever name.
    pub(crate) fn is_process_alive(&self, node: &str) -> bool {
        let state = self.state.lock();
        let lately = |heard: &Heard| heard.at.elapsed() <= self.silence;
        let heard = state.heard.iter().filter(|(_, heard)| lately(heard));
        let mut alive = state.live.iter().chain(heard.map(|(name, _)| name));
        process(node) == process(&self.me) || alive.any(|name| process(name) == process(node))
    }

    /// How long ago this node heard itself.
    pub(crate) fn silent_for(&self, since: Instant) -> Duration {
        let state = self.state.lock();
        let last = state.heard.get(&self.me).map_or(since, |heard| heard.at);
        last.elapsed()
    }

    /// Whom this node hears.
    pub(crate) fn hears(&self) -> Vec<String> {
        let state = self.state.lock();
        let lately = |heard: &Heard| heard.at.elapsed() <= self.silence;
        let names = state.heard.iter().filter(|(_, heard)| lately(heard));
        names.map(|(name, _)| name.clone()).collect()
    }

    /// The processes of the other nodes there are, and of those that this node still waits for.
    pub(crate) fn others(&self) -> HashSet<String> {
        let state = self.state.lock();
        let names = state.live.iter().chain(state.heard.keys());
        let others = names
            .map(|name| process(name))
            .chain(state.awaited())
            .filter(|other| *other != process(&self.me));
        others.map(str::to_owned).collect()
    }

    /// Who is missing: not heard, or does not hear this node.
    pub(crate) fn missing(&self) -> Option<String> {
        let state = self.state.lock();
        let lately = |heard: &Heard| heard.at.elapsed() <= self.silence;
        if !state.heard.get(&self.me).is_some_and(lately) {
            return Some("its own beats do not come back".into());
        }
        let live = state.live.iter().map(|name| process(name));
        let mut others = live
            .chain(state.awaited())
            .filter(|other| *other != process(&self.me));
        // A process may have several leases: those of connections it had before are its past.
        let reached = |other: &str| {
            let mut heard = state.heard.iter();
            heard.any(|(name, heard)| process(name) == other && lately(heard) && heard.hears_me)
        };
        let missing = others.find(|other| !reached(other))?;
        Some(format!(
            "node {missing} and this one do not receive each other's messages yet"
        ))
    }
}
