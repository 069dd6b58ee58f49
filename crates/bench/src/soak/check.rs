//! Whether what a client receives is complete, once, and in order.

use std::collections::{HashMap, HashSet};

/// What was wrong.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    lost: u64,
    doubled: u64,
    reordered: u64,
    other: u64,
    first: Option<String>,
}

impl Faults {
    /// Records events that did not come.
    pub(crate) fn lost(&mut self, count: u64, what: &str) {
        self.lost += count;
        self.note(what);
    }

    /// Records something else.
    pub(crate) fn other(&mut self, what: &str) {
        self.other += 1;
        self.note(what);
    }

    /// Checks a number after the one before it.
    pub(crate) fn follow(&mut self, last: &mut Option<u32>, number: u32, what: &str) {
        match *last {
            Some(last) if number == last => {
                self.doubled += 1;
                self.note(&format!("{what}: {number} twice"));
            }
            Some(last) if number < last => {
                self.reordered += 1;
                self.note(&format!("{what}: {number} after {last}"));
                return;
            }
            Some(last) if number > last + 1 => {
                self.lost(
                    u64::from(number - last - 1),
                    &format!("{what}: {number} after {last}"),
                );
            }
            _ => {}
        }
        *last = Some(number);
    }

    /// Returns the first that was wrong.
    pub(crate) fn first(&self) -> Option<&str> {
        self.first.as_deref()
    }

    /// Returns how many there were of each.
    pub(crate) fn line(&self) -> String {
        format!(
            "{} lost, {} doubled, {} reordered, {} other faults",
            self.lost, self.doubled, self.reordered, self.other
        )
    }

    fn note(&mut self, what: &str) {
        self.first.get_or_insert_with(|| what.to_owned());
    }
}

/// What a client knows during one connection, or of its room for longer.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// The latest event of its room.
    pub(crate) room: Option<u32>,
    /// Where in the room's history it is.
    pub(crate) position: Option<String>,
    /// The latest event of its channel without a history.
    pub(crate) plain: Option<u32>,
    /// The latest event of each other client there.
    pub(crate) senders: HashMap<String, Option<u32>>,
    /// Members of its presence channel.
    pub(crate) members: Option<HashSet<String>>,
}

impl Seen {
    /// Returns what outlives a connection.
    pub(crate) fn carried_over(&mut self) -> Self {
        Self {
            room: self.room.take(),
            position: self.position.take(),
            ..Self::default()
        }
    }

    /// Checks that a member came who was not there, or went who was.
    pub(crate) fn member(&mut self, id: &str, came: bool, faults: &mut Faults) {
        let Some(members) = &mut self.members else {
            return;
        };
        let is_news = if came {
            members.insert(id.to_owned())
        } else {
            members.remove(id)
        };
        if !is_news {
            let what = if came { "came" } else { "went" };
            faults.other(&format!("member {id} {what} twice"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(numbers: &[u32]) -> String {
        let mut faults = Faults::default();
        let mut last = None;
        for number in numbers {
            faults.follow(&mut last, *number, "a channel");
        }
        faults.line()
    }

    #[test]
    fn numbers_that_follow_each_other_are_no_fault_wherever_they_begin() {
        assert_eq!(
            after(&[7, 8, 9]),
            "0 lost, 0 doubled, 0 reordered, 0 other faults"
        );
    }

    #[test]
    fn lost_doubled_and_reordered_numbers_are_told_apart() {
        assert_eq!(
            after(&[7, 10]),
            "2 lost, 0 doubled, 0 reordered, 0 other faults"
        );
        assert_eq!(
            after(&[7, 7, 8]),
            "0 lost, 1 doubled, 0 reordered, 0 other faults"
        );
        assert_eq!(
            after(&[7, 8, 7, 9]),
            "0 lost, 0 doubled, 1 reordered, 0 other faults"
        );
    }

    #[test]
    fn a_member_who_comes_twice_is_a_fault() {
        let mut faults = Faults::default();
        let mut seen = Seen {
            members: Some(HashSet::new()),
            ..Seen::default()
        };
        seen.member("a", true, &mut faults);
        seen.member("a", false, &mut faults);
        assert!(faults.first().is_none());
        seen.member("a", false, &mut faults);
        assert_eq!(faults.first(), Some("member a went twice"));
    }
}
