//! `fanfare-bench`: loads a Pusher-compatible server, and compares its costs with those of a floor server in the same
//! run.
//!
//! # Layout
//!
//! | module | what it holds |
//! |---|---|
//! | `options` | which servers are measured, and how often |
//! | `capacity` | sweeps over sizes, their growth, and what a number of connections needs |
//! | `peers` | every workload on Fanfare, the floor and other servers |
//! | `soak` | clients that come and go for hours, and the check of what they receive |
//! | `process` | starts the servers |
//! | `clients` | what subscribers speak: Pusher's protocol, plain WebSockets, Server-Sent Events |
//! | `target` | a running server, and the requests sent to it |
//! | `workload` | `fanout`, `flood`, `idle`, `publish`, `batch`, `client_events`, `presence`, `slow_readers`, `connect`, `storm` |
//! | `front` | what clients speak TLS to: Fanfare, nginx, HAProxy |
//! | `stream` | a client's connection, plain or encrypted |
//! | `generator` | the epoll loop over subscribers and publishers |
//! | `source` | the loopback addresses that connections come from |
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

mod capacity;
mod clients;
mod floor;
mod front;
mod generator;
mod http;
mod layout;
mod measure;
mod options;
mod peers;
mod process;
mod publishers;
mod report;
mod soak;
mod source;
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

use crate::capacity::Capacity;
use crate::options::Options;
use crate::peers::Compare;
use crate::process::Contender;
use crate::report::Column;
use crate::soak::Soak;
use crate::workload::{
    Batch, ClientEvents, Connect, Fanout, Flood, Idle, Presence, Publish, SlowReaders, Storm,
    Workload,
};

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
    /// Memory and CPU over connections, channels, subscribers, event sizes, members and nodes, and what a number of
    /// connections needs by these figures.
    Capacity(Capacity),
    /// Requests with ten events each, to nobody: events a second.
    Batch {
        #[command(flatten)]
        workload: Batch,
        #[command(flatten)]
        options: Options,
    },
    /// Events of clients at a steady rate: losses, latency, CPU per delivery.
    ClientEvents {
        #[command(flatten)]
        workload: ClientEvents,
        #[command(flatten)]
        options: Options,
    },
    /// Users who join and leave a presence channel: CPU per announcement.
    Presence {
        #[command(flatten)]
        workload: Presence,
        #[command(flatten)]
        options: Options,
    },
    /// Subscribers that read slowly or never: what it means for the others, and for the server's memory.
    SlowReaders {
        #[command(flatten)]
        workload: SlowReaders,
        #[command(flatten)]
        options: Options,
    },
    /// Clients that connect at the same moment, again and again: how long it takes, and how late events are meanwhile.
    Storm {
        #[command(flatten)]
        workload: Storm,
        #[command(flatten)]
        options: Options,
    },
    /// Every workload, on other servers too that speak Pusher's protocol.
    Compare(Compare),
    /// Clients that come, go and lose their connections for an hour: fails if an event is lost, doubled or reordered, or
    /// memory ends elsewhere than where it was after five minutes.
    Soak(Soak),
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
        Command::Batch { workload, options } => compare(&workload, &options),
        Command::ClientEvents { workload, options } => {
            let contenders = options.contenders_with(&["client_events=true"])?;
            compare_all(&workload, &contenders, options.rounds)
        }
        Command::Presence { workload, options } => compare(&workload, &options),
        Command::SlowReaders { workload, options } => compare(&workload, &options),
        Command::Storm { workload, options } => compare(&workload, &options),
        Command::Compare(compare) => compare.run(),
        Command::Capacity(capacity) => capacity.run(),
        Command::Soak(soak) => soak.run(),
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
