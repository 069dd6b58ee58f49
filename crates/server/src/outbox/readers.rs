//! One reader for each app that has an outbox, on every node: the lease decides which of them reads.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use fanfare_engine::Engine;
use fanfare_outbox::Location;
use fanfare_protocol::AppId;
use fanfare_store::{OutboxRecord, Store};
use secrecy::ExposeSecret;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::progress::{Counters, Progress};
use super::reading::Reading;
use super::{OutboxSettings, Shared};

/// Starts and stops readers as outboxes are set, changed and removed.
pub(super) struct Readers {
    pub(super) store: Store,
    pub(super) engine: Arc<Engine>,
    pub(super) node: String,
    pub(super) shared: Arc<Shared>,
    pub(super) stop: CancellationToken,
}

/// The tasks that read.
pub(crate) struct Running {
    stop: CancellationToken,
    readers: JoinHandle<()>,
}

impl Running {
    /// Stops reading, so that other nodes take over at once.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits until everything that was published is noted as delivered.
    pub(crate) async fn finish(self) {
        self.stop();
        // An error means that the task has panicked.
        let _ = self.readers.await;
    }
}

impl Readers {
    pub(super) fn start(self) -> Running {
        Running {
            stop: self.stop.clone(),
            readers: tokio::spawn(self.run()),
        }
    }

    async fn run(self) {
        let mut settings: watch::Receiver<OutboxSettings> = self.shared.settings.subscribe();
        let tasks = TaskTracker::new();
        let mut running: HashMap<AppId, (OutboxRecord, CancellationToken)> = HashMap::new();
        loop {
            let wanted = settings.borrow_and_update().clone();
            running.retain(|app, (record, stop)| {
                let stays = wanted.get(app).is_some_and(|outbox| outbox.is_same(record));
                if !stays {
                    stop.cancel();
                    self.shared.progress.lock().remove(app);
                }
                stays
            });
            for (app, record) in wanted {
                running.entry(app).or_insert_with_key(|app| {
                    let stop = self.stop.child_token();
                    self.read(&tasks, app, &record, &stop);
                    (record, stop)
                });
            }
            tokio::select! {
                changed = settings.changed() => if changed.is_err() { break },
                () = self.stop.cancelled() => break,
            }
        }
        self.stop.cancelled().await;
        tasks.close();
        tasks.wait().await;
    }

    /// Starts to read an app's outbox until `stop`.
    fn read(
        &self,
        tasks: &TaskTracker,
        app: &AppId,
        record: &OutboxRecord,
        stop: &CancellationToken,
    ) {
        let location = Location::parse(record.url.expose_secret(), record.stream.as_deref());
        let location = match location {
            Ok(location) => location,
            Err(error) => {
                tracing::error!(%app, error, "this outbox is not read: set it again");
                return;
            }
        };
        let counters: Arc<Counters> = Arc::clone(&self.shared.counters);
        let progress = Arc::new(Progress::new(app.clone(), self.node.clone(), counters));
        let known = Arc::clone(&progress);
        self.shared.progress.lock().insert(app.clone(), known);
        let reading = Reading {
            app: app.clone(),
            location,
            poll_interval: Duration::from_millis(record.poll_interval.unsigned_abs()),
            // A reader that is started again must not have the lease of its predecessor.
            node: format!("{}/{:016x}", self.node, rand::random::<u64>()),
            engine: Arc::clone(&self.engine),
            progress: Arc::clone(&progress),
            stop: stop.clone(),
        };
        let store = self.store.clone();
        tasks.spawn(async move {
            // The last report has what was published until the end.
            let ended = CancellationToken::new();
            tokio::join!(
                async {
                    reading.run().await;
                    ended.cancel();
                },
                progress.report(&store, &ended),
            );
        });
    }
}
