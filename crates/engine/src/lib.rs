//! What happens on one node: apps, connections, channels, publish, deliver. No sockets, no HTTP, no SQL: a connection's
//! bytes leave through its [`Sink`], and what other nodes would add is behind [`Bus`] and [`Roster`].
//!
//! # Layout
//!
//! | module | what it holds |
//! |---|---|
//! | `engine` | [`Engine`]: start, queries, drain |
//! | `options` | [`Options`]: what a node is told about itself |
//! | `app` | [`App`], [`Apps`]: tenants, their keys, and the channels that are occupied on this node |
//! | `channel_ref` | [`ChannelRef`]: a channel of an app |
//! | `sequence` | positions, offsets and generations: what came before what |
//! | `clock` | the clock of rates and time-outs |
//! | `budget` | [`Budgets`], [`Ledger`]: what a node, an app and a network of clients may hold, and who is charged |
//! | `permit`, `admitted` | what a connection was given when it was let in |
//! | `connect` | admission and greeting |
//! | `displace` | room for a newcomer where one network holds most of an app's quota |
//! | `connection` | what a shard holds of one connection |
//! | `session` | [`Session`]: one connection as its reader sees it; passes each message to the file of its verb |
//! | `reading` | when a reader reads, writes and stops |
//! | `subscribe` | subscribe and unsubscribe, for every kind of channel |
//! | `sign_in` | users: sign-in, closing all connections of a user |
//! | `watchlist` | who is signed in, and who watches whom |
//! | `client_event` | events from clients |
//! | `rate_limit` | how much a backend may publish a second, and how much a client may send |
//! | `clients` | which client libraries have connections |
//! | `cache` | the last event of each cache channel |
//! | `history` | what channels keep for clients that come back |
//! | `recover`, `replay` | what such a client gets of it, and how that is sent |
//! | `recent_events` | what caches and histories of all apps may keep together |
//! | `refusals` | [`Refusals`]: what was refused, logged once a minute for each kind and app |
//! | `error` | [`Refusal`]: why a connection is refused or closed |
//! | `publish` | the only way in for an event |
//! | `deliver` | the only way out: encode once, reserve room, queue |
//! | `route`, `registry` | where a channel's subscribers are; attaching shards to channels and detaching them |
//! | `subscription_count` | how many subscribers a channel has, and who is told |
//! | `presence` | who comes to a presence channel and leaves it, told to its subscribers |
//! | `local_presence` | which users this node has on presence channels |
//! | `snapshot` | who is on a channel or online, as a roster answers |
//! | `shard` | one thread's connections and channels |
//! | `backlog` | what comes by on a channel while connections join it |
//! | `command`, `inbox` | what comes to a shard from other threads, and the queue it comes in |
//! | `outbox` | the bytes that wait for one socket |
//! | `waiting` | how much memory may wait for slow clients, and who is closed over it |
//! | `inspect` | what an operator sees of connections, and can do about one |
//! | `heartbeat` | liveness: the sweep over a shard's connections |
//! | `keep_alive` | PINGs that keep idle connections open at proxies |
//! | `bus`, `roster` | what a cluster supplies |
//! | `memory` | [`Bus`] and [`Roster`] of a single node |
//! | `node` | what a bus gives to this node, and asks of it |
//! | `notice` | what happens on channels, for the log |
//! | `testing` | a node and clients within the process, for tests |
//!
//! Modules form circles of five at most, which `scripts/check-layers` measures.

mod admitted;
mod app;
mod backlog;
mod budget;
mod bus;
mod cache;
mod channel_ref;
mod client_event;
mod clients;
mod clock;
mod command;
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
mod local_presence;
mod memory;
mod node;
mod notice;
mod options;
mod outbox;
mod permit;
mod presence;
mod publish;
mod rate_limit;
mod reading;
mod recent_events;
mod recover;
mod refusals;
mod registry;
mod replay;
mod roster;
mod route;
mod sequence;
mod session;
mod shard;
mod sign_in;
mod snapshot;
mod subscribe;
mod subscription_count;
#[cfg(feature = "testing")]
pub mod testing;
mod waiting;
mod watchlist;

pub use admitted::Admitted;
pub use app::{App, AppDefinition, Apps, Key, KeyUsed};
pub use budget::{
    Bounds, BudgetExceeded, Budgets, Charge, Holder, Ledger, Network, Payer, Resource,
};
pub use bus::{
    BoxFuture, Bus, BusError, Envelope, IdempotencyKey, PublishOutcome, StreamPosition, Topic,
};
pub use cache::CachedEvent;
pub use channel_ref::ChannelRef;
pub use clients::ClientConnections;
pub use connect::Arrival;
pub use engine::{Engine, Occupancy, ShardSeed};
pub use error::Refusal;
pub use history::{HistoryAnswer, HistoryQuery, Recorded, Retention};
pub use inspect::ConnectionInfo;
pub use memory::Memory;
pub use node::Node;
pub use notice::{NoNotices, Notice, Notices};
pub use options::{Options, WaitingLimits};
pub use outbox::Sink;
pub use permit::ConnectionPermit;
pub use publish::PublishError;
pub use reading::{Interest, Reading};
pub use refusals::{REFUSALS_LOG_PERIOD, RefusalKind, Refusals, Refused};
pub use roster::{Changed, Roster, RosterError};
pub use sequence::{Generation, Position};
pub use session::Session;
pub use shard::Shard;
pub use snapshot::{Online, PresenceChange, PresenceSnapshot};
