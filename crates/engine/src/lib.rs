//! What happens on one node: apps, connections, channels, publish, deliver. No sockets, no HTTP, no SQL: a connection's
//! bytes leave through its [`Sink`], and what other nodes would add is behind [`Bus`] and [`Roster`].
//!
//! # Layout
//!
//! | module | what it holds |
//! |---|---|
//! | `engine` | [`Engine`]: start, queries, drain |
//! | `app` | [`App`], [`Apps`]: tenants, their keys, and the channels that are occupied on this node |
//! | `budget` | [`Budgets`], [`Ledger`]: what a node, an app and a network of clients may hold, and who is charged |
//! | `connect` | admission and greeting |
//! | `connection` | what a shard holds of one connection |
//! | `session` | [`Session`]: one connection as its reader sees it; passes each message to the file of its verb |
//! | `subscribe` | subscribe and unsubscribe, for every kind of channel |
//! | `sign_in` | users: sign-in, closing all connections of a user |
//! | `watchlist` | who is signed in, and who watches whom |
//! | `client_event` | events from clients |
//! | `clients` | which client libraries have connections |
//! | `cache` | the last event of each cache channel |
//! | `history` | what channels keep for clients that come back |
//! | `recover` | what such a client gets of it |
//! | `recent_events` | what caches and histories of all apps may keep together |
//! | `refusals` | [`Refusals`]: what was refused, logged once a minute for each kind and app |
//! | `error` | [`Refusal`]: why a connection is refused or closed |
//! | `publish` | the only way in for an event |
//! | `deliver` | the only way out |
//! | `shard` | one thread's connections and channels |
//! | `inbox`, `outbox` | commands to a shard; the bytes that wait for one socket |
//! | `waiting` | how much memory may wait for slow clients, and who is closed over it |
//! | `message_rate` | how many messages of one connection are handled a second |
//! | `inspect` | what an operator sees of connections, and can do about one |
//! | `heartbeat` | liveness: the sweep over a shard's connections |
//! | `keep_alive` | PINGs that keep idle connections open at proxies |
//! | `bus`, `roster` | what a cluster supplies |
//! | `memory` | [`Bus`] and [`Roster`] of a single node |
//! | `node` | what a bus gives to this node, and asks of it |
//! | `room` | which users this node has on presence channels |
//! | `notice` | what happens on channels, for the log |
//! | `testing` | a node and clients within the process, for tests |

mod app;
mod budget;
mod bus;
mod cache;
mod client_event;
mod clients;
mod connect;
mod connection;
mod deliver;
mod displace;
mod engine;
mod error;
mod heartbeat;
mod history;
mod inbox;
mod inspect;
mod keep_alive;
mod memory;
mod message_rate;
mod node;
mod notice;
mod outbox;
mod publish;
mod recent_events;
mod recover;
mod refusals;
mod room;
mod roster;
mod session;
mod shard;
mod sign_in;
mod subscribe;
#[cfg(feature = "testing")]
pub mod testing;
mod waiting;
mod watchlist;

pub use app::{App, AppDefinition, Apps, Key, KeyUsed};
pub use budget::{
    Bounds, BudgetExceeded, Budgets, Charge, Holder, Ledger, Network, Payer, Resource,
};
pub use bus::{
    BoxFuture, Bus, BusError, Envelope, Generation, IdempotencyKey, PublishOutcome, Retention,
    StreamPosition, Topic,
};
pub use cache::CachedEvent;
pub use clients::ClientConnections;
pub use connect::{Admitted, Arrival, ConnectionPermit};
pub use deliver::{Changed, PresenceChange};
pub use engine::{Engine, Occupancy, Options, ShardSeed};
pub use error::Refusal;
pub use history::{HistoryAnswer, HistoryQuery, Recorded};
pub use inspect::ConnectionInfo;
pub use memory::Memory;
pub use node::Node;
pub use notice::{NoNotices, Notice, Notices};
pub use outbox::Sink;
pub use publish::PublishError;
pub use refusals::{REFUSALS_LOG_PERIOD, RefusalKind, Refusals, Refused};
pub use roster::{ChannelRef, Online, Position, PresenceSnapshot, Roster, RosterError};
pub use session::{Interest, Reading, Session};
pub use shard::Shard;
pub use waiting::WaitingLimits;
