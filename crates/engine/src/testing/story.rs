//! What receivers are told, by the rule of recorders: reads of the transition log are compared with
//! what was told last.

use std::collections::BTreeMap;

use fanfare_protocol::AppId;

use crate::{DueTransitions, Present, TransitionKey, TransitionKind, TransitionLog};

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

/// A channel, or a user on it.
pub type Subject = (String, Option<String>);

impl Story {
    /// Records one read: what was recorded under a higher stamp is newer, and what receivers know is
    /// not told again. Returns the events that it makes.
    pub fn record(&mut self, read: &DueTransitions) -> Vec<TransitionKey> {
        let is_stale = |subject: &Subject| {
            let known = self.announced.get(subject);
            known.is_some_and(|(_, at)| *at >= read.stamp)
        };
        // Decided before the read changes anything, because it may have a subject twice.
        let fresh = read.due.iter().map(|transition| &transition.key);
        let fresh = fresh.filter(|key| !is_stale(&subject(key)));
        let fresh: Vec<_> = fresh.cloned().collect();
        let mut events = Vec::new();
        for key in fresh {
            let is_present = key.kind.is_present();
            let before = self
                .announced
                .insert(subject(&key), (is_present, read.stamp));
            if before.is_none_or(|(was_present, _)| was_present != is_present) {
                events.push(key);
            }
        }
        self.told.extend(events.iter().cloned());
        events
    }

    /// Reads, records and settles all that is due, and returns the events as text.
    pub async fn drain(&mut self, log: &dyn TransitionLog, app: &AppId) -> Vec<String> {
        let mut events = Vec::new();
        loop {
            let read = log.due(app, PART).await.unwrap();
            let count = read.due.len();
            events.extend(self.record(&read));
            log.settle(app, read.due).await.unwrap();
            if count < PART {
                return events.iter().map(in_words).collect();
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

fn subject(key: &TransitionKey) -> Subject {
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
