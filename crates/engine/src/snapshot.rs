//! The members of a presence channel and the users online, as a roster answers, and their changes.

use fanfare_protocol::UserId;
use fanfare_protocol::presence::Member;

use crate::sequence::Position;

/// The members of a channel, each user once, at a position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresenceSnapshot {
    /// Changes up to this position are in `members`; only later ones still apply.
    pub position: Position,
    /// The members, in no particular order.
    pub members: Vec<Member>,
}

/// Which of some users are online, at a position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Online {
    /// Changes up to this position are in `online`; only later ones still apply.
    pub position: Position,
    /// One value for each user in the query.
    pub online: Vec<bool>,
}

/// A presence change.
#[derive(Debug)]
pub enum PresenceChange<'a> {
    /// A user's first connection joined.
    Added(&'a Member),
    /// A user's last connection left.
    Removed(&'a UserId),
}
