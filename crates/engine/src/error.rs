//! What is said to a client whose wish is refused.

use fanfare_protocol::CloseCode;

/// Why a connection is not let in, or is closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// Tells the client whether to come back.
    pub code: CloseCode,
    /// For people.
    pub message: String,
}

impl Refusal {
    /// A refusal in words.
    pub fn new(code: CloseCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}
