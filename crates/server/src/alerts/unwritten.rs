//! Alerts that this node has told while the store was away. They are written when it is back, under the id that was told.

use std::collections::BTreeMap;

use fanfare_store::{AlertRecord, NewAlert};

use super::conditions::Condition;
use crate::clock::unix_millis;

/// Alerts by kind and subject.
#[derive(Debug, Default)]
pub(super) struct Unwritten(BTreeMap<(String, String), Told>);

#[derive(Debug)]
struct Told {
    alert: NewAlert,
    opened_at: i64,
    is_written: bool,
}

impl Unwritten {
    /// Notes an alert that is told now, and returns its record.
    pub(super) fn open(&mut self, alert: NewAlert) -> AlertRecord {
        let key = (alert.kind.clone(), alert.subject.clone());
        let told = Told {
            alert,
            opened_at: unix_millis(),
            is_written: false,
        };
        let record = told.record(None);
        self.0.insert(key, told);
        record
    }

    /// Returns the alerts that the store doesn't have yet.
    pub(super) fn to_write(&self) -> Vec<NewAlert> {
        let unwritten = self.0.values().filter(|told| !told.is_written);
        unwritten.map(|told| told.alert.clone()).collect()
    }

    /// Notes that the store has an alert, perhaps from another node.
    pub(super) fn written(&mut self, alert: &NewAlert) {
        let key = (alert.kind.clone(), alert.subject.clone());
        if let Some(told) = self.0.get_mut(&key) {
            told.is_written = true;
        }
    }

    /// Forgets the alert of a condition that is gone, and returns its record and whether the store has it.
    pub(super) fn resolve(&mut self, condition: &Condition) -> Option<(AlertRecord, bool)> {
        let key = (
            condition.kind.as_str().to_owned(),
            condition.subject.clone(),
        );
        let told = self.0.remove(&key)?;
        Some((told.record(Some(unix_millis())), told.is_written))
    }
}

impl Told {
    fn record(&self, resolved_at: Option<i64>) -> AlertRecord {
        let alert = &self.alert;
        AlertRecord {
            id: alert.id.clone(),
            kind: alert.kind.clone(),
            subject: alert.subject.clone(),
            app_id: alert.app_id.clone(),
            summary: alert.summary.clone(),
            opened_at: self.opened_at,
            seen_at: self.opened_at,
            resolved_at,
            silenced_until: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerts::AlertKind;

    #[test]
    fn an_alert_ends_under_the_id_under_which_it_was_told_and_the_next_one_has_another() {
        let condition = Condition {
            kind: AlertKind::StoreAway,
            subject: "a:6001".into(),
            app_id: None,
            summary: String::new(),
        };
        let alert = || NewAlert {
            id: NewAlert::issue_id(),
            kind: "store_away".into(),
            subject: "a:6001".into(),
            app_id: None,
            summary: String::new(),
        };
        let mut unwritten = Unwritten::default();
        let first = unwritten.open(alert());
        let waiting = unwritten.to_write();
        assert_eq!(waiting[0].id, first.id);
        unwritten.written(&waiting[0]);
        assert_eq!(unwritten.to_write(), []);
        let (resolved, is_written) = unwritten.resolve(&condition).expect("an alert");
        assert_eq!((&resolved.id, is_written), (&first.id, true));
        assert!(resolved.resolved_at.is_some());
        assert_eq!(unwritten.resolve(&condition), None);
        assert_ne!(unwritten.open(alert()).id, first.id);
    }
}
