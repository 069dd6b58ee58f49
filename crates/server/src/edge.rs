//! Client connections: sockets, the first request on each, WebSockets and their HTTP fallbacks.

mod client_socket;
mod client_stream;
mod first_bytes;
mod head;
mod http2;
mod kernel;
pub(crate) mod listener;
pub(crate) mod listening_socket;
mod proxy_header;
mod refusal_log;
pub(crate) mod sockets;
pub(crate) mod sse;
pub(crate) mod tls_handshake;
mod tls_socket;
pub(crate) mod url_subscriptions;
mod write_timeout;
pub(crate) mod ws;
pub(crate) mod xhr;
