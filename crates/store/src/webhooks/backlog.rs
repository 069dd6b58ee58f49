//! How much waits to be sent, over all webhooks that are active.

use crate::database::Store;
use crate::dialect::on_db;
use crate::error::StoreError;
use crate::row::from_row;

/// What webhooks that are paused or disabled have queued is not waited for.
const BACKLOG: &str = "SELECT COUNT(*) AS waiting, MIN(q.queued_at) AS oldest \
                       FROM webhook_queue q JOIN webhooks w ON w.id = q.webhook_id WHERE w.state = 'active'";

/// How much waits to be sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WebhookBacklog {
    /// How many deliveries.
    pub waiting: i64,
    /// When the oldest of them was queued, Unix time in milliseconds.
    pub oldest: Option<i64>,
}

from_row!(row => WebhookBacklog { waiting, oldest });

impl Store {
    /// Returns how much waits to be sent of all active webhooks. Looks at the whole queue.
    ///
    /// # Errors
    ///
    /// Returns the database's error.
    pub async fn webhook_backlog(&self) -> Result<WebhookBacklog, StoreError> {
        Ok(on_db!(&self.db, pool => sqlx::query_as(BACKLOG).fetch_one(pool).await)?)
    }
}
