//! `fanfare token`.

use clap::{Args, Subcommand};
use serde_json::json;

use super::api::{Api, Call};
use super::operator::{RoleName, some};
use super::{Creation, Listing, duration, output};
use crate::admin::tokens::{CreatedToken, Token};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create an API token for a program, and print it once
    Create(Create),
    /// List API tokens, expired and revoked ones as well
    List(Listing),
    /// Show one API token, without the token itself
    Show {
        /// Its id
        id: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Revoke an API token: it is refused from then on
    Revoke {
        /// Its id
        id: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// What it is for
    #[arg(long)]
    name: String,
    /// What it may do
    #[arg(long)]
    role: RoleName,
    /// Id of an app that it sees, several times for several [default: all apps that you see]
    #[arg(long = "app", value_name = "ID")]
    apps: Vec<String>,
    /// How long it lives, in whole days [default: 90d]
    #[arg(long, value_name = "DURATION", value_parser = duration::token_days)]
    expires_in: Option<u64>,
    #[command(flatten)]
    creation: Creation,
}

pub(crate) async fn run(command: Command, api: &Api) -> anyhow::Result<()> {
    match command {
        Command::Create(create) => run_create(create, api).await,
        Command::List(listing) => list(&listing, api).await,
        Command::Show { id, json } => {
            let answer = api.send(Call::get(&["tokens", &id])).await?;
            output::answer(answer, json, |token: Token| output::fields(&fields(&token)))
        }
        Command::Revoke { id } => {
            api.send(Call::delete(&["tokens", &id])).await?;
            output::text(&format!("revoked {id}"))
        }
    }
}

async fn run_create(create: Create, api: &Api) -> anyhow::Result<()> {
    let body = json!({
        "name": create.name,
        "role": create.role.as_str(),
        "apps": some(create.apps),
        "expires_in_days": create.expires_in,
    });
    let call = Call::post(&["tokens"], body).with_idempotency_key(create.creation.idempotency_key);
    let answer = api.send(call).await?;
    output::answer(answer, create.creation.json, |created: CreatedToken| {
        let secret = vec![("token", created.secret)];
        output::fields(&[fields(&created.token), secret].concat())
    })
}

async fn list(listing: &Listing, api: &Api) -> anyhow::Result<()> {
    let answer = api.list(|| Call::get(&["tokens"]), listing.limit()).await?;
    let headings = [
        "ID",
        "NAME",
        "ROLE",
        "APPS",
        "EXPIRES",
        "LAST USED",
        "ACTIVE",
    ];
    output::list(answer, listing.json, &headings, |token: Token| {
        let active = output::yes(token.is_active());
        vec![
            token.id,
            token.name,
            token.role.to_string(),
            output::apps(token.apps.as_deref()),
            output::time_or(token.expires_at, "never"),
            output::time_or(token.last_used_at, "never"),
            active,
        ]
    })
}

fn fields(token: &Token) -> Vec<(&'static str, String)> {
    vec![
        ("id", token.id.clone()),
        ("name", token.name.clone()),
        ("role", token.role.to_string()),
        ("apps", output::apps(token.apps.as_deref())),
        ("active", output::yes(token.is_active())),
        ("expires", output::time_or(token.expires_at, "never")),
        ("last used", output::time_or(token.last_used_at, "never")),
    ]
}
