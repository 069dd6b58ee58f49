//! When a delivery that failed is tried again.

use std::time::Duration;

/// Gaps between the attempts of a delivery, in seconds. The first nine fill the five minutes for which hosted Pusher
/// retries. The last one is repeated.
const GAPS: [u64; 14] = [
    1, 2, 4, 8, 16, 30, 60, 60, 60, 300, 1_800, 7_200, 18_000, 36_000,
];
/// Attempts after which the short gaps are used up.
pub(super) const ATTEMPTS_WITH_SHORT_GAPS: u32 = 10;
/// Gaps from this one on differ by chance, so that what failed together isn't retried together for hours.
const FIRST_WITH_JITTER: usize = 6;
/// Part of a gap by which it differs at most.
const JITTER: f64 = 0.2;
/// A receiver can ask for this multiple of a gap at most.
const MAX_RETRY_AFTER: u32 = 2;

/// Returns how long to wait after a failed attempt. `attempts` have been made, this one included. `random` is a number
/// from 0 to 1. `retry_after` is what the receiver asks for.
pub(super) fn gap_after(attempts: u32, retry_after: Option<Duration>, random: f64) -> Duration {
    let index = usize::try_from(attempts).unwrap_or(usize::MAX);
    let index = index.saturating_sub(1).min(GAPS.len() - 1);
    let gap = Duration::from_secs(GAPS[index]);
    let gap = if index >= FIRST_WITH_JITTER {
        gap.mul_f64(1.0 + JITTER * (2.0 * random - 1.0))
    } else {
        gap
    };
    retry_after.map_or(gap, |asked| asked.clamp(gap, gap * MAX_RETRY_AFTER))
}

/// Returns when a delivery is tried again that failed at `now`, or `None` if it is given up. Times are Unix time in
/// milliseconds; nothing is tried after `deadline`, and the last attempt is made there.
pub(super) fn next_attempt(now: i64, gap: Duration, deadline: i64) -> Option<i64> {
    let gap = i64::try_from(gap.as_millis()).unwrap_or(i64::MAX);
    (now < deadline).then(|| now.saturating_add(gap).min(deadline))
}

/// Returns what a `Retry-After` header asks for at `now`, Unix time in seconds: a number of seconds, or a date.
pub(super) fn retry_after(header: &str, now: i64) -> Option<Duration> {
    let header = header.trim();
    if !header.is_empty() && header.bytes().all(|byte| byte.is_ascii_digit()) {
        // A number that is too large is clamped anyway.
        return Some(Duration::from_secs(
            header.parse().unwrap_or(u32::MAX.into()),
        ));
    }
    let date = jiff::fmt::rfc2822::parse(header).ok()?;
    let seconds = date.timestamp().as_second().saturating_sub(now);
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    /// Returns when each attempt of a delivery is made that always fails at once, in milliseconds.
    fn attempts(retry_for: i64, random: f64) -> Vec<i64> {
        let mut at = vec![0];
        loop {
            let made = u32::try_from(at.len()).unwrap();
            let now = *at.last().unwrap();
            let Some(next) = next_attempt(now, gap_after(made, None, random), retry_for) else {
                return at;
            };
            at.push(next);
        }
    }

    #[test]
    fn gaps_grow_from_a_second_to_hours_and_fill_the_time() {
        let middle = attempts(18 * HOUR, 0.5);
        let seconds: Vec<i64> = middle.iter().map(|at| at / 1000).collect();
        assert_eq!(
            seconds,
            [
                0, 1, 3, 7, 15, 31, 61, 121, 181, 241, 541, 2_341, 9_541, 27_541, 63_541, 64_800
            ],
            "nine retries within the five minutes of hosted Pusher, and the last attempt at the end"
        );
        assert_eq!(attempts(60_000, 0.5).last(), Some(&60_000));
    }

    #[test]
    fn gaps_after_the_first_minute_differ_by_a_fifth() {
        for attempts in 1..=6 {
            assert_eq!(
                gap_after(attempts, None, 0.0),
                gap_after(attempts, None, 1.0)
            );
        }
        let seconds = |random| gap_after(7, None, random).as_secs();
        assert_eq!((seconds(0.0), seconds(0.5), seconds(1.0)), (48, 60, 72));
        for random in [0.0, 0.3, 1.0] {
            let all = attempts(18 * HOUR, random);
            assert_eq!(all.last(), Some(&(18 * HOUR)), "whatever chance says");
        }
    }

    #[test]
    fn a_receiver_may_ask_for_twice_the_gap() {
        let asked = |seconds| gap_after(5, Some(Duration::from_secs(seconds)), 0.5).as_secs();
        assert_eq!((asked(0), asked(20), asked(3600)), (16, 20, 32));
    }

    #[test]
    fn what_a_receiver_asks_for_is_a_number_or_a_date() {
        let seconds = |header| retry_after(header, 1_445_412_420).map(|asked| asked.as_secs());
        assert_eq!(seconds("120"), Some(120));
        assert_eq!(seconds(" 7 "), Some(7));
        assert_eq!(seconds("99999999999999999999999"), Some(u32::MAX.into()));
        assert_eq!(seconds("Wed, 21 Oct 2015 07:28:00 GMT"), Some(60));
        assert_eq!(seconds("Wed, 21 Oct 2015 07:00:00 GMT"), Some(0));
        for wrong in ["", "soon", "-1", "1.5", "Wed, 99 Oct 2015"] {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }
}
