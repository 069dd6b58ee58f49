//! Signed-in users and their watchers (docs/protocol.md#watchlists). A user is online while signed
//! in on a connection of the app.

use std::collections::{HashMap, HashSet};

use fanfare_protocol::{Frame, ServerMessage, SocketId, UserId};
use parking_lot::Mutex;

use crate::sequence::{Generation, Position};
use crate::snapshot::Online;
use crate::sparse::ShrinkIfSparse;

/// The signed-in users of one app on this node, and the connections that watch users.
#[derive(Debug, Default)]
pub(crate) struct Users {
    /// The connections of each user who is signed in here.
    signed_in: Mutex<HashMap<UserId, HashSet<ConnectionRef>>>,
    watchers: Mutex<Watchers>,
}

/// Maps instead of lists, because thousands of connections may watch one popular user, and each of
/// them comes and goes by itself.
#[derive(Debug, Default)]
struct Watchers {
    /// Generation since which this node receives who comes online, or `None` while no connection
    /// watches.
    received_since: Option<Generation>,
    /// The connections that watch a user, each with the position up to which it knows all changes;
    /// `None` while it waits for the roster's answer.
    by_user: HashMap<UserId, HashMap<ConnectionRef, Option<Position>>>,
    /// Changes that passed while a connection waits for the roster's answer, which may or may not
    /// have them.
    meanwhile: HashMap<ConnectionRef, Vec<(UserId, bool, Position)>>,
}

/// A connection, as other threads name it. Slots are reused, so the socket id says whether it is
/// still the same connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ConnectionRef {
    pub(crate) shard: usize,
    pub(crate) slot: usize,
    pub(crate) socket_id: SocketId,
}

impl Users {
    /// Adds a connection of a user. For the first one, `enter` tells the roster under the lock, so
    /// that the roster gets changes in the order in which they happen.
    pub(crate) fn enter(&self, user: &UserId, connection: ConnectionRef, enter: impl FnOnce()) {
        let mut signed_in = self.signed_in.lock();
        let connections = signed_in.entry(user.clone()).or_default();
        connections.insert(connection);
        if connections.len() == 1 {
            enter();
        }
    }

    /// Removes a connection of a user. For the last one, `exit` tells the roster under the lock.
    pub(crate) fn leave(&self, user: &UserId, connection: ConnectionRef, exit: impl FnOnce()) {
        let mut signed_in = self.signed_in.lock();
        let Some(connections) = signed_in.get_mut(user) else {
            return;
        };
        connections.remove(&connection);
        if connections.is_empty() {
            signed_in.remove(user);
            signed_in.shrink_if_sparse();
            exit();
        }
    }

    /// Returns the connections of a user on this node.
    pub(crate) fn connections(&self, user: &UserId) -> Vec<ConnectionRef> {
        let signed_in = self.signed_in.lock();
        signed_in.get(user).into_iter().flatten().copied().collect()
    }

    /// Calls `tell` for every user who is signed in on this node, under the lock.
    pub(crate) fn for_each(&self, tell: impl FnMut(&UserId)) {
        self.signed_in.lock().keys().for_each(tell);
    }

    /// Watches `watched` from now on, and no longer those of `before` that are not among them.
    /// Changes that pass are kept until [`Self::finish_watch`].
    pub(crate) fn watch(&self, watcher: ConnectionRef, watched: &[UserId], before: &[UserId]) {
        let mut watchers = self.watchers.lock();
        for user in watched {
            let others = watchers.by_user.entry(user.clone()).or_default();
            others.insert(watcher, None);
        }
        let stays: HashSet<&UserId> = watched.iter().collect();
        for user in before.iter().filter(|user| !stays.contains(user)) {
            watchers.remove(watcher, user);
        }
        watchers.meanwhile.insert(watcher, Vec::new());
    }

    /// Returns which of the watched users are online and which are not, by the answer and the
    /// changes that passed meanwhile, and the position of that. Later changes are sent as they
    /// come.
    pub(crate) fn finish_watch(
        &self,
        watcher: ConnectionRef,
        watched: &[UserId],
        answer: Online,
    ) -> (Vec<UserId>, Vec<UserId>, Position) {
        let mut watchers = self.watchers.lock();
        let Online {
            mut position,
            mut online,
        } = answer;
        let mut newest = position;
        let meanwhile = watchers.meanwhile.remove(&watcher).unwrap_or_default();
        if !meanwhile.is_empty() {
            let indexes: HashMap<&UserId, usize> = watched.iter().zip(0..).collect();
            for (user, is_online, at) in meanwhile.into_iter().filter(|(_, _, at)| *at > position) {
                if let Some(index) = indexes.get(&user) {
                    online[*index] = is_online;
                }
                newest = newest.max(at);
            }
            position = newest;
        }
        for user in watched {
            let watching = watchers.by_user.get_mut(user);
            if let Some(since) = watching.and_then(|watching| watching.get_mut(&watcher)) {
                *since = Some(position);
            }
        }
        let (mut there, mut gone) = (Vec::new(), Vec::new());
        for (user, online) in watched.iter().zip(online) {
            if online { &mut there } else { &mut gone }.push(user.clone());
        }
        (there, gone, position)
    }

    /// Ends watching, and returns whether no connection watches any more.
    pub(crate) fn unwatch(&self, watcher: ConnectionRef, watched: &[UserId]) -> bool {
        let mut watchers = self.watchers.lock();
        watchers.meanwhile.remove(&watcher);
        for user in watched {
            watchers.remove(watcher, user);
        }
        let is_unwatched = watchers.by_user.is_empty();
        if is_unwatched {
            // The next watcher makes this node subscribe again.
            watchers.received_since = None;
        }
        is_unwatched
    }

    pub(crate) fn has_watchers(&self) -> bool {
        !self.watchers.lock().by_user.is_empty()
    }

    /// Returns the generation since which this node receives who comes online, if it does.
    pub(crate) fn received_since(&self) -> Option<Generation> {
        self.watchers.lock().received_since
    }

    pub(crate) fn note_receiving(&self, generation: Generation) {
        self.watchers.lock().received_since = Some(generation);
    }

    /// Announces a change of a user to its watchers: `tell` queues the frame to one of them. All
    /// under the lock, so that a watcher gets changes in their order, and after the first state
    /// that it was sent.
    pub(crate) fn announce(
        &self,
        user: &UserId,
        online: bool,
        position: Position,
        mut tell: impl FnMut(ConnectionRef, Frame),
    ) {
        let mut watchers = self.watchers.lock();
        let Watchers {
            by_user, meanwhile, ..
        } = &mut *watchers;
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
        for (watcher, since) in watching {
            match since {
                Some(since) if *since < position => tell(*watcher, frame.clone()),
                Some(_) => {}
                None => {
                    let came_by = meanwhile.entry(*watcher).or_default();
                    came_by.push((user.clone(), online, position));
                }
            }
        }
    }
}

impl Watchers {
    fn remove(&mut self, watcher: ConnectionRef, user: &UserId) {
        if let Some(others) = self.by_user.get_mut(user) {
            others.remove(&watcher);
            others.shrink_if_sparse();
            if others.is_empty() {
                self.by_user.remove(user);
                self.by_user.shrink_if_sparse();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    /// How long it takes that so many connections come to watch the same users, and go again.
    #[expect(
        clippy::disallowed_methods,
        reason = "what the work costs is real time, whatever the clock of the runtime says"
    )]
    fn come_and_go(connections: usize) -> Duration {
        let watched: Vec<UserId> = (0..20)
            .filter_map(|number| UserId::new(&format!("w{number}")))
            .collect();
        let (users, start) = (Users::default(), Instant::now());
        let watchers: Vec<_> = (0..connections)
            .map(|slot| ConnectionRef {
                shard: 0,
                slot,
                socket_id: SocketId::random(),
            })
            .collect();
        for watcher in &watchers {
            users.watch(*watcher, &watched, &[]);
            let answer = Online {
                position: 1,
                online: vec![false; watched.len()],
            };
            users.finish_watch(*watcher, &watched, answer);
        }
        for watcher in &watchers {
            users.unwatch(*watcher, &watched);
        }
        assert!(!users.has_watchers());
        start.elapsed()
    }

    #[test]
    fn what_a_watcher_costs_does_not_grow_with_those_who_watch_the_same_users() {
        come_and_go(100);
        // On a machine with other work any single time may be long, so the best of several counts. Lists that are walked
        // for each of their members take 256 times as long for 16 times as many.
        let ratio = || come_and_go(3200).as_secs_f64() / come_and_go(200).as_secs_f64();
        let best = (0..10).map(|_| ratio()).fold(f64::MAX, f64::min);
        assert!(best < 64.0, "16 times as many take {best} times as long");
    }
}
