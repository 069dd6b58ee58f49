//! Rules for event names (docs/protocol.md#client-events, docs/http-api.md#publish). Any characters
//! are allowed, because Laravel sends class names with backslashes.

/// The prefix of client events' names.
pub const CLIENT_PREFIX: &str = "client-";

/// Why a text is not an event name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEventName {
    /// It is empty.
    #[error("Invalid event name: it is empty")]
    Empty,
    /// Longer than allowed.
    #[error("Invalid event name: {length} bytes, at most {max} are allowed")]
    TooLong {
        /// Bytes in the name.
        length: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// Only the server sends `pusher:` and `pusher_internal:` events.
    #[error(
        "Invalid event name {0:?}: names that start with 'pusher:' or 'pusher_internal:' are reserved"
    )]
    Reserved(String),
}

/// Checks the name of an event that a backend publishes or a client sends.
///
/// # Errors
///
/// Returns [`InvalidEventName`], which says which rule the name breaks.
pub fn check_name(name: &str, max_length: usize) -> Result<(), InvalidEventName> {
    if name.is_empty() {
        return Err(InvalidEventName::Empty);
    }
    if name.len() > max_length {
        return Err(InvalidEventName::TooLong {
            length: name.len(),
            max: max_length,
        });
    }
    if name.starts_with("pusher:") || name.starts_with("pusher_internal:") {
        return Err(InvalidEventName::Reserved(name.into()));
    }
    Ok(())
}
