//! The tables of a day: what was recorded in it, and the attempts to send that. They are made when a node first needs
//! them and dropped whole, because deleting millions of rows would take as long as it took to write them.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use sqlx::AssertSqlSafe;

use crate::actor::Actor;
use crate::database::{Store, now};
use crate::dialect::{execute, execute_alone, on_db, on_tx};
use crate::error::StoreError;
use crate::row::from_row;
use crate::usage::UsageStep;

const INSERT_DAY: &str = "INSERT INTO webhook_days (day) VALUES ($1) ON CONFLICT (day) DO NOTHING";
const DAYS_BEFORE: &str = "SELECT day FROM webhook_days WHERE day < $1 ORDER BY day";
const DELETE_DAY: &str = "DELETE FROM webhook_days WHERE day = $1";
const DELETE_SEGMENTS: &str = "DELETE FROM webhook_segments WHERE day = $1";
const DELETE_QUEUED: &str = "DELETE FROM webhook_queue WHERE (webhook_id, sequence) IN \
                             (SELECT webhook_id, sequence FROM webhook_queue WHERE day = $1 LIMIT $2)";
const SIZES: &str = "SELECT d.day, CAST(COALESCE(SUM(s.deliveries), 0) AS BIGINT) AS deliveries, \
                            CAST(COALESCE(SUM(s.bytes), 0) AS BIGINT) AS bytes \
                     FROM webhook_days d LEFT JOIN webhook_segments s ON s.day = d.day \
                     GROUP BY d.day ORDER BY d.day";

/// Rows that one statement deletes, so that SQLite's other writers get their turn.
pub(super) const DELETED_AT_ONCE: i64 = 5_000;

/// A day of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WebhookDay {
    /// Its beginning, Unix time in milliseconds.
    pub day: i64,
    /// Deliveries of all webhooks.
    pub deliveries: i64,
    /// Approximate bytes of deliveries and attempts.
    pub bytes: i64,
}

from_row!(row => WebhookDay { day, deliveries, bytes });

/// Returns the beginning of the day that holds a time.
pub(super) fn day_of(at: i64) -> i64 {
    UsageStep::Day.floor(at)
}

/// Returns the name of the table that holds what was recorded on a day.
pub(super) fn deliveries_table(day: i64) -> String {
    format!("webhook_deliveries_{}", date(day))
}

/// Returns the name of the table that holds the attempts to send what was recorded on a day.
pub(super) fn attempts_table(day: i64) -> String {
    format!("webhook_attempts_{}", date(day))
}

/// Returns a day as `20261128`.
fn date(day: i64) -> String {
    let at = Timestamp::from_millisecond(day).unwrap_or(Timestamp::MAX);
    let date = at.to_zoned(TimeZone::UTC).date();
    format!("{:04}{:02}{:02}", date.year(), date.month(), date.day())
}

impl Store {
    /// Makes the tables of the day that holds a time, unless they are known to be there.
    pub(super) async fn ensure_webhook_day(&self, at: i64) -> Result<(), StoreError> {
        let day = day_of(at);
        if self.webhook_day.is(day) {
            return Ok(());
        }
        let by = Actor::system();
        // Nodes that make the same tables at once come one after the other.
        let mut transaction = self.begin_quietly(&by).await?;
        let tx = &mut transaction.tx;
        for create in creates(day, tx.is_postgres()) {
            on_tx!(tx, connection => sqlx::query(AssertSqlSafe(create.clone())).persistent(false)
                .execute(connection).await.map(drop))?;
        }
        execute!(tx, INSERT_DAY, day)?;
        transaction.commit().await?;
        self.webhook_day.set(day);
        Ok(())
    }

    /// Drops the days of the log that end before a Unix time in milliseconds, with what still waits of them, and returns
    /// how many. Never drops today.
    ///
    /// # Errors
    ///
    /// Returns the database's error, [`StoreError::Late`] if somebody reads a day for too long, for example a backup.
    pub async fn drop_webhook_days(&self, before: i64) -> Result<usize, StoreError> {
        let before = day_of(before.min(now()));
        let days: Vec<i64> = on_db!(&self.db, pool => sqlx::query_scalar(DAYS_BEFORE).bind(before).fetch_all(pool).await)?;
        let mut dropped = 0;
        for day in days {
            dropped += usize::from(self.drop_webhook_day(day).await?);
        }
        Ok(dropped)
    }

    /// Returns whether this call dropped the day.
    async fn drop_webhook_day(&self, day: i64) -> Result<bool, StoreError> {
        while DELETED_AT_ONCE == self.delete_queued(day).await? {}
        let mut tx = self.db.begin().await?;
        // Locks the day's row, so that one node at a time drops it.
        if execute!(&mut tx, DELETE_DAY, day)? == 0 {
            return Ok(false);
        }
        tx.limit_lock_waits().await?;
        for table in [deliveries_table(day), attempts_table(day)] {
            let drop_it = format!("DROP TABLE IF EXISTS {table}");
            on_tx!(&mut tx, connection => sqlx::query(AssertSqlSafe(drop_it)).persistent(false)
                .execute(connection).await.map(drop))?;
        }
        execute!(&mut tx, DELETE_QUEUED, day, i64::MAX)?;
        execute!(&mut tx, DELETE_SEGMENTS, day)?;
        tx.commit().await?;
        self.webhook_day.forget();
        Ok(true)
    }

    async fn delete_queued(&self, day: i64) -> Result<i64, StoreError> {
        let deleted = execute_alone!(&self.db, DELETE_QUEUED, day, DELETED_AT_ONCE)?;
        Ok(i64::try_from(deleted).unwrap_or(i64::MAX))
    }

    /// Returns the days of the log, oldest first, with their sizes.
    ///
    /// # Errors
    ///
    /// Returns the database's error.
    pub async fn webhook_days(&self) -> Result<Vec<WebhookDay>, StoreError> {
        Ok(on_db!(&self.db, pool => sqlx::query_as(SIZES).fetch_all(pool).await)?)
    }
}

/// Returns the statements that make a day's tables. What a list is filtered by comes before the events, which may be
/// long.
fn creates(day: i64, is_postgres: bool) -> [String; 2] {
    // With room in its pages, Postgres writes a delivery's outcome beside it.
    let (id, options) = match is_postgres {
        true => ("TEXT COLLATE \"C\"", "WITH (fillfactor = 80)"),
        false => ("TEXT", "WITHOUT ROWID"),
    };
    let (deliveries, attempts) = (deliveries_table(day), attempts_table(day));
    [
        format!(
            "CREATE TABLE IF NOT EXISTS {deliveries} (webhook_id {id} NOT NULL, sequence BIGINT NOT NULL, \
             created_at BIGINT NOT NULL, lane BIGINT NOT NULL, state TEXT NOT NULL, attempts BIGINT NOT NULL, \
             finished_at BIGINT, event_count BIGINT NOT NULL, size BIGINT NOT NULL, names TEXT NOT NULL, channel TEXT, \
             events TEXT NOT NULL, PRIMARY KEY (webhook_id, sequence)) {options}"
        ),
        format!(
            "CREATE TABLE IF NOT EXISTS {attempts} (webhook_id {id} NOT NULL, sequence BIGINT NOT NULL, \
             attempt BIGINT NOT NULL, at BIGINT NOT NULL, milliseconds BIGINT NOT NULL, status BIGINT, error TEXT, \
             answer TEXT, node TEXT NOT NULL, is_replay BOOLEAN NOT NULL, PRIMARY KEY (webhook_id, sequence, attempt)) {}",
            if is_postgres { "" } else { options }
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::DAY;

    #[test]
    fn a_table_is_named_for_its_day() {
        let leap = day_of(1_709_251_199_999);
        assert_eq!(deliveries_table(leap), "webhook_deliveries_20240229");
        assert_eq!(attempts_table(leap + DAY), "webhook_attempts_20240301");
        assert_eq!(day_of(leap + DAY - 1), leap);
    }
}
