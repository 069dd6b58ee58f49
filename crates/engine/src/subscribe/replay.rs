//! The past that a new subscriber is sent: missed events of a history, or the last event of a cache
//! channel.

use fanfare_protocol::{Frame, ServerMessage, SocketId};

use crate::channel_ref::ChannelRef;
use crate::notice::Notice;
use crate::outbox::Origin;
use crate::recover::Recovery;
use crate::sequence::Offset;
use crate::session::Session;

/// An event that passed while a connection joined.
pub(super) struct PendingEvent {
    pub(super) offset: Offset,
    pub(super) frame: Frame,
    /// The connection that doesn't get it.
    pub(super) except: Option<SocketId>,
}

impl Session {
    /// Sends missed events and those that passed while the history was read, and returns the offset
    /// up to which the client has events.
    pub(super) fn send_missed(
        &self,
        recovery: &mut Recovery,
        events: Vec<PendingEvent>,
    ) -> Option<Offset> {
        let mut state = self.shard.state();
        if let Some(replay) = recovery.take_replay() {
            state.replay(self.slot, replay);
        }
        let mut newest = recovery.newest;
        let own = Some(state.connections[self.slot].socket_id);
        for PendingEvent {
            offset,
            frame,
            except,
        } in events
        {
            newest = newest.max(Some(offset));
            if except != own && recovery.is_for(except) {
                state.push(self.slot, &frame, Origin::Live);
            }
        }
        newest
    }

    /// Sends the cached event of a cache channel, or a cache miss, and returns the event's offset.
    /// `sent` is the range of offsets, after the first and up to the second, that the client was
    /// sent already.
    pub(super) fn replay(
        &self,
        channel_ref: &ChannelRef,
        sent: Option<(Option<Offset>, Option<Offset>)>,
    ) -> Option<Offset> {
        let channel = channel_ref.channel.as_str();
        let (event, offset) = channel_ref.app.cache.recall(channel);
        if sent.is_some_and(|(before, newest)| before < offset && offset <= newest) {
            return offset;
        }
        if event.is_none() && channel_ref.app.wants_cache_misses() {
            let node = self.shard.engine.node();
            node.notice(&channel_ref.app, &channel_ref.channel, Notice::CacheMiss);
        }
        self.send(&match &event {
            Some(event) => ServerMessage::Event {
                name: &event.name,
                channel,
                data: &event.data,
                user_id: None,
                position: None,
            },
            None => ServerMessage::CacheMiss { channel },
        });
        offset
    }
}
