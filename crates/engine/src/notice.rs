//! What happens on channels and is worth telling the outside: over all nodes, each once.

use std::fmt;

use fanfare_protocol::{AppId, ChannelName, UserId};

/// Something that happened on a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice<'a> {
    /// The first subscription came.
    Occupied,
    /// The last subscription went.
    Vacated,
    /// A user's first connection came to a presence channel.
    MemberAdded(&'a UserId),
    /// A user's last connection left a presence channel.
    MemberRemoved(&'a UserId),
}

/// Takes notices; never waits.
pub trait Notices: Send + Sync + fmt::Debug + 'static {
    /// Takes one.
    fn notice(&self, app: &AppId, channel: &ChannelName, notice: Notice<'_>);
}

/// For who wants none.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoNotices;

impl Notices for NoNotices {
    fn notice(&self, _: &AppId, _: &ChannelName, _: Notice<'_>) {}
}
