//! How far each quota is used.

use fanfare_protocol::{QuotaKind, Quotas};
use fanfare_store::{QuotaPeriod, Store, StoreError};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::period::Period;
use crate::clock::unix_millis;

/// How far a quota is used.
#[derive(ToSchema)]
#[schema(as = QuotaState, rename_all = "snake_case")]
#[expect(dead_code, reason = "describes `QuotaUse::state`")]
pub(crate) enum State {
    /// Enough is left.
    Ok,
    /// The soft value, or four fifths of the hard one, is reached.
    Warning,
    /// Nothing is left: events and new connections are refused.
    UsedUp,
}

/// A quota and its use in the current day or month of UTC.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct QuotaUse {
    /// The name of its setting.
    #[schema(example = "messages_per_day")]
    pub(crate) quota: String,
    /// The value from which on everything is refused; `null` if there is none.
    #[schema(required)]
    pub(crate) limit: Option<u64>,
    /// The value from which on operators are told; `null` if there is none.
    #[schema(required)]
    pub(crate) soft_limit: Option<u64>,
    /// What nodes have used, and what they hold in shares to use.
    pub(crate) used: i64,
    /// `ok`, `warning` or `used_up`.
    #[schema(value_type = State)]
    pub(crate) state: String,
    /// What is to be known about it; `null` if enough is left.
    #[schema(required)]
    pub(crate) warning: Option<String>,
    /// When it begins again, Unix time in milliseconds.
    pub(crate) resets_at: i64,
}

/// Returns the quotas that are set, of an app or of all apps together.
pub(crate) async fn status(
    store: &Store,
    app: Option<&str>,
    quotas: &Quotas,
) -> Result<Vec<QuotaUse>, StoreError> {
    let now = unix_millis();
    let mut all = Vec::new();
    for kind in QuotaKind::ALL {
        if quotas.of(kind).is_none() {
            continue;
        }
        let period = Period::of(kind, now);
        let key = QuotaPeriod {
            app: app.map(str::to_owned),
            kind,
            at: period.at,
        };
        let used = store.quota_taken(&key).await?;
        all.push(quota_use(quotas, kind, period, used));
    }
    Ok(all)
}

fn quota_use(quotas: &Quotas, kind: QuotaKind, period: Period, used: i64) -> QuotaUse {
    let values = quotas.of(kind);
    let reaches = |value: Option<u64>| value.is_some_and(|value| used.unsigned_abs() >= value);
    let (words, end) = (kind.words(), period.end());
    let base = values.base().unwrap_or_default();
    let (state, warning) = if reaches(values.hard) {
        let warning = format!(
            "all {base} {words} are used up: events and new connections are refused until {end}"
        );
        ("used_up", Some(warning))
    } else if reaches(values.told_from()) {
        let warning = format!("{used} of {base} {words} are used; it begins again at {end}");
        ("warning", Some(warning))
    } else {
        ("ok", None)
    };
    QuotaUse {
        quota: kind.setting().into(),
        limit: values.hard,
        soft_limit: values.soft,
        used,
        state: state.into(),
        warning,
        resets_at: period.until,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_warns_from_four_fifths_on_and_says_when_it_is_used_up() {
        let quotas = Quotas {
            messages_per_day: 1000,
            soft_deliveries_per_day: 10,
            ..Quotas::default()
        };
        let period = Period::of(QuotaKind::Messages, 0);
        for (kind, used, state, words) in [
            (QuotaKind::Messages, 799, "ok", ""),
            (QuotaKind::Messages, 800, "warning", "800 of 1000"),
            (QuotaKind::Messages, 1000, "used_up", "1970-01-02T00:00:00Z"),
            (QuotaKind::Deliveries, 11, "warning", "11 of 10"),
        ] {
            let found = quota_use(&quotas, kind, period, used);
            assert_eq!(found.state, state, "{used}");
            assert!(found.warning.unwrap_or_default().contains(words));
        }
    }
}
