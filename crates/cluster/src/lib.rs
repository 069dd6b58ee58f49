//! Several nodes as one: the engine's [`Bus`](fanfare_engine::Bus) and [`Roster`](fanfare_engine::Roster) over what the nodes
//! share, which is Redis.
//!
//! # Layout
//!
//! | module | what it holds |
//! |---|---|
//! | `cluster` | [`Cluster`]: connects, announces this node's state, sends heartbeats, and starts again when the connection is lost |
//! | `bus`, `roster` | the traits of the engine |
//! | `incoming` | what arrives from other nodes |
//! | `link` | one connection, from its first heartbeat until it is lost |
//! | `topics`, `queue` | what this node receives; what it announces, in order |
//! | `admission` | how many connections an app has |
//! | `peers` | whether this node and the others receive each other's heartbeats |
//! | `reaper` | removes what dead nodes have left |
//! | `fence` | until when clients that may have missed events are closed |
//! | `message`, `names` | messages on topics; names of topics |
//! | [`backend`] | what nodes share, as steps and answers |
//! | `redis` | the back end over Redis: one script for each step |

mod admission;
pub mod backend;
mod bus;
mod cluster;
mod fence;
mod incoming;
mod link;
mod message;
mod names;
mod peers;
mod queue;
mod reaper;
mod redis;
mod roster;
mod topics;

pub use cluster::{Cluster, Settings};
pub use message::{Beat, Message, stamp};
pub use names::Names;
pub use redis::{InvalidUrl, Redis};
