//! Several nodes over a simulated backend, with paused time, and over real Redis.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test stops where something is missing, and its settings are variables"
)]

mod conformance;
mod displacement;
mod engine;
mod examine;
mod live;
mod model;
mod no_holes;
mod nodes;
mod odd_days;
mod questions;
mod rules;
mod servers;
mod transition_log;

pub(crate) use fanfare_cluster::testing::sim;
