//! WebSockets: upgrade, connection, refusal.

mod connection;
mod frame_tracker;
pub(crate) mod plain;
mod refuse;
pub(crate) mod upgrade;
