//! Server-Sent Events (docs/any-client.md#server-sent-events): a stream of a client's channels as one long answer.
//!
//! [`open`] decides who gets one. A stream that is the first request of its connection leaves HTTP with its socket
//! ([`direct`]), so that it costs what a WebSocket costs; any other is the body of an answer ([`piped`]). The engine's
//! sessions and outboxes are those of WebSockets.

mod direct;
mod event_ids;
pub(crate) mod open;
mod piped;
