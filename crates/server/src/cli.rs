//! The command line. A bare `fanfare` serves.
//!
//! One file a noun. What is about the store goes through the admin API ([`api`]), whether the store is this machine's or a
//! server's elsewhere.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::config::{Config, Setting, unknown_variables};
use crate::{openapi, startup, telemetry};

mod api;
mod app;
mod audit;
mod duration;
mod failure;
mod identity;
mod key;
mod master_key;
mod operator;
mod output;
mod publish;
mod session;
mod signing_key;
mod token;

use api::ServerFlags;
use failure::{Code, code_of};

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed
  2  called or configured wrongly
  3  there is no such thing
  4  refused: the token is not taken, or does not go that far
  5  in the way of something, or changed in the meantime
  6  the server or the store cannot be reached, or not at this moment";

#[derive(Debug, Parser)]
#[command(
    name = "fanfare",
    version,
    about = "A self-hosted realtime platform for Pusher clients",
    after_help = EXIT_CODES
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
    /// Apps: create, change and delete them, and see what is happening on them
    App(Noun<app::Command>),
    /// Keys of apps: create, change and revoke them
    Key(Noun<key::Command>),
    /// Operators: the people who may sign in
    Operator(Noun<operator::Command>),
    /// API tokens: for programs
    Token(Noun<token::Command>),
    /// Sessions of operators who are signed in
    Session(Noun<session::Command>),
    /// The keys that sign sessions and API tokens
    SigningKey(Noun<signing_key::Command>),
    /// The audit log: who did what
    Audit(Noun<audit::Command>),
    /// The key that the store's secrets are sealed with; on this machine only
    MasterKey(Noun<master_key::Command>),
    /// Publish an event, as an app's backend does
    Publish(publish::Publish),
    /// Print the settings in force, secrets hidden
    Config,
    /// Print the description of the HTTP APIs (OpenAPI 3.1)
    Openapi,
    /// Print what completes commands in a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

/// Commands on one kind of thing, on this machine or another.
#[derive(Debug, Args)]
struct Noun<C: Subcommand> {
    #[command(flatten)]
    server: ServerFlags,
    #[command(subcommand)]
    command: C,
}

/// How a list is printed.
#[derive(Debug, Args)]
struct Listing {
    /// Print no more than so many [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Listing {
    fn limit(&self) -> Option<usize> {
        self.limit
            .map(|limit| usize::try_from(limit).unwrap_or(usize::MAX))
    }
}

/// How something is created.
#[derive(Debug, Args)]
struct Creation {
    /// Any text: whoever creates again with the same one within a day gets the same answer, and no second thing
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
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
    if let Some(Command::Completions { shell }) = cli.command {
        return match output::text(&completions(shell)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(&error, Code::Failed),
        };
    }
    let config = match cli.settings.load() {
        Ok(config) => config,
        Err(error) => return failed(&error, Code::Misuse),
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
        Err(error) => return failed(&error.into(), Code::Failed),
    };
    let done = runtime.block_on(dispatch(cli.command.unwrap_or(Command::Serve), config));
    // Requests that outlived their grace end here, with the process.
    runtime.shutdown_background();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error, code_of(&error)),
    }
}

fn completions(shell: clap_complete::Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "fanfare", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

async fn dispatch(command: Command, config: Config) -> anyhow::Result<()> {
    match command {
        Command::Serve => startup::serve(config).await,
        Command::App(noun) => app::run(noun.command, &noun.server.open(&config).await?).await,
        Command::Key(noun) => key::run(noun.command, &noun.server.open(&config).await?).await,
        Command::Operator(noun) => {
            operator::run(noun.command, &noun.server.open(&config).await?).await
        }
        Command::Token(noun) => token::run(noun.command, &noun.server.open(&config).await?).await,
        Command::Session(noun) => {
            session::run(noun.command, &noun.server.open(&config).await?).await
        }
        Command::SigningKey(noun) => {
            signing_key::run(noun.command, &noun.server.open(&config).await?).await
        }
        Command::Audit(noun) => audit::run(noun.command, &noun.server.open(&config).await?).await,
        Command::MasterKey(noun) => master_key::run(noun.command, &noun.server, &config).await,
        Command::Publish(publish) => publish::run(publish, &config).await,
        Command::Config => output::text(&config.to_toml()?),
        Command::Openapi => output::text(&openapi::pretty(&openapi::document())),
        // Needs no configuration, and was done before it was read.
        Command::Completions { .. } => Ok(()),
    }
}

#[expect(
    clippy::print_stderr,
    reason = "the last word of a command that failed; logs may not be set up"
)]
fn failed(error: &anyhow::Error, code: Code) -> ExitCode {
    // One line, whatever a server said.
    let text = format!("{error:#}").replace(char::is_control, " ");
    eprintln!("fanfare: {text}");
    ExitCode::from(code as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `fanfare app create`, and so on for all that can be called.
    fn calls(command: &clap::Command, path: &str) -> Vec<String> {
        let path = format!("{path}{}", command.get_name());
        let inner: Vec<String> = command
            .get_subcommands()
            .filter(|inner| inner.get_name() != "help")
            .flat_map(|inner| calls(inner, &format!("{path} ")))
            .collect();
        if inner.is_empty() { vec![path] } else { inner }
    }

    #[test]
    fn every_command_is_in_the_documentation() {
        Cli::command().debug_assert();
        let docs = include_str!("../../../docs/cli.md");
        let calls = calls(&Cli::command(), "");
        assert!(calls.len() > 40, "{calls:?}");
        for call in calls {
            assert!(docs.contains(&call), "`{call}` is not in docs/cli.md");
        }
        for line in EXIT_CODES.lines().skip(1) {
            let (code, meaning) = line
                .trim()
                .split_once("  ")
                .expect("a code and its meaning");
            let row = format!("| {code} | {meaning} |");
            assert!(docs.contains(&row), "{row} is not in docs/cli.md");
        }
    }
}
