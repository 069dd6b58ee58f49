//! What this node listens to, and who waits for that.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

use fanfare_engine::{Generation, Topic};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

/// How long a topic is listened to after nobody wants it any more: whoever reloads a page is back by then.
const LINGER: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(crate) struct Topics {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    by_name: HashMap<String, Listened>,
    /// Topics to ask for, by name.
    pending: Vec<String>,
    /// Topics that nobody wanted at this time, oldest first; somebody may want them again by now.
    idle: Vec<(Instant, String)>,
}

#[derive(Debug)]
struct Listened {
    topic: Topic,
    /// Whether it was asked for over this connection.
    asked: bool,
    /// Since when it is listened to, if it is.
    since: Option<Generation>,
    waiting: Vec<oneshot::Sender<Generation>>,
}

impl Topics {
    /// Since when a topic is listened to, now or as soon as it is.
    pub(crate) fn listen(&self, name: String, topic: &Topic) -> Result<Generation, Waiting> {
        let mut state = self.state.lock();
        let State {
            by_name, pending, ..
        } = &mut *state;
        let listened = match by_name.entry(name) {
            Entry::Occupied(known) => {
                let known = known.into_mut();
                // An app that was deleted and made anew is another one, of the same name.
                known.topic = topic.clone();
                known
            }
            Entry::Vacant(new) => {
                pending.push(new.key().clone());
                self.changed.notify_one();
                new.insert(Listened {
                    topic: topic.clone(),
                    asked: false,
                    since: None,
                    waiting: Vec::new(),
                })
            }
        };
        if let Some(since) = listened.since {
            return Ok(since);
        }
        let (listening, heard) = oneshot::channel();
        listened.waiting.retain(|other| !other.is_closed());
        listened.waiting.push(listening);
        Err(Waiting(heard))
    }

    /// Nobody wants it at this moment.
    pub(crate) fn unlisten(&self, name: String) {
        let mut state = self.state.lock();
        if let Entry::Occupied(mut known) = state.by_name.entry(name.clone()) {
            let listened = known.get_mut();
            listened.waiting.retain(|waiting| !waiting.is_closed());
            if !listened.asked && listened.waiting.is_empty() {
                // While there is no connection, nothing is left of those who give up.
                known.remove();
                return;
            }
        }
        state.idle.push((Instant::now(), name));
    }

    /// The topic of a name that is listened to.
    pub(crate) fn find(&self, name: &str) -> Option<Topic> {
        let state = self.state.lock();
        state
            .by_name
            .get(name)
            .map(|listened| listened.topic.clone())
    }

    /// Waits until there is something to ask for, at most a moment.
    pub(crate) async fn changed(&self, at_most: Duration) {
        let _ = tokio::time::timeout(at_most, self.changed.notified()).await;
    }

    /// What is to be asked for now.
    pub(crate) fn take_pending(&self) -> Vec<(String, Topic)> {
        let mut state = self.state.lock();
        let names = std::mem::take(&mut state.pending);
        let mut asked = HashSet::new();
        let topic = |name: String| {
            let listened = state.by_name.get_mut(&name)?;
            listened.asked = true;
            // One that was given up and wanted again is here twice.
            let first = asked.insert(name.clone());
            first.then(|| (name, listened.topic.clone()))
        };
        names.into_iter().filter_map(topic).collect()
    }

    /// They are listened to from now on.
    pub(crate) fn listening(&self, names: &[String], since: Generation) {
        let mut state = self.state.lock();
        for name in names {
            if let Some(listened) = state.by_name.get_mut(name) {
                listened.since = Some(since);
                for waiting in listened.waiting.drain(..) {
                    // Whoever waited may have left.
                    let _ = waiting.send(since);
                }
            }
        }
    }

    /// Takes out what nobody has wanted for a while; `wanted` looks whether somebody does by now.
    pub(crate) fn take_idle(&self, wanted: impl Fn(&Topic) -> bool) -> Vec<(String, Topic)> {
        let mut state = self.state.lock();
        let state = &mut *state;
        let before = Instant::now() - LINGER;
        let old = state.idle.partition_point(|(since, _)| *since <= before);
        let (mut taken, mut later) = (Vec::new(), Vec::new());
        for (_, name) in state.idle.drain(..old) {
            let Entry::Occupied(entry) = state.by_name.entry(name) else {
                continue;
            };
            let listened = entry.get();
            if wanted(&listened.topic) {
                continue;
            }
            if listened.since.is_some() {
                let (name, listened) = entry.remove_entry();
                taken.push((name, listened.topic));
            } else {
                // It is asked for at this moment, though nobody waits for it any more.
                later.push((Instant::now(), entry.key().clone()));
            }
        }
        state.idle.extend(later);
        taken
    }

    /// Nothing is listened to any more. What somebody waits for is asked for again with the next connection.
    pub(crate) fn lose(&self) {
        let mut state = self.state.lock();
        let State {
            by_name,
            pending,
            idle,
        } = &mut *state;
        idle.clear();
        by_name.retain(|_, listened| {
            listened.waiting.retain(|waiting| !waiting.is_closed());
            !listened.waiting.is_empty()
        });
        for listened in by_name.values_mut() {
            (listened.asked, listened.since) = (false, None);
        }
        *pending = by_name.keys().cloned().collect();
        self.changed.notify_one();
    }
}

/// Somebody who waits until a topic is listened to.
#[derive(Debug)]
pub(crate) struct Waiting(oneshot::Receiver<Generation>);

impl Waiting {
    /// Nothing, if it must be asked for anew.
    pub(crate) async fn heard(self) -> Option<Generation> {
        self.0.await.ok()
    }
}
