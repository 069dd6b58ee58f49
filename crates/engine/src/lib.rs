//! One node: apps, connections, channels, publish, deliver. The crate has no sockets, HTTP or SQL:
//! a connection's bytes leave through its [`Sink`], and [`Bus`] and [`Roster`] hide the other
//! nodes.
//!
//! # Layout
//!
//! | module | what it holds |
//! |---|---|
//! | `engine` | [`Engine`]: start, queries, drain |
//! | `options` | [`Options`]: the node's settings |
//! | `app` | [`App`], [`Apps`]: tenants, their keys and limits, and their channels on this node |
//! | `channel_ref` | [`ChannelRef`]: a channel of an app |
//! | `sequence` | positions, offsets and generations, which order events and changes |
//! | `clock` | the clock of rates and time-outs |
//! | `budget` | [`Budgets`], [`Ledger`]: what a node, an app and a network may hold, and whom to charge |
//! | `permit`, `admitted` | the permits that an admitted connection holds |
//! | `connect` | admission and greeting |
//! | `displace` | room for a new connection where one network holds most of an app's quota |
//! | `network_counts` | how many of an app's connections each network holds, here and on other nodes |
//! | `connection` | a shard's state of one connection |
//! | `connection_traffic` | [`ConnectionTraffic`]: what went over one connection |
//! | `session` | [`Session`]: a connection as its reader sees it; dispatches each message |
//! | `reading` | when a reader reads, writes and stops |
//! | `subscribe` | subscribe and unsubscribe, for every kind of channel |
//! | `sign_in` | users: sign-in, closing all connections of a user |
//! | `watchlist` | signed-in users and their watchers |
//! | `client_event` | events from clients |
//! | `rate_limit` | rates of backends' events, of clients' messages and of client events |
//! | `closed` | the connections of an app that ended lately |
//! | `clients` | which client libraries have connections |
//! | `sparse` | maps that give memory back once they have lost most of their entries |
//! | `eviction_map` | values by channel, bounded in bytes |
//! | `cache` | the last event of each cache channel |
//! | `history` | the events that channels keep for clients that reconnect |
//! | `history_reads` | [`HistoryCharge`]: reads of histories take turns, and are charged before they begin |
//! | `recover`, `replay` | what a client that reconnects gets of a history, and how it is sent |
//! | `recent_events` | the bound that caches and histories of all apps share |
//! | `quota`, `node_quotas` | [`QuotaShares`]: shares of the quotas of a day or a month, and requests for more |
//! | `refusals` | [`Refusals`]: refusals for the log, once a minute for each kind and app |
//! | `error` | [`Refusal`]: why a connection is refused or closed |
//! | `publish` | the only way in for an event |
//! | `deliver` | the only way out: encode once, reserve room, queue |
//! | `route`, `registry` | where a channel's subscribers are; attaching shards to channels and detaching them |
//! | `subscription_count` | the number of a channel's subscribers, and its announcement |
//! | `subscriptions` | the channels that a connection has subscribed to |
//! | `subscription_share` | how much of an app's quota of subscriptions a network may have |
//! | `presence` | presence changes, announced to a channel's subscribers |
//! | `local_presence` | the users that this node has on presence channels |
//! | `snapshot` | the members of a channel and the users online, as a roster answers |
//! | `shard` | one thread's connections and channels |
//! | `backlog` | what passes on a channel while connections join it |
//! | `command`, `inbox` | commands from other threads to a shard, and their queue |
//! | `outbox` | the bytes that wait for one socket |
//! | `waiting` | the memory that may wait for slow clients, and which of them are closed over it |
//! | `traffic`, `shard_stats`, `histogram` | counters for metrics and usage, without locks or look-ups |
//! | `usage` | [`AppUsage`]: what each app did since it was asked last |
//! | `live`, `live_viewer` | [`LiveViewer`]: live events of an app for operators who watch |
//! | `stats` | all counters of the node, added up when asked |
//! | `inspect` | connections as an operator sees them, and closing one |
//! | `round_trip` | how long a client takes to answer a PING |
//! | `heartbeat` | liveness: the sweep over a shard's connections |
//! | `keep_alive` | PINGs that keep idle connections open at proxies |
//! | `lifecycle` | the last things that happened to a connection, for operators |
//! | `former_key` | [`FormerKey`]: a key that was active lately, and when it ended |
//! | `bus`, `roster` | the traits that a cluster implements |
//! | `memory` | [`Bus`] and [`Roster`] of a single node |
//! | `node` | [`Node`]: what a bus and a roster call on this node |
//! | `other_nodes` | [`OtherNodes`]: questions to the other nodes, and who answers theirs |
//! | `notice` | [`Notice`]: channel events that the outside wants to know |
//! | `transitions` | channels and members that became present or absent, until receivers are told |
//! | `transition_log` | [`TransitionLog`]: the trait by which transitions are read and settled |
//! | `local_transition_log` | the transition log of a single node |
//! | `trace` | the steps of sampled publishes, for traces |
//! | `testing` | a node and clients within the process, for tests |
//!
//! Modules form cycles of at most five, which `scripts/check-layers` measures.

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
mod closed;
mod command;
mod connect;
mod connection;
mod connection_traffic;
mod deliver;
mod displace;
mod engine;
mod error;
mod eviction_map;
mod former_key;
mod heartbeat;
mod histogram;
mod history;
mod history_reads;
mod inbox;
mod inspect;
mod keep_alive;
mod lifecycle;
mod live;
mod live_viewer;
mod local_presence;
mod local_transition_log;
mod memory;
mod network_counts;
mod node;
mod node_quotas;
mod notice;
mod options;
mod other_nodes;
mod outbox;
mod permit;
mod presence;
mod publish;
mod quota;
mod rate_limit;
mod reading;
mod recent_events;
mod recover;
mod refusals;
mod registry;
mod replay;
mod roster;
mod round_trip;
mod route;
mod sequence;
mod session;
mod shard;
mod shard_stats;
mod sign_in;
mod snapshot;
mod sparse;
mod stats;
mod subscribe;
mod subscription_count;
mod subscription_share;
mod subscriptions;
#[cfg(feature = "testing")]
pub mod testing;
mod trace;
mod traffic;
mod transition_log;
mod transitions;
mod usage;
mod waiting;
mod watchlist;

pub use admitted::Admitted;
pub use app::{App, AppDefinition, Apps, Key, KeyUsed};
pub use budget::{
    Bounds, BudgetExceeded, Budgets, Charge, Holder, Ledger, Network, Payer, Resource,
};
pub use bus::{
    BoxFuture, Bus, BusError, Envelope, HistoryRead, IdempotencyKey, PublishOutcome,
    StreamPosition, Topic,
};
pub use cache::CachedEvent;
pub use channel_ref::ChannelRef;
pub use client_event::{SimulateError, SimulatedClientEvent};
pub use clients::ClientConnections;
pub use closed::{ClosedConnection, PastSubscription};
pub use connect::Arrival;
pub use connection_traffic::ConnectionTraffic;
pub use engine::{Engine, Links, Occupancy, ShardSeed};
pub use error::Refusal;
pub use former_key::{FormerKey, KeyEnd};
pub use histogram::{Histogram, NativeBucket, SharedHistogram};
pub use history::{HistoryAnswer, HistoryQuery, Recorded, Retention};
pub use history_reads::HistoryCharge;
pub use inspect::{
    ConnectionFilter, ConnectionInfo, ConnectionPage, ConnectionPlace, MAX_LISTED_CHANNELS,
    MAX_SHOWN_CHANNELS, SubscriptionInfo,
};
pub use lifecycle::{LifecycleEntry, LifecycleKind, MAX_LIFECYCLE_ENTRIES};
pub use live::{
    LiveBatch, LiveEvent, LiveKind, LiveLine, LiveOrder, LiveQuery, MAX_RECENT, MAX_VIEWERS,
    MAX_VIEWERS_OF_CALLER, OpenError as LiveOpenError, Waiting as LiveWaiting,
};
pub use live_viewer::LiveViewer;
pub use local_transition_log::LocalTransitionLog;
pub use memory::Memory;
pub use network_counts::{NodeNetworks, RemoteNetworks};
pub use node::Node;
pub use node_quotas::{QuotaRequest, QuotaRequests};
pub use notice::{NoNotices, Notice, Notices, WantedNotices};
pub use options::{Options, WaitingLimits};
pub use other_nodes::{
    MAX_ANSWER_BYTES, MAX_QUESTION_BYTES, NoAnswer, NodeAnswer, NodeAnswers, OtherNodes, Responder,
};
pub use outbox::Sink;
pub use permit::{ConnectionPermit, Permits};
pub use publish::PublishError;
pub use quota::{OverQuota, QuotaOwner, QuotaShare, QuotaShares, UsedUp};
pub use reading::{Interest, Reading};
pub use refusals::{REFUSALS_LOG_PERIOD, RefusalKind, Refusals, Refused, RefusedClient};
pub use roster::{ChangedCount, Roster, RosterError};
pub use sequence::{Generation, Position};
pub use session::Session;
pub use shard::Shard;
pub use snapshot::{Online, PresenceChange, PresenceSnapshot};
pub use stats::{AppStats, ClusterStats, NodeStats};
pub use trace::{FinishedSpan, NoSpans, SpanSink, TraceContext, TraceParent, TracedWork};
pub use traffic::{BackendTraffic, ByTransport, ClientTraffic, Closed, PublishResult, Recoveries};
pub use transition_log::{LogResult, Present, TransitionLog, TransitionLogUnavailable};
pub use transitions::{
    DueTransitions, LEAVE_GRACE, LOST_NODE_GRACE, ORDER_DELAY, Transition, TransitionKey,
    TransitionKind,
};
pub use usage::{AppUsage, NodeUsage};
