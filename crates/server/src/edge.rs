//! Client connections: sockets, the first request on each, WebSockets and their HTTP fallbacks.

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app_state::AppState;
use sse::open;
use ws::upgrade;

mod answer;
pub(crate) mod client;
mod client_socket;
mod client_stream;
mod direct_publish;
mod first_bytes;
pub(crate) mod hanging;
mod head;
mod http2;
mod kernel;
pub(crate) mod listener;
pub(crate) mod listening_socket;
mod proxy_header;
mod refusal_log;
pub(crate) mod socket_io;
mod socket_sink;
pub(crate) mod sockets;
pub(crate) mod sse;
pub(crate) mod takeover;
pub(crate) mod tls_handshake;
mod tls_socket;
mod url_parameters;
pub(crate) mod url_subscriptions;
mod write_timeout;
pub(crate) mod ws;
pub(crate) mod xhr;

/// Returns the routes of clients without a library, and of backends that listen.
pub(crate) fn described() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(open::connect))
        .routes(routes!(open::connect_backend))
        .routes(routes!(upgrade::connect_plain))
}
