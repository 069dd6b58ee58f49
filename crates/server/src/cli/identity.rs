//! `fanfare app identity`.

use clap::Subcommand;
use secrecy::ExposeSecret;
use serde_json::Value;

use super::api::{Api, Call, standard_input};
use super::failure::Failure;
use super::output;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print an app's identity as JSON, secrets hidden
    Show {
        /// The app's id
        id: String,
        /// Print JSON; there is nothing else to print
        #[arg(long)]
        json: bool,
    },
    /// Replace an app's identity, secrets included; active within a second
    Set {
        /// The app's id
        id: String,
        /// JSON file (docs/channel-auth.md); - for standard input
        file: String,
    },
    /// Take an app's identity away: tokens grant nothing from then on
    Clear {
        /// The app's id
        id: String,
    },
}

pub(crate) async fn run(command: Command, api: &Api) -> anyhow::Result<()> {
    match command {
        Command::Show { id, json: _ } => {
            let answer = api.send(Call::get(&["apps", &id, "identity"])).await?;
            output::json(&answer)
        }
        Command::Set { id, file } => {
            let call = Call::put(&["apps", &id, "identity"], read(&file)?);
            api.send(call).await?;
            output::text(&format!("set the identity of {id}"))
        }
        Command::Clear { id } => {
            api.send(Call::delete(&["apps", &id, "identity"])).await?;
            output::text(&format!("cleared the identity of {id}"))
        }
    }
}

fn read(file: &str) -> anyhow::Result<Value> {
    let wrong = |why: String| Failure::misuse(format!("the identity in {file}: {why}"));
    let text = match file {
        "-" => standard_input()?,
        file => std::fs::read_to_string(file)
            .map_err(|error| wrong(error.to_string()))?
            .into(),
    };
    let read = serde_json::from_str(text.expose_secret());
    Ok(read.map_err(|error| wrong(error.to_string()))?)
}
