//! Several nodes over a simulated backend, with paused time, and over real Redis.

#![allow(
    clippy::unwrap_used,
    reason = "a test stops where something is missing"
)]

mod model;
mod nodes;
mod review;
mod rules;
mod sim;
