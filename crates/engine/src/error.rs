//! The reason and close code of a refusal.

use fanfare_protocol::CloseCode;

/// Why a connection is not admitted, or is closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// The close code, which tells the client whether to reconnect.
    pub code: CloseCode,
    /// The text for people.
    pub message: String,
}

impl Refusal {
    /// Returns a refusal with a code and a text.
    pub fn new(code: CloseCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}
