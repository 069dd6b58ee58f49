//! WebSocket: upgrade, connection, refusal.

mod connection;
mod refuse;
pub(crate) mod upgrade;
