//! The HTTP fallbacks of pusher-js (spec section 6), for networks that let no WebSocket through: frames come down as the
//! lines of a streamed answer (`xhr_streaming`) or of one answer after another (`xhr`), and go up in requests of their
//! own (`xhr_send`).
//!
//! Behind it are the same sessions and outboxes as behind WebSocket: [`pipe`] is another sink, [`session`] another reader.

mod pipe;
mod routes;
mod session;
mod sessions;

pub(crate) use routes::router;
pub(crate) use sessions::Sessions;
