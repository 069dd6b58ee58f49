//! Reads the outbox of one app while this node has its lease, and publishes what is in it.

use std::sync::Arc;
use std::time::Duration;

use fanfare_engine::{App, Engine, IdempotencyKey, PublishError};
use fanfare_outbox::{
    BatchLimits, Identity, Lease, Location, OutboxError, OutboxEvent, PublishLimits, Reader,
    Rejection, batch_key,
};
use fanfare_protocol::AppId;
use fanfare_protocol::api::{Event, NewEvent};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::progress::Progress;
use super::recent::RecentEvents;

/// How often the lease of five seconds is renewed, and asked for by nodes that wait for it.
const LEASE_INTERVAL: Duration = Duration::from_secs(1);
/// How often what waits is counted.
const BACKLOG_INTERVAL: Duration = Duration::from_secs(5);
/// What counting may take of the time, as one part of so many.
const BACKLOG_PART: u32 = 20;
/// How often what is kept no longer is removed.
const TIDY_INTERVAL: Duration = Duration::from_secs(60);
/// Pauses before the next attempt to reach the database, from the first failure on: each twice as long.
const RECONNECT_PAUSE: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(15)];
/// Pauses before a batch that wasn't accepted is published again.
const PUBLISH_PAUSE: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(2)];
/// The most that is published in one step. It must fit into the inbox of a shard, and no other publish waits for long.
const MAX_BATCH: BatchLimits = BatchLimits {
    events: 256,
    channels: 512,
    bytes: 1 << 20,
};

/// One app's outbox, as this node reads it.
pub(super) struct Reading {
    pub(super) app: AppId,
    pub(super) location: Location,
    pub(super) poll_interval: Duration,
    /// Name of this process.
    pub(super) node: String,
    pub(super) engine: Arc<Engine>,
    pub(super) progress: Arc<Progress>,
    pub(super) stop: CancellationToken,
}

/// When something is due again.
struct Due {
    backlog: Instant,
    tidy: Instant,
    limits: Option<PublishLimits>,
}

impl Reading {
    /// Reads until it is told to stop. Whatever fails is tried again.
    pub(super) async fn run(self) {
        let mut pause = Pause::new(RECONNECT_PAUSE);
        let mut recent = RecentEvents::default();
        while !self.stop.is_cancelled() {
            match self.session(&mut pause, &mut recent).await {
                Ok(()) => return,
                Err(OutboxError::LeaseLost) => {
                    tracing::debug!(app = %self.app, "another node reads the outbox now");
                    self.progress.stop_reading();
                }
                Err(error) => {
                    self.progress.fail(&error.to_string());
                }
            }
            self.pause(pause.next()).await;
        }
    }

    /// Reads over one connection.
    async fn session(
        &self,
        pause: &mut Pause,
        recent: &mut RecentEvents,
    ) -> Result<(), OutboxError> {
        let identity = Identity {
            app: self.app.to_string(),
            node: self.node.clone(),
        };
        let mut reader = Reader::connect(&self.location, identity, self.poll_interval).await?;
        let now = Instant::now();
        let mut due = Due {
            backlog: now,
            tidy: now,
            limits: None,
        };
        while !self.stop.is_cancelled() {
            let Some(app) = self.publishing_app() else {
                // Another node may be able to publish.
                reader.release().await?;
                self.progress.stop_reading();
                self.pause(LEASE_INTERVAL).await;
                continue;
            };
            match reader.lease().await? {
                Lease::Mine => {
                    self.progress.read();
                    pause.reset();
                    self.keep_up(&mut reader, &app, &mut due).await?;
                    self.read_for_a_while(&mut reader, &app, recent).await?;
                }
                Lease::Other { app, .. } if app != self.app.as_str() => {
                    self.progress.fail(&format!(
                        "the outbox is read for the app {app}; each app needs a database or a stream of its own"
                    ));
                    self.pause(LEASE_INTERVAL).await;
                }
                Lease::Other { .. } => {
                    self.progress.stop_reading();
                    self.pause(LEASE_INTERVAL).await;
                }
            }
        }
        self.progress.stop_reading();
        reader.release().await
    }

    /// Returns the app, if this node can publish for it now.
    fn publishing_app(&self) -> Option<Arc<App>> {
        let app = self.engine.apps().by_id(self.app.as_str())?;
        let can_publish = app.settings().enabled && self.engine.unready().is_none();
        can_publish.then_some(app)
    }

    /// Does what is due now and then.
    async fn keep_up(
        &self,
        reader: &mut Reader,
        app: &App,
        due: &mut Due,
    ) -> Result<(), OutboxError> {
        let limits = &app.settings().limits;
        let limits = PublishLimits {
            event_data: limits.event_data,
            event_name: limits.event_name,
            channel_name: limits.channel_name,
            channels: limits.channels_per_publish,
        };
        if due.limits != Some(limits) {
            reader.set_limits(limits).await?;
            due.limits = Some(limits);
        }
        let now = Instant::now();
        if now >= due.backlog {
            self.progress.wait_for(reader.backlog().await?);
            due.backlog = Instant::now() + BACKLOG_INTERVAL.max(now.elapsed() * BACKLOG_PART);
        }
        if now >= due.tidy {
            reader.tidy().await?;
            due.tidy = now + TIDY_INTERVAL;
        }
        Ok(())
    }

    /// Publishes what comes until the lease is to be renewed.
    async fn read_for_a_while(
        &self,
        reader: &mut Reader,
        app: &Arc<App>,
        recent: &mut RecentEvents,
    ) -> Result<(), OutboxError> {
        let mut leased_at = Instant::now();
        let until = leased_at + LEASE_INTERVAL;
        while !self.stop.is_cancelled() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            // Not abandoned when the node stops: what was taken would come again only after the lease.
            let mut events = reader.next(limits_of(app), left).await?;
            let known = events.extract_if(.., |event| recent.contains(&event.id));
            reader.delivered(known.map(|event| event.id));
            self.publish(reader, app, events, recent, &mut leased_at)
                .await?;
        }
        Ok(())
    }

    /// Publishes a batch, however often it takes. It is published in parts if the app's rate was lowered since it was
    /// taken. A batch, or a part, that comes again has the same key.
    async fn publish(
        &self,
        reader: &mut Reader,
        app: &Arc<App>,
        batch: Vec<OutboxEvent>,
        recent: &mut RecentEvents,
        leased_at: &mut Instant,
    ) -> Result<(), OutboxError> {
        let checked = check(batch, app);
        if !checked.rejections.is_empty() {
            reader.reject(&checked.rejections).await?;
            self.progress.reject(&checked.rejections);
        }
        let (mut events, mut ids) = (&checked.events[..], &checked.ids[..]);
        let mut pause = Pause::new(PUBLISH_PAUSE);
        while !events.is_empty() && !self.stop.is_cancelled() {
            // A process that was stopped for a while finds out here that another node has taken over.
            if leased_at.elapsed() >= LEASE_INTERVAL {
                if reader.lease().await? != Lease::Mine {
                    return Err(OutboxError::LeaseLost);
                }
                *leased_at = Instant::now();
            }
            let part = limits_of(app).events.min(events.len());
            let key = batch_key(ids[..part].iter().map(String::as_str));
            let key = IdempotencyKey {
                digest: key.clone(),
                key,
            };
            match self.engine.publish(app, &events[..part], Some(key)).await {
                Ok(_) => {
                    self.progress.publish(part);
                    recent.add(ids[..part].iter().map(String::as_str));
                    reader.delivered(ids[..part].iter().cloned());
                    (events, ids) = (&events[part..], &ids[part..]);
                    pause.reset();
                }
                Err(error) => {
                    self.refused(&error);
                    // Another node may be able to, and takes the same batch.
                    if self.publishing_app().is_none() {
                        break;
                    }
                    self.pause(pause.next()).await;
                }
            }
        }
        Ok(())
    }

    fn refused(&self, error: &PublishError) {
        // A rate that is reached for a moment is no failure.
        if !matches!(error, PublishError::OverRate { .. }) {
            self.progress.fail(&format!("its events wait: {error}"));
        }
    }

    async fn pause(&self, pause: Duration) {
        tokio::select! {
            () = sleep(pause) => {}
            () = self.stop.cancelled() => {}
        }
    }
}

/// A batch after a look at each event.
struct Checked {
    events: Vec<Event>,
    /// Of `events`.
    ids: Vec<String>,
    rejections: Vec<Rejection>,
}

fn check(batch: Vec<OutboxEvent>, app: &App) -> Checked {
    let settings = app.settings();
    let mut checked = Checked {
        events: Vec::with_capacity(batch.len()),
        ids: Vec::with_capacity(batch.len()),
        rejections: Vec::new(),
    };
    for event in batch {
        let OutboxEvent {
            id,
            channels,
            name,
            data,
            socket_id,
        } = event;
        let new = NewEvent {
            name: &name,
            data: data.into(),
            channels,
            socket_id: socket_id.as_deref(),
        };
        match Event::new(new, &settings.limits) {
            Ok(event) => {
                checked.events.push(event);
                checked.ids.push(id);
            }
            Err(error) => checked.rejections.push(Rejection {
                id,
                reason: error.to_string(),
            }),
        }
    }
    checked
}

/// Returns what a batch may hold: no more events than the app may publish in a second.
fn limits_of(app: &App) -> BatchLimits {
    let rate = app.settings().limits.backend_events_per_second;
    let rate = usize::try_from(rate).unwrap_or(usize::MAX);
    BatchLimits {
        events: match rate {
            0 => MAX_BATCH.events,
            rate => MAX_BATCH.events.min(rate),
        },
        ..MAX_BATCH
    }
}

/// Pauses that become longer, with some chance, so that nodes don't come at once.
struct Pause {
    bounds: [Duration; 2],
    next: Duration,
}

impl Pause {
    fn new(bounds: [Duration; 2]) -> Self {
        Self {
            bounds,
            next: bounds[0],
        }
    }

    fn reset(&mut self) {
        self.next = self.bounds[0];
    }

    fn next(&mut self) -> Duration {
        let pause = self.next.mul_f64(rand::random_range(0.8..1.2));
        self.next = (self.next * 2).min(self.bounds[1]);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_their_bound_and_begin_again() {
        let seconds = |from, to| [Duration::from_secs(from), Duration::from_secs(to)];
        let mut pause = Pause::new(seconds(1, 3));
        let taken: Vec<_> = (0..4).map(|_| pause.next().as_secs_f64().round()).collect();
        assert!(taken[0] <= 1.2 && taken[3] >= 2.0, "{taken:?}");
        pause.reset();
        assert!(pause.next() < Duration::from_millis(1_200));
    }
}
