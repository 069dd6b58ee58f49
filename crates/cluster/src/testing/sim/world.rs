//! What nodes share, in memory, with what goes wrong with it. Its files do what the scripts in
//! `src/redis` do, by the traits of a back end.

mod broker;
mod membership;
mod presence;
mod transitions;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fanfare_engine::Position;
use fanfare_engine::testing::story::Subject;
use fanfare_protocol::{AppId, ChannelName};
use tokio::time::Instant;

use crate::backend::{self, BackendError, Topic};
use broker::Histories;
pub(super) use presence::Replied;
use transitions::Transitions;

/// The moment at which a world begins, in microseconds since 1970.
const BEGIN: u64 = 1_700_000_000_000_000;

/// One of the connections that a world has.
pub(super) type ConnectionId = u64;
/// A message for a subscriber: to whom, on which topic, what.
pub(super) type Delivery = (ConnectionId, Topic, Bytes);

/// What nodes share, in memory.
pub struct World {
    begin: Instant,
    /// How far its clock was set, in microseconds.
    clock_set: i64,
    /// Whether its clock was set back.
    pub was_set_back: bool,
    memory: Memory,
    subscribers: BTreeMap<Topic, BTreeSet<ConnectionId>>,
    /// Most entries that one call removes of a dead node: channels, and users or counts.
    pub part: (usize, usize),
    /// How often it has lost its memory.
    pub losses: usize,
    /// How often it has lost some of it while all connections stayed.
    pub flushes: usize,
    /// What was present at each read of a transition log, by its stamp.
    pub present_at: BTreeMap<i64, BTreeSet<Subject>>,
    /// All messages that were ever published, in order.
    pub sent: Vec<Sent>,
}

/// A message that was published.
pub struct Sent {
    pub at: Instant,
    /// How often the memory was lost before.
    pub losses: usize,
    pub topic: Topic,
    pub message: Bytes,
}

#[derive(Default)]
struct Memory {
    /// Until when a node counts as alive, in milliseconds.
    nodes: BTreeMap<String, u64>,
    /// How long the leases of nodes are, in milliseconds.
    leases: BTreeMap<String, u64>,
    /// The installation that uses these names, and until when, in milliseconds.
    installation: Option<(Arc<str>, u64)>,
    registered: BTreeMap<String, BTreeSet<String>>,
    /// Until when the reaping of a dead node is claimed.
    claims: BTreeMap<String, u64>,
    apps: BTreeMap<String, App>,
}

#[derive(Default)]
struct App {
    position: Position,
    /// Nodes that may have entries in it.
    enlisted: BTreeSet<String>,
    members: BTreeMap<String, BTreeMap<String, String>>,
    seats: BTreeMap<String, BTreeMap<String, usize>>,
    here: BTreeMap<(String, String), BTreeSet<String>>,
    counts: BTreeMap<String, usize>,
    counts_of: BTreeMap<String, BTreeMap<String, usize>>,
    online: BTreeMap<String, usize>,
    online_of: BTreeMap<String, BTreeSet<String>>,
    connections: BTreeMap<String, usize>,
    cache: BTreeMap<String, (Bytes, u64)>,
    /// Digests of requests by their idempotency keys, and until when they are known.
    requests: BTreeMap<String, (String, u64)>,
    histories: Histories,
    transitions: Transitions,
}

impl World {
    pub(super) fn new() -> Self {
        Self {
            begin: Instant::now(),
            clock_set: 0,
            was_set_back: false,
            memory: Memory::default(),
            subscribers: BTreeMap::new(),
            part: (16, 200),
            losses: 0,
            flushes: 0,
            present_at: BTreeMap::new(),
            sent: Vec::new(),
        }
    }

    /// Returns the time, in microseconds since 1970.
    pub fn now(&self) -> u64 {
        let elapsed = u64::try_from(self.begin.elapsed().as_micros()).unwrap();
        (BEGIN + elapsed).saturating_add_signed(self.clock_set)
    }

    /// Sets the clock forward, or back.
    pub fn set_clock(&mut self, forward: bool, by: Duration) {
        let by = i64::try_from(by.as_micros()).unwrap();
        self.clock_set += if forward { by } else { -by };
        self.was_set_back |= !forward;
    }

    /// Loses all memory.
    pub fn forget(&mut self) {
        self.memory = Memory::default();
        self.losses += 1;
    }

    /// Loses all memory and keeps all connections.
    pub fn flush(&mut self) {
        self.forget();
        self.flushes += 1;
    }

    /// Loses what belongs to the installation, as when one master of a Redis Cluster is emptied, and
    /// keeps all connections.
    pub fn flush_installation(&mut self) {
        let apps = std::mem::take(&mut self.memory.apps);
        self.memory = Memory {
            apps,
            ..Memory::default()
        };
        self.flushes += 1;
    }

    /// Loses what belongs to apps, and keeps all connections.
    pub fn flush_apps(&mut self) {
        self.memory.apps.clear();
        self.losses += 1;
        self.flushes += 1;
    }

    /// Returns an app's connections, by node.
    pub fn connections_of(&self, app: &str) -> BTreeMap<String, usize> {
        let app = self.memory.apps.get(app);
        app.map(|app| app.connections.clone()).unwrap_or_default()
    }

    /// Loses all memory and all subscriptions.
    pub fn restart(&mut self) {
        self.forget();
        self.subscribers.clear();
    }

    /// Removes the subscriptions of a connection that has ended.
    pub fn hang_up(&mut self, connection: ConnectionId) {
        self.subscribers.retain(|_, subscribers| {
            subscribers.remove(&connection);
            !subscribers.is_empty()
        });
    }

    /// Returns the topics to which a connection subscribes.
    pub fn topics_of(&self, connection: ConnectionId) -> Vec<&Topic> {
        let topics = self.subscribers.iter();
        let its = topics.filter(|(_, subscribers)| subscribers.contains(&connection));
        its.map(|(topic, _)| topic).collect()
    }

    /// Returns the nodes that have entries, and which.
    pub fn traces(&self) -> BTreeMap<String, BTreeSet<&'static str>> {
        let Memory {
            nodes,
            leases: _,
            installation: _,
            registered,
            claims,
            apps,
        } = &self.memory;
        let mut all: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        let mut put = |node: &String, what| {
            all.entry(node.clone()).or_default().insert(what);
        };
        nodes.keys().for_each(|node| put(node, "lease"));
        registered.keys().for_each(|node| put(node, "apps"));
        let now = self.now();
        let claimed = claims.iter().filter(|(_, until)| **until > now);
        claimed.for_each(|(node, _)| put(node, "claim"));
        for app in apps.values() {
            app.enlisted.iter().for_each(|node| put(node, "enlisted"));
            app.here.keys().for_each(|(node, _)| put(node, "members"));
            app.counts_of.keys().for_each(|node| put(node, "counts"));
            app.online_of.keys().for_each(|node| put(node, "online"));
            app.connections
                .keys()
                .for_each(|node| put(node, "connections"));
        }
        all
    }

    fn is_alive(&self, node: &str) -> bool {
        let until = self.memory.nodes.get(node);
        until.is_some_and(|until| *until > self.now() / 1000)
    }
}

/// One request's turn: what it sees, and what follows from it.
pub(super) struct Turn<'a> {
    world: &'a mut World,
    connection: ConnectionId,
    pub(super) deliveries: Vec<Delivery>,
    /// Changes over all nodes that the answer reports: the channel, and the change in words.
    pub(super) changes: Vec<(String, String)>,
}

impl<'a> Turn<'a> {
    pub(super) fn new(world: &'a mut World, connection: ConnectionId) -> Self {
        Self {
            world,
            connection,
            deliveries: Vec::new(),
            changes: Vec::new(),
        }
    }

    /// Publishes a message to the subscribers of a topic.
    pub(super) fn publish_on(&mut self, topic: Topic, message: &Bytes) {
        let subscribers = self.world.subscribers.get(&topic).into_iter().flatten();
        let deliveries = subscribers.map(|to| (*to, topic.clone(), message.clone()));
        self.deliveries.extend(deliveries);
        self.world.sent.push(Sent {
            at: Instant::now(),
            losses: self.world.losses,
            topic,
            message: message.clone(),
        });
    }

    fn check_deadline(&self, deadline: backend::Moment) -> Result<(), BackendError> {
        if self.world.now() > deadline {
            return Err(BackendError::Late);
        }
        Ok(())
    }

    /// Runs the part of a request that concerns one app.
    fn in_app<T>(&mut self, id: &AppId, run: impl FnOnce(&mut InApp<'_>) -> T) -> T {
        let now = self.world.now();
        let app = self.world.memory.apps.entry(id.to_string()).or_default();
        let mut in_app = InApp {
            id,
            app,
            now,
            messages: Vec::new(),
            changes: &mut self.changes,
        };
        let value = run(&mut in_app);
        for (topic, message) in in_app.messages {
            self.publish_on(topic, &message);
        }
        value
    }
}

/// A request's view of an app.
struct InApp<'a> {
    id: &'a AppId,
    app: &'a mut App,
    now: u64,
    messages: Vec<(Topic, Bytes)>,
    changes: &'a mut Vec<(String, String)>,
}

impl InApp<'_> {
    fn publish_on_channel(&mut self, channel: &str, message: Bytes) {
        let channel = ChannelName::parse(channel, usize::MAX).unwrap();
        let topic = Topic::Channel(self.id.clone(), channel);
        self.messages.push((topic, message));
    }

    fn next_position(&mut self) -> Position {
        self.app.position = (self.app.position + 1).max(self.now);
        self.app.position
    }

    fn note_change(&mut self, channel: &str, what: impl Into<String>) {
        self.changes.push((channel.to_owned(), what.into()));
    }
}
