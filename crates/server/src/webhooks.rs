//! Webhooks: what happens on channels, recorded durably and sent to receivers until they take it.
//!
//! | file | content |
//! |---|---|
//! | `hooks` | the webhooks of all apps as this node knows them, and the rules for their settings |
//! | `body`, `sign`, `request` | signed requests: what a receiver gets |
//! | `schedule` | when a delivery that failed is tried again |
//! | `endpoint` | which deliveries of a webhook are sent next, and what an outcome means |
//! | `breaker` | hosts that can't be reached |
//! | `courier` | the way of a request to its receiver |
#![expect(dead_code, reason = "nothing records and sends yet")]

mod body;
mod breaker;
mod courier;
mod endpoint;
mod hooks;
mod request;
mod schedule;
mod sign;

pub(crate) use hooks::HookSettings;
pub(crate) use sign::{MIN_SECRET_BYTES, secret_bytes, standard_signature};
