//! Tells the server of this machine to become the program that is installed now.

use clap::Args;
use rustix::process::{Pid, Signal, kill_process};

use super::output;
use crate::config::Config;
use crate::failure::{Code, Failure};
use crate::server_lock::ServerLock;

#[derive(Debug, Args)]
pub(crate) struct Upgrade {
    /// Process of the server [default: the one that holds the SQLite store]
    #[arg(long, value_name = "PID")]
    pid: Option<i32>,
}

pub(crate) fn run(upgrade: &Upgrade, config: &Config) -> anyhow::Result<()> {
    let pid = upgrade
        .pid
        .or_else(|| ServerLock::process_of_holder(config))
        .and_then(Pid::from_raw)
        .ok_or_else(|| {
            Failure::misuse(
                "no server runs on the SQLite store of this configuration; name the server's process with --pid, for example \
                 one whose store is Postgres",
            )
        })?;
    kill_process(pid, Signal::USR2).map_err(|error| {
        Failure::new(
            Code::Failed,
            format!("telling process {pid} to upgrade: {error}"),
        )
    })?;
    output::text(&format!(
        "process {pid} becomes the program that is installed now, if that would start; its log says so\n"
    ))
}
