//! The users that this node has on an app's presence channels: the roster gets each user once,
//! however many connections the user has.

use std::collections::HashMap;
use std::sync::Arc;

use fanfare_protocol::presence::Member;
use fanfare_protocol::{ChannelName, UserId};
use parking_lot::Mutex;

use crate::sparse::ShrinkIfSparse;

/// The presence channels of one app on this node.
#[derive(Debug, Default)]
pub(crate) struct LocalPresence(Mutex<HashMap<ChannelName, Members>>);

type Members = HashMap<UserId, LocalMember>;

#[derive(Debug)]
struct LocalMember {
    user_info: Option<Arc<str>>,
    connections: usize,
}

impl LocalPresence {
    /// Counts one more connection of a user. `join` asks the roster under the lock, so that the
    /// roster gets joins and leaves in the order in which they happen; its future is awaited after
    /// the lock is released.
    pub(crate) fn join<T>(
        &self,
        channel: &ChannelName,
        member: Member,
        join: impl FnOnce(&Member) -> T,
    ) -> T {
        let mut channels = self.0.lock();
        let joined = join(&member);
        let members = channels.entry(channel.clone()).or_default();
        let local = members
            .entry(member.user_id)
            .or_insert_with(|| LocalMember {
                user_info: None,
                connections: 0,
            });
        local.connections += 1;
        local.user_info = member.user_info;
        joined
    }

    /// Counts one connection of a user less. For the last one, `leave` tells the roster under the
    /// lock.
    pub(crate) fn leave(&self, channel: &ChannelName, user: &UserId, leave: impl FnOnce()) {
        let mut channels = self.0.lock();
        let Some(members) = channels.get_mut(channel) else {
            return;
        };
        let Some(local) = members.get_mut(user) else {
            return;
        };
        local.connections -= 1;
        if local.connections > 0 {
            return;
        }
        members.remove(user);
        members.shrink_if_sparse();
        if members.is_empty() {
            channels.remove(channel);
            channels.shrink_if_sparse();
        }
        leave();
    }

    /// Calls `visit` for every member on this node under the lock, so that no join or leave comes
    /// before or between.
    pub(crate) fn for_each(&self, mut visit: impl FnMut(&ChannelName, Member)) {
        for (channel, members) in self.0.lock().iter() {
            for (user_id, local) in members {
                let member = Member {
                    user_id: user_id.clone(),
                    user_info: local.user_info.clone(),
                };
                visit(channel, member);
            }
        }
    }
}
