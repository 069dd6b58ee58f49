//! `fanfare outbox`.

use clap::{Args, Subcommand};
use fanfare_outbox::Location;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};

use super::api::{Api, Call, ServerFlags, standard_input};
use super::failure::{Code, Failure};
use super::output;
use crate::admin::outbox::{Outbox, OutboxState};
use crate::config::Config;
use crate::startup::Begin;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create an outbox in the database of an application, Postgres 15 or later, or bring it up to date
    Install {
        /// The application's database, as the role that is to own the outbox: postgres://. Others on this machine see what a
        /// command is called with: rather use - for standard input
        #[arg(long, value_name = "URL")]
        database: SecretString,
        #[command(flatten)]
        publishers: Publishers,
    },
    /// Print what `install` runs, for the application's own migrations
    Sql(Publishers),
    /// Let an app's events be read from a table of Postgres or a stream of Redis; active within a second
    Set(Set),
    /// Show an app's outbox, without its password, and what the node that reads it says
    Show {
        /// The app's id
        app: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Read an app's outbox no more; events that wait there stay there
    Remove {
        /// The app's id
        app: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Publishers {
    /// A role of the database that may publish, besides the owner; repeat it for more
    #[arg(long = "publisher", value_name = "ROLE")]
    roles: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Set {
    /// The app's id
    app: String,
    /// Where the outbox is: postgres://, redis:// or rediss://. Others on this machine see what a command is called with:
    /// rather use - for standard input
    #[arg(long, value_name = "URL")]
    url: SecretString,
    /// The stream's key, only in Redis [default: fanfare]
    #[arg(long, value_name = "KEY")]
    stream: Option<String>,
    /// How often a node looks for events, in milliseconds: 5 to 60000 [default: 50]
    #[arg(long, value_name = "MILLISECONDS")]
    poll_interval: Option<i64>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(
    command: Command,
    server: &ServerFlags,
    config: &Config,
) -> anyhow::Result<()> {
    // Neither needs a server.
    match &command {
        Command::Install {
            database,
            publishers,
        } => return run_install(database, publishers).await,
        Command::Sql(publishers) => return output::text(&sql(publishers)),
        Command::Set(_) | Command::Show { .. } | Command::Remove { .. } => {}
    }
    let api = &server.open(config, Begin::Never).await?;
    match command {
        Command::Install { .. } | Command::Sql(_) => Ok(()),
        Command::Set(set) => run_set(set, api).await,
        Command::Show { app, json } => {
            let answer = api.send(Call::get(&path(&app))).await?;
            print(&app, answer, json)
        }
        Command::Remove { app } => {
            api.send(Call::delete(&path(&app))).await?;
            output::text(&format!("removed the outbox of {app}"))
        }
    }
}

async fn run_install(database: &SecretString, publishers: &Publishers) -> anyhow::Result<()> {
    let read;
    let url = match database.expose_secret() {
        "-" => {
            read = standard_input()?;
            &read
        }
        _ => database,
    };
    let location = Location::parse(url.expose_secret().trim(), None);
    let Ok(Location::Postgres { url }) = location else {
        return Err(Failure::misuse(
            "--database must be like postgres://USER:PASSWORD@HOST:5432/DATABASE; a stream of Redis needs no installation",
        )
        .into());
    };
    let installed = fanfare_outbox::install(&url, &publishers.roles).await;
    installed.map_err(|error| {
        Failure::new(
            Code::Failed,
            format!("the outbox was not installed, and nothing was changed: {error}"),
        )
    })?;
    output::text("the outbox is installed; tell Fanfare of it: fanfare outbox set APP --url URL")
}

fn sql(publishers: &Publishers) -> String {
    let grants = fanfare_outbox::grants(&publishers.roles);
    let parts = std::iter::once(fanfare_outbox::SCHEMA.to_owned()).chain(grants);
    parts.collect::<Vec<_>>().join("\n")
}

async fn run_set(set: Set, api: &Api) -> anyhow::Result<()> {
    let url = match set.url.expose_secret() {
        "-" => standard_input()?,
        _ => set.url,
    };
    let mut body = Map::new();
    body.insert("url".into(), url.expose_secret().trim().into());
    if let Some(stream) = set.stream {
        body.insert("stream".into(), stream.into());
    }
    if let Some(poll_interval) = set.poll_interval {
        body.insert("poll_interval".into(), json!(poll_interval));
    }
    let answer = api.send(Call::put(&path(&set.app), body.into())).await?;
    print(&set.app, answer, set.json)
}

fn path(app: &str) -> [&str; 3] {
    ["apps", app, "outbox"]
}

fn print(app: &str, answer: Value, as_json: bool) -> anyhow::Result<()> {
    output::answer(answer, as_json, |outbox: Outbox| {
        let mut fields = vec![("app", app.to_owned()), ("url", outbox.url)];
        fields.extend(outbox.stream.map(|stream| ("stream", stream)));
        fields.push(("poll interval", format!("{} ms", outbox.poll_interval)));
        match outbox.state {
            Some(state) => fields.extend(state_fields(state)),
            None => fields.push(("state", "no node has read it yet".into())),
        }
        output::fields(&fields)
    })
}

fn state_fields(state: OutboxState) -> Vec<(&'static str, String)> {
    let connected = match state.connected {
        true => "connected",
        false => "not connected",
    };
    let backlog = match state.backlog_is_exact {
        true => state.backlog.to_string(),
        false => format!("at least {}", state.backlog),
    };
    let mut fields = vec![
        ("state", connected.to_owned()),
        ("node", state.node),
        ("backlog", backlog),
        ("oldest", output::time_or(state.oldest_at, "-")),
        ("published", state.published.to_string()),
        ("rejected", state.rejected.to_string()),
        ("last event", output::time_or(state.last_event_at, "never")),
    ];
    if let Some(error) = state.last_error {
        fields.push(("last error", error));
        fields.push(("failed at", output::time_or(state.last_error_at, "-")));
    }
    fields.push(("reported", output::time(state.reported_at)));
    fields
}
