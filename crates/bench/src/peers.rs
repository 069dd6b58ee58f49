//! `compare`: Fanfare, the floor, and any other servers of Pusher's protocol that are running, in every workload.

use std::net::SocketAddr;

use anyhow::{Context, Result};

use crate::clients::Clients;
use crate::options::Options;
use crate::process::Contender;
use crate::report::{self, Column};
use crate::target::{App, Target};
use crate::workload::{
    Batch, ClientEvents, Connect, Fanout, Flood, Idle, Presence, Publish, SlowReaders, Storm,
    Workload,
};

/// Peers beside Fanfare and the floor.
#[derive(Debug, clap::Args)]
pub(crate) struct Compare {
    /// A server that is running: NAME=ADDRESS,PID, for example soketi=127.0.0.1:6001,4711. Further process ids, if it
    /// has several processes, follow with commas. Repeatable.
    #[arg(long, value_name = "NAME=ADDRESS,PID", value_parser = peer)]
    peer: Vec<Peer>,
    /// App id of the peers.
    #[arg(long, default_value = "app-id")]
    peer_app_id: String,
    /// Its key.
    #[arg(long, default_value = "app-key")]
    peer_key: String,
    /// Its secret.
    #[arg(long, default_value = "app-secret")]
    peer_secret: String,
    /// Run only this workload; repeatable.
    #[arg(long, value_enum)]
    workload: Vec<Name>,
    /// Seconds of each workload.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    #[command(flatten)]
    options: Options,
}

/// A server that is running.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Peer {
    name: String,
    address: SocketAddr,
    pids: Vec<u32>,
}

/// A workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Name {
    Fanout,
    Flood,
    Publish,
    Batch,
    ClientEvents,
    Presence,
    Connect,
    Storm,
    SlowReaders,
    Idle,
}

impl Compare {
    /// Measures all servers in turn, round by round, one workload after the other. What a server refuses is reported in
    /// its column's place.
    pub(crate) fn run(&self) -> Result<()> {
        let mut contenders = self.options.contenders_with(&["client_events=true"])?;
        contenders.extend(self.peer.iter().map(|peer| self.contender(peer)));
        let all = <Name as clap::ValueEnum>::value_variants();
        let names = if self.workload.is_empty() {
            all
        } else {
            &self.workload
        };
        for name in names {
            compare_all(
                self.workload(*name).as_ref(),
                &contenders,
                self.options.rounds,
            );
        }
        Ok(())
    }

    fn contender(&self, peer: &Peer) -> Contender {
        Contender::Running {
            name: peer.name.clone(),
            target: Target {
                addresses: vec![peer.address],
                pids: peer.pids.clone(),
                app: App {
                    id: self.peer_app_id.clone(),
                    key: self.peer_key.clone(),
                    secret: self.peer_secret.clone(),
                },
                tls: None,
                clients: Clients::default(),
            },
        }
    }

    fn workload(&self, name: Name) -> Box<dyn Workload> {
        let seconds = self.seconds;
        let long = u64::from(seconds);
        match name {
            Name::Fanout => Box::new(Fanout {
                seconds,
                ..Fanout::default()
            }),
            Name::Flood => Box::new(Flood {
                seconds: long,
                ..Flood::default()
            }),
            Name::Publish => Box::new(Publish {
                seconds: long,
                ..Publish::default()
            }),
            Name::Batch => Box::new(Batch {
                seconds: long,
                ..Batch::default()
            }),
            Name::ClientEvents => Box::new(ClientEvents {
                seconds,
                ..ClientEvents::default()
            }),
            Name::Presence => Box::new(Presence {
                seconds: f64::from(seconds),
                ..Presence::default()
            }),
            Name::Connect => Box::new(Connect::default()),
            Name::Storm => Box::new(Storm {
                seconds,
                ..Storm::default()
            }),
            Name::SlowReaders => Box::new(SlowReaders {
                seconds: seconds.max(5),
                ..SlowReaders::default()
            }),
            Name::Idle => Box::new(Idle::default()),
        }
    }
}

/// Runs a workload on all servers in turn. A server that fails is left out from then on.
fn compare_all(workload: &dyn Workload, contenders: &[Contender], rounds: u32) {
    let title = workload.title();
    eprintln!("{title}");
    let mut columns: Vec<Column> = Vec::new();
    let mut refusals: Vec<String> = Vec::new();
    for contender in contenders {
        columns.push(Column {
            name: contender.name(),
            rounds: Vec::new(),
        });
    }
    let mut failed = vec![false; contenders.len()];
    for round in 1..=rounds {
        for (at, contender) in contenders.iter().enumerate() {
            if failed[at] {
                continue;
            }
            let outcome = contender.start().and_then(|server| {
                if round > 1 && workload.needs_fresh_server() && !server.is_fresh() {
                    return Ok(None);
                }
                workload.run(&server).map(Some)
            });
            let name = &columns[at].name;
            match outcome {
                Ok(None) => {}
                Ok(Some(figures)) => {
                    eprintln!("  round {round}, {name}: {}", report::line(&figures));
                    columns[at].rounds.push(figures);
                }
                Err(error) => {
                    eprintln!("  round {round}, {name}: {error:#}");
                    refusals.push(format!(
                        "{name} did not do it: {}",
                        first_line(&format!("{error:#}"))
                    ));
                    columns[at].rounds.clear();
                    failed[at] = true;
                }
            }
        }
    }
    columns.retain(|column| !column.rounds.is_empty());
    report::print(&title, &columns);
    for refusal in refusals {
        report::print_page(&refusal);
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

fn peer(text: &str) -> Result<Peer> {
    let (name, rest) = text
        .split_once('=')
        .context("it must be NAME=ADDRESS,PID")?;
    let mut parts = rest.split(',');
    let address = parts.next().unwrap_or_default();
    let pids: Vec<u32> = parts.map(str::parse).collect::<Result<_, _>>()?;
    anyhow::ensure!(!pids.is_empty(), "it must be NAME=ADDRESS,PID");
    Ok(Peer {
        name: name.into(),
        address: address
            .parse()
            .with_context(|| format!("{address:?} is no address with a port"))?,
        pids,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_a_name_an_address_and_its_processes() {
        let one = peer("soketi=127.0.0.1:6001,12,13").expect("a peer");
        assert_eq!((one.name.as_str(), one.pids), ("soketi", vec![12, 13]));
        assert_eq!(one.address.port(), 6001);
        for wrong in [
            "127.0.0.1:6001,12",
            "a=127.0.0.1,12",
            "a=127.0.0.1:6001",
            "a=127.0.0.1:6001,x",
        ] {
            assert!(peer(wrong).is_err(), "{wrong}");
        }
    }
}
