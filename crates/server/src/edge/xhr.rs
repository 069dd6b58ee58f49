//! The HTTP fallbacks of pusher-js (docs/protocol.md#http-fallbacks), for networks that let no WebSocket through: frames
//! come down as the lines of a streamed answer (`xhr_streaming`) or of one answer after another (`xhr`), and go up in
//! requests of their own (`xhr_send`).
//!
//! Sessions are asked to try a WebSocket again ([`websocket_retry`]), and requests of one browser hang only as long as it has
//! connections for them ([`hanging`]).
//!
//! Behind it are the same sessions and outboxes as behind WebSocket: [`pipe`] is another sink, [`session`] another reader.

mod hanging;
mod pending;
mod pipe;
mod routes;
mod session;
mod sessions;
mod websocket_retry;

pub(crate) use hanging::HangingRequests;
pub(crate) use pending::PendingBounds;
pub(crate) use routes::router;
pub(crate) use sessions::Sessions;
pub(crate) use websocket_retry::{Client, WebSocketRetry};
