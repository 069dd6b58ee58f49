//! Events over Postgres: the log, and functions that cache and record while they publish.

use std::time::Duration;

use bytes::Bytes;
use fanfare_protocol::AppId;
use serde_json::{Value, json};

use super::PostgresConnection;
use super::answer::done;
use super::line::Item;
use super::schema::topic_name;
use crate::backend::{
    Broker, CachedMessage, Call, HistoryPage, HistoryRequest, Moment, Publication, Publish,
    Published, Topic, millis,
};

impl Broker for PostgresConnection {
    fn publish(&self, publish: Publish) -> Call<Published> {
        let Publish {
            app,
            publications,
            idempotency_key,
            deadline,
        } = publish;
        let events: Vec<Value> = (1..).zip(&publications).map(event).collect();
        let mut call = json!({
            "kind": "publish",
            "app": app.as_str(),
            "deadline": deadline,
            "events": events,
        });
        if let Some(once) = idempotency_key {
            call["key"] = (*once.key).into();
            call["digest"] = (*once.digest).into();
        }
        // Most publishes go to channels without a history, which need no epoch.
        if publications.iter().any(|event| event.history.is_some()) {
            call["epoch"] = fresh_epoch().into();
        }
        let messages = publications.into_iter().map(|event| event.message);
        self.ask(call, messages.collect(), |answer| {
            Some(match answer.as_str()? {
                "now" => Published::Now,
                "before" => Published::Before,
                _ => Published::OtherRequest,
            })
        })
    }

    fn broadcast(&self, message: Bytes, deadline: Moment) -> Call<()> {
        let topic = topic_name(&Topic::Nodes);
        let call = json!({ "kind": "send", "topic": topic, "deadline": deadline });
        self.ask(call, vec![message], done)
    }

    fn send(&self, topic: Topic, message: Bytes) -> Call<()> {
        let call = json!({ "kind": "send", "topic": topic_name(&topic) });
        self.ask(call, vec![message], done)
    }

    fn subscribe(&self, topics: Vec<Topic>) -> Call<()> {
        self.wait_for(move |receive| Item::subscribe(topics, receive))
    }

    fn unsubscribe(&self, topics: Vec<Topic>) -> Call<()> {
        self.wait_for(move |receive| Item::unsubscribe(topics, receive))
    }

    fn cached(&self, app: &AppId, channel: &str) -> Call<Option<CachedMessage>> {
        let call = json!({ "kind": "cached", "app": app.as_str(), "channel": channel });
        self.ask(call, Vec::new(), |answer| {
            if answer.is_null() {
                return Some(None);
            }
            Some(Some(CachedMessage {
                ttl: Duration::from_millis(answer["ttl"].as_u64()?),
                message: bytes_of_digits(answer["message"].as_str()?)?,
            }))
        })
    }

    fn history(&self, request: HistoryRequest) -> Call<HistoryPage> {
        let (pool, calls) = (self.pool.clone(), self.calls.clone());
        Box::pin(async move { super::history::read(&pool, &calls, &request).await })
    }
}

/// Returns an event as `call_publish` takes it: the longer form if it is cached or recorded.
fn event((number, event): (usize, &Publication)) -> Value {
    let Publication {
        channel,
        message: _,
        keep,
        history,
    } = event;
    if keep.is_none() && history.is_none() {
        return json!([channel, number]);
    }
    let (cached_for, max_bytes) =
        keep.map_or((0, 0), |keep| (millis(keep.ttl), bounded(keep.max_bytes)));
    let (size, kept_for, rules) = history.map_or((0, 0, 0), |history| {
        (bounded(history.size), millis(history.ttl), history.rules)
    });
    let rules = rules.to_string();
    json!([
        channel, number, cached_for, max_bytes, size, kept_for, rules
    ])
}

/// Returns a number as Postgres can have it.
pub(super) fn bounded(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Returns the epoch of a history that may begin with this call.
pub(super) fn fresh_epoch() -> String {
    format!("{:08x}", rand::random::<u32>())
}

fn bytes_of_digits(digits: &str) -> Option<Bytes> {
    let byte = |at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
    (0..digits.len()).step_by(2).map(byte).collect()
}
