//! A back end in memory whose lines are slow, break and split.
//!
//! Every connection has a line up and a line down, each first in, first out. Tests ask for what goes
//! wrong.

mod connection;
pub mod trace;
mod weather;
mod world;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::backend::{Backend, BackendError, Incoming, IncomingBytes, Topic};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, timeout_at};

use connection::{Process, Request, RequestAnswer};
pub use weather::{Weather, mix};
pub use world::World;
use world::{ConnectionId, Turn};

/// A world and the lines to it.
#[derive(Clone)]
pub struct Sim(Arc<Mutex<State>>);

struct State {
    world: World,
    begin: Instant,
    seed: u64,
    weather: Weather,
    lines: BTreeMap<ConnectionId, Line>,
    next_line: ConnectionId,
    /// Numbers of processes whose messages do not get through: to the world, and from it.
    stalled: [BTreeSet<u64>; 2],
    dead: BTreeSet<u64>,
    /// Whether no request is taken.
    stopped: bool,
    /// Whether connections are refused.
    refusing: bool,
    /// Whether requests are refused because the world has no room.
    full: bool,
    /// How long each request takes besides its way.
    slow: Duration,
    changes: Vec<WorldChange>,
}

/// A connection.
struct Line {
    process: u64,
    up: VecDeque<Up>,
    down: VecDeque<(Instant, Down)>,
    /// When the last message of each direction arrives.
    last: [Instant; 2],
    /// `None` once the process has closed it.
    incoming: Option<mpsc::UnboundedSender<Incoming>>,
    wake: [Arc<Notify>; 2],
}

struct Up {
    arrives: Instant,
    requests: VecDeque<Request>,
    answers: Answers,
}

/// Answers, each with the indices of the changes that it reports.
type Answers = Vec<(RequestAnswer, Vec<usize>)>;

enum Down {
    Message(Topic, Bytes),
    Answers(Answers),
}

/// A change over all nodes, which the world reports to one of them alone.
#[derive(Debug, Clone)]
pub struct WorldChange {
    /// The process that gets the report.
    pub process: u64,
    /// The channel.
    pub channel: String,
    /// The beginning or end, in words.
    pub what: String,
    /// When the process got the report.
    pub answered: Option<Instant>,
}

const UP: usize = 0;
const DOWN: usize = 1;

impl Sim {
    /// Returns an empty world. The same seed makes the same delays.
    #[must_use]
    pub fn new(seed: u64, weather: Weather) -> Self {
        Self(Arc::new(Mutex::new(State {
            world: World::new(),
            begin: Instant::now(),
            seed,
            weather,
            lines: BTreeMap::new(),
            next_line: 0,
            stalled: Default::default(),
            dead: BTreeSet::new(),
            stopped: false,
            refusing: false,
            full: false,
            slow: Duration::ZERO,
            changes: Vec::new(),
        })))
    }

    /// Returns the back end of one process.
    pub fn backend(&self, process: u64) -> Arc<dyn Backend> {
        Arc::new(Process::new(self.clone(), process))
    }

    /// Reads the world, or changes it.
    pub fn with<T>(&self, look: impl FnOnce(&mut World) -> T) -> T {
        look(&mut self.0.lock().world)
    }

    /// Returns the changes over all nodes so far.
    #[must_use]
    pub fn changes(&self) -> Vec<WorldChange> {
        self.0.lock().changes.clone()
    }

    /// Sets how slow the lines are from now on.
    pub fn set_weather(&self, weather: Weather) {
        self.0.lock().weather = weather;
    }

    /// Breaks the connections of a process: some of what is on the way still arrives.
    pub fn cut(&self, process: u64) {
        let mut state = self.0.lock();
        for id in state.lines_of(process) {
            state.cut(id);
        }
    }

    /// Stops the lines of a process, up or down, or lets them go on with what waits.
    pub fn stall(&self, process: u64, up: bool, down: bool) {
        let mut state = self.0.lock();
        for (stalled, is) in state.stalled.iter_mut().zip([up, down]) {
            if is {
                stalled.insert(process);
            } else {
                stalled.remove(&process);
            }
        }
        state.wake_all();
    }

    /// Ends a process at once; what it has sent is on the way.
    pub fn kill(&self, process: u64) {
        let mut state = self.0.lock();
        state.dead.insert(process);
        for id in state.lines_of(process) {
            state.close(id);
        }
    }

    /// Stops the world, like a process that is suspended, or lets it go on with what waits.
    pub fn stop(&self, stopped: bool) {
        let mut state = self.0.lock();
        state.stopped = stopped;
        state.wake_all();
    }

    /// Refuses connections from now on, or accepts them again.
    pub fn refuse(&self, refusing: bool) {
        self.0.lock().refusing = refusing;
    }

    /// Refuses requests for lack of room from now on, or takes them again.
    pub fn fill(&self, full: bool) {
        self.0.lock().full = full;
    }

    /// Returns how many connections there ever were.
    pub fn connections(&self) -> u64 {
        self.0.lock().next_line
    }

    /// Sets how long each request takes besides its way.
    pub fn slow(&self, slow: Duration) {
        self.0.lock().slow = slow;
    }

    /// Makes the world lose its memory and all connections.
    pub fn restart(&self) {
        let mut state = self.0.lock();
        let all: Vec<_> = state.lines.keys().copied().collect();
        for id in all {
            state.cut(id);
        }
        state.world.restart();
    }

    /// Returns the topics to which the connections of a process subscribe.
    pub fn topics_of(&self, process: u64) -> Vec<Topic> {
        let state = self.0.lock();
        let lines = state.lines_of(process).into_iter();
        lines
            .flat_map(|id| state.world.topics_of(id))
            .cloned()
            .collect()
    }

    /// Returns how many connections a process has.
    pub fn lines(&self, process: u64) -> usize {
        self.0.lock().lines_of(process).len()
    }

    /// Publishes a message that no request would.
    pub fn publish(&self, topic: Topic, message: &'static [u8]) {
        let mut state = self.0.lock();
        let mut turn = Turn::new(&mut state.world, ConnectionId::MAX);
        turn.publish_on(topic, &Bytes::from_static(message));
        let deliveries = turn.deliveries;
        state.deliver(deliveries);
    }

    fn is_dead(&self, process: u64) -> bool {
        self.0.lock().dead.contains(&process)
    }

    /// Waits for the next tick.
    async fn tick(&self, tick: Duration) {
        let elapsed = self.0.lock().begin.elapsed().as_millis();
        let left = tick.as_millis() - elapsed % tick.as_millis();
        tokio::time::sleep(Duration::from_millis(u64::try_from(left).unwrap())).await;
    }

    /// Carries the requests of a process to the world, in order.
    async fn carry_up(self, id: ConnectionId, wake: Arc<Notify>) {
        loop {
            let next = self.0.lock().next_up(id);
            match next {
                Next::Again => tokio::task::yield_now().await,
                Next::At(time) => {
                    let _ = timeout_at(time, wake.notified()).await;
                }
                Next::Woken => wake.notified().await,
                Next::End => return,
            }
        }
    }

    /// Carries answers and messages to a process, in order.
    async fn carry_down(self, id: ConnectionId, wake: Arc<Notify>) {
        loop {
            let next = self.0.lock().next_down(id);
            match next {
                Next::Again => {}
                Next::At(time) => {
                    let _ = timeout_at(time, wake.notified()).await;
                }
                Next::Woken => wake.notified().await,
                Next::End => return,
            }
        }
    }
}

/// The next thing to do on a line.
enum Next {
    Again,
    At(Instant),
    Woken,
    End,
}

impl State {
    fn lines_of(&self, process: u64) -> Vec<ConnectionId> {
        let lines = self.lines.iter();
        let its = lines.filter(|(_, line)| line.process == process);
        its.map(|(id, _)| *id).collect()
    }

    fn wake_all(&self) {
        for line in self.lines.values() {
            line.wake.iter().for_each(|wake| wake.notify_one());
        }
    }

    fn arrival(&mut self, id: ConnectionId, way: usize) -> Instant {
        let now = Instant::now();
        let line = self.lines.get_mut(&id).unwrap();
        let name = line.process * 2 + way as u64;
        let delay = self.weather.delay(self.seed, name, now - self.begin);
        line.last[way] = line.last[way].max(now + delay);
        line.last[way]
    }

    fn open(&mut self, process: u64) -> (ConnectionId, mpsc::UnboundedReceiver<Incoming>) {
        let (sender, incoming) = mpsc::unbounded_channel();
        let id = self.next_line;
        self.next_line += 1;
        let line = Line {
            process,
            up: VecDeque::new(),
            down: VecDeque::new(),
            last: [Instant::now(); 2],
            incoming: Some(sender),
            wake: Default::default(),
        };
        self.lines.insert(id, line);
        (id, incoming)
    }

    /// Sends requests up a line; they are dropped if it is closed.
    fn send_up(&mut self, id: ConnectionId, requests: Vec<Request>) {
        let open = |line: &Line| line.incoming.is_some();
        if self.lines.get(&id).is_some_and(open) {
            let arrives = self.arrival(id, UP);
            let line = self.lines.get_mut(&id).unwrap();
            line.up.push_back(Up {
                arrives,
                requests: requests.into(),
                answers: Vec::new(),
            });
            line.wake[UP].notify_one();
        }
    }

    fn deliver(&mut self, deliveries: Vec<world::Delivery>) {
        for (to, topic, message) in deliveries {
            self.send_down(to, Down::Message(topic, message));
        }
    }

    fn send_down(&mut self, id: ConnectionId, message: Down) {
        let open = |line: &Line| line.incoming.is_some();
        if self.lines.get(&id).is_some_and(open) {
            let arrives = self.arrival(id, DOWN);
            let line = self.lines.get_mut(&id).unwrap();
            line.down.push_back((arrives, message));
            line.wake[DOWN].notify_one();
        }
    }

    fn next_up(&mut self, id: ConnectionId) -> Next {
        let Some(line) = self.lines.get_mut(&id) else {
            return Next::End;
        };
        let process = line.process;
        let Some(front) = line.up.front_mut() else {
            if line.incoming.is_some() {
                return Next::Woken;
            }
            self.hang_up(id);
            return Next::End;
        };
        if self.stopped || self.stalled[UP].contains(&process) {
            return Next::Woken;
        }
        let arrives = front.arrives + self.slow;
        if arrives > Instant::now() {
            return Next::At(arrives);
        }
        // Other connections get their turn between the requests of one batch.
        let turn = mix(self.seed ^ id ^ front.requests.len() as u64) % 4;
        for _ in 0..=turn {
            self.take_next(id);
        }
        Next::Again
    }

    /// Takes the next request that has come over a line.
    fn take_next(&mut self, id: ConnectionId) {
        let Some(line) = self.lines.get_mut(&id) else {
            return;
        };
        let process = line.process;
        let Some(front) = line.up.front_mut() else {
            return;
        };
        if let Some(request) = front.requests.pop_front() {
            let mut turn = Turn::new(&mut self.world, id);
            let words = request.words.clone();
            let answer = if self.full && !request.needs_no_room {
                request.answer(Err(BackendError::Refused("OOM there is no room".into())))
            } else {
                request.answer(Ok(&mut turn))
            };
            let Turn {
                deliveries,
                changes,
                ..
            } = turn;
            trace::line(|| {
                let at = self.begin.elapsed().as_millis();
                format!("{at} ms, process {process}: {words} => {}", answer.words)
            });
            let first = self.changes.len();
            self.changes
                .extend(changes.into_iter().map(|(channel, what)| WorldChange {
                    process,
                    channel,
                    what,
                    answered: None,
                }));
            let reported = (first..self.changes.len()).collect();
            front.answers.push((answer, reported));
            self.deliver(deliveries);
        }
        let line = self.lines.get_mut(&id).unwrap();
        if line
            .up
            .front()
            .is_some_and(|front| front.requests.is_empty())
        {
            let done = line.up.pop_front().unwrap();
            self.send_down(id, Down::Answers(done.answers));
        }
    }

    fn next_down(&mut self, id: ConnectionId) -> Next {
        let Some(line) = self.lines.get_mut(&id) else {
            return Next::End;
        };
        if line.incoming.is_none() {
            return Next::End;
        }
        let Some((arrives, _)) = line.down.front() else {
            return Next::Woken;
        };
        if self.stalled[DOWN].contains(&line.process) {
            return Next::Woken;
        }
        if *arrives > Instant::now() {
            return Next::At(*arrives);
        }
        self.deliver_next(id);
        Next::Again
    }

    fn deliver_next(&mut self, id: ConnectionId) {
        let Some(line) = self.lines.get_mut(&id) else {
            return;
        };
        let (Some(incoming), Some((_, message))) = (&line.incoming, line.down.pop_front()) else {
            return;
        };
        match message {
            Down::Message(topic, message) => {
                let room = IncomingBytes::default();
                // A process that closed its connection gets nothing.
                let _ = incoming.send(Incoming::Message {
                    topic,
                    message,
                    room,
                });
            }
            Down::Answers(answers) => {
                for (answer, changes) in answers {
                    if answer.deliver() {
                        for change in changes {
                            self.changes[change].answered = Some(Instant::now());
                        }
                    }
                }
            }
        }
    }

    /// Breaks a connection: a part of what is on the way arrives.
    fn cut(&mut self, id: ConnectionId) {
        let line = &self.lines[&id];
        let random = mix(self.seed ^ mix(id) ^ line.last[UP].elapsed().as_nanos() as u64);
        let requests: usize = line.up.iter().map(|up| up.requests.len()).sum();
        let taken = random as usize % (requests + 1);
        let delivered = (random >> 32) as usize % (line.down.len() + 1);
        for _ in 0..taken {
            self.take_next(id);
        }
        for _ in 0..delivered {
            self.deliver_next(id);
        }
        if let Some(incoming) = &self.lines[&id].incoming {
            let lost = Incoming::Lost("the connection was cut".into());
            let _ = incoming.send(lost);
        }
        self.hang_up(id);
    }

    fn hang_up(&mut self, id: ConnectionId) {
        self.world.hang_up(id);
        if let Some(line) = self.lines.remove(&id) {
            trace::line(|| {
                let at = self.begin.elapsed().as_millis();
                format!("{at} ms, process {}: hung up", line.process)
            });
            line.wake.iter().for_each(|wake| wake.notify_one());
        }
    }

    /// A process closes its connection.
    fn close(&mut self, id: ConnectionId) {
        if let Some(line) = self.lines.get_mut(&id) {
            line.incoming = None;
            line.down.clear();
            line.wake.iter().for_each(|wake| wake.notify_one());
        }
    }
}
