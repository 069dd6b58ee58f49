//! How long a condition must hold until it is an alert, and be gone until it is over. Without that, a condition at the
//! edge would open and resolve an alert with every look.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::conditions::Condition;
use super::kind::AlertKind;

/// What has changed about a condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    Opened(Condition),
    /// It still holds, and that is to be noted again.
    Seen(Condition),
    Resolved(Condition),
}

/// The conditions that held lately, by kind and subject.
#[derive(Debug)]
pub(super) struct Tracker {
    wait: Duration,
    calm: Duration,
    seen_period: Duration,
    /// Time between two looks.
    period: Duration,
    tracked: BTreeMap<(AlertKind, String), Tracked>,
}

#[derive(Debug)]
struct Tracked {
    condition: Condition,
    since: Instant,
    last: Instant,
    /// When it was opened or noted again; `None` before it is opened.
    noted: Option<Instant>,
}

impl Tracker {
    pub(super) fn new(
        wait: Duration,
        calm: Duration,
        seen_period: Duration,
        period: Duration,
    ) -> Self {
        Self {
            wait,
            calm,
            seen_period,
            period,
            tracked: BTreeMap::new(),
        }
    }

    /// Takes the conditions that hold now, and returns what has changed.
    pub(super) fn observe(&mut self, now: Instant, found: Vec<Condition>) -> Vec<Change> {
        for condition in found {
            let key = (condition.kind, condition.subject.clone());
            let tracked = self.tracked.entry(key).or_insert_with(|| Tracked {
                condition: condition.clone(),
                since: now,
                last: now,
                noted: None,
            });
            tracked.condition = condition;
            tracked.last = now;
        }
        let mut changes = Vec::new();
        let (wait, calm, seen_period) = (self.wait, self.calm, self.seen_period);
        // What apps did comes at moments of its own, so one look may find none of it and the next one all.
        let lapse = 2 * self.period;
        self.tracked.retain(|(kind, _), tracked| {
            let condition = || tracked.condition.clone();
            let gone = now - tracked.last;
            // What happens at one moment doesn't last.
            let wait = if kind.is_momentary() {
                Duration::ZERO
            } else {
                wait
            };
            match tracked.noted {
                None if gone >= lapse => return false,
                None if !gone.is_zero() || now - tracked.since < wait => {}
                None => {
                    changes.push(Change::Opened(condition()));
                    tracked.noted = Some(now);
                }
                Some(_) if gone >= calm => {
                    changes.push(Change::Resolved(condition()));
                    return false;
                }
                Some(noted) if gone.is_zero() && now - noted >= seen_period => {
                    changes.push(Change::Seen(condition()));
                    tracked.noted = Some(now);
                }
                Some(_) => {}
            }
            true
        });
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn condition(kind: AlertKind) -> Condition {
        Condition {
            kind,
            subject: "a".into(),
            app_id: None,
            summary: String::new(),
        }
    }

    /// Looks once a second whether the condition holds, and returns what changed at which second.
    fn changes(kind: AlertKind, holds: &[bool]) -> Vec<(usize, &'static str)> {
        let mut tracker = Tracker::new(3 * SECOND, 5 * SECOND, 10 * SECOND, SECOND);
        let start = Instant::now();
        let mut seen = Vec::new();
        for (second, holds) in holds.iter().enumerate() {
            let now = start + SECOND * u32::try_from(second).unwrap();
            let found = holds.then(|| condition(kind)).into_iter().collect();
            for change in tracker.observe(now, found) {
                let name = match change {
                    Change::Opened(_) => "opened",
                    Change::Seen(_) => "seen",
                    Change::Resolved(_) => "resolved",
                };
                seen.push((second, name));
            }
        }
        seen
    }

    #[test]
    fn a_condition_opens_an_alert_after_a_while_and_resolves_it_after_another() {
        let holds = [[true; 5].as_slice(), &[false; 10]].concat();
        assert_eq!(
            changes(AlertKind::StoreAway, &holds),
            [(3, "opened"), (9, "resolved")]
        );
    }

    #[test]
    fn a_short_condition_is_no_alert() {
        let holds = [true, true, false, false, true, true, false, false];
        assert_eq!(changes(AlertKind::StoreAway, &holds), []);
    }

    #[test]
    fn a_condition_that_comes_and_goes_is_one_alert() {
        let holds = [
            [true, false, true, true].as_slice(),
            &[false; 4],
            &[true],
            &[false; 3],
        ]
        .concat();
        assert_eq!(changes(AlertKind::StoreAway, &holds), [(3, "opened")]);
    }

    #[test]
    fn an_open_alert_is_noted_again_while_its_condition_holds() {
        let seen = changes(AlertKind::StoreAway, &[true; 25]);
        assert_eq!(seen, [(3, "opened"), (13, "seen"), (23, "seen")]);
    }

    #[test]
    fn what_happens_at_one_moment_is_an_alert_at_once() {
        let holds = [[true].as_slice(), &[false; 6]].concat();
        assert_eq!(
            changes(AlertKind::NodeLost, &holds),
            [(0, "opened"), (5, "resolved")]
        );
    }
}
