//! Events over Redis: sharded topics, and scripts that cache and record while they publish.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use fanfare_engine::HistoryQuery;
use fanfare_protocol::{AppId, HistoryPosition, Unrecovered};
use redis::{Value, cmd};

use super::answer::{array, done, integer, parts, position, text};
use super::connection::{Command, RedisConnection};
use crate::backend::{
    Broker, CachedMessage, Call, HistoryPage, HistoryRequest, Moment, Publication, Publish,
    Published, Topic, millis,
};

impl Broker for RedisConnection {
    fn publish(&self, publish: Publish) -> Call<Published> {
        let Publish {
            app,
            publications,
            idempotency_key,
            deadline,
        } = publish;
        let mut call = self.of_app(&app, |scripts| &scripts.publish);
        let (key, digest) = idempotency_key
            .as_ref()
            .map_or(("", ""), |once| (&*once.key, &*once.digest));
        // Most publishes go to channels without a history, which need no epoch.
        let records = publications
            .iter()
            .any(|publication| publication.history.is_some());
        let epoch = if records {
            fresh_epoch()
        } else {
            String::new()
        };
        let run = self.run(&call);
        call.arg(deadline).arg(key).arg(digest).arg(epoch).arg(run);
        for publication in &publications {
            put_publication(&mut call, publication);
        }
        self.ask(call, |value| {
            Some(match integer(value)? {
                0 => Published::Now,
                1 => Published::Before,
                _ => Published::OtherRequest,
            })
        })
    }

    fn broadcast(&self, message: Bytes, deadline: Moment) -> Call<()> {
        let mut call = self.of_installation(|scripts| &scripts.broadcast);
        call.arg(deadline).arg(&message[..]);
        self.ask(call, done)
    }

    fn send(&self, topic: Topic, message: Bytes) -> Call<()> {
        let mut call = self.of_topic("SPUBLISH", &topic);
        call.arg(&message[..]);
        // How many connections got it doesn't matter.
        self.ask(call, |value| integer(value).map(|_| ()))
    }

    fn subscribe(&self, topics: Vec<Topic>) -> Call<()> {
        let subscribe = |topic: &Topic| self.of_topic("SSUBSCRIBE", topic);
        self.ask_all(topics.iter().map(subscribe).collect())
    }

    fn unsubscribe(&self, topics: Vec<Topic>) -> Call<()> {
        // Counted before the commands are sent, so that no confirmation comes first.
        self.unsubscribing.fetch_add(topics.len(), Ordering::AcqRel);
        let unsubscribe = |topic: &Topic| self.of_topic("SUNSUBSCRIBE", topic);
        self.ask_all(topics.iter().map(unsubscribe).collect())
    }

    fn cached(&self, app: &AppId, channel: &str) -> Call<Option<CachedMessage>> {
        let mut call = self.of_app(app, |scripts| &scripts.cached);
        call.arg(channel);
        self.ask(call, cached_message)
    }

    fn history(&self, request: HistoryRequest) -> Call<HistoryPage> {
        let mut call = self.of_app(&request.app, |scripts| &scripts.history);
        let (kind, position, count) = match &request.query {
            HistoryQuery::Last(count) => ("last", None, *count),
            HistoryQuery::After(position) => ("after", Some(position), 0),
            HistoryQuery::Forward(position, count) => ("forward", position.as_ref(), *count),
            HistoryQuery::Backward(position, count) => ("backward", position.as_ref(), *count),
        };
        let epoch = position.map_or("", |position| &*position.epoch);
        let offset = position.map_or(0, |position| position.offset);
        let run = self.run(&call);
        call.arg(&request.channel).arg(kind).arg(epoch).arg(offset);
        call.arg(count).arg(fresh_epoch()).arg(run);
        call.arg(request.rules).arg(request.room);
        self.ask_history(call, history_page)
    }
}

impl RedisConnection {
    fn of_topic(&self, name: &str, topic: &Topic) -> Command {
        let topic = self.keys.topic(topic);
        let mut command = cmd(name);
        command.arg(&topic);
        self.command(&topic, command)
    }
}

fn put_publication(call: &mut Command, publication: &Publication) {
    let (ttl, max_bytes) = publication
        .keep
        .map_or((0, 0), |keep| (millis(keep.ttl), keep.max_bytes));
    call.arg(&publication.channel).arg(ttl).arg(max_bytes);
    let (size, ttl, rules) = publication.history.map_or((0, 0, 0), |history| {
        (history.size, millis(history.ttl), history.rules)
    });
    call.arg(size).arg(ttl).arg(rules);
    call.arg(&publication.message[..]);
}

/// Returns the epoch of a history that may begin with this call.
fn fresh_epoch() -> String {
    format!("{:08x}", rand::random::<u32>())
}

/// Reads the event of a cache channel; anything but an array means that there is none.
fn cached_message(value: Value) -> Option<Option<CachedMessage>> {
    if !matches!(value, Value::Array(_)) {
        return Some(None);
    }
    let [left, message] = parts(value)?;
    Some(Some(CachedMessage {
        ttl: Duration::from_millis(u64::try_from(integer(left)?).ok()?),
        message: bytes(message)?,
    }))
}

/// Reads a page of a history: epoch, offset, place of the newest event, then the messages or why
/// there are none.
fn history_page(value: Value) -> Option<HistoryPage> {
    let [epoch, offset, newest, messages] = parts(value)?;
    let messages = match messages {
        messages @ Value::Array(_) => Ok(array(messages)?
            .into_iter()
            .map(bytes)
            .collect::<Option<_>>()?),
        reason => Err(match &*text(reason)? {
            "too_old" => Unrecovered::TooOld,
            "too_large" => Unrecovered::TooLarge,
            _ => Unrecovered::Expired,
        }),
    };
    Some(HistoryPage {
        position: HistoryPosition {
            epoch: text(epoch)?.into(),
            offset: text(offset)?.parse().ok()?,
        },
        newest: position(newest)?,
        messages,
    })
}

fn bytes(value: Value) -> Option<Bytes> {
    match value {
        Value::BulkString(bytes) => Some(bytes.into()),
        _ => None,
    }
}
