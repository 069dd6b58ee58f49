//! What receivers are told, by the rule of recorders: reads of the transition log are compared with
//! what was told last.

use std::collections::BTreeMap;

use fanfare_protocol::AppId;

use crate::{DueTransitions, Present, Transition, TransitionKey, TransitionKind, TransitionLog};

/// The most entries that a test reads at once.
const PART: usize = 1000;

/// What the receivers of an app were told so far.
#[derive(Debug, Default)]
pub struct Story {
    /// For each channel, and each member of one: whether it is present, and under which stamp that
    /// was recorded.
    announced: BTreeMap<Subject, (bool, i64)>,
    /// All events, oldest first.
    pub told: Vec<TransitionKey>,
}

/// What follows from one read.
#[derive(Debug)]
pub struct Recorded {
    /// The events that receivers get.
    pub events: Vec<TransitionKey>,
    /// The entries that may be settled.
    pub handled: Vec<Transition>,
}

/// A channel, or a user on it.
pub type Subject = (String, Option<String>);

impl Story {
    /// Records one read: what receivers know is not told again. What was recorded under a higher
    /// stamp is newer; it is not told and not handled, because the clock may have been set back.
    pub fn record(&mut self, read: &DueTransitions) -> Recorded {
        let is_stale = |subject: &Subject| {
            let known = self.announced.get(subject);
            known.is_some_and(|(_, at)| *at >= read.stamp)
        };
        // Decided before the read changes anything, because it may have a subject twice.
        let all = read.due.iter();
        let fresh = all.filter(|transition| !is_stale(&subject(&transition.key)));
        let handled: Vec<_> = fresh.cloned().collect();
        let mut events = Vec::new();
        for Transition { key, .. } in &handled {
            let is_present = key.kind.is_present();
            let before = self
                .announced
                .insert(subject(key), (is_present, read.stamp));
            if before.is_none_or(|(was_present, _)| was_present != is_present) {
                events.push(key.clone());
            }
        }
        self.told.extend(events.iter().cloned());
        Recorded { events, handled }
    }

    /// Reads, records and settles all that is due, and returns the events as text.
    pub async fn drain(&mut self, log: &dyn TransitionLog, app: &AppId) -> Vec<String> {
        let mut told = Vec::new();
        loop {
            let read = log.due(app, PART).await.unwrap();
            let Recorded { events, handled } = self.record(&read);
            told.extend(events.iter().map(in_words));
            log.settle(app, handled).await.unwrap();
            if read.due.len() < PART {
                return told;
            }
        }
    }

    /// Returns the channels and members that receivers believe to be present.
    #[must_use]
    pub fn present(&self) -> Vec<Present> {
        let present = self.announced.iter().filter(|(_, (present, _))| *present);
        let subject = |(subject, _): (&Subject, _)| Present {
            channel: subject.0.clone(),
            user: subject.1.clone(),
        };
        present.map(subject).collect()
    }

    /// Returns the highest stamp under which anything was recorded.
    #[must_use]
    pub fn newest_stamp(&self) -> i64 {
        let stamps = self.announced.values().map(|(_, at)| *at);
        stamps.max().unwrap_or_default()
    }
}

/// Returns what a transition is about.
#[must_use]
pub fn subject(key: &TransitionKey) -> Subject {
    (key.channel.clone(), key.user.clone())
}

/// Returns a transition as text.
#[must_use]
pub fn in_words(key: &TransitionKey) -> String {
    let TransitionKey {
        kind,
        channel,
        user,
    } = key;
    let kind = match kind {
        TransitionKind::Occupied => "occupied",
        TransitionKind::Added => "added",
        TransitionKind::Removed => "removed",
        TransitionKind::Vacated => "vacated",
    };
    let user = user.iter().map(|user| format!(" {user}"));
    format!("{kind} {channel}{}", user.collect::<String>())
}
