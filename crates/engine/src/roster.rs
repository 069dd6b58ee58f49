//! The trait that knows, over all nodes, the members of channels and the users online.

use std::sync::Arc;

use fanfare_protocol::presence::Member;
use fanfare_protocol::{ChannelName, UserId};

use crate::app::App;
use crate::budget::Network;
use crate::bus::BoxFuture;
use crate::channel_ref::ChannelRef;
use crate::network_counts::RemoteNetworks;
use crate::permit::ConnectionPermit;
use crate::snapshot::{Online, PresenceSnapshot};

/// A channel whose number of subscribed connections on this node has changed.
#[derive(Debug, Clone)]
pub struct ChangedCount {
    /// The channel.
    pub channel_ref: ChannelRef,
    /// Subscribed connections on this node.
    pub count: usize,
    /// Whether subscribers came and went since the last report, and none was there before. False on
    /// presence channels, whose members are reported one by one.
    pub visited: bool,
    /// Whether the channel's subscribers get the subscription count over all nodes.
    pub announce: bool,
}

/// Why a roster refuses a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RosterError {
    /// The channel has reached its limit of users.
    #[error("the channel already has {max} members, the most it may have")]
    Full {
        /// The limit.
        max: usize,
    },
    /// This node is not connected to the other nodes.
    #[error("this node has no connection to the other nodes at the moment")]
    Disconnected,
    /// A node has just gone, and its entries still count until the reaper removes them.
    #[error("another node has just gone, and its connections still count")]
    Unsettled,
}

/// Knows over all nodes who is on presence channels, who is signed in, and how many subscriptions
/// and connections there are. Each node reports what is true of itself. Each step is atomic for its
/// app, and steps of one node take effect in the order of the calls, whether or not their futures
/// are polled.
///
/// A presence change happens when a user's first connection over all nodes joins a channel, or the
/// last one leaves; the same holds for being online. Each change gets the next position and is
/// announced once to every node that receives the topic. While the other nodes are unreachable, reports are
/// dropped, because this node announces all it has once they are back.
pub trait Roster: Send + Sync + 'static {
    /// Adds a user of this node to a presence channel, and returns its members. A repeated call
    /// changes the user's info at most. Waits for the back end's answer.
    fn join(
        &self,
        channel_ref: &ChannelRef,
        member: &Member,
        max: usize,
    ) -> BoxFuture<'static, Result<PresenceSnapshot, RosterError>>;
    /// Removes a user of this node from a presence channel.
    fn leave(&self, channel_ref: &ChannelRef, user: &UserId);
    /// Returns the members of a presence channel.
    fn presence_snapshot<'a>(
        &'a self,
        channel_ref: &'a ChannelRef,
    ) -> BoxFuture<'a, Result<PresenceSnapshot, RosterError>>;
    /// Returns how many distinct users are on each of these channels.
    fn user_counts<'a>(
        &'a self,
        app: &'a Arc<App>,
        channels: &'a [ChannelName],
    ) -> BoxFuture<'a, Result<Vec<usize>, RosterError>>;

    /// Returns the number of subscribed connections of a channel on other nodes.
    fn remote_subscriptions<'a>(
        &'a self,
        channel_ref: &'a ChannelRef,
    ) -> BoxFuture<'a, Result<usize, RosterError>>;
    /// Returns the channels whose names start with `prefix` and that have subscribed connections on
    /// other nodes, with their number. Presence channels with members on any node are included even
    /// before a number is known; theirs is 0 then.
    fn all_remote_subscriptions<'a>(
        &'a self,
        app: &'a Arc<App>,
        prefix: &'a str,
    ) -> BoxFuture<'a, Result<Vec<(ChannelName, usize)>, RosterError>>;

    /// Returns the number of connections of an app on other nodes.
    fn remote_connections<'a>(
        &'a self,
        app: &'a Arc<App>,
    ) -> BoxFuture<'a, Result<usize, RosterError>>;

    /// Notes that a user signed in on this node.
    fn sign_in(&self, app: &Arc<App>, user: &UserId);
    /// Notes that a user is no longer signed in on this node.
    fn sign_out(&self, app: &Arc<App>, user: &UserId);
    /// Returns which of these users are signed in on any node.
    fn online<'a>(
        &'a self,
        app: &'a Arc<App>,
        users: &'a [UserId],
    ) -> BoxFuture<'a, Result<Online, RosterError>>;

    /// Counts one more connection of an app on this node if there are fewer than `max` over all
    /// nodes, and returns its permit, or `None` if the app has reached `max`. Waits for the back
    /// end's answer.
    fn admit(
        &self,
        app: &Arc<App>,
        max: usize,
    ) -> BoxFuture<'static, Result<Option<ConnectionPermit>, RosterError>>;

    /// Asks the other nodes which networks hold most of an app's connections there. Waits for their
    /// answers, at most for a second.
    fn remote_networks<'a>(&'a self, app: &'a Arc<App>) -> BoxFuture<'a, RemoteNetworks>;

    /// Asks another node to close one of a network's connections, and returns whether it did. That
    /// node keeps the place for as long as the caller may need to count its own connection. Waits
    /// for the answer, at most for a second.
    fn displace_remotely<'a>(
        &'a self,
        app: &'a Arc<App>,
        node: &'a str,
        network: Network,
    ) -> BoxFuture<'a, bool>;
}
