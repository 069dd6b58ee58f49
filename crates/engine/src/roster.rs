//! What knows who is on the presence channels.

use std::sync::Arc;

use fanfare_protocol::presence::Member;
use fanfare_protocol::{ChannelName, UserId};

use crate::app::App;
use crate::bus::BoxFuture;

/// A channel of an app.
#[derive(Debug, Clone)]
pub struct Place {
    /// The app.
    pub app: Arc<App>,
    /// The channel.
    pub channel: ChannelName,
}

/// Who is on a channel, each user once, and when that was so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// Edges up to this position are in `members`; only later ones still apply.
    pub position: u64,
    /// In no particular order.
    pub members: Vec<Member>,
}

/// Why a member was not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RosterError {
    /// The channel has as many users as it may have.
    #[error("the channel already has {max} members, the most it may have")]
    Full {
        /// Users allowed.
        max: usize,
    },
}

/// Knows which users are on a presence channel, over all nodes. Each call is atomic per channel. The edges - a user's
/// first connection came, a user's last one left - get positions and are announced in that order, once.
pub trait Roster: Send + Sync + 'static {
    /// Adds one connection of a user. A user who is there already may always add one; their info becomes the newer.
    fn join(
        &self,
        place: &Place,
        member: Member,
        max: usize,
    ) -> BoxFuture<'_, Result<View, RosterError>>;
    /// Takes one connection of a user away.
    fn leave(&self, place: &Place, user: &UserId) -> BoxFuture<'_, ()>;
    /// Who is there now.
    fn view(&self, place: &Place) -> BoxFuture<'_, View>;
    /// How many distinct users are on each of these channels.
    fn user_counts(&self, app: &Arc<App>, channels: &[ChannelName]) -> BoxFuture<'_, Vec<usize>>;
}
