//! What this node counted, by minute and app, until the store has it.

use std::collections::{BTreeMap, HashMap};

use fanfare_engine::{AppUsage, NodeUsage};
use fanfare_protocol::{AppId, UserSketch};
use fanfare_store::{MINUTE, SAMPLES, UsageCounts, UsageMinute};

use super::UsageBacklog;

/// Connections are counted at the beginning of each of these periods, in milliseconds.
pub(super) const SAMPLE_PERIOD: i64 = MINUTE / SAMPLES as i64;
/// Most rows that are kept. A row takes about 300 bytes, and up to 3 KiB if the app has thousands of users.
const MAX_ROWS: usize = 100_000;

/// What an app, or all of them, did in a minute.
#[derive(Debug, Default)]
struct Row {
    connections: [i64; SAMPLES],
    counts: UsageCounts,
    users: UserSketch,
    refused: BTreeMap<&'static str, i64>,
    /// Number of the first write that will have the newest values; `None` if the store has them.
    changed: Option<i64>,
}

/// An app, or `None` for all together.
type Minute = HashMap<Option<AppId>, Row>;

/// What this node counted and has not written yet.
#[derive(Debug)]
pub(super) struct Recorder {
    /// Names this process among all that ever were, because its counters begin at nothing.
    run: String,
    minutes: BTreeMap<i64, Minute>,
    /// When was last counted, Unix time in milliseconds.
    counted_at: i64,
    /// Number of the next write.
    next_write: i64,
    lost: u64,
    max_rows: usize,
}

/// Values to write.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) run: String,
    pub(super) number: i64,
    pub(super) rows: Vec<UsageMinute>,
}

impl Recorder {
    pub(super) fn new(now: i64) -> Self {
        Self {
            run: hex::encode(rand::random::<[u8; 10]>()),
            minutes: BTreeMap::new(),
            counted_at: now,
            next_write: 1,
            lost: 0,
            max_rows: MAX_ROWS,
        }
    }

    /// Adds what came since the last call. It counts for the minute in which that was, and connections for the moments
    /// that have passed.
    pub(super) fn add(&mut self, usage: NodeUsage, now: i64) {
        // A clock that was set back must not begin a minute again whose values are written.
        let now = now.max(self.counted_at);
        let at = floor(self.counted_at, MINUTE);
        let samples = samples_between(self.counted_at, now);
        self.counted_at = now;
        let mut all = AppUsage::default();
        for (app, usage) in usage.apps {
            add_to(&mut all, &usage);
            self.add_app(Some(&app), &usage, at, &samples);
        }
        for (kind, count) in usage.refused {
            *all.refused.entry(kind).or_default() += count;
        }
        self.add_app(None, &all, at, &samples);
        self.drop_beyond_bound();
    }

    fn add_app(&mut self, app: Option<&AppId>, usage: &AppUsage, at: i64, samples: &[i64]) {
        let counts = counts(usage);
        let has_moved = counts != UsageCounts::default()
            || !usage.users.is_empty()
            || !usage.refused.is_empty();
        if has_moved {
            let row = self.row(app, at);
            row.counts.add(&counts);
            row.users.merge(&usage.users);
            for (kind, count) in &usage.refused {
                *row.refused.entry(kind).or_default() += signed(*count);
            }
        }
        if usage.connections > 0 {
            for sample in samples {
                let index = sample.rem_euclid(MINUTE) / SAMPLE_PERIOD;
                let row = self.row(app, floor(*sample, MINUTE));
                row.connections[usize::try_from(index).unwrap_or_default()] =
                    signed(usage.connections);
            }
        }
    }

    /// Returns an app's row to change.
    fn row(&mut self, app: Option<&AppId>, at: i64) -> &mut Row {
        let minute = self.minutes.entry(at).or_default();
        let row = minute.entry(app.cloned()).or_default();
        row.changed = Some(self.next_write);
        row
    }

    /// Gives up the oldest minutes while there are too many rows.
    fn drop_beyond_bound(&mut self) {
        let mut rows: usize = self.minutes.values().map(Minute::len).sum();
        while rows > self.max_rows && self.minutes.len() > 1 {
            let Some((at, minute)) = self.minutes.pop_first() else {
                return;
            };
            rows -= minute.len();
            let unwritten = minute.values().filter(|row| row.changed.is_some()).count();
            self.lost += unwritten as u64;
            tracing::error!(
                minute = at,
                apps = unwritten,
                "usage is lost: the store has been away for so long that no more is kept in memory"
            );
        }
    }

    /// Returns the rows that the store doesn't have as they are, with their whole values.
    pub(super) fn unwritten(&mut self) -> Batch {
        let mut rows = Vec::new();
        for (at, minute) in &self.minutes {
            let changed = minute.iter().filter(|(_, row)| row.changed.is_some());
            rows.extend(changed.map(|(app, row)| to_store(app.as_ref(), *at, row)));
        }
        let number = self.next_write;
        self.next_write += 1;
        Batch {
            run: self.run.clone(),
            number,
            rows,
        }
    }

    /// Notes that the store has the rows of a write, of which it refused `late` ones for good. What has changed since is
    /// still to be written.
    pub(super) fn written(&mut self, number: i64, late: usize) {
        self.lost += late as u64;
        for row in self.minutes.values_mut().flat_map(Minute::values_mut) {
            row.changed = row.changed.filter(|changed| *changed > number);
        }
        // What comes next belongs to the minute of the last count, or to later ones.
        let current = floor(self.counted_at, MINUTE);
        self.minutes.retain(|at, minute| {
            *at >= current || minute.values().any(|row| row.changed.is_some())
        });
    }

    pub(super) fn backlog(&self) -> UsageBacklog {
        let rows = self.minutes.values().flat_map(Minute::values);
        UsageBacklog {
            unwritten: rows.filter(|row| row.changed.is_some()).count(),
            lost: self.lost,
        }
    }
}

fn floor(at: i64, period: i64) -> i64 {
    at.div_euclid(period) * period
}

/// Returns the moments at which connections are counted, after `from` until `until`: at most those of a minute, because
/// a process that stood still doesn't know what was before.
fn samples_between(from: i64, until: i64) -> Vec<i64> {
    let last = floor(until, SAMPLE_PERIOD);
    let first = (floor(from, SAMPLE_PERIOD) + SAMPLE_PERIOD).max(last - MINUTE + SAMPLE_PERIOD);
    let mut samples = Vec::new();
    let mut at = first;
    while at <= last {
        samples.push(at);
        at += SAMPLE_PERIOD;
    }
    samples
}

fn add_to(all: &mut AppUsage, app: &AppUsage) {
    all.connections += app.connections;
    all.clients += app.clients;
    all.backend += app.backend;
    all.users.merge(&app.users);
    for (kind, count) in &app.refused {
        *all.refused.entry(kind).or_default() += count;
    }
}

fn counts(usage: &AppUsage) -> UsageCounts {
    UsageCounts {
        opened: signed(usage.clients.opened),
        events: signed(usage.backend.events),
        client_events: signed(usage.clients.client_events),
        deliveries: signed(usage.clients.deliveries),
        published_bytes: signed(usage.backend.bytes),
        received_bytes: signed(usage.clients.received_bytes),
        delivered_bytes: signed(usage.clients.delivered_bytes),
    }
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn to_store(app: Option<&AppId>, at: i64, row: &Row) -> UsageMinute {
    let refused = row.refused.iter();
    UsageMinute {
        app: app.map(ToString::to_string),
        at,
        connections: row.connections,
        counts: row.counts,
        users: (!row.users.is_empty()).then(|| row.users.to_bytes()),
        refused: refused
            .map(|(kind, count)| ((*kind).to_owned(), *count))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(deliveries: u64, connections: u64) -> NodeUsage {
        let mut usage = NodeUsage::default();
        let app = usage.apps.entry(AppId::parse("1").unwrap()).or_default();
        app.clients.deliveries = deliveries;
        app.connections = connections;
        usage
    }

    /// Each row of the app: its minute, deliveries and connections.
    fn rows(batch: &Batch) -> Vec<(i64, i64, [i64; SAMPLES])> {
        let of_app = batch.rows.iter().filter(|row| row.app.is_some());
        of_app
            .map(|row| (row.at / MINUTE, row.counts.deliveries, row.connections))
            .collect()
    }

    #[test]
    fn values_are_whole_and_belong_to_the_minute_in_which_they_came() {
        let mut recorder = Recorder::new(50_000);
        recorder.add(usage(7, 2), 60_003);
        let batch = recorder.unwritten();
        assert_eq!(
            rows(&batch),
            [(0, 7, [0; 6]), (1, 0, [2, 0, 0, 0, 0, 0])],
            "the count at the boundary is the next minute's"
        );
        recorder.written(batch.number, 0);
        recorder.add(usage(1, 3), 70_001);
        recorder.add(usage(1, 4), 80_001);
        assert_eq!(rows(&recorder.unwritten()), [(1, 2, [2, 3, 4, 0, 0, 0])]);
        // The store did not take it, so it comes again, as a whole.
        recorder.add(usage(5, 4), 90_001);
        let batch = recorder.unwritten();
        assert_eq!(rows(&batch), [(1, 7, [2, 3, 4, 4, 0, 0])]);
        // What comes while the store writes is left.
        recorder.add(usage(1, 4), 100_001);
        recorder.written(batch.number, 0);
        assert_eq!(rows(&recorder.unwritten()), [(1, 8, [2, 3, 4, 4, 4, 0])]);
    }

    #[test]
    fn nothing_is_written_for_apps_that_did_nothing() {
        let mut recorder = Recorder::new(0);
        recorder.add(usage(0, 0), 10_001);
        assert!(recorder.unwritten().rows.is_empty());
        recorder.add(usage(3, 0), 20_001);
        let batch = recorder.unwritten();
        assert_eq!(batch.rows.len(), 2, "the app, and all together");
        recorder.written(batch.number, 0);
        recorder.add(NodeUsage::default(), 30_001);
        assert!(recorder.unwritten().rows.is_empty());
        recorder.add(NodeUsage::default(), 90_001);
        recorder.written(0, 0);
        assert!(recorder.minutes.is_empty(), "nothing is kept of it");
    }

    #[test]
    fn a_clock_that_is_set_back_and_a_process_that_stood_still_count_once() {
        let mut recorder = Recorder::new(600_000);
        recorder.add(usage(1, 1), 610_000);
        recorder.add(usage(1, 1), 400_000);
        assert_eq!(rows(&recorder.unwritten()), [(10, 2, [0, 1, 0, 0, 0, 0])]);
        recorder.add(usage(4, 1), 3_600_000);
        let found = rows(&recorder.unwritten());
        assert_eq!(found[0], (10, 6, [0, 1, 0, 0, 0, 0]));
        assert_eq!(found[1..].len(), 2, "the last minute's samples: {found:?}");
    }

    #[test]
    fn memory_is_bounded_while_the_store_is_away() {
        let mut recorder = Recorder::new(0);
        recorder.max_rows = 6;
        for minute in 1..=10 {
            recorder.add(usage(1, 0), minute * MINUTE);
        }
        // Two rows for each minute, of which the last three are left.
        assert_eq!(
            recorder.backlog(),
            UsageBacklog {
                unwritten: 6,
                lost: 14
            }
        );
        let batch = recorder.unwritten();
        assert_eq!(rows(&batch).len(), 3);
        recorder.written(batch.number, 2);
        assert_eq!(
            recorder.backlog(),
            UsageBacklog {
                unwritten: 0,
                lost: 16
            }
        );
    }

    #[test]
    fn all_apps_together_have_a_row_of_their_own_with_what_belongs_to_none() {
        let mut both = usage(2, 1);
        let other = both.apps.entry(AppId::parse("2").unwrap()).or_default();
        other.clients.deliveries = 3;
        other.connections = 4;
        other.refused.insert("message", 1);
        both.refused.insert("path", 5);
        let mut recorder = Recorder::new(0);
        recorder.add(both, 10_000);
        let batch = recorder.unwritten();
        let all = batch.rows.iter().find(|row| row.app.is_none()).unwrap();
        assert_eq!((all.counts.deliveries, all.connections[1]), (5, 5));
        assert_eq!(all.refused.values().sum::<i64>(), 6);
    }
}
