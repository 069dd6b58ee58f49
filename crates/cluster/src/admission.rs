//! How many connections an app has over all nodes: those that come are asked for one by one where there is a quota, and the
//! number on this node is told where it has changed.

use std::collections::HashMap;
use std::sync::Arc;

use fanfare_engine::{App, ConnectionPermit};
use fanfare_protocol::AppId;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::backend::{Answer, Moment, NodeName, Step};
use crate::queue::Queue;

/// What is asked and told of connections.
#[derive(Debug, Default)]
pub(crate) struct Admissions(Arc<Mutex<HashMap<AppId, Known>>>);

/// What the others know of this node's connections of one app.
#[derive(Debug, Default)]
struct Known {
    /// How many it has, after all that was said; those that are asked for and were not answered are not among them.
    count: usize,
    /// Questions without an answer. Meanwhile no number is told: it would say nothing of who is let in.
    asked: usize,
}

impl Admissions {
    /// Asks whether an app may have one more connection. What has changed on this node goes with the question.
    pub(crate) fn ask(
        &self,
        queue: &Queue,
        app: &Arc<App>,
        max: usize,
        answered: oneshot::Sender<Option<ConnectionPermit>>,
    ) {
        let asking = Asking::begin(app, &self.0);
        let (id, asked) = (app.id().clone(), Arc::clone(app));
        let known = Arc::clone(&self.0);
        let step = move |node: &NodeName, deadline: Moment| {
            let mut known = known.lock();
            let known = known.entry(id.clone()).or_default();
            let count = asked.connection_count();
            let change = difference(count, known.count);
            known.count = count;
            Step::Admit {
                app: id,
                node: node.clone(),
                change,
                max,
                deadline,
            }
        };
        queue.enqueue(app, step, move |answer| {
            let channel_ref = asking.end(answer == Answer::Changed(true));
            // Whoever asked may have left, and gives the place back.
            let _ = answered.send(channel_ref);
        });
    }

    /// Tells the numbers that have changed.
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
            let id = app.id().clone();
            let step = move |node: &NodeName, deadline: Moment| Step::Connections {
                app: id,
                node: node.clone(),
                count,
                deadline,
            };
            // Under the lock: a question that is asked now comes after it.
            queue.enqueue(&app, step, |_| {});
        }
    }

    /// Nobody knows anything.
    pub(crate) fn start(&self) {
        for known in self.0.lock().values_mut() {
            known.count = 0;
        }
    }
}

/// A question, until it is answered or dropped.
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

    /// The place, if there is one: it counts here from the moment on at which it is known to count there.
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
