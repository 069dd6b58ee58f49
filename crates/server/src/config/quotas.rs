//! Settings of `quotas`: what all apps together may use in a day or a month.

use fanfare_protocol::Quotas;
use serde::{Deserialize, Serialize};

use super::rules::Rules;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct QuotasConfig {
    /// Most messages a day.
    messages_per_day: u64,
    /// Most deliveries a day.
    deliveries_per_day: u64,
    /// Most bytes a month.
    bytes_per_month: u64,
    /// From where on operators are told.
    soft_messages_per_day: u64,
    soft_deliveries_per_day: u64,
    soft_bytes_per_month: u64,
}

impl QuotasConfig {
    /// Returns the quotas.
    pub(crate) fn quotas(&self) -> Quotas {
        Quotas {
            messages_per_day: self.messages_per_day,
            deliveries_per_day: self.deliveries_per_day,
            bytes_per_month: self.bytes_per_month,
            soft_messages_per_day: self.soft_messages_per_day,
            soft_deliveries_per_day: self.soft_deliveries_per_day,
            soft_bytes_per_month: self.soft_bytes_per_month,
        }
    }

    pub(super) fn check(&self, rules: Rules<'_>) -> anyhow::Result<()> {
        match self.quotas().check() {
            Ok(()) => Ok(()),
            Err((name, rule)) => rules.check(name, false, rule),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::tests::{load, refused};

    #[test]
    fn quotas_of_the_installation_are_settings_of_every_node() {
        let config = load(&[("quotas.messages_per_day", "1000")]).expect("a quota");
        assert_eq!(config.quotas.quotas().messages_per_day, 1000);
        let error = refused("quotas.bytes_per_month", "9000000000000000000");
        assert!(error.contains("must be at most"), "{error}");
    }
}
