//! Numbers that say what came before what.

/// When something was so: a number that only grows, within an app. Edges carry it.
pub type Position = u64;

/// Since which connection to the others a node has been listening without a break; another one means that something may
/// have been missed in between. Starts at 1; a node by itself is at 0 for ever.
pub type Generation = u32;

/// When an event was kept, among all events kept for an app. Never used twice; grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Offset(u64);

impl Offset {
    /// Of events that are not kept: later than any that is.
    pub(crate) const LIVE: Self = Self(u64::MAX);

    /// Where other nodes say when it was kept.
    pub(crate) fn of(position: Position) -> Self {
        Self(position)
    }
}
