//! The engine over its memory bus, with no socket and with paused time.

#![allow(
    clippy::unwrap_used,
    reason = "a test stops where something is missing"
)]

mod budget;
mod cache;
mod client_event;
mod connect;
mod displace;
mod drain;
mod heartbeat;
mod history;
mod inspect;
mod live;
mod model;
mod no_holes;
mod node;
mod pacing;
mod plain;
mod presence;
mod publish;
mod quota;
mod recent_events;
mod slow_consumer;
mod subscribe;
mod subscription_count;
mod trace;
mod transition_log;
mod usage;
mod users;
mod waiting;
mod watchlist;
