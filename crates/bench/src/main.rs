//! `fanfare-bench`: loads a Pusher-compatible server, and compares its costs with those of a floor server in the same
//! run.
//!
//! # Layout
//!
//! | module | what it holds |
//! |---|---|
//! | `options` | which servers are measured, and how often |
//! | `process` | starts the servers |
//! | `clients` | what subscribers speak: Pusher's protocol, plain WebSockets, Server-Sent Events |
//! | `target` | a running server, and the requests sent to it |
//! | `workload` | `fanout`, `flood`, `idle`, `publish`, `connect`, `storm` |
//! | `front` | what clients speak TLS to: Fanfare, nginx, HAProxy |
//! | `stream` | a client's connection, plain or encrypted |
//! | `generator` | the epoll loop over subscribers and publishers |
//! | `subscribers`, `publishers` | the sockets that count events; the HTTP connections that publish |
//! | `layout` | finds an event's number without parsing |
//! | `tally` | lost, doubled and late deliveries |
//! | `measure` | CPU time and memory of a process |
//! | `report` | medians and the table |
//! | `floor` | the floor server |
//! | `wire`, `http` | bytes both sides need |

#![allow(
    clippy::disallowed_methods,
    reason = "a load generator measures real time"
)]

mod clients;
mod floor;
mod front;
mod generator;
mod http;
mod layout;
mod measure;
mod options;
mod process;
mod publishers;
mod report;
mod stream;
mod subscribers;
mod tally;
mod target;
mod wire;
mod workload;

use std::net::SocketAddr;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::options::Options;
use crate::process::Contender;
use crate::report::Column;
use crate::workload::{Connect, Fanout, Flood, Idle, Publish, Storm, Workload};

/// Loads Fanfare and a floor server in turn, and compares what they cost.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Events at a steady rate over several channels: losses, latency, CPU per delivery.
    Fanout {
        #[command(flatten)]
        workload: Fanout,
        #[command(flatten)]
        options: Options,
    },
    /// One channel as fast as it goes: deliveries a second.
    Flood {
        #[command(flatten)]
        workload: Flood,
        #[command(flatten)]
        options: Options,
    },
    /// Idle connections: memory of each.
    Idle {
        #[command(flatten)]
        workload: Idle,
        #[command(flatten)]
        options: Options,
    },
    /// Publishing to nobody: requests a second.
    Publish {
        #[command(flatten)]
        workload: Publish,
        #[command(flatten)]
        options: Options,
    },
    /// The events of `fanout` with one node, and with several: CPU per delivery, all nodes together.
    Cluster {
        /// Nodes.
        #[arg(long, default_value_t = 2)]
        nodes: usize,
        /// URL of what the nodes share, such as postgres://USER:PASSWORD@HOST/DATABASE [default: a Redis that is started].
        #[arg(long, value_name = "URL")]
        back_end: Option<String>,
        #[command(flatten)]
        workload: Fanout,
        #[command(flatten)]
        options: Options,
    },
    /// The requests of `publish` to an app without histories, and to one with.
    History {
        #[command(flatten)]
        workload: Publish,
        #[command(flatten)]
        options: Options,
    },
    /// `fanout`, `idle`, `connect` and `storm` without TLS, with Fanfare's own, and with that of nginx and HAProxy where
    /// they are installed.
    Tls {
        #[command(flatten)]
        options: Options,
    },
    /// `fanout` and `idle` with subscribers of each kind: Pusher's protocol, plain WebSockets, Server-Sent Events.
    Clients {
        #[command(flatten)]
        options: Options,
    },
    /// The first four, with shorter windows.
    All {
        #[command(flatten)]
        options: Options,
    },
    /// Serves as the floor: the least a server can do.
    Floor {
        /// Address to listen on.
        #[arg(long)]
        listen: SocketAddr,
    },
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    raise_file_limit()?;
    match cli.command {
        Command::Fanout { workload, options } => compare(&workload, &options),
        Command::Cluster {
            nodes,
            back_end,
            workload,
            options,
        } => {
            let contenders = options.one_and_several(nodes, back_end)?;
            compare_all(&workload, &contenders, options.rounds)
        }
        Command::History { workload, options } => {
            let contenders = options.without_and_with_history()?;
            compare_all(&workload, &contenders, options.rounds)
        }
        Command::Flood { workload, options } => compare(&workload, &options),
        Command::Idle { workload, options } => compare(&workload, &options),
        Command::Publish { workload, options } => compare(&workload, &options),
        Command::Clients { options } => clients(&options),
        Command::Tls { options } => tls(&options),
        Command::All { options } => all(&options),
        Command::Floor { listen } => floor::serve(listen),
    }
}

fn all(options: &Options) -> Result<()> {
    let fanout = Fanout {
        seconds: 6,
        ..Fanout::default()
    };
    let flood = Flood {
        seconds: 5,
        ..Flood::default()
    };
    let publish = Publish {
        seconds: 3,
        ..Publish::default()
    };
    let workloads: [&dyn Workload; 4] = [&fanout, &flood, &publish, &Idle::default()];
    workloads
        .into_iter()
        .try_for_each(|workload| compare(workload, options))
}

fn clients(options: &Options) -> Result<()> {
    let contenders = options.with_each_kind_of_clients()?;
    let fanout = Fanout {
        seconds: 6,
        ..Fanout::default()
    };
    let workloads: [&dyn Workload; 2] = [&fanout, &Idle::default()];
    workloads
        .into_iter()
        .try_for_each(|workload| compare_all(workload, &contenders, options.rounds))
}

fn tls(options: &Options) -> Result<()> {
    let contenders = options.without_and_with_tls(false)?;
    let fanout = Fanout {
        seconds: 6,
        ..Fanout::default()
    };
    // A proxy has two sockets for each, and often a limit of twenty thousand.
    let idle = Idle {
        connections: 4000,
        ..Idle::default()
    };
    let workloads: [&dyn Workload; 4] = [&fanout, &idle, &Storm::default(), &Connect::default()];
    for workload in workloads {
        compare_all(workload, &contenders, options.rounds)?;
    }
    eprintln!("The same with resumed sessions:");
    let contenders = options.without_and_with_tls(true)?;
    compare_all(&Connect::default(), &contenders, options.rounds)
}

/// Runs a workload on all servers in turn, round by round, so that other load on the machine affects all alike.
fn compare(workload: &dyn Workload, options: &Options) -> Result<()> {
    compare_all(workload, &options.contenders()?, options.rounds)
}

fn compare_all(workload: &dyn Workload, contenders: &[Contender], rounds: u32) -> Result<()> {
    let mut columns: Vec<Column> = contenders
        .iter()
        .map(|contender| Column {
            name: contender.name(),
            rounds: Vec::new(),
        })
        .collect();
    eprintln!("{}", workload.title());
    for round in 1..=rounds {
        for (contender, column) in contenders.iter().zip(&mut columns) {
            let server = contender.start()?;
            if round > 1 && workload.needs_fresh_server() && !server.is_fresh() {
                continue;
            }
            let figures = workload
                .run(&server)
                .with_context(|| format!("{}, round {round}", column.name))?;
            eprintln!(
                "  round {round}, {}: {}",
                column.name,
                report::line(&figures)
            );
            column.rounds.push(figures);
        }
    }
    report::print(&workload.title(), &columns);
    Ok(())
}

/// Raises the limit of open files, because ten thousand connections need as many here and in the servers started from
/// here.
fn raise_file_limit() -> Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).context("cannot raise the limit of open files")
}
