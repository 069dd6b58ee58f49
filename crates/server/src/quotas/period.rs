//! Days and months of UTC.

use fanfare_protocol::QuotaKind;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

/// The day or month in which a quota counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Period {
    /// Its beginning, Unix time in milliseconds.
    pub(crate) at: i64,
    /// Its end.
    pub(crate) until: i64,
}

impl Period {
    /// Returns the day or month of a quota that holds a time.
    pub(crate) fn of(kind: QuotaKind, now: i64) -> Self {
        let now = Timestamp::from_millisecond(now).unwrap_or_default();
        let today = now.to_zoned(TimeZone::UTC).date();
        let (first, next) = match kind {
            QuotaKind::Messages | QuotaKind::Deliveries => (today, today.checked_add(1.day())),
            QuotaKind::Bytes => {
                let first = today.first_of_month();
                (first, first.checked_add(1.month()))
            }
        };
        Self {
            at: millis(first),
            // Only the last day of the year 9999 has none.
            until: next.map_or(i64::MAX, millis),
        }
    }

    /// Returns its end as `2026-11-22T00:00:00Z`.
    pub(crate) fn end(self) -> String {
        Timestamp::from_millisecond(self.until)
            .map_or_else(|_| String::new(), |time| time.to_string())
    }
}

fn millis(date: Date) -> i64 {
    date.to_zoned(TimeZone::UTC)
        .map_or(i64::MAX, |time| time.timestamp().as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_months_are_those_of_utc() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap().as_millisecond();
        let day = Period::of(QuotaKind::Messages, at("2026-11-30T23:59:59.999Z"));
        assert_eq!(day.at, at("2026-11-30T00:00:00Z"));
        assert_eq!(day.end(), "2026-12-01T00:00:00Z");
        let month = Period::of(QuotaKind::Bytes, at("2028-02-29T12:00:00Z"));
        assert_eq!(month.at, at("2028-02-01T00:00:00Z"));
        assert_eq!(month.end(), "2028-03-01T00:00:00Z");
    }
}
