//! WebSockets: upgrade, connection, refusal.

mod connection;
mod frame_tracker;
mod refuse;
pub(crate) mod upgrade;
