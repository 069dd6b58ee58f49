//! Who is signed in, and who wants to know (spec 2.11). A user is online while signed in on a connection of the app.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use fanfare_protocol::{Frame, ServerMessage, SocketId, UserId};
use parking_lot::Mutex;

use crate::app::App;
use crate::bus::Generation;
use crate::inbox::Inbox;
use crate::roster::{Online, Position, Roster};
use crate::shard::Command;

/// The signed-in users of one app on this node, and those who watch users.
#[derive(Debug, Default)]
pub(crate) struct Users {
    /// Connections of each user who is signed in here.
    here: Mutex<HashMap<UserId, usize>>,
    watchers: Mutex<Watchers>,
    /// Since when this node hears who comes online, while anybody watches.
    listening: AtomicU32,
}

#[derive(Debug, Default)]
struct Watchers {
    by_user: HashMap<UserId, Vec<Watching>>,
    /// What came by while somebody asked who is online: not in the answer yet, or in it already.
    meanwhile: HashMap<Watcher, Vec<(UserId, bool, Position)>>,
}

/// A connection that watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Watcher {
    pub(crate) shard: usize,
    pub(crate) slot: usize,
    pub(crate) socket_id: SocketId,
}

/// A connection that watches one user.
#[derive(Debug)]
struct Watching {
    watcher: Watcher,
    /// From which position on it is told; nothing while it asks who is online.
    since: Option<Position>,
}

impl Users {
    /// One more connection of a user. The roster is told under the lock, so that it hears in the order of what happens.
    pub(crate) fn enter(&self, app: &Arc<App>, user: &UserId, roster: &dyn Roster) {
        let mut here = self.here.lock();
        let connections = here.entry(user.clone()).or_default();
        *connections += 1;
        if *connections == 1 {
            roster.enter(app, user);
        }
    }

    /// One connection of a user less.
    pub(crate) fn leave(&self, app: &Arc<App>, user: &UserId, roster: &dyn Roster) {
        let mut here = self.here.lock();
        let Some(connections) = here.get_mut(user) else {
            return;
        };
        *connections -= 1;
        if *connections == 0 {
            here.remove(user);
            roster.exit(app, user);
        }
    }

    /// Every user who is signed in here, each handed on under the lock.
    pub(crate) fn for_each(&self, tell: impl FnMut(&UserId)) {
        self.here.lock().keys().for_each(tell);
    }

    /// Watches from now on; what comes by is kept until [`Self::settle`].
    pub(crate) fn watch(&self, watcher: Watcher, watched: &[UserId]) {
        let mut watchers = self.watchers.lock();
        for user in watched {
            let watching = Watching {
                watcher,
                since: None,
            };
            let others = watchers.by_user.entry(user.clone()).or_default();
            others.push(watching);
        }
        watchers.meanwhile.insert(watcher, Vec::new());
    }

    /// Who of the watched is online and who is not, after what was answered and what came by meanwhile; later changes are
    /// told as they come.
    pub(crate) fn settle(
        &self,
        watcher: Watcher,
        watched: &[UserId],
        answer: Online,
    ) -> (Vec<UserId>, Vec<UserId>) {
        let mut watchers = self.watchers.lock();
        let Online {
            mut position,
            mut online,
        } = answer;
        for (user, is_online, at) in watchers.meanwhile.remove(&watcher).unwrap_or_default() {
            if at > position {
                let same = watched
                    .iter()
                    .zip(&mut online)
                    .filter(|(id, _)| **id == user);
                same.for_each(|(_, known)| *known = is_online);
                position = at;
            }
        }
        for user in watched {
            let watching = watchers.by_user.get_mut(user).into_iter().flatten();
            watching
                .filter(|watching| watching.watcher == watcher)
                .for_each(|watching| watching.since = Some(position));
        }
        let (mut there, mut gone) = (Vec::new(), Vec::new());
        for (user, online) in watched.iter().zip(online) {
            if online { &mut there } else { &mut gone }.push(user.clone());
        }
        (there, gone)
    }

    /// Watches no more; says whether nobody is left who watches.
    pub(crate) fn unwatch(&self, watcher: Watcher, watched: &[UserId]) -> bool {
        let mut watchers = self.watchers.lock();
        watchers.meanwhile.remove(&watcher);
        for user in watched {
            let Some(others) = watchers.by_user.get_mut(user) else {
                continue;
            };
            others.retain(|other| other.watcher != watcher);
            if others.is_empty() {
                watchers.by_user.remove(user);
            }
        }
        let nobody = watchers.by_user.is_empty();
        if nobody {
            // Whoever comes next listens anew.
            self.note_listening(0);
        }
        nobody
    }

    pub(crate) fn has_watchers(&self) -> bool {
        !self.watchers.lock().by_user.is_empty()
    }

    /// Since when this node hears who comes online.
    pub(crate) fn listening(&self) -> Generation {
        self.listening.load(Ordering::Relaxed)
    }

    pub(crate) fn note_listening(&self, generation: Generation) {
        self.listening.store(generation, Ordering::Relaxed);
    }

    /// Tells who watches a user that they have come or gone. Under the lock, so that a watcher hears of changes in their
    /// order, and after what it was told at first.
    pub(crate) fn tell(
        &self,
        user: &UserId,
        inboxes: &[Arc<Inbox>],
        online: bool,
        position: Position,
    ) {
        let mut watchers = self.watchers.lock();
        let Watchers { by_user, meanwhile } = &mut *watchers;
        let Some(watching) = by_user.get(user) else {
            return;
        };
        let (them, nobody) = (std::slice::from_ref(user), &[][..]);
        let (now_online, now_offline) = if online {
            (them, nobody)
        } else {
            (nobody, them)
        };
        let message = ServerMessage::WatchlistEvents {
            online: now_online,
            offline: now_offline,
        };
        let frame: Frame = message.to_frame();
        for Watching { watcher, since } in watching {
            match since {
                Some(since) if *since < position => inboxes[watcher.shard].push(Command::TellOne {
                    slot: watcher.slot,
                    socket_id: watcher.socket_id,
                    frame: frame.clone(),
                }),
                Some(_) => {}
                None => {
                    let came_by = meanwhile.entry(*watcher).or_default();
                    came_by.push((user.clone(), online, position));
                }
            }
        }
    }
}
