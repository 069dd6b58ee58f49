//! The built binary, seen from outside.

#![allow(
    clippy::unwrap_used,
    reason = "a test stops where something is missing"
)]

mod admin;
mod alerts;
mod api;
mod base_path;
mod bounds;
mod cli;
mod dashboard;
mod direct_publish;
mod first_run;
mod headers;
mod help;
mod history;
mod hostile;
mod listening;
mod moving;
mod openapi;
mod plain_websocket;
mod proxy_protocol;
mod reads;
mod receiver;
mod refusals;
mod socket;
mod stop;
mod strangers;
#[cfg(feature = "otlp")]
mod traces;
mod upgrade;
mod users;
mod webhooks;
mod xhr;

use fanfare_testkit::Server;

/// A server with the test app.
async fn server() -> Server {
    server_with(&[]).await
}

/// A server with the test app and these settings.
async fn server_with(settings: &[&str]) -> Server {
    Server::start(env!("CARGO_BIN_EXE_fanfare"), settings).await
}
