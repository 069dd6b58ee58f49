//! Presence changes: users who join a presence channel or leave it, announced to its subscribers.

use fanfare_protocol::ServerMessage;

use crate::channel_ref::ChannelRef;
use crate::command::Command;
use crate::deliver::{Deliverer, shards};
use crate::snapshot::PresenceChange;

impl Deliverer {
    /// Queues a presence change to the channel's subscribers. Called in the order of positions.
    pub(crate) fn announce(
        &self,
        channel_ref: &ChannelRef,
        change: &PresenceChange<'_>,
        position: u64,
    ) {
        // The lock is held until all shards have the change, so that changes reach every shard in
        // one order.
        let routes = channel_ref.routes();
        let Some(route) = routes.get(&channel_ref.channel) else {
            return;
        };
        let channel = channel_ref.channel.as_str();
        let frame = match change {
            PresenceChange::Added(member) => {
                ServerMessage::MemberAdded { channel, member }.to_frame()
            }
            PresenceChange::Removed(user) => ServerMessage::MemberRemoved {
                channel,
                user_id: user.as_str(),
            }
            .to_frame(),
        };
        for shard in shards(route.shards) {
            self.inboxes[shard].push(Command::Announce {
                channel: route.id,
                name: channel_ref.channel.clone(),
                frame: frame.clone(),
                position,
            });
        }
    }
}
