//! Steps by which this node reports on itself, in order: they wait here until they are sent, many
//! at once.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use fanfare_engine::App;
use fanfare_protocol::AppId;
use futures_util::stream::{FuturesUnordered, StreamExt};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::backend::{Answer, Moment, NodeName, Step, StepError};
use crate::link::Link;

/// Most steps that are sent at once.
const BATCH: usize = 256;
/// Most batches that wait for their answers: one, because a step whose script is missing is sent
/// again, and no later step of this node may be taken before it.
const BATCHES: usize = 1;

/// Creates a step when it is sent, from the node's name and the deadline.
pub(crate) type Make = Box<dyn FnOnce(&NodeName, Moment) -> Step + Send>;
/// Receives the answer.
pub(crate) type Then = Box<dyn FnOnce(Answer) + Send>;

/// Steps that wait. While there is no connection, steps are dropped, because everything is
/// announced over the next one.
#[derive(Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    open: bool,
    /// Steps that were queued since the queue was opened.
    queued: u64,
    steps: VecDeque<Queued>,
}

struct Queued {
    app: AppId,
    make: Make,
    then: Then,
}

impl Queue {
    /// Queues a step in an app. `then` is dropped if there will be no answer.
    pub(crate) fn enqueue(
        &self,
        app: &Arc<App>,
        make: impl FnOnce(&NodeName, Moment) -> Step + Send + 'static,
        then: impl FnOnce(Answer) + Send + 'static,
    ) {
        let mut state = self.state.lock();
        if state.open {
            state.queued += 1;
            state.steps.push_back(Queued {
                app: app.id().clone(),
                make: Box::new(make),
                then: Box::new(then),
            });
            drop(state);
            // After the lock is released, so that the sender doesn't wake into it.
            self.changed.notify_one();
        }
    }

    /// Opens the queue at the start of a connection.
    pub(crate) fn open(&self) {
        let mut state = self.state.lock();
        (state.open, state.queued) = (true, 0);
    }

    /// Closes the queue, and drops what waits in it.
    pub(crate) fn close(&self) {
        let dropped = {
            let mut state = self.state.lock();
            state.open = false;
            std::mem::take(&mut state.steps)
        };
        // Outside the lock: dropping a step's `then` wakes tasks that may queue again.
        drop(dropped);
    }

    /// Returns how many steps were queued since the queue was opened.
    pub(crate) fn queued_steps(&self) -> u64 {
        self.state.lock().queued
    }

    /// Sends the steps that wait, forever; returns why that ended. A step that was not taken makes
    /// the other nodes' view of this one wrong, so it ends the connection.
    pub(crate) async fn send(&self, link: &Arc<Link>) -> String {
        let mut enlisted = HashSet::new();
        let mut sent = FuturesUnordered::new();
        loop {
            tokio::select! {
                biased;
                // A batch is polled, and so sent, before the next one is created.
                Some(answered) = sent.next() => {
                    let (thens, answers): (Vec<Then>, Vec<Result<Answer, StepError>>) = answered;
                    link.answered(thens.len());
                    for (then, answer) in thens.into_iter().zip(answers) {
                        match answer {
                            Ok(answer) => then(answer),
                            Err(error) => return error.to_string(),
                        }
                    }
                }
                () = self.changed.notified(), if sent.len() < BATCHES => {
                    let batch = self.take();
                    // There may be more, and their notification has been used up.
                    if batch.len() == BATCH {
                        self.changed.notify_one();
                    }
                    let apps: HashSet<_> = batch.iter().map(|queued| queued.app.clone()).collect();
                    for app in apps {
                        if enlisted.contains(&app) {
                            continue;
                        }
                        if let Err(error) = enlist(link, app.clone()).await {
                            return error.to_string();
                        }
                        enlisted.insert(app);
                    }
                    let deadline = link.lease_until();
                    let (steps, thens): (Vec<_>, Vec<_>) = batch
                        .into_iter()
                        .map(|queued| ((queued.make)(link.name(), deadline), queued.then))
                        .unzip();
                    if !steps.is_empty() {
                        let answers = link.take_in_time(steps);
                        sent.push(async move { (thens, answers.await) });
                    }
                }
            }
        }
    }

    /// Takes the next batch.
    fn take(&self) -> Vec<Queued> {
        let mut state = self.state.lock();
        let count = state.steps.len().min(BATCH);
        state.steps.drain(..count).collect()
    }
}

/// Notes in two lists where to look for what this node may leave behind, before it has entries in
/// an app: in the node's list of apps, and in the app's list of nodes. A Redis Cluster may lose one
/// of them and keep the other.
async fn enlist(link: &Arc<Link>, app: AppId) -> Result<(), StepError> {
    let (node, deadline) = (link.name().clone(), link.lease_until());
    // Before the first await: if the connection breaks, the next one must clean up in this app.
    link.touch(app.clone());
    let register = Step::Register {
        app: app.clone(),
        node: node.clone(),
        deadline,
    };
    link.take_one(register).await?;
    let enlist = Step::Enlist {
        app: app.clone(),
        node,
        deadline,
    };
    link.take_one(enlist).await?;
    link.set_enlisted(app);
    Ok(())
}
