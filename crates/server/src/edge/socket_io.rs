//! Socket.IO 4 over Engine.IO 4 (docs/any-client.md#socketio): polling, WebSockets, and the change from one to the other.
//!
//! [`routes`] takes the requests, and [`websocket`] moves packets of a WebSocket. Both talk to a [`connection`] on a shard, which keeps
//! the heartbeat and has a [`client`] for each namespace. A client is a session of the engine; its outbox writes into the connection's
//! [`outlet`]. [`recovery`] keeps what a client needs that comes back.

mod client;
mod connection;
mod connections;
mod outlet;
mod recovery;
mod routes;
mod websocket;

pub(crate) use connections::SocketIo;
pub(crate) use routes::router;
