//! Subscribing to presence channels: a snapshot of the members, then every change, without a gap.

use fanfare_protocol::client::Subscribe;
use fanfare_protocol::presence::Member;
use fanfare_protocol::{Limits, ServerMessage};

use super::error::SubscribeError;
use super::joining::{Joining, Meanwhile};
use crate::channel_ref::ChannelRef;
use crate::outbox::Origin;
use crate::session::Session;

impl Session {
    /// Returns the member that joins a presence channel: the one in `channel_data`, else the
    /// signed-in user.
    pub(super) fn member(
        &self,
        request: &Subscribe<'_>,
        limits: &Limits,
    ) -> Result<Member, SubscribeError> {
        if let Some(channel_data) = request.channel_data.as_deref() {
            return Member::parse(channel_data, limits)
                .map_err(|error| SubscribeError::InvalidMember(error.to_string()));
        }
        let channel = &request.channel;
        let user = self.user().ok_or_else(|| {
            SubscribeError::Auth(format!(
                "channel_data is required for presence channel {channel}, or a signed-in user"
            ))
        })?;
        user.check_size(limits)
            .map_err(|error| SubscribeError::InvalidMember(error.to_string()))?;
        Ok(user)
    }

    /// Subscribes to a presence channel. The channel's changes reach this shard before the roster
    /// is asked, so none falls between the snapshot and the live changes: those that pass meanwhile
    /// follow the snapshot, unless it has them.
    pub(super) async fn join_presence(
        &self,
        request: &Subscribe<'_>,
        channel_ref: &ChannelRef,
        member: Member,
        max: usize,
    ) -> Result<(), SubscribeError> {
        let query = self.recovery_query(request, channel_ref).await?;
        let mut joining = Joining::begin(self, channel_ref, query.is_ok());
        joining.keep_backlog();
        let received_since = joining.receive_channel().await?;
        let snapshot = joining.enter(member, max).await?;
        let mut recovery = joining.recover(received_since, query).await?;
        let Meanwhile { changes, events } =
            joining.meanwhile(Some(snapshot.position), &recovery)?;
        // No await from here to `subscribe`, so nothing passes in between.
        self.send(&ServerMessage::PresenceSucceeded {
            channel: channel_ref.channel.as_str(),
            members: &snapshot.members,
            history: &recovery.state,
        });
        let newest_change = changes
            .last()
            .map_or(snapshot.position, |(position, _)| *position);
        for (_, frame) in changes {
            self.shard.state().push(self.slot, &frame, Origin::Live);
        }
        let newest = self.send_missed(&mut recovery, events);
        joining.subscribe(Some(newest_change), &recovery, newest);
        Ok(())
    }
}
