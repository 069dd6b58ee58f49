//! What knows who is where, over all nodes.

use std::sync::Arc;

use fanfare_protocol::presence::Member;
use fanfare_protocol::{ChannelName, UserId};

use crate::app::App;
use crate::bus::BoxFuture;
use crate::channel_ref::ChannelRef;
use crate::permit::ConnectionPermit;
use crate::snapshot::{Online, PresenceSnapshot};

/// A channel whose number of subscribed connections on this node has changed.
#[derive(Debug, Clone)]
pub struct Changed {
    /// The channel.
    pub channel_ref: ChannelRef,
    /// Subscribed connections on this node.
    pub count: usize,
    /// Whether its subscribers are to be told how many there are over all nodes.
    pub tell: bool,
}

/// Why a roster does not do what it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RosterError {
    /// The channel has as many users as it may have.
    #[error("the channel already has {max} members, the most it may have")]
    Full {
        /// Users allowed.
        max: usize,
    },
    /// This node does not reach the others.
    #[error("this node has no connection to the other nodes at the moment")]
    Disconnected,
    /// A node has just gone, and what it had counts still.
    #[error("another node has just gone, and its connections still count")]
    Unsettled,
}

/// Knows over all nodes who is on presence channels, who is signed in, and how many subscriptions and connections there
/// are. This node says what is true of itself; each step is atomic for its app, and steps of one node take effect in the
/// order in which the functions were called, whether or not their futures are polled.
///
/// An edge - a user came to a channel that no node had them on, or left the last one; the same for being online - gets the
/// next position and is announced to every node that listens, once. While the others are away, what this node says is
/// dropped: they are told its whole truth when they are back.
pub trait Roster: Send + Sync + 'static {
    /// This node has a user on a presence channel. Said again, it changes their info at most.
    fn join(
        &self,
        channel_ref: &ChannelRef,
        member: &Member,
        max: usize,
    ) -> BoxFuture<'static, Result<PresenceSnapshot, RosterError>>;
    /// This node has a user on a presence channel no more.
    fn leave(&self, channel_ref: &ChannelRef, user: &UserId);
    /// Who is there now.
    fn view<'a>(
        &'a self,
        channel_ref: &'a ChannelRef,
    ) -> BoxFuture<'a, Result<PresenceSnapshot, RosterError>>;
    /// How many distinct users are on each of these channels.
    fn user_counts<'a>(
        &'a self,
        app: &'a Arc<App>,
        channels: &'a [ChannelName],
    ) -> BoxFuture<'a, Result<Vec<usize>, RosterError>>;

    /// Subscribed connections of a channel on other nodes.
    fn elsewhere<'a>(
        &'a self,
        channel_ref: &'a ChannelRef,
    ) -> BoxFuture<'a, Result<usize, RosterError>>;
    /// Returns the channels whose names start with `prefix` and that other nodes have subscribed connections of, and how many. Presence
    /// channels with members on any node are among them even if no number is known yet; theirs is 0 then.
    fn all_elsewhere<'a>(
        &'a self,
        app: &'a Arc<App>,
        prefix: &'a str,
    ) -> BoxFuture<'a, Result<Vec<(ChannelName, usize)>, RosterError>>;

    /// Connections of an app on other nodes.
    fn connections_elsewhere<'a>(
        &'a self,
        app: &'a Arc<App>,
    ) -> BoxFuture<'a, Result<usize, RosterError>>;

    /// This node has a signed-in user.
    fn enter(&self, app: &Arc<App>, user: &UserId);
    /// This node has a signed-in user no more.
    fn exit(&self, app: &Arc<App>, user: &UserId);
    /// Which of these users are signed in anywhere.
    fn online<'a>(
        &'a self,
        app: &'a Arc<App>,
        users: &'a [UserId],
    ) -> BoxFuture<'a, Result<Online, RosterError>>;

    /// Counts one more connection of an app on this node, if there are fewer than `max` over all nodes.
    fn admit(
        &self,
        app: &Arc<App>,
        max: usize,
    ) -> BoxFuture<'static, Result<Option<ConnectionPermit>, RosterError>>;
}
