//! What a client needs that comes back within two minutes: the channels that it had, and how far it had got in their histories. The
//! channels stay on this node, so that nobody is authorized by what a client says. The positions travel with the client.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

/// How long a client may be away, as in the reference server.
const KEPT_FOR: Duration = Duration::from_secs(120);
/// Most clients that are away whose channels are kept. The oldest give way.
const MAX_AWAY: usize = 10_000;
/// Most bytes of an offset, because each event has one.
const MAX_OFFSET: usize = 4096;

/// The positions that a client has reached, by channel.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Offset(BTreeMap<String, String>);

impl Offset {
    /// Reads an offset that a client has sent back. What isn't one says nothing.
    pub(super) fn parse(text: &str) -> Self {
        let mut words = text.split(' ');
        let mut positions = BTreeMap::new();
        while let (Some(channel), Some(position)) = (words.next(), words.next()) {
            positions.insert(channel.to_owned(), position.to_owned());
        }
        Self(positions)
    }

    /// Returns whether it has no position.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the position in a channel.
    pub(super) fn position(&self, channel: &str) -> Option<&str> {
        self.0.get(channel).map(String::as_str)
    }

    /// Notes an event, and returns the offset that goes with it: none before the first position, and an empty one if it would be too
    /// long, so that the client is told that it can't recover.
    pub(super) fn reach(&mut self, channel: &[u8], position: &[u8]) -> Option<String> {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        if !position.is_empty() {
            self.0.insert(text(channel), text(position));
        }
        if self.0.is_empty() {
            return None;
        }
        let pairs: Vec<_> = self
            .0
            .iter()
            .map(|(channel, position)| format!("{channel} {position}"))
            .collect();
        Some(pairs.join(" ")).map(|offset| {
            if offset.len() > MAX_OFFSET {
                String::new()
            } else {
                offset
            }
        })
    }
}

/// A client that may come back.
pub(super) struct Returning {
    /// The secret by which it is known.
    pub(super) pid: String,
    /// The key of its app.
    pub(super) key: String,
    channels: Mutex<BTreeMap<String, Option<String>>>,
    /// Whether the client has come back on another connection.
    replaced: AtomicBool,
    /// The connection that it is on, notified when the client has come back on another one.
    connection: Arc<Notify>,
}

impl Returning {
    /// Notes a subscription, and the `channel_data` of a presence channel.
    pub(super) fn joined(&self, channel: &str, channel_data: Option<String>) {
        self.channels
            .lock()
            .insert(channel.to_owned(), channel_data);
    }

    pub(super) fn left(&self, channel: &str) {
        self.channels.lock().remove(channel);
    }

    /// Returns whether the client has come back on another connection.
    pub(super) fn is_replaced(&self) -> bool {
        self.replaced.load(Ordering::Acquire)
    }

    /// Returns its channels, with the `channel_data` of presence channels.
    pub(super) fn channels(&self) -> BTreeMap<String, Option<String>> {
        self.channels.lock().clone()
    }
}

/// The clients of this node that may come back.
#[derive(Default)]
pub(super) struct Recovery(Mutex<Clients>);

#[derive(Default)]
struct Clients {
    by_pid: HashMap<String, Arc<Returning>>,
    /// Those that are away, and since when, the oldest first.
    away: VecDeque<(Instant, Arc<Returning>)>,
}

impl Recovery {
    /// Adds a client that has connected with a key. `connection` is notified when it comes back on another one.
    pub(super) fn add(&self, key: &str, connection: &Arc<Notify>) -> Arc<Returning> {
        let client = Returning {
            pid: hex::encode(rand::random::<[u8; 16]>()),
            key: key.to_owned(),
            channels: Mutex::default(),
            replaced: AtomicBool::new(false),
            connection: Arc::clone(connection),
        };
        self.0.lock().insert(client)
    }

    /// Adds the client that comes back with this secret and key, if it is known. The connection that it had is notified.
    pub(super) fn take_back(
        &self,
        pid: &str,
        key: &str,
        connection: &Arc<Notify>,
    ) -> Option<Arc<Returning>> {
        let clients = &mut *self.0.lock();
        clients.expire();
        let before = clients.by_pid.get(pid).filter(|client| client.key == key)?;
        let before = Arc::clone(before);
        clients.away.retain(|(_, away)| !Arc::ptr_eq(away, &before));
        before.replaced.store(true, Ordering::Release);
        before.connection.notify_one();
        Some(clients.insert(Returning {
            pid: before.pid.clone(),
            key: before.key.clone(),
            channels: Mutex::new(before.channels()),
            replaced: AtomicBool::new(false),
            connection: Arc::clone(connection),
        }))
    }

    /// Notes that a client has gone, and may come back, unless it has done so already.
    pub(super) fn away(&self, client: &Arc<Returning>) {
        let clients = &mut *self.0.lock();
        clients.expire();
        if !clients.is_last(client) {
            return;
        }
        if clients.away.len() >= MAX_AWAY {
            clients.drop_oldest();
        }
        clients.away.push_back((Instant::now(), Arc::clone(client)));
    }

    /// Forgets a client that has left, or that isn't to come back.
    pub(super) fn forget(&self, client: &Arc<Returning>) {
        let clients = &mut *self.0.lock();
        if clients.is_last(client) {
            clients.by_pid.remove(&client.pid);
        }
    }
}

impl Clients {
    fn insert(&mut self, client: Returning) -> Arc<Returning> {
        let client = Arc::new(client);
        self.by_pid.insert(client.pid.clone(), Arc::clone(&client));
        client
    }

    /// Returns whether no later connection has the client's secret.
    fn is_last(&self, client: &Arc<Returning>) -> bool {
        let last = self.by_pid.get(&client.pid);
        last.is_some_and(|last| Arc::ptr_eq(last, client))
    }

    fn expire(&mut self) {
        while let Some((since, _)) = self.away.front()
            && since.elapsed() > KEPT_FOR
        {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some((_, client)) = self.away.pop_front() {
            self.by_pid.remove(&client.pid);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[test]
    fn an_offset_has_the_positions_of_all_channels() {
        let mut offset = Offset::default();
        assert_eq!(offset.reach(b"c", b""), None);
        assert_eq!(offset.reach(b"b", b"e:1").as_deref(), Some("b e:1"));
        assert_eq!(offset.reach(b"a", b"f:2").as_deref(), Some("a f:2 b e:1"));
        assert_eq!(offset.reach(b"", b"").as_deref(), Some("a f:2 b e:1"));
        assert_eq!(Offset::parse("a f:2 b e:1"), offset);
        assert_eq!(offset.position("a"), Some("f:2"));
        assert_eq!(Offset::parse("nonsense"), Offset::default());
        let many = (0..1000).map(|n| offset.reach(format!("channel-{n}").as_bytes(), b"e:1"));
        assert_eq!(many.last().flatten().as_deref(), Some(""));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_may_come_back_with_its_key_for_two_minutes() {
        let recovery = Recovery::default();
        let connection = Arc::default();
        let client = recovery.add("k", &connection);
        client.joined("presence-a", Some("{}".into()));
        client.joined("b", None);
        client.left("b");
        recovery.away(&client);
        assert!(
            recovery
                .take_back(&client.pid, "other", &connection)
                .is_none()
        );
        advance(KEPT_FOR).await;
        let back = recovery
            .take_back(&client.pid, "k", &connection)
            .expect("it is known");
        assert_eq!(
            back.channels(),
            BTreeMap::from([("presence-a".into(), Some("{}".into()))])
        );
        recovery.away(&back);
        advance(KEPT_FOR + Duration::from_millis(1)).await;
        assert!(recovery.take_back(&client.pid, "k", &connection).is_none());
        assert!(recovery.0.lock().by_pid.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_back_before_its_old_connection_has_ended_ends_it() {
        let recovery = Recovery::default();
        let (old, connection) = (Arc::default(), Arc::default());
        let client = recovery.add("k", &old);
        let back = recovery
            .take_back(&client.pid, "k", &connection)
            .expect("it is known");
        old.notified().await;
        assert!(client.is_replaced() && !back.is_replaced());
        // The end of the old one changes nothing.
        recovery.away(&client);
        recovery.forget(&client);
        assert!(recovery.0.lock().away.is_empty());
        recovery.forget(&back);
        assert!(recovery.take_back(&client.pid, "k", &connection).is_none());
    }
}
