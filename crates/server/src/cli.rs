//! The command line. A bare `fanfare` serves.
//!
//! One file for each noun. Commands on the store go through the admin API ([`api`]), on this machine's store or on a
//! remote server.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::config::{Config, Setting, otel_variables, unknown_variables};
use crate::edge::listening_socket::{HeldSocket, InheritedSockets};
use crate::failure::{self, Code, Failure, code_of};
use crate::startup::{Begin, Ended};
use crate::tls::Tls;
use crate::traces::Traces;
use crate::upgrade::Program;
use crate::{help, openapi, startup, telemetry};

mod alert;
mod api;
mod app;
mod audit;
mod channel;
mod connection;
mod doctor;
mod duration;
mod identity;
mod key;
mod lookup;
mod master_key;
mod node;
mod operator;
mod outbox;
mod output;
mod publish;
mod quotas;
mod session;
mod sign_url;
mod signing_key;
mod stop_signals;
mod tail;
mod token;
mod top;
mod upgrade;
mod usage;
mod webhook;

use api::ServerFlags;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed
  2  called or configured wrongly
  3  there is no such thing
  4  not allowed: the token is invalid or lacks the rights
  5  conflict: it exists already, is in use, or changed in the meantime
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
#[command(next_help_heading = "Configuration")]
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
    Serve {
        /// Only check the configuration, and end: with 0 if a server would start with it
        #[arg(long)]
        check: bool,
    },
    /// Let the server of this machine become the program that is installed now, without closing its port
    Upgrade(upgrade::Upgrade),
    /// Apps: create, change and delete them, and see what is happening on them
    App(Noun<app::Command>),
    /// Keys of apps: create, change and revoke them
    Key(Noun<key::Command>),
    /// Channels of apps: who is subscribed, what was published, and why a client has not got an event
    Channel(Noun<channel::Command>),
    /// Connections of apps, on all nodes
    Connection(Noun<connection::Command>),
    /// The nodes of the installation: what they do, and moving a node's clients to the others
    Node(Noun<node::Command>),
    /// Webhooks of apps: who is told what happens on channels, what was sent, and what came of it
    Webhook(Noun<webhook::Command>),
    /// Outboxes of apps: where backends write events in their own database, to be published from there
    Outbox(Noun<outbox::Command>),
    /// Operators: the people who may sign in
    Operator(Noun<operator::Command>),
    /// API tokens: for programs
    Token(Noun<token::Command>),
    /// Sessions of operators who are signed in
    Session(Noun<session::Command>),
    /// The keys that sign sessions and API tokens
    SigningKey(Noun<signing_key::Command>),
    /// Alerts: conditions that need an operator
    Alert(Noun<alert::Command>),
    /// The audit log: who did what
    Audit(Noun<audit::Command>),
    /// What apps did, by minute, hour and day, with a small chart in a terminal
    Usage(usage::Usage),
    /// How far quotas are used
    Quotas(quotas::Quotas),
    /// The key that the store's secrets are sealed with; on this machine only
    MasterKey(Noun<master_key::Command>),
    /// Publish an event, as an app's backend does
    Publish(publish::Publish),
    /// Sign a URL that opens channels to a client without a library, as an app's backend does
    SignUrl(sign_url::SignUrl),
    /// Show what happens in an app, as it happens
    ///
    /// Connections, subscriptions, events, refusals with their reasons and webhooks with their results, on all nodes, until
    /// Ctrl-C. Needs a running server; data is shown with the role admin.
    Tail(tail::Tail),
    /// Show what nodes and apps do, again and again
    ///
    /// Shows connections, events, latencies and queues of each node, what stands out, and the busiest apps, until Ctrl-C.
    Top(top::Top),
    /// Look at what a node depends on, and say what to do
    ///
    /// Looks at the configuration's open files, memory, kernel settings, data folder, store and what nodes share, and at the server
    /// if it runs. With --server it looks at a server as its clients see it, through all proxies. Changes nothing.
    Doctor(doctor::Doctor),
    /// Print the active settings, secrets hidden
    Config,
    /// Print the description of the HTTP APIs (OpenAPI 3.1)
    Openapi,
    /// Print a manual page, in the form that `man` reads
    Man {
        /// The command that it is about, for example `app create` [default: fanfare itself]
        command: Vec<String>,
        /// Write the pages of all commands into a folder instead, such as /usr/local/share/man/man1
        #[arg(long, value_name = "FOLDER", conflicts_with = "command")]
        all: Option<PathBuf>,
    },
    /// Renew the parts of a page of the documentation that are made out of the program: from standard input to standard output
    #[command(hide = true)]
    Reference {
        /// Print the names of everything that users write or read instead
        #[arg(long)]
        names: bool,
    },
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

/// Options of commands that create something.
#[derive(Debug, Args)]
struct Creation {
    /// Any text: a second request with the same one within a day gets the same answer and creates nothing
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

/// Runs the command line and returns its exit code.
pub(crate) fn run() -> ExitCode {
    let matches = command_line().get_matches();
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    let text = match &cli.command {
        Some(Command::Completions { shell }) => Some(completions(*shell)),
        Some(Command::Man {
            all: Some(folder), ..
        }) => match write_manuals(folder) {
            Ok(text) => Some(text),
            Err(error) => return failed(&error, code_of(&error)),
        },
        Some(Command::Man { command, .. }) => match manual(command) {
            Ok(text) => Some(text),
            Err(error) => return failed(&error, code_of(&error)),
        },
        Some(Command::Reference { names }) => match reference(*names) {
            Ok(text) => Some(text),
            Err(error) => return failed(&error, code_of(&error)),
        },
        _ => None,
    };
    if let Some(text) = text {
        return match output::text(&text) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(&error, Code::Failed),
        };
    }
    let config = match cli.settings.load() {
        Ok(config) => config,
        Err(error) => {
            // Errors of the configuration are misuse, unless they have a code of their own: a host name may resolve at
            // the next attempt.
            let code = match code_of(&error) {
                Code::Failed => Code::Misuse,
                code => code,
            };
            return failed(&error, code);
        }
    };
    let is_bare = cli.command.is_none();
    let command = cli.command.unwrap_or(Command::Serve { check: false });
    // Only a server has traces: others that the same environment starts are not to fail for it.
    let traces = match &command {
        Command::Serve { .. } => Traces::new(&otel_variables()),
        _ => Ok(Traces::default()),
    };
    let traces = match traces {
        Ok(traces) => traces,
        Err(message) => return failed(&Failure::misuse(message).into(), Code::Misuse),
    };
    if config.docs.enabled {
        help::is_at(&config.http.base_path);
    }
    telemetry::start(&config.log, &traces);
    for message in unknown_variables() {
        // An error, because the intended setting has no effect and this must be seen at every log level.
        tracing::error!("{message}");
    }
    // Before the runtime starts threads, because this changes the environment.
    let inherited = match &command {
        Command::Serve { check: false } => InheritedSockets::take(),
        _ => Ok(InheritedSockets::default()),
    };
    let inherited = match inherited {
        Ok(inherited) => inherited,
        Err(error) => return failed(&error, Code::Misuse),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(config.http_threads())
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into(), Code::Failed),
    };
    let done = match command {
        Command::Serve { check: false } => serve(&runtime, config, inherited, traces, is_bare),
        command => runtime.block_on(dispatch(command, config)).map(|()| None),
    };
    // Requests that took longer than their grace period end here, with the process.
    runtime.shutdown_background();
    let done = done.and_then(|upgrade| match upgrade {
        Some((program, sockets)) => Err(program.replace_this_process(&sockets)),
        None => Ok(()),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error, code_of(&error)),
    }
}

/// Returns the commands with their flags. Flags without a use for a command are accepted and hidden, so that a flag may
/// stand anywhere.
pub(crate) fn command_line() -> clap::Command {
    let command = Cli::command();
    let settings: Vec<clap::Arg> = command
        .get_arguments()
        .filter(|argument| argument.is_global_set())
        .cloned()
        .collect();
    command.mut_subcommands(|command| {
        let shown: &[&str] = match command.get_name() {
            "serve" | "publish" | "sign-url" | "top" | "doctor" | "config" => {
                &["config", "listen", "data_dir", "store_url", "set"]
            }
            "completions" | "openapi" | "man" | "reference" => &[],
            _ => &["config", "data_dir", "store_url", "set"],
        };
        hide_except(command, &settings, shown)
    })
}

/// Hides flags by declaring them on a command: clap copies a flag from the parent only if the command has none of that
/// name.
fn hide_except(
    mut command: clap::Command,
    settings: &[clap::Arg],
    shown: &[&str],
) -> clap::Command {
    for argument in settings {
        if !shown.contains(&argument.get_id().as_str()) {
            command = command.arg(argument.clone().hide(true));
        }
    }
    command.mut_subcommands(|command| hide_except(command, settings, shown))
}

/// Returns the manual page of a command, for example of `["app", "create"]`.
fn manual(path: &[String]) -> anyhow::Result<String> {
    let mut command = command_line();
    command.build();
    let mut found = &command;
    for name in path {
        found = found.find_subcommand(name).ok_or_else(|| {
            failure::Failure::misuse(format!("there is no command {:?}", path.join(" ")))
        })?;
    }
    let mut page = Vec::new();
    let name = std::iter::once("fanfare").chain(path.iter().map(String::as_str));
    let name: Vec<&str> = name.collect();
    // The full command, for the page's name and synopsis.
    let found = found.clone().display_name(name.join("-"));
    clap_mangen::Man::new(found).render(&mut page)?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

/// Writes the manual pages of all commands into a folder, and returns what to print.
fn write_manuals(folder: &Path) -> anyhow::Result<String> {
    let mut paths = vec![Vec::new()];
    add_paths(&command_line(), &[], &mut paths);
    for path in &paths {
        let name: Vec<&str> = std::iter::once("fanfare")
            .chain(path.iter().map(String::as_str))
            .collect();
        let file = folder.join(format!("{}.1", name.join("-")));
        std::fs::write(&file, manual(path)?)
            .with_context(|| format!("writing {}", file.display()))?;
    }
    Ok(format!(
        "{} manual pages are in {}\n",
        paths.len(),
        folder.display()
    ))
}

/// Adds the names of all commands below one.
fn add_paths(command: &clap::Command, path: &[String], paths: &mut Vec<Vec<String>>) {
    for inner in command
        .get_subcommands()
        .filter(|inner| !inner.is_hide_set())
    {
        let path = [path, &[inner.get_name().to_owned()]].concat();
        paths.push(path.clone());
        add_paths(inner, &path, paths);
    }
}

/// Returns a page from standard input with its made parts renewed, or the names of all that there is.
fn reference(names: bool) -> anyhow::Result<String> {
    if names {
        return Ok(crate::reference::names());
    }
    let page = std::io::read_to_string(std::io::stdin())?;
    crate::reference::renew(&page)
}

fn completions(shell: clap_complete::Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command_line(), "fanfare", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// Serves until the node ends. Returns the program that this process is to become, with its sockets, if it is to.
fn serve(
    runtime: &tokio::runtime::Runtime,
    config: Config,
    inherited: InheritedSockets,
    traces: Traces,
    is_bare: bool,
) -> anyhow::Result<Option<(Program, Vec<HeldSocket>)>> {
    let program = Program::of_this_process(is_bare)?;
    let ended = runtime.block_on(startup::serve(config, inherited, traces, &program))?;
    Ok(match ended {
        Ended::Stopped => None,
        Ended::Upgraded(sockets) => Some((program, sockets)),
    })
}

async fn dispatch(command: Command, config: Config) -> anyhow::Result<()> {
    match command {
        // The configuration was read. A server that is to run is started elsewhere.
        Command::Serve { .. } => {
            Tls::start(&config)?;
            Ok(startup::check_sockets(&config)?)
        }
        Command::Upgrade(upgrade) => upgrade::run(&upgrade, &config),
        Command::App(noun) => {
            // Operators often import apps before the first start.
            let begin = match &noun.command {
                app::Command::Create { .. } => Begin::InNamedPlace,
                _ => Begin::Never,
            };
            app::run(noun.command, &noun.server.open(&config, begin).await?).await
        }
        Command::Key(noun) => {
            key::run(
                noun.command,
                &noun.server.open(&config, Begin::Never).await?,
            )
            .await
        }
        Command::Channel(noun) => {
            let api = noun.server.open(&config, Begin::Never).await?;
            channel::run(noun.command, &api).await
        }
        Command::Connection(noun) => {
            let api = noun.server.open(&config, Begin::Never).await?;
            connection::run(noun.command, &api).await
        }
        Command::Node(noun) => {
            let api = noun.server.open(&config, Begin::Never).await?;
            node::run(noun.command, &api).await
        }
        Command::Webhook(noun) => webhook::run(noun.command, &noun.server, &config).await,
        Command::Outbox(noun) => outbox::run(noun.command, &noun.server, &config).await,
        Command::Operator(noun) => {
            operator::run(
                noun.command,
                &noun.server.open(&config, Begin::Never).await?,
            )
            .await
        }
        Command::Token(noun) => {
            token::run(
                noun.command,
                &noun.server.open(&config, Begin::Never).await?,
            )
            .await
        }
        Command::Session(noun) => {
            session::run(
                noun.command,
                &noun.server.open(&config, Begin::Never).await?,
            )
            .await
        }
        Command::SigningKey(noun) => {
            signing_key::run(
                noun.command,
                &noun.server.open(&config, Begin::Never).await?,
            )
            .await
        }
        Command::Alert(noun) => {
            alert::run(
                noun.command,
                &noun.server.open(&config, Begin::Never).await?,
            )
            .await
        }
        Command::Audit(noun) => {
            audit::run(
                noun.command,
                &noun.server.open(&config, Begin::Never).await?,
            )
            .await
        }
        Command::Usage(usage) => {
            let api = usage.server.open(&config, Begin::Never).await?;
            usage::run(&usage, &api).await
        }
        Command::Quotas(quotas) => {
            let api = quotas.server.open(&config, Begin::Never).await?;
            quotas::run(&quotas, &api).await
        }
        Command::MasterKey(noun) => master_key::run(noun.command, &noun.server, &config).await,
        Command::Publish(publish) => publish::run(publish, &config).await,
        Command::SignUrl(sign_url) => sign_url::run(sign_url, &config).await,
        Command::Tail(tail) => tail::run(tail, &config).await,
        Command::Top(top) => top::run(top, &config).await,
        Command::Doctor(doctor) => doctor::run(doctor, &config).await,
        Command::Config => {
            let comments = unknown_variables().into_iter();
            let comments: String = comments.map(|message| format!("# {message}\n")).collect();
            output::text(&format!("{comments}{}", config.to_toml()?))
        }
        Command::Openapi => output::text(&openapi::pretty(&openapi::document())),
        // These need no configuration and were handled before it was read.
        Command::Completions { .. } | Command::Man { .. } | Command::Reference { .. } => Ok(()),
    }
}

#[expect(
    clippy::print_stderr,
    reason = "the last word of a command that failed; logs may not be set up"
)]
fn failed(error: &anyhow::Error, code: Code) -> ExitCode {
    // One line, whatever text a server sent.
    let text = format!("{error:#}").replace(char::is_control, " ");
    match help::of_failure(&text) {
        Some(help) => eprintln!("fanfare: {text} (see {help})"),
        None => eprintln!("fanfare: {text}"),
    }
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
            .filter(|inner| inner.get_name() != "help" && !inner.is_hide_set())
            .flat_map(|inner| calls(inner, &format!("{path} ")))
            .collect();
        if inner.is_empty() { vec![path] } else { inner }
    }

    fn help(path: &[&str]) -> String {
        let mut command = command_line();
        command.build();
        let mut found = &mut command;
        for name in path {
            found = found.find_subcommand_mut(name).unwrap();
        }
        found.render_long_help().to_string()
    }

    #[test]
    fn help_shows_the_flags_that_a_command_has_a_use_for() {
        for (path, shown, hidden) in [
            (&[][..], &["--listen", "--data-dir"][..], &["--server"][..]),
            (
                &["serve"],
                &["--listen", "--data-dir", "--set"],
                &["--server"],
            ),
            (
                &["publish"],
                &["--server", "--listen", "--data-dir"],
                &["--token"],
            ),
            (
                &["app", "create"],
                &["--data-dir", "--server"],
                &["--listen"],
            ),
            (
                &["audit", "list"],
                &["--data-dir", "--server"],
                &["--listen"],
            ),
            (&["completions"], &[], &["--listen", "--data-dir", "--set"]),
        ] {
            let help = help(path);
            for flag in shown {
                assert!(
                    help.contains(&format!("{flag} ")),
                    "{path:?} {flag}: {help}"
                );
            }
            for flag in hidden {
                assert!(
                    !help.contains(&format!("{flag} ")),
                    "{path:?} {flag}: {help}"
                );
            }
        }
        // Accepted all the same, before and after the command.
        for line in [
            &["fanfare", "--listen", "x", "app", "list"][..],
            &["fanfare", "app", "list", "--listen", "x"],
        ] {
            let matches = command_line().try_get_matches_from(line).unwrap();
            let cli = Cli::from_arg_matches(&matches).unwrap();
            assert_eq!(cli.settings.listen.as_deref(), Some("x"), "{line:?}");
        }
    }

    #[test]
    fn every_command_has_a_manual_page() {
        for call in calls(&command_line(), "") {
            let path: Vec<String> = call.split(' ').skip(1).map(str::to_owned).collect();
            let page = manual(&path).unwrap();
            let last = path.last().unwrap();
            assert!(
                page.contains(".SH NAME") && page.contains(last.as_str()),
                "{page}"
            );
        }
        assert!(manual(&[]).unwrap().contains("Exit codes"));
        assert!(manual(&["nope".into()]).is_err());
    }

    #[test]
    fn all_manual_pages_are_written_into_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        write_manuals(folder.path()).unwrap();
        for (name, words) in [
            ("fanfare.1", "Exit codes"),
            ("fanfare-app.1", "fanfare"),
            ("fanfare-app-create.1", "setting"),
        ] {
            let page = std::fs::read_to_string(folder.path().join(name)).unwrap();
            assert!(page.contains(".SH NAME") && page.contains(words), "{page}");
        }
        assert!(!folder.path().join("fanfare-reference.1").exists());
        let nowhere = write_manuals(&folder.path().join("none")).unwrap_err();
        assert!(format!("{nowhere:#}").contains("fanfare.1"), "{nowhere:#}");
    }

    #[test]
    fn every_command_is_in_the_documentation() {
        command_line().debug_assert();
        let docs = include_str!("../../../docs/cli.md");
        let calls = calls(&command_line(), "");
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
