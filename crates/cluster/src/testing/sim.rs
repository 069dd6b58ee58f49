//! A backend in memory whose ways are slow, break and split.
//!
//! Every connection has a way up and a way down, each first in, first out. What goes wrong is asked for by tests.

pub mod trace;
mod weather;
mod world;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use crate::backend::{
    Answer, Backend, ConnectError, Connected, Connection, HistoryPage, HistoryRequest, Incoming,
    IncomingBytes, Step, StepError, Topic,
};
use bytes::Bytes;
use fanfare_engine::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

pub use weather::{Weather, mix};
pub use world::World;
use world::{ConnectionId, Tell};

/// Backends make connections at multiples of this, so that who waits a random while before comes at the same time.
const TICK: Duration = Duration::from_millis(100);
/// The same after an attempt that failed: longer than any such while.
const LONG_TICK: Duration = Duration::from_secs(1);
/// How long it is tried to connect.
const TIMEOUT: Duration = Duration::from_secs(2);

type Answers = Vec<Result<Reply, StepError>>;

/// What a process asks of the world.
#[derive(Debug)]
enum Request {
    Step(Step),
    History(HistoryRequest),
}

/// What the world answers.
#[derive(Debug)]
enum Reply {
    Answer(Answer),
    History(HistoryPage),
}

/// A world and the ways to it.
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
    /// Nothing is taken.
    stopped: bool,
    /// Nobody gets in.
    refusing: bool,
    /// Everybody gets in, and nothing is taken: the world has no room.
    full: bool,
    /// What each step takes besides.
    slow: Duration,
    changes: Vec<WorldChange>,
}

/// A connection.
struct Line {
    process: u64,
    up: VecDeque<Up>,
    down: VecDeque<(Instant, Down)>,
    /// When the last message of each way arrives.
    last: [Instant; 2],
    /// Nothing, once the process has closed it.
    incoming: Option<mpsc::UnboundedSender<Incoming>>,
    wake: [Arc<Notify>; 2],
}

struct Up {
    arrives: Instant,
    steps: VecDeque<Request>,
    answers: Answers,
    changes: Vec<usize>,
    reply: oneshot::Sender<Answers>,
}

enum Down {
    Told(Topic, Bytes),
    Answers(oneshot::Sender<Answers>, Answers, Vec<usize>),
}

/// Something that became so over all nodes, and of which one of them was told alone.
#[derive(Debug, Clone)]
pub struct WorldChange {
    /// The process that was told.
    pub process: u64,
    /// The channel.
    pub channel: String,
    /// What began or ended, in words.
    pub what: String,
    /// Since when the process knows.
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

    /// The backend of one process.
    pub fn backend(&self, process: u64) -> Arc<dyn Backend> {
        Arc::new(Process {
            sim: self.clone(),
            process,
        })
    }

    /// Looks at the world, or changes it.
    pub fn with<T>(&self, look: impl FnOnce(&mut World) -> T) -> T {
        look(&mut self.0.lock().world)
    }

    /// Returns what began or ended over all nodes so far.
    #[must_use]
    pub fn changes(&self) -> Vec<WorldChange> {
        self.0.lock().changes.clone()
    }

    /// Sets how slow the ways are from now on.
    pub fn set_weather(&self, weather: Weather) {
        self.0.lock().weather = weather;
    }

    /// Breaks the connections of a process: some of what is on the way still arrives.
    pub fn cut(&self, process: u64) {
        let mut state = self.0.lock();
        for id in state.lines_of(process) {
            state.cut(self, id);
        }
    }

    /// From now on nothing gets through to the world, or from it; or it does again, in order and late.
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

    /// A process ends at once; what it has sent is on the way.
    pub fn kill(&self, process: u64) {
        let mut state = self.0.lock();
        state.dead.insert(process);
        for id in state.lines_of(process) {
            state.close(id);
        }
    }

    /// The world does nothing, like a process that was stopped; or it goes on with what waits.
    pub fn stop(&self, stopped: bool) {
        let mut state = self.0.lock();
        state.stopped = stopped;
        state.wake_all();
    }

    /// Refuses connections from now on, or accepts them again.
    pub fn refuse(&self, refusing: bool) {
        self.0.lock().refusing = refusing;
    }

    /// Nothing is taken any more of those who are connected, or it is again.
    pub fn fill(&self, full: bool) {
        self.0.lock().full = full;
    }

    /// How many connections there ever were.
    pub fn connections(&self) -> u64 {
        self.0.lock().next_line
    }

    /// Sets how long each step takes besides its way.
    pub fn slow(&self, slow: Duration) {
        self.0.lock().slow = slow;
    }

    /// The world loses its memory and all connections.
    pub fn restart(&self) {
        let mut state = self.0.lock();
        let all: Vec<_> = state.lines.keys().copied().collect();
        for id in all {
            state.cut(self, id);
        }
        state.world.restart();
    }

    /// What the connections of a process listen to.
    pub fn topics_of(&self, process: u64) -> Vec<Topic> {
        let state = self.0.lock();
        let lines = state.lines_of(process).into_iter();
        lines
            .flat_map(|id| state.world.topics_of(id))
            .cloned()
            .collect()
    }

    /// How many connections a process has.
    pub fn lines(&self, process: u64) -> usize {
        self.0.lock().lines_of(process).len()
    }

    /// Tells something that no step would.
    pub fn tell(&self, topic: Topic, message: &'static [u8]) {
        let mut state = self.0.lock();
        let tells = state.world.told_to(topic, &Bytes::from_static(message));
        for (to, topic, message) in tells {
            state.send_down(to, Down::Told(topic, message));
        }
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

    /// Carries what a process says to the world, in order.
    async fn carry_up(self, id: ConnectionId, wake: Arc<Notify>) {
        loop {
            let next = self.0.lock().next_up(&self, id);
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

    /// Carries what the world says to a process, in order.
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

/// What is to be done on a way.
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

    fn send_up(
        &mut self,
        id: ConnectionId,
        steps: Vec<Request>,
    ) -> Option<oneshot::Receiver<Answers>> {
        self.lines.get(&id)?.incoming.as_ref()?;
        let arrives = self.arrival(id, UP);
        let (reply, answers) = oneshot::channel();
        let line = self.lines.get_mut(&id)?;
        line.up.push_back(Up {
            arrives,
            steps: steps.into(),
            answers: Vec::new(),
            changes: Vec::new(),
            reply,
        });
        line.wake[UP].notify_one();
        Some(answers)
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

    fn next_up(&mut self, sim: &Sim, id: ConnectionId) -> Next {
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
        // Others get their turn between the steps of one request.
        let turn = mix(self.seed ^ id ^ front.steps.len() as u64) % 4;
        for _ in 0..=turn {
            self.take_next(sim, id);
        }
        Next::Again
    }

    /// Takes the next step that has come over a line.
    fn take_next(&mut self, _: &Sim, id: ConnectionId) {
        let Some(line) = self.lines.get_mut(&id) else {
            return;
        };
        let process = line.process;
        let Some(front) = line.up.front_mut() else {
            return;
        };
        if let Some(step) = front.steps.pop_front() {
            let mut tells: Vec<Tell> = Vec::new();
            let answer = match &step {
                Request::Step(Step::Subscribe { .. }) => {
                    Self::take(&mut self.world, id, &step, &mut tells)
                }
                _ if self.full => Err(StepError::Refused("OOM there is no room".into())),
                step => Self::take(&mut self.world, id, step, &mut tells),
            };
            if let (Request::Step(step), Ok(Reply::Answer(answer))) = (&step, &answer) {
                for (channel, what) in changes_of(step, answer) {
                    front.changes.push(self.changes.len());
                    self.changes.push(WorldChange {
                        process,
                        channel,
                        what,
                        answered: None,
                    });
                }
            }
            if trace::is_on() {
                let at = self.begin.elapsed().as_millis();
                trace::line(&format!(
                    "{at} ms, process {process}: {step:?} => {answer:?}"
                ));
            }
            front.answers.push(answer);
            for (to, topic, message) in tells {
                self.send_down(to, Down::Told(topic, message));
            }
        }
        let line = self.lines.get_mut(&id).unwrap();
        if line.up.front().is_some_and(|front| front.steps.is_empty()) {
            let done = line.up.pop_front().unwrap();
            self.send_down(id, Down::Answers(done.reply, done.answers, done.changes));
        }
    }

    fn take(
        world: &mut World,
        id: ConnectionId,
        request: &Request,
        tells: &mut Vec<Tell>,
    ) -> Result<Reply, StepError> {
        match request {
            Request::Step(step) => world.take(id, step, tells).map(Reply::Answer),
            Request::History(request) => Ok(Reply::History(world.history(request))),
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
            Down::Told(topic, message) => {
                let room = IncomingBytes::default();
                // Who does not listen any more does not hear it.
                let _ = incoming.send(Incoming::Message {
                    topic,
                    message,
                    room,
                });
            }
            Down::Answers(reply, answers, changes) => {
                if reply.send(answers).is_ok() {
                    for change in changes {
                        self.changes[change].answered = Some(Instant::now());
                    }
                }
            }
        }
    }

    /// Breaks a connection: a part of what is on the way arrives.
    fn cut(&mut self, sim: &Sim, id: ConnectionId) {
        let line = &self.lines[&id];
        let random = mix(self.seed ^ mix(id) ^ line.last[UP].elapsed().as_nanos() as u64);
        let steps: usize = line.up.iter().map(|up| up.steps.len()).sum();
        let taken = random as usize % (steps + 1);
        let heard = (random >> 32) as usize % (line.down.len() + 1);
        for _ in 0..taken {
            self.take_next(sim, id);
        }
        for _ in 0..heard {
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
            let at = self.begin.elapsed().as_millis();
            trace::line(&format!("{at} ms, process {}: hung up", line.process));
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

/// What has begun or ended over all nodes, in words.
fn changes_of(step: &Step, answer: &Answer) -> Vec<(String, String)> {
    let one = |channel: &String, what: String| vec![(channel.clone(), what)];
    match (step, answer) {
        (
            Step::Join {
                channel, member, ..
            },
            Answer::Joined { added: true, .. },
        ) => one(channel, format!("added {}", member.user_id)),
        (Step::Leave { channel, user, .. }, Answer::Changed(true)) => {
            one(channel, format!("removed {user}"))
        }
        (Step::Count { channel, .. }, Answer::Counted { before: 0, after }) if *after > 0 => {
            one(channel, "occupied".into())
        }
        (Step::Count { channel, .. }, Answer::Counted { before, after: 0 }) if *before > 0 => {
            one(channel, "vacated".into())
        }
        (Step::Reap { .. }, Answer::Reaped(reaped)) => {
            let removed = reaped.removed.iter();
            let removed =
                removed.map(|(channel, user)| (channel.clone(), format!("removed {user}")));
            let vacated = reaped.vacated.iter();
            let vacated = vacated.map(|channel| (channel.clone(), "vacated".into()));
            removed.chain(vacated).collect()
        }
        _ => Vec::new(),
    }
}

struct Process {
    sim: Sim,
    process: u64,
}

impl Backend for Process {
    fn connect(&self) -> BoxFuture<'_, Result<Connected, ConnectError>> {
        Box::pin(async move {
            self.sim.tick(TICK).await;
            let until = Instant::now() + TIMEOUT;
            loop {
                if self.sim.is_dead(self.process) {
                    return std::future::pending().await;
                }
                if let Some(connected) = self.try_connect() {
                    return Ok(connected);
                }
                let refused = self.sim.0.lock().refusing;
                if refused || Instant::now() > until {
                    self.sim.tick(LONG_TICK).await;
                    return Err(ConnectError("nobody answers".into()));
                }
                self.sim.tick(TICK).await;
            }
        })
    }
}

impl Process {
    fn try_connect(&self) -> Option<Connected> {
        let mut state = self.sim.0.lock();
        let stalled = state.stalled.iter().any(|is| is.contains(&self.process));
        if state.refusing || state.stopped || stalled {
            return None;
        }
        let (id, incoming) = state.open(self.process);
        let [up, down] = &state.lines[&id].wake;
        tokio::spawn(self.sim.clone().carry_up(id, Arc::clone(up)));
        tokio::spawn(self.sim.clone().carry_down(id, Arc::clone(down)));
        Some(Connected {
            connection: Arc::new(SimConnection {
                sim: self.sim.clone(),
                id,
            }),
            incoming,
        })
    }
}

struct SimConnection {
    sim: Sim,
    id: ConnectionId,
}

impl SimConnection {
    /// Sends requests, and waits for their replies. The connection is cut if there are none.
    fn send(&self, requests: Vec<Request>) -> impl Future<Output = Answers> + use<> {
        let (sim, id) = (self.sim.clone(), self.id);
        async move {
            let count = requests.len();
            let sent = sim.0.lock().send_up(id, requests);
            let replies = match sent {
                Some(replies) => replies.await.ok(),
                None => None,
            };
            let cut = || Err(StepError::Broken("the connection was cut".into()));
            replies.unwrap_or_else(|| (0..count).map(|_| cut()).collect())
        }
    }
}

fn mixed_up() -> StepError {
    StepError::Broken("the reply is of another request".into())
}

impl Connection for SimConnection {
    fn take(&self, steps: Vec<Step>) -> BoxFuture<'static, Vec<Result<Answer, StepError>>> {
        let replies = self.send(steps.into_iter().map(Request::Step).collect());
        let answer = |reply| match reply {
            Ok(Reply::Answer(answer)) => Ok(answer),
            Ok(Reply::History(_)) => Err(mixed_up()),
            Err(error) => Err(error),
        };
        Box::pin(async move { replies.await.into_iter().map(answer).collect() })
    }

    fn history(
        &self,
        request: HistoryRequest,
    ) -> BoxFuture<'static, Result<HistoryPage, StepError>> {
        let replies = self.send(vec![Request::History(request)]);
        Box::pin(async move {
            match replies.await.pop() {
                Some(Ok(Reply::History(page))) => Ok(page),
                Some(Err(error)) => Err(error),
                _ => Err(mixed_up()),
            }
        })
    }
}

impl Drop for SimConnection {
    fn drop(&mut self) {
        self.sim.0.lock().close(self.id);
    }
}
