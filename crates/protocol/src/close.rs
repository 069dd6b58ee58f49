//! Error and close codes (docs/protocol.md#close-codes), one table.

/// Why a connection is closed. The number tells the client whether and when to reconnect.
///
/// 40xx: don't reconnect unchanged. 41xx: reconnect after a second or more. 42xx: reconnect at
/// once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseCode {
    /// 1003: a binary frame; the protocol is text only.
    Binary,
    /// 1007: a text frame that is not UTF-8.
    NotUtf8,
    /// 1002: a frame that breaks RFC 6455.
    BadFrame,
    /// 1008: what a client without error messages asked for was refused
    /// (docs/any-client.md#raw-websocket), or its URL is invalid.
    Refused,
    /// 1009: a message over the size limit.
    MessageTooLarge,
    /// 4000: the app requires TLS.
    TlsOnly,
    /// 4001: no app has this key.
    UnknownApp,
    /// 4003: the app is disabled.
    AppDisabled,
    /// 4004: the app has reached its limit of connections.
    OverQuota,
    /// 4005: no app key in the path.
    PathNotFound,
    /// 4007: a protocol version that the server doesn't speak.
    UnsupportedProtocol,
    /// 4008: no protocol version in the query.
    NoProtocol,
    /// 4009: the credential that admitted this connection is no longer valid.
    Unauthorized,
    /// 4100: this node cannot take the connection, or cannot keep up with it.
    OverCapacity,
    /// 4101: events may have been missed; what was received before is complete.
    EventsMissed,
    /// 4200: reconnect now; this node is shutting down.
    Reconnect,
    /// 4201: nothing was received from the client in time.
    PongTimeout,
}

impl CloseCode {
    /// Returns the number on the wire.
    #[must_use]
    pub fn number(self) -> u16 {
        match self {
            Self::BadFrame => 1002,
            Self::Binary => 1003,
            Self::NotUtf8 => 1007,
            Self::Refused => 1008,
            Self::MessageTooLarge => 1009,
            Self::TlsOnly => 4000,
            Self::UnknownApp => 4001,
            Self::AppDisabled => 4003,
            Self::OverQuota => 4004,
            Self::PathNotFound => 4005,
            Self::UnsupportedProtocol => 4007,
            Self::NoProtocol => 4008,
            Self::Unauthorized => 4009,
            Self::OverCapacity => 4100,
            Self::EventsMissed => 4101,
            Self::Reconnect => 4200,
            Self::PongTimeout => 4201,
        }
    }

    /// Returns whether a `pusher:error` with the number is sent before the close frame. WebSocket's
    /// own codes (1xxx) are for the WebSocket library alone: clients would not find them in their
    /// table.
    #[must_use]
    pub fn is_in_pusher_table(self) -> bool {
        self.number() >= 4000
    }
}
