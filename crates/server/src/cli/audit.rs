//! `fanfare audit`.

use std::io::{Write, stdout};

use anyhow::Context;
use clap::{Args, Subcommand};

use super::api::{Api, Call};
use super::{Listing, duration, output};
use crate::admin::audit::AuditEntry;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List what was done, newest first
    List {
        #[command(flatten)]
        filter: Filter,
        #[command(flatten)]
        listing: Listing,
    },
    /// Print all that was done, newest first, one JSON object a line
    Export {
        #[command(flatten)]
        filter: Filter,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Filter {
    /// Done to this app, or to what belongs to it
    #[arg(long, value_name = "ID")]
    app: Option<String>,
    /// Done by the operator or API token with this id
    #[arg(long, value_name = "ID")]
    actor: Option<String>,
    /// Of one kind, for example key.revoke
    #[arg(long)]
    action: Option<String>,
    /// Done to this
    #[arg(long, value_name = "ID")]
    target: Option<String>,
    /// Not before: a date, a time such as 2026-11-21T09:34:10Z, Unix time in milliseconds, or a while ago such as 24h
    #[arg(long, value_name = "TIME", value_parser = duration::time_or_ago)]
    since: Option<i64>,
    /// Before: the same
    #[arg(long, value_name = "TIME", value_parser = duration::time_or_ago)]
    until: Option<i64>,
}

impl Filter {
    fn call(&self, path: &[&str]) -> Call {
        Call::get(path)
            .query("app_id", self.app.as_ref())
            .query("actor_id", self.actor.as_ref())
            .query("action", self.action.as_ref())
            .query("target_id", self.target.as_ref())
            .query("since", self.since)
            .query("until", self.until)
    }
}

pub(crate) async fn run(command: Command, api: &Api) -> anyhow::Result<()> {
    match command {
        Command::List { filter, listing } => list(&filter, &listing, api).await,
        Command::Export { filter } => export(&filter, api).await,
    }
}

async fn list(filter: &Filter, listing: &Listing, api: &Api) -> anyhow::Result<()> {
    let call = || filter.call(&["audit"]);
    let answer = api.list(call, listing.limit()).await?;
    let headings = [
        "TIME", "ACTOR", "FROM", "ACTION", "TARGET", "APP", "DETAILS",
    ];
    output::list(answer, listing.json, &headings, |entry: AuditEntry| {
        vec![
            output::time(entry.at),
            entry.actor.name,
            entry.actor.address.unwrap_or_default(),
            entry.action,
            entry.target_id,
            entry.app_id.unwrap_or_default(),
            entry.details.to_string(),
        ]
    })
}

async fn export(filter: &Filter, api: &Api) -> anyhow::Result<()> {
    let mut answer = api.stream(filter.call(&["audit", "export"])).await?;
    let mut out = stdout();
    while let Some(lines) = answer.chunk().await? {
        out.write_all(&lines)
            .context("writing to standard output")?;
    }
    out.flush().context("writing to standard output")
}
