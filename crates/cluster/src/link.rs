//! One connection to what nodes share, from its first beat until it is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use fanfare_engine::{BoxFuture, Generation};
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
    /// Steps that were taken out of the queue and are not answered.
    unanswered: AtomicUsize,
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
            unanswered: AtomicUsize::new(0),
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

    pub(crate) fn take(
        &self,
        steps: Vec<Step>,
    ) -> BoxFuture<'static, Vec<Result<Answer, StepError>>> {
        self.connection.take(steps)
    }

    /// Takes one step, and waits for its answer in time.
    pub(crate) async fn take_one(&self, step: Step) -> Result<Answer, StepError> {
        let late = || StepError::Broken(format!("no answer within {ANSWER_WITHIN:?}"));
        let answers = timeout(ANSWER_WITHIN, self.connection.take(vec![step])).await;
        let mut answers = answers.map_err(|_| late())?;
        answers.pop().unwrap_or_else(|| Err(late()))
    }

    pub(crate) fn asked(&self, steps: usize) {
        self.unanswered.fetch_add(steps, Ordering::AcqRel);
    }

    pub(crate) fn answered(&self, steps: usize) {
        self.unanswered.fetch_sub(steps, Ordering::AcqRel);
    }

    /// Whether every step that was taken out of the queue is answered.
    pub(crate) fn is_answered(&self) -> bool {
        self.unanswered.load(Ordering::Acquire) == 0
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
