//! The engine's bus: publishing events, and the topics that this node receives.

use std::future::ready;
use std::sync::Arc;

use bytes::Bytes;
use fanfare_engine::{
    App, BoxFuture, Bus, BusError, CachedEvent, ChannelRef, Envelope, Generation, HistoryAnswer,
    HistoryCharge, HistoryRead, IdempotencyKey, PublishOutcome, Topic, TraceContext,
};
use fanfare_protocol::UserId;
use std::time::Duration;

use crate::backend::{
    self, BackendError, CachedMessage, HistoryRequest, Keep, Publication, Publish, Published,
};
use crate::cluster::{Cluster, TAKES_NOTHING};
use crate::message::Message;

impl Bus for Cluster {
    fn publish(
        &self,
        envelopes: Vec<Envelope>,
        idempotency_key: Option<IdempotencyKey>,
    ) -> BoxFuture<'_, Result<PublishOutcome, BusError>> {
        Box::pin(self.publish_all(envelopes, idempotency_key))
    }

    fn subscribe(&self, topic: &Topic) -> BoxFuture<'_, Generation> {
        let name = backend::Topic::from(topic);
        let mut received = self.topics.subscribe(name.clone(), topic);
        if let Ok(since) = received {
            return Box::pin(ready(since));
        }
        let topic = topic.clone();
        Box::pin(async move {
            loop {
                match received {
                    Ok(since) => return since,
                    Err(waiting) => {
                        if let Some(since) = waiting.received().await {
                            return since;
                        }
                        // The connection was lost during the wait, which goes on with the next one.
                        received = self.topics.subscribe(name.clone(), &topic);
                    }
                }
            }
        })
    }

    fn unsubscribe(&self, topic: &Topic) {
        self.topics.unsubscribe(topic.into());
    }

    fn cached<'a>(
        &'a self,
        channel_ref: &'a ChannelRef,
    ) -> BoxFuture<'a, Result<Option<CachedEvent>, BusError>> {
        Box::pin(async move {
            let link = self.link().ok_or(BusError::Disconnected)?;
            let (app, channel) = (channel_ref.app.id(), channel_ref.channel.as_str());
            let cached = link.in_time(link.broker.cached(app, channel)).await;
            let cached = cached.map_err(|_| BusError::Disconnected)?;
            Ok(cached.as_ref().and_then(cached_event))
        })
    }

    fn history<'a>(
        &'a self,
        channel_ref: &'a ChannelRef,
        read: HistoryRead,
    ) -> BoxFuture<'a, Result<(HistoryAnswer, HistoryCharge), BusError>> {
        let HistoryRead {
            query,
            room,
            charge,
        } = read;
        let request = HistoryRequest {
            app: channel_ref.app.id().clone(),
            channel: channel_ref.channel.to_string(),
            query,
            rules: channel_ref
                .app
                .retention(&channel_ref.channel)
                .map_or(0, |retention| retention.rules),
            room,
        };
        Box::pin(async move {
            let link = self.link().ok_or(BusError::Disconnected)?;
            let answer = link.read_history(request, charge).await;
            answer.ok_or(BusError::Disconnected)
        })
    }

    fn terminate(&self, app: &Arc<App>, user: &UserId) -> BoxFuture<'_, Result<(), BusError>> {
        let message = Message::Terminate {
            app: app.id().as_str(),
            user_id: user.clone(),
        };
        let message = message.write();
        Box::pin(async move {
            let link = self.link().filter(|link| link.is_ready());
            let link = link.ok_or(BusError::Disconnected)?;
            let sent = link.broker.broadcast(message, link.publish_until());
            let sent = link.in_time(sent).await;
            sent.map_err(|error| self.bus_error(error))
        })
    }

    fn nodes(&self) -> usize {
        1 + self.link().map_or(0, |link| link.peers.others().len())
    }

    fn unready(&self) -> Option<String> {
        match self.link() {
            None => Some("there is no connection to the other nodes (cluster.url)".into()),
            Some(link) if link.is_ready() => None,
            Some(link) => Some(link.peers.missing().unwrap_or_else(|| {
                "the other nodes are still being told what is on this one".into()
            })),
        }
    }
}

impl Cluster {
    /// Publishes envelopes in one call, and waits for its answer.
    async fn publish_all(
        &self,
        envelopes: Vec<Envelope>,
        idempotency_key: Option<IdempotencyKey>,
    ) -> Result<PublishOutcome, BusError> {
        let Some(first) = envelopes.first() else {
            return Ok(PublishOutcome::Accepted);
        };
        let link = self.link().filter(|link| link.is_ready());
        let link = link.ok_or(BusError::Disconnected)?;
        // Refused at once instead of queued: the back end is not keeping up.
        let _one_of_many = self
            .in_flight
            .try_acquire()
            .map_err(|_| BusError::Overloaded)?;
        let publish = Publish {
            app: first.channel_ref.app.id().clone(),
            publications: publications(&envelopes),
            idempotency_key,
            deadline: link.publish_until(),
        };
        let published = link.in_time(link.broker.publish(publish)).await;
        match published.map_err(|error| self.bus_error(error))? {
            Published::Now => Ok(PublishOutcome::Accepted),
            Published::Before => Ok(PublishOutcome::Duplicate),
            Published::OtherRequest => Err(BusError::OtherRequest),
        }
    }
}

impl Cluster {
    /// Turns a failed call into the bus's error, and logs what an operator must know, now and then.
    fn bus_error(&self, error: BackendError) -> BusError {
        match error {
            BackendError::Late => {
                if self.late_reminder.is_due() {
                    tracing::warn!(
                        "events are refused by the clock of what nodes share (cluster.url): they reached it more than two seconds late, or it was set"
                    );
                }
                BusError::Late
            }
            BackendError::Refused(reason) => {
                if self.refused_reminder.is_due() {
                    tracing::error!(reason, "{TAKES_NOTHING}");
                }
                BusError::Disconnected
            }
            BackendError::Unserved(_)
            | BackendError::Forgotten
            | BackendError::OtherInstallation => BusError::Disconnected,
            BackendError::Broken(reason) => {
                tracing::debug!(reason, "an event is taken or not");
                BusError::Unanswered
            }
        }
    }
}

/// Encodes events for the back end. An event for many channels is encoded once.
fn publications(envelopes: &[Envelope]) -> Vec<Publication> {
    let mut written: Option<(&Envelope, Bytes)> = None;
    let mut publications = Vec::with_capacity(envelopes.len());
    for envelope in envelopes {
        if let Some(context) = envelope.trace.as_deref() {
            publications.push(trace_of(envelope, *context));
        }
        let message = match &written {
            Some((same, message)) if is_same_event(same, envelope) => message.clone(),
            _ => {
                let message = write(envelope);
                written = Some((envelope, message.clone()));
                message
            }
        };
        publications.push(Publication {
            channel: envelope.channel_ref.channel.to_string(),
            message,
            keep: envelope.keep.then(|| keep_of(&envelope.channel_ref)),
            history: envelope.history,
        });
    }
    publications
}

/// Returns the message that tells nodes to which span the event after it belongs. It is a message of its own, because
/// the event's has no room for it that nodes of earlier versions would not read as something else.
fn trace_of(envelope: &Envelope, context: TraceContext) -> Publication {
    Publication {
        channel: envelope.channel_ref.channel.to_string(),
        message: Message::Trace(context).write(),
        keep: None,
        history: None,
    }
}

fn is_same_event(one: &Envelope, other: &Envelope) -> bool {
    Arc::ptr_eq(&one.data, &other.data)
        && Arc::ptr_eq(&one.name, &other.name)
        && one.except == other.except
        && one.user_id == other.user_id
}

fn write(envelope: &Envelope) -> Bytes {
    let message = Message::Event {
        position: None,
        keep: false,
        recorded: None,
        name: &envelope.name,
        user_id: envelope.user_id.clone(),
        except: envelope.except,
        data: &envelope.data,
    };
    message.write()
}

/// Returns how a cache channel's app keeps its event.
fn keep_of(channel_ref: &ChannelRef) -> Keep {
    let limits = &channel_ref.app.settings().limits;
    let longest = fanfare_protocol::Limits::MAX_CACHE_TTL;
    Keep {
        ttl: Duration::from_secs(limits.cache_ttl.min(longest)),
        max_bytes: limits.cache_bytes,
    }
}

/// Returns a kept event for subscribers, or `None` if it cannot be read.
pub(crate) fn cached_event(kept: &CachedMessage) -> Option<CachedEvent> {
    match Message::read(&kept.message).ok()? {
        Message::Event {
            position: Some(position),
            name,
            data,
            ..
        } => Some(CachedEvent::new(name, data, kept.ttl, position)),
        _ => None,
    }
}
