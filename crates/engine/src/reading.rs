//! When a connection's reader reads, writes and stops.

use tokio::time::Instant;

/// What the reader of a connection has to do besides reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interest {
    /// Call [`Session::flush`] when the socket takes more.
    pub write: bool,
    /// Stop: the connection is over.
    pub end: bool,
    /// When to hand over the next message.
    pub read: Reading,
}

/// When a reader may hand over the next message of its client. Until then it doesn't read, and TCP
/// tells the client to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// At once.
    Now,
    /// At this time: the client has sent more messages than are handled a second.
    At(Instant),
    /// Once the socket has taken more of what the client asked for.
    OnceWritten,
}
