//! Pending sessions: those whose client has sent only one request. They cost the client nothing, so they aren't charged
//! as connections. Instead they are bounded for each app and each network, and the oldest one ends first.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use fanfare_engine::Network;
use fanfare_protocol::AppId;
use parking_lot::Mutex;
use tokio::sync::oneshot::{self, Receiver, Sender};

/// The pending sessions of this node. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct PendingSessions(Arc<Table>);

/// Largest numbers of pending sessions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PendingBounds {
    /// Of one app.
    pub(crate) app: usize,
    /// From one network.
    pub(crate) network: usize,
}

#[derive(Debug)]
struct Table {
    bounds: PendingBounds,
    sessions: Mutex<Sessions>,
}

/// An app or a network with pending sessions.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Holder {
    App(Option<AppId>),
    Network(Network),
}

#[derive(Debug, Default)]
struct Sessions {
    next: u64,
    /// By number, which is the order in which they were added.
    all: HashMap<u64, Session>,
    of: HashMap<Holder, BTreeSet<u64>>,
}

#[derive(Debug)]
struct Session {
    holders: Vec<Holder>,
    /// The session ends when this is dropped.
    _end: Sender<()>,
}

/// Guard of a pending session, which is pending until the guard is dropped.
#[derive(Debug)]
pub(crate) struct PendingSession {
    table: Arc<Table>,
    number: u64,
    ended: Receiver<()>,
}

impl PendingSession {
    /// Waits until the session has to end because newer ones need its place.
    pub(crate) async fn evicted(&mut self) {
        // Nothing is ever sent. The wait ends when the sender is dropped.
        let _ = (&mut self.ended).await;
    }
}

/// Waits until a pending session has to end, or forever if it isn't pending.
pub(crate) async fn evicted(pending: &mut Option<PendingSession>) {
    match pending {
        Some(pending) => pending.evicted().await,
        None => std::future::pending().await,
    }
}

impl Drop for PendingSession {
    fn drop(&mut self) {
        self.table.sessions.lock().remove(self.number);
    }
}

impl PendingSessions {
    pub(crate) fn new(bounds: PendingBounds) -> Self {
        Self(Arc::new(Table {
            bounds,
            sessions: Mutex::default(),
        }))
    }

    /// Adds a pending session. If its app or its network has too many, the oldest one ends. Those whose app isn't known yet count
    /// together as an app's.
    pub(crate) fn add(&self, app: Option<&AppId>, network: Option<Network>) -> PendingSession {
        let PendingBounds {
            app: of_app,
            network: of_network,
        } = self.0.bounds;
        let network = network.map(|network| (Holder::Network(network), of_network));
        let bounded = [(Holder::App(app.cloned()), of_app)]
            .into_iter()
            .chain(network);
        let (end, ended) = oneshot::channel();
        let mut sessions = self.0.sessions.lock();
        let mut holders = Vec::new();
        for (holder, max) in bounded {
            sessions.make_room(&holder, max);
            holders.push(holder);
        }
        let number = sessions.next;
        sessions.next += 1;
        for holder in &holders {
            sessions
                .of
                .entry(holder.clone())
                .or_default()
                .insert(number);
        }
        let session = Session { holders, _end: end };
        sessions.all.insert(number, session);
        PendingSession {
            table: Arc::clone(&self.0),
            number,
            ended,
        }
    }
}

impl Sessions {
    fn make_room(&mut self, holder: &Holder, max: usize) {
        while let Some(of) = self.of.get(holder)
            && of.len() >= max
            && let Some(oldest) = of.first().copied()
        {
            self.remove(oldest);
        }
    }

    fn remove(&mut self, number: u64) {
        let Some(session) = self.all.remove(&number) else {
            return;
        };
        for holder in session.holders {
            if let Some(of) = self.of.get_mut(&holder) {
                of.remove(&number);
                if of.is_empty() {
                    self.of.remove(&holder);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    async fn ended(pending: &mut PendingSession) -> bool {
        timeout(Duration::ZERO, pending.evicted()).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_of_a_network_or_of_an_app_ends() {
        let bounds = PendingBounds { app: 3, network: 2 };
        let pending = PendingSessions::new(bounds);
        let app = AppId::parse("1").expect("an id");
        let other_app = AppId::parse("2").expect("an id");
        let network = |last| Some(Network::of([192, 0, 2, last].into()));
        let mut first = pending.add(Some(&app), network(1));
        let mut second = pending.add(Some(&app), network(1));
        let mut elsewhere = pending.add(Some(&other_app), network(2));
        let mut third = pending.add(Some(&app), network(1));
        assert!(ended(&mut first).await && !ended(&mut second).await);
        let mut unknown = [pending.add(Some(&app), None), pending.add(Some(&app), None)];
        assert!(ended(&mut second).await && !ended(&mut third).await);
        assert!(!ended(&mut unknown[0]).await && !ended(&mut elsewhere).await);
        // A session whose client came back gives up its place itself.
        drop(third);
        let mut newest = pending.add(Some(&app), network(1));
        assert!(!ended(&mut unknown[0]).await && !ended(&mut newest).await);
        drop((first, second, elsewhere, unknown, newest));
        assert!(pending.0.sessions.lock().of.is_empty());
    }
}
