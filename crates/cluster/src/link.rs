//! One connection to what nodes share, from its first beat until it is lost.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use fanfare_engine::{BoxFuture, Generation};
use fanfare_protocol::AppId;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};

use crate::backend::{Answer, Connection, Moment, NodeName, Step, StepError};
use crate::peers::Peers;

/// How long an event may take to be taken; after that it is not.
const PUBLISH_WITHIN: Duration = Duration::from_secs(2);
/// How long an answer is waited for: longer than a step may take.
const ANSWER_WITHIN: Duration = Duration::from_millis(3500);

/// A connection, and what this node is called over it.
pub(crate) struct Link {
    connection: Arc<dyn Connection>,
    name: NodeName,
    pub(crate) generation: Generation,
    pub(crate) peers: Peers,
    /// Says that this node is to beat at once.
    pub(crate) beat: Notify,
    /// A moment on the shared clock, and when that was here.
    clock: Mutex<(Moment, Instant)>,
    lease_until: AtomicU64,
    ready: AtomicBool,
    /// Steps of the queue that are answered.
    answered: AtomicU64,
    /// Apps of which something may have been said over it, and whether this node is known to be in their lists.
    apps: Mutex<HashMap<AppId, bool>>,
    began: Instant,
    /// Whether the others knew this node and it listened.
    joined: AtomicBool,
    /// Whether what this process had said over earlier connections is cleared away.
    cleared: AtomicBool,
    lost: watch::Sender<Option<String>>,
}

impl Link {
    pub(crate) fn new(
        connection: Arc<dyn Connection>,
        name: NodeName,
        generation: Generation,
        peers: Peers,
    ) -> Arc<Self> {
        Arc::new(Self {
            connection,
            name,
            generation,
            peers,
            beat: Notify::new(),
            clock: Mutex::new((0, Instant::now())),
            lease_until: AtomicU64::new(0),
            ready: AtomicBool::new(false),
            answered: AtomicU64::new(0),
            apps: Mutex::default(),
            began: Instant::now(),
            joined: AtomicBool::new(false),
            cleared: AtomicBool::new(false),
            lost: watch::channel(None).0,
        })
    }

    pub(crate) fn name(&self) -> &NodeName {
        &self.name
    }

    /// It is of no use any more.
    pub(crate) fn lose(&self, reason: String) {
        self.ready.store(false, Ordering::Release);
        self.lost.send_if_modified(|lost| {
            let first = lost.is_none();
            if first {
                *lost = Some(reason);
            }
            first
        });
    }

    /// Waits until it is of no use any more, and says why.
    pub(crate) async fn lost(&self) -> String {
        let mut lost = self.lost.subscribe();
        let reason = lost.wait_for(Option::is_some).await;
        reason
            .ok()
            .and_then(|reason| reason.clone())
            .unwrap_or_default()
    }

    /// Whether this node and all others hear each other.
    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// Once it is, it stays so while the connection lasts: another node that falls silent is told by its own connection.
    pub(crate) fn set_ready(&self) -> bool {
        let lost = self.lost.borrow().is_some();
        self.ready.store(!lost, Ordering::Release);
        !lost
    }

    /// Knows what time it is there. The answer has taken a while, so it is later than that by now; what is too late a little
    /// early is only refused.
    pub(crate) fn set_clock(&self, now: Moment, lease: Duration) {
        *self.clock.lock() = (now, Instant::now());
        // Leases are counted in milliseconds.
        let until = now - now % 1000 + micros(lease) - 1;
        self.lease_until.store(until, Ordering::Release);
    }

    /// Whether nobody has heard of this node yet.
    pub(crate) fn is_unknown(&self) -> bool {
        self.lease_until() == 0
    }

    /// Until when others do not take this node for dead.
    pub(crate) fn lease_until(&self) -> Moment {
        self.lease_until.load(Ordering::Acquire)
    }

    /// Until when an event that is published now must be taken.
    pub(crate) fn publish_until(&self) -> Moment {
        let (then, at) = *self.clock.lock();
        then + micros(at.elapsed() + PUBLISH_WITHIN)
    }

    /// Takes steps, and waits for their answers in time. Without an answer nobody knows what is true, so the connection is of
    /// no use any more; it begins when this is called.
    pub(crate) fn take_in_time(
        self: &Arc<Self>,
        steps: Vec<Step>,
    ) -> BoxFuture<'static, Vec<Result<Answer, StepError>>> {
        let link = Arc::clone(self);
        let count = steps.len();
        let answers = self.connection.take(steps);
        Box::pin(async move {
            let answers = timeout(ANSWER_WITHIN, answers).await;
            let late = StepError::Broken(format!("no answer within {ANSWER_WITHIN:?}"));
            let answers = answers.unwrap_or_else(|_| vec![Err(late); count]);
            let broken = |answer: &Result<Answer, StepError>| match answer {
                Err(
                    error @ (StepError::Broken(_) | StepError::Unserved(_) | StepError::Forgotten),
                ) => Some(error.to_string()),
                _ => None,
            };
            if let Some(reason) = answers.iter().find_map(broken) {
                link.lose(reason);
            }
            answers
        })
    }

    /// Takes one step.
    pub(crate) async fn take_one(self: &Arc<Self>, step: Step) -> Result<Answer, StepError> {
        let none = || Err(StepError::Broken("there is no answer".into()));
        self.take_in_time(vec![step])
            .await
            .pop()
            .unwrap_or_else(none)
    }

    /// How long ago it was made.
    pub(crate) fn age(&self) -> Duration {
        self.began.elapsed()
    }

    pub(crate) fn set_joined(&self) {
        self.joined.store(true, Ordering::Release);
    }

    /// Whether the others knew this node and it listened.
    pub(crate) fn has_joined(&self) -> bool {
        self.joined.load(Ordering::Acquire)
    }

    pub(crate) fn set_cleared(&self) {
        self.cleared.store(true, Ordering::Release);
    }

    /// Whether what this process had said over earlier connections is cleared away.
    pub(crate) fn has_cleared(&self) -> bool {
        self.cleared.load(Ordering::Acquire)
    }

    /// Something may be said of an app from now on.
    pub(crate) fn touch(&self, app: AppId) {
        self.apps.lock().entry(app).or_default();
    }

    /// This node is in the list of an app.
    pub(crate) fn set_enlisted(&self, app: AppId) {
        self.apps.lock().insert(app, true);
    }

    /// Apps of which something may have been said.
    pub(crate) fn touched(&self) -> HashSet<AppId> {
        self.apps.lock().keys().cloned().collect()
    }

    /// Apps in whose lists this node must be.
    pub(crate) fn enlisted(&self) -> HashSet<AppId> {
        let apps = self.apps.lock();
        let enlisted = apps.iter().filter(|(_, enlisted)| **enlisted);
        enlisted.map(|(app, _)| app.clone()).collect()
    }

    /// So many steps of the queue are answered.
    pub(crate) fn answered(&self, steps: usize) {
        self.answered.fetch_add(steps as u64, Ordering::AcqRel);
    }

    /// How many steps of the queue are answered.
    pub(crate) fn answered_steps(&self) -> u64 {
        self.answered.load(Ordering::Acquire)
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
