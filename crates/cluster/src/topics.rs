//! The topics that this node receives, and the subscribes that wait for them.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use fanfare_engine::{Generation, Topic};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::backend;

/// How long a topic is received after its last subscriber has gone: a client that reloads a page is
/// back by then.
const LINGER: Duration = Duration::from_secs(5);

/// Most topics that are subscribed to, or unsubscribed from, at once. Publishes go over the same
/// connection, and wait while Redis takes these. A connection subscribes to one channel after the
/// other, so those that wait take turns.
const MOST_AT_ONCE: usize = 256;

#[derive(Debug, Default)]
pub(crate) struct Topics {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    by_name: HashMap<backend::Topic, TopicState>,
    /// Topics to subscribe to.
    pending: VecDeque<backend::Topic>,
    /// Topics that had no subscriber at this time, oldest first; they may have one again.
    idle: VecDeque<(Instant, backend::Topic)>,
}

#[derive(Debug)]
struct TopicState {
    topic: Topic,
    /// Whether its subscription was sent over this connection.
    asked: bool,
    /// Generation since which it is received, if it is.
    since: Option<Generation>,
    waiting: Vec<oneshot::Sender<Generation>>,
}

impl Topics {
    /// Returns the generation since which a topic is received, or a [`Waiting`] for it.
    pub(crate) fn subscribe(
        &self,
        name: backend::Topic,
        topic: &Topic,
    ) -> Result<Generation, Waiting> {
        let mut state = self.state.lock();
        let State {
            by_name, pending, ..
        } = &mut *state;
        let known = match by_name.entry(name) {
            Entry::Occupied(entry) => {
                let known = entry.into_mut();
                // An app that was deleted and created again is another app with the same name.
                known.topic = topic.clone();
                known
            }
            Entry::Vacant(entry) => {
                pending.push_back(entry.key().clone());
                self.changed.notify_one();
                entry.insert(TopicState {
                    topic: topic.clone(),
                    asked: false,
                    since: None,
                    waiting: Vec::new(),
                })
            }
        };
        if let Some(since) = known.since {
            return Ok(since);
        }
        let (received, since) = oneshot::channel();
        // Clients that gave up are removed here, so that the list doesn't grow.
        known.waiting.retain(|other| !other.is_closed());
        known.waiting.push(received);
        Err(Waiting(since))
    }

    /// Notes that a topic has no subscriber at this moment.
    pub(crate) fn unsubscribe(&self, name: backend::Topic) {
        let mut state = self.state.lock();
        if let Entry::Occupied(mut entry) = state.by_name.entry(name.clone()) {
            let known = entry.get_mut();
            known.waiting.retain(|waiting| !waiting.is_closed());
            if !known.asked && known.waiting.is_empty() {
                // While there is no connection, subscribes that give up leave nothing behind.
                entry.remove();
                return;
            }
        }
        state.idle.push_back((Instant::now(), name));
    }

    /// Returns the topic of this name, if it is known.
    pub(crate) fn find(&self, name: &backend::Topic) -> Option<Topic> {
        let state = self.state.lock();
        state.by_name.get(name).map(|known| known.topic.clone())
    }

    /// Waits until there may be a topic to subscribe to, at most for `at_most`.
    pub(crate) async fn changed(&self, at_most: Duration) {
        let _ = tokio::time::timeout(at_most, self.changed.notified()).await;
    }

    /// Takes the topics to subscribe to, those first that have waited longest; there may be more.
    pub(crate) fn take_pending(&self) -> Vec<(backend::Topic, Topic)> {
        let mut state = self.state.lock();
        let State {
            by_name, pending, ..
        } = &mut *state;
        let mut taken = Vec::new();
        while taken.len() < MOST_AT_ONCE
            && let Some(name) = pending.pop_front()
        {
            // A topic that was given up and wanted again is in the list twice.
            if let Some(known) = by_name.get_mut(&name)
                && !std::mem::replace(&mut known.asked, true)
            {
                taken.push((name, known.topic.clone()));
            }
        }
        taken
    }

    /// Notes that topics are received since a generation, and wakes the subscribes that wait for
    /// them.
    pub(crate) fn finish_subscribe(&self, names: &[backend::Topic], since: Generation) {
        let mut state = self.state.lock();
        for name in names {
            if let Some(known) = state.by_name.get_mut(name) {
                known.since = Some(since);
                for waiting in known.waiting.drain(..) {
                    // The client may have gone.
                    let _ = waiting.send(since);
                }
            }
        }
    }

    /// Takes topics that have had no subscriber for a while; `wanted` tells whether one has come
    /// since. There may be more.
    pub(crate) fn take_idle(
        &self,
        wanted: impl Fn(&Topic) -> bool,
    ) -> Vec<(backend::Topic, Topic)> {
        let mut state = self.state.lock();
        let state = &mut *state;
        let before = Instant::now() - LINGER;
        let (mut taken, mut later) = (Vec::new(), Vec::new());
        while taken.len() < MOST_AT_ONCE
            && let Some((_, name)) = state.idle.pop_front_if(|(since, _)| *since <= before)
        {
            let Entry::Occupied(entry) = state.by_name.entry(name) else {
                continue;
            };
            let known = entry.get();
            if wanted(&known.topic) {
                continue;
            }
            if known.since.is_some() {
                let (name, known) = entry.remove_entry();
                taken.push((name, known.topic));
            } else {
                // Its subscription is on its way, though no client waits for it any more.
                later.push((Instant::now(), entry.key().clone()));
            }
        }
        state.idle.extend(later);
        taken
    }

    /// Notes that no topic is received any more. Those that subscribes wait for are pending for the
    /// next connection.
    pub(crate) fn reset(&self) {
        let mut state = self.state.lock();
        let State {
            by_name,
            pending,
            idle,
        } = &mut *state;
        idle.clear();
        by_name.retain(|_, known| {
            known.waiting.retain(|waiting| !waiting.is_closed());
            !known.waiting.is_empty()
        });
        for known in by_name.values_mut() {
            (known.asked, known.since) = (false, None);
        }
        *pending = by_name.keys().cloned().collect();
        self.changed.notify_one();
    }
}

/// A subscribe that waits until a topic is received.
#[derive(Debug)]
pub(crate) struct Waiting(oneshot::Receiver<Generation>);

impl Waiting {
    /// Waits, and returns the generation, or `None` if the caller must call [`Topics::subscribe`]
    /// again.
    pub(crate) async fn received(self) -> Option<Generation> {
        self.0.await.ok()
    }
}

#[cfg(test)]
mod tests {
    use fanfare_engine::testing::{LocalNode, options, run_paused};
    use fanfare_engine::{App, ChannelRef};
    use fanfare_protocol::ChannelName;
    use std::sync::Arc;

    use super::*;

    fn topic(app: &Arc<App>, name: &str) -> Topic {
        Topic::Channel(ChannelRef {
            app: Arc::clone(app),
            channel: ChannelName::parse(name, 200).expect("a name"),
        })
    }

    #[test]
    fn many_topics_are_asked_for_and_given_up_in_turns_each_once() {
        run_paused(async {
            let app = LocalNode::alone(options(1)).await.app();
            let topics = Topics::default();
            let count = 3 * MOST_AT_ONCE + 1;
            let wanted: Vec<_> = (0..count)
                .map(|number| topic(&app, &format!("c{number}")))
                .collect();
            let names: Vec<_> = wanted.iter().map(backend::Topic::from).collect();
            let mut waiting = Vec::new();
            for (name, topic) in names.iter().zip(&wanted) {
                waiting.push(topics.subscribe(name.clone(), topic).err());
            }
            // One that was given up and wanted again, and one that was given up.
            topics.unsubscribe(names[1].clone());
            waiting[1] = None;
            topics.unsubscribe(names[1].clone());
            waiting[1] = topics.subscribe(names[1].clone(), &wanted[1]).err();
            waiting[0] = None;
            topics.unsubscribe(names[0].clone());
            let mut asked = Vec::new();
            for turn in 0..4 {
                let taken = topics.take_pending();
                assert_eq!(taken.len(), if turn < 3 { MOST_AT_ONCE } else { 0 });
                asked.extend(taken.into_iter().map(|(name, _)| name));
            }
            // Oldest first.
            assert_eq!(asked.len(), count - 1);
            assert_eq!(asked, names[1..]);
            topics.finish_subscribe(&asked, 1);
            for waiting in waiting.into_iter().flatten() {
                assert_eq!(waiting.received().await, Some(1));
            }
            for name in &asked {
                topics.unsubscribe(name.clone());
            }
            assert!(topics.take_idle(|_| false).is_empty());
            tokio::time::advance(LINGER).await;
            let mut ended = 0;
            for _ in 0..4 {
                ended += topics.take_idle(|_| false).len();
            }
            assert_eq!(ended, count - 1);
        });
    }
}
