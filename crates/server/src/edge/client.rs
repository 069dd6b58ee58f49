//! An accepted client, and how long it may take.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access::Peer;
use crate::edge::sockets::{HttpSocket, SocketPlace};

/// How long a client that connected before the shutdown may take for its request head.
pub(super) const LAST_HEAD: Duration = Duration::from_secs(1);

/// How long clients may take to send heads and to read answers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timeouts {
    /// For the first head of a connection.
    pub(crate) first_head: Duration,
    /// For the head of a later request, including the idle time before it, and for reading part of an answer.
    pub(crate) head: Duration,
}

/// The tracker that counts a connection once it is upgraded. The listener adds it to every request that asks for an
/// upgrade.
#[derive(Debug, Clone)]
pub(crate) struct Upgrades(pub(crate) TaskTracker);

/// An accepted client.
pub(super) struct Client {
    pub(super) peer: Peer,
    pub(super) over_tls: bool,
    pub(super) socket: HttpSocket,
    pub(super) place: SocketPlace,
    pub(super) upgrades: Upgrades,
    pub(super) finish: CancellationToken,
    /// Whether it came after the shutdown had begun, and gets one answer.
    pub(super) is_late: bool,
}
