//! Counters of what clients and backends of an app do: plain data of one thread, and counters that publishing threads
//! share without sharing a cache line.

use std::cell::Cell;
use std::fmt;
use std::ops::{AddAssign, Sub};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use fanfare_protocol::Framing;

/// What an app's clients did and got on one shard, since the shard's start.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct ClientTraffic {
    /// Connections that were opened.
    pub opened: u64,
    /// Events queued to subscribers, one for each subscriber.
    pub deliveries: u64,
    /// Bytes of these events as WebSocket frames.
    pub delivered_bytes: u64,
    /// Messages from clients, client events included.
    pub messages: u64,
    /// Bytes of these messages, without their framing.
    pub received_bytes: u64,
    /// Events of clients that were published.
    pub client_events: u64,
}

impl AddAssign for ClientTraffic {
    fn add_assign(&mut self, other: Self) {
        self.opened += other.opened;
        self.deliveries += other.deliveries;
        self.delivered_bytes += other.delivered_bytes;
        self.messages += other.messages;
        self.received_bytes += other.received_bytes;
        self.client_events += other.client_events;
    }
}

impl Sub for ClientTraffic {
    type Output = Self;

    /// Returns what was counted since `earlier`.
    fn sub(self, earlier: Self) -> Self {
        Self {
            opened: self.opened - earlier.opened,
            deliveries: self.deliveries - earlier.deliveries,
            delivered_bytes: self.delivered_bytes - earlier.delivered_bytes,
            messages: self.messages - earlier.messages,
            received_bytes: self.received_bytes - earlier.received_bytes,
            client_events: self.client_events - earlier.client_events,
        }
    }
}

/// Who closed a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Closed {
    /// The client, or the network in between.
    ByClient,
    /// The server, with the number of this close code.
    ByServer(u16),
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ByClient => f.write_str("client"),
            Self::ByServer(code) => code.fmt(f),
        }
    }
}

/// Numbers of connections by transport.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct ByTransport {
    /// WebSockets of Pusher's clients.
    pub websocket: u64,
    /// Sessions of the HTTP fallbacks.
    pub fallback: u64,
    /// WebSockets with plain JSON objects, and with data alone.
    pub plain_websocket: u64,
    /// Streams of Server-Sent Events.
    pub sse: u64,
    /// Clients of Socket.IO, in each of their namespaces.
    pub socket_io: u64,
}

impl ByTransport {
    pub(crate) fn of(&mut self, framing: Framing) -> &mut u64 {
        match framing {
            Framing::WebSocket => &mut self.websocket,
            Framing::SockJs => &mut self.fallback,
            Framing::Object | Framing::Raw => &mut self.plain_websocket,
            Framing::EventStream(_) => &mut self.sse,
            Framing::SocketIo => &mut self.socket_io,
        }
    }
}

impl AddAssign for ByTransport {
    fn add_assign(&mut self, other: Self) {
        self.websocket += other.websocket;
        self.fallback += other.fallback;
        self.plain_websocket += other.plain_websocket;
        self.sse += other.sse;
        self.socket_io += other.socket_io;
    }
}

/// Answers to clients that asked for the events that they have missed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Recoveries {
    /// All missed events were there.
    pub complete: u64,
    /// Some were no longer kept.
    pub incomplete: u64,
}

impl Recoveries {
    pub(crate) fn count(&mut self, is_complete: bool) {
        match is_complete {
            true => self.complete += 1,
            false => self.incomplete += 1,
        }
    }
}

impl AddAssign for Recoveries {
    fn add_assign(&mut self, other: Self) {
        self.complete += other.complete;
        self.incomplete += other.incomplete;
    }
}

/// Publishes of backends that were answered, by their result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishResult {
    /// Events that are on their way.
    Accepted,
    /// The events were accepted before.
    Duplicate,
    /// The app's rate is exceeded.
    OverRate,
    /// A queue is full.
    Overloaded,
    /// A quota is used up.
    OverQuota,
    /// The other nodes can't be reached, or did not answer in time.
    Unavailable,
    /// The idempotency key stood for another request.
    Conflict,
}

impl PublishResult {
    /// All results.
    pub const ALL: [Self; 7] = [
        Self::Accepted,
        Self::Duplicate,
        Self::OverRate,
        Self::Overloaded,
        Self::OverQuota,
        Self::Unavailable,
        Self::Conflict,
    ];

    /// Returns whether the events were not taken.
    #[must_use]
    pub fn is_refused(self) -> bool {
        !matches!(self, Self::Accepted | Self::Duplicate)
    }

    /// Returns the result's name in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Duplicate => "duplicate",
            Self::OverRate => "over_rate",
            Self::Overloaded => "overloaded",
            Self::OverQuota => "over_quota",
            Self::Unavailable => "unavailable",
            Self::Conflict => "conflict",
        }
    }
}

/// Number of threads that publish without sharing a cache line.
const STRIPES: usize = 4;

/// What an app's backends published: one cache line for each of a few threads.
#[derive(Debug, Default)]
pub(crate) struct PublishCounters([Stripe; STRIPES]);

/// A cache line of counters.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Stripe {
    requests: [AtomicU64; PublishResult::ALL.len()],
    events: AtomicU64,
    bytes: AtomicU64,
}

/// What an app's backends published since the node's start.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct BackendTraffic {
    /// Requests by result, in the order of [`PublishResult::ALL`].
    pub requests: [u64; PublishResult::ALL.len()],
    /// Events that were accepted, one for each channel.
    pub events: u64,
    /// Bytes of the data of these events.
    pub bytes: u64,
}

impl AddAssign for BackendTraffic {
    fn add_assign(&mut self, other: Self) {
        for (sum, more) in self.requests.iter_mut().zip(other.requests) {
            *sum += more;
        }
        self.events += other.events;
        self.bytes += other.bytes;
    }
}

impl Sub for BackendTraffic {
    type Output = Self;

    /// Returns what was counted since `earlier`.
    fn sub(mut self, earlier: Self) -> Self {
        for (count, before) in self.requests.iter_mut().zip(earlier.requests) {
            *count -= before;
        }
        Self {
            requests: self.requests,
            events: self.events - earlier.events,
            bytes: self.bytes - earlier.bytes,
        }
    }
}

thread_local! {
    static STRIPE: Cell<Option<usize>> = const { Cell::new(None) };
}
static THREADS: AtomicUsize = AtomicUsize::new(0);

/// Returns the stripe of this thread. Threads take stripes in turn.
fn stripe() -> usize {
    STRIPE.get().unwrap_or_else(|| {
        let next = THREADS.fetch_add(1, Ordering::Relaxed) % STRIPES;
        STRIPE.set(Some(next));
        next
    })
}

impl PublishCounters {
    /// Counts a request with `events` events, whose data has `bytes` bytes in all. Only accepted events count.
    pub(crate) fn count(&self, result: PublishResult, events: usize, bytes: usize) {
        let stripe = &self.0[stripe()];
        if result == PublishResult::Accepted {
            stripe.events.fetch_add(events as u64, Ordering::Relaxed);
            stripe.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        }
        // Last, and in one order with `Apps::count_published`: whoever resets that mark and then reads these counters sees
        // this request, or the mark is set again.
        stripe.requests[result as usize].fetch_add(1, Ordering::SeqCst);
    }

    /// Returns the sums over all threads.
    pub(crate) fn sum(&self) -> BackendTraffic {
        let mut sum = BackendTraffic::default();
        for stripe in &self.0 {
            let read = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
            let mut requests = [0; PublishResult::ALL.len()];
            for (to, from) in requests.iter_mut().zip(&stripe.requests) {
                *to = read(from);
            }
            sum += BackendTraffic {
                requests,
                events: read(&stripe.events),
                bytes: read(&stripe.bytes),
            };
        }
        sum
    }
}
