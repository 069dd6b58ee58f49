//! Keys that were active lately. A client or backend that still uses one is told when it ended.

use std::fmt;

use fanfare_protocol::AppKey;

/// A key that was active lately and isn't any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormerKey {
    /// The public half.
    pub key: AppKey,
    /// Why it isn't active.
    pub end: KeyEnd,
    /// Since when it isn't active, as `2026-11-22T00:00:00Z`.
    pub ended_at: String,
}

/// Why a key isn't active any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyEnd {
    /// An operator revoked it.
    Revoked,
    /// Its expiry has passed.
    Expired,
}

impl fmt::Display for FormerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ended = match self.end {
            KeyEnd::Revoked => "was revoked",
            KeyEnd::Expired => "expired",
        };
        let (key, ended_at) = (&self.key, &self.ended_at);
        write!(
            f,
            "App key {key} is no longer active: it {ended} at {ended_at}"
        )
    }
}
