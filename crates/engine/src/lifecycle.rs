//! The last things that happened to a connection, for the operator who looks at it. Most of it is read from the
//! connection's state; only what that doesn't show is noted, so an idle connection keeps no notes.

use std::collections::VecDeque;
use std::time::Duration;

use crate::budget::{Charge, Payer, Resource};

/// Most entries that are told of one connection, and most notes that it keeps.
pub const MAX_LIFECYCLE_ENTRIES: usize = 32;
/// Most bytes of a text in a note, because clients choose some of them.
const MAX_TEXT: usize = 200;
/// About what a note takes beside its texts, in bytes.
const NOTE_BYTES: usize = 96;

/// A kind of thing that happens to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LifecycleKind {
    /// The client connected. The text is its library and version.
    Connected,
    /// The client signed in. The text is its user.
    SignedIn,
    /// The client subscribed to a channel.
    Subscribed,
    /// The client recovered all that it had missed of a channel.
    Recovered,
    /// The client could not recover what it had missed. The text says why, as the client was told.
    NotRecovered,
    /// The client unsubscribed from a channel.
    Unsubscribed,
    /// Events of the client were accepted. The text is the name of the last one.
    ClientEvent,
    /// The client was refused something. The text says why, without what it quotes of the client.
    Refused,
}

/// Something that happened to a connection, once or several times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LifecycleEntry {
    /// What happened.
    pub kind: LifecycleKind,
    /// How long ago it happened last.
    pub ago: Duration,
    /// How often it happened.
    pub count: u32,
    /// The channel.
    pub channel: Option<String>,
    /// A text whose meaning depends on the kind.
    pub text: Option<String>,
}

/// Something to be noted of a connection.
#[derive(Debug)]
pub(crate) struct Note<'a> {
    pub(crate) kind: LifecycleKind,
    pub(crate) channel: Option<&'a str>,
    pub(crate) text: Option<&'a str>,
    /// When a subscription that has ended was made, since the connection began, if known.
    pub(crate) since: Option<Duration>,
}

impl Note<'_> {
    /// Returns a note of which nothing is known but its kind.
    pub(crate) fn of(kind: LifecycleKind) -> Self {
        Self {
            kind,
            channel: None,
            text: None,
            since: None,
        }
    }
}

/// A note of a connection. Times are since the connection began.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) kind: LifecycleKind,
    pub(crate) at: Duration,
    pub(crate) since: Option<Duration>,
    pub(crate) count: u32,
    pub(crate) channel: Option<Box<str>>,
    pub(crate) text: Option<Box<str>>,
}

impl Kept {
    fn of(note: &Note<'_>, at: Duration) -> Self {
        let text = |text: &str| text[..text.floor_char_boundary(MAX_TEXT)].into();
        Self {
            kind: note.kind,
            at,
            since: note.since,
            count: 1,
            channel: note.channel.map(text),
            text: note.text.map(text),
        }
    }

    fn bytes(&self) -> usize {
        let texts = [&self.channel, &self.text].into_iter().flatten();
        NOTE_BYTES + texts.map(|text| text.len()).sum::<usize>()
    }

    /// Returns whether it is the same thing again, so that clients that repeat themselves don't push out all else.
    fn repeats(&self, other: &Self) -> bool {
        let is_same = self.kind == other.kind && self.channel == other.channel;
        match self.kind {
            LifecycleKind::ClientEvent => is_same,
            LifecycleKind::Refused => is_same && self.text == other.text,
            _ => false,
        }
    }
}

/// What was noted of a connection, oldest first. Charged to the client's payer: where there is no room, the oldest
/// notes give way.
#[derive(Debug)]
pub(crate) struct Lifecycle {
    notes: VecDeque<Kept>,
    charge: Charge,
    /// Whether notes were dropped, so that what is missing may have happened all the same.
    has_dropped: bool,
}

/// A time between two events of a connection in which it was subscribed, since the connection began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EndedSubscription {
    pub(crate) channel: Box<str>,
    pub(crate) since: Option<Duration>,
    pub(crate) until: Duration,
}

impl Lifecycle {
    pub(crate) fn new(payer: &Payer) -> Self {
        Self {
            notes: VecDeque::new(),
            charge: payer.empty_charge(Resource::LifecycleBytes),
            has_dropped: false,
        }
    }

    /// Adds a note about a connection of this age.
    pub(crate) fn note(&mut self, note: &Note<'_>, age: Duration) {
        let mut new = Kept::of(note, age);
        let repeated = self.notes.iter().position(|known| new.repeats(known));
        if let Some(known) = repeated.and_then(|index| self.notes.remove(index)) {
            self.charge.shrink(known.bytes());
            new.count = known.count.saturating_add(1);
        }
        if self.notes.len() >= MAX_LIFECYCLE_ENTRIES {
            self.drop_oldest();
        }
        while self.charge.grow(new.bytes()).is_err() {
            if !self.drop_oldest() {
                self.has_dropped = true;
                return;
            }
        }
        self.notes.push_back(new);
    }

    fn drop_oldest(&mut self) -> bool {
        let oldest = self.notes.pop_front();
        if let Some(oldest) = &oldest {
            self.charge.shrink(oldest.bytes());
            self.has_dropped = true;
        }
        oldest.is_some()
    }

    /// Returns all notes, oldest first.
    pub(crate) fn notes(&self) -> impl Iterator<Item = &Kept> {
        self.notes.iter()
    }

    /// Returns whether no note was dropped.
    pub(crate) fn is_complete(&self) -> bool {
        !self.has_dropped
    }

    /// Returns the subscriptions that the client has ended, as far as they were noted, oldest first.
    pub(crate) fn ended_subscriptions(&self) -> impl Iterator<Item = EndedSubscription> {
        let ended = self.notes.iter();
        let ended = ended.filter(|note| note.kind == LifecycleKind::Unsubscribed);
        ended.filter_map(|note| {
            Some(EndedSubscription {
                channel: note.channel.clone()?,
                since: note.since,
                until: note.at,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::{Bounds, Budgets, Ledger};

    fn lifecycle(max_bytes: usize) -> (Ledger, Lifecycle) {
        let ledger = Ledger::new(Budgets {
            node: Bounds::unlimited().with(Resource::LifecycleBytes, max_bytes),
            ..Budgets::default()
        });
        let payer = ledger.payer(None);
        (ledger, Lifecycle::new(&payer))
    }

    fn note<'a>(kind: LifecycleKind, channel: &'a str, text: &'a str) -> Note<'a> {
        Note {
            kind,
            channel: Some(channel),
            text: Some(text),
            since: None,
        }
    }

    #[test]
    fn the_newest_notes_are_kept_within_what_the_payer_may_hold() {
        let (ledger, mut all) = lifecycle(usize::MAX);
        for number in 0..100 {
            let channel = number.to_string();
            let noted = note(LifecycleKind::Unsubscribed, &channel, "");
            all.note(&noted, Duration::from_secs(number));
        }
        assert_eq!(all.notes.len(), MAX_LIFECYCLE_ENTRIES);
        assert_eq!(all.notes[0].channel.as_deref(), Some("68"));
        let bytes: usize = all.notes.iter().map(Kept::bytes).sum();
        assert_eq!(ledger.used(Resource::LifecycleBytes), bytes);
        drop(all);
        assert_eq!(ledger.used(Resource::LifecycleBytes), 0);

        let (ledger, mut all) = lifecycle(2 * NOTE_BYTES + 10);
        for channel in ["a", "b", "c"] {
            all.note(
                &note(LifecycleKind::Unsubscribed, channel, ""),
                Duration::ZERO,
            );
        }
        let channels: Vec<_> = all
            .notes
            .iter()
            .filter_map(|kept| kept.channel.as_deref())
            .collect();
        assert_eq!(channels, ["b", "c"]);
        assert!(ledger.used(Resource::LifecycleBytes) <= 2 * NOTE_BYTES + 10);
    }

    #[test]
    fn repetitions_are_counted_and_push_nothing_out() {
        let (_ledger, mut all) = lifecycle(usize::MAX);
        let second = Duration::from_secs;
        all.note(&note(LifecycleKind::Unsubscribed, "news", ""), second(1));
        for at in 2..1000 {
            let name = if at % 2 == 0 { "client-a" } else { "client-b" };
            all.note(
                &note(LifecycleKind::ClientEvent, "private-a", name),
                second(at),
            );
            all.note(
                &note(LifecycleKind::Refused, "private-b", "no room"),
                second(at),
            );
        }
        let seen: Vec<_> = all
            .notes
            .iter()
            .map(|kept| (kept.kind, kept.count, kept.at, kept.text.as_deref()))
            .collect();
        assert_eq!(
            seen,
            [
                (LifecycleKind::Unsubscribed, 1, second(1), Some("")),
                (
                    LifecycleKind::ClientEvent,
                    998,
                    second(999),
                    Some("client-b")
                ),
                (LifecycleKind::Refused, 998, second(999), Some("no room")),
            ]
        );
    }
}
