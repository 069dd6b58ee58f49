//! Connections of processes to the world, as the parts of a back end.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fanfare_engine::{BoxFuture, DueTransitions, Online, PresenceSnapshot, Present, Transition};
use fanfare_protocol::{AppId, UserId};
use futures_util::future::join_all;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Sim;
use super::trace::in_words;
use super::world::{ConnectionId, Replied, Turn};
use crate::backend::{
    Backend, BackendError, Broker, CachedMessage, Call, Census, ConnectError, Connected,
    HistoryPage, HistoryRequest, LeaseRenewal, LiveNodes, LogRules, Membership, Moment, NodeName,
    Presence, Publish, Published, Reaped, Report, Topic,
};

/// Processes connect at multiples of this, so that those that waited for a random time connect at
/// the same moment.
const TICK: Duration = Duration::from_millis(100);
/// The same after a failed attempt: longer than any such time.
const LONG_TICK: Duration = Duration::from_secs(1);
/// How long one attempt to connect lasts.
const TIMEOUT: Duration = Duration::from_secs(2);

/// A process as a user of the back end.
pub(super) struct Process {
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
    pub(super) fn new(sim: Sim, process: u64) -> Self {
        Self { sim, process }
    }

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
        let connection = SimConnection {
            sim: self.sim.clone(),
            id,
        };
        Some(Connected::new(connection, incoming))
    }
}

/// A request on its way to the world.
pub(super) struct Request {
    /// The request for the trace, empty without one.
    pub(super) words: String,
    /// Whether it is taken even if the world has no room.
    pub(super) needs_no_room: bool,
    answer: Box<RunRequest>,
}

/// Runs a request in its turn, or answers it with an error.
type RunRequest = dyn FnOnce(Result<&mut Turn<'_>, BackendError>) -> RequestAnswer + Send;

/// An answer on its way to the process.
pub(super) struct RequestAnswer {
    /// The answer for the trace, empty without one.
    pub(super) words: String,
    deliver: Box<dyn FnOnce() -> bool + Send>,
}

impl Request {
    /// Returns a request, and the receiver of its answer.
    fn new<T: Debug + Send + 'static>(
        words: &dyn Debug,
        run: impl FnOnce(&mut Turn<'_>) -> Result<T, BackendError> + Send + 'static,
    ) -> (Self, oneshot::Receiver<Result<T, BackendError>>) {
        let (sender, receiver) = oneshot::channel();
        let request = Self {
            words: in_words(words),
            needs_no_room: false,
            answer: Box::new(move |turn| {
                let answer = turn.and_then(run);
                RequestAnswer {
                    words: in_words(&answer),
                    deliver: Box::new(move || sender.send(answer).is_ok()),
                }
            }),
        };
        (request, receiver)
    }

    /// Runs the request in its turn, or answers it with an error.
    pub(super) fn answer(self, turn: Result<&mut Turn<'_>, BackendError>) -> RequestAnswer {
        (self.answer)(turn)
    }
}

impl RequestAnswer {
    /// Hands the answer to the caller, and returns whether it still waits.
    pub(super) fn deliver(self) -> bool {
        (self.deliver)()
    }
}

struct SimConnection {
    sim: Sim,
    id: ConnectionId,
}

impl SimConnection {
    /// Sends a request, and waits for its answer.
    fn call<T: Debug + Send + 'static>(
        &self,
        words: &dyn Debug,
        run: impl FnOnce(&mut Turn<'_>) -> Result<T, BackendError> + Send + 'static,
    ) -> Call<T> {
        let (request, answer) = Request::new(words, run);
        self.send(vec![request], answer)
    }

    fn send<T: Send + 'static>(
        &self,
        requests: Vec<Request>,
        answer: oneshot::Receiver<Result<T, BackendError>>,
    ) -> Call<T> {
        let (sim, id) = (self.sim.clone(), self.id);
        Box::pin(async move {
            sim.0.lock().send_up(id, requests);
            answer.await.unwrap_or_else(|_| Err(cut()))
        })
    }
}

/// The error of a request whose connection was cut before its answer came.
fn cut() -> BackendError {
    BackendError::Broken("the connection was cut".into())
}

impl Broker for SimConnection {
    fn publish(&self, publish: Publish) -> Call<Published> {
        self.call(&publish.clone(), move |turn| turn.publish(&publish))
    }

    fn broadcast(&self, message: Bytes, deadline: Moment) -> Call<()> {
        let words = ("broadcast", message.clone());
        self.call(&words, move |turn| turn.broadcast(&message, deadline))
    }

    fn send(&self, topic: Topic, message: Bytes) -> Call<()> {
        let words = ("send", topic.clone(), message.clone());
        self.call(&words, move |turn| {
            turn.send(topic, &message);
            Ok(())
        })
    }

    fn subscribe(&self, topics: Vec<Topic>) -> Call<()> {
        let words = ("subscribe", topics.clone());
        let (mut request, answer) = Request::new(&words, move |turn| {
            turn.subscribe(topics);
            Ok(())
        });
        request.needs_no_room = true;
        self.send(vec![request], answer)
    }

    fn unsubscribe(&self, topics: Vec<Topic>) -> Call<()> {
        let words = ("unsubscribe", topics.clone());
        self.call(&words, move |turn| {
            turn.unsubscribe(&topics);
            Ok(())
        })
    }

    fn cached(&self, app: &AppId, channel: &str) -> Call<Option<CachedMessage>> {
        let (app, channel) = (app.clone(), channel.to_owned());
        let words = ("cached", app.clone(), channel.clone());
        self.call(&words, move |turn| Ok(turn.cached(&app, &channel)))
    }

    fn history(&self, request: HistoryRequest) -> Call<HistoryPage> {
        self.call(&request.clone(), move |turn| Ok(turn.history(&request)))
    }
}

impl Presence for SimConnection {
    fn report(
        &self,
        node: &NodeName,
        deadline: Moment,
        reports: Vec<Report>,
    ) -> BoxFuture<'static, Vec<Result<(), BackendError>>> {
        let (mut requests, mut answers) = (Vec::new(), Vec::new());
        for report in reports {
            let node = node.clone();
            let words = in_words(&report);
            let (request, answer) =
                Request::new(&words, move |turn| turn.report(&node, deadline, report));
            requests.push(request);
            answers.push(answer);
        }
        let (sim, id) = (self.sim.clone(), self.id);
        Box::pin(async move {
            sim.0.lock().send_up(id, requests);
            let answers = join_all(answers).await;
            let replied = |replied: Replied| replied.reply();
            answers
                .into_iter()
                .map(|answer| answer.unwrap_or_else(|_| Err(cut())).map(replied))
                .collect()
        })
    }

    fn snapshot(&self, app: &AppId, channel: &str) -> Call<PresenceSnapshot> {
        let (app, channel) = (app.clone(), channel.to_owned());
        let words = ("snapshot", app.clone(), channel.clone());
        self.call(&words, move |turn| Ok(turn.snapshot(&app, &channel)))
    }

    fn user_counts(&self, app: &AppId, channels: Vec<String>) -> Call<Vec<usize>> {
        let app = app.clone();
        let words = ("user_counts", channels.clone());
        self.call(&words, move |turn| Ok(turn.user_counts(&app, &channels)))
    }

    fn remote_subscriptions(&self, app: &AppId, node: &NodeName, channel: &str) -> Call<usize> {
        let (app, node, channel) = (app.clone(), node.clone(), channel.to_owned());
        let words = ("remote_subscriptions", node.clone(), channel.clone());
        self.call(&words, move |turn| {
            Ok(turn.remote_subscriptions(&app, &node, &channel))
        })
    }

    fn all_remote_subscriptions(
        &self,
        app: &AppId,
        node: &NodeName,
        prefix: &str,
    ) -> Call<Vec<(String, usize)>> {
        let (app, node, prefix) = (app.clone(), node.clone(), prefix.to_owned());
        let words = ("all_remote_subscriptions", node.clone(), prefix.clone());
        self.call(&words, move |turn| {
            Ok(turn.all_remote_subscriptions(&app, &node, &prefix))
        })
    }

    fn online(&self, app: &AppId, users: Vec<UserId>) -> Call<Online> {
        let app = app.clone();
        let words = ("online", users.clone());
        self.call(&words, move |turn| Ok(turn.online(&app, &users)))
    }

    fn remote_connections(&self, app: &AppId, node: &NodeName) -> Call<usize> {
        let (app, node) = (app.clone(), node.clone());
        let words = ("remote_connections", app.clone(), node.clone());
        self.call(&words, move |turn| Ok(turn.remote_connections(&app, &node)))
    }

    fn connections_by_node(&self, app: &AppId) -> Call<Vec<(String, usize)>> {
        let app = app.clone();
        let words = ("connections_by_node", app.clone());
        self.call(&words, move |turn| Ok(turn.connections_by_node(&app)))
    }

    fn due_transitions(&self, app: &AppId, max: usize) -> Call<DueTransitions> {
        let app = app.clone();
        let words = ("due_transitions", app.clone());
        self.call(&words, move |turn| Ok(turn.due_transitions(&app, max)))
    }

    fn settle_transitions(&self, app: &AppId, handled: Vec<Transition>) -> Call<()> {
        let app = app.clone();
        let words = ("settle_transitions", app.clone(), handled.clone());
        self.call(&words, move |turn| {
            turn.settle_transitions(&app, &handled);
            Ok(())
        })
    }

    fn arm_transitions(
        &self,
        app: &AppId,
        present: Vec<Present>,
        newest_stamp: i64,
        rules: LogRules,
    ) -> Call<()> {
        let app = app.clone();
        let words = ("arm_transitions", app.clone(), present.clone());
        self.call(&words, move |turn| {
            turn.arm_transitions(&app, &present, newest_stamp, rules);
            Ok(())
        })
    }

    fn forget_transitions(&self, app: &AppId) -> Call<()> {
        let app = app.clone();
        let words = ("forget_transitions", app.clone());
        self.call(&words, move |turn| {
            turn.forget_transitions(&app);
            Ok(())
        })
    }
}

impl Membership for SimConnection {
    fn heartbeat(&self, renewal: LeaseRenewal) -> Call<Census> {
        self.call(&renewal.clone(), move |turn| turn.heartbeat(&renewal))
    }

    fn live_nodes(&self) -> Call<LiveNodes> {
        self.call(&"live_nodes", |turn| Ok(turn.live_nodes()))
    }

    fn register(&self, app: &AppId, node: &NodeName, deadline: Moment) -> Call<()> {
        let (app, node) = (app.clone(), node.clone());
        let words = ("register", app.clone(), node.clone());
        self.call(&words, move |turn| turn.register(&app, &node, deadline))
    }

    fn apps(&self, node: &NodeName) -> Call<Vec<String>> {
        let node = node.clone();
        self.call(&("apps", node.clone()), move |turn| Ok(turn.apps(&node)))
    }

    fn enlist(&self, app: &AppId, node: &NodeName, deadline: Moment) -> Call<()> {
        let (app, node) = (app.clone(), node.clone());
        let words = ("enlist", app.clone(), node.clone());
        self.call(&words, move |turn| turn.enlist(&app, &node, deadline))
    }

    fn enlisted(&self, app: &AppId) -> Call<Vec<String>> {
        let app = app.clone();
        let words = ("enlisted", app.clone());
        self.call(&words, move |turn| Ok(turn.enlisted(&app)))
    }

    fn claim(&self, node: &NodeName, lease: Duration) -> Call<bool> {
        let node = node.clone();
        let words = ("claim", node.clone());
        self.call(&words, move |turn| Ok(turn.claim(&node, lease)))
    }

    fn reap(&self, app: &AppId, node: &NodeName, log: LogRules) -> Call<Reaped> {
        let (app, node) = (app.clone(), node.clone());
        let words = ("reap", app.clone(), node.clone());
        self.call(&words, move |turn| Ok(turn.reap(&app, &node, log)))
    }

    fn forget(&self, node: &NodeName) -> Call<bool> {
        let node = node.clone();
        let words = ("forget", node.clone());
        self.call(&words, move |turn| Ok(turn.forget(&node)))
    }
}

impl Drop for SimConnection {
    fn drop(&mut self) {
        self.sim.0.lock().close(self.id);
    }
}
