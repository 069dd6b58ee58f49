//! Durations as people write them.

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

/// Returns the same in days, which must be whole.
pub(crate) fn days(text: &str) -> Result<u64, String> {
    match seconds(text)? {
        seconds if seconds % DAY == 0 => Ok(seconds / DAY),
        _ => Err("write whole days, for example 30d".into()),
    }
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
        assert_eq!((days("30d"), days("48h")), (Ok(30), Ok(2)));
        assert!(days("90m").is_err());
    }
}
