//! Which users this node has on the presence channels of an app: the roster hears of each once, however many connections.

use std::collections::HashMap;
use std::sync::Arc;

use fanfare_protocol::presence::Member;
use fanfare_protocol::{ChannelName, UserId};
use parking_lot::Mutex;

use crate::bus::BoxFuture;
use crate::roster::{ChannelRef, PresenceSnapshot, Roster, RosterError};

/// The presence channels of one app on this node.
#[derive(Debug, Default)]
pub(crate) struct LocalPresence(Mutex<HashMap<ChannelName, Members>>);

type Members = HashMap<UserId, Seat>;

#[derive(Debug)]
struct Seat {
    user_info: Option<Arc<str>>,
    connections: usize,
}

impl LocalPresence {
    /// One more connection of a user. The roster is asked under the lock, so that it hears in the order of what happens.
    pub(crate) fn join(
        &self,
        channel_ref: &ChannelRef,
        member: Member,
        max: usize,
        roster: &dyn Roster,
    ) -> BoxFuture<'static, Result<PresenceSnapshot, RosterError>> {
        let mut rooms = self.0.lock();
        let joined = roster.join(channel_ref, &member, max);
        let room = rooms.entry(channel_ref.channel.clone()).or_default();
        let seat = room.entry(member.user_id).or_insert_with(|| Seat {
            user_info: None,
            connections: 0,
        });
        seat.connections += 1;
        seat.user_info = member.user_info;
        joined
    }

    /// One connection of a user less.
    pub(crate) fn leave(&self, channel_ref: &ChannelRef, user: &UserId, roster: &dyn Roster) {
        let mut rooms = self.0.lock();
        let Some(room) = rooms.get_mut(&channel_ref.channel) else {
            return;
        };
        let Some(seat) = room.get_mut(user) else {
            return;
        };
        seat.connections -= 1;
        if seat.connections > 0 {
            return;
        }
        room.remove(user);
        if room.is_empty() {
            rooms.remove(&channel_ref.channel);
        }
        roster.leave(channel_ref, user);
    }

    /// Every member this node has, each handed on under the lock: nothing that happens meanwhile comes before or between.
    pub(crate) fn for_each(&self, mut tell: impl FnMut(&ChannelName, Member)) {
        for (channel, room) in self.0.lock().iter() {
            for (user_id, seat) in room {
                let member = Member {
                    user_id: user_id.clone(),
                    user_info: seat.user_info.clone(),
                };
                tell(channel, member);
            }
        }
    }
}
