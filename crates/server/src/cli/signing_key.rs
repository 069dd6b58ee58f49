//! `fanfare signing-key`.

use clap::Subcommand;
use serde_json::json;

use super::api::{Api, Call};
use super::{duration, output};
use crate::admin::signing_keys::TokenKey;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the keys that sign and verify sessions and API tokens
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Sign with a new key from now on; nobody is signed out, unless --keep-old-for says so
    Rotate {
        /// How long the old keys still verify; 0 signs everybody out and revokes all API tokens [default: as long as what
        /// they signed may live]
        #[arg(long, value_name = "DURATION", value_parser = duration::any_seconds)]
        keep_old_for: Option<u64>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

pub(crate) async fn run(command: Command, api: &Api) -> anyhow::Result<()> {
    match command {
        Command::List { json } => {
            let answer = api.send(Call::get(&["signing-keys"])).await?;
            let headings = ["ID", "SIGNS", "CREATED", "VERIFIES UNTIL"];
            output::list(answer, json, &headings, |key: TokenKey| {
                vec![
                    key.id,
                    output::yes(key.signs),
                    output::time(key.created_at),
                    output::time_or(key.retired_at, "replaced"),
                ]
            })
        }
        Command::Rotate { keep_old_for, json } => {
            let body = json!({"keep_old_for": keep_old_for});
            let answer = api.send(Call::post(&["signing-keys"], body)).await?;
            output::answer(answer, json, |key: TokenKey| {
                output::fields(&[
                    ("id", key.id),
                    ("signs", output::yes(key.signs)),
                    ("created", output::time(key.created_at)),
                ])
            })
        }
    }
}
