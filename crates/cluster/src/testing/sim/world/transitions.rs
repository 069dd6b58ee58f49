//! The transition logs that the world keeps.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fanfare_engine::testing::story::Subject;
use fanfare_engine::{
    DueTransitions, LOST_NODE_GRACE, Present, Transition, TransitionKey, TransitionKind,
};
use fanfare_protocol::AppId;

use super::{App, InApp, Turn};
use crate::backend::{LogRules, millis};

/// The transition log of an app.
#[derive(Default)]
pub(super) struct Transitions {
    /// When each entry is due, in milliseconds.
    due_ms: BTreeMap<TransitionKey, u64>,
    newest_stamp: i64,
    refused: u64,
}

impl Turn<'_> {
    pub(in crate::testing::sim) fn due_transitions(
        &mut self,
        app: &AppId,
        max: usize,
    ) -> DueTransitions {
        let (due, present) = self.in_app(app, |app| (app.due_transitions(max), app.present()));
        self.world.present_at.insert(due.stamp, present);
        due
    }

    pub(in crate::testing::sim) fn settle_transitions(
        &mut self,
        app: &AppId,
        handled: &[Transition],
    ) {
        self.in_app(app, |app| {
            let due_ms = &mut app.app.transitions.due_ms;
            for handled in handled {
                if due_ms.get(&handled.key) == Some(&handled.due_ms) {
                    due_ms.remove(&handled.key);
                }
            }
        });
    }

    pub(in crate::testing::sim) fn arm_transitions(
        &mut self,
        app: &AppId,
        present: &[Present],
        newest_stamp: i64,
        rules: LogRules,
    ) {
        self.in_app(app, |app| {
            let newest = &mut app.app.transitions.newest_stamp;
            *newest = newest_stamp.max(*newest);
            for Present { channel, user } in present {
                let kind = match user {
                    Some(_) => TransitionKind::Removed,
                    None => TransitionKind::Vacated,
                };
                let key = TransitionKey {
                    kind,
                    channel: channel.clone(),
                    user: user.clone(),
                };
                let waits = app.app.transitions.due_ms.contains_key(&key);
                if !waits && !app.is_present(channel, user.as_deref()) {
                    app.log_transition(kind, channel, user.as_deref(), rules);
                }
            }
        });
    }

    pub(in crate::testing::sim) fn forget_transitions(&mut self, app: &AppId) {
        self.in_app(app, |app| app.app.transitions = Transitions::default());
    }
}

impl InApp<'_> {
    /// Returns all channels and members that are present.
    fn present(&self) -> BTreeSet<Subject> {
        let App { seats, counts, .. } = &*self.app;
        let channels = seats.keys().chain(counts.keys());
        let channels = channels.map(|channel| (channel.clone(), None));
        let members = seats.iter().flat_map(|(channel, users)| {
            let member = |user: &String| (channel.clone(), Some(user.clone()));
            users.keys().map(member)
        });
        channels.chain(members).collect()
    }

    pub(super) fn is_occupied(&self, channel: &str) -> bool {
        self.app.counts.contains_key(channel) || self.app.seats.contains_key(channel)
    }

    fn is_present(&self, channel: &str, user: Option<&str>) -> bool {
        match user {
            None => self.is_occupied(channel),
            Some(user) => {
                let seats = self.app.seats.get(channel);
                seats.is_some_and(|seats| seats.contains_key(user))
            }
        }
    }

    /// Logs a transition, if the rules want its kind.
    pub(super) fn log_transition(
        &mut self,
        kind: TransitionKind,
        channel: &str,
        user: Option<&str>,
        rules: LogRules,
    ) {
        let is_wanted = match user {
            Some(_) => rules.members,
            None => rules.channels,
        };
        if !is_wanted {
            return;
        }
        let key = |kind| TransitionKey {
            kind,
            channel: channel.to_owned(),
            user: user.map(str::to_owned),
        };
        let log = &mut self.app.transitions;
        match kind {
            TransitionKind::Occupied => drop(log.due_ms.remove(&key(TransitionKind::Vacated))),
            TransitionKind::Added => drop(log.due_ms.remove(&key(TransitionKind::Removed))),
            TransitionKind::Removed | TransitionKind::Vacated => {}
        }
        let waits = log.due_ms.contains_key(&key(kind));
        if log.due_ms.len() >= rules.max_entries && !waits {
            log.refused += 1;
            return;
        }
        let begun = match kind {
            TransitionKind::Vacated => log.due_ms.get(&key(TransitionKind::Occupied)),
            TransitionKind::Removed => log.due_ms.get(&key(TransitionKind::Added)),
            TransitionKind::Occupied | TransitionKind::Added => None,
        };
        let due_ms = self.now / 1000 + millis(kind.delay(rules.grace));
        // The clock may have been set back since it began.
        let due_ms = due_ms.max(begun.copied().unwrap_or(0));
        log.due_ms.insert(key(kind), due_ms);
    }

    /// Returns whether a channel's entry that it is occupied waits.
    pub(super) fn is_occupied_logged(&self, channel: &str) -> bool {
        self.app.transitions.due_ms.contains_key(&TransitionKey {
            kind: TransitionKind::Occupied,
            channel: channel.to_owned(),
            user: None,
        })
    }

    fn due_transitions(&mut self, max: usize) -> DueTransitions {
        let now_ms = self.now / 1000;
        let last = now_ms + millis(TransitionKind::Vacated.delay(LOST_NODE_GRACE));
        let log = &mut self.app.transitions;
        log.due_ms
            .values_mut()
            .for_each(|due| *due = last.min(*due));
        let stamp = i64::try_from(self.now).unwrap();
        log.newest_stamp = stamp.max(log.newest_stamp + 1);
        let waiting = log.due_ms.iter().map(|(key, due_ms)| Transition {
            due_ms: *due_ms,
            key: key.clone(),
        });
        let mut waiting: Vec<_> = waiting.collect();
        waiting.sort();
        let mut waiting = waiting.into_iter().peekable();
        let mut due = Vec::new();
        // As in Redis, those that are dropped count as well.
        for _ in 0..max {
            let Some(next) = waiting.next_if(|next| next.due_ms <= now_ms) else {
                break;
            };
            let TransitionKey {
                kind,
                channel,
                user,
            } = &next.key;
            if !kind.is_present() && self.is_present(channel, user.as_deref()) {
                self.app.transitions.due_ms.remove(&next.key);
            } else {
                due.push(next);
            }
        }
        let next = waiting.next();
        DueTransitions {
            stamp: self.app.transitions.newest_stamp,
            due,
            next_due: next.map(|next| Duration::from_millis(next.due_ms.saturating_sub(now_ms))),
            refused: self.app.transitions.refused,
        }
    }
}
