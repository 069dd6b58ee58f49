//! `fanfare alert`.

use clap::Subcommand;
use serde_json::json;

use super::api::{Api, Call};
use super::{duration, output};
use crate::admin::alerts::Alert;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List alerts, open ones first
    List {
        /// Only those that are open
        #[arg(long)]
        open: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Notify nobody of an alert for a while, its later occurrences included
    Silence {
        /// Its id
        id: String,
        /// How long: 90s, 15m, 24h or 7d; 0 ends a silence
        #[arg(long = "for", value_name = "DURATION", value_parser = duration::any_seconds)]
        seconds: u64,
    },
}

pub(crate) async fn run(command: Command, api: &Api) -> anyhow::Result<()> {
    match command {
        Command::List { open, json } => list(open, json, api).await,
        Command::Silence { id, seconds } => {
            let body = json!({ "seconds": seconds });
            api.send(Call::put(&["alerts", &id, "silence"], body))
                .await?;
            output::text(&match seconds {
                0 => format!("{id} is not silenced any more"),
                _ => format!("silenced {id}"),
            })
        }
    }
}

async fn list(open: bool, json: bool, api: &Api) -> anyhow::Result<()> {
    let mut answer = api.send(Call::get(&["alerts"])).await?;
    if open && let Some(items) = answer["items"].as_array_mut() {
        items.retain(|alert| alert["resolved_at"].is_null());
    }
    let headings = ["ID", "KIND", "STATE", "OPENED", "SILENCED UNTIL", "WHAT"];
    output::list(answer, json, &headings, |alert: Alert| {
        let state = alert.resolved_at.map_or("open", |_| "resolved");
        vec![
            alert.id,
            alert.kind,
            state.into(),
            output::time(alert.opened_at),
            output::time_or(alert.silenced_until, ""),
            alert.summary,
        ]
    })
}
