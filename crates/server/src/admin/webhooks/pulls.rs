//! Requests that wait for a webhook's next delivery. One task asks the store for all of them, only while there are some:
//! any node may record the delivery, and each request asking by itself would be a storm.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use fanfare_store::Store;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::sleep;

use super::super::problem::Problem;

/// How often the store is asked.
const PERIOD: Duration = Duration::from_millis(200);
/// Most requests that wait on a node at once.
const MAX_WAITING: usize = 1000;
/// Seconds after which a request that may not wait is to ask again.
const RETRY_AFTER: u64 = 5;

/// The requests that wait. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pulls(Arc<Mutex<Shared>>);

#[derive(Debug, Default)]
struct Shared {
    /// The last sequence number of each webhook that somebody waits for.
    webhooks: HashMap<String, watch::Sender<i64>>,
    /// Whether the task runs.
    is_asking: bool,
}

/// A request that waits for deliveries of a webhook.
#[derive(Debug)]
pub(super) struct Waiting(watch::Receiver<i64>);

impl Waiting {
    /// Waits until there is a delivery after a sequence number. Returns `false` if the webhook was deleted.
    pub(super) async fn beyond(&mut self, sequence: i64) -> bool {
        self.0.wait_for(|last| *last > sequence).await.is_ok()
    }
}

impl Pulls {
    /// Begins to wait for deliveries of a webhook.
    pub(super) fn watch(&self, store: &Store, webhook_id: &str) -> Result<Waiting, Problem> {
        let mut shared = self.0.lock();
        let waiting: usize = shared
            .webhooks
            .values()
            .map(watch::Sender::receiver_count)
            .sum();
        if waiting >= MAX_WAITING {
            let detail = format!(
                "{waiting} requests wait for deliveries on this node already; ask again without wait"
            );
            return Err(Problem::too_many(detail, RETRY_AFTER));
        }
        let sender = shared.webhooks.entry(webhook_id.to_owned());
        let receiver = sender.or_insert_with(|| watch::channel(0).0).subscribe();
        if !std::mem::replace(&mut shared.is_asking, true) {
            tokio::spawn(self.clone().ask(store.clone()));
        }
        Ok(Waiting(receiver))
    }

    /// Asks the store until nobody waits.
    async fn ask(self, store: Store) {
        while let Some(ids) = self.waited_for() {
            match store.last_webhook_sequences(&ids).await {
                Ok(found) => self.tell(&ids, &found),
                // Those who wait ask the store themselves at the end, and answer with its error.
                Err(error) => tracing::debug!(%error, "requests wait for deliveries in vain"),
            }
            sleep(PERIOD).await;
        }
    }

    /// Returns the webhooks that somebody waits for, or `None` if there are none: the task ends then.
    fn waited_for(&self) -> Option<Vec<String>> {
        let mut shared = self.0.lock();
        shared
            .webhooks
            .retain(|_, sender| sender.receiver_count() > 0);
        let ids: Vec<String> = shared.webhooks.keys().cloned().collect();
        shared.is_asking = !ids.is_empty();
        shared.is_asking.then_some(ids)
    }

    fn tell(&self, asked: &[String], found: &[(String, i64)]) {
        let mut shared = self.0.lock();
        for id in asked {
            match found.iter().find(|(found, _)| found == id) {
                Some((_, last)) => {
                    if let Some(sender) = shared.webhooks.get(id) {
                        sender.send_if_modified(|known| std::mem::replace(known, *last) != *last);
                    }
                }
                // Dropping the sender tells those who wait that the webhook was deleted.
                None => drop(shared.webhooks.remove(id)),
            }
        }
    }
}
