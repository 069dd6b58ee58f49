//! The connections of an app that ended lately, so that an operator can be told why a client has
//! not got an event. Bounded for each app and for all apps of a node.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use fanfare_protocol::{SocketId, UserId};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::lifecycle::EndedSubscription;

/// Most connections of an app that are remembered, and for how long.
const MAX_OF_APP: usize = 256;
const REMEMBERED_FOR: Duration = Duration::from_secs(3600);
/// Most bytes of the entries of all apps. Beyond that, each app has only a few entries.
const MAX_BYTES_OF_NODE: usize = 32 << 20;
const FEW: usize = 8;
/// Most bytes of a reason.
const MAX_REASON: usize = 200;
/// Most subscriptions of a connection that are remembered.
const MAX_SUBSCRIPTIONS: usize = 16;
/// About what an entry, and a subscription of it, takes beside its texts, in bytes.
const ENTRY_BYTES: usize = 200;
const SUBSCRIPTION_BYTES: usize = 64;

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
    /// How long ago it connected.
    pub connected: Duration,
    /// How long ago it signed in, if it did.
    pub signed_in: Option<Duration>,
    /// Its last subscriptions, ended ones included.
    pub subscriptions: Vec<PastSubscription>,
    /// Whether these are all that the connection ever had.
    pub has_all_subscriptions: bool,
}

/// A time in which a connection was subscribed to a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastSubscription {
    /// The channel.
    pub channel: String,
    /// How long ago it began, if that is known.
    pub since: Option<Duration>,
    /// How long ago it ended.
    pub until: Duration,
}

impl PastSubscription {
    /// Returns a subscription of a connection that began at an instant.
    pub(crate) fn of(ended: &EndedSubscription, connected: Instant) -> Self {
        Self {
            channel: ended.channel.to_string(),
            since: ended.since.map(|since| (connected + since).elapsed()),
            until: (connected + ended.until).elapsed(),
        }
    }
}

/// A connection that ends now.
#[derive(Debug)]
pub(crate) struct EndedConnection<'a> {
    pub(crate) socket_id: SocketId,
    pub(crate) user_id: Option<&'a UserId>,
    pub(crate) connected: Instant,
    /// When it signed in, since the connection began.
    pub(crate) signed_in: Option<Duration>,
    /// Whether the subscriptions that it had ended before are known.
    pub(crate) has_all_ended: bool,
    pub(crate) code: Option<u16>,
    pub(crate) reason: &'a str,
}

/// The connections of an app that ended lately, oldest first.
#[derive(Debug)]
pub(crate) struct ClosedConnections {
    entries: Mutex<VecDeque<Entry>>,
    /// Bytes of the entries of all apps.
    of_node: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct Entry {
    socket_id: SocketId,
    user_id: Option<UserId>,
    at: Instant,
    code: Option<u16>,
    reason: Box<str>,
    connected: Instant,
    signed_in: Option<Duration>,
    subscriptions: Box<[EndedSubscription]>,
    has_all_subscriptions: bool,
}

impl Entry {
    fn bytes(&self) -> usize {
        let channels = self.subscriptions.iter();
        let channels = channels.map(|it| SUBSCRIPTION_BYTES + it.channel.len());
        let user = self.user_id.as_ref().map_or(0, |user| user.as_str().len());
        ENTRY_BYTES + self.reason.len() + user + channels.sum::<usize>()
    }
}

impl ClosedConnections {
    /// Returns an empty list; `of_node` counts the bytes of the entries of all apps.
    pub(crate) fn new(of_node: &Arc<AtomicUsize>) -> Self {
        Self {
            entries: Mutex::default(),
            of_node: Arc::clone(of_node),
        }
    }

    /// Notes that a connection is closed.
    pub(crate) fn note(
        &self,
        ended: &EndedConnection<'_>,
        mut subscriptions: impl Iterator<Item = EndedSubscription>,
    ) {
        let remembered = subscriptions.by_ref().take(MAX_SUBSCRIPTIONS).collect();
        let reason = ended.reason;
        let entry = Entry {
            socket_id: ended.socket_id,
            user_id: ended.user_id.cloned(),
            at: Instant::now(),
            code: ended.code,
            reason: reason[..reason.floor_char_boundary(MAX_REASON)].into(),
            connected: ended.connected,
            signed_in: ended.signed_in,
            subscriptions: remembered,
            has_all_subscriptions: ended.has_all_ended && subscriptions.next().is_none(),
        };
        let bytes = entry.bytes();
        let mut entries = self.entries.lock();
        self.drop_old(&mut entries);
        entries.push_back(entry);
        let of_node = self.of_node.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let max = if of_node > MAX_BYTES_OF_NODE {
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
                connected: entry.connected.elapsed(),
                signed_in: entry
                    .signed_in
                    .map(|since| (entry.connected + since).elapsed()),
                subscriptions: entry
                    .subscriptions
                    .iter()
                    .map(|it| PastSubscription::of(it, entry.connected))
                    .collect(),
                has_all_subscriptions: entry.has_all_subscriptions,
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
        if let Some(first) = entries.pop_front() {
            self.of_node.fetch_sub(first.bytes(), Ordering::Relaxed);
        }
    }
}

impl Drop for ClosedConnections {
    fn drop(&mut self) {
        let left = self.entries.get_mut().iter().map(Entry::bytes).sum();
        self.of_node.fetch_sub(left, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended<'a>(user_id: Option<&'a UserId>, reason: &'a str) -> EndedConnection<'a> {
        EndedConnection {
            socket_id: SocketId::random(),
            user_id,
            connected: Instant::now(),
            signed_in: None,
            has_all_ended: true,
            code: Some(4200),
            reason,
        }
    }

    fn note(closed: &ClosedConnections, user: &str) {
        let user = UserId::new(user);
        closed.note(&ended(user.as_ref(), "why"), std::iter::empty());
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
        assert!(of_node.load(Ordering::Relaxed) > MAX_OF_APP * ENTRY_BYTES);
        tokio::time::advance(REMEMBERED_FOR + Duration::from_secs(1)).await;
        note(&closed, "last");
        assert_eq!(users(&closed), ["last"]);
        drop(closed);
        assert_eq!(of_node.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn many_apps_remember_few_each() {
        let of_node = Arc::new(AtomicUsize::new(MAX_BYTES_OF_NODE));
        let closed = ClosedConnections::new(&of_node);
        for _ in 0..100 {
            note(&closed, "ada");
        }
        assert_eq!(users(&closed).len(), FEW);
        let long = "é".repeat(500);
        closed.note(&ended(None, &long), std::iter::empty());
        let newest = closed.find(|_, user| user.is_none());
        assert!(newest[0].reason.len() <= MAX_REASON);
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_subscriptions_of_a_connection_are_remembered_and_it_is_said_if_there_were_more()
     {
        let closed = ClosedConnections::new(&Arc::default());
        let subscriptions = |count: usize| {
            (0..count).map(|number| EndedSubscription {
                channel: number.to_string().into(),
                since: Some(Duration::from_secs(1)),
                until: Duration::from_secs(3),
            })
        };
        let before = ended(None, "all");
        tokio::time::advance(Duration::from_secs(10)).await;
        closed.note(&before, subscriptions(MAX_SUBSCRIPTIONS));
        closed.note(&before, subscriptions(MAX_SUBSCRIPTIONS + 1));
        let [more, all] = closed.find(|_, _| true).try_into().expect("two");
        assert!(all.has_all_subscriptions && !more.has_all_subscriptions);
        assert_eq!(more.subscriptions.len(), MAX_SUBSCRIPTIONS);
        let first = PastSubscription {
            channel: "0".into(),
            since: Some(Duration::from_secs(9)),
            until: Duration::from_secs(7),
        };
        assert_eq!(all.subscriptions[0], first);
    }
}
