//! Tools for tests of the built binary: a server in a folder of its own, a WebSocket client and a signed HTTP client.
//! They see only what clients and backends see. On a failure they panic with what they saw. Databases of a test's own, in
//! Postgres and Redis, are here as well.
//!
//! # Layout
//!
//! | module | what it holds |
//! |---|---|
//! | [`server`] | [`Server`]: the built binary, started and stopped |
//! | [`client`] | [`Client`]: a WebSocket client |
//! | [`api`] | [`Api`]: signed requests, as a backend sends them |
//! | [`admin`] | [`Admin`]: requests to the admin API |
//! | [`database`] | [`Database`]: a database of Postgres |
//! | [`redis`] | [`RedisServer`]: a Redis, started and stopped |

#![allow(
    clippy::unwrap_used,
    reason = "a test stops where something is missing"
)]
#![allow(
    clippy::missing_panics_doc,
    reason = "all of it panics when a test has failed"
)]

pub mod admin;
pub mod api;
pub mod client;
pub mod database;
pub mod redis;
pub mod server;

pub use admin::{Admin, OWNER, OWNER_SETTING, PASSWORD, Reply};
pub use api::{Answer, Api};
pub use client::{Client, Frame};
pub use database::Database;
pub use redis::RedisServer;
pub use server::Server;

/// Id of the app that every test server has.
pub const APP_ID: &str = "1234567";
/// Key of that app.
pub const KEY: &str = "app-key";
/// Secret of that app.
pub const SECRET: &str = "app-secret";
