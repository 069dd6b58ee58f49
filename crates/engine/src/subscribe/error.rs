//! Why a subscription is refused.

/// Why a subscription is refused. Most refusals are told to the client, which stays connected.
#[derive(Debug, thiserror::Error)]
pub(super) enum SubscribeError {
    /// The signature is missing or wrong, or belongs to somebody else.
    #[error("{0}")]
    Auth(String),
    /// The name breaks a rule.
    #[error("{0}")]
    InvalidChannel(String),
    /// Who would join the presence channel cannot be read.
    #[error("{0}")]
    InvalidMember(String),
    /// The connection is subscribed to the channel of this name.
    #[error("Existing subscription to channel {0}")]
    AlreadySubscribed(String),
    /// The connection, its network, the app or the channel has as much as it may have.
    #[error("{0}")]
    LimitReached(String),
    /// The other nodes cannot be reached. Where the client comes back to, they may be: the connection is closed.
    #[error("This server is cut off from the others and cannot serve you now, reconnect")]
    Disconnected,
    /// More has come by than is kept for a connection that joins, which is closed.
    #[error("More came on a channel than is kept for you while you subscribed, reconnect")]
    Overtaken,
}

/// How a refusal is told in `pusher:subscription_error` (docs/protocol.md#subscribe).
pub(super) struct Told {
    pub(super) kind: &'static str,
    /// As of HTTP.
    pub(super) status: u16,
}

impl SubscribeError {
    /// Returns how the client is told, or `None` if its connection is closed instead.
    pub(super) fn told(&self) -> Option<Told> {
        let (kind, status) = match self {
            Self::Auth(_) => ("AuthError", 401),
            Self::InvalidChannel(_) => ("InvalidChannel", 400),
            Self::InvalidMember(_) => ("InvalidMember", 400),
            Self::AlreadySubscribed(_) => ("AlreadySubscribed", 409),
            Self::LimitReached(_) => ("LimitReached", 403),
            Self::Disconnected | Self::Overtaken => return None,
        };
        Some(Told { kind, status })
    }
}
