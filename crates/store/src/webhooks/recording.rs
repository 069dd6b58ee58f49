//! Records events: decides which of them receivers have to be told, and writes the deliveries, in one transaction.
//!
//! A transaction first locks the row of the app, then the rows of its webhooks in the order of their ids, and only then
//! writes deliveries. So sequence numbers of a webhook are committed in their order, and nodes never wait for each other
//! in a circle.

use std::collections::BTreeMap;

use sqlx::AssertSqlSafe;

use super::announced::{StateChange, judge};
use super::days::{day_of, deliveries_table};
use super::log::DeliveryState;
use crate::database::Store;
use crate::dialect::{Tx, execute, fetch_optional, on_tx, value_rows};
use crate::error::StoreError;
use crate::row::from_row;

const LOCK_APP: &str = "UPDATE webhook_apps SET app_id = app_id WHERE app_id = $1 RETURNING app_id";
const POSITION: &str =
    "SELECT last_sequence, last_created_at, segment FROM webhook_health WHERE webhook_id = $1";
const MOVE_POSITION: &str = "UPDATE webhook_health SET last_sequence = $2, last_created_at = $3, segment = $4, \
                                    next_due = CASE WHEN $5 AND (next_due IS NULL OR next_due > $3) \
                                                    THEN $3 ELSE next_due END \
                             WHERE webhook_id = $1";
const GROW_SEGMENT: &str = "INSERT INTO webhook_segments (webhook_id, first_sequence, day, deliveries, bytes) \
                            VALUES ($1, $2, $3, $4, $5) \
                            ON CONFLICT (webhook_id, first_sequence) DO UPDATE SET \
                            deliveries = webhook_segments.deliveries + excluded.deliveries, \
                            bytes = webhook_segments.bytes + excluded.bytes";

/// Rows of one statement, which both databases limit by its values.
const ROWS_PER_STATEMENT: usize = 500;
/// Bytes of events of one statement.
const BYTES_PER_STATEMENT: usize = 4 << 20;
/// By how much the clock of a node may be behind that of the node that recorded before, in milliseconds: up to that, a
/// webhook's deliveries are in the order of their times.
pub(super) const CLOCK_TOLERANCE: i64 = 60_000;
/// About what a row takes beside its texts, in bytes.
pub(super) const ROW_BYTES: usize = 150;

/// A delivery to record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDelivery {
    /// The webhook.
    pub webhook_id: String,
    /// Deliveries of a lane are sent one after the other.
    pub lane: i64,
    /// Names of its events, each once, with spaces between.
    pub names: String,
    /// The channel, if all its events are of one.
    pub channel: Option<String>,
    /// Its events, a JSON list.
    pub events: String,
    /// How many events there are.
    pub count: i64,
    /// Whether it is only kept until the receiver asks for it, because the webhook has no URL.
    pub is_kept: bool,
}

impl NewDelivery {
    fn bytes(&self) -> usize {
        let channel = self.channel.as_ref().map_or(0, String::len);
        ROW_BYTES + self.names.len() + channel + self.events.len()
    }
}

/// What became of changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recorded {
    /// How many deliveries were recorded.
    pub deliveries: usize,
    /// Indexes of the changes that a newer read of the log of transitions has overtaken. They were not recorded, and
    /// must not be settled: if they are still in the log, they are read again.
    pub stale: Vec<usize>,
}

struct Position {
    last_sequence: i64,
    last_created_at: i64,
    segment: i64,
}

from_row!(row => Position { last_sequence, last_created_at, segment });

/// A delivery with its place.
struct Placed<'a> {
    sequence: i64,
    created_at: i64,
    delivery: &'a NewDelivery,
}

impl Store {
    /// Records events of an app in one transaction. `changes` were read from the log of transitions at `stamp`, in
    /// microseconds of its clock; `make` is given for each of them whether receivers have to be told, and returns the
    /// deliveries, with those for other events of the app. They get the next sequence numbers of their webhooks in the
    /// order in which they are returned. Deliveries for a webhook that was deleted are left out.
    ///
    /// # Errors
    ///
    /// Returns the database's error. Nothing was recorded then, except perhaps after [`StoreError::Uncertain`]; the same
    /// changes may be recorded again.
    pub async fn record_webhook_events(
        &self,
        app_id: &str,
        stamp: i64,
        changes: &[StateChange],
        now: i64,
        make: impl FnOnce(&[bool]) -> Vec<NewDelivery> + Send,
    ) -> Result<Recorded, StoreError> {
        self.ensure_webhook_day(now).await?;
        let recorded = self.record_in_day(app_id, stamp, changes, now, make).await;
        if recorded.is_err() {
            // The day's tables may have been dropped, if this node's clock was ahead.
            self.webhook_day.forget();
        }
        recorded
    }

    async fn record_in_day(
        &self,
        app_id: &str,
        stamp: i64,
        changes: &[StateChange],
        now: i64,
        make: impl FnOnce(&[bool]) -> Vec<NewDelivery> + Send,
    ) -> Result<Recorded, StoreError> {
        let mut tx = self.db.begin().await?;
        if fetch_optional!((String,), &mut tx, LOCK_APP, app_id)?.is_none() {
            return Ok(Recorded::default());
        }
        let mut judgement = judge(&mut tx, app_id, stamp, changes).await?;
        let deliveries = make(&judgement.is_news);
        let stale = std::mem::take(&mut judgement.stale);
        if judgement.changes_nothing() && deliveries.is_empty() {
            return Ok(Recorded {
                deliveries: 0,
                stale,
            });
        }
        judgement.write(&mut tx, app_id).await?;
        let deliveries = append(&mut tx, &deliveries, now).await?;
        tx.commit().await?;
        Ok(Recorded { deliveries, stale })
    }
}

/// Appends deliveries to those of their webhooks, and returns how many.
async fn append(tx: &mut Tx, deliveries: &[NewDelivery], now: i64) -> Result<usize, StoreError> {
    let mut by_webhook: BTreeMap<&str, Vec<&NewDelivery>> = BTreeMap::new();
    for delivery in deliveries {
        let of_webhook = by_webhook.entry(&delivery.webhook_id).or_default();
        of_webhook.push(delivery);
    }
    let mut by_day: BTreeMap<i64, Vec<Placed<'_>>> = BTreeMap::new();
    for (webhook_id, deliveries) in by_webhook {
        if let Some(first) = move_position(tx, webhook_id, &deliveries, now).await? {
            let placed = deliveries.into_iter().zip(first.sequence..);
            let placed = placed.map(|(delivery, sequence)| Placed {
                sequence,
                created_at: first.created_at,
                delivery,
            });
            by_day.entry(first.day).or_default().extend(placed);
        }
    }
    for (day, placed) in &by_day {
        let mut rest = placed.as_slice();
        while !rest.is_empty() {
            let (piece, later) = rest.split_at(piece_length(rest));
            insert_deliveries(tx, *day, piece).await?;
            rest = later;
        }
    }
    for (day, placed) in &by_day {
        let waiting: Vec<_> = placed.iter().filter(|one| !one.delivery.is_kept).collect();
        for piece in waiting.chunks(ROWS_PER_STATEMENT) {
            enqueue(tx, *day, piece).await?;
        }
    }
    Ok(by_day.values().map(Vec::len).sum())
}

/// Where the first of some deliveries goes.
struct FirstPlace {
    sequence: i64,
    created_at: i64,
    day: i64,
}

/// Takes the sequence numbers for a webhook's deliveries. Returns `None` if the webhook was deleted.
async fn move_position(
    tx: &mut Tx,
    webhook_id: &str,
    deliveries: &[&NewDelivery],
    now: i64,
) -> Result<Option<FirstPlace>, StoreError> {
    // Only this function changes these columns, under the lock on the app.
    let Some(position) = fetch_optional!(Position, tx, POSITION, webhook_id)? else {
        return Ok(None);
    };
    let Position {
        last_sequence,
        last_created_at,
        segment,
    } = position;
    let sequence = last_sequence + 1;
    // A clock that was far ahead is not followed.
    let created_at = match last_created_at > now && last_created_at <= now + CLOCK_TOLERANCE {
        true => last_created_at,
        false => now,
    };
    let day = day_of(created_at);
    let segment = match segment > 0 && day_of(last_created_at) == day {
        true => segment,
        false => sequence,
    };
    let count = i64::try_from(deliveries.len()).unwrap_or(i64::MAX);
    let is_waiting = deliveries.iter().any(|delivery| !delivery.is_kept);
    let moved = execute!(
        tx,
        MOVE_POSITION,
        webhook_id,
        last_sequence + count,
        created_at,
        segment,
        is_waiting,
    )?;
    if moved == 0 {
        return Ok(None);
    }
    let bytes: usize = deliveries.iter().map(|delivery| delivery.bytes()).sum();
    let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
    execute!(tx, GROW_SEGMENT, webhook_id, segment, day, count, bytes)?;
    Ok(Some(FirstPlace {
        sequence,
        created_at,
        day,
    }))
}

/// Returns how many rows, at least one, the next statement writes.
fn piece_length(placed: &[Placed<'_>]) -> usize {
    let mut bytes = 0;
    let fits = |one: &&Placed<'_>| {
        bytes += one.delivery.bytes();
        bytes <= BYTES_PER_STATEMENT
    };
    let count = placed
        .iter()
        .take(ROWS_PER_STATEMENT)
        .take_while(fits)
        .count();
    count.max(1)
}

async fn insert_deliveries(tx: &mut Tx, day: i64, placed: &[Placed<'_>]) -> Result<(), StoreError> {
    let sql = format!(
        "INSERT INTO {} (webhook_id, sequence, created_at, lane, state, attempts, event_count, size, names, channel, events) \
         VALUES {}",
        deliveries_table(day),
        value_rows(placed.len(), 11, 1)
    );
    let sql = tx.in_order(sql);
    on_tx!(tx, connection => {
        let mut query = sqlx::query(AssertSqlSafe(sql)).persistent(false);
        for Placed { sequence, created_at, delivery } in placed {
            let state = match delivery.is_kept {
                true => DeliveryState::Kept,
                false => DeliveryState::Waiting,
            };
            query = query.bind(&delivery.webhook_id).bind(*sequence).bind(*created_at);
            query = query.bind(delivery.lane).bind(state.as_str()).bind(0_i64).bind(delivery.count);
            query = query.bind(size_of_events(delivery)).bind(&delivery.names);
            query = query.bind(&delivery.channel).bind(&delivery.events);
        }
        query.execute(connection).await.map(drop)
    })?;
    Ok(())
}

async fn enqueue(tx: &mut Tx, day: i64, placed: &[&Placed<'_>]) -> Result<(), StoreError> {
    let sql = format!(
        "INSERT INTO webhook_queue (webhook_id, sequence, day, lane, size, queued_at, is_replay, attempts, due) VALUES {}",
        value_rows(placed.len(), 9, 1)
    );
    let sql = tx.in_order(sql);
    on_tx!(tx, connection => {
        let mut query = sqlx::query(AssertSqlSafe(sql)).persistent(false);
        for Placed { sequence, created_at, delivery } in placed {
            query = query.bind(&delivery.webhook_id).bind(*sequence).bind(day).bind(delivery.lane);
            query = query.bind(size_of_events(delivery)).bind(*created_at);
            query = query.bind(false).bind(0_i64).bind(*created_at);
        }
        query.execute(connection).await.map(drop)
    })?;
    Ok(())
}

fn size_of_events(delivery: &NewDelivery) -> i64 {
    i64::try_from(delivery.events.len()).unwrap_or(i64::MAX)
}
