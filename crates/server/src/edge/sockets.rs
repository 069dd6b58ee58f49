//! Counts the sockets of clients from the moment they are accepted, for each network and in all. If there is no room
//! for another one, an idle socket is closed, never a WebSocket: the one that has been idle longest, of the network
//! that has most.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use fanfare_engine::{BudgetExceeded, Charge, Ledger, Network, Resource};
use parking_lot::Mutex;
use slab::Slab;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

use std::net::IpAddr;

/// How long `/readyz` reports that a client had to wait.
const FULL_FOR: Duration = Duration::from_secs(5);
/// How long [`Sockets::wait_for_room`] waits for a socket to close before it looks again.
const RETRY_AFTER: Duration = Duration::from_millis(100);
/// Number of idle sockets that one scan chooses.
const CHOSEN_AT_ONCE: usize = 256;
/// Value of `full_at` before any client had to wait.
const NEVER: u64 = 0;

/// The sockets of this node. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Sockets(Arc<Table>);

#[derive(Debug)]
struct Table {
    max: usize,
    ledger: Ledger,
    open: AtomicUsize,
    /// The sockets that serve HTTP, WebSockets excluded.
    http: Mutex<Http>,
    closed: Notify,
    started: Instant,
    /// When a client last had to wait, in milliseconds since the start.
    full_at: AtomicU64,
}

#[derive(Debug, Default)]
struct Http {
    sockets: Slab<Arc<Activity>>,
    /// Idle sockets that the last scan chose, with their activity at that time. The first to close is last.
    idle: Vec<(Arc<Activity>, u64)>,
}

/// State of a socket that serves HTTP, by which an idle one is found.
#[derive(Debug)]
pub(crate) struct Activity {
    started: Instant,
    /// Network that pays for the socket, once that is known and if one does.
    network: OnceLock<Network>,
    /// When bytes last came or went, in milliseconds since the start.
    at: AtomicU64,
    /// Number of requests that are being answered.
    requests: AtomicUsize,
    /// Number of these requests whose body hasn't come whole: the server only waits for their client.
    unfinished_bodies: AtomicUsize,
    is_closed: AtomicBool,
    /// The task that owns the socket.
    task: OnceLock<AbortHandle>,
}

impl Activity {
    /// Sets the task that owns the socket. Aborting that task closes the socket.
    pub(crate) fn belongs_to(&self, task: AbortHandle) {
        let _ = self.task.set(task);
        // The socket may have been chosen between its entry in the table and this call, when there was no task to
        // abort.
        if self.is_closed.load(Ordering::Acquire) {
            self.close();
        }
    }

    /// Records that bytes came or that part of an answer was written.
    pub(crate) fn note(&self) {
        self.at.store(millis_since(self.started), Ordering::Relaxed);
    }

    /// Counts a request. The socket isn't idle until the guard is dropped.
    pub(crate) fn request(self: &Arc<Self>) -> OpenRequest {
        self.requests.fetch_add(1, Ordering::Relaxed);
        OpenRequest(Arc::clone(self))
    }

    /// Counts a body that hasn't come whole, until the guard is dropped.
    pub(crate) fn unfinished_body(self: &Arc<Self>) -> UnfinishedBody {
        self.unfinished_bodies.fetch_add(1, Ordering::Relaxed);
        UnfinishedBody(Arc::clone(self))
    }

    fn network(&self) -> Option<Network> {
        self.network.get().copied()
    }

    /// Returns whether the server only waits for the socket's client.
    fn is_idle(&self) -> bool {
        let waits_for = self.unfinished_bodies.load(Ordering::Relaxed);
        self.requests.load(Ordering::Relaxed) <= waits_for
            && !self.is_closed.load(Ordering::Relaxed)
    }

    fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }
}

/// Guard of a request body that hasn't come whole.
#[derive(Debug)]
pub(crate) struct UnfinishedBody(Arc<Activity>);

impl Drop for UnfinishedBody {
    fn drop(&mut self) {
        self.0.unfinished_bodies.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Guard of a request that is being answered.
#[derive(Debug)]
pub(crate) struct OpenRequest(Arc<Activity>);

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Place of an open socket, a WebSocket's included, among those of the node and of its network.
#[derive(Debug)]
pub(crate) struct SocketPlace {
    table: Arc<Table>,
    charge: Option<Charge>,
}

impl Drop for SocketPlace {
    fn drop(&mut self) {
        self.table.open.fetch_sub(1, Ordering::Relaxed);
        self.table.closed.notify_one();
    }
}

/// Entry of a socket that serves HTTP. It is dropped when the socket is upgraded.
#[derive(Debug)]
pub(crate) struct HttpSocket {
    table: Arc<Table>,
    key: usize,
    pub(crate) activity: Arc<Activity>,
}

impl Drop for HttpSocket {
    fn drop(&mut self) {
        self.table.http.lock().sockets.remove(self.key);
    }
}

fn millis_since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX)
}

impl Sockets {
    /// Creates an empty table of at most `max` sockets. Sockets of charged addresses are also bounded for each network
    /// by `ledger`.
    pub(crate) fn new(max: usize, ledger: Ledger) -> Self {
        Self(Arc::new(Table {
            max,
            ledger,
            open: AtomicUsize::new(0),
            http: Mutex::default(),
            closed: Notify::new(),
            started: Instant::now(),
            full_at: AtomicU64::new(NEVER),
        }))
    }

    /// Returns whether a client had to wait within the last [`FULL_FOR`].
    pub(crate) fn is_full(&self) -> bool {
        let full_at = self.0.full_at.load(Ordering::Relaxed);
        let window = u64::try_from(FULL_FOR.as_millis()).unwrap_or(u64::MAX);
        full_at != NEVER && millis_since(self.0.started).saturating_sub(full_at) < window
    }

    /// Records that a client could not be accepted.
    pub(crate) fn note_full(&self) {
        let now = millis_since(self.0.started).max(1);
        self.0.full_at.store(now, Ordering::Relaxed);
    }

    /// Returns the number of open sockets of clients.
    pub(crate) fn open(&self) -> usize {
        self.0.open.load(Ordering::Relaxed)
    }

    /// Returns the largest number of sockets.
    pub(crate) fn max(&self) -> usize {
        self.0.max
    }

    /// Waits for room for one more socket, and closes an idle one if there is none. Calls `on_full` whenever none is
    /// idle.
    pub(crate) async fn wait_for_room(&self, on_full: impl Fn()) {
        while self.0.open.load(Ordering::Relaxed) >= self.0.max {
            if !self.close_idle() {
                self.note_full();
                on_full();
            }
            // The time-out is no failure: the loop looks again either way.
            let _ = timeout(RETRY_AFTER, self.0.closed.notified()).await;
        }
    }

    /// Closes an idle socket that serves HTTP. Returns whether there was one.
    pub(crate) fn close_idle(&self) -> bool {
        let mut http = self.0.http.lock();
        // The last scan's choice is used first. Only when it is used up are all sockets scanned again.
        for _ in 0..2 {
            while let Some((socket, at)) = http.idle.pop() {
                if socket.is_idle() && socket.at.load(Ordering::Relaxed) == at {
                    socket.close();
                    return true;
                }
            }
            http.choose_idle();
        }
        false
    }

    /// Takes a place for an accepted socket. `charged` is the address whose network pays, if one does. Returns `None`
    /// if that network has as many sockets as it may have and none of them is idle.
    pub(crate) fn accept(&self, charged: Option<IpAddr>) -> Option<(SocketPlace, HttpSocket)> {
        let (mut place, socket) = self.open_socket();
        if let Some(address) = charged {
            self.charge(address, &mut place, &socket)?;
        }
        Some((place, socket))
    }

    /// Lets the network of `address` pay for a socket for which none has paid so far. Returns `None` if that network
    /// has as many sockets as it may have and none of them is idle.
    pub(crate) fn charge(
        &self,
        address: IpAddr,
        place: &mut SocketPlace,
        socket: &HttpSocket,
    ) -> Option<()> {
        let payer = self.0.ledger.payer(Some(address));
        let network = payer.network();
        let charge = match payer.charge(Resource::Sockets, 1) {
            Ok(charge) => charge,
            Err(_) => {
                // The closed socket gives back its place a little later, so this one exceeds the bound until then.
                self.close_idle_of(network, None)?;
                let mut charge = payer.empty_charge(Resource::Sockets);
                let _ = charge.set(1);
                charge
            }
        };
        place.charge = Some(charge);
        if let Some(network) = network {
            let _ = socket.activity.network.set(network);
        }
        Some(())
    }

    /// Lets the network of `charged`, if it is set, pay for a request over HTTP/2 as for a socket of its own. Fails if
    /// that network has as many as it may have and none of its other sockets than `own` is idle.
    pub(crate) fn charge_stream(
        &self,
        charged: Option<IpAddr>,
        own: &Arc<Activity>,
    ) -> Result<Option<Charge>, BudgetExceeded> {
        let Some(address) = charged else {
            return Ok(None);
        };
        let payer = self.0.ledger.payer(Some(address));
        payer
            .charge(Resource::Sockets, 1)
            .map(Some)
            .or_else(|error| {
                // As for a socket: the closed one gives back its place a little later.
                self.close_idle_of(payer.network(), Some(own))
                    .ok_or(error)?;
                let mut charge = payer.empty_charge(Resource::Sockets);
                let _ = charge.set(1);
                Ok(Some(charge))
            })
    }

    fn open_socket(&self) -> (SocketPlace, HttpSocket) {
        self.0.open.fetch_add(1, Ordering::Relaxed);
        let activity = Arc::new(Activity {
            started: self.0.started,
            network: OnceLock::new(),
            at: AtomicU64::new(millis_since(self.0.started)),
            requests: AtomicUsize::new(0),
            unfinished_bodies: AtomicUsize::new(0),
            is_closed: AtomicBool::new(false),
            task: OnceLock::new(),
        });
        let key = self.0.http.lock().sockets.insert(Arc::clone(&activity));
        let place = SocketPlace {
            table: Arc::clone(&self.0),
            charge: None,
        };
        let socket = HttpSocket {
            table: Arc::clone(&self.0),
            key,
            activity,
        };
        (place, socket)
    }

    /// Closes the socket of a network that has been idle longest, unless it is `kept`.
    fn close_idle_of(&self, network: Option<Network>, kept: Option<&Arc<Activity>>) -> Option<()> {
        let http = self.0.http.lock();
        let sockets = http.sockets.iter().map(|(_, socket)| socket);
        let is_kept = |socket| kept.is_some_and(|kept| Arc::ptr_eq(kept, socket));
        let idle = sockets
            .filter(|socket| socket.network() == network && socket.is_idle() && !is_kept(socket));
        idle.min_by_key(|socket| socket.at.load(Ordering::Relaxed))?
            .close();
        Some(())
    }
}

impl Http {
    /// Scans all sockets and chooses the idle ones that are closed first. A network that takes most of the room gives
    /// way before one with a few sockets, such as a backend with its kept connections.
    fn choose_idle(&mut self) {
        let sockets = self.sockets.iter().map(|(_, socket)| socket);
        let mut held: HashMap<Network, usize> = HashMap::new();
        for network in sockets.clone().filter_map(|socket| socket.network()) {
            *held.entry(network).or_default() += 1;
        }
        let of_network =
            |socket: &Activity| socket.network().and_then(|network| held.get(&network));
        let mut idle: Vec<_> = sockets
            .filter(|socket| socket.is_idle())
            .map(|socket| {
                let at = socket.at.load(Ordering::Relaxed);
                let held = of_network(socket).copied().unwrap_or(0);
                (socket, (Reverse(held), at))
            })
            .collect();
        if idle.len() > CHOSEN_AT_ONCE {
            idle.select_nth_unstable_by_key(CHOSEN_AT_ONCE, |(_, order)| *order);
            idle.truncate(CHOSEN_AT_ONCE);
        }
        idle.sort_unstable_by_key(|(_, order)| Reverse(*order));
        self.idle = idle
            .into_iter()
            .map(|(socket, (_, at))| (Arc::clone(socket), at))
            .collect();
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use fanfare_engine::{Bounds, Budgets};
    use tokio::time::advance;

    use super::*;

    fn sockets(max: usize, of_network: usize) -> Sockets {
        let network = Bounds::unlimited().with(Resource::Sockets, of_network);
        let ledger = Ledger::new(Budgets {
            network,
            ..Budgets::default()
        });
        Sockets::new(max, ledger)
    }

    fn is_closed(socket: &HttpSocket) -> bool {
        socket.activity.is_closed.load(Ordering::Relaxed)
    }

    const fn address(last: u8) -> Option<IpAddr> {
        Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, last)))
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_idle_socket_goes_and_one_with_a_request_or_a_websocket_does_not() {
        let sockets = sockets(3, 100);
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(sockets.accept(None).expect("room"));
            advance(Duration::from_secs(1)).await;
        }
        let request = held[0].1.activity.request();
        let (websocket, http) = held.remove(1);
        drop(http);
        assert!(sockets.close_idle());
        assert!(is_closed(&held[1].1) && !is_closed(&held[0].1));
        assert!(!sockets.close_idle(), "the others are not idle");
        assert!(!sockets.is_full());
        let full = sockets.wait_for_room(|| {});
        timeout(Duration::from_secs(1), full)
            .await
            .expect_err("no room");
        assert!(sockets.is_full());
        drop(request);
        held.pop();
        sockets.wait_for_room(|| {}).await;
        drop(websocket);
        advance(FULL_FOR).await;
        assert!(!sockets.is_full());
    }

    #[tokio::test(start_paused = true)]
    async fn a_network_that_has_its_share_closes_a_socket_of_its_own() {
        let sockets = sockets(100, 2);
        let other = sockets.accept(address(2)).expect("room");
        advance(Duration::from_secs(1)).await;
        let first = sockets.accept(address(1)).expect("room");
        advance(Duration::from_secs(1)).await;
        let second = sockets.accept(address(1)).expect("room");
        let third = sockets.accept(address(1)).expect("the first one's room");
        assert!(is_closed(&first.1) && !is_closed(&other.1));
        let _requests = [second.1.activity.request(), third.1.activity.request()];
        assert!(sockets.accept(address(1)).is_none(), "none is idle");
        assert!(sockets.accept(address(3)).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn the_network_with_most_sockets_makes_room_before_one_with_a_kept_connection() {
        let sockets = sockets(10, 100);
        let backend = sockets.accept(address(1)).expect("room");
        advance(Duration::from_secs(60)).await;
        let mut strangers = Vec::new();
        for _ in 0..3 {
            strangers.push(sockets.accept(address(2)).expect("room"));
        }
        assert!(sockets.close_idle());
        assert!(!is_closed(&backend.1));
        assert!(strangers.iter().any(|(_, socket)| is_closed(socket)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_whose_body_does_not_come_keeps_nobody_out() {
        let sockets = sockets(10, 100);
        let (_place, socket) = sockets.accept(address(1)).expect("room");
        let _request = socket.activity.request();
        let body = socket.activity.unfinished_body();
        drop(body);
        assert!(!sockets.close_idle(), "its answer is on the way");
        let _body = socket.activity.unfinished_body();
        assert!(sockets.close_idle() && is_closed(&socket));
    }

    #[tokio::test]
    async fn a_socket_that_is_to_go_goes_with_the_task_that_owns_it() {
        let sockets = sockets(10, 100);
        for is_early in [true, false] {
            let (_place, socket) = sockets.accept(None).expect("room");
            let activity = Arc::clone(&socket.activity);
            let task = tokio::spawn(async move {
                let _socket = socket;
                std::future::pending::<()>().await;
            });
            if is_early {
                assert!(sockets.close_idle());
                activity.belongs_to(task.abort_handle());
            } else {
                activity.belongs_to(task.abort_handle());
                assert!(sockets.close_idle());
            }
            assert!(task.await.expect_err("aborted").is_cancelled());
        }
    }
}
