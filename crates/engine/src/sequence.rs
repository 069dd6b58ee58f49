//! Numbers that order events and changes.

/// A place in the order of an app's changes: a number that only grows. Presence changes carry it.
pub type Position = u64;

/// Number of a node's current connection to the back end. Events may have been missed between two
/// generations. Starts at 1; a node by itself stays at 0.
pub type Generation = u32;

/// An event's place among all events cached or recorded for an app. It grows and is never used
/// twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Offset(u64);

impl Offset {
    /// The offset of events that are not kept: later than any that is.
    pub(crate) const LIVE: Self = Self(u64::MAX);

    /// Returns the offset of an event that the back end has placed.
    pub(crate) fn of(position: Position) -> Self {
        Self(position)
    }
}
