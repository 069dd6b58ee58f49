//! Events in the world: topics, cached events and histories.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fanfare_engine::{HistoryQuery, IdempotencyKey, Position, Retention};
use fanfare_protocol::{AppId, HistoryPosition, Unrecovered};

use super::{App, InApp, Turn};
use crate::backend::{
    BackendError, CachedMessage, HistoryPage, HistoryRequest, Keep, Moment, Publication, Publish,
    Published, Topic,
};
use crate::stamp;

/// How long a request is known by its idempotency key.
const KNOWN_FOR: Duration = Duration::from_secs(120);
/// How long a history is known after its last event, and one that never had any, in microseconds.
const LOG_KEPT_FOR: u64 = 86_400_000_000;
const UNUSED_KEPT_FOR: u64 = 600_000_000;
/// Bytes that a cached event takes besides its message.
const ENTRY_WEIGHT: usize = 256;

/// The histories of an app.
#[derive(Default)]
pub(super) struct Histories {
    logs: BTreeMap<String, Log>,
    /// How many histories have begun.
    epochs: u64,
}

/// A channel's history.
struct Log {
    epoch: Arc<str>,
    /// The fingerprint of the rules under which it began.
    rules: u64,
    /// When it is forgotten; its events are before.
    until: u64,
    offset: u64,
    newest: Position,
    /// In microseconds.
    ttl: u64,
    events: Vec<(Position, Bytes)>,
}

impl Turn<'_> {
    pub(in crate::testing::sim) fn publish(
        &mut self,
        publish: &Publish,
    ) -> Result<Published, BackendError> {
        self.check_deadline(publish.deadline)?;
        Ok(self.in_app(&publish.app, |app| {
            let known = publish.idempotency_key.as_ref();
            if let Some(published) = known.and_then(|key| app.known(key)) {
                return published;
            }
            for publication in &publish.publications {
                app.publish(publication);
            }
            Published::Now
        }))
    }

    pub(in crate::testing::sim) fn broadcast(
        &mut self,
        message: &Bytes,
        deadline: Moment,
    ) -> Result<(), BackendError> {
        self.check_deadline(deadline)?;
        self.publish_on(Topic::Nodes, message);
        Ok(())
    }

    pub(in crate::testing::sim) fn send(&mut self, topic: Topic, message: &Bytes) {
        self.publish_on(topic, message);
    }

    pub(in crate::testing::sim) fn subscribe(&mut self, topics: Vec<Topic>) {
        for topic in topics {
            let subscribers = self.world.subscribers.entry(topic).or_default();
            subscribers.insert(self.connection);
        }
    }

    pub(in crate::testing::sim) fn unsubscribe(&mut self, topics: &[Topic]) {
        for topic in topics {
            if let Some(subscribers) = self.world.subscribers.get_mut(topic) {
                subscribers.remove(&self.connection);
            }
        }
    }

    pub(in crate::testing::sim) fn cached(
        &mut self,
        app: &AppId,
        channel: &str,
    ) -> Option<CachedMessage> {
        self.in_app(app, |app| app.cached(channel))
    }

    pub(in crate::testing::sim) fn history(&mut self, request: &HistoryRequest) -> HistoryPage {
        self.in_app(&request.app, |app| app.history(request))
    }
}

impl InApp<'_> {
    /// Returns the outcome of a request that is known by its key, and notes one that isn't.
    fn known(&mut self, idempotency_key: &IdempotencyKey) -> Option<Published> {
        match self.app.requests.get(&idempotency_key.key) {
            Some((digest, until)) if *until > self.now => {
                Some(if *digest == idempotency_key.digest {
                    Published::Before
                } else {
                    Published::OtherRequest
                })
            }
            _ => {
                let until = self.now + u64::try_from(KNOWN_FOR.as_micros()).unwrap();
                let known = (idempotency_key.digest.clone(), until);
                self.app.requests.insert(idempotency_key.key.clone(), known);
                None
            }
        }
    }

    fn publish(&mut self, publication: &Publication) {
        let Publication {
            channel, message, ..
        } = publication;
        let kept = publication.keep.filter(|kept| !kept.ttl.is_zero());
        if kept.is_none() && publication.history.is_none() {
            return self.publish_on_channel(channel, message.clone());
        }
        let position = self.next_position();
        let recorded = publication.history.map(|retention| {
            let log = self.log(channel, retention.rules);
            log.next(position)
        });
        let message = stamp(message, position, kept.is_some(), recorded.as_ref());
        if let Some(retention) = publication.history {
            self.hold(channel, position, retention, message.clone());
        }
        let Some(Keep { ttl, max_bytes }) = kept else {
            return self.publish_on_channel(channel, message);
        };
        let time = self.now / 1000;
        let until = time + u64::try_from(ttl.as_millis()).unwrap();
        let entry = (message.clone(), until);
        self.app.cache.insert(channel.to_owned(), entry);
        self.shrink(time, max_bytes);
        self.publish_on_channel(channel, message);
    }

    /// Returns the history of a channel, which begins again if it was recorded under other rules.
    fn log(&mut self, channel: &str, rules: u64) -> &mut Log {
        let App {
            histories: Histories { logs, epochs },
            ..
        } = self.app;
        let now = self.now;
        let is_over = |log: &Log| log.rules != rules || log.until <= now;
        if logs.get(channel).is_some_and(is_over) {
            logs.remove(channel);
        }
        logs.entry(channel.to_owned()).or_insert_with(|| {
            *epochs += 1;
            Log {
                epoch: format!("e{epochs}").into(),
                rules,
                until: now + UNUSED_KEPT_FOR,
                offset: 0,
                newest: 0,
                ttl: 0,
                events: Vec::new(),
            }
        })
    }

    fn hold(&mut self, channel: &str, position: Position, retention: Retention, message: Bytes) {
        let now = self.now;
        let log = self.log(channel, retention.rules);
        log.ttl = u64::try_from(retention.ttl.as_micros()).unwrap();
        log.until = now + log.ttl.max(LOG_KEPT_FOR);
        log.events.push((position, message));
        log.trim(now);
        let more = log.events.len().saturating_sub(retention.size);
        log.events.drain(..more);
    }

    fn history(&mut self, request: &HistoryRequest) -> HistoryPage {
        let HistoryRequest {
            channel,
            query,
            rules,
            room,
            ..
        } = request;
        let now = self.now;
        let log = self.log(channel, *rules);
        log.trim(now);
        let range = query.range(&log.epoch, log.offset, log.events.len());
        let messages = range.and_then(|(skipped, taken)| {
            let newest_first = log.events.iter().rev().skip(skipped).take(taken);
            let (mut found, mut bytes) = (Vec::new(), 0);
            for (_, message) in newest_first {
                bytes += message.len();
                match query {
                    HistoryQuery::After(_) if bytes > *room => return Err(Unrecovered::TooLarge),
                    HistoryQuery::Last(_) if bytes > *room => break,
                    _ => found.push(message.clone()),
                }
            }
            if !query.is_backward() {
                found.reverse();
            }
            Ok(found)
        });
        HistoryPage {
            position: log.position(),
            newest: log.newest,
            messages,
        }
    }

    fn shrink(&mut self, time: u64, max_bytes: usize) {
        let cache = &mut self.app.cache;
        let weight = |cache: &BTreeMap<String, (Bytes, u64)>| -> usize {
            let entries = cache.values();
            entries.map(|(kept, _)| kept.len() + ENTRY_WEIGHT).sum()
        };
        while let Some((channel, until)) = cache
            .iter()
            .map(|(channel, (_, until))| (channel.clone(), *until))
            .min_by(|one, other| (one.1, &one.0).cmp(&(other.1, &other.0)))
        {
            if until > time && weight(cache) <= max_bytes {
                return;
            }
            cache.remove(&channel);
        }
    }

    fn cached(&self, channel: &str) -> Option<CachedMessage> {
        let (message, until) = self.app.cache.get(channel)?;
        let left = (until * 1000).checked_sub(self.now)?;
        (left > 0).then(|| CachedMessage {
            ttl: Duration::from_millis(left.div_ceil(1000)),
            message: message.clone(),
        })
    }
}

impl Log {
    fn next(&mut self, position: Position) -> HistoryPosition {
        self.offset += 1;
        self.newest = position;
        self.position()
    }

    fn position(&self) -> HistoryPosition {
        HistoryPosition {
            epoch: self.epoch.clone(),
            offset: self.offset,
        }
    }

    fn trim(&mut self, now: u64) {
        let ttl = self.ttl;
        self.events.retain(|(position, _)| position + ttl >= now);
    }
}
