//! Quotas: how much an app, or an installation, may use in a day or a month of UTC.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The highest value of a quota, which no sum of counters reaches.
const MOST: u64 = 1_000_000_000_000_000_000;

/// What a quota counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QuotaKind {
    /// Messages a day: events of backends, one for each channel, and events of clients.
    Messages,
    /// Deliveries a day: one for each subscriber of each message.
    Deliveries,
    /// Bytes a month: data of events, messages of clients and frames of deliveries.
    Bytes,
}

impl QuotaKind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Messages, Self::Deliveries, Self::Bytes];

    /// Returns the name of its setting.
    #[must_use]
    pub fn setting(self) -> &'static str {
        match self {
            Self::Messages => "messages_per_day",
            Self::Deliveries => "deliveries_per_day",
            Self::Bytes => "bytes_per_month",
        }
    }

    /// Returns what it counts, as a message says it.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Messages => "messages a day",
            Self::Deliveries => "deliveries a day",
            Self::Bytes => "bytes a month",
        }
    }
}

/// Quotas. Days and months are those of UTC; 0 is no quota.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Quotas {
    /// Most messages a day: events of backends, one for each channel, and events of clients. Once it is used up, events
    /// are refused with status 403 and new connections with 4004 until midnight UTC.
    #[schema(value_type = u64, maximum = 1_000_000_000_000_000_000_u64)]
    pub messages_per_day: u64,
    /// Most deliveries a day: one for each subscriber of each message. Refuses as `messages_per_day` does.
    #[schema(value_type = u64, maximum = 1_000_000_000_000_000_000_u64)]
    pub deliveries_per_day: u64,
    /// Most bytes a month: data of events, messages of clients and frames of deliveries. Refuses as `messages_per_day`
    /// does, until the first of the next month.
    #[schema(value_type = u64, maximum = 1_000_000_000_000_000_000_u64)]
    pub bytes_per_month: u64,
    /// Messages a day from which on operators are told, and nothing is refused.
    #[schema(value_type = u64, maximum = 1_000_000_000_000_000_000_u64)]
    pub soft_messages_per_day: u64,
    /// Deliveries a day from which on operators are told, and nothing is refused.
    #[schema(value_type = u64, maximum = 1_000_000_000_000_000_000_u64)]
    pub soft_deliveries_per_day: u64,
    /// Bytes a month from which on operators are told, and nothing is refused.
    #[schema(value_type = u64, maximum = 1_000_000_000_000_000_000_u64)]
    pub soft_bytes_per_month: u64,
}

/// The two values of a quota. `None` is no quota.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct QuotaValues {
    /// From here on everything is refused.
    pub hard: Option<u64>,
    /// From here on operators are told.
    pub soft: Option<u64>,
}

impl QuotaValues {
    /// Returns whether there is nothing to count.
    #[must_use]
    pub fn is_none(self) -> bool {
        self.hard.is_none() && self.soft.is_none()
    }

    /// Returns the value that shares are parts of.
    #[must_use]
    pub fn base(self) -> Option<u64> {
        self.hard.or(self.soft)
    }

    /// Returns from where on operators are told: the soft value, or else four fifths of the hard one.
    #[must_use]
    pub fn told_from(self) -> Option<u64> {
        self.soft.or(self.hard.map(|hard| hard - hard / 5))
    }
}

impl Quotas {
    /// Returns the values of a quota.
    #[must_use]
    pub fn of(&self, kind: QuotaKind) -> QuotaValues {
        let (hard, soft) = match kind {
            QuotaKind::Messages => (self.messages_per_day, self.soft_messages_per_day),
            QuotaKind::Deliveries => (self.deliveries_per_day, self.soft_deliveries_per_day),
            QuotaKind::Bytes => (self.bytes_per_month, self.soft_bytes_per_month),
        };
        let some = |value: u64| (value > 0).then_some(value);
        QuotaValues {
            hard: some(hard),
            soft: some(soft),
        }
    }

    /// Checks the values.
    ///
    /// # Errors
    ///
    /// Returns the name of a value that is too high or has no effect, and the rule.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        for (name, value) in [
            ("messages_per_day", self.messages_per_day),
            ("deliveries_per_day", self.deliveries_per_day),
            ("bytes_per_month", self.bytes_per_month),
            ("soft_messages_per_day", self.soft_messages_per_day),
            ("soft_deliveries_per_day", self.soft_deliveries_per_day),
            ("soft_bytes_per_month", self.soft_bytes_per_month),
        ] {
            if value > MOST {
                return Err((name, format!("must be at most {MOST}")));
            }
        }
        for (name, kind) in [
            ("soft_messages_per_day", QuotaKind::Messages),
            ("soft_deliveries_per_day", QuotaKind::Deliveries),
            ("soft_bytes_per_month", QuotaKind::Bytes),
        ] {
            let values = self.of(kind);
            if let (Some(most), Some(soft)) = (values.hard, values.soft)
                && soft > most
            {
                let rule = format!(
                    "must be at most {}, which is {most}, or operators are never told",
                    kind.setting()
                );
                return Err((name, rule));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_are_told_at_the_soft_value_or_at_four_fifths_of_the_hard_one() {
        let quotas = Quotas {
            messages_per_day: 1000,
            deliveries_per_day: 1000,
            soft_deliveries_per_day: 500,
            soft_bytes_per_month: 7,
            ..Quotas::default()
        };
        let told = QuotaKind::ALL.map(|kind| quotas.of(kind).told_from());
        assert_eq!(told, [Some(800), Some(500), Some(7)]);
        let hard = QuotaKind::ALL.map(|kind| quotas.of(kind).hard);
        assert_eq!(hard, [Some(1000), Some(1000), None]);
        assert!(Quotas::default().of(QuotaKind::Bytes).is_none());
    }

    #[test]
    fn a_value_beyond_all_counters_is_refused() {
        let quotas = Quotas {
            bytes_per_month: u64::MAX,
            ..Quotas::default()
        };
        assert_eq!(quotas.check().unwrap_err().0, "bytes_per_month");
        let never_told = Quotas {
            messages_per_day: 50,
            soft_messages_per_day: 51,
            ..Quotas::default()
        };
        assert_eq!(never_told.check().unwrap_err().0, "soft_messages_per_day");
        assert_eq!(Quotas::default().check(), Ok(()));
    }
}
