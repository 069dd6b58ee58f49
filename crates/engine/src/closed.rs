//! The connections of an app that ended lately, so that an operator can be told why a client has
//! not got an event. Bounded for each app and for all apps of a node.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use fanfare_protocol::{SocketId, UserId};
use parking_lot::Mutex;
use tokio::time::Instant;

/// Most connections of an app that are remembered, and for how long.
const MAX_OF_APP: usize = 256;
const REMEMBERED_FOR: Duration = Duration::from_secs(3600);
/// Most connections of all apps that are remembered. Beyond that, each app has only a few.
const MAX_OF_NODE: usize = 65_536;
const FEW: usize = 8;
/// Most bytes of a reason.
const MAX_REASON: usize = 200;

/// A connection that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClosedConnection {
    /// Its socket id.
    pub socket_id: SocketId,
    /// Its user: signed in, or a member of a presence channel.
    pub user_id: Option<UserId>,
    /// How long ago it was closed.
    pub ago: Duration,
    /// The code with which the server closed it, or `None` if its client left.
    pub code: Option<u16>,
    /// What the client was told.
    pub reason: String,
}

/// The connections of an app that ended lately, oldest first.
#[derive(Debug)]
pub(crate) struct ClosedConnections {
    entries: Mutex<VecDeque<Entry>>,
    /// Entries of all apps.
    of_node: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct Entry {
    socket_id: SocketId,
    user_id: Option<UserId>,
    at: Instant,
    code: Option<u16>,
    reason: Box<str>,
}

impl ClosedConnections {
    /// Returns an empty list; `of_node` counts the entries of all apps.
    pub(crate) fn new(of_node: &Arc<AtomicUsize>) -> Self {
        Self {
            entries: Mutex::default(),
            of_node: Arc::clone(of_node),
        }
    }

    /// Notes that a connection is closed.
    pub(crate) fn note(
        &self,
        socket_id: SocketId,
        user_id: Option<&UserId>,
        code: Option<u16>,
        reason: &str,
    ) {
        let entry = Entry {
            socket_id,
            user_id: user_id.cloned(),
            at: Instant::now(),
            code,
            reason: reason[..reason.floor_char_boundary(MAX_REASON)].into(),
        };
        let mut entries = self.entries.lock();
        self.drop_old(&mut entries);
        entries.push_back(entry);
        let of_node = self.of_node.fetch_add(1, Ordering::Relaxed) + 1;
        let max = if of_node > MAX_OF_NODE {
            FEW
        } else {
            MAX_OF_APP
        };
        while entries.len() > max {
            self.drop_first(&mut entries);
        }
    }

    /// Returns those of a connection or of a user, newest first.
    pub(crate) fn find(
        &self,
        is_wanted: impl Fn(SocketId, Option<&UserId>) -> bool,
    ) -> Vec<ClosedConnection> {
        let mut entries = self.entries.lock();
        self.drop_old(&mut entries);
        let wanted = entries.iter().rev();
        let wanted = wanted.filter(|entry| is_wanted(entry.socket_id, entry.user_id.as_ref()));
        wanted
            .map(|entry| ClosedConnection {
                socket_id: entry.socket_id,
                user_id: entry.user_id.clone(),
                ago: entry.at.elapsed(),
                code: entry.code,
                reason: entry.reason.to_string(),
            })
            .collect()
    }

    fn drop_old(&self, entries: &mut VecDeque<Entry>) {
        while entries
            .front()
            .is_some_and(|entry| entry.at.elapsed() > REMEMBERED_FOR)
        {
            self.drop_first(entries);
        }
    }

    fn drop_first(&self, entries: &mut VecDeque<Entry>) {
        if entries.pop_front().is_some() {
            self.of_node.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for ClosedConnections {
    fn drop(&mut self) {
        let left = self.entries.get_mut().len();
        self.of_node.fetch_sub(left, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(closed: &ClosedConnections, user: &str) {
        closed.note(
            SocketId::random(),
            UserId::new(user).as_ref(),
            Some(4200),
            "why",
        );
    }

    fn users(closed: &ClosedConnections) -> Vec<String> {
        let found = closed.find(|_, _| true).into_iter();
        found
            .filter_map(|found| Some(found.user_id?.to_string()))
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn the_newest_of_an_app_are_remembered_for_an_hour() {
        let of_node = Arc::default();
        let closed = ClosedConnections::new(&of_node);
        for number in 0..=MAX_OF_APP {
            note(&closed, &number.to_string());
        }
        let found = users(&closed);
        assert_eq!(found.len(), MAX_OF_APP);
        assert_eq!(found.first(), Some(&MAX_OF_APP.to_string()));
        assert_eq!(of_node.load(Ordering::Relaxed), MAX_OF_APP);
        tokio::time::advance(REMEMBERED_FOR + Duration::from_secs(1)).await;
        note(&closed, "last");
        assert_eq!(users(&closed), ["last"]);
        drop(closed);
        assert_eq!(of_node.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn many_apps_remember_few_each() {
        let of_node = Arc::new(AtomicUsize::new(MAX_OF_NODE));
        let closed = ClosedConnections::new(&of_node);
        for _ in 0..100 {
            note(&closed, "ada");
        }
        assert_eq!(users(&closed).len(), FEW);
        let long = "é".repeat(500);
        closed.note(SocketId::random(), None, None, &long);
        let newest = closed.find(|_, user| user.is_none());
        assert!(newest[0].reason.len() <= MAX_REASON);
    }
}
