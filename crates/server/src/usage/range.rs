//! The range of time and the step that a caller asks for.

use fanfare_store::{DAY, HOUR, UsageStep};
use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Most points of an answer: all minutes that are kept.
const MAX_POINTS: i64 = 2_880;
/// The range if none is given.
const DEFAULT_SPAN: i64 = DAY;
/// Longest ranges for which minutes and hours are the default step.
const MOST_IN_MINUTES: i64 = 6 * HOUR;
const MOST_IN_HOURS: i64 = 7 * DAY;
/// A larger number is Unix time in milliseconds, a smaller one in seconds: the boundary is March 1973 and the year 5138.
const FIRST_MILLISECOND: i64 = 100_000_000_000;

/// The length of a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
#[schema(as = UsageStep)]
pub(crate) enum Step {
    /// Kept for 48 hours.
    Minute,
    /// Kept for 90 days.
    Hour,
    /// A day of UTC, kept for three years.
    Day,
}

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    /// A JSON object.
    Json,
    /// A line of comma-separated values for each item, under a heading.
    Csv,
}

/// The range of time. It is widened to whole steps of UTC.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct RangeQuery {
    /// Its beginning: a date, a time such as `2026-11-21T09:34:10Z`, or Unix time in seconds or milliseconds. By default
    /// a day before `to`.
    #[param(example = "2026-11-21")]
    pub(crate) from: Option<String>,
    /// Its end, written likewise. By default now.
    pub(crate) to: Option<String>,
    /// The length of a period. By default minutes for up to 6 hours, hours for up to 7 days, and days for more.
    pub(crate) step: Option<Step>,
    /// `csv` for CSV, as with the header `Accept: text/csv`.
    // Inline, because no body has it: schemas that only parameters name do not come into the document.
    #[param(inline)]
    pub(crate) format: Option<Format>,
}

/// A range of whole steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    /// Its beginning, Unix time in milliseconds.
    pub(crate) from: i64,
    /// Its end.
    pub(crate) until: i64,
    pub(crate) step: UsageStep,
}

impl From<Step> for UsageStep {
    fn from(step: Step) -> Self {
        match step {
            Step::Minute => Self::Minute,
            Step::Hour => Self::Hour,
            Step::Day => Self::Day,
        }
    }
}

impl From<UsageStep> for Step {
    fn from(step: UsageStep) -> Self {
        match step {
            UsageStep::Minute => Self::Minute,
            UsageStep::Hour => Self::Hour,
            UsageStep::Day => Self::Day,
        }
    }
}

impl Step {
    /// Returns its name.
    pub(crate) fn as_str(self) -> &'static str {
        UsageStep::from(self).as_str()
    }
}

impl RangeQuery {
    /// Returns the range, or what is wrong with the query.
    pub(crate) fn range(&self, now: i64) -> Result<Range, String> {
        let to = time("to", self.to.as_deref())?.unwrap_or(now);
        let from = time("from", self.from.as_deref())?.unwrap_or(to - DEFAULT_SPAN);
        if from >= to {
            return Err(format!("from must be before to: {} is not", shown(from)));
        }
        if from > now {
            return Err(format!(
                "from must not be in the future: {} is",
                shown(from)
            ));
        }
        let step = match self.step {
            Some(step) => step.into(),
            None => default_step(from, to.min(now), now),
        };
        let range = Range {
            from: step.floor(from),
            // What is to come has no usage.
            until: step.floor(to.min(now) - 1) + step.millis(),
            step,
        };
        range.check(now)?;
        Ok(range)
    }
}

impl Range {
    fn check(self, now: i64) -> Result<(), String> {
        let name = self.step.as_str();
        let oldest = self.step.floor(now - self.step.kept()) + self.step.millis();
        if self.from < oldest {
            let advice = match self.step {
                UsageStep::Minute => ", or step=hour",
                UsageStep::Hour => ", or step=day",
                UsageStep::Day => "",
            };
            let from = shown(oldest);
            return Err(format!(
                "usage by {name} is kept from {from} on: ask for that or later{advice}"
            ));
        }
        match self.points() {
            0..=MAX_POINTS => Ok(()),
            points => Err(format!(
                "the range has {points} {name}s, and an answer has {MAX_POINTS} at most: ask for a shorter range or a \
                 longer step"
            )),
        }
    }

    /// Returns the number of steps.
    pub(crate) fn points(self) -> i64 {
        (self.until - self.from) / self.step.millis()
    }
}

/// Returns the finest step that suits a range's length and is kept for all of it.
fn default_step(from: i64, to: i64, now: i64) -> UsageStep {
    let suits = |step: &UsageStep| {
        let most = match step {
            UsageStep::Minute => MOST_IN_MINUTES,
            UsageStep::Hour => MOST_IN_HOURS,
            UsageStep::Day => i64::MAX,
        };
        // A step less than is kept, because the oldest may not be whole.
        to - from <= most && from >= now - step.kept() + 2 * step.millis()
    };
    UsageStep::ALL
        .into_iter()
        .find(suits)
        .unwrap_or(UsageStep::Day)
}

/// Returns a time as it can be given again.
fn shown(at: i64) -> String {
    Timestamp::from_millisecond(at).map_or_else(|_| at.to_string(), |time| time.to_string())
}

/// Parses a time.
pub(crate) fn time(name: &str, text: Option<&str>) -> Result<Option<i64>, String> {
    let Some(text) = text else { return Ok(None) };
    if let Ok(number) = text.parse::<i64>() {
        let at = if number.abs() < FIRST_MILLISECOND {
            number * 1000
        } else {
            number
        };
        // Far from the ends of the numbers, so that no sum leaves them.
        if Timestamp::from_millisecond(at).is_ok() {
            return Ok(Some(at));
        }
    }
    let utc = |time: DateTime| time.to_zoned(TimeZone::UTC).map(|time| time.timestamp());
    let parsed = text
        .parse::<Timestamp>()
        .or_else(|_| text.parse::<DateTime>().and_then(utc))
        .or_else(|_| text.parse::<Date>().and_then(|date| utc(date.into())));
    match parsed {
        Ok(time) => Ok(Some(time.as_millisecond())),
        Err(_) => Err(format!(
            "{name}: {text:?} is no time: write 2026-11-21, 2026-11-21T09:34:10Z (a + before an offset is %2B in a URL), or \
             Unix time in seconds or milliseconds"
        )),
    }
}

#[cfg(test)]
mod tests {
    use fanfare_store::MINUTE;

    use super::*;

    /// 2026-11-21T09:34:10Z.
    const NOW: i64 = 1_795_253_650_000;

    fn range(from: Option<&str>, to: Option<&str>, step: Option<Step>) -> Result<Range, String> {
        let query = RangeQuery {
            from: from.map(Into::into),
            to: to.map(Into::into),
            step,
            format: None,
        };
        query.range(NOW)
    }

    #[test]
    fn a_range_is_widened_to_whole_steps_and_ends_now() {
        let found = range(None, None, None).unwrap();
        assert_eq!(found.step, UsageStep::Hour);
        assert_eq!(shown(found.from), "2026-11-20T09:00:00Z");
        assert_eq!(shown(found.until), "2026-11-21T10:00:00Z");
        assert_eq!(found.points(), 25);
        let found = range(Some("2026-11-21T09:30:10Z"), Some("2027-01-01"), None).unwrap();
        assert_eq!((found.step, found.points()), (UsageStep::Minute, 5));
        let whole = range(Some("2026-11-19"), Some("2026-11-20"), Some(Step::Hour)).unwrap();
        assert_eq!(whole.points(), 24);
    }

    #[test]
    fn times_are_dates_seconds_or_milliseconds() {
        let seconds = (NOW - 7 * MINUTE) / 1000;
        let texts = [
            seconds.to_string(),
            format!("{seconds}000"),
            "2026-11-21T09:27:10Z".into(),
            "2026-11-21 10:27:10+01:00".into(),
            "2026-11-21T09:27:10".into(),
        ];
        for text in texts {
            let found = range(Some(&text), None, None).expect(&text);
            assert_eq!(shown(found.from), "2026-11-21T09:27:00Z", "{text}");
        }
        for text in ["yesterday", "", "2026-13-01", "9223372036854775807"] {
            let error = range(Some(text), None, None).unwrap_err();
            assert!(error.contains("2026-11-21T09:34:10Z"), "{error}");
        }
    }

    #[test]
    fn the_step_follows_from_the_range_and_from_what_is_kept() {
        for (from, to, step) in [
            ("2026-11-21T05:00:00Z", None, UsageStep::Minute),
            ("2026-11-20", None, UsageStep::Hour),
            ("2026-11-10", None, UsageStep::Day),
            // Minutes of three days ago are gone.
            (
                "2026-11-18T05:00",
                Some("2026-11-18T06:00"),
                UsageStep::Hour,
            ),
            ("2026-06-18T05:00", Some("2026-06-18T06:00"), UsageStep::Day),
        ] {
            assert_eq!(range(Some(from), to, None).unwrap().step, step, "{from}");
        }
    }

    #[test]
    fn what_cannot_be_answered_is_refused_with_what_to_ask() {
        for (from, to, step, words) in [
            ("2026-11-21", Some("2026-11-20"), None, "before to"),
            ("2026-11-22", Some("2026-11-23"), None, "in the future"),
            ("2026-11-18", None, Some(Step::Minute), "or step=hour"),
            ("2026-06-18", None, Some(Step::Hour), "or step=day"),
            ("2020-06-18", None, None, "usage by day is kept from"),
        ] {
            let error = range(Some(from), to, step).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
        let all = range(Some("2026-11-19T09:36"), None, Some(Step::Minute));
        assert!(all.unwrap().points() <= MAX_POINTS);
    }
}
