//! Who is on a presence channel and who is online, as a roster answers, and how that changes.

use fanfare_protocol::UserId;
use fanfare_protocol::presence::Member;

use crate::sequence::Position;

/// Who is on a channel, each user once, and when that was so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresenceSnapshot {
    /// Edges up to this position are in `members`; only later ones still apply.
    pub position: Position,
    /// In no particular order.
    pub members: Vec<Member>,
}

/// Which of some users are online, and when that was so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Online {
    /// Edges up to this position are in `online`; only later ones still apply.
    pub position: Position,
    /// For each user that was asked for.
    pub online: Vec<bool>,
}

/// A change of who is on a presence channel.
#[derive(Debug)]
pub enum PresenceChange<'a> {
    /// A user's first connection came.
    Added(&'a Member),
    /// A user's last connection went.
    Removed(&'a UserId),
}
