//! For tests: a back end in memory that delays, drops and partitions, and what every back end
//! promises, as a suite of cases.

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a test stops where something is missing, and its names are sentences"
)]

pub mod conformance;
pub mod sim;
