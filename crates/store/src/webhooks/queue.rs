//! What waits to be sent. One node at a time sends for a webhook: it holds a lease on the webhook, so that the order of
//! its deliveries is plain.

use sqlx::AssertSqlSafe;

use super::days::{attempts_table, deliveries_table};
use super::log::DeliveryState;
use super::recording::ROW_BYTES;
use crate::database::Store;
use crate::dialect::{Tx, execute, execute_alone, on_db, on_tx, value_rows};
use crate::error::StoreError;
use crate::row::from_row;

/// Webhooks that a node holds, and those that it could take.
const CANDIDATES: &str = "SELECT webhook_id, CASE WHEN leased_by = $1 THEN leased_until END AS until FROM webhook_health \
                          WHERE leased_by = $1 \
                             OR (next_due <= $2 AND (held_until IS NULL OR held_until <= $2) \
                                 AND (leased_by IS NULL OR leased_until <= $3)) \
                          ORDER BY CASE WHEN leased_by = $1 THEN 0 ELSE 1 END, next_due, webhook_id LIMIT $4";
const LEASE: &str = "UPDATE webhook_health SET leased_by = $2, leased_until = $3 \
                     WHERE webhook_id = $1 AND (leased_by IS NULL OR leased_by = $2 OR leased_until <= $4)";
const RELEASE: &str = "UPDATE webhook_health SET leased_by = NULL, leased_until = NULL \
                       WHERE webhook_id = $1 AND leased_by = $2";
/// Webhooks that others hold are theirs to look after.
const NEXT_DUE: &str = "SELECT MIN(CASE WHEN held_until > next_due THEN held_until ELSE next_due END) \
                        FROM webhook_health WHERE leased_by IS NULL OR leased_by = $1 OR leased_until <= $2";
const WAITING: &str = "SELECT q.sequence, q.day, q.lane, q.size, q.queued_at, q.is_replay, q.attempts AS tries, q.due \
                       FROM webhook_queue q JOIN webhook_health h ON h.webhook_id = q.webhook_id \
                       WHERE q.webhook_id = $1 AND h.leased_by = $2 AND q.sequence > $3 \
                         AND (q.is_replay OR (NOT $4 AND ($5 >> CAST(q.lane AS INTEGER)) & 1 = 1)) \
                       ORDER BY q.sequence LIMIT $6";
/// First statement of a transaction of the node that holds the lease.
const SET_HEALTH: &str = "UPDATE webhook_health SET failures = $3, failing_since = $4, last_success_at = $5, \
                                 last_failure_at = $6, held_until = $7 \
                          WHERE webhook_id = $1 AND leased_by = $2";
const SET_NEXT_DUE: &str = "UPDATE webhook_health SET next_due = \
                            (SELECT MIN(due) FROM webhook_queue WHERE webhook_id = $1) WHERE webhook_id = $1";
const GROW_DAY: &str =
    "UPDATE webhook_segments SET bytes = bytes + $3 WHERE webhook_id = $1 AND day = $2";
const HEALTH: &str = "SELECT last_sequence, next_due, leased_by, failures, failing_since, last_success_at, \
                             last_failure_at, held_until FROM webhook_health WHERE webhook_id = $1";

/// Rows of one statement, which both databases limit by its values.
pub(super) const ROWS_PER_STATEMENT: usize = 500;
/// Bytes of events that are read at once, unless one delivery has more.
pub(super) const MAX_BYTES: i64 = 4 << 20;
/// Bytes of a receiver's answer that are kept, and of an error.
const MAX_ANSWER: usize = 4 << 10;

/// A delivery that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingDelivery {
    /// Its sequence number.
    pub sequence: i64,
    /// When it was recorded, Unix time in milliseconds.
    pub created_at: i64,
    /// Deliveries of a lane are sent one after the other.
    pub lane: i64,
    /// Names of its events, with spaces between.
    pub names: String,
    /// The channel, if all its events are of one.
    pub channel: Option<String>,
    /// Its events, a JSON list.
    pub events: String,
    /// How many events there are.
    pub count: i64,
    /// Attempts so far.
    pub attempts: i64,
    /// Attempts since it was queued: fewer than `attempts` on a replay.
    pub tries: i64,
    /// When it was queued, Unix time in milliseconds: recorded, or replayed.
    pub queued_at: i64,
    /// Whether it is a replay.
    pub is_replay: bool,
    /// When the next attempt is due, Unix time in milliseconds.
    pub due: i64,
}

struct QueuedRow {
    sequence: i64,
    day: i64,
    lane: i64,
    size: i64,
    queued_at: i64,
    is_replay: bool,
    tries: i64,
    due: i64,
}

from_row!(row => QueuedRow { sequence, day, lane, size, queued_at, is_replay, tries, due });

struct BodyRow {
    sequence: i64,
    created_at: i64,
    attempts: i64,
    event_count: i64,
    names: String,
    channel: Option<String>,
    events: String,
}

from_row!(row => BodyRow { sequence, created_at, attempts, event_count, names, channel, events });

/// An attempt to send a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryAttempt {
    /// Its number, from 1 on: one more than [`WaitingDelivery::attempts`].
    pub attempt: i64,
    /// When it began, Unix time in milliseconds.
    pub at: i64,
    /// How long it took.
    pub milliseconds: i64,
    /// Status of the answer, if there was one.
    pub status: Option<i64>,
    /// Why it failed, in words.
    pub error: Option<String>,
    /// Beginning of the answer's body.
    pub answer: Option<String>,
    /// The node that made it.
    pub node: String,
    /// Whether it was one of a replay.
    pub is_replay: bool,
}

from_row!(row => DeliveryAttempt {
    attempt, at, milliseconds, status, error, answer, node, is_replay,
});

/// What becomes of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextStep {
    /// The receiver has it.
    Delivered,
    /// It is given up.
    Failed,
    /// The next attempt is due at this Unix time in milliseconds.
    Retry(i64),
}

/// The outcome for a delivery that waited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Its sequence number.
    pub sequence: i64,
    /// The attempt, or `None` if it is given up or put off without one.
    pub attempt: Option<DeliveryAttempt>,
    /// What becomes of it.
    pub next: NextStep,
    /// When that was decided, Unix time in milliseconds.
    pub at: i64,
}

/// How a webhook's receiver has answered so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EndpointHealth {
    /// Failures since the last success.
    pub failures: i64,
    /// When the first of them was, Unix time in milliseconds.
    pub failing_since: Option<i64>,
    /// Unix time in milliseconds.
    pub last_success_at: Option<i64>,
    /// Unix time in milliseconds.
    pub last_failure_at: Option<i64>,
    /// No node takes the webhook up before this Unix time in milliseconds, whatever is due.
    pub held_until: Option<i64>,
}

/// How far a webhook is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookHealth {
    /// Sequence number of its last delivery, 0 before the first.
    pub last_sequence: i64,
    /// When the next attempt is due, if any delivery waits, Unix time in milliseconds.
    pub next_due: Option<i64>,
    /// The node that sends, or was the last to.
    pub leased_by: Option<String>,
    /// How its receiver has answered.
    pub endpoint: EndpointHealth,
}

from_row!(row => WebhookHealth {
    last_sequence,
    next_due,
    leased_by,
    endpoint: EndpointHealth {
        failures: sqlx::Row::try_get(row, "failures")?,
        failing_since: sqlx::Row::try_get(row, "failing_since")?,
        last_success_at: sqlx::Row::try_get(row, "last_success_at")?,
        last_failure_at: sqlx::Row::try_get(row, "last_failure_at")?,
        held_until: sqlx::Row::try_get(row, "held_until")?,
    },
});

struct Candidate {
    webhook_id: String,
    until: Option<i64>,
}

from_row!(row => Candidate { webhook_id, until });

impl Store {
    /// Leases webhooks of which something is due at `now` and that no other node holds, and renews the leases that the
    /// node has. Returns all that it holds then, at most `limit`. Leases are measured by the database's clock, so that
    /// those of nodes don't matter. `node` must name the process: a node that starts again has another name.
    ///
    /// # Errors
    ///
    /// Returns the database's error.
    pub async fn lease_webhooks(
        &self,
        node: &str,
        now: i64,
        lease_ms: i64,
        limit: i64,
    ) -> Result<Vec<String>, StoreError> {
        let clock = self.clock().await?;
        let mut candidates: Vec<Candidate> = on_db!(&self.db, pool => sqlx::query_as(CANDIDATES)
            .bind(node)
            .bind(now)
            .bind(clock)
            .bind(limit)
            .fetch_all(pool)
            .await)?;
        // In the order in which whoever records locks them.
        candidates.sort_by(|a, b| a.webhook_id.cmp(&b.webhook_id));
        // A lease that was just renewed is good for a while, so that asking often costs no writes.
        let is_fresh = |until: Option<i64>| until.is_some_and(|until| until - clock > lease_ms / 2);
        let (held, to_lease): (Vec<_>, Vec<_>) = candidates
            .into_iter()
            .partition(|candidate| is_fresh(candidate.until));
        let mut leased: Vec<String> = held.into_iter().map(|held| held.webhook_id).collect();
        if to_lease.is_empty() {
            return Ok(leased);
        }
        let mut tx = self.db.begin().await?;
        for Candidate { webhook_id, .. } in to_lease {
            let until = clock.saturating_add(lease_ms);
            if execute!(&mut tx, LEASE, &webhook_id, node, until, clock)? > 0 {
                leased.push(webhook_id);
            }
        }
        tx.commit().await?;
        Ok(leased)
    }

    /// Ends leases, so that other nodes can take the webhooks up at once.
    ///
    /// # Errors
    ///
    /// Returns the database's error.
    pub async fn release_webhooks(
        &self,
        node: &str,
        webhook_ids: &[String],
    ) -> Result<(), StoreError> {
        for webhook_id in webhook_ids {
            execute_alone!(&self.db, RELEASE, webhook_id, node)?;
        }
        Ok(())
    }

    /// Returns when a webhook that the node holds, or could lease, is due next, Unix time in milliseconds.
    ///
    /// # Errors
    ///
    /// Returns the database's error.
    pub async fn next_delivery_due(&self, node: &str) -> Result<Option<i64>, StoreError> {
        let clock = self.clock().await?;
        Ok(
            on_db!(&self.db, pool => sqlx::query_scalar(NEXT_DUE).bind(node).bind(clock).fetch_one(pool).await)?,
        )
    }

    /// Returns how far a webhook is, or `None` if there is no such webhook.
    ///
    /// # Errors
    ///
    /// Returns the database's error.
    pub async fn webhook_health(
        &self,
        webhook_id: &str,
    ) -> Result<Option<WebhookHealth>, StoreError> {
        self.find(HEALTH, webhook_id).await
    }

    /// Returns what waits for a webhook that the node holds: those after the sequence number `after`, oldest first,
    /// whenever they are due, at most `limit` and at most 4 MiB of events. With `only_replays`, what was recorded and
    /// never sent is left out. Otherwise `lanes` has a bit for each lane of which deliveries are returned; replays are
    /// returned of all.
    ///
    /// # Errors
    ///
    /// Returns the database's error.
    pub async fn waiting_deliveries(
        &self,
        node: &str,
        webhook_id: &str,
        after: i64,
        only_replays: bool,
        lanes: i64,
        limit: i64,
    ) -> Result<Vec<WaitingDelivery>, StoreError> {
        let mut queued: Vec<QueuedRow> = on_db!(&self.db, pool => sqlx::query_as(WAITING)
            .bind(webhook_id)
            .bind(node)
            .bind(after)
            .bind(only_replays)
            .bind(lanes)
            .bind(limit)
            .fetch_all(pool)
            .await)?;
        let mut bytes = 0;
        let mut fits = |row: &QueuedRow| {
            bytes += row.size;
            bytes <= MAX_BYTES
        };
        let count = queued.iter().take_while(|row| fits(row)).count().max(1);
        queued.truncate(count);
        let mut waiting = Vec::with_capacity(queued.len());
        // In the order of their sequence numbers, those of a day are together.
        for rows in queued.chunk_by(|one, next| one.day == next.day) {
            for rows in rows.chunks(ROWS_PER_STATEMENT) {
                waiting.extend(self.bodies_of(webhook_id, rows).await?);
            }
        }
        Ok(waiting)
    }

    async fn bodies_of(
        &self,
        webhook_id: &str,
        rows: &[QueuedRow],
    ) -> Result<Vec<WaitingDelivery>, StoreError> {
        let Some(first) = rows.first() else {
            return Ok(Vec::new());
        };
        let sql = format!(
            "SELECT sequence, created_at, attempts, event_count, names, channel, events FROM {} \
             WHERE webhook_id = $1 AND sequence IN {} ORDER BY sequence",
            deliveries_table(first.day),
            value_rows(1, rows.len(), 2)
        );
        let found: Result<Vec<BodyRow>, sqlx::Error> = on_db!(&self.db, pool => {
            let mut query = sqlx::query_as(AssertSqlSafe(sql)).persistent(false).bind(webhook_id);
            for row in rows {
                query = query.bind(row.sequence);
            }
            query.fetch_all(pool).await
        });
        let bodies = match found {
            Ok(bodies) => bodies,
            // The day was dropped since the queue was read.
            Err(error) if is_missing_table(&error) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        let waiting = bodies.into_iter().filter_map(|body| {
            let row = rows.iter().find(|row| row.sequence == body.sequence)?;
            Some(WaitingDelivery {
                sequence: body.sequence,
                created_at: body.created_at,
                lane: row.lane,
                names: body.names,
                channel: body.channel,
                events: body.events,
                count: body.event_count,
                attempts: body.attempts,
                tries: row.tries,
                queued_at: row.queued_at,
                is_replay: row.is_replay,
                due: row.due,
            })
        });
        Ok(waiting.collect())
    }

    /// Writes the outcomes of deliveries and the health of their webhook's receiver, in one transaction. Returns `false`,
    /// and writes nothing, if the node doesn't hold the webhook any more. Outcomes of what doesn't wait any more are left
    /// out, so the same ones may be written again.
    ///
    /// # Errors
    ///
    /// Returns the database's error. Nothing was written then, except perhaps after [`StoreError::Uncertain`].
    pub async fn settle_deliveries(
        &self,
        node: &str,
        webhook_id: &str,
        outcomes: &[Outcome],
        health: &EndpointHealth,
    ) -> Result<bool, StoreError> {
        let settled = self.settle_once(node, webhook_id, outcomes, health).await;
        match settled {
            // A day was dropped meanwhile, and what waited of it is gone.
            Err(StoreError::Database(error)) if is_missing_table(&error) => {
                self.settle_once(node, webhook_id, outcomes, health).await
            }
            settled => settled,
        }
    }

    async fn settle_once(
        &self,
        node: &str,
        webhook_id: &str,
        outcomes: &[Outcome],
        health: &EndpointHealth,
    ) -> Result<bool, StoreError> {
        let mut tx = self.db.begin().await?;
        let is_ours = execute!(
            &mut tx,
            SET_HEALTH,
            webhook_id,
            node,
            health.failures,
            health.failing_since,
            health.last_success_at,
            health.last_failure_at,
            health.held_until,
        )? > 0;
        if !is_ours {
            return Ok(false);
        }
        for outcomes in outcomes.chunks(ROWS_PER_STATEMENT) {
            settle(&mut tx, webhook_id, outcomes).await?;
        }
        // Last, when all rows are as they stay. Whoever records waits for this transaction.
        execute!(&mut tx, SET_NEXT_DUE, webhook_id)?;
        tx.commit().await?;
        Ok(true)
    }
}

/// Returns whether a statement failed because a table isn't there.
pub(super) fn is_missing_table(error: &sqlx::Error) -> bool {
    /// Postgres' `undefined_table`.
    const UNDEFINED_TABLE: &str = "42P01";
    error.as_database_error().is_some_and(|cause| {
        cause.code().as_deref() == Some(UNDEFINED_TABLE)
            || cause.message().starts_with("no such table")
    })
}

async fn settle(tx: &mut Tx, webhook_id: &str, outcomes: &[Outcome]) -> Result<(), StoreError> {
    let sequences: Vec<i64> = outcomes.iter().map(|outcome| outcome.sequence).collect();
    let sql = format!(
        "SELECT sequence, day FROM webhook_queue WHERE webhook_id = $1 AND sequence IN {} ORDER BY day, sequence",
        value_rows(1, sequences.len(), 2)
    );
    let sql = tx.in_order(sql);
    let queued: Vec<(i64, i64)> = on_tx!(tx, connection => {
        let mut query = sqlx::query_as(AssertSqlSafe(sql)).persistent(false).bind(webhook_id);
        for sequence in sequences {
            query = query.bind(sequence);
        }
        query.fetch_all(connection).await
    })?;
    let mut settled = Vec::with_capacity(queued.len());
    for of_day in queued.chunk_by(|one, next| one.1 == next.1) {
        let day = of_day[0].1;
        let is_of_day = |outcome: &&Outcome| of_day.iter().any(|(one, _)| *one == outcome.sequence);
        let outcomes: Vec<&Outcome> = outcomes.iter().filter(is_of_day).collect();
        write_outcomes(tx, webhook_id, day, &outcomes).await?;
        write_attempts(tx, webhook_id, day, &outcomes).await?;
        settled.extend(outcomes);
    }
    let (retried, finished): (Vec<&Outcome>, Vec<&Outcome>) = settled
        .into_iter()
        .partition(|outcome| matches!(outcome.next, NextStep::Retry(_)));
    if !finished.is_empty() {
        dequeue(tx, webhook_id, &finished).await?;
    }
    if !retried.is_empty() {
        put_off(tx, webhook_id, &retried).await?;
    }
    Ok(())
}

async fn write_outcomes(
    tx: &mut Tx,
    webhook_id: &str,
    day: i64,
    outcomes: &[&Outcome],
) -> Result<(), StoreError> {
    let table = deliveries_table(day);
    let sql = format!(
        "UPDATE {table} SET state = v.column2, attempts = COALESCE(v.column3, {table}.attempts), finished_at = v.column4 \
         FROM (VALUES {}) AS v WHERE {table}.webhook_id = ${} AND {table}.sequence = v.column1",
        value_rows(outcomes.len(), 4, 1),
        4 * outcomes.len() + 1
    );
    let sql = tx.in_order(sql);
    on_tx!(tx, connection => {
        let mut query = sqlx::query(AssertSqlSafe(sql)).persistent(false);
        for outcome in outcomes {
            let (state, finished_at) = match outcome.next {
                NextStep::Delivered => (DeliveryState::Delivered, Some(outcome.at)),
                NextStep::Failed => (DeliveryState::Failed, Some(outcome.at)),
                NextStep::Retry(_) => (DeliveryState::Waiting, None),
            };
            let attempts = outcome.attempt.as_ref().map(|attempt| attempt.attempt);
            query = query.bind(outcome.sequence).bind(state.as_str()).bind(attempts).bind(finished_at);
        }
        query.bind(webhook_id).execute(connection).await.map(drop)
    })?;
    Ok(())
}

async fn write_attempts(
    tx: &mut Tx,
    webhook_id: &str,
    day: i64,
    outcomes: &[&Outcome],
) -> Result<(), StoreError> {
    let attempts: Vec<(i64, &DeliveryAttempt)> = outcomes
        .iter()
        .filter_map(|outcome| Some((outcome.sequence, outcome.attempt.as_ref()?)))
        .collect();
    if attempts.is_empty() {
        return Ok(());
    }
    let sql = format!(
        "INSERT INTO {} (webhook_id, sequence, attempt, at, milliseconds, status, error, answer, node, is_replay) VALUES {} \
         ON CONFLICT (webhook_id, sequence, attempt) DO NOTHING",
        attempts_table(day),
        value_rows(attempts.len(), 10, 1)
    );
    let sql = tx.in_order(sql);
    let mut bytes = 0;
    on_tx!(tx, connection => {
        let mut query = sqlx::query(AssertSqlSafe(sql)).persistent(false);
        for (sequence, attempt) in attempts {
            let (error, answer) = (storable(attempt.error.as_deref()), storable(attempt.answer.as_deref()));
            bytes += ROW_BYTES + error.as_ref().map_or(0, String::len) + answer.as_ref().map_or(0, String::len);
            query = query.bind(webhook_id).bind(sequence).bind(attempt.attempt).bind(attempt.at);
            query = query.bind(attempt.milliseconds).bind(attempt.status).bind(error).bind(answer);
            query = query.bind(&attempt.node).bind(attempt.is_replay);
        }
        query.execute(connection).await.map(drop)
    })?;
    let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
    execute!(tx, GROW_DAY, webhook_id, day, bytes)?;
    Ok(())
}

async fn dequeue(tx: &mut Tx, webhook_id: &str, finished: &[&Outcome]) -> Result<(), StoreError> {
    let sql = format!(
        "DELETE FROM webhook_queue WHERE webhook_id = $1 AND sequence IN {}",
        value_rows(1, finished.len(), 2)
    );
    let sql = tx.in_order(sql);
    on_tx!(tx, connection => {
        let mut query = sqlx::query(AssertSqlSafe(sql)).persistent(false).bind(webhook_id);
        for outcome in finished {
            query = query.bind(outcome.sequence);
        }
        query.execute(connection).await.map(drop)
    })?;
    Ok(())
}

async fn put_off(tx: &mut Tx, webhook_id: &str, retried: &[&Outcome]) -> Result<(), StoreError> {
    let sql = format!(
        "UPDATE webhook_queue SET due = v.column2, attempts = webhook_queue.attempts + v.column3 \
         FROM (VALUES {}) AS v WHERE webhook_queue.webhook_id = ${} AND webhook_queue.sequence = v.column1",
        value_rows(retried.len(), 3, 1),
        3 * retried.len() + 1
    );
    let sql = tx.in_order(sql);
    on_tx!(tx, connection => {
        let mut query = sqlx::query(AssertSqlSafe(sql)).persistent(false);
        for outcome in retried {
            let due = match outcome.next {
                NextStep::Retry(due) => due,
                NextStep::Delivered | NextStep::Failed => outcome.at,
            };
            query = query.bind(outcome.sequence).bind(due).bind(i64::from(outcome.attempt.is_some()));
        }
        query.bind(webhook_id).execute(connection).await.map(drop)
    })?;
    Ok(())
}

/// Returns the beginning of a text from outside, without the one character that Postgres doesn't store.
fn storable(text: Option<&str>) -> Option<String> {
    let text = text?;
    let end = text.floor_char_boundary(MAX_ANSWER);
    Some(text[..end].replace('\0', "\u{fffd}"))
}
