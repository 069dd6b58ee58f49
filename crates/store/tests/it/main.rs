//! Every function of the store, on SQLite and on Postgres. Postgres runs where `FANFARE_TEST_POSTGRES` holds the URL of
//! a server on which databases may be created; and behind the connection poolers of that server whose URLs are in
//! `FANFARE_TEST_POOLERS`, with spaces between.

#![allow(
    clippy::unwrap_used,
    reason = "a test stops where something is missing"
)]

mod acme;
mod alerts;
mod answers;
mod apps;
mod audit;
mod changes;
mod database;
mod demo;
mod examine;
mod harness;
mod identity;
mod keys;
mod master_key;
mod operators;
mod outboxes;
mod postgres;
mod quotas;
mod sessions;
mod signing_keys;
mod tokens;
mod usage;
mod watch;
mod webhook_log;
mod webhook_progress;
mod webhook_queue;
mod webhook_speed;
mod webhooks;
