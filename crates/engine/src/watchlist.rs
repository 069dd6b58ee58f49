//! Who is signed in, and who wants to know (spec 2.11). A user is online while signed in on a connection of the app.

use std::collections::HashMap;
use std::sync::Arc;

use fanfare_protocol::{Frame, ServerMessage, SocketId, UserId};
use parking_lot::Mutex;

use crate::inbox::Inbox;
use crate::shard::Command;

/// The signed-in users of one app and those who watch them.
#[derive(Debug, Default)]
pub(crate) struct Users(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Connections of each user who is online.
    online: HashMap<UserId, usize>,
    watchers: HashMap<UserId, Vec<Watcher>>,
}

/// A connection that watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Watcher {
    pub(crate) shard: usize,
    pub(crate) slot: usize,
    pub(crate) socket_id: SocketId,
}

impl Users {
    /// One more connection of a user.
    pub(crate) fn enter(&self, user: &UserId, inboxes: &[Arc<Inbox>]) {
        let mut state = self.0.lock();
        let connections = state.online.entry(user.clone()).or_default();
        *connections += 1;
        if *connections == 1 {
            state.tell(user, inboxes, true);
        }
    }

    /// One connection of a user less.
    pub(crate) fn leave(&self, user: &UserId, inboxes: &[Arc<Inbox>]) {
        let mut state = self.0.lock();
        let Some(connections) = state.online.get_mut(user) else {
            return;
        };
        *connections -= 1;
        if *connections == 0 {
            state.online.remove(user);
            state.tell(user, inboxes, false);
        }
    }

    /// Watches from now on, and says who of the watched is online now and who is not.
    pub(crate) fn watch(&self, watcher: Watcher, watched: &[UserId]) -> (Vec<UserId>, Vec<UserId>) {
        let mut state = self.0.lock();
        for user in watched {
            state
                .watchers
                .entry(user.clone())
                .or_default()
                .push(watcher);
        }
        watched
            .iter()
            .cloned()
            .partition(|user| state.online.contains_key(user))
    }

    /// Watches no more.
    pub(crate) fn unwatch(&self, watcher: Watcher, watched: &[UserId]) {
        let mut state = self.0.lock();
        for user in watched {
            let Some(watchers) = state.watchers.get_mut(user) else {
                continue;
            };
            watchers.retain(|other| *other != watcher);
            if watchers.is_empty() {
                state.watchers.remove(user);
            }
        }
    }
}

impl State {
    /// Under the lock, so that a watcher hears of changes in their order, and after what it was told at first.
    fn tell(&self, user: &UserId, inboxes: &[Arc<Inbox>], online: bool) {
        let Some(watchers) = self.watchers.get(user) else {
            return;
        };
        let (them, nobody) = (std::slice::from_ref(user), &[][..]);
        let (online, offline) = if online {
            (them, nobody)
        } else {
            (nobody, them)
        };
        let frame: Frame = ServerMessage::WatchlistEvents { online, offline }.to_frame();
        for Watcher {
            shard,
            slot,
            socket_id,
        } in watchers.iter().copied()
        {
            inboxes[shard].push(Command::TellOne {
                slot,
                socket_id,
                frame: frame.clone(),
            });
        }
    }
}
