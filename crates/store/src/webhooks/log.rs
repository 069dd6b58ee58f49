//! The log of deliveries and of the attempts to send them.
//!
//! Each call looks at a bounded part of it and says where to go on, so that a filter that matches little never keeps the
//! database busy for long.

use sqlx::AssertSqlSafe;

use super::days::{attempts_table, deliveries_table};
use super::definition::words;
use super::queue::{DeliveryAttempt, MAX_BYTES, ROWS_PER_STATEMENT, is_missing_table};
use super::recording::CLOCK_TOLERANCE;
use crate::database::{AnyRow, Store};
use crate::dialect::{on_db, value_rows};
use crate::error::StoreError;
use crate::row::{from_row, parsed};
use crate::usage::DAY;

const SEGMENTS: &str = "SELECT first_sequence, day FROM webhook_segments WHERE webhook_id = $1 ORDER BY first_sequence";
const LAST_SEQUENCE: &str = "SELECT last_sequence FROM webhook_health WHERE webhook_id = $1";

/// Most deliveries of a page.
const MAX_PAGE: i64 = 1_000;
/// Most attempts that are returned of a delivery, the newest.
const MAX_ATTEMPTS: i64 = 200;
/// Deliveries that a filtered page looks at.
const MAX_SCANNED: i64 = 50_000;
/// Deliveries that one statement looks at.
pub(super) const SCANNED_AT_ONCE: i64 = 10_000;
/// How often a day may be dropped while the log is read.
const READS: usize = 3;

/// What became of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeliveryState {
    /// It waits to be sent, for the first time or again.
    Waiting,
    /// The receiver has it.
    Delivered,
    /// It was given up.
    Failed,
    /// It is kept until the receiver asks for it.
    Kept,
}

words!(DeliveryState {
    Waiting = "waiting",
    Delivered = "delivered",
    Failed = "failed",
    Kept = "kept",
});

/// A delivery in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryRecord {
    /// Its sequence number.
    pub sequence: i64,
    /// When it was recorded, Unix time in milliseconds.
    pub created_at: i64,
    /// What became of it.
    pub state: DeliveryState,
    /// Attempts so far.
    pub attempts: i64,
    /// When it was delivered or given up, Unix time in milliseconds.
    pub finished_at: Option<i64>,
    /// How many events there are.
    pub count: i64,
    /// Names of its events, with spaces between.
    pub names: String,
    /// The channel, if all its events are of one.
    pub channel: Option<String>,
    /// Its events, a JSON list.
    pub events: String,
}

from_row!(row => DeliveryRecord {
    sequence,
    created_at,
    state: parsed(row, "state", |text: String| text.parse::<DeliveryState>())?,
    attempts,
    finished_at,
    count: sqlx::Row::try_get(row, "event_count")?,
    names,
    channel,
    events,
});

/// Filter for deliveries. An empty filter matches all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeliveryFilter {
    /// Those with higher sequence numbers. A page then begins with the oldest, otherwise with the newest.
    pub after: Option<i64>,
    /// Those with lower sequence numbers.
    pub before: Option<i64>,
    /// Those in one state.
    pub state: Option<DeliveryState>,
    /// Those with an event of this name.
    pub event: Option<String>,
    /// Those with an event of this channel.
    pub channel: Option<String>,
    /// Those recorded at or after this Unix time in milliseconds.
    pub from: Option<i64>,
    /// Those recorded before this Unix time in milliseconds.
    pub until: Option<i64>,
}

impl DeliveryFilter {
    /// Returns the filter for one delivery.
    #[must_use]
    pub fn of_sequence(sequence: i64) -> Self {
        Self {
            after: Some(sequence.saturating_sub(1)),
            before: Some(sequence.saturating_add(1)),
            ..Self::default()
        }
    }
}

/// A page of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryPage {
    /// The deliveries.
    pub deliveries: Vec<DeliveryRecord>,
    /// Everything from the page's beginning to this sequence number was looked at: the next page is `after` it, or
    /// `before` it if pages begin with the newest.
    pub position: i64,
    /// Whether there is anything behind that position now. A page may be empty although there is.
    pub has_more: bool,
    /// Sequence number of the oldest delivery that is kept, if there is any: what is older was dropped.
    pub oldest: Option<i64>,
}

/// A delivery and the attempts to send it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryDetails {
    /// The delivery.
    pub delivery: DeliveryRecord,
    /// Its attempts, oldest first; of more than 200 the last ones.
    pub attempts: Vec<DeliveryAttempt>,
}

struct Segment {
    first_sequence: i64,
    day: i64,
}

from_row!(row => Segment { first_sequence, day });

struct SizeRow {
    sequence: i64,
    size: i64,
}

from_row!(row => SizeRow { sequence, size });

/// A range of sequence numbers, both ends included, in the tables of a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) day: i64,
    pub(super) first: i64,
    pub(super) last: i64,
}

/// What is in the log of a webhook.
pub(super) struct Extent {
    last_sequence: i64,
    /// In order, without gaps but for dropped days.
    ranges: Vec<Range>,
}

/// An argument of a statement.
pub(super) enum Argument {
    Number(i64),
    Text(String),
}

/// The conditions of a filter that rows are compared with, from `$first` on.
pub(super) struct Conditions {
    pub(super) sql: String,
    pub(super) arguments: Vec<Argument>,
}

impl Conditions {
    pub(super) fn of(filter: &DeliveryFilter, first: usize) -> Self {
        let mut all = Self {
            sql: String::new(),
            arguments: Vec::new(),
        };
        let mut add = |sql: &dyn Fn(&str) -> String, argument| {
            let placeholder = format!("${}", first + all.arguments.len());
            all.sql.push_str(" AND ");
            all.sql.push_str(&sql(&placeholder));
            all.arguments.push(argument);
        };
        if let Some(state) = filter.state {
            let state = state.as_str().to_owned();
            add(&|it| format!("state = {it}"), Argument::Text(state));
        }
        if let Some(event) = &filter.event {
            // Not LIKE, for which an underscore is any character.
            let has =
                |it: &str| format!("replace(' ' || names || ' ', {it}, '') <> ' ' || names || ' '");
            add(&has, Argument::Text(format!(" {event} ")));
        }
        if let Some(channel) = &filter.channel {
            add(
                &|it| format!("(channel = {it} OR channel IS NULL)"),
                Argument::Text(channel.clone()),
            );
            // A delivery of several channels names each in its events.
            let name = serde_json::to_string(channel).expect("a text is JSON");
            let has =
                |it: &str| format!("(channel IS NOT NULL OR replace(events, {it}, '') <> events)");
            add(&has, Argument::Text(format!("\"channel\":{name}")));
        }
        if let Some(from) = filter.from {
            add(&|it| format!("created_at >= {it}"), Argument::Number(from));
        }
        if let Some(until) = filter.until {
            add(&|it| format!("created_at < {it}"), Argument::Number(until));
        }
        all
    }

    pub(super) fn none() -> Self {
        Self::of(&DeliveryFilter::default(), 1)
    }

    fn is_empty(&self) -> bool {
        self.arguments.is_empty()
    }
}

/// Binds the arguments of conditions to a query.
macro_rules! bind_conditions {
    ($query:expr, $conditions:expr) => {{
        let mut query = $query;
        for argument in &$conditions.arguments {
            query = match argument {
                $crate::webhooks::log::Argument::Number(number) => query.bind(*number),
                $crate::webhooks::log::Argument::Text(text) => query.bind(text.clone()),
            };
        }
        query
    }};
}
pub(super) use bind_conditions;

impl Store {
    /// Returns a page of a webhook's log: at most `limit` deliveries, 1,000, and 4 MiB of events. With a filter, at most
    /// 50,000 deliveries are looked at.
    ///
    /// # Errors
    ///
    /// Returns the database's error.
    pub async fn webhook_deliveries(
        &self,
        webhook_id: &str,
        filter: &DeliveryFilter,
        limit: i64,
    ) -> Result<DeliveryPage, StoreError> {
        let limit = usize::try_from(limit.clamp(1, MAX_PAGE)).unwrap_or_default();
        retry_missing(|| self.read_log_page(webhook_id, filter, limit)).await
    }

    /// Returns a delivery with its attempts, or `None` if it isn't in the log any more.
    ///
    /// # Errors
    ///
    /// Returns the database's error.
    pub async fn webhook_delivery(
        &self,
        webhook_id: &str,
        sequence: i64,
    ) -> Result<Option<DeliveryDetails>, StoreError> {
        retry_missing(|| self.read_delivery(webhook_id, sequence)).await
    }

    async fn read_delivery(
        &self,
        webhook_id: &str,
        sequence: i64,
    ) -> Result<Option<DeliveryDetails>, sqlx::Error> {
        let extent = self.log_extent(webhook_id).await?;
        let holds = |range: &&Range| range.first <= sequence && sequence <= range.last;
        let Some(range) = extent.ranges.iter().find(holds) else {
            return Ok(None);
        };
        let mut found = self.log_bodies(webhook_id, range.day, &[sequence]).await?;
        let Some(delivery) = found.pop() else {
            return Ok(None);
        };
        let sql = format!(
            "SELECT attempt, at, milliseconds, status, error, answer, node, is_replay FROM {} \
             WHERE webhook_id = $1 AND sequence = $2 ORDER BY attempt DESC LIMIT $3",
            attempts_table(range.day)
        );
        let numbers = [sequence, MAX_ATTEMPTS];
        let mut attempts: Vec<DeliveryAttempt> = self
            .log_rows(sql, webhook_id, &numbers, &Conditions::none())
            .await?;
        attempts.reverse();
        Ok(Some(DeliveryDetails { delivery, attempts }))
    }

    async fn read_log_page(
        &self,
        webhook_id: &str,
        filter: &DeliveryFilter,
        limit: usize,
    ) -> Result<DeliveryPage, sqlx::Error> {
        let extent = self.log_extent(webhook_id).await?;
        let is_ascending = filter.after.is_some();
        let conditions = Conditions::of(filter, 5);
        let (at_once, mut left) = match conditions.is_empty() {
            true => (i64::MAX, i64::MAX),
            false => (SCANNED_AT_ONCE, MAX_SCANNED),
        };
        let mut ranges = self
            .log_ranges(webhook_id, &extent, filter, at_once)
            .await?;
        if !is_ascending {
            ranges.reverse();
        }
        let mut page = Page::new(limit);
        let mut position = None;
        for range in &ranges {
            if left <= 0 || page.is_full {
                break;
            }
            let rows = self
                .log_sizes(webhook_id, *range, is_ascending, limit, &conditions)
                .await?;
            page.take(range.day, rows);
            left -= range.last - range.first + 1;
            position = match page.is_full {
                true => page.last(),
                false if is_ascending => Some(range.last),
                false => Some(range.first),
            };
        }
        let end = match is_ascending {
            true => ranges.last().map(|range| range.last),
            false => ranges.last().map(|range| range.first),
        };
        let has_more = position != end;
        // Behind the last range is nothing that matches.
        let end = match is_ascending {
            true => filter
                .after
                .unwrap_or(0)
                .max(extent.end_before(filter.before)),
            false => extent.oldest().unwrap_or(0),
        };
        let mut deliveries = Vec::with_capacity(page.found.len());
        for of_day in page.found.chunk_by(|one, next| one.day == next.day) {
            for rows in of_day.chunks(ROWS_PER_STATEMENT) {
                let sequences: Vec<i64> = rows.iter().map(|row| row.sequence).collect();
                let mut bodies = self.log_bodies(webhook_id, rows[0].day, &sequences).await?;
                if !is_ascending {
                    bodies.reverse();
                }
                deliveries.append(&mut bodies);
            }
        }
        Ok(DeliveryPage {
            deliveries,
            position: if has_more {
                position.unwrap_or(end)
            } else {
                end
            },
            has_more,
            oldest: extent.oldest(),
        })
    }

    /// Returns what is in the log of a webhook.
    pub(super) async fn log_extent(&self, webhook_id: &str) -> Result<Extent, sqlx::Error> {
        let last: Option<i64> = on_db!(&self.db, pool => sqlx::query_scalar(LAST_SEQUENCE).bind(webhook_id)
            .fetch_optional(pool).await)?;
        let last_sequence = last.unwrap_or_default();
        // Read afterwards, so that they hold everything up to that number.
        let segments: Vec<Segment> = on_db!(&self.db, pool => sqlx::query_as(SEGMENTS).bind(webhook_id)
            .fetch_all(pool).await)?;
        let ends = segments.iter().skip(1).map(|next| next.first_sequence - 1);
        let ends = ends.chain([i64::MAX]);
        let ranges = segments.iter().zip(ends).map(|(segment, end)| Range {
            day: segment.day,
            first: segment.first_sequence,
            last: end.min(last_sequence),
        });
        Ok(Extent {
            last_sequence,
            ranges: ranges.filter(|range| range.first <= range.last).collect(),
        })
    }

    /// Returns the ranges that can hold what a filter matches, oldest first, of at most `at_once` sequence numbers.
    pub(super) async fn log_ranges(
        &self,
        webhook_id: &str,
        extent: &Extent,
        filter: &DeliveryFilter,
        at_once: i64,
    ) -> Result<Vec<Range>, sqlx::Error> {
        let first = filter.after.map_or(1, |after| after.saturating_add(1));
        let last = extent.end_before(filter.before);
        let mut pieces = Vec::new();
        for range in &extent.ranges {
            let range = Range {
                first: range.first.max(first),
                last: range.last.min(last),
                ..*range
            };
            let range = self.narrow_to_time(webhook_id, range, filter).await?;
            let mut next = range.first;
            while next <= range.last {
                let end = range.last.min(next.saturating_add(at_once - 1));
                pieces.push(Range {
                    first: next,
                    last: end,
                    ..range
                });
                next = end + 1;
            }
        }
        Ok(pieces)
    }

    /// Leaves out what was certainly not recorded in a filter's time. Within a day, times are in the order of sequence
    /// numbers up to the tolerance for clocks.
    async fn narrow_to_time(
        &self,
        webhook_id: &str,
        mut range: Range,
        filter: &DeliveryFilter,
    ) -> Result<Range, sqlx::Error> {
        if let Some(from) = filter.from
            && from > range.day
        {
            let from = from.saturating_sub(CLOCK_TOLERANCE);
            range.first = self.first_since(webhook_id, range, from).await?;
        }
        if let Some(until) = filter.until
            && until < range.day + DAY
        {
            let until = until.saturating_add(CLOCK_TOLERANCE);
            range.last = self.first_since(webhook_id, range, until).await? - 1;
        }
        Ok(range)
    }

    /// Returns the first sequence number of a range that was recorded at or after a time, or the one behind the range.
    async fn first_since(
        &self,
        webhook_id: &str,
        range: Range,
        at: i64,
    ) -> Result<i64, sqlx::Error> {
        let (mut low, mut high) = (range.first, range.last + 1);
        if at >= range.day + DAY {
            return Ok(high.max(low));
        }
        while low < high && at > range.day {
            let middle = low + (high - low) / 2;
            let sql = format!(
                "SELECT created_at FROM {} WHERE webhook_id = $1 AND sequence = $2",
                deliveries_table(range.day)
            );
            let found: Vec<(i64,)> = self
                .log_rows(sql, webhook_id, &[middle], &Conditions::none())
                .await?;
            match found.first() {
                Some((created_at,)) if *created_at < at => low = middle + 1,
                _ => high = middle,
            }
        }
        Ok(low)
    }

    /// Returns at most `limit` rows of a range that meet conditions, without what may be long.
    async fn log_sizes(
        &self,
        webhook_id: &str,
        range: Range,
        is_ascending: bool,
        limit: usize,
        conditions: &Conditions,
    ) -> Result<Vec<SizeRow>, sqlx::Error> {
        let sql = format!(
            "SELECT sequence, size FROM {} WHERE webhook_id = $1 AND sequence >= $2 AND sequence <= $3{} \
             ORDER BY sequence {} LIMIT $4",
            deliveries_table(range.day),
            conditions.sql,
            if is_ascending { "ASC" } else { "DESC" }
        );
        let numbers = [
            range.first,
            range.last,
            i64::try_from(limit).unwrap_or(MAX_PAGE),
        ];
        self.log_rows(sql, webhook_id, &numbers, conditions).await
    }

    /// Returns deliveries of a day by their sequence numbers, oldest first.
    async fn log_bodies(
        &self,
        webhook_id: &str,
        day: i64,
        sequences: &[i64],
    ) -> Result<Vec<DeliveryRecord>, sqlx::Error> {
        let sql = format!(
            "SELECT sequence, created_at, state, attempts, finished_at, event_count, names, channel, events FROM {} \
             WHERE webhook_id = $1 AND sequence IN {} ORDER BY sequence",
            deliveries_table(day),
            value_rows(1, sequences.len(), 2)
        );
        let none = Conditions::none();
        self.log_rows(sql, webhook_id, sequences, &none).await
    }

    /// Returns the rows of a statement, which must hold no text from outside. Its first arguments are the webhook's id
    /// and `numbers`, those of the conditions follow.
    pub(super) async fn log_rows<T: AnyRow>(
        &self,
        sql: String,
        webhook_id: &str,
        numbers: &[i64],
        conditions: &Conditions,
    ) -> Result<Vec<T>, sqlx::Error> {
        on_db!(&self.db, pool => {
            let mut query = sqlx::query_as::<_, T>(AssertSqlSafe(sql)).persistent(false).bind(webhook_id);
            for number in numbers {
                query = query.bind(*number);
            }
            bind_conditions!(query, conditions).fetch_all(pool).await
        })
    }
}

impl Extent {
    fn oldest(&self) -> Option<i64> {
        self.ranges.first().map(|range| range.first)
    }

    /// Returns the last sequence number, of those before one if it is given.
    pub(super) fn end_before(&self, before: Option<i64>) -> i64 {
        let before = before.map_or(i64::MAX, |before| before.saturating_sub(1));
        self.last_sequence.min(before)
    }
}

/// Row of a page.
struct Found {
    day: i64,
    sequence: i64,
}

/// A page that is being filled.
struct Page {
    found: Vec<Found>,
    limit: usize,
    bytes: i64,
    is_full: bool,
}

impl Page {
    fn new(limit: usize) -> Self {
        Self {
            found: Vec::new(),
            limit,
            bytes: 0,
            is_full: false,
        }
    }

    /// Takes rows until the page is full.
    fn take(&mut self, day: i64, rows: Vec<SizeRow>) {
        for SizeRow { sequence, size } in rows {
            self.bytes = self.bytes.saturating_add(size);
            if self.bytes > MAX_BYTES && !self.found.is_empty() {
                self.is_full = true;
            }
            if self.is_full {
                return;
            }
            self.found.push(Found { day, sequence });
            self.is_full = self.found.len() == self.limit;
        }
    }

    fn last(&self) -> Option<i64> {
        self.found.last().map(|found| found.sequence)
    }
}

/// Reads again if a day was dropped meanwhile.
pub(super) async fn retry_missing<T, F: Future<Output = Result<T, sqlx::Error>>>(
    // No async closure, because its futures can't be known to be `Send`.
    read: impl Fn() -> F,
) -> Result<T, StoreError> {
    let mut reads = 1;
    loop {
        match read().await {
            Err(error) if reads < READS && is_missing_table(&error) => reads += 1,
            done => return Ok(done?),
        }
    }
}
