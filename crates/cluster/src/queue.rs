//! Reports of this node, in order: they wait here until they are sent, many at once.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use fanfare_engine::App;
use fanfare_protocol::AppId;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::backend::{BackendError, Change, Report};
use crate::link::Link;

/// Most reports that are sent at once.
const BATCH: usize = 256;

/// Creates a change when it is sent.
type Make = Box<dyn FnOnce() -> Change + Send>;

/// Reports that wait. While there is no connection, reports are dropped, because everything is
/// announced over the next one.
#[derive(Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    open: bool,
    /// Number of reports that were queued since the queue was opened.
    queued: u64,
    waiting: VecDeque<Queued>,
}

struct Queued {
    app: AppId,
    change: QueuedChange,
}

enum QueuedChange {
    Ready(Change),
    /// Depends on what was sent before.
    AtSend(Make),
}

impl Queue {
    /// Queues a change in an app. Its reply is dropped if there will be no answer.
    pub(crate) fn enqueue(&self, app: &Arc<App>, change: Change) {
        self.push(app, QueuedChange::Ready(change));
    }

    /// Queues a change that `make` creates when it is sent.
    pub(crate) fn enqueue_at_send(
        &self,
        app: &Arc<App>,
        make: impl FnOnce() -> Change + Send + 'static,
    ) {
        self.push(app, QueuedChange::AtSend(Box::new(make)));
    }

    fn push(&self, app: &Arc<App>, change: QueuedChange) {
        let mut state = self.state.lock();
        if !state.open {
            // Outside the lock: dropping a reply wakes tasks that may queue again.
            drop(state);
            return drop(change);
        }
        state.queued += 1;
        let app = app.id().clone();
        state.waiting.push_back(Queued { app, change });
        drop(state);
        // After the lock is released, so that the sender doesn't wake into it.
        self.changed.notify_one();
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
            std::mem::take(&mut state.waiting)
        };
        // Outside the lock: dropping a reply wakes tasks that may queue again.
        drop(dropped);
    }

    /// Returns how many reports were queued since the queue was opened.
    pub(crate) fn queued_reports(&self) -> u64 {
        self.state.lock().queued
    }

    /// Sends the reports that wait, forever; returns why that ended. A report that was not taken
    /// makes what other nodes know of this one wrong, so it ends the connection.
    pub(crate) async fn send(&self, link: &Arc<Link>) -> String {
        let mut enlisted = HashSet::new();
        loop {
            self.changed.notified().await;
            if let Err(error) = self.send_batch(link, &mut enlisted).await {
                return error.to_string();
            }
        }
    }

    /// Sends one batch, and waits for its answers: a report whose script is missing is sent again,
    /// and no later report of this node may be taken before it.
    async fn send_batch(
        &self,
        link: &Arc<Link>,
        enlisted: &mut HashSet<AppId>,
    ) -> Result<(), BackendError> {
        let batch = self.take();
        // There may be more, and their notification has been used up.
        if batch.len() == BATCH {
            self.changed.notify_one();
        }
        let apps: HashSet<_> = batch.iter().map(|queued| queued.app.clone()).collect();
        for app in apps {
            if !enlisted.contains(&app) {
                enlist(link, &app).await?;
                enlisted.insert(app);
            }
        }
        if batch.is_empty() {
            return Ok(());
        }
        let count = batch.len();
        link.report(batch.into_iter().map(Queued::into_report).collect())
            .await?;
        link.note_answered(count);
        Ok(())
    }

    /// Takes the next batch.
    fn take(&self) -> Vec<Queued> {
        let mut state = self.state.lock();
        let count = state.waiting.len().min(BATCH);
        state.waiting.drain(..count).collect()
    }
}

impl Queued {
    fn into_report(self) -> Report {
        let change = match self.change {
            QueuedChange::Ready(change) => change,
            QueuedChange::AtSend(make) => make(),
        };
        Report {
            app: self.app,
            change,
        }
    }
}

/// Notes in two lists where to look for what this node may leave behind, before it has entries in
/// an app: in the node's list of apps, and in the app's list of nodes. A Redis Cluster may lose one
/// of them and keep the other.
async fn enlist(link: &Arc<Link>, app: &AppId) -> Result<(), BackendError> {
    let (node, deadline) = (link.name(), link.lease_until());
    // Before the first await: if the connection breaks, the next one must clean up in this app.
    link.touch(app.clone());
    let register = link.membership.register(app, node, deadline);
    link.in_time(register).await?;
    let enlist = link.membership.enlist(app, node, deadline);
    link.in_time(enlist).await?;
    link.set_enlisted(app.clone());
    Ok(())
}
