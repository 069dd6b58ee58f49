//! Which users this node has on the presence channels of an app: the roster hears of each once, however many connections.

use std::collections::HashMap;
use std::sync::Arc;

use fanfare_protocol::presence::Member;
use fanfare_protocol::{ChannelName, UserId};
use parking_lot::Mutex;

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
    /// One more connection of a user. `join` asks the roster under the lock, so that the roster hears in the order of what
    /// happens.
    pub(crate) fn join<T>(
        &self,
        channel: &ChannelName,
        member: Member,
        join: impl FnOnce(&Member) -> T,
    ) -> T {
        let mut channels = self.0.lock();
        let joined = join(&member);
        let members = channels.entry(channel.clone()).or_default();
        let seat = members.entry(member.user_id).or_insert_with(|| Seat {
            user_info: None,
            connections: 0,
        });
        seat.connections += 1;
        seat.user_info = member.user_info;
        joined
    }

    /// One connection of a user less. `leave` tells the roster of the last one, under the lock.
    pub(crate) fn leave(&self, channel: &ChannelName, user: &UserId, leave: impl FnOnce()) {
        let mut channels = self.0.lock();
        let Some(members) = channels.get_mut(channel) else {
            return;
        };
        let Some(seat) = members.get_mut(user) else {
            return;
        };
        seat.connections -= 1;
        if seat.connections > 0 {
            return;
        }
        members.remove(user);
        if members.is_empty() {
            channels.remove(channel);
        }
        leave();
    }

    /// Every member this node has, each handed on under the lock: nothing that happens meanwhile comes before or between.
    pub(crate) fn for_each(&self, mut tell: impl FnMut(&ChannelName, Member)) {
        for (channel, members) in self.0.lock().iter() {
            for (user_id, seat) in members {
                let member = Member {
                    user_id: user_id.clone(),
                    user_info: seat.user_info.clone(),
                };
                tell(channel, member);
            }
        }
    }
}
