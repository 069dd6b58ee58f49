//! What nodes share, in memory: takes each step as the scripts in `src/redis` do.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::backend::{
    Answer, CachedMessage, HistoryPage, HistoryRequest, Keep, Publication, Published, Reaped, Step,
    StepError, Topic,
};
use crate::{Message, stamp};
use bytes::Bytes;
use fanfare_engine::{HistoryQuery, Position, PresenceSnapshot, Retention};
use fanfare_protocol::presence::Member;
use fanfare_protocol::{AppId, ChannelName, HistoryPosition, Unrecovered, UserId};
use tokio::time::Instant;

/// The moment at which a world begins, in microseconds since 1970.
const BEGIN: u64 = 1_700_000_000_000_000;
/// How long a request is known by its key.
const KNOWN_FOR: Duration = Duration::from_secs(120);
/// How long a history is known after its last event, and one that never had any, in microseconds.
const LOG_KEPT_FOR: u64 = 86_400_000_000;
const UNUSED_KEPT_FOR: u64 = 600_000_000;
/// What a kept event takes besides its bytes.
const ENTRY_WEIGHT: usize = 256;

/// One of the connections that a world has.
pub(super) type ConnectionId = u64;
/// Something for who listens: to whom, on which topic, what.
pub(super) type Tell = (ConnectionId, Topic, Bytes);

/// What nodes share, in memory.
pub struct World {
    begin: Instant,
    /// How far its clock was set, in microseconds.
    clock_set: i64,
    /// Whether its clock was set back.
    pub was_set_back: bool,
    memory: Memory,
    listening: BTreeMap<Topic, BTreeSet<ConnectionId>>,
    /// Most pieces that go with one `Reap`: rooms, and users or counts.
    pub part: (usize, usize),
    /// How often it has lost its memory.
    pub losses: usize,
    /// How often it has lost some of it while everybody stayed connected.
    pub flushes: usize,
    /// All that was ever told, in order.
    pub told: Vec<Told>,
}

/// Something that was told.
pub struct Told {
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
    registered: BTreeMap<String, BTreeSet<String>>,
    /// Until when somebody clears a dead node away.
    claims: BTreeMap<String, u64>,
    apps: BTreeMap<String, App>,
}

#[derive(Default)]
struct App {
    position: Position,
    /// Nodes that say something of it.
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
    once: BTreeMap<String, (String, u64)>,
    logs: BTreeMap<String, Log>,
    /// How many histories have begun.
    epochs: u64,
}

/// A channel's history.
struct Log {
    epoch: std::sync::Arc<str>,
    /// Of which rules it is.
    rules: u64,
    /// When it is forgotten, its events before.
    until: u64,
    offset: u64,
    newest: Position,
    /// In microseconds.
    ttl: u64,
    events: Vec<(Position, Bytes)>,
}

impl World {
    pub(super) fn new() -> Self {
        Self {
            begin: Instant::now(),
            clock_set: 0,
            was_set_back: false,
            memory: Memory::default(),
            listening: BTreeMap::new(),
            part: (16, 200),
            losses: 0,
            flushes: 0,
            told: Vec::new(),
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

    /// All memory is gone.
    pub fn forget(&mut self) {
        self.memory = Memory::default();
        self.losses += 1;
    }

    /// All memory is gone, and nobody was disconnected.
    pub fn flush(&mut self) {
        self.forget();
        self.flushes += 1;
    }

    /// What is of the installation is gone, as when one master of a Redis Cluster is emptied, and nobody was disconnected.
    pub fn flush_installation(&mut self) {
        let apps = std::mem::take(&mut self.memory.apps);
        self.memory = Memory {
            apps,
            ..Memory::default()
        };
        self.flushes += 1;
    }

    /// What is of apps is gone, and nothing else, and nobody was disconnected.
    pub fn flush_apps(&mut self) {
        self.memory.apps.clear();
        self.losses += 1;
        self.flushes += 1;
    }

    /// An app's connections, by node.
    pub fn connections_of(&self, app: &str) -> BTreeMap<String, usize> {
        let app = self.memory.apps.get(app);
        app.map(|app| app.connections.clone()).unwrap_or_default()
    }

    /// All memory is gone, and everybody who was connected.
    pub fn restart(&mut self) {
        self.forget();
        self.listening.clear();
    }

    /// A connection has ended.
    pub fn hang_up(&mut self, connection: ConnectionId) {
        self.listening.retain(|_, listening| {
            listening.remove(&connection);
            !listening.is_empty()
        });
    }

    /// What a connection listens to.
    pub fn topics_of(&self, connection: ConnectionId) -> Vec<&Topic> {
        let listening = self.listening.iter();
        let its = listening.filter(|(_, who)| who.contains(&connection));
        its.map(|(topic, _)| topic).collect()
    }

    /// Every node of which something is left, and what.
    pub fn traces(&self) -> BTreeMap<String, BTreeSet<&'static str>> {
        let Memory {
            nodes,
            leases: _,
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

    /// Takes a step that came over a connection; what is told goes to `tells`.
    pub fn take(
        &mut self,
        from: ConnectionId,
        step: &Step,
        tells: &mut Vec<Tell>,
    ) -> Result<Answer, StepError> {
        if let Step::Heartbeat {
            node, first: false, ..
        } = step
            && !self.is_alive(node)
        {
            return Err(StepError::Late);
        }
        if deadline(step).is_some_and(|deadline| self.now() > deadline) {
            return Err(StepError::Late);
        }
        if step
            .reporter()
            .is_some_and(|(app, node)| !self.is_enlisted(app, node))
        {
            return Err(StepError::Forgotten);
        }
        match step {
            Step::Subscribe { topic } => {
                let listening = self.listening.entry(topic.clone()).or_default();
                listening.insert(from);
                Ok(Answer::Done)
            }
            Step::Unsubscribe { topic } => {
                if let Some(listening) = self.listening.get_mut(topic) {
                    listening.remove(&from);
                }
                Ok(Answer::Done)
            }
            step => match app(step) {
                Some(app) => Ok(self.take_of_app(app, step, tells)),
                None => Ok(self.take_of_nodes(step, tells)),
            },
        }
    }

    /// Reads a history.
    pub(super) fn history(&mut self, request: &HistoryRequest) -> HistoryPage {
        let HistoryRequest {
            app: id,
            channel,
            query,
            rules,
            room,
        } = request;
        let now = self.now();
        let mut moment = Moment {
            id,
            app: self.memory.apps.entry(id.to_string()).or_default(),
            now,
            tells: Vec::new(),
        };
        moment.history(channel, query, *rules, *room)
    }

    /// Tells something to all who listen.
    pub fn told_to(&mut self, topic: Topic, message: &Bytes) -> Vec<Tell> {
        let mut tells = Vec::new();
        self.tell(topic, message, &mut tells);
        tells
    }

    fn is_alive(&self, node: &str) -> bool {
        let until = self.memory.nodes.get(node);
        until.is_some_and(|until| *until > self.now() / 1000)
    }

    fn is_enlisted(&self, app: &AppId, node: &str) -> bool {
        let app = self.memory.apps.get(app.as_str());
        app.is_some_and(|app| app.enlisted.contains(node))
    }

    fn tell(&mut self, topic: Topic, message: &Bytes, tells: &mut Vec<Tell>) {
        let listening = self.listening.get(&topic).into_iter().flatten();
        tells.extend(listening.map(|to| (*to, topic.clone(), message.clone())));
        self.told.push(Told {
            at: Instant::now(),
            losses: self.losses,
            topic,
            message: message.clone(),
        });
    }

    fn take_of_nodes(&mut self, step: &Step, tells: &mut Vec<Tell>) -> Answer {
        let now = self.now();
        let millis = now / 1000;
        let memory = &mut self.memory;
        match step {
            Step::Heartbeat {
                node,
                first,
                lease,
                message,
            } => {
                let lease = u64::try_from(lease.as_millis()).unwrap();
                if *first {
                    memory.leases.insert(node.to_string(), lease);
                }
                memory.nodes.insert(node.to_string(), millis + lease);
                for (other, until) in &mut memory.nodes {
                    let longest = memory.leases.get(other).copied().unwrap_or(lease);
                    *until = (*until).min(millis + longest);
                }
                let (live, dead) = memory
                    .nodes
                    .iter()
                    .partition::<Vec<_>, _>(|n| *n.1 > millis);
                let names = |nodes: Vec<(&String, &u64)>| {
                    nodes.into_iter().map(|(name, _)| name.clone()).collect()
                };
                let answer = Answer::Heartbeat {
                    now,
                    live: names(live),
                    dead: names(dead),
                };
                self.tell(Topic::Nodes, message, tells);
                answer
            }
            Step::Census => {
                let live = memory.nodes.iter().filter(|(_, until)| **until > millis);
                let live = live.map(|(node, _)| node.clone()).collect();
                let listening = self.listening.get(&Topic::Nodes);
                Answer::Census {
                    listening: listening.map_or(0, BTreeSet::len),
                    live,
                }
            }
            Step::Broadcast { message, .. } => {
                self.tell(Topic::Nodes, message, tells);
                Answer::Done
            }
            Step::Register { app, node, .. } => {
                let apps = memory.registered.entry(node.to_string()).or_default();
                apps.insert(app.to_string());
                Answer::Done
            }
            Step::Apps { node } => {
                let apps = memory.registered.get(&**node).into_iter().flatten();
                Answer::Names(apps.cloned().collect())
            }
            Step::Claim { node, lease } => {
                if memory.claims.get(&**node).is_some_and(|until| *until > now) {
                    return Answer::Numbers(vec![0]);
                }
                let until = now + u64::try_from(lease.as_micros()).unwrap();
                memory.claims.insert(node.to_string(), until);
                Answer::Numbers(vec![1])
            }
            Step::Forget { node } => {
                memory.leases.remove(&**node);
                memory.registered.remove(&**node);
                memory.claims.remove(&**node);
                Answer::Changed(memory.nodes.remove(&**node).is_some())
            }
            other => panic!("{other:?} is of no installation"),
        }
    }

    #[expect(clippy::too_many_lines, reason = "a table: one entry a step")]
    fn take_of_app(&mut self, id: &AppId, step: &Step, tells: &mut Vec<Tell>) -> Answer {
        let now = self.now();
        let (rooms, pieces) = self.part;
        let app = self.memory.apps.entry(id.to_string()).or_default();
        let mut moment = Moment {
            id,
            app,
            now,
            tells: Vec::new(),
        };
        let answer = match step {
            Step::Publish {
                publications, once, ..
            } => {
                let known = once.as_ref().map(|once| moment.known(once));
                match known {
                    Some(Some(same)) => Answer::Published(same),
                    _ => {
                        for publication in publications {
                            moment.publish(publication);
                        }
                        Answer::Published(Published::Now)
                    }
                }
            }
            Step::Join {
                node,
                channel,
                member,
                max,
                view,
                ..
            } => moment.join(node, channel, member, *max, *view),
            Step::Leave {
                node,
                channel,
                user,
                ..
            } => Answer::Changed(moment.unseat(node, channel, user.as_str())),
            Step::PresenceSnapshot { channel, .. } => {
                Answer::PresenceSnapshot(moment.snapshot(channel))
            }
            Step::UserCounts { channels, .. } => Answer::Numbers(
                channels
                    .iter()
                    .map(|channel| moment.app.seats.get(channel).map_or(0, BTreeMap::len))
                    .collect(),
            ),
            Step::Count {
                node,
                channel,
                count,
                announce,
                ..
            } => {
                let (before, after) = moment.recount(node, channel, *count);
                if *announce && after > 0 {
                    moment.tell_channel(channel, Message::Count(after).write());
                }
                Answer::Counted { before, after }
            }
            Step::RemoteSubscriptions { node, channel, .. } => {
                let all = moment.app.counts.get(channel).copied().unwrap_or(0);
                Answer::Numbers(vec![all - moment.count_of(node, channel)])
            }
            Step::AllRemoteSubscriptions { node, prefix, .. } => {
                let counts = moment.app.counts.iter();
                let mut elsewhere: BTreeMap<_, _> = counts
                    .map(|(name, all)| (name.clone(), all - moment.count_of(node, name)))
                    .filter(|(_, count)| *count > 0)
                    .collect();
                for name in moment.app.seats.keys() {
                    elsewhere.entry(name.clone()).or_default();
                }
                elsewhere.retain(|name, _| name.starts_with(prefix));
                Answer::Counts(elsewhere.into_iter().collect())
            }
            Step::SignIn { node, user, .. } => Answer::Changed(moment.sign_in(node, user)),
            Step::SignOut { node, user, .. } => {
                Answer::Changed(moment.sign_out(node, user.as_str()))
            }
            Step::Online { users, .. } => Answer::Online {
                position: moment.app.position,
                online: users
                    .iter()
                    .map(|user| moment.app.online.contains_key(user.as_str()))
                    .collect(),
            },
            Step::Connections { node, count, .. } => {
                let connections = &mut moment.app.connections;
                match count {
                    0 => connections.remove(&**node),
                    count => connections.insert(node.to_string(), *count),
                };
                Answer::Done
            }
            Step::RemoteConnections { node, .. } => {
                let counts = moment.app.connections.iter();
                let elsewhere = counts.filter(|(name, _)| name.as_str() != &**node);
                Answer::Numbers(vec![elsewhere.map(|(_, count)| count).sum()])
            }
            Step::Admit {
                node, max, change, ..
            } => Answer::Changed(moment.admit(node, *max, *change)),
            Step::Enlist { node, .. } => {
                moment.app.enlisted.insert(node.to_string());
                Answer::Done
            }
            Step::Enlisted { .. } => Answer::Names(moment.app.enlisted.iter().cloned().collect()),
            Step::ConnectionsByNode { .. } => {
                let connections = moment.app.connections.iter();
                Answer::Counts(
                    connections
                        .map(|(node, count)| (node.clone(), *count))
                        .collect(),
                )
            }
            Step::Cached { channel, .. } => Answer::Cached(moment.cached(channel)),
            Step::Reap { node, .. } => Answer::Reaped(moment.reap(node, rooms, pieces)),
            other => panic!("{other:?} is of no app"),
        };
        for (topic, message) in moment.tells {
            self.tell(topic, &message, tells);
        }
        answer
    }
}

/// What one step sees and does.
struct Moment<'a> {
    id: &'a AppId,
    app: &'a mut App,
    now: u64,
    tells: Vec<(Topic, Bytes)>,
}

impl Moment<'_> {
    fn admit(&mut self, node: &str, max: usize, change: i64) -> bool {
        let connections = &mut self.app.connections;
        let has = connections.get(node).copied().unwrap_or(0);
        match has.saturating_add_signed(isize::try_from(change).unwrap()) {
            0 => connections.remove(node),
            has => connections.insert(node.to_owned(), has),
        };
        let has_room = connections.values().sum::<usize>() < max;
        if has_room {
            *connections.entry(node.to_owned()).or_default() += 1;
        }
        has_room
    }

    fn tell_channel(&mut self, channel: &str, message: Bytes) {
        let channel = ChannelName::parse(channel, usize::MAX).unwrap();
        let topic = Topic::Channel(self.id.clone(), channel);
        self.tells.push((topic, message));
    }

    fn next_position(&mut self) -> Position {
        self.app.position = (self.app.position + 1).max(self.now);
        self.app.position
    }

    fn known(&mut self, once: &fanfare_engine::IdempotencyKey) -> Option<Published> {
        match self.app.once.get(&once.key) {
            Some((digest, until)) if *until > self.now => Some(if *digest == once.digest {
                Published::Before
            } else {
                Published::OtherRequest
            }),
            _ => {
                let until = self.now + u64::try_from(KNOWN_FOR.as_micros()).unwrap();
                let known = (once.digest.clone(), until);
                self.app.once.insert(once.key.clone(), known);
                None
            }
        }
    }

    fn publish(&mut self, publication: &Publication) {
        let Publication {
            channel, message, ..
        } = publication;
        let kept = publication.keep.filter(|kept| !kept.ttl.is_zero());
        if kept.is_none() && publication.history.is_none() {
            return self.tell_channel(channel, message.clone());
        }
        let position = self.next_position();
        let recorded = publication.history.map(|retention| {
            let log = self.log(channel, retention.rules);
            log.next(position)
        });
        let message = stamp(message, position, kept.is_some(), recorded.as_ref());
        if let Some(retention) = publication.history {
            self.hold(channel, position, retention, message.clone());
        }
        let Some(Keep { ttl, max_bytes }) = kept else {
            return self.tell_channel(channel, message);
        };
        let time = self.now / 1000;
        let until = time + u64::try_from(ttl.as_millis()).unwrap();
        let entry = (message.clone(), until);
        self.app.cache.insert(channel.to_owned(), entry);
        self.shrink(time, max_bytes);
        self.tell_channel(channel, message);
    }

    /// The history of a channel under some rules, which begins anew where it was of others.
    fn log(&mut self, channel: &str, rules: u64) -> &mut Log {
        let App { logs, epochs, .. } = self.app;
        let now = self.now;
        let is_over = |log: &Log| log.rules != rules || log.until <= now;
        if logs.get(channel).is_some_and(is_over) {
            logs.remove(channel);
        }
        logs.entry(channel.to_owned()).or_insert_with(|| {
            *epochs += 1;
            Log {
                epoch: format!("e{epochs}").into(),
                rules,
                until: now + UNUSED_KEPT_FOR,
                offset: 0,
                newest: 0,
                ttl: 0,
                events: Vec::new(),
            }
        })
    }

    fn hold(&mut self, channel: &str, position: Position, retention: Retention, message: Bytes) {
        let now = self.now;
        let log = self.log(channel, retention.rules);
        log.ttl = u64::try_from(retention.ttl.as_micros()).unwrap();
        log.until = now + log.ttl.max(LOG_KEPT_FOR);
        log.events.push((position, message));
        log.trim(now);
        let more = log.events.len().saturating_sub(retention.size);
        log.events.drain(..more);
    }

    fn history(
        &mut self,
        channel: &str,
        query: &HistoryQuery,
        rules: u64,
        room: usize,
    ) -> HistoryPage {
        let now = self.now;
        let log = self.log(channel, rules);
        log.trim(now);
        let range = query.range(&log.epoch, log.offset, log.events.len());
        let messages = range.and_then(|(skipped, taken)| {
            let newest_first = log.events.iter().rev().skip(skipped).take(taken);
            let (mut found, mut bytes) = (Vec::new(), 0);
            for (_, message) in newest_first {
                bytes += message.len();
                match query {
                    HistoryQuery::After(_) if bytes > room => return Err(Unrecovered::TooLarge),
                    HistoryQuery::Last(_) if bytes > room => break,
                    _ => found.push(message.clone()),
                }
            }
            if !query.is_backward() {
                found.reverse();
            }
            Ok(found)
        });
        HistoryPage {
            position: log.position(),
            newest: log.newest,
            messages,
        }
    }

    fn shrink(&mut self, time: u64, max_bytes: usize) {
        let cache = &mut self.app.cache;
        let weight = |cache: &BTreeMap<String, (Bytes, u64)>| -> usize {
            let entries = cache.values();
            entries.map(|(kept, _)| kept.len() + ENTRY_WEIGHT).sum()
        };
        while let Some((channel, until)) = cache
            .iter()
            .map(|(channel, (_, until))| (channel.clone(), *until))
            .min_by(|one, other| (one.1, &one.0).cmp(&(other.1, &other.0)))
        {
            if until > time && weight(cache) <= max_bytes {
                return;
            }
            cache.remove(&channel);
        }
    }

    fn cached(&self, channel: &str) -> Option<CachedMessage> {
        let (message, until) = self.app.cache.get(channel)?;
        let left = (until * 1000).checked_sub(self.now)?;
        (left > 0).then(|| CachedMessage {
            ttl: Duration::from_millis(left.div_ceil(1000)),
            message: message.clone(),
        })
    }

    fn join(
        &mut self,
        node: &str,
        channel: &str,
        member: &Member,
        max: usize,
        wants_snapshot: bool,
    ) -> Answer {
        let user = member.user_id.as_str();
        let seats = self.app.seats.entry(channel.to_owned()).or_default();
        if !seats.contains_key(user) && seats.len() >= max {
            if seats.is_empty() {
                self.app.seats.remove(channel);
            }
            return Answer::Full;
        }
        let info = member.user_info.as_deref().unwrap_or_default();
        let members = self.app.members.entry(channel.to_owned()).or_default();
        members.insert(user.to_owned(), info.to_owned());
        let key = (node.to_owned(), channel.to_owned());
        let here = self.app.here.entry(key).or_default();
        let mut added = false;
        if here.insert(user.to_owned()) {
            let nodes = seats.entry(user.to_owned()).or_default();
            *nodes += 1;
            added = *nodes == 1;
        }
        if added {
            let position = self.next_position();
            let added = Message::Added {
                position,
                user_id: member.user_id.clone(),
                user_info: member.user_info.as_deref(),
            };
            self.tell_channel(channel, added.write());
        }
        let mut snapshot = self.snapshot(channel);
        if !wants_snapshot {
            snapshot.members.clear();
        }
        Answer::Joined { added, snapshot }
    }

    fn snapshot(&self, channel: &str) -> PresenceSnapshot {
        let members = self.app.members.get(channel).into_iter().flatten();
        let member = |(user, info): (&String, &String)| Member {
            user_id: UserId::new(user).unwrap(),
            user_info: (!info.is_empty()).then(|| info.as_str().into()),
        };
        PresenceSnapshot {
            position: self.app.position,
            members: members.map(member).collect(),
        }
    }

    fn unseat(&mut self, node: &str, channel: &str, user: &str) -> bool {
        let key = (node.to_owned(), channel.to_owned());
        let Some(here) = self.app.here.get_mut(&key) else {
            return false;
        };
        if !here.remove(user) {
            return false;
        }
        if here.is_empty() {
            self.app.here.remove(&key);
        }
        let seats = self.app.seats.get_mut(channel).unwrap();
        let nodes = seats.get_mut(user).unwrap();
        *nodes -= 1;
        if *nodes > 0 {
            return false;
        }
        seats.remove(user);
        if seats.is_empty() {
            self.app.seats.remove(channel);
        }
        let members = self.app.members.get_mut(channel).unwrap();
        members.remove(user);
        if members.is_empty() {
            self.app.members.remove(channel);
        }
        let position = self.next_position();
        let user_id = UserId::new(user).unwrap();
        let removed = Message::Removed { position, user_id };
        self.tell_channel(channel, removed.write());
        true
    }

    fn count_of(&self, node: &str, channel: &str) -> usize {
        let counts = self.app.counts_of.get(node);
        counts
            .and_then(|counts| counts.get(channel).copied())
            .unwrap_or(0)
    }

    fn recount(&mut self, node: &str, channel: &str, count: usize) -> (usize, usize) {
        let before = self.app.counts.get(channel).copied().unwrap_or(0);
        let after = before + count - self.count_of(node, channel);
        let mine = self.app.counts_of.entry(node.to_owned()).or_default();
        set(mine, channel, count);
        if mine.is_empty() {
            self.app.counts_of.remove(node);
        }
        set(&mut self.app.counts, channel, after);
        (before, after)
    }

    fn sign_in(&mut self, node: &str, user: &UserId) -> bool {
        let here = self.app.online_of.entry(node.to_owned()).or_default();
        if !here.insert(user.to_string()) {
            return false;
        }
        let nodes = self.app.online.entry(user.to_string()).or_default();
        *nodes += 1;
        if *nodes > 1 {
            return false;
        }
        self.tell_online(user.as_str(), true);
        true
    }

    fn sign_out(&mut self, node: &str, user: &str) -> bool {
        let Some(here) = self.app.online_of.get_mut(node) else {
            return false;
        };
        if !here.remove(user) {
            return false;
        }
        if here.is_empty() {
            self.app.online_of.remove(node);
        }
        let nodes = self.app.online.get_mut(user).unwrap();
        *nodes -= 1;
        if *nodes > 0 {
            return false;
        }
        self.app.online.remove(user);
        self.tell_online(user, false);
        true
    }

    fn tell_online(&mut self, user: &str, online: bool) {
        let message = Message::Online {
            position: self.next_position(),
            user_id: UserId::new(user).unwrap(),
            online,
        };
        self.tells
            .push((Topic::Users(self.id.clone()), message.write()));
    }

    fn reap(&mut self, node: &str, rooms: usize, pieces: usize) -> Reaped {
        let mut reaped = Reaped::default();
        let of_node =
            |(owner, channel): &(String, String)| (owner == node).then(|| channel.clone());
        let channels: Vec<_> = self
            .app
            .here
            .keys()
            .filter_map(of_node)
            .take(rooms)
            .collect();
        for channel in channels {
            let here = &self.app.here[&(node.to_owned(), channel.clone())];
            let users: Vec<_> = here.iter().take(pieces).cloned().collect();
            for user in users {
                if self.unseat(node, &channel, &user) {
                    let user = UserId::new(&user).unwrap();
                    reaped.removed.push((channel.clone(), user));
                }
            }
        }
        let counts = self.app.counts_of.get(node).into_iter().flatten();
        let counted: Vec<_> = counts.map(|(name, _)| name.clone()).take(pieces).collect();
        for channel in counted {
            let (_, after) = self.recount(node, &channel, 0);
            let list = if after == 0 {
                &mut reaped.vacated
            } else {
                &mut reaped.counted
            };
            list.push(channel);
        }
        let online = self.app.online_of.get(node).into_iter().flatten();
        let online: Vec<_> = online.take(pieces).cloned().collect();
        for user in online {
            self.sign_out(node, &user);
        }
        self.app.connections.remove(node);
        reaped.more = self.app.here.keys().any(|(owner, _)| owner == node)
            || self.app.counts_of.contains_key(node)
            || self.app.online_of.contains_key(node);
        if !reaped.more {
            self.app.enlisted.remove(node);
        }
        reaped
    }
}

impl Log {
    fn next(&mut self, position: Position) -> HistoryPosition {
        self.offset += 1;
        self.newest = position;
        self.position()
    }

    fn position(&self) -> HistoryPosition {
        HistoryPosition {
            epoch: self.epoch.clone(),
            offset: self.offset,
        }
    }

    fn trim(&mut self, now: u64) {
        let ttl = self.ttl;
        self.events.retain(|(position, _)| position + ttl >= now);
    }
}

fn set(counts: &mut BTreeMap<String, usize>, channel: &str, count: usize) {
    if count > 0 {
        counts.insert(channel.to_owned(), count);
    } else {
        counts.remove(channel);
    }
}

fn deadline(step: &Step) -> Option<u64> {
    match step {
        Step::Publish { deadline, .. }
        | Step::Join { deadline, .. }
        | Step::Leave { deadline, .. }
        | Step::Count { deadline, .. }
        | Step::SignIn { deadline, .. }
        | Step::SignOut { deadline, .. }
        | Step::Connections { deadline, .. }
        | Step::Admit { deadline, .. }
        | Step::Register { deadline, .. }
        | Step::Enlist { deadline, .. }
        | Step::Broadcast { deadline, .. } => Some(*deadline),
        _ => None,
    }
}

fn app(step: &Step) -> Option<&AppId> {
    match step {
        Step::Publish { app, .. }
        | Step::Join { app, .. }
        | Step::Leave { app, .. }
        | Step::PresenceSnapshot { app, .. }
        | Step::UserCounts { app, .. }
        | Step::Count { app, .. }
        | Step::RemoteSubscriptions { app, .. }
        | Step::AllRemoteSubscriptions { app, .. }
        | Step::SignIn { app, .. }
        | Step::SignOut { app, .. }
        | Step::Online { app, .. }
        | Step::Connections { app, .. }
        | Step::RemoteConnections { app, .. }
        | Step::Admit { app, .. }
        | Step::Cached { app, .. }
        | Step::Enlist { app, .. }
        | Step::Enlisted { app }
        | Step::ConnectionsByNode { app }
        | Step::Reap { app, .. } => Some(app),
        _ => None,
    }
}
