//! What the engine tells of, until it is recorded: which apps have new transitions, and events that nothing else keeps.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use fanfare_engine::{Notice, Notices};
use fanfare_protocol::{AppId, ChannelName, UserId, WebhookEvent};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::body::EventBody;
use super::counters::Counters;
use super::hooks::Hooks;
use crate::clock::unix_millis;
use crate::throttle::Throttle;

/// About what an event takes beside its texts, in bytes.
const EVENT_BYTES: usize = 100;
/// Least time between two log lines about lost events.
const LOG_PERIOD: Duration = Duration::from_secs(60);

/// An event that is to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct QueuedEvent {
    pub(super) kind: WebhookEvent,
    pub(super) channel: String,
    pub(super) json: String,
    /// When it came, Unix time in milliseconds.
    pub(super) at: i64,
}

impl QueuedEvent {
    pub(super) fn new(body: &EventBody<'_>, channel: &str, at: i64) -> Self {
        Self {
            kind: body.kind(),
            channel: channel.to_owned(),
            json: body.to_json(),
            at,
        }
    }

    fn bytes(&self) -> usize {
        EVENT_BYTES + self.channel.len() + self.json.len()
    }
}

/// What one app's recorder takes at once.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) events: Vec<QueuedEvent>,
    /// Whether there are more of them than were taken.
    pub(super) has_more: bool,
    /// The channels of cache misses, each once.
    pub(super) cache_misses: Vec<String>,
}

/// Receives from the engine. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Intake(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    hooks: Hooks,
    counters: Arc<Counters>,
    max_bytes: usize,
    queues: Mutex<Queues>,
    woken: Mutex<HashSet<AppId>>,
    wake: Notify,
    log: Throttle,
}

#[derive(Debug, Default)]
struct Queues {
    by_app: HashMap<AppId, Queue>,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Queue {
    events: VecDeque<QueuedEvent>,
    cache_misses: HashSet<String>,
    bytes: usize,
}

impl Intake {
    pub(super) fn new(hooks: Hooks, counters: Arc<Counters>, max_bytes: usize) -> Self {
        Self(Arc::new(Shared {
            hooks,
            counters,
            max_bytes,
            queues: Mutex::default(),
            woken: Mutex::default(),
            wake: Notify::new(),
            log: Throttle::new(LOG_PERIOD),
        }))
    }

    /// Waits until an app has something.
    pub(super) async fn woken(&self) {
        self.0.wake.notified().await;
    }

    /// Returns the apps that have something since the last call.
    pub(super) fn take_woken(&self) -> HashSet<AppId> {
        std::mem::take(&mut *self.0.woken.lock())
    }

    /// Marks an app as having something.
    pub(super) fn wake(&self, app: &AppId) {
        let mut woken = self.0.woken.lock();
        if !woken.contains(app) {
            woken.insert(app.clone());
            drop(woken);
            self.0.wake.notify_one();
        }
    }

    /// Takes an app's oldest events that came by a time, at most `max`, and its cache misses.
    pub(super) fn take(&self, app: &AppId, max: usize, by: i64) -> Batch {
        let mut queues = self.0.queues.lock();
        queues.take(app, max, by)
    }

    /// Returns when the oldest event of an app came, or the time of now if it has cache misses alone.
    pub(super) fn oldest(&self, app: &AppId) -> Option<i64> {
        let queues = self.0.queues.lock();
        let queue = queues.by_app.get(app)?;
        Some(
            queue
                .events
                .front()
                .map_or_else(unix_millis, |event| event.at),
        )
    }

    /// Drops what an app has, because nothing tells of it any more.
    pub(super) fn forget(&self, app: &AppId) {
        let mut queues = self.0.queues.lock();
        if let Some(queue) = queues.by_app.remove(app) {
            queues.bytes -= queue.bytes;
        }
    }

    /// Returns what was taken and not recorded, before what came since.
    pub(super) fn put_back(&self, app: &AppId, batch: Batch) {
        let mut queues = self.0.queues.lock();
        for event in batch.events.into_iter().rev() {
            queues.push(app, event, true);
        }
        for channel in batch.cache_misses {
            queues.add_cache_miss(app, channel);
        }
        self.make_room(&mut queues, app);
    }

    fn push(&self, app: &AppId, event: QueuedEvent) {
        let mut queues = self.0.queues.lock();
        queues.push(app, event, false);
        self.make_room(&mut queues, app);
        drop(queues);
        self.wake(app);
    }

    fn make_room(&self, queues: &mut Queues, app: &AppId) {
        let dropped = queues.drop_beyond(self.0.max_bytes);
        if dropped == 0 {
            return;
        }
        self.0.counters.count_dropped(dropped);
        if self.0.log.may_pass() {
            tracing::error!(
                %app,
                "events of webhooks are lost: the store takes none, or too few, and no more are kept in memory (webhooks.max_queued_bytes)"
            );
        }
    }
}

impl Queues {
    fn push(&mut self, app: &AppId, event: QueuedEvent, to_front: bool) {
        let queue = self.by_app.entry(app.clone()).or_default();
        let bytes = event.bytes();
        queue.bytes += bytes;
        self.bytes += bytes;
        if to_front {
            queue.events.push_front(event);
        } else {
            queue.events.push_back(event);
        }
    }

    fn add_cache_miss(&mut self, app: &AppId, channel: String) {
        let queue = self.by_app.entry(app.clone()).or_default();
        let bytes = EVENT_BYTES + channel.len();
        if queue.cache_misses.insert(channel) {
            queue.bytes += bytes;
            self.bytes += bytes;
        }
    }

    fn take(&mut self, app: &AppId, max: usize, by: i64) -> Batch {
        let Some(queue) = self.by_app.get_mut(app) else {
            return Batch::default();
        };
        let has_come = |event: &QueuedEvent| event.at <= by;
        let ready = queue.events.iter().take(max);
        let taken = ready.take_while(|event| has_come(event)).count();
        let batch = Batch {
            has_more: queue.events.get(taken).is_some_and(has_come),
            events: queue.events.drain(..taken).collect(),
            cache_misses: queue.cache_misses.drain().collect(),
        };
        let misses = batch.cache_misses.iter();
        let bytes = batch.events.iter().map(QueuedEvent::bytes).sum::<usize>()
            + misses
                .map(|channel| EVENT_BYTES + channel.len())
                .sum::<usize>();
        queue.bytes -= bytes;
        self.bytes -= bytes;
        if queue.events.is_empty() {
            self.by_app.remove(app);
        }
        batch
    }

    /// Drops events of the app that has most, its oldest first, until all fit. Returns how many were dropped.
    fn drop_beyond(&mut self, max_bytes: usize) -> usize {
        let mut dropped = 0;
        while self.bytes > max_bytes {
            let largest = self.by_app.iter_mut().max_by_key(|(_, queue)| queue.bytes);
            let Some((app, queue)) = largest else {
                return dropped;
            };
            let bytes = match queue.events.pop_front() {
                Some(event) => {
                    dropped += 1;
                    event.bytes()
                }
                None => {
                    dropped += queue.cache_misses.len();
                    queue.cache_misses.clear();
                    queue.bytes
                }
            };
            queue.bytes -= bytes;
            self.bytes -= bytes;
            if queue.bytes == 0 {
                let app = app.clone();
                self.by_app.remove(&app);
            }
        }
        dropped
    }
}

impl Notices for Intake {
    fn notice(&self, app: &AppId, channel: &ChannelName, notice: Notice<'_>) {
        let Some(hooks) = self.0.hooks.of(app) else {
            return;
        };
        let channel = channel.as_str();
        match notice {
            // They are in the log of transitions.
            Notice::Occupied
            | Notice::Vacated
            | Notice::MemberAdded(_)
            | Notice::MemberRemoved(_) => self.wake(app),
            Notice::ClientEvent {
                event,
                data,
                socket_id,
                user_id,
            } => {
                if hooks.want(WebhookEvent::ClientEvent, channel) {
                    let body = EventBody::ClientEvent {
                        channel,
                        event,
                        data,
                        socket_id: &socket_id.to_string(),
                        user_id: user_id.map(UserId::as_str),
                    };
                    self.push(app, QueuedEvent::new(&body, channel, unix_millis()));
                }
            }
            Notice::CacheMiss => {
                if hooks.want(WebhookEvent::CacheMiss, channel) {
                    let mut queues = self.0.queues.lock();
                    queues.add_cache_miss(app, channel.to_owned());
                    self.make_room(&mut queues, app);
                    drop(queues);
                    self.wake(app);
                }
            }
            Notice::SubscriptionCount(subscription_count) => {
                if hooks.want(WebhookEvent::SubscriptionCount, channel) {
                    let body = EventBody::SubscriptionCount {
                        channel,
                        subscription_count,
                    };
                    self.push(app, QueuedEvent::new(&body, channel, unix_millis()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::hooks_of;
    use super::*;

    fn app(id: &str) -> AppId {
        AppId::parse(id).expect("an id")
    }

    fn event(channel: &str, json_bytes: usize) -> QueuedEvent {
        QueuedEvent {
            kind: WebhookEvent::ClientEvent,
            channel: channel.into(),
            json: "x".repeat(json_bytes),
            at: 0,
        }
    }

    fn intake(max_bytes: usize) -> Intake {
        Intake::new(hooks_of("1"), Arc::default(), max_bytes)
    }

    fn channels(batch: &Batch) -> Vec<&str> {
        let events = batch.events.iter();
        events.map(|event| event.channel.as_str()).collect()
    }

    #[tokio::test]
    async fn events_are_taken_in_their_order_and_come_back_before_newer_ones() {
        let intake = intake(1 << 20);
        for channel in ["a", "b", "c"] {
            intake.push(&app("1"), event(channel, 1));
        }
        assert_eq!(intake.take_woken(), HashSet::from([app("1")]));
        let batch = intake.take(&app("1"), 2, i64::MAX);
        assert_eq!(channels(&batch), ["a", "b"]);
        intake.push(&app("1"), event("d", 1));
        intake.put_back(&app("1"), batch);
        let all = intake.take(&app("1"), 10, i64::MAX);
        assert_eq!(channels(&all), ["a", "b", "c", "d"]);
        assert!(intake.oldest(&app("1")).is_none() && intake.0.queues.lock().bytes == 0);
    }

    #[tokio::test]
    async fn events_that_came_later_are_left() {
        let intake = intake(1 << 20);
        for (at, channel) in [(1, "a"), (2, "b"), (3, "c")] {
            let event = QueuedEvent {
                at,
                ..event(channel, 1)
            };
            intake.push(&app("1"), event);
        }
        let batch = intake.take(&app("1"), 1, 2);
        assert_eq!((channels(&batch), batch.has_more), (vec!["a"], true));
        let batch = intake.take(&app("1"), 10, 2);
        assert_eq!((channels(&batch), batch.has_more), (vec!["b"], false));
        assert_eq!(intake.oldest(&app("1")), Some(3));
    }

    #[tokio::test]
    async fn the_app_that_has_most_loses_its_oldest() {
        let intake = intake(10 * (EVENT_BYTES + 1 + 100));
        intake.push(&app("2"), event("z", 100));
        for channel in ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"] {
            intake.push(&app("1"), event(channel, 100));
        }
        assert_eq!(intake.0.counters.dropped(), 2);
        assert_eq!(channels(&intake.take(&app("2"), 10, i64::MAX)), ["z"]);
        let left = intake.take(&app("1"), 20, i64::MAX);
        assert_eq!(channels(&left)[0], "c");
        assert_eq!(intake.0.queues.lock().bytes, 0);
    }

    #[tokio::test]
    async fn notices_become_events_of_the_apps_that_want_them() {
        let intake = intake(1 << 20);
        let channel = |name: &str| ChannelName::parse(name, 100).expect("a name");
        let cache = channel("cache-a");
        for _ in 0..1000 {
            intake.notice(&app("1"), &cache, Notice::CacheMiss);
        }
        intake.notice(&app("1"), &channel("news"), Notice::SubscriptionCount(7));
        intake.notice(&app("2"), &channel("news"), Notice::SubscriptionCount(7));
        let batch = intake.take(&app("1"), 10, i64::MAX);
        assert_eq!(batch.cache_misses, ["cache-a"]);
        let count = r#"{"name":"subscription_count","channel":"news","subscription_count":7}"#;
        assert_eq!(batch.events[0].json, count);
        assert_eq!(intake.oldest(&app("2")), None, "it has no webhooks");
        intake.take_woken();
        intake.notice(&app("1"), &cache, Notice::Occupied);
        assert_eq!(intake.take(&app("1"), 10, i64::MAX), Batch::default());
        assert_eq!(intake.take_woken().len(), 1, "it is in the log");
    }
}
