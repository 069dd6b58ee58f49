//! The only way in for an event.

use std::sync::Arc;

use fanfare_protocol::QuotaKind;
use fanfare_protocol::api::Event;
use tokio::time::Instant;

use crate::app::App;
use crate::bus::{BusError, Envelope, IdempotencyKey, PublishOutcome};
use crate::channel_ref::ChannelRef;
use crate::engine::Engine;
use crate::live::{LiveEvent, LiveKind};
use crate::quota::OverQuota;
use crate::trace::{FinishedSpan, MAX_TRACED_CHANNELS, TraceContext, TracedWork};
use crate::traffic::PublishResult;

/// Why events were not accepted. They are not delivered, except where [`BusError`] says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The bus didn't accept them.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The app's backends publish more than their rate.
    #[error(
        "the app's limit of {limit} events per second (limits.backend_events_per_second) is reached, {sent} more were sent"
    )]
    OverRate {
        /// The limit, in events per second.
        limit: u32,
        /// Events in this request.
        sent: usize,
    },
    /// A quota of the app or of the installation allows no more.
    #[error(transparent)]
    OverQuota(#[from] OverQuota),
}

impl Engine {
    /// Publishes checked events, in order: all of them, or none. When this returns, they will be
    /// written to every subscriber whose connection stays open. A publish with a known `idempotency_key` is
    /// not delivered again. Waits for the back end in a cluster.
    ///
    /// # Errors
    ///
    /// Returns [`PublishError::OverRate`] if the app's rate is exceeded, [`PublishError::OverQuota`] if a
    /// quota is used up, and [`PublishError::Bus`] if the bus doesn't accept the events.
    pub async fn publish(
        &self,
        app: &Arc<App>,
        events: &[Event],
        idempotency_key: Option<IdempotencyKey>,
    ) -> Result<PublishOutcome, PublishError> {
        self.publish_traced(app, events, idempotency_key, None)
            .await
    }

    /// Publishes events as [`Self::publish`] does. If the publish is sampled, `trace` is its span, and what is done
    /// with its events is recorded as parts of it.
    ///
    /// # Errors
    ///
    /// Returns those of [`Self::publish`].
    pub async fn publish_traced(
        &self,
        app: &Arc<App>,
        events: &[Event],
        idempotency_key: Option<IdempotencyKey>,
        trace: Option<TraceContext>,
    ) -> Result<PublishOutcome, PublishError> {
        if !app.is_within_publish_rate(events.len()) {
            self.apps()
                .count_published(app, PublishResult::OverRate, 0, 0);
            let limit = app.settings().limits.backend_events_per_second;
            return Err(PublishError::OverRate {
                limit,
                sent: events.len(),
            });
        }
        // One reading of the settings for the whole request, so all its events are kept by the same
        // rules.
        let settings = app.settings();
        let mut envelopes =
            Vec::with_capacity(events.iter().map(|event| event.channels.len()).sum());
        for event in events {
            envelopes.extend(event.channels.iter().map(|channel| {
                let channel_ref = ChannelRef {
                    app: Arc::clone(app),
                    channel: channel.clone(),
                };
                Envelope {
                    history: app.retention_under(&settings, channel),
                    channel_ref,
                    name: Arc::clone(&event.name),
                    data: Arc::clone(&event.data),
                    user_id: None,
                    except: event.except,
                    keep: channel.keeps_last(),
                    trace: None,
                }
            }));
        }
        let accepted = envelopes.len();
        let bytes = envelopes.iter().map(|envelope| envelope.data.len()).sum();
        if let Err(error) = self.quotas.reserve(app, accepted as u64).await {
            self.apps()
                .count_published(app, PublishResult::OverQuota, 0, 0);
            return Err(error.into());
        }
        if let Some(trace) = trace {
            for envelope in envelopes.iter_mut().take(MAX_TRACED_CHANNELS) {
                envelope.trace = Some(Box::new(trace));
            }
        }
        let outcome = self.publish_timed(envelopes, idempotency_key, trace).await;
        self.apps()
            .count_published(app, PublishResult::of_bus(&outcome), accepted, bytes);
        self.settle(app, &outcome, accepted, bytes);
        if app.live.is_watched() && outcome == Ok(PublishOutcome::Accepted) {
            show_live(app, events);
        }
        Ok(outcome?)
    }

    /// Counts the bytes of accepted events against quotas, or gives back the messages that were reserved.
    fn settle(
        &self,
        app: &Arc<App>,
        outcome: &Result<PublishOutcome, BusError>,
        messages: usize,
        bytes: usize,
    ) {
        if !self.quotas.is_metered(app) {
            return;
        }
        // An event that isn't known to have arrived counts, because it may have.
        let is_sent = matches!(
            outcome,
            Ok(PublishOutcome::Accepted) | Err(BusError::Unanswered)
        );
        if is_sent {
            self.quotas.charge(app, QuotaKind::Bytes, bytes as u64);
        } else {
            self.quotas.refund(app, messages as u64);
        }
    }

    /// Publishes, and counts how long other nodes take to accept it. On a node by itself that takes no time.
    async fn publish_timed(
        &self,
        envelopes: Vec<Envelope>,
        idempotency_key: Option<IdempotencyKey>,
        trace: Option<TraceContext>,
    ) -> Result<PublishOutcome, BusError> {
        if !self.deliverer().is_shared() {
            return self.bus().publish(envelopes, idempotency_key).await;
        }
        let began = Instant::now();
        let outcome = self.bus().publish(envelopes, idempotency_key).await;
        let ended = Instant::now();
        self.bus_delay.observe(ended - began);
        if let Some(parent) = trace {
            self.options().spans.record(FinishedSpan {
                context: parent.child(),
                parent,
                is_parent_remote: false,
                start: began,
                end: ended,
                work: TracedWork::Bus(PublishResult::of_bus(&outcome)),
            });
        }
        outcome
    }
}

/// Shows accepted events to those who watch the app. Subscribers are those of this node: asking the
/// others for each event would cost more than the event.
fn show_live(app: &App, events: &[Event]) {
    for event in events {
        for channel in &event.channels {
            app.live.record(&LiveEvent {
                channel: Some(channel.as_str()),
                event: Some(&event.name),
                data: Some(&event.data),
                subscribers: Some(app.channels.subscribers(channel.as_str())),
                ..LiveEvent::new(LiveKind::Publish)
            });
        }
    }
}

impl PublishResult {
    /// Returns how the outcome of a publish is counted.
    #[must_use]
    pub fn of(outcome: &Result<PublishOutcome, PublishError>) -> Self {
        match outcome {
            Ok(outcome) => Self::of_bus(&Ok(*outcome)),
            Err(PublishError::Bus(error)) => Self::of_bus(&Err(*error)),
            Err(PublishError::OverRate { .. }) => Self::OverRate,
            Err(PublishError::OverQuota(_)) => Self::OverQuota,
        }
    }

    fn of_bus(outcome: &Result<PublishOutcome, BusError>) -> Self {
        match outcome {
            Ok(PublishOutcome::Accepted) => Self::Accepted,
            Ok(PublishOutcome::Duplicate) => Self::Duplicate,
            Err(BusError::Overloaded) => Self::Overloaded,
            Err(BusError::Disconnected | BusError::Unanswered | BusError::Late) => {
                Self::Unavailable
            }
            Err(BusError::OtherRequest) => Self::Conflict,
        }
    }
}
