//! Entries of transition logs as Redis keeps them, which `prelude.lua` describes.

use std::time::Duration;

use fanfare_engine::{DueTransitions, LOST_NODE_GRACE, Transition, TransitionKind};
use redis::Value;

use super::answer::{integer, pairs, parts, text};
use crate::backend::{LogRules, millis, transition_entry};

/// Returns rules as scripts take them, empty if nothing is logged.
pub(super) fn rules(rules: LogRules) -> String {
    let LogRules {
        channels,
        members,
        grace,
        max_entries,
    } = rules;
    let wanted = match (channels, members) {
        (false, false) => return String::new(),
        (true, false) => "c",
        (false, true) => "m",
        (true, true) => "cm",
    };
    format!("{wanted} {} {max_entries}", millis(grace))
}

/// Returns the longest time in milliseconds until an entry is due.
pub(super) fn longest_delay() -> u64 {
    millis(TransitionKind::Vacated.delay(LOST_NODE_GRACE))
}

/// Reads the reply to a read of due entries.
pub(super) fn due(value: Value) -> Option<DueTransitions> {
    let [stamp, due, next_due, refused] = parts(value)?;
    let transition = |entry, due_ms| {
        Some(Transition {
            key: transition_entry::key(&text(entry)?)?,
            due_ms: text(due_ms)?.parse().ok()?,
        })
    };
    Some(DueTransitions {
        stamp: text(stamp)?.parse().ok()?,
        due: pairs(due, transition)?,
        next_due: u64::try_from(integer(next_due)?)
            .ok()
            .map(Duration::from_millis),
        refused: u64::try_from(integer(refused)?).ok()?,
    })
}
