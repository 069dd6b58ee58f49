//! How far webhooks are, for those who watch them.

use sqlx::AssertSqlSafe;

use super::queue::ROWS_PER_STATEMENT;
use crate::database::Store;
use crate::dialect::{on_db, value_rows};
use crate::error::StoreError;

/// The rows beyond the limit aren't looked at.
const WAITING: &str = "SELECT COUNT(*) FROM (SELECT sequence FROM webhook_queue WHERE webhook_id = $1 LIMIT $2) AS counted";

impl Store {
    /// Returns how many deliveries of a webhook wait, at most `limit`.
    ///
    /// # Errors
    ///
    /// Returns the database's error.
    pub async fn count_waiting_deliveries(
        &self,
        webhook_id: &str,
        limit: i64,
    ) -> Result<i64, StoreError> {
        Ok(
            on_db!(&self.db, pool => sqlx::query_scalar(WAITING).bind(webhook_id).bind(limit).fetch_one(pool).await)?,
        )
    }

    /// Returns the sequence numbers of webhooks' last deliveries, 0 before the first. Webhooks that don't exist are left
    /// out.
    ///
    /// # Errors
    ///
    /// Returns the database's error.
    pub async fn last_webhook_sequences(
        &self,
        webhook_ids: &[String],
    ) -> Result<Vec<(String, i64)>, StoreError> {
        let mut sequences = Vec::with_capacity(webhook_ids.len());
        for ids in webhook_ids.chunks(ROWS_PER_STATEMENT) {
            let sql = format!(
                "SELECT webhook_id, last_sequence FROM webhook_health WHERE webhook_id IN {}",
                value_rows(1, ids.len(), 1)
            );
            let found: Vec<(String, i64)> = on_db!(&self.db, pool => {
                let mut query = sqlx::query_as(AssertSqlSafe(sql));
                for id in ids {
                    query = query.bind(id);
                }
                query.fetch_all(pool).await
            })?;
            sequences.extend(found);
        }
        Ok(sequences)
    }
}
