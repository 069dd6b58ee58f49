//! Numbers that order events and changes.

use std::num::NonZeroU64;

/// A place in the order of an app's changes: a number that only grows. Presence changes carry it.
pub type Position = u64;

/// Number of a node's current connection to the back end, from 1. Events may have been missed
/// between two generations. A node by itself has one generation.
pub type Generation = u32;

/// An event's place among all events cached or recorded for an app, from 1. It grows and is never
/// used twice. An event that is not kept has none, and a place before all events is `None` as well,
/// which is less than any offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Offset(NonZeroU64);

impl Offset {
    /// Returns the offset of an event that the back end has placed, or `None` for 0, the place
    /// before all events.
    pub(crate) fn of(position: Position) -> Option<Self> {
        NonZeroU64::new(position).map(Self)
    }

    /// Returns the offset of the event after `count` others.
    pub(crate) fn after(count: u64) -> Self {
        Self(NonZeroU64::MIN.saturating_add(count))
    }
}
