//! `fanfare key`.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::api::{Api, Call};
use super::failure::{Code, Failure};
use super::lookup::app_of;
use super::{Creation, Listing, duration, output};
use crate::admin::keys::{CreatedKey, Key};
use crate::clock::unix_millis;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Add a key to an app; the others stay active
    Create(Create),
    /// List the keys of an app, expired and revoked ones as well
    List {
        /// The app's id
        #[arg(long)]
        app: String,
        #[command(flatten)]
        listing: Listing,
    },
    /// Show one key, without its secret
    Show {
        #[command(flatten)]
        key: KeyName,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Change the label of a key, or when it expires
    Update(Update),
    /// Revoke a key, for good; its connections are closed within a second
    Revoke {
        #[command(flatten)]
        key: KeyName,
    },
}

#[derive(Debug, Args)]
pub(crate) struct KeyName {
    /// The key
    key: String,
    /// The id of its app [default: looked up]
    #[arg(long)]
    app: Option<String>,
}

#[derive(Debug, Args)]
struct Expiry {
    /// How long until it expires, for example 90s, 15m, 24h, 7d, or seconds
    #[arg(long, value_name = "DURATION", value_parser = duration::seconds, conflicts_with = "expires_at")]
    expires_in: Option<u64>,
    /// When it expires: a date, a time such as 2026-11-21T09:34:10Z, or Unix time in milliseconds
    #[arg(long, value_name = "TIME", value_parser = duration::time)]
    expires_at: Option<i64>,
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// The app's id
    #[arg(long)]
    app: String,
    /// Key to import, with --secret [default: drawn]
    #[arg(long, requires = "secret")]
    key: Option<String>,
    /// Its secret
    #[arg(long, requires = "key")]
    secret: Option<String>,
    /// What it is for
    #[arg(long)]
    label: Option<String>,
    #[command(flatten)]
    expiry: Expiry,
    #[command(flatten)]
    creation: Creation,
}

#[derive(Debug, Args)]
pub(crate) struct Update {
    #[command(flatten)]
    key: KeyName,
    /// What it is for; an empty text takes it away
    #[arg(long)]
    label: Option<String>,
    #[command(flatten)]
    expiry: Expiry,
    /// It stays active until it is revoked
    #[arg(long, conflicts_with_all = ["expires_in", "expires_at"])]
    never_expires: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Expiry {
    /// Returns when the key expires, Unix time in milliseconds.
    fn at(&self) -> Option<i64> {
        let milliseconds = |seconds: u64| i64::try_from(seconds * 1000).unwrap_or(i64::MAX);
        let from_now = |seconds| unix_millis().saturating_add(milliseconds(seconds));
        self.expires_at.or(self.expires_in.map(from_now))
    }
}

pub(crate) async fn run(command: Command, api: &Api) -> anyhow::Result<()> {
    match command {
        Command::Create(create) => run_create(create, api).await,
        Command::List { app, listing } => list(&app, &listing, api).await,
        Command::Show { key, json } => {
            let app = key.app(api).await?;
            let answer = api
                .send(Call::get(&["apps", &app, "keys", &key.key]))
                .await?;
            show(answer, json)
        }
        Command::Update(update) => run_update(update, api).await,
        Command::Revoke { key } => {
            let app = key.app(api).await?;
            api.send(Call::delete(&["apps", &app, "keys", &key.key]))
                .await?;
            output::text(&format!("revoked {}", key.key))
        }
    }
}

async fn run_create(create: Create, api: &Api) -> anyhow::Result<()> {
    let body = json!({
        "key": create.key,
        "secret": create.secret,
        "label": create.label,
        "expires_at": create.expiry.at(),
    });
    let call = Call::post(&["apps", &create.app, "keys"], body);
    let answer = api
        .send(call.with_idempotency_key(create.creation.idempotency_key))
        .await?;
    output::answer(answer, create.creation.json, |created: CreatedKey| {
        output::fields(&[
            ("app", created.key.app_id),
            ("key", created.key.key),
            ("secret", created.secret),
        ])
    })
}

async fn run_update(update: Update, api: &Api) -> anyhow::Result<()> {
    let mut patch = Map::new();
    if let Some(label) = update.label {
        let label = Some(label).filter(|label| !label.is_empty());
        patch.insert("label".into(), json!(label));
    }
    let expires_at = update.expiry.at();
    if expires_at.is_some() || update.never_expires {
        patch.insert("expires_at".into(), json!(expires_at));
    }
    let app = update.key.app(api).await?;
    let path = ["apps", &app, "keys", &update.key.key];
    let answer = api.send(Call::patch(&path, patch.into())).await?;
    show(answer, update.json)
}

async fn list(app: &str, listing: &Listing, api: &Api) -> anyhow::Result<()> {
    let call = || Call::get(&["apps", app, "keys"]);
    let answer = api.list(call, listing.limit()).await?;
    let headings = ["KEY", "LABEL", "EXPIRES", "LAST USED", "STATE"];
    output::list(answer, listing.json, &headings, |key: Key| {
        vec![
            key.key.clone(),
            key.label.clone().unwrap_or_default(),
            output::time_or(key.expires_at, "never"),
            last_used(&key),
            key.state.to_string(),
        ]
    })
}

fn show(answer: Value, json: bool) -> anyhow::Result<()> {
    output::answer(answer, json, |key: Key| {
        output::fields(&[
            ("app", key.app_id.clone()),
            ("key", key.key.clone()),
            ("label", key.label.clone().unwrap_or_default()),
            ("state", key.state.to_string()),
            ("created", output::time(key.created_at)),
            ("expires", output::time_or(key.expires_at, "never")),
            ("last used", last_used(&key)),
        ])
    })
}

fn last_used(key: &Key) -> String {
    let at = output::time_or(key.last_used_at, "never");
    match &key.last_used_from {
        Some(from) => format!("{at} from {from}"),
        None => at,
    }
}

impl KeyName {
    /// Returns the id of the key's app, and searches all apps if it wasn't given.
    async fn app(&self, api: &Api) -> anyhow::Result<String> {
        if let Some(app) = &self.app {
            return Ok(app.clone());
        }
        let found = app_of(api, "keys", "key", &self.key).await?;
        let none = || Failure::new(Code::NotFound, format!("there is no key {:?}", self.key));
        Ok(found.ok_or_else(none)?)
    }
}
