//! Fanfare: a self-hosted, managed realtime platform in the style of Pusher Channels.
//!
//! # Layout
//!
//! | module | what it holds |
//! |---|---|
//! | `cli` | the command line, one file for each noun |
//! | `config` | the configuration: defaults, file, environment, flags; one file for each section |
//! | `startup` | from configuration to running parts, in reading order; one file for each phase |
//! | `server_lock` | one server on one SQLite store |
//! | `failure` | why something failed, and the exit code for it |
//! | `edge` | where clients come in: sockets, the first request on each, WebSockets and their fallbacks |
//! | `backend_api` | signed requests of backends, one file for each resource; channel auth |
//! | `http` | what all requests have in common; health, the SDK's scripts, the demo |
//! | `capacity` | memory and open files, from which bounds follow |
//! | `router` | all routes, each with who calls it |
//! | `app_state` | what all handlers share |
//! | `body`, `clock` | reading the bodies of requests; the time of day |
//! | `admin` | the admin API, one file for each resource |
//! | `access` | who calls the admin API, and what they may do |
//! | `openapi` | the description of the HTTP APIs |
//! | `app_sync` | keeps the engine's apps as the store has them |
//! | `identity` | whose tokens each app accepts from its clients, and what they grant |
//! | `outbound` | requests to addresses that an app's people have chosen |
//! | `backend` | a client of our own HTTP API, as an app's backend is one |
//! | `first_owner`, `key_uses` | the first operator; when keys were last used |
//! | `demo` | the demo app, the self-check, and what is printed at the start |
//! | `master_key` | where the master key comes from |
//! | `notices` | what happens on channels, in the log |
//! | `telemetry`, `throttle` | logs; log lines that are written once in a while |

mod access;
mod admin;
mod app_state;
mod app_sync;
mod backend;
mod backend_api;
mod body;
mod capacity;
mod cli;
mod clock;
mod config;
mod demo;
mod edge;
mod failure;
mod first_owner;
mod http;
mod identity;
mod key_uses;
mod master_key;
mod notices;
mod openapi;
mod outbound;
mod router;
mod server_lock;
mod startup;
mod telemetry;
mod throttle;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    // What this process writes is for its own user: the store, its log, the lock, the master key.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    // reqwest and sqlx use the process's default; it is chosen once, here.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    cli::run()
}
