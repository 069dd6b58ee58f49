//! Channel events that the outside wants to know: over all nodes, each once.

use std::fmt;

use fanfare_protocol::{AppId, ChannelName, SocketId, UserId};

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
    /// A client event was accepted. Only for apps that want client events, or are watched.
    ClientEvent {
        /// The event's name.
        event: &'a str,
        /// The event's data, as its subscribers get it.
        data: &'a str,
        /// The connection that sent the event.
        socket_id: SocketId,
        /// The user who sent the event, on presence channels.
        user_id: Option<&'a UserId>,
    },
    /// A client subscribed to a cache channel that keeps no event. Only for apps that want cache
    /// misses, or are watched.
    CacheMiss,
    /// The channel's subscribers got a new subscription count over all nodes. Only for apps that
    /// want subscription counts.
    SubscriptionCount(usize),
}

/// Which channel events the outside wants of an app.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a kind of event that is wanted or not"
)]
pub struct WantedNotices {
    /// Channels that become occupied or vacated, in the app's transition log.
    pub channels: bool,
    /// Members who come to presence channels or leave them, in the app's transition log.
    pub members: bool,
    /// Client events.
    pub client_events: bool,
    /// Cache misses.
    pub cache_misses: bool,
    /// Subscription counts.
    pub subscription_counts: bool,
}

impl WantedNotices {
    /// Returns the kinds as bits, so that one atomic holds them.
    pub(crate) fn to_bits(self) -> u8 {
        let Self {
            channels,
            members,
            client_events,
            cache_misses,
            subscription_counts,
        } = self;
        [
            channels,
            members,
            client_events,
            cache_misses,
            subscription_counts,
        ]
        .iter()
        .rev()
        .fold(0, |bits, wanted| bits << 1 | u8::from(*wanted))
    }

    /// Returns the kinds that [`WantedNotices::to_bits`] made bits of.
    pub(crate) fn from_bits(bits: u8) -> Self {
        let wanted = |bit: u8| bits >> bit & 1 == 1;
        Self {
            channels: wanted(0),
            members: wanted(1),
            client_events: wanted(2),
            cache_misses: wanted(3),
            subscription_counts: wanted(4),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_that_is_wanted_has_a_bit_of_its_own() {
        for bits in 0..1 << 5 {
            assert_eq!(WantedNotices::from_bits(bits).to_bits(), bits);
        }
        assert_eq!(WantedNotices::default().to_bits(), 0);
    }
}
