//! The HTTP fallbacks of pusher-js (docs/protocol.md#http-fallbacks), for networks that block WebSockets. Frames come
//! down as lines of one streamed answer (`xhr_streaming`) or of one answer after another (`xhr`), and go up in requests
//! of their own (`xhr_send`).
//!
//! [`websocket_retry`] asks sessions to try a WebSocket again, and [`hanging`](super::hanging) bounds how many requests of one browser
//! hang, because browsers open few connections to a host.
//!
//! The engine's sessions and outboxes are those of WebSockets: [`pipe`] is another sink, [`session`] another reader.

mod ended_stream;
mod pending;
mod pipe;
mod routes;
mod session;
mod sessions;
mod websocket_retry;

pub(crate) use pending::PendingBounds;
pub(crate) use pending::{PendingSession, PendingSessions, evicted};
pub(crate) use routes::router;
pub(crate) use sessions::Sessions;
pub(crate) use websocket_retry::{Client, WebSocketRetry};
