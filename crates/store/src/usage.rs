//! What apps did, by minute, hour and day. Usage is measured and not administered, so nothing here is in the audit log
//! or takes a revision.
//!
//! A node writes the whole values of a minute under its run, so a repeated write changes nothing. A write marks its hour
//! and its day, and [`Store::roll_up_usage`] makes marked hours of minutes and marked days of hours again. Reads take
//! what is marked from the finer table, so they never wait for that.

mod statements;

use std::collections::{BTreeMap, BTreeSet};

use fanfare_protocol::{UserHashKey, UserSketch};
use sqlx::AssertSqlSafe;

use crate::database::Store;
use crate::dialect::{Tx, execute, execute_alone, fetch_optional, on_db};
use crate::error::StoreError;
use crate::row::from_row;
use statements::{Source, ids, totals_by_app, totals_by_time, write_minutes, write_totals};

/// Milliseconds of a minute.
pub const MINUTE: i64 = 60_000;
/// Milliseconds of an hour.
pub const HOUR: i64 = 60 * MINUTE;
/// Milliseconds of a day.
pub const DAY: i64 = 24 * HOUR;

/// Connections are counted so many times a minute, at equal distances.
pub const SAMPLES: usize = 6;

/// How much later than its hour a minute may still be written, in milliseconds. Less than minutes are kept, so that an
/// hour is only made again while all its minutes are there.
const LATEST: i64 = 47 * HOUR;
/// Time after an hour's or a day's end until it is rolled up, in milliseconds. Nodes write a minute's last values soon
/// after its end.
const SETTLED_AFTER: i64 = 2 * MINUTE;

/// Rows of one statement, which both databases limit by its values.
const ROWS_PER_STATEMENT: usize = 500;
/// Rows of one transaction, so that SQLite's other writers get their turn.
const ROWS_PER_TRANSACTION: usize = 5_000;
/// Apps that one transaction rolls up.
const APPS_PER_TRANSACTION: usize = 200;

/// The length of a period of usage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum UsageStep {
    /// A minute, kept for 48 hours.
    Minute,
    /// An hour, kept for 90 days.
    Hour,
    /// A day of UTC, kept for three years.
    Day,
}

impl UsageStep {
    /// All steps, the finest first.
    pub const ALL: [Self; 3] = [Self::Minute, Self::Hour, Self::Day];

    /// Returns its length in milliseconds.
    #[must_use]
    pub fn millis(self) -> i64 {
        match self {
            Self::Minute => MINUTE,
            Self::Hour => HOUR,
            Self::Day => DAY,
        }
    }

    /// Returns how long its values are kept, in milliseconds.
    #[must_use]
    pub fn kept(self) -> i64 {
        match self {
            Self::Minute => 48 * HOUR,
            Self::Hour => 90 * DAY,
            Self::Day => 3 * 366 * DAY,
        }
    }

    /// Returns its name: `minute`, `hour` or `day`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }

    /// Returns the beginning of the period that holds a time.
    #[must_use]
    pub fn floor(self, at: i64) -> i64 {
        at.div_euclid(self.millis()) * self.millis()
    }

    fn table(self) -> &'static str {
        match self {
            Self::Minute => "usage_minutes",
            Self::Hour => "usage_hours",
            Self::Day => "usage_days",
        }
    }
}

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counters of usage, which add up over nodes and time.
        #[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
        pub struct UsageCounts {
            $($(#[$doc])* pub $name: i64,)*
        }

        impl UsageCounts {
            const COLUMNS: &'static [&'static str] = &[$(stringify!($name)),*];

            fn values(&self) -> [i64; Self::COLUMNS.len()] {
                [$(self.$name),*]
            }

            /// Adds other counts.
            pub fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
            }
        }

        from_row!(row => UsageCounts { $($name),* });
    };
}

counts! {
    /// Connections that were opened.
    opened,
    /// Events of backends that were accepted, one for each channel.
    events,
    /// Events of clients that were published.
    client_events,
    /// Events that were queued to subscribers, one for each subscriber.
    deliveries,
    /// Bytes of the data of events of backends.
    published_bytes,
    /// Bytes of messages of clients.
    received_bytes,
    /// Bytes of the frames of deliveries.
    delivered_bytes,
}

/// What an app did on one node in a minute.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct UsageMinute {
    /// The app, or `None` for all apps together.
    pub app: Option<String>,
    /// Beginning of the minute, Unix time in milliseconds.
    pub at: i64,
    /// Its connections at each sixth of the minute.
    pub connections: [i64; SAMPLES],
    /// Its counters.
    pub counts: UsageCounts,
    /// Its users: [`UserSketch::to_bytes`].
    pub users: Option<Vec<u8>>,
    /// What was refused, by kind.
    pub refused: BTreeMap<String, i64>,
}

/// What an app did on all nodes in a period.
#[derive(Debug, Default)]
pub struct UsageTotal {
    /// The app, or `None` for all apps together.
    pub app: Option<String>,
    /// Beginning of the period, or of its first part with usage, Unix time in milliseconds.
    pub at: i64,
    /// Highest number of connections, over all nodes, of those counted every ten seconds.
    pub connections_peak: i64,
    /// Sum of these numbers.
    pub connections_sum: i64,
    /// Counters.
    pub counts: UsageCounts,
    /// Users.
    pub users: UserSketch,
    /// What was refused, by kind.
    pub refused: BTreeMap<String, i64>,
}

impl UsageTotal {
    /// Adds another period of the same app.
    pub fn merge(&mut self, other: &Self) {
        self.at = self.at.min(other.at);
        self.connections_peak = self.connections_peak.max(other.connections_peak);
        self.connections_sum += other.connections_sum;
        self.counts.add(&other.counts);
        self.users.merge(&other.users);
        for (kind, count) in &other.refused {
            *self.refused.entry(kind.clone()).or_default() += count;
        }
    }
}

/// A mark on an hour or a day that was written to.
struct Mark {
    step: String,
    at: i64,
    touched: i64,
}

from_row!(row => Mark { step, at, touched });

/// A range of time in the table that is true for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Piece {
    table: UsageStep,
    from: i64,
    until: i64,
}

const INSTALLATION: &str = "";

const MARKS: &str = "SELECT step, at, touched FROM usage_unrolled WHERE at >= $1 AND at < $2";
/// A day is due once none of its hours is marked, because it is made of them.
const DUE: &str = "SELECT step, at, touched FROM usage_unrolled AS due \
                   WHERE (step = 'hour' AND at <= $1) \
                      OR (step = 'day' AND at <= $2 AND NOT EXISTS ( \
                            SELECT 1 FROM usage_unrolled AS hours WHERE hours.step = 'hour' \
                               AND hours.at >= due.at AND hours.at < due.at + 86400000)) \
                   ORDER BY at LIMIT 1";
const MARK: &str = "INSERT INTO usage_unrolled (step, at, touched) VALUES ($1, $2, 1) \
                    ON CONFLICT (step, at) DO UPDATE SET touched = usage_unrolled.touched + 1";
/// Locks a mark, unless a write came since it was read.
const LOCK_MARK: &str = "UPDATE usage_unrolled SET touched = touched \
                         WHERE step = $1 AND at = $2 AND touched = $3 RETURNING at";
const DELETE_MARK: &str = "DELETE FROM usage_unrolled WHERE step = $1 AND at = $2 AND touched = $3";
/// Keeps what a marked hour or day is made of.
const UNMARKED_BEFORE: &str = "at < $1 AND at < COALESCE((SELECT MIN(at) FROM usage_unrolled), $1)";

impl Store {
    /// Returns the key under which users are hashed for usage. It follows from the master key, so all nodes have the
    /// same, and a stolen database doesn't tell who was there.
    #[must_use]
    pub fn user_hash_key(&self) -> UserHashKey {
        UserHashKey(self.master_key.derive("users of usage"))
    }

    /// Writes what a node counted in some minutes: the whole values so far. `run` names the process and `flush` the
    /// write, so that an earlier write that comes late changes nothing. Returns the number of rows that came too late
    /// to count, two days after their hour.
    ///
    /// # Errors
    ///
    /// Returns the database's error; the same rows may then be written again.
    pub async fn write_usage(
        &self,
        run: &str,
        flush: i64,
        rows: &[UsageMinute],
        now: i64,
    ) -> Result<usize, StoreError> {
        let first = UsageStep::Hour.floor(now - LATEST);
        let in_time: Vec<&UsageMinute> = rows.iter().filter(|row| row.at >= first).collect();
        for rows in in_time.chunks(ROWS_PER_TRANSACTION) {
            let mut tx = self.db.begin().await?;
            for rows in rows.chunks(ROWS_PER_STATEMENT) {
                write_minutes(&mut tx, run, flush, rows).await?;
            }
            // Last, so that nodes which write at once wait for each other only until the commit.
            for step in [UsageStep::Hour, UsageStep::Day] {
                let mut marked: Vec<i64> = rows.iter().map(|row| step.floor(row.at)).collect();
                marked.sort_unstable();
                marked.dedup();
                for at in marked {
                    execute!(&mut tx, MARK, step.as_str(), at)?;
                }
            }
            tx.commit().await?;
        }
        Ok(rows.len() - in_time.len())
    }

    /// Makes the next hour of its minutes, or the next day of its hours, if one has ended and was written to since.
    /// Returns whether there was one. Several nodes may call it at once: a mark's row is locked meanwhile.
    ///
    /// # Errors
    ///
    /// Returns the database's error.
    pub async fn roll_up_usage(&self, now: i64) -> Result<bool, StoreError> {
        let ended = now - SETTLED_AFTER;
        let due: Option<Mark> = on_db!(&self.db, pool => sqlx::query_as(DUE)
            .bind(ended - HOUR)
            .bind(ended - DAY)
            .fetch_optional(pool)
            .await)?;
        let Some(mark) = due else { return Ok(false) };
        let (from, to) = match mark.step.as_str() {
            "hour" => (UsageStep::Minute, UsageStep::Hour),
            _ => (UsageStep::Hour, UsageStep::Day),
        };
        let piece = Piece {
            table: from,
            from: mark.at,
            until: mark.at + to.millis(),
        };
        let ids = ids(&mut Source::Pool(&self.db), piece, None, i64::MAX).await?;
        for ids in ids.chunks(APPS_PER_TRANSACTION) {
            let mut tx = self.db.begin().await?;
            if !lock(&mut tx, &mark).await? {
                // Written to, or rolled up by another node, in the meantime.
                return Ok(true);
            }
            let totals = totals_by_app(&mut Source::Tx(&mut tx), piece, ids).await?;
            write_totals(&mut tx, to, mark.at, &totals).await?;
            tx.commit().await?;
        }
        let mut tx = self.db.begin().await?;
        // Not deleted if it was written to since it was read: it is due again then.
        execute!(&mut tx, DELETE_MARK, &mark.step, mark.at, mark.touched)?;
        tx.commit().await?;
        Ok(true)
    }

    /// Deletes what is older than it is kept, and not yet part of the hours and days that it belongs to.
    ///
    /// # Errors
    ///
    /// Returns the database's error.
    pub async fn delete_old_usage(&self, now: i64) -> Result<(), StoreError> {
        for step in UsageStep::ALL {
            let sql = format!("DELETE FROM {} WHERE {UNMARKED_BEFORE}", step.table());
            let before = step.floor(now - step.kept());
            execute_alone!(&self.db, AssertSqlSafe(sql), before)?;
        }
        Ok(())
    }

    /// Returns what an app did, or all apps together, from `from` on until before `until`: a total for each `step` with
    /// usage, in order. The times must be beginnings of steps.
    ///
    /// # Errors
    ///
    /// Returns the database's error.
    pub async fn usage(
        &self,
        app: Option<&str>,
        step: UsageStep,
        from: i64,
        until: i64,
    ) -> Result<Vec<UsageTotal>, StoreError> {
        let mut totals: BTreeMap<i64, UsageTotal> = BTreeMap::new();
        for piece in self.pieces(step, from, until).await? {
            for mut total in totals_by_time(&mut Source::Pool(&self.db), piece, app).await? {
                total.at = step.floor(total.at);
                match totals.get_mut(&total.at) {
                    Some(sum) => sum.merge(&total),
                    None => drop(totals.insert(total.at, total)),
                }
            }
        }
        Ok(totals.into_values().collect())
    }

    /// Returns at most `limit` apps that did anything from `from` on until before `until`, and what: by id, those after
    /// the one called `after`. The times must be beginnings of steps.
    ///
    /// # Errors
    ///
    /// Returns the database's error.
    pub async fn usage_by_app(
        &self,
        step: UsageStep,
        from: i64,
        until: i64,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<UsageTotal>, StoreError> {
        let mut source = Source::Pool(&self.db);
        let pieces = self.pieces(step, from, until).await?;
        let after = after.unwrap_or(INSTALLATION);
        let most = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut apps = Vec::new();
        // Each piece has its first apps, so the first of all are among them.
        for piece in &pieces {
            apps.extend(ids(&mut source, *piece, Some(after), most).await?);
        }
        apps.sort_unstable();
        apps.dedup();
        apps.truncate(limit);
        let mut totals: BTreeMap<Option<String>, UsageTotal> = BTreeMap::new();
        for piece in pieces {
            for total in totals_by_app(&mut source, piece, &apps).await? {
                match totals.get_mut(&total.app) {
                    Some(sum) => sum.merge(&total),
                    None => drop(totals.insert(total.app.clone(), total)),
                }
            }
        }
        Ok(totals.into_values().collect())
    }

    /// Returns the tables that are true for each part of a range, in order.
    async fn pieces(
        &self,
        step: UsageStep,
        from: i64,
        until: i64,
    ) -> Result<Vec<Piece>, StoreError> {
        if step == UsageStep::Minute {
            let table = step;
            return Ok(vec![Piece { table, from, until }]);
        }
        let marks: Vec<Mark> = on_db!(&self.db, pool => sqlx::query_as(MARKS)
            .bind(UsageStep::Day.floor(from))
            .bind(until)
            .fetch_all(pool)
            .await)?;
        let marks: BTreeSet<(String, i64)> = marks.into_iter().map(|m| (m.step, m.at)).collect();
        let mut pieces = Vec::new();
        pieces_of(&mut pieces, &marks, step, from, until);
        Ok(pieces)
    }
}

/// Adds the pieces of a range. A period that is marked is taken from the next finer table.
fn pieces_of(
    pieces: &mut Vec<Piece>,
    marks: &BTreeSet<(String, i64)>,
    step: UsageStep,
    from: i64,
    until: i64,
) {
    let mut at = from;
    while at < until {
        let end = at + step.millis();
        let is_marked = marks.contains(&(step.as_str().to_owned(), at));
        match (step, is_marked) {
            (UsageStep::Day, true) => pieces_of(pieces, marks, UsageStep::Hour, at, end),
            (UsageStep::Hour, true) => extend(pieces, UsageStep::Minute, at, end),
            _ => extend(pieces, step, at, end),
        }
        at = end;
    }
}

/// Adds a piece, or makes the last one longer.
fn extend(pieces: &mut Vec<Piece>, table: UsageStep, from: i64, until: i64) {
    match pieces.last_mut() {
        Some(last) if last.table == table && last.until == from => last.until = until,
        _ => pieces.push(Piece { table, from, until }),
    }
}

/// Locks a mark until the end of the transaction. Returns `false` if it isn't as it was read.
async fn lock(tx: &mut Tx, mark: &Mark) -> Result<bool, StoreError> {
    let locked = fetch_optional!((i64,), tx, LOCK_MARK, &mark.step, mark.at, mark.touched)?;
    Ok(locked.is_some())
}
