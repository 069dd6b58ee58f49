//! Channel events that the outside wants to know: over all nodes, each once.

use std::fmt;

use fanfare_protocol::{AppId, ChannelName, UserId};

/// A channel event.
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

/// Receives channel events; never waits.
pub trait Notices: Send + Sync + fmt::Debug + 'static {
    /// Receives one channel event.
    fn notice(&self, app: &AppId, channel: &ChannelName, notice: Notice<'_>);
}

/// Drops all channel events.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoNotices;

impl Notices for NoNotices {
    fn notice(&self, _: &AppId, _: &ChannelName, _: Notice<'_>) {}
}
