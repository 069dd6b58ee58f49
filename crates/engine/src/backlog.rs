//! Changes and events that pass on a channel while connections join it. The answers to a join may
//! not have them, so they are kept until it ends: no longer than a join takes, and no more than an
//! outbox may hold.

use std::collections::{BTreeMap, VecDeque};

use fanfare_protocol::{Frame, SocketId};

use crate::sequence::{Offset, Position};

/// An event or a change that passed on a channel.
#[derive(Debug, Clone)]
pub(crate) enum BacklogEntry {
    /// A presence change.
    PresenceChange {
        /// Its position among the channel's presence changes.
        position: Position,
        /// The frame for subscribers.
        frame: Frame,
    },
    /// An event that is cached or recorded.
    Event {
        /// Its place among the app's cached and recorded events.
        offset: Offset,
        /// The frame for subscribers that get positions.
        frame: Frame,
        /// The connection that doesn't get it.
        except: Option<SocketId>,
    },
}

impl BacklogEntry {
    fn len(&self) -> usize {
        match self {
            Self::PresenceChange { frame, .. } | Self::Event { frame, .. } => frame.len(),
        }
    }
}

/// Changes and events since the first of the current joins began, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    passed: VecDeque<BacklogEntry>,
    /// How many passed and were dropped before the oldest that is kept.
    forgotten: u64,
    /// Bytes of the frames that are kept.
    bytes: usize,
    /// How many joins began after this many had passed.
    joins: BTreeMap<u64, usize>,
    /// Whether a subscription count was announced.
    pub(crate) passed_count: bool,
}

/// A join that has begun.
#[derive(Debug, Clone, Copy)]
#[must_use = "a join that isn't finished keeps the backlog"]
pub(crate) struct Join(u64);

impl Backlog {
    /// Begins a join: what passes from now on is kept for it.
    pub(crate) fn begin(&mut self) -> Join {
        let passed = self.forgotten + self.passed.len() as u64;
        *self.joins.entry(passed).or_default() += 1;
        Join(passed)
    }

    /// Ends a join, and returns what passed since it began, or `None` if that was more than is
    /// kept.
    pub(crate) fn end(&mut self, join: Join) -> Option<Vec<BacklogEntry>> {
        let skipped = join.0.checked_sub(self.forgotten);
        let passed =
            skipped.map(|skipped| self.passed.iter().skip(skipped as usize).cloned().collect());
        if let Some(count) = self.joins.get_mut(&join.0) {
            *count -= 1;
            if *count == 0 {
                self.joins.remove(&join.0);
            }
        }
        // The oldest join that goes on decides what is kept.
        let needed = self.joins.first_key_value().map(|(began, _)| *began);
        while needed.is_none_or(|began| self.forgotten < began) && self.forget_oldest() {}
        passed
    }

    /// Returns whether a join goes on.
    pub(crate) fn is_needed(&self) -> bool {
        !self.joins.is_empty()
    }

    /// Keeps what passes, and drops the oldest while more than `max_bytes` are kept: a connection
    /// that needs those would have more to catch up with than may wait for it.
    pub(crate) fn push(&mut self, passed: BacklogEntry, max_bytes: usize) {
        self.bytes += passed.len();
        self.passed.push_back(passed);
        while self.bytes > max_bytes && self.passed.len() > 1 && self.forget_oldest() {}
    }

    fn forget_oldest(&mut self) -> bool {
        let Some(oldest) = self.passed.pop_front() else {
            return false;
        };
        self.bytes -= oldest.len();
        self.forgotten += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(position: Position) -> BacklogEntry {
        BacklogEntry::PresenceChange {
            position,
            frame: Frame::text(&[b'x'; 100]),
        }
    }

    fn positions(passed: Option<Vec<BacklogEntry>>) -> Option<Vec<Position>> {
        let position = |passed| match passed {
            BacklogEntry::PresenceChange { position, .. } => position,
            BacklogEntry::Event { .. } => unreachable!("only changes pass here"),
        };
        passed.map(|passed| passed.into_iter().map(position).collect())
    }

    #[test]
    fn each_join_gets_what_passed_since_it_began_and_nothing_is_kept_that_none_needs() {
        let mut backlog = Backlog::default();
        let first = backlog.begin();
        let mut joins = std::collections::VecDeque::new();
        // A connection joins all the time.
        for number in 0..1000 {
            backlog.push(change(number), usize::MAX);
            joins.push_back((number, backlog.begin()));
            if joins.len() > 5 {
                let (before, join) = joins.pop_front().expect("a join");
                let seen = positions(backlog.end(join));
                assert_eq!(seen, Some((before + 1..=number).collect()));
            }
            if number == 10 {
                assert_eq!(positions(backlog.end(first)), Some((0..=10).collect()));
            }
            assert!(number < 11 || backlog.passed.len() <= 5);
        }
        for (_, join) in joins {
            assert!(backlog.is_needed());
            assert!(backlog.end(join).is_some());
        }
        assert!(!backlog.is_needed());
        assert_eq!((backlog.passed.len(), backlog.bytes), (0, 0));
    }

    #[test]
    fn a_join_during_which_more_passes_than_is_kept_is_told_so_and_later_ones_are_not() {
        let mut backlog = Backlog::default();
        let early = backlog.begin();
        backlog.push(change(1), 250);
        let late = backlog.begin();
        backlog.push(change(2), 250);
        backlog.push(change(3), 250);
        assert!(backlog.bytes <= 250);
        assert!(backlog.end(early).is_none());
        assert_eq!(positions(backlog.end(late)), Some(vec![2, 3]));
        // One that is longer than the bound is kept alone.
        let join = backlog.begin();
        backlog.push(change(4), 10);
        assert_eq!(positions(backlog.end(join)), Some(vec![4]));
    }
}
