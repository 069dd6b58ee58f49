//! The only way in for an event.

use std::sync::Arc;

use fanfare_protocol::QuotaKind;
use fanfare_protocol::api::Event;
use tokio::time::Instant;

use crate::app::App;
use crate::bus::{BusError, Envelope, IdempotencyKey, PublishOutcome};
use crate::channel_ref::ChannelRef;
use crate::engine::Engine;
use crate::quota::OverQuota;
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
        if !app.is_within_publish_rate(events.len()) {
            app.published.count(PublishResult::OverRate, 0, 0);
            self.apps().note_moved(app);
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
            let (name, data): (Arc<str>, Arc<str>) =
                (event.name.as_str().into(), event.data.as_str().into());
            envelopes.extend(event.channels.iter().map(|channel| {
                let channel_ref = ChannelRef {
                    app: Arc::clone(app),
                    channel: channel.clone(),
                };
                Envelope {
                    history: app.retention_under(&settings, channel),
                    channel_ref,
                    name: Arc::clone(&name),
                    data: Arc::clone(&data),
                    user_id: None,
                    except: event.except,
                    keep: channel.keeps_last(),
                }
            }));
        }
        let accepted = envelopes.len();
        let bytes = envelopes.iter().map(|envelope| envelope.data.len()).sum();
        if let Err(error) = self.quotas.reserve(app, accepted as u64).await {
            app.published.count(PublishResult::OverQuota, 0, 0);
            self.apps().note_moved(app);
            return Err(error.into());
        }
        let outcome = self.publish_timed(envelopes, idempotency_key).await;
        app.published.count(result(&outcome), accepted, bytes);
        self.apps().note_moved(app);
        self.settle(app, &outcome, accepted, bytes);
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
    ) -> Result<PublishOutcome, BusError> {
        if !self.deliverer().is_shared() {
            return self.bus().publish(envelopes, idempotency_key).await;
        }
        let began = Instant::now();
        let outcome = self.bus().publish(envelopes, idempotency_key).await;
        self.bus_delay.observe(began.elapsed());
        outcome
    }
}

/// Returns how an answer of the bus is counted.
fn result(outcome: &Result<PublishOutcome, BusError>) -> PublishResult {
    match outcome {
        Ok(PublishOutcome::Accepted) => PublishResult::Accepted,
        Ok(PublishOutcome::Duplicate) => PublishResult::Duplicate,
        Err(BusError::Overloaded) => PublishResult::Overloaded,
        Err(BusError::Disconnected | BusError::Unanswered | BusError::Late) => {
            PublishResult::Unavailable
        }
        Err(BusError::OtherRequest) => PublishResult::Conflict,
    }
}
