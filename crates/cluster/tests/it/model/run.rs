//! One run: the plan is carried out, all is made well, and what is true is compared with what everybody knows.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use fanfare_engine::testing::story::Subject;
use fanfare_engine::testing::{KEY, definition, settings};
use fanfare_engine::{
    AppDefinition, BusError, IdempotencyKey, PublishError, PublishOutcome, WantedNotices,
};
use fanfare_protocol::api::Event;
use fanfare_protocol::{AppSettings, ChannelName, Limits};
use serde_json::json;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use fanfare_cluster::backend::Topic;

use super::client::{Command, Connection};
use super::oracle::{self, Belief, Log};
use super::plan::{Act, CHANNELS, CLIENTS, Lost, NODES, Plan, USERS};
use super::receivers::Receivers;
use crate::nodes::{ClusterNode, LEASE};
use crate::sim::{Sim, Weather, mix, trace};

/// How long until nobody can be in doubt any more: a lease runs out, and another one of somebody who cleared up and died.
const SETTLED: Duration = Duration::from_secs(18);
/// How long until receivers know: the grace for clients of lost nodes, and what recorders take.
const TOLD_WITHIN: Duration = Duration::from_secs(60);
/// Longest that somebody who publishes waits.
const ANSWERED_WITHIN: Duration = Duration::from_millis(3600);

struct Run {
    sim: Sim,
    shards: usize,
    nodes: RefCell<Vec<Option<Running>>>,
    next_process: Cell<u64>,
    clients: RefCell<Vec<Option<Rc<Connection>>>>,
    /// All there ever were.
    connections: RefCell<Vec<Rc<Connection>>>,
    all_notices: RefCell<Vec<Running>>,
    requests: RefCell<BTreeMap<usize, Request>>,
    next_event: Cell<usize>,
    faults_over: Cell<bool>,
    receivers: Rc<Receivers>,
    /// Whether the nodes in a place log transitions, as those of the version before don't.
    logs: [bool; NODES],
    seed: u64,
}

#[derive(Clone)]
struct Running {
    node: Rc<ClusterNode>,
    process: u64,
    /// The task that records what receivers are told.
    recorder: AbortHandle,
}

impl Running {
    fn kill(&self, sim: &Sim) {
        self.recorder.abort();
        self.node.kill();
        sim.kill(self.process);
    }
}

/// A request to publish, and all its answers.
#[derive(Debug)]
struct Request {
    channels: Vec<&'static str>,
    answers: Vec<Result<PublishOutcome, PublishError>>,
    /// When the last of them came.
    answered: Option<Instant>,
}

pub(crate) async fn run(seed: u64) {
    let plan = Plan::new(seed);
    let begin = Instant::now();
    let sim = Sim::new(seed, plan.weather);
    sim.with(|world| world.part = plan.part);
    let run = Rc::new(Run {
        receivers: Receivers::new(&sim),
        logs: plan.logs,
        seed,
        sim,
        shards: plan.shards,
        nodes: RefCell::new(vec![None, None, None]),
        next_process: Cell::new(0),
        clients: RefCell::new(vec![None; CLIENTS]),
        connections: RefCell::default(),
        all_notices: RefCell::default(),
        requests: RefCell::default(),
        next_event: Cell::new(0),
        faults_over: Cell::new(false),
    });
    for node in 0..NODES {
        run.start(node).await;
    }
    for client in 0..CLIENTS {
        run.connect(client, client).await;
    }
    for (at, act) in plan.acts {
        sleep_until(begin + at).await;
        trace::line(|| format!("{} ms: {act:?}", at.as_millis()));
        run.act(act).await;
    }
    sleep_until(begin + plan.healed).await;
    run.heal().await;
    sleep(SETTLED).await;
    run.finish().await;
}

impl Run {
    async fn start(&self, slot: usize) {
        let process = self.next_process.replace(self.next_process.get() + 1);
        let backend = self.sim.backend(process);
        let node = ClusterNode::start(backend, self.shards).await;
        if self.nodes.borrow()[slot].is_some() {
            // Somebody else was faster.
            node.kill();
            return self.sim.kill(process);
        }
        let app = AppSettings {
            watchlists: true,
            subscription_count: true,
            ..settings()
        };
        let logs = self.logs[slot];
        let app = AppDefinition {
            wanted_notices: WantedNotices {
                channels: logs,
                members: logs,
                ..WantedNotices::default()
            },
            ..definition("1", KEY, app)
        };
        node.engine().update_apps(vec![app], &[]);
        let receivers = Rc::clone(&self.receivers);
        let recorder = receivers.record_on(Arc::clone(node.engine()), mix(self.seed) ^ process);
        let recorder = tokio::task::spawn_local(async move {
            if logs {
                recorder.await;
            }
        });
        let running = Running {
            node: Rc::new(node),
            process,
            recorder: recorder.abort_handle(),
        };
        self.all_notices.borrow_mut().push(running.clone());
        self.nodes.borrow_mut()[slot] = Some(running);
    }

    /// Starts a node, if there is none in its place.
    async fn start_again(&self, slot: usize) {
        let is_free = self.nodes.borrow()[slot].is_none();
        if is_free {
            self.start(slot).await;
        }
    }

    /// A node that is up: the one that was meant, or the next.
    fn node(&self, slot: usize) -> Option<Running> {
        let nodes = self.nodes.borrow();
        (slot..slot + NODES).find_map(|slot| nodes[slot % NODES].clone())
    }

    fn user(client: usize) -> String {
        format!("u{}", client % USERS)
    }

    async fn connect(&self, client: usize, slot: usize) -> Option<Rc<Connection>> {
        let Running { node, process, .. } = self.node(slot)?;
        let connection = Connection::open(&node, process, &Self::user(client)).await;
        self.connections.borrow_mut().push(Rc::clone(&connection));
        self.clients.borrow_mut()[client] = Some(Rc::clone(&connection));
        Some(connection)
    }

    /// The client's connection, which is made anew if it was closed.
    async fn client(&self, client: usize) -> Option<Rc<Connection>> {
        let known = self.clients.borrow()[client].clone();
        match known.filter(|connection| connection.open.get()) {
            Some(connection) => Some(connection),
            None => self.connect(client, client).await,
        }
    }

    async fn tell(&self, client: usize, command: Command) {
        if let Some(connection) = self.client(client).await {
            connection.tell(command);
        }
    }

    async fn act(self: &Rc<Self>, act: Act) {
        match act {
            Act::Subscribe { client, channel } => {
                self.tell(client, Command::Subscribe(channel)).await;
            }
            Act::Unsubscribe { client, channel } => {
                self.tell(client, Command::Unsubscribe(channel)).await;
            }
            Act::Reconnect { client, node } => {
                self.tell(client, Command::Leave).await;
                self.connect(client, node).await;
            }
            Act::SignIn { client, watched } => {
                let watched = watched.into_iter().map(Self::user).collect();
                self.tell(client, Command::SignIn(watched)).await;
            }
            Act::ClientEvent { client, channel } => {
                let event = self.next_event.replace(self.next_event.get() + 1);
                let data = format!("client-{event}");
                self.tell(client, Command::Send(channel, data)).await;
            }
            Act::Publish {
                node,
                channels,
                except,
                again,
            } => {
                if !channels.is_empty() {
                    let run = Rc::clone(self);
                    let publish = run.publish(node, channels, except, again);
                    tokio::task::spawn_local(publish);
                }
            }
            Act::Kill { node, back_after } => {
                self.kill(node);
                self.later(back_after, async move |run| run.start_again(node).await);
            }
            Act::Leave { node, back_after } => {
                let run = Rc::clone(self);
                tokio::task::spawn_local(async move {
                    run.leave(node).await;
                    sleep(back_after).await;
                    run.start_again(node).await;
                });
            }
            Act::Cut { node } => {
                if let Some(running) = self.node(node) {
                    self.sim.cut(running.process);
                }
            }
            Act::Stall {
                node,
                up,
                down,
                lasts,
                heals,
            } => {
                if let Some(Running { process, .. }) = self.node(node) {
                    self.sim.stall(process, up, down);
                    self.later(lasts, async move |run| {
                        if !heals {
                            run.sim.cut(process);
                        }
                        run.sim.stall(process, false, false);
                    });
                }
            }
            Act::Stop { lasts } => {
                self.sim.stop(true);
                self.later(lasts, async |run| run.sim.stop(false));
            }
            Act::Slow { by, lasts } => {
                self.sim.slow(by);
                self.later(lasts, async |run| run.sim.slow(Duration::ZERO));
            }
            Act::Restart { away } => {
                self.sim.refuse(true);
                self.sim.restart();
                self.later(away, async |run| run.sim.refuse(false));
            }
            Act::Forget(lost) => self.sim.with(|world| match lost {
                Lost::All => world.flush(),
                Lost::Installation => world.flush_installation(),
                Lost::Apps => world.flush_apps(),
            }),
            Act::SetClock { forward, by } => self.sim.with(|world| world.set_clock(forward, by)),
        }
    }

    /// Does something after a while, unless all was made well before.
    fn later(self: &Rc<Self>, after: Duration, act: impl AsyncFnOnce(&Rc<Self>) + 'static) {
        let run = Rc::clone(self);
        tokio::task::spawn_local(async move {
            sleep(after).await;
            if !run.faults_over.get() {
                act(&run).await;
            }
        });
    }

    fn kill(&self, slot: usize) {
        let Some(running) = self.nodes.borrow_mut()[slot].take() else {
            return;
        };
        running.kill(&self.sim);
        for connection in self.connections.borrow().iter() {
            if connection.process == running.process {
                connection.kill();
            }
        }
    }

    async fn leave(&self, slot: usize) {
        let Some(running) = self.nodes.borrow_mut()[slot].take() else {
            return;
        };
        let engine = running.node.engine();
        let drained = timeout(Duration::from_secs(9), engine.drain(Duration::from_secs(1)));
        let _ = drained.await;
        let start = Instant::now();
        running.node.cluster.leave().await;
        let took = start.elapsed();
        assert!(took < Duration::from_secs(3), "leaving took {took:?}");
        running.kill(&self.sim);
        for connection in self.connections.borrow().iter() {
            if connection.process == running.process {
                connection.kill();
            }
        }
    }

    async fn publish(
        self: Rc<Self>,
        slot: usize,
        channels: Vec<&'static str>,
        except: Option<usize>,
        again: Option<usize>,
    ) {
        let event = self.next_event.replace(self.next_event.get() + 1);
        let except = except.and_then(|client| self.clients.borrow()[client].clone());
        // Sent again, it looks different, so that it can be told which was delivered.
        let body = |attempt| {
            let body = json!({
                "name": "e", "channels": channels, "data": format!("{event}.{attempt}"),
                "socket_id": except.as_ref().map(|connection| &connection.socket_id),
            });
            Event::parse(body.to_string().as_bytes(), &Limits::HOSTED).unwrap()
        };
        let (first, second) = (body(1), body(2));
        let once = again.map(|_| IdempotencyKey {
            key: event.to_string(),
            digest: "same".into(),
        });
        let request = Request {
            channels,
            answers: Vec::new(),
            answered: None,
        };
        self.requests.borrow_mut().insert(event, request);
        let answer = self.publish_once(slot, event, &first, once.clone()).await;
        if let (Some(again), Some(Err(PublishError::Bus(BusError::Unanswered)))) = (again, answer) {
            sleep(Duration::from_millis(500)).await;
            self.publish_once(again, event, &second, once).await;
        }
    }

    async fn publish_once(
        &self,
        slot: usize,
        number: usize,
        event: &Event,
        once: Option<IdempotencyKey>,
    ) -> Option<Result<PublishOutcome, PublishError>> {
        let running = self.node(slot)?;
        let (engine, app) = (running.node.engine(), running.node.node.app());
        let start = Instant::now();
        let answer = engine
            .publish(&app, std::slice::from_ref(event), once)
            .await;
        let took = start.elapsed();
        assert!(took <= ANSWERED_WITHIN, "a publish took {took:?}");
        let mut requests = self.requests.borrow_mut();
        let request = requests.get_mut(&number).unwrap();
        request.answers.push(answer.clone());
        request.answered = Some(Instant::now());
        Some(answer)
    }

    async fn heal(&self) {
        self.faults_over.set(true);
        self.sim.set_weather(Weather::Calm);
        self.sim.slow(Duration::ZERO);
        self.sim.refuse(false);
        self.sim.stop(false);
        for process in 0..self.next_process.get() {
            self.sim.stall(process, false, false);
        }
        for slot in 0..NODES {
            self.start_again(slot).await;
        }
    }

    /// Everybody does a little more, and then all must know what is true.
    async fn finish(self: &Rc<Self>) {
        for slot in 0..NODES {
            let running = self.node(slot).unwrap();
            let unready = running.node.engine().unready();
            assert_eq!(unready, None, "node {slot} is not ready at the end");
        }
        for client in 0..CLIENTS {
            for step in 0..3 {
                let channel = CHANNELS[(client + step * 2) % CHANNELS.len()];
                self.tell(client, Command::Subscribe(channel)).await;
            }
        }
        sleep(Duration::from_secs(1)).await;
        for slot in 0..NODES {
            Rc::clone(self)
                .publish(slot, CHANNELS.to_vec(), None, None)
                .await;
        }
        sleep(LEASE * 2).await;
        let log = self.sim.with(|world| oracle::log(world));
        self.check_requests(&log);
        let beliefs = self.check_clients(&log);
        self.check_counts(&beliefs).await;
        self.check_traces(&beliefs);
        self.check_notices();
        self.check_story(&beliefs).await;
    }

    /// In the end receivers know what is true, and were told nothing on the way that was not.
    async fn check_story(&self, open: &[(Rc<Connection>, Belief)]) {
        let mut there = BTreeSet::new();
        for (connection, belief) in open {
            for channel in belief.channels.keys() {
                there.insert((channel.clone(), None));
                if channel.starts_with("presence-") {
                    there.insert((channel.clone(), Some(connection.user.clone())));
                }
            }
        }
        let all_log = self.logs.iter().all(|logs| *logs);
        let is_known = |told: &BTreeSet<Subject>| {
            // Nodes that log nothing have told of no beginnings.
            if all_log {
                *told == there
            } else {
                told.is_subset(&there)
            }
        };
        if !all_log {
            // Nor have they told of ends, which are owed.
            self.receivers
                .arm(self.node(0).unwrap().node.engine())
                .await;
        }
        let since = Instant::now();
        while !is_known(&self.receivers.present()) && since.elapsed() < TOLD_WITHIN {
            sleep(Duration::from_secs(1)).await;
        }
        let told = self.receivers.present();
        assert!(
            is_known(&told),
            "receivers believe in {:?} and don't know of {:?}",
            told.difference(&there).collect::<Vec<_>>(),
            there.difference(&told).collect::<Vec<_>>()
        );
        self.receivers.check_turns(all_log);
        if all_log {
            let known = Instant::now();
            sleep(Duration::from_secs(4)).await;
            let more = self.receivers.told_since(known);
            assert!(more.is_empty(), "told though nothing happens: {more:?}");
        }
    }

    /// What was answered is what came of it.
    fn check_requests(&self, log: &Log) {
        for (event, request) in self.requests.borrow().iter() {
            let id = format!("{event}.");
            for channel in &request.channels {
                let told = log.get(*channel).into_iter().flatten();
                let told: Vec<_> = told.filter(|told| told.id.starts_with(&id)).collect();
                let times = told.len();
                // A deadline on a clock that was set back is over later.
                let in_time = |told: &&oracle::SentEvent| {
                    self.sim.with(|world| world.was_set_back)
                        || request.answered.is_none_or(|at| told.at <= at)
                };
                assert!(
                    told.iter().all(in_time),
                    "{id} was told on {channel} when nobody expected it any more"
                );
                let answers = &request.answers;
                let away = |answer: &Result<_, _>| {
                    matches!(
                        answer,
                        Err(PublishError::Bus(
                            BusError::Disconnected | BusError::Late | BusError::Overloaded
                        ))
                    )
                };
                let taken = answers.iter().any(Result::is_ok);
                let fits = match times {
                    0 => !taken,
                    1 => !answers.iter().all(away) || answers.is_empty(),
                    // The world forgot that it had taken it.
                    _ => self.sim.with(|world| world.losses) > 0 && answers.len() == 2,
                };
                assert!(
                    fits,
                    "{id} was told {times} times on {channel}: {answers:?}"
                );
            }
        }
    }

    fn check_clients(&self, log: &Log) -> Vec<(Rc<Connection>, Belief)> {
        let mut open = Vec::new();
        for connection in self.connections.borrow().iter() {
            connection.look();
            if trace::is_on() {
                let (user, entries) = (&connection.user, connection.entries.borrow());
                let whose = format!(
                    "process {}, {}, {user}",
                    connection.process, connection.socket_id
                );
                trace::line(|| format!("{whose}: {entries:#?}"));
            }
            let flushed = self.sim.with(|world| world.flushes > 0);
            let belief = Belief::of(connection, log, flushed);
            if connection.open.get() {
                open.push((Rc::clone(connection), belief));
            }
        }
        let on = |channel: &str| -> Vec<&Rc<Connection>> {
            let subscribed = open.iter();
            let subscribed = subscribed.filter(|(_, belief)| belief.channels.contains_key(channel));
            subscribed.map(|(connection, _)| connection).collect()
        };
        let signed_in: BTreeSet<String> = open
            .iter()
            .filter(|(_, belief)| belief.is_signed_in)
            .map(|(connection, _)| connection.user.clone())
            .collect();
        for (connection, belief) in &open {
            belief.check_complete(connection, log);
            let whose = format!("{} of process {}", connection.socket_id, connection.process);
            for (channel, subscribed) in &belief.channels {
                let there = on(channel);
                if channel.starts_with("presence-") {
                    let users = there.iter().map(|other| other.user.clone()).collect();
                    assert_eq!(subscribed.members, users, "{channel} as {whose} sees it");
                } else {
                    let count = Some(there.len() as u64);
                    assert_eq!(subscribed.count, count, "subscribers of {channel}: {whose}");
                }
            }
            assert!(
                belief.online.iter().all(|user| signed_in.contains(user))
                    && belief.offline.iter().all(|user| !signed_in.contains(user)),
                "{whose} believes that {:?} are online and {:?} are not; online are {signed_in:?}",
                belief.online,
                belief.offline
            );
        }
        open
    }

    /// Every node answers with what is true.
    async fn check_counts(&self, open: &[(Rc<Connection>, Belief)]) {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        let mut users: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (connection, belief) in open {
            for channel in belief.channels.keys() {
                *counts.entry(channel.clone()).or_default() += 1;
                let users = users.entry(channel.clone()).or_default();
                users.insert(connection.user.clone());
            }
        }
        let truth = |channel: &str| {
            let presence = channel.starts_with("presence-");
            let users = users.get(channel).map_or(0, BTreeSet::len);
            let count = counts.get(channel).copied().unwrap_or(0);
            (count, presence.then_some(users))
        };
        for slot in 0..NODES {
            let running = self.node(slot).unwrap();
            let (engine, app) = (running.node.engine(), running.node.node.app());
            let listed = engine.channels(&app, "").await.unwrap();
            let listed: BTreeMap<String, usize> = listed
                .into_iter()
                .map(|(name, found)| (name.to_string(), found.subscription_count))
                .collect();
            assert_eq!(listed, counts, "channels as node {slot} lists them");
            for channel in CHANNELS {
                let name = ChannelName::parse(channel, 200).unwrap();
                let found = engine.channel(&app, &name).await.unwrap();
                let found = (found.subscription_count, found.user_count);
                assert_eq!(found, truth(channel), "{channel} at node {slot}");
                if channel.starts_with("presence-") {
                    let found = engine.users(&app, &name).await.unwrap();
                    let found: BTreeSet<_> = found.iter().map(ToString::to_string).collect();
                    let there = users.get(channel).cloned().unwrap_or_default();
                    assert_eq!(found, there, "users of {channel} at node {slot}");
                }
            }
        }
    }

    /// Nothing is left of who is gone, and nobody listens to what nobody wants.
    fn check_traces(&self, open: &[(Rc<Connection>, Belief)]) {
        let mut traces = self.sim.with(|world| world.traces());
        // A registration that was on its way while its node was forgotten leaves the names of apps, which nothing counts or
        // announces. Everything else of that node would be found and removed.
        traces.retain(|_, left| *left != BTreeSet::from(["apps"]));
        assert_eq!(
            traces.len(),
            NODES,
            "nodes there are, in the world: {traces:?}"
        );
        for slot in 0..NODES {
            let process = self.node(slot).unwrap().process;
            let here = open
                .iter()
                .filter(|(connection, _)| connection.process == process);
            // Signing in is a subscription to the user's own channel.
            let own = |connection: &Connection| format!("#server-to-user-{}", connection.user);
            let wanted: BTreeSet<_> = here
                .flat_map(|(connection, belief)| {
                    let own = belief.is_signed_in.then(|| own(connection));
                    belief.channels.keys().cloned().chain(own)
                })
                .collect();
            for topic in self.sim.topics_of(process) {
                let is_wanted = match &topic {
                    Topic::Channel(_, channel) => wanted.contains(channel.as_str()),
                    Topic::Nodes | Topic::Users(_) | Topic::Live(_) => true,
                };
                assert!(
                    is_wanted,
                    "node {slot} listens to {topic:?}, which nobody wants"
                );
            }
        }
    }

    /// Whoever was told of something alone has passed it on, once.
    fn check_notices(&self) {
        let changes = self.sim.changes();
        for running in self.all_notices.borrow().iter() {
            let mut left: BTreeMap<(String, String), (usize, usize)> = BTreeMap::new();
            for change in changes
                .iter()
                .filter(|change| change.process == running.process)
            {
                let key = (change.channel.clone(), change.what.clone());
                let (sure, possible) = left.entry(key).or_default();
                *sure += usize::from(change.answered.is_some());
                *possible += 1;
            }
            for notice in running.node.notices.all() {
                let (sure, possible) = left.entry(notice.clone()).or_default();
                assert!(
                    *possible > 0,
                    "{notice:?} did not happen, or was noticed before"
                );
                *possible -= 1;
                *sure = sure.saturating_sub(1);
            }
        }
    }
}
