//! The command line. A bare `fanfare` serves.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{Config, Setting, unknown_variables};
use crate::{openapi, startup, telemetry};

mod app;
mod key;
mod output;
mod publish;

/// The exit code of a command that was called wrongly or is configured wrongly (`EX_USAGE` in spirit: not a failure of
/// what was asked, but of the asking).
const MISUSE: u8 = 2;

#[derive(Debug, Parser)]
#[command(
    name = "fanfare",
    version,
    about = "A self-hosted realtime platform for Pusher clients"
)]
struct Cli {
    #[command(flatten)]
    settings: SettingFlags,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Args)]
struct SettingFlags {
    /// Configuration file [default: fanfare.toml, if there is one]
    #[arg(long, global = true, value_name = "FILE", env = "FANFARE_CONFIG")]
    config: Option<PathBuf>,
    /// Address to serve on [default: 127.0.0.1:6001]
    #[arg(long, global = true, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// Folder for this node's files [default: data]
    #[arg(long, global = true, value_name = "FOLDER")]
    data_dir: Option<String>,
    /// Database of apps and keys [default: an SQLite file in the data folder]
    #[arg(long, global = true, value_name = "URL")]
    store_url: Option<String>,
    /// Any setting by its name, for example drain.period=5
    #[arg(long = "set", global = true, value_name = "NAME=VALUE")]
    set: Vec<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve clients and backends (what a bare `fanfare` does)
    Serve,
    /// Create, list and show apps
    #[command(subcommand)]
    App(app::Command),
    /// Create, list and revoke the keys of an app
    #[command(subcommand)]
    Key(key::Command),
    /// Publish an event, as an app's backend does
    Publish(publish::Publish),
    /// Print the settings in force, secrets hidden
    Config,
    /// Print the description of the HTTP APIs (OpenAPI 3.1)
    Openapi,
}

impl SettingFlags {
    fn load(self) -> anyhow::Result<Config> {
        let named = [
            ("--listen", "listen", self.listen),
            ("--data-dir", "data_dir", self.data_dir),
            ("--store-url", "store.url", self.store_url),
        ];
        let mut flags: Vec<Setting> = named
            .into_iter()
            .filter_map(|(flag, path, value)| Some(Setting::flag(flag, path, value?)))
            .collect();
        for set in self.set {
            let (path, value) = set.split_once('=').ok_or_else(|| {
                anyhow::anyhow!("--set wants NAME=VALUE, for example drain.period=5, got {set:?}")
            })?;
            flags.push(Setting::flag("--set", path, value));
        }
        Config::load(self.config.as_deref(), flags)
    }
}

/// Runs what was asked for.
pub(crate) fn run() -> ExitCode {
    let cli = Cli::parse();
    let config = match cli.settings.load() {
        Ok(config) => config,
        Err(error) => return failed(&error, MISUSE),
    };
    telemetry::start(&config.log);
    for variable in unknown_variables() {
        tracing::warn!(
            variable,
            "this environment variable is no setting of ours and has no effect"
        );
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(config.http_threads())
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into(), 1),
    };
    let done = runtime.block_on(dispatch(cli.command.unwrap_or(Command::Serve), config));
    // Requests that outlived their grace end here, with the process.
    runtime.shutdown_background();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error, 1),
    }
}

async fn dispatch(command: Command, config: Config) -> anyhow::Result<()> {
    match command {
        Command::Serve => startup::serve(config).await,
        Command::App(command) => app::run(command, &startup::open_store(&config).await?).await,
        Command::Key(command) => key::run(command, &startup::open_store(&config).await?).await,
        Command::Publish(publish) => publish::run(publish, &config).await,
        Command::Config => output::text(&config.to_toml()?),
        Command::Openapi => output::text(&openapi::document().to_pretty_json()?),
    }
}

#[expect(
    clippy::print_stderr,
    reason = "the last word of a command that failed; logs may not be set up"
)]
fn failed(error: &anyhow::Error, code: u8) -> ExitCode {
    eprintln!("fanfare: {error:#}");
    ExitCode::from(code)
}
