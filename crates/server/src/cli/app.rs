//! `fanfare app`.

use clap::{Args, Subcommand};
use fanfare_store::{AppRecord, KeyRecord, NewApp, NewKey, Store};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::key::to_json as key_to_json;
use super::output;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create an app and its first key; with --id, --key and --secret, import it from elsewhere
    Create(Create),
    /// List all apps
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show one app and its keys
    Show {
        /// The app's id
        id: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// What people call it
    #[arg(long)]
    name: String,
    /// Id to import [default: drawn, digits]
    #[arg(long)]
    id: Option<String>,
    /// Key to import [default: drawn]
    #[arg(long)]
    key: Option<String>,
    /// Secret to import [default: drawn]
    #[arg(long)]
    secret: Option<String>,
    /// Let clients send events of their own on private and presence channels
    #[arg(long)]
    client_events: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(command: Command, store: &Store) -> anyhow::Result<()> {
    match command {
        Command::Create(create) => run_create(create, store).await,
        Command::List { json } => list(json, store).await,
        Command::Show { id, json } => show(&id, json, store).await,
    }
}

async fn run_create(create: Create, store: &Store) -> anyhow::Result<()> {
    let new = NewApp {
        id: create.id,
        name: create.name,
        client_events: create.client_events,
        demo: false,
        key: NewKey {
            key: create.key,
            secret: create.secret,
        },
    };
    let (app, key) = store.create_app(new).await?;
    if create.json {
        let mut value = to_json(&app);
        value["key"] = json!(key.key);
        value["secret"] = json!(key.secret.expose_secret());
        return output::json(&value);
    }
    let secret = ("secret", key.secret.expose_secret().to_owned());
    output::fields(&[fields(&app).as_slice(), &[("key", key.key), secret]].concat())
}

async fn list(json: bool, store: &Store) -> anyhow::Result<()> {
    let apps = store.apps().await?;
    if json {
        return output::json(&apps.iter().map(to_json).collect());
    }
    let row = |app: &AppRecord| {
        vec![
            app.id.clone(),
            app.name.clone(),
            yes(app.enabled),
            yes(app.client_events),
        ]
    };
    output::table(
        &["ID", "NAME", "ENABLED", "CLIENT EVENTS"],
        &apps.iter().map(row).collect::<Vec<_>>(),
    )
}

async fn show(id: &str, json: bool, store: &Store) -> anyhow::Result<()> {
    let (app, keys) = (store.app(id).await?, store.keys(id).await?);
    if json {
        let mut value = to_json(&app);
        value["keys"] = keys.iter().map(key_to_json).collect();
        return output::json(&value);
    }
    let key = |key: &KeyRecord| {
        (
            "key",
            if key.revoked_at.is_some() {
                format!("{} (revoked)", key.key)
            } else {
                key.key.clone()
            },
        )
    };
    output::fields(
        &fields(&app)
            .into_iter()
            .chain(keys.iter().map(key))
            .collect::<Vec<_>>(),
    )
}

fn to_json(app: &AppRecord) -> Value {
    json!({
        "id": app.id,
        "name": app.name,
        "enabled": app.enabled,
        "client_events": app.client_events,
        "created_at": app.created_at,
    })
}

fn fields(app: &AppRecord) -> Vec<(&'static str, String)> {
    vec![
        ("id", app.id.clone()),
        ("name", app.name.clone()),
        ("enabled", yes(app.enabled)),
        ("client events", yes(app.client_events)),
    ]
}

fn yes(value: bool) -> String {
    if value { "yes".into() } else { "no".into() }
}
