//! Totals for every period of a range, and CSV of them.

use std::collections::{BTreeMap, BTreeSet};

use fanfare_store::{MINUTE, SAMPLES, UsageTotal};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::range::{Range, Step};

/// Time after a period's end until all nodes have written it, in milliseconds.
const SETTLED_AFTER: i64 = 90_000;
const SAMPLE_PERIOD: i64 = MINUTE / SAMPLES as i64;

/// What an app, or all of them, did in a period.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct UsagePoint {
    /// The beginning of the period, Unix time in milliseconds.
    pub(crate) at: i64,
    /// Whether it is over. The numbers of the current period still grow.
    pub(crate) complete: bool,
    /// The highest number of connections, over all nodes, of those counted every ten seconds.
    pub(crate) connections_peak: i64,
    /// The average of these numbers.
    #[schema(example = 12.5)]
    pub(crate) connections_average: f64,
    /// Connections that were opened.
    pub(crate) connections_opened: i64,
    /// Messages that came in and were accepted: events of backends and of clients.
    pub(crate) messages: i64,
    /// Events of backends, one for each channel.
    pub(crate) backend_events: i64,
    /// Events of clients.
    pub(crate) client_events: i64,
    /// Events that were sent to subscribers, one for each subscriber.
    pub(crate) deliveries: i64,
    /// Bytes that came in: data of events of backends, and messages of clients.
    pub(crate) bytes_in: i64,
    /// Bytes of deliveries as WebSocket frames.
    pub(crate) bytes_out: i64,
    /// What was refused, by the kind that the log names.
    #[schema(example = json!({"api_limit": 2}))]
    pub(crate) refused: BTreeMap<String, i64>,
    /// About how many different users signed in or were on presence channels.
    pub(crate) unique_users: u64,
}

/// What an app, or all of them, did in each period of a range.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct UsageSeries {
    /// The beginning of the first period, Unix time in milliseconds.
    pub(crate) from: i64,
    /// The end of the last period, Unix time in milliseconds.
    pub(crate) to: i64,
    /// The length of a period.
    pub(crate) step: Step,
    /// Every period of the range, also those in which nothing happened.
    pub(crate) points: Vec<UsagePoint>,
    /// The whole range.
    pub(crate) total: UsagePoint,
}

/// What an app did in a range.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct AppUsageTotal {
    /// The app's id.
    pub(crate) app_id: String,
    /// Its name; `null` if it was deleted.
    #[schema(required)]
    pub(crate) name: Option<String>,
    /// What it did.
    #[serde(flatten)]
    pub(crate) usage: UsagePoint,
}

/// Returns the point of a period that begins at `from`. A total that is missing is one of nothing.
pub(crate) fn point(total: &UsageTotal, from: i64, until: i64, now: i64) -> UsagePoint {
    let counts = &total.counts;
    let counted = (until.min(now) - from + SAMPLE_PERIOD - 1) / SAMPLE_PERIOD;
    UsagePoint {
        at: from,
        complete: now >= until + SETTLED_AFTER,
        connections_peak: total.connections_peak,
        connections_average: average(total.connections_sum, counted.max(1)),
        connections_opened: counts.opened,
        messages: counts.events + counts.client_events,
        backend_events: counts.events,
        client_events: counts.client_events,
        deliveries: counts.deliveries,
        bytes_in: counts.published_bytes + counts.received_bytes,
        bytes_out: counts.delivered_bytes,
        refused: total.refused.clone(),
        unique_users: total.users.estimate(),
    }
}

/// Returns an average with two decimals.
#[expect(
    clippy::cast_precision_loss,
    reason = "numbers of connections are far below 2^53"
)]
fn average(sum: i64, count: i64) -> f64 {
    (sum as f64 / count as f64 * 100.0).round() / 100.0
}

/// Returns a point for every step of a range, and the sum of all.
pub(crate) fn series(range: Range, totals: &[UsageTotal], now: i64) -> UsageSeries {
    let mut sum = UsageTotal::default();
    let by_time: BTreeMap<i64, &UsageTotal> =
        totals.iter().map(|total| (total.at, total)).collect();
    let nothing = UsageTotal::default();
    let mut points = Vec::new();
    let mut at = range.from;
    while at < range.until {
        let total = by_time.get(&at).copied().unwrap_or(&nothing);
        let end = at + range.step.millis();
        points.push(point(total, at, end, now));
        sum.merge(total);
        at = end;
    }
    UsageSeries {
        from: range.from,
        to: range.until,
        step: range.step.into(),
        points,
        total: point(&sum, range.from, range.until, now),
    }
}

/// Returns lines of CSV, each with a first column called `first`, and a column for each kind of refusal among them.
pub(crate) fn csv<'a>(
    first: &str,
    lines: impl Iterator<Item = (String, &'a UsagePoint)> + Clone,
) -> Vec<u8> {
    let kinds = lines.clone().flat_map(|(_, point)| point.refused.keys());
    let kinds: BTreeSet<&String> = kinds.collect();
    let mut csv = csv::Writer::from_writer(Vec::new());
    let headings = [
        first,
        "complete",
        "connections_peak",
        "connections_average",
        "connections_opened",
        "messages",
        "backend_events",
        "client_events",
        "deliveries",
        "bytes_in",
        "bytes_out",
        "unique_users",
        "refused",
    ];
    let of_kinds = kinds.iter().map(|kind| format!("refused_{kind}"));
    let headings = headings.into_iter().map(str::to_owned).chain(of_kinds);
    csv.write_record(headings).expect("a vector takes all");
    for (name, point) in lines {
        let numbers = [
            point.connections_opened,
            point.messages,
            point.backend_events,
            point.client_events,
            point.deliveries,
            point.bytes_in,
            point.bytes_out,
        ];
        let mut record = vec![
            name,
            point.complete.to_string(),
            point.connections_peak.to_string(),
            point.connections_average.to_string(),
        ];
        record.extend(numbers.map(|number| number.to_string()));
        record.push(point.unique_users.to_string());
        record.push(point.refused.values().sum::<i64>().to_string());
        let of_kind = |kind: &&String| point.refused.get(*kind).copied().unwrap_or_default();
        record.extend(kinds.iter().map(|kind| of_kind(kind).to_string()));
        csv.write_record(record).expect("a vector takes all");
    }
    csv.into_inner().expect("a vector takes all")
}

impl UsageSeries {
    /// Returns a line for each point, with its time as ISO 8601.
    pub(crate) fn to_csv(&self) -> Vec<u8> {
        let time =
            |at| Timestamp::from_millisecond(at).map_or_else(|_| String::new(), |t| t.to_string());
        csv(
            "time",
            self.points.iter().map(|point| (time(point.at), point)),
        )
    }
}

#[cfg(test)]
mod tests {
    use fanfare_store::{HOUR, UsageCounts, UsageStep};

    use super::*;

    fn total(at: i64, connections_sum: i64, deliveries: i64) -> UsageTotal {
        UsageTotal {
            at,
            connections_peak: 4,
            connections_sum,
            counts: UsageCounts {
                deliveries,
                events: 2,
                client_events: 1,
                ..UsageCounts::default()
            },
            refused: BTreeMap::from([("api_limit".to_owned(), 3)]),
            ..UsageTotal::default()
        }
    }

    const RANGE: Range = Range {
        from: 0,
        until: 3 * HOUR,
        step: UsageStep::Hour,
    };

    #[test]
    fn every_period_has_a_point_and_the_current_one_is_marked() {
        let now = 2 * HOUR + 25_000;
        let found = series(RANGE, &[total(0, 720, 5), total(2 * HOUR, 6, 1)], now);
        let deliveries: Vec<_> = found.points.iter().map(|p| p.deliveries).collect();
        assert_eq!(deliveries, [5, 0, 1]);
        let complete: Vec<_> = found.points.iter().map(|p| p.complete).collect();
        assert_eq!(complete, [true, false, false], "the second has just ended");
        assert_eq!(found.points[0].connections_average, 2.0);
        assert_eq!(found.points[2].connections_average, 2.0, "of three moments");
        assert_eq!((found.total.deliveries, found.total.messages), (6, 6));
        assert_eq!(found.total.connections_peak, 4);
        assert_eq!(found.total.refused["api_limit"], 6);
    }

    #[test]
    fn csv_has_a_line_for_each_point_and_a_column_for_each_kind() {
        let found = series(RANGE, &[total(HOUR, 1, 7)], 9 * HOUR);
        let text = String::from_utf8(found.to_csv()).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 4);
        assert!(lines[0].starts_with("time,complete,connections_peak,"));
        assert!(lines[0].ends_with(",refused,refused_api_limit"));
        assert!(lines[1].starts_with("1970-01-01T00:00:00Z,true,0,0,"));
        assert_eq!(
            lines[2],
            "1970-01-01T01:00:00Z,true,4,0,0,3,2,1,7,0,0,0,3,3"
        );
    }
}
