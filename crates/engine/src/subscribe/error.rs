//! Why a subscription is refused.

/// Why a subscription is refused. Most refusals are sent to the client, which stays connected.
#[derive(Debug, thiserror::Error)]
pub(super) enum SubscribeError {
    /// The signature is missing or wrong, or the channel belongs to another user.
    #[error("{0}")]
    Auth(String),
    /// The channel's name breaks a rule.
    #[error("{0}")]
    InvalidChannel(String),
    /// The member of a presence channel cannot be read.
    #[error("{0}")]
    InvalidMember(String),
    /// The connection is subscribed to the channel of this name.
    #[error("Existing subscription to channel {0}")]
    AlreadySubscribed(String),
    /// The connection, its network, the app or the channel has reached a limit.
    #[error("{0}")]
    LimitReached(String),
    /// The other nodes cannot be reached. The connection is closed, because the node that the
    /// client reconnects to may reach them.
    #[error("This server is cut off from the others and cannot serve you now, reconnect")]
    Disconnected,
    /// Histories that were asked for before are still being read or sent. The connection is closed,
    /// because the node that the client reconnects to may have room.
    #[error("Too many histories are being read for your network or on this server, reconnect")]
    Busy,
    /// More events passed than are kept for a connection that joins; it is closed.
    #[error("More came on a channel than is kept for you while you subscribed, reconnect")]
    Overtaken,
}

/// The refusal as `pusher:subscription_error` has it (docs/protocol.md#subscribe).
pub(super) struct ErrorEvent {
    pub(super) kind: &'static str,
    /// An HTTP status.
    pub(super) status: u16,
}

impl SubscribeError {
    /// Returns what the client is told, or `None` if its connection is closed instead.
    pub(super) fn event(&self) -> Option<ErrorEvent> {
        let (kind, status) = match self {
            Self::Auth(_) => ("AuthError", 401),
            Self::InvalidChannel(_) => ("InvalidChannel", 400),
            Self::InvalidMember(_) => ("InvalidMember", 400),
            Self::AlreadySubscribed(_) => ("AlreadySubscribed", 409),
            Self::LimitReached(_) => ("LimitReached", 403),
            Self::Disconnected | Self::Busy | Self::Overtaken => return None,
        };
        Some(ErrorEvent { kind, status })
    }
}
