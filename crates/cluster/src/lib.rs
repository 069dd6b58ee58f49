//! Several nodes as one: the engine's [`Bus`](fanfare_engine::Bus) and
//! [`Roster`](fanfare_engine::Roster) over a back end that all nodes share: Redis or
//! Postgres.
//!
//! # Layout
//!
//! | module | what it holds |
//! |---|---|
//! | `cluster` | [`Cluster`]: connects, announces this node, sends heartbeats, and reconnects |
//! | `bus`, `roster` | the engine's traits |
//! | `incoming` | messages from other nodes |
//! | `link` | one connection, from its first heartbeat until it is lost |
//! | `topics`, `queue` | the topics that this node receives; its announcements, in order |
//! | `transition_log` | the transition logs that all nodes share |
//! | `admission` | the number of an app's connections over all nodes |
//! | `displacement` | closing a connection of a large network for a client of another node |
//! | `other_nodes`, `questions` | asking the other nodes and answering them; what waits for answers |
//! | `live` | live events for operators who watch on another node |
//! | `peers` | which nodes receive each other's heartbeats |
//! | `reaper` | removes what dead nodes had |
//! | `fence` | the deadline by which fenced clients are closed |
//! | `history_page` | pages of histories, as subscribers get them |
//! | `message` | messages on topics |
//! | `server_clock` | how far the clock of a server that nodes share is ahead |
//! | [`backend`] | the three traits of a back end: broker, presence, membership |
//! | `redis` | the back end over Redis: one script for each call, its files by trait |
//! | `postgres` | the back end over Postgres: one function for each call, its files by trait |
//! | `choice` | which of them a URL names |
//! | `testing` | a simulated back end, and a suite of what every back end promises, for tests |

mod admission;
pub mod backend;
mod bus;
mod choice;
mod cluster;
mod displacement;
mod fence;
mod history_page;
mod incoming;
mod link;
mod live;
mod message;
mod other_nodes;
mod peers;
mod postgres;
mod questions;
mod queue;
mod reaper;
mod redis;
mod roster;
mod server_clock;
#[cfg(feature = "testing")]
pub mod testing;
mod topics;
mod transition_log;

pub use choice::{Choice, InvalidChoice};
pub use cluster::{Cluster, Settings};
pub use message::{
    Answer, Heartbeat, Message, NodeQuery, NodeReply, QueryKind, Question, ReplyKind, stamp,
};
pub use postgres::{InvalidPostgres, Postgres, PostgresExamination};
pub use redis::{InvalidUrl, Redis, RedisExamination};
