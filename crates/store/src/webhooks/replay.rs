//! Queues deliveries again that are in the log.

use serde_json::json;
use sqlx::AssertSqlSafe;

use super::days::deliveries_table;
use super::log::{
    Conditions, DeliveryFilter, Range, SCANNED_AT_ONCE, bind_conditions, retry_missing,
};
use super::queue::is_missing_table;
use crate::actor::Actor;
use crate::database::Store;
use crate::dialect::{Tx, execute, on_tx};
use crate::error::StoreError;

/// Locks the webhook's row before its queue, as whoever settles does. What is replayed is due at once, even if the
/// webhook is held back.
const WAKE: &str = "UPDATE webhook_health SET held_until = NULL, \
                           next_due = CASE WHEN next_due < $2 THEN next_due ELSE $2 END \
                    WHERE webhook_id = $1";

/// Deliveries that one call looks at.
const MAX_SCANNED: i64 = 1_000_000;

/// What was replayed, or would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replay {
    /// How many deliveries.
    pub deliveries: i64,
    /// How many more are selected and wait already.
    pub waiting: i64,
    /// If the selection goes beyond what one call looks at: the sequence number to go on after.
    pub next: Option<i64>,
}

impl Store {
    /// Queues again what a filter selects and doesn't wait already, and returns how much. With `dry_run`, only counts. A
    /// call looks at a million deliveries at most, oldest first.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::NotFound`] if the app has no such webhook, or the database's error; a part may be queued
    /// then.
    pub async fn replay_deliveries(
        &self,
        app_id: &str,
        webhook_id: &str,
        selection: &DeliveryFilter,
        dry_run: bool,
        now: i64,
        by: &Actor,
    ) -> Result<Replay, StoreError> {
        self.webhook(app_id, webhook_id).await?;
        let (pieces, next) = retry_missing(|| self.replay_ranges(webhook_id, selection)).await?;
        let mut counted = Vec::new();
        let mut replay = Replay {
            deliveries: 0,
            waiting: 0,
            next,
        };
        for piece in pieces {
            let (count, waiting) = self.count_selected(webhook_id, piece, selection).await?;
            replay.deliveries += count;
            replay.waiting += waiting;
            if count > 0 {
                counted.push(piece);
            }
        }
        let deliveries = replay.deliveries;
        if dry_run || deliveries == 0 {
            return Ok(replay);
        }
        // First, so that nothing is ever replayed that the audit log doesn't know of.
        let details = json!({
            "deliveries": deliveries,
            "after": selection.after,
            "before": selection.before,
            "state": selection.state.map(|state| state.as_str()),
            "event": selection.event,
            "channel": selection.channel,
            "from": selection.from,
            "until": selection.until,
        });
        self.record(
            by,
            "webhook.replay",
            "webhook",
            webhook_id,
            Some(app_id),
            &details,
        )
        .await?;
        let mut queued = 0;
        for piece in counted {
            queued += self.requeue(webhook_id, piece, selection, now).await?;
        }
        Ok(Replay {
            deliveries: queued,
            ..replay
        })
    }

    /// Returns the ranges to look at, and where to go on afterwards.
    async fn replay_ranges(
        &self,
        webhook_id: &str,
        selection: &DeliveryFilter,
    ) -> Result<(Vec<Range>, Option<i64>), sqlx::Error> {
        let extent = self.log_extent(webhook_id).await?;
        let mut pieces = self
            .log_ranges(webhook_id, &extent, selection, SCANNED_AT_ONCE)
            .await?;
        let mut scanned = 0;
        let is_within = |piece: &Range| {
            scanned += piece.last - piece.first + 1;
            scanned <= MAX_SCANNED
        };
        let count = pieces.iter().copied().take_while(is_within).count();
        let next = match count < pieces.len() {
            true => count.checked_sub(1).map(|last| pieces[last].last),
            false => None,
        };
        pieces.truncate(count);
        Ok((pieces, next))
    }

    /// Returns how many are selected that don't wait, and how many that do.
    async fn count_selected(
        &self,
        webhook_id: &str,
        piece: Range,
        selection: &DeliveryFilter,
    ) -> Result<(i64, i64), StoreError> {
        let conditions = Conditions::of(selection, 4);
        let sql = format!(
            "SELECT COUNT(CASE WHEN state <> 'waiting' THEN 1 END), COUNT(CASE WHEN state = 'waiting' THEN 1 END) \
             FROM {} WHERE {}",
            deliveries_table(piece.day),
            selected(&conditions)
        );
        let numbers = [piece.first, piece.last];
        match self.log_rows(sql, webhook_id, &numbers, &conditions).await {
            Ok(found) => Ok(found.first().copied().unwrap_or_default()),
            Err(error) if is_missing_table(&error) => Ok((0, 0)),
            Err(error) => Err(error.into()),
        }
    }

    /// Queues what is selected of a range, and returns how much.
    async fn requeue(
        &self,
        webhook_id: &str,
        piece: Range,
        selection: &DeliveryFilter,
        now: i64,
    ) -> Result<i64, StoreError> {
        let table = deliveries_table(piece.day);
        let mut tx = self.db.begin().await?;
        if execute!(&mut tx, WAKE, webhook_id, now)? == 0 {
            return Ok(0);
        }
        let conditions = Conditions::of(selection, 6);
        let insert = format!(
            "INSERT INTO webhook_queue (webhook_id, sequence, day, lane, size, queued_at, is_replay, attempts, due) \
             SELECT webhook_id, sequence, $4, lane, size, $5, TRUE, 0, $5 FROM {table} WHERE {} \
             ON CONFLICT (webhook_id, sequence) DO NOTHING",
            replayable(&conditions)
        );
        let numbers = [piece.first, piece.last, piece.day, now];
        let queued = match run(&mut tx, insert, webhook_id, &numbers, &conditions).await {
            Ok(queued) => queued,
            // The day was dropped since it was counted.
            Err(error) if is_missing_table(&error) => return Ok(0),
            Err(error) => return Err(error.into()),
        };
        let conditions = Conditions::of(selection, 4);
        let update = format!(
            "UPDATE {table} SET state = 'waiting', finished_at = NULL WHERE {}",
            replayable(&conditions)
        );
        run(&mut tx, update, webhook_id, &numbers[..2], &conditions).await?;
        tx.commit().await?;
        Ok(i64::try_from(queued).unwrap_or(i64::MAX))
    }
}

/// Runs a statement, which must hold no text from outside, and returns how many rows it changed.
async fn run(
    tx: &mut Tx,
    sql: String,
    webhook_id: &str,
    numbers: &[i64],
    conditions: &Conditions,
) -> Result<u64, sqlx::Error> {
    on_tx!(tx, connection => {
        let mut query = sqlx::query(AssertSqlSafe(sql)).persistent(false).bind(webhook_id);
        for number in numbers {
            query = query.bind(*number);
        }
        let done = bind_conditions!(query, conditions).execute(connection).await;
        done.map(|done| done.rows_affected())
    })
}

fn selected(conditions: &Conditions) -> String {
    format!(
        "webhook_id = $1 AND sequence >= $2 AND sequence <= $3{}",
        conditions.sql
    )
}

fn replayable(conditions: &Conditions) -> String {
    format!("{} AND state <> 'waiting'", selected(conditions))
}
