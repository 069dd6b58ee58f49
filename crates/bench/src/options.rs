//! Options: which servers are measured, and how often.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::clients::Clients;
use crate::front::Front;
use crate::process::{Contender, Setup};
use crate::target::{App, Target};

/// Options of all commands that measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Rounds; each measures every server once, and the table shows medians.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,
    /// Fanfare's executable [default: the one next to this one].
    #[arg(long, value_name = "PATH")]
    fanfare: Option<PathBuf>,
    /// Environment for Fanfare, such as FANFARE_SHARDS=2; repeatable.
    #[arg(long, value_name = "K=V", value_parser = key_and_value)]
    fanfare_env: Vec<(String, String)>,
    /// Measure only this one of the two servers.
    #[arg(long, value_enum)]
    only: Option<Only>,
    /// Measure a server that is already running at this address, instead.
    #[arg(long, value_name = "ADDR", requires = "pid", conflicts_with_all = ["only", "fanfare"])]
    server: Option<SocketAddr>,
    /// The running server's process.
    #[arg(long, requires = "server")]
    pid: Option<u32>,
    /// The running server's app.
    #[arg(long, default_value = "app-id", requires = "server")]
    app_id: String,
    /// The app's key.
    #[arg(long, default_value = "app-key", requires = "server")]
    key: String,
    /// The app's secret.
    #[arg(long, default_value = "app-secret", requires = "server")]
    secret: String,
}

#[derive(Debug, Clone, Copy, PartialEq, clap::ValueEnum)]
enum Only {
    Floor,
    Fanfare,
}

impl Options {
    /// Returns the servers to measure.
    pub(crate) fn contenders(&self) -> Result<Vec<Contender>> {
        self.contenders_with(&[])
    }

    /// Returns the servers to measure. Fanfare's app has these settings.
    pub(crate) fn contenders_with(&self, settings: &[&str]) -> Result<Vec<Contender>> {
        if let (Some(address), Some(pid)) = (self.server, self.pid) {
            let app = App {
                id: self.app_id.clone(),
                key: self.key.clone(),
                secret: self.secret.clone(),
            };
            let target = Target {
                addresses: vec![address],
                pids: vec![pid],
                app,
                tls: None,
                clients: Clients::default(),
            };
            return Ok(vec![Contender::Running {
                name: "server".into(),
                target,
            }]);
        }
        let mut contenders = Vec::new();
        if self.only != Some(Only::Fanfare) {
            contenders.push(Contender::Floor(Clients::default()));
        }
        if self.only != Some(Only::Floor) {
            let mut setup = self.setup()?;
            setup
                .settings
                .extend(settings.iter().map(|&setting| setting.to_owned()));
            contenders.push(Contender::Fanfare(setup));
        }
        Ok(contenders)
    }

    /// Returns one node, and `nodes` nodes on `back_end`, or on a Redis of their own.
    pub(crate) fn one_and_several(
        &self,
        nodes: usize,
        back_end: Option<String>,
    ) -> Result<Vec<Contender>> {
        let setup = self.setup()?;
        let several = Contender::Nodes {
            setup: setup.clone(),
            nodes,
            back_end,
        };
        Ok(vec![Contender::Fanfare(setup), several])
    }

    /// Returns Fanfare without histories, and with them.
    pub(crate) fn without_and_with_history(&self) -> Result<Vec<Contender>> {
        let with = Setup {
            history: true,
            ..self.setup()?
        };
        Ok(vec![self.fanfare()?, Contender::Fanfare(with)])
    }

    /// Returns Fanfare without TLS, with it, and behind each proxy that is installed.
    pub(crate) fn without_and_with_tls(&self, resume: bool) -> Result<Vec<Contender>> {
        let setup = self.setup()?;
        let with = |front| {
            Contender::Fanfare(Setup {
                front: Some(front),
                resume,
                ..setup.clone()
            })
        };
        let fronts = [Front::Fanfare, Front::Nginx, Front::Haproxy];
        let installed = fronts
            .into_iter()
            .filter(|front| front.program().is_none_or(is_installed));
        Ok([self.fanfare()?]
            .into_iter()
            .chain(installed.map(with))
            .collect())
    }

    /// Returns Fanfare and the floor with subscribers of each kind.
    pub(crate) fn with_each_kind_of_clients(&self) -> Result<Vec<Contender>> {
        let setup = self.setup()?;
        let kinds = [Clients::Pusher, Clients::Plain, Clients::Sse];
        let fanfare = kinds.map(|clients| {
            Contender::Fanfare(Setup {
                clients,
                ..setup.clone()
            })
        });
        Ok(fanfare
            .into_iter()
            .chain(kinds.map(Contender::Floor))
            .collect())
    }

    fn fanfare(&self) -> Result<Contender> {
        Ok(Contender::Fanfare(self.setup()?))
    }

    /// Returns how Fanfare is run.
    pub(crate) fn setup(&self) -> Result<Setup> {
        let program = match &self.fanfare {
            Some(program) => program.clone(),
            None => std::env::current_exe()?.with_file_name("fanfare"),
        };
        if !program.is_file() {
            bail!(
                "there is no {}: build it, or name it with --fanfare",
                program.display()
            );
        }
        Ok(Setup {
            program,
            env: self.fanfare_env.clone(),
            settings: Vec::new(),
            history: false,
            front: None,
            resume: false,
            clients: Clients::default(),
        })
    }
}

fn is_installed(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}

fn key_and_value(text: &str) -> Result<(String, String)> {
    let (key, value) = text.split_once('=').context("it must be KEY=VALUE")?;
    Ok((key.into(), value.into()))
}
