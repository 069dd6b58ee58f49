//! Counts how handshakes end.

use std::sync::atomic::{AtomicU64, Ordering};

/// How a handshake ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HandshakeOutcome {
    /// A new session: the costly kind.
    Full,
    /// A session that the client had before.
    Resumed,
    /// What the client sent isn't valid, or has no version or cipher in common with this server.
    Failed,
    /// The client spoke plain HTTP.
    PlainHttp,
    /// The client left, or its connection broke.
    Left,
    /// The client was too slow.
    TimedOut,
}

impl HandshakeOutcome {
    const ALL: [Self; 6] = [
        Self::Full,
        Self::Resumed,
        Self::Failed,
        Self::PlainHttp,
        Self::Left,
        Self::TimedOut,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Resumed => "resumed",
            Self::Failed => "failed",
            Self::PlainHttp => "plain_http",
            Self::Left => "left",
            Self::TimedOut => "timed_out",
        }
    }
}

/// Number of handshakes by their outcome, since the start.
#[derive(Debug, Default)]
pub(crate) struct HandshakeCounts([AtomicU64; HandshakeOutcome::ALL.len()]);

impl HandshakeCounts {
    pub(crate) fn count(&self, outcome: HandshakeOutcome) {
        self.0[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Returns all counters with the names of their outcomes.
    pub(crate) fn read(&self) -> Vec<(&'static str, u64)> {
        HandshakeOutcome::ALL
            .into_iter()
            .map(|outcome| {
                let count = self.0[outcome as usize].load(Ordering::Relaxed);
                (outcome.as_str(), count)
            })
            .collect()
    }
}
