//! The number of an app's connections over all nodes: with a quota, each new one is asked for;
//! otherwise this node's number is reported when it has changed.

use std::collections::HashMap;
use std::sync::Arc;

use fanfare_engine::{App, ConnectionPermit};
use fanfare_protocol::AppId;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::backend::{Change, Reply};
use crate::queue::Queue;

/// Queries and reports of connections.
#[derive(Debug, Default)]
pub(crate) struct Admissions(Arc<Mutex<HashMap<AppId, Known>>>);

/// This node's connections of one app, as other nodes know them.
#[derive(Debug, Default)]
struct Known {
    /// The number after all that was sent, without connections whose query is not answered.
    count: usize,
    /// Queries without an answer. Meanwhile no number is reported, because it would not include
    /// connections that are admitted by them.
    asked: usize,
}

impl Admissions {
    /// Queues the query whether an app may have one more connection, together with the change on
    /// this node since the last report. `answered` gets the permit, or `None`.
    pub(crate) fn ask(
        &self,
        queue: &Queue,
        app: &Arc<App>,
        max: usize,
        answered: oneshot::Sender<Option<ConnectionPermit>>,
    ) {
        let asking = Asking::begin(app, &self.0);
        let (known, asked) = (Arc::clone(&self.0), Arc::clone(app));
        queue.enqueue_at_send(app, move || {
            let mut known = known.lock();
            let known = known.entry(asked.id().clone()).or_default();
            let count = asked.connection_count();
            // Computed when the report is sent, under the lock, so that each change is reported once.
            let change = difference(count, known.count);
            known.count = count;
            let reply = Reply::new(move |admitted| {
                // The client may have gone; its permit is dropped then.
                let _ = answered.send(asking.end(admitted));
            });
            Change::Admit { change, max, reply }
        });
    }

    /// Queues the numbers that have changed.
    pub(crate) fn announce(&self, queue: &Queue, apps: Vec<Arc<App>>) {
        for app in apps {
            let mut all = self.0.lock();
            let count = app.connection_count();
            if !all.contains_key(app.id()) && count == 0 {
                continue;
            }
            let known = all.entry(app.id().clone()).or_default();
            if known.count == count || known.asked > 0 {
                continue;
            }
            known.count = count;
            // Queued under the lock, so that a query that is queued now comes after it.
            queue.enqueue(&app, Change::Connections { count });
        }
    }

    /// Notes that other nodes know nothing yet, at the start of a connection.
    pub(crate) fn start(&self) {
        for known in self.0.lock().values_mut() {
            known.count = 0;
        }
    }
}

/// A query, until it is answered or dropped.
struct Asking {
    app: Arc<App>,
    known: Arc<Mutex<HashMap<AppId, Known>>>,
}

impl Asking {
    fn begin(app: &Arc<App>, known: &Arc<Mutex<HashMap<AppId, Known>>>) -> Self {
        known.lock().entry(app.id().clone()).or_default().asked += 1;
        Self {
            app: Arc::clone(app),
            known: Arc::clone(known),
        }
    }

    /// Returns the permit of an admitted connection. It counts here from the same moment as in what
    /// other nodes know, under one lock. The lock is released before `self` is dropped, which takes
    /// it again.
    fn end(self, admitted: bool) -> Option<ConnectionPermit> {
        let mut known = self.known.lock();
        if !admitted {
            return None;
        }
        if let Some(known) = known.get_mut(self.app.id()) {
            known.count += 1;
        }
        Some(self.app.count_connection())
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        if let Some(known) = self.known.lock().get_mut(self.app.id()) {
            known.asked -= 1;
        }
    }
}

fn difference(now: usize, before: usize) -> i64 {
    let number = |count| i64::try_from(count).unwrap_or(i64::MAX);
    number(now) - number(before)
}
