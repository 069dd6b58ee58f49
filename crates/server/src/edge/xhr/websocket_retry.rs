//! Asks sessions of the HTTP fallbacks to reconnect once, so that their clients try a WebSocket again.
//!
//! A client that loses its connection for a few seconds falls back to HTTP, and its library stays there for hours
//! although its network lets WebSockets through. A close code that asks for a reconnect makes it try a WebSocket first.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Least time between two times that a client is asked. A network's WebSockets count as evidence for as long.
const RETRY_INTERVAL: Duration = Duration::from_secs(60 * 60);
/// Sessions opened this soon after the start are asked without further evidence, because the start itself may be why
/// their clients fell back.
const AFTER_START: Duration = Duration::from_secs(10 * 60);
/// Largest number of clients, and of networks, that are remembered. A client that can't be remembered isn't asked.
const MAX_REMEMBERED: usize = 100_000;
/// Least time between two log lines.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Decides which sessions are asked, and when.
pub(crate) struct WebSocketRetry {
    /// Time over which sessions are asked, or `None` if they never are.
    period: Option<Duration>,
    started: Instant,
    hasher: RandomState,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Networks with a WebSocket to an app, and when the last one was opened.
    websockets: HashMap<u64, Instant>,
    /// Clients that were asked, and when.
    asked: HashMap<u64, Asked>,
    /// Number of sessions that were asked since the start.
    total: u64,
    unlogged: u64,
    logged: Option<Instant>,
}

#[derive(Clone, Copy)]
struct Asked {
    first: Instant,
    last: Instant,
}

/// A client as far as it can be told from others. Tabs of one browser are one client, and so are equal browsers behind
/// one address.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Client<'a> {
    pub(crate) key: &'a str,
    pub(crate) address: Option<IpAddr>,
    pub(crate) agent: Option<&'a str>,
}

/// A session that may be asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    client: u64,
    network: u64,
    opened: Instant,
    /// When the client may be asked, as [`WebSocketRetry::is_due`] finds.
    pub(super) due: Instant,
}

impl fmt::Debug for WebSocketRetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocketRetry")
            .field("period", &self.period)
            .finish_non_exhaustive()
    }
}

impl WebSocketRetry {
    /// Creates the rules. If `period` is zero, no session is asked.
    pub(crate) fn new(period: Duration) -> Self {
        Self {
            period: (!period.is_zero()).then_some(period),
            started: Instant::now(),
            hasher: RandomState::new(),
            state: Mutex::default(),
        }
    }

    /// Returns how many sessions were asked since the start.
    pub(crate) fn asked(&self) -> u64 {
        self.state.lock().total
    }

    /// Records that a WebSocket got through from this client's network.
    pub(crate) fn websocket_opened(&self, client: Client<'_>) {
        if self.period.is_none() {
            return;
        }
        let (network, now) = (self.network(client), Instant::now());
        let mut state = self.state.lock();
        if state.websockets.len() >= MAX_REMEMBERED && !state.websockets.contains_key(&network) {
            state
                .websockets
                .retain(|_, seen| now - *seen < RETRY_INTERVAL);
        }
        // If there is no room, sessions of this network are asked later or not at all.
        if state.websockets.len() < MAX_REMEMBERED || state.websockets.contains_key(&network) {
            state.websockets.insert(network, now);
        }
    }

    /// Returns the entry of a session that was opened just now, or `None` if sessions are never asked.
    pub(super) fn candidate(&self, client: Client<'_>) -> Option<Candidate> {
        let period = self.period?;
        let opened = Instant::now();
        // Not in the first tenth of the period: a client that has just connected is left alone for a while.
        let share = 0.1 + 0.9 * rand::random::<f64>();
        Some(Candidate {
            client: self
                .hasher
                .hash_one((client.key, client.address, client.agent)),
            network: self.network(client),
            opened,
            due: opened + period.mul_f64(share),
        })
    }

    /// Returns whether a session that is due is to be asked now, and records it then. Otherwise the session is due
    /// again later.
    pub(super) fn is_due(&self, candidate: &mut Candidate) -> bool {
        let Some(period) = self.period else {
            return false;
        };
        let now = Instant::now();
        candidate.due = now + period;
        let after_start =
            now - self.started < RETRY_INTERVAL && candidate.opened - self.started < AFTER_START;
        let mut state = self.state.lock();
        let seen = state.websockets.get(&candidate.network);
        let has_evidence = seen.is_some_and(|seen| now - *seen < RETRY_INTERVAL);
        (after_start || has_evidence) && state.note_asked(candidate, now)
    }

    /// Returns the hash of an app and a client's network. If a WebSocket gets through from one client of a network, it
    /// probably does from the others.
    fn network(&self, client: Client<'_>) -> u64 {
        let network = match client.address {
            Some(IpAddr::V6(address)) => Some(u128::from(address) >> 64),
            Some(IpAddr::V4(address)) => Some(u128::from(u32::from(address))),
            None => None,
        };
        self.hasher.hash_one((client.key, network))
    }
}

impl State {
    /// Records that a client is asked. Returns whether it may be: it wasn't asked within [`RETRY_INTERVAL`], and there is room
    /// to remember it.
    fn note_asked(&mut self, candidate: &Candidate, now: Instant) -> bool {
        let known = self.asked.get(&candidate.client).copied();
        let asked = match known.filter(|asked| now - asked.last < RETRY_INTERVAL) {
            // Other tabs of the same browser that were open before the first one was asked have their turn too. Later
            // ones are those that were asked and came back.
            Some(asked) if candidate.opened < asked.first => Asked { last: now, ..asked },
            Some(_) => return false,
            None => Asked {
                first: now,
                last: now,
            },
        };
        if self.asked.len() >= MAX_REMEMBERED && known.is_none() {
            self.asked
                .retain(|_, asked| now - asked.last < RETRY_INTERVAL);
            if self.asked.len() >= MAX_REMEMBERED {
                return false;
            }
        }
        self.asked.insert(candidate.client, asked);
        self.total += 1;
        self.unlogged += 1;
        if self
            .logged
            .is_none_or(|logged| now - logged >= LOG_INTERVAL)
        {
            tracing::info!(
                sessions = self.unlogged,
                since_start = self.total,
                "asked sessions of the HTTP fallbacks to reconnect, so that they try a WebSocket again (fallback.websocket_retry)"
            );
            self.unlogged = 0;
            self.logged = Some(now);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const PERIOD: Duration = Duration::from_secs(5 * 60);

    fn client(agent: &str) -> Client<'_> {
        Client {
            key: "key",
            address: Some([192, 0, 2, 1].into()),
            agent: Some(agent),
        }
    }

    /// Creates a node that has run long enough for its start to be no reason to ask.
    async fn long_started() -> WebSocketRetry {
        let retry = WebSocketRetry::new(PERIOD);
        advance(2 * RETRY_INTERVAL).await;
        retry
    }

    #[tokio::test(start_paused = true)]
    async fn sessions_after_a_start_are_asked_once_spread_over_the_period() {
        let retry = WebSocketRetry::new(PERIOD);
        let agents: Vec<String> = (0..200).map(|number| number.to_string()).collect();
        let mut candidates: Vec<_> = agents
            .iter()
            .map(|agent| retry.candidate(client(agent)).unwrap())
            .collect();
        let opened = Instant::now();
        let waits: Vec<_> = candidates.iter().map(|c| c.due - opened).collect();
        assert!(
            waits
                .iter()
                .all(|wait| (PERIOD / 10..=PERIOD).contains(wait))
        );
        let early = waits.iter().filter(|wait| **wait < PERIOD / 2).count();
        assert!(
            (40..140).contains(&early),
            "{early} of 200 in the first half"
        );
        advance(PERIOD).await;
        for candidate in &mut candidates {
            assert!(retry.is_due(candidate));
        }
        assert_eq!(retry.asked(), 200);
        // The clients came back without a WebSocket, so their networks block WebSockets.
        for _ in 0..30 {
            let mut again = retry.candidate(client("1")).unwrap();
            advance(MINUTE).await;
            assert!(!retry.is_due(&mut again));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn later_only_sessions_whose_network_lets_websockets_through_are_asked() {
        let retry = long_started().await;
        let mut candidate = retry.candidate(client("a")).unwrap();
        assert!(!retry.is_due(&mut candidate));
        let elsewhere = Client {
            address: Some([192, 0, 2, 2].into()),
            ..client("a")
        };
        let other_app = Client {
            key: "other",
            ..client("a")
        };
        for other in [elsewhere, other_app] {
            retry.websocket_opened(other);
            assert!(!retry.is_due(&mut candidate));
        }
        retry.websocket_opened(client("another browser there"));
        assert!(candidate.due > Instant::now(), "it is looked at again");
        assert!(retry.is_due(&mut candidate));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_asked_twice_within_an_hour_and_each_tab_once() {
        let retry = long_started().await;
        let mut tabs: Vec<_> = (0..3)
            .map(|_| retry.candidate(client("a")).unwrap())
            .collect();
        for tab in &mut tabs {
            advance(MINUTE).await;
            retry.websocket_opened(client("a"));
            assert!(retry.is_due(tab));
        }
        for _ in 0..59 {
            let mut back = retry.candidate(client("a")).unwrap();
            advance(MINUTE).await;
            retry.websocket_opened(client("a"));
            assert!(!retry.is_due(&mut back));
        }
        let mut back = retry.candidate(client("a")).unwrap();
        advance(MINUTE).await;
        assert!(retry.is_due(&mut back));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_is_bounded_and_never_makes_a_client_be_asked_twice() {
        let retry = WebSocketRetry::new(PERIOD);
        let agents: Vec<String> = (0..=MAX_REMEMBERED).map(|n| n.to_string()).collect();
        let mut asked = 0;
        for agent in &agents {
            let mut candidate = retry.candidate(client(agent)).unwrap();
            advance(Duration::from_millis(1)).await;
            asked += usize::from(retry.is_due(&mut candidate));
        }
        assert_eq!(asked, MAX_REMEMBERED);
        let mut first = retry.candidate(client("0")).unwrap();
        assert!(!retry.is_due(&mut first));
    }

    #[tokio::test]
    async fn without_a_period_nobody_is_asked() {
        let retry = WebSocketRetry::new(Duration::ZERO);
        assert!(retry.candidate(client("a")).is_none());
    }
}
