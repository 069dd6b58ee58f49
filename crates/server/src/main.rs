//! Fanfare: a self-hosted, managed realtime platform in the style of Pusher Channels.
//!
//! # Layout
//!
//! | module | what it holds |
//! |---|---|
//! | `cli` | the command line, one file for each noun |
//! | `config` | the configuration: defaults, file, environment, flags; one file for each section |
//! | `startup` | from the configuration to running parts, in reading order; one file for each phase |
//! | `server_lock` | one server on one SQLite store |
//! | `upgrade` | becoming a newer program in the same process |
//! | `explanation` | why a client has not got an event |
//! | `failure` | errors with their exit codes |
//! | `help` | where the documentation explains a message |
//! | `doctor` | looking at what a node depends on, for `fanfare doctor` |
//! | `edge` | client connections: sockets, the first request on each, WebSockets and their fallbacks |
//! | `backend_api` | signed requests of backends, one file for each resource |
//! | `clients_api` | what browsers ask without a socket: signatures for the bearer of a token |
//! | `auth_endpoint` | what an app's auth endpoint does: it signs subscriptions and sign-ins |
//! | `http` | what all requests share; health, the demo |
//! | `assets` | the files that are part of the program: the SDK's scripts, the dashboard, the documentation, the demo page |
//! | `allocator` | the memory allocator, and memory that goes back to the system |
//! | `capacity` | memory and open files, from which bounds follow |
//! | `router` | all routes, with their callers |
//! | `app_state` | what all handlers share |
//! | `body`, `clock` | reading the bodies of requests; the time of day |
//! | `admin` | the admin API, one file for each resource |
//! | `access` | the callers of the admin API, and what they may do |
//! | `openapi` | the description of the HTTP APIs |
//! | `reference` | the parts of the documentation that are made out of the program |
//! | `app_sync` | keeps the engine's apps as the store has them |
//! | `identity` | the identity providers whose tokens each app accepts, and what these grant |
//! | `outbound` | requests to addresses that operators of an app chose |
//! | `backend` | a client of Fanfare's own HTTP API, as an app's backend is one |
//! | `first_owner`, `key_uses` | the first operator; when keys were last used |
//! | `demo` | the demo app, the self-check, and the text printed at the start |
//! | `master_key` | the source of the master key |
//! | `nodes` | the nodes of the installation: what they do, and draining one |
//! | `notices` | log lines about what happens on channels |
//! | `alerts` | conditions that need an operator, and the way to the operators |
//! | `metrics` | what the node does and holds, for Prometheus |
//! | `traces` | traces of publishes and admin requests, exported with OTLP |
//! | `usage` | what each app did, by minute, hour and day |
//! | `quotas` | shares of quotas of a day or a month, and how far they are used |
//! | `webhooks` | what happens on channels, recorded and sent to receivers |
//! | `outbox` | what backends write in their own database to be published |
//! | `tls` | the certificates that are served |
//! | `telemetry`, `throttle` | logging; log lines that are written at most once in a period |

mod access;
mod admin;
mod alerts;
#[cfg(feature = "mimalloc")]
mod allocator;
mod app_state;
mod app_sync;
mod assets;
mod auth_endpoint;
mod backend;
mod backend_api;
mod body;
mod capacity;
mod cli;
mod clients_api;
mod clock;
mod config;
mod demo;
mod doctor;
mod edge;
mod explanation;
mod failure;
mod first_owner;
mod help;
mod http;
mod identity;
mod key_uses;
mod master_key;
mod metrics;
mod nodes;
mod notices;
mod openapi;
mod outbound;
mod outbox;
mod quotas;
mod reference;
mod router;
mod server_lock;
mod startup;
mod telemetry;
mod throttle;
mod tls;
#[cfg_attr(not(feature = "otlp"), path = "traces/absent.rs")]
mod traces;
mod upgrade;
mod usage;
mod webhooks;

fn main() -> std::process::ExitCode {
    // The process's files (the store, its log, the lock, the master key) are for its own user only.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    // reqwest and sqlx use the process's default provider, which is chosen once, here.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    cli::run()
}
