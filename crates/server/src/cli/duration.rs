//! Durations and times as people write them.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

use crate::admin::tokens::MAX_DAYS;
use crate::clock::unix_millis;
use crate::config::parse_seconds;

const DAY: u64 = 24 * 60 * 60;
/// Largest duration in seconds: 100 years. More is a mistake.
const MAX: u64 = 100 * 365 * DAY;

/// Returns the seconds of `90s`, `15m`, `24h`, `7d` or a plain number, at least one.
pub(crate) fn seconds(text: &str) -> Result<u64, String> {
    match any_seconds(text)? {
        0 => Err("it must be more than nothing".into()),
        seconds => Ok(seconds),
    }
}

/// Returns the same, but allows zero.
pub(crate) fn any_seconds(text: &str) -> Result<u64, String> {
    parse_seconds(text)
        .filter(|seconds| *seconds <= MAX)
        .ok_or_else(|| "write 90s, 15m, 24h or 7d, or a number of seconds".into())
}

/// Returns the days that an API token lives, which must be whole.
pub(crate) fn token_days(text: &str) -> Result<u64, String> {
    let seconds = seconds(text)?;
    let days = seconds / DAY;
    if seconds % DAY != 0 {
        return Err("write whole days, for example 30d".into());
    }
    if days > u64::from(MAX_DAYS) {
        return Err(format!("a token lives {MAX_DAYS}d at most"));
    }
    Ok(days)
}

/// Earliest Unix time in milliseconds that is accepted: March 1973. A smaller number is a mistake, mostly a time in
/// seconds.
const FIRST_MILLISECOND: i64 = 100_000_000_000;
const TIME_FORMS: &str = "2026-11-21, 2026-11-21T09:34:10Z, or Unix time in milliseconds";

/// Returns Unix time in milliseconds of a date, of a date and a time (UTC without an offset), or of such a number.
pub(crate) fn time(text: &str) -> Result<i64, String> {
    if let Ok(number) = text.parse::<i64>() {
        return match number {
            0 | FIRST_MILLISECOND.. => Ok(number),
            1_000_000_000.. => Err(format!(
                "that is Unix time in seconds, and milliseconds are wanted: write {number}000, or a date such as \
                 2026-11-21"
            )),
            _ => Err(format!("write {TIME_FORMS}")),
        };
    }
    let utc = |time: DateTime| time.to_zoned(TimeZone::UTC).map(|time| time.timestamp());
    let time = text
        .parse::<Timestamp>()
        .or_else(|_| text.parse::<DateTime>().and_then(utc))
        .or_else(|_| text.parse::<Date>().and_then(|date| utc(date.into())));
    let time = time.map_err(|_| format!("write {TIME_FORMS}"))?;
    Ok(time.as_millisecond())
}

/// Returns Unix time in milliseconds of a time, or of a number with a unit, which is how long ago.
pub(crate) fn time_or_ago(text: &str) -> Result<i64, String> {
    let error = match time(text) {
        Ok(time) => return Ok(time),
        Err(error) => error,
    };
    // A plain number is a time, right or wrong.
    if text.parse::<i64>().is_ok() {
        return Err(error);
    }
    let ago = seconds(text).map_err(|_| format!("{error}, or how long ago: 15m, 24h, 7d"))?;
    let ago = i64::try_from(ago * 1000).unwrap_or(i64::MAX);
    Ok(unix_millis().saturating_sub(ago))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_read_with_and_without_a_unit() {
        for (text, length) in [
            ("90s", 90),
            ("15m", 900),
            ("24h", DAY),
            ("7d", 7 * DAY),
            ("5", 5),
            ("1.5h", 5400),
            ("1w", 7 * DAY),
            ("1 d", DAY),
            ("1h 30m", 5400),
        ] {
            assert_eq!(seconds(text), Ok(length), "{text}");
        }
        for text in [
            "",
            "0",
            "0d",
            "s",
            "-1",
            "+1",
            "1.5s",
            "-1d",
            "1mo",
            "1dd",
            "d1",
            "99999999d",
        ] {
            assert!(seconds(text).is_err(), "{text}");
        }
        assert_eq!(any_seconds("0"), Ok(0));
        assert_eq!((token_days("30d"), token_days("48h")), (Ok(30), Ok(2)));
        assert!(token_days("90m").is_err());
        assert!(token_days("367d").unwrap_err().contains("366d"));
    }

    #[test]
    fn a_time_is_a_date_or_a_number_of_milliseconds_and_seconds_are_not_taken_for_them() {
        for (text, milliseconds) in [
            ("1700000000000", 1_700_000_000_000),
            ("0", 0),
            ("2023-11-14", 1_699_920_000_000),
            ("2023-11-14T22:13:20Z", 1_700_000_000_000),
            ("2023-11-14 22:13:20Z", 1_700_000_000_000),
            ("2023-11-14T22:13:20", 1_700_000_000_000),
            ("2023-11-14T23:13:20+01:00", 1_700_000_000_000),
        ] {
            assert_eq!(time(text), Ok(milliseconds), "{text}");
        }
        let error = time("1700000000").unwrap_err();
        assert!(error.contains("write 1700000000000"), "{error}");
        for text in ["20231114", "1", "-5", "yesterday", "2023-13-01", ""] {
            let error = time(text).unwrap_err();
            assert!(error.contains("2026-11-21"), "{text}: {error}");
        }
    }
}
