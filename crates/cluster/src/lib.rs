//! Several nodes as one: the engine's [`Bus`](fanfare_engine::Bus) and [`Roster`](fanfare_engine::Roster) over what the nodes
//! share, which is Redis.
//!
//! # Layout
//!
//! | module | what it holds |
//! |---|---|
//! | `cluster` | [`Cluster`]: connects, tells the others this node's truth, beats, and starts again when the connection is lost |
//! | `bus`, `roster` | what the engine asks for |
//! | `hearing` | what comes in from other nodes |
//! | `link` | one connection, from its first beat until it is lost |
//! | `topics`, `queue` | what this node listens to; what it says of itself, in order |
//! | `admission` | how many connections an app has |
//! | `peers` | whether this node and the others hear each other |
//! | `reaper` | clearing away what dead nodes have left, wherever it is found |
//! | `fence` | until when clients that may have missed something are told so |
//! | `message`, `names` | what is told on topics; what these are called |
//! | [`backend`] | what nodes share, as steps and answers |
//! | `redis` | that, over Redis: one script a step |

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
