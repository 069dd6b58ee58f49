//! How many connections an app has over all nodes: those that come are asked for one by one where there is a quota, and the
//! number on this node is told where it has changed.

use std::collections::HashMap;
use std::sync::Arc;

use fanfare_engine::{App, ConnectionPlace};
use fanfare_protocol::AppId;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::backend::{Answer, Moment, NodeName, Step};
use crate::queue::Queue;

/// What is asked and told of connections. The lock is held while something is said, so that a number is never told in the
/// middle of a question: it would say nothing of who is let in.
#[derive(Debug, Default)]
pub(crate) struct Admissions(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// Questions without an answer.
    asked: HashMap<AppId, usize>,
    told: HashMap<AppId, usize>,
}

impl Admissions {
    /// Asks whether an app may have one more connection.
    pub(crate) fn ask(
        &self,
        queue: &Queue,
        app: &Arc<App>,
        max: usize,
        answered: oneshot::Sender<Option<ConnectionPlace>>,
    ) {
        let mut state = self.0.lock();
        *state.asked.entry(app.id().clone()).or_default() += 1;
        let asking = Asking {
            app: Arc::clone(app),
            state: Arc::clone(&self.0),
        };
        let id = app.id().clone();
        let step = move |node: &NodeName, deadline: Moment| Step::Admit {
            app: id,
            node: node.clone(),
            max,
            deadline,
        };
        // A question that is dropped at once takes the lock.
        drop(state);
        queue.say(app, step, move |answer| {
            let admitted = (answer == Answer::Edge(true)).then(|| asking.app.count_connection());
            drop(asking);
            // Whoever asked may have left, and gives the place back.
            let _ = answered.send(admitted);
        });
    }

    /// Tells the numbers that have changed.
    pub(crate) fn tell(&self, queue: &Queue, apps: Vec<Arc<App>>) {
        for app in apps {
            let mut state = self.0.lock();
            let told = state.told.get(app.id()).copied().unwrap_or(0);
            let count = app.connection_count();
            if told == count || state.asked.contains_key(app.id()) {
                continue;
            }
            state.told.insert(app.id().clone(), count);
            let id = app.id().clone();
            let step = move |node: &NodeName, deadline: Moment| Step::Connections {
                app: id,
                node: node.clone(),
                count,
                deadline,
            };
            queue.say(&app, step, |_| {});
        }
    }

    /// Nobody was told anything.
    pub(crate) fn start(&self) {
        self.0.lock().told.clear();
    }
}

/// A question, until it is answered or dropped.
struct Asking {
    app: Arc<App>,
    state: Arc<Mutex<State>>,
}

impl Drop for Asking {
    fn drop(&mut self) {
        let mut state = self.state.lock();
        if let Some(asked) = state.asked.get_mut(self.app.id()) {
            *asked -= 1;
            if *asked == 0 {
                state.asked.remove(self.app.id());
            }
        }
        // Whoever was let in may have left by now, so that the number here says nothing of the one that is known.
        state.told.insert(self.app.id().clone(), usize::MAX);
    }
}
