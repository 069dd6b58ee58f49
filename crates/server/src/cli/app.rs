//! `fanfare app`.

use anyhow::Context;
use clap::{Args, Subcommand};
use fanfare_protocol::AppSettings;
use fanfare_store::{Actor, AppRecord, KeyRecord, NewApp, NewKey, Store};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::key::{state as key_state, to_json as key_to_json};
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
    /// Change the name or the settings of an app; in force within a second
    Update {
        /// The app's id
        id: String,
        /// What people call it
        #[arg(long)]
        name: Option<String>,
        /// A setting, for example client_events=true, limits.presence_members=500, allowed_origins=https://a.com
        #[arg(long = "setting", value_name = "NAME=VALUE")]
        settings: Vec<String>,
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
        Command::Update {
            id,
            name,
            settings,
            json,
        } => update(&id, name, &settings, json, store).await,
        Command::Show { id, json } => show(&id, json, store).await,
    }
}

async fn run_create(create: Create, store: &Store) -> anyhow::Result<()> {
    let new = NewApp {
        id: create.id,
        name: create.name,
        settings: AppSettings {
            client_events: create.client_events,
            ..AppSettings::default()
        },
        demo: false,
        key: NewKey {
            key: create.key,
            secret: create.secret,
            ..NewKey::default()
        },
    };
    let (app, key) = store.create_app(new, &Actor::command_line()).await?;
    if create.json {
        let mut value = to_json(&app);
        value["key"] = json!(key.key);
        value["secret"] = json!(key.secret.expose_secret());
        return output::json(&value);
    }
    let secret = ("secret", key.secret.expose_secret().to_owned());
    output::fields(&[fields(&app).as_slice(), &[("key", key.key), secret]].concat())
}

async fn update(
    id: &str,
    name: Option<String>,
    settings: &[String],
    json: bool,
    store: &Store,
) -> anyhow::Result<()> {
    let mut app = store.app(id).await?;
    app.name = name.unwrap_or(app.name);
    for setting in settings {
        let (name, value) = setting.split_once('=').with_context(|| {
            format!("--setting wants NAME=VALUE, for example client_events=true, got {setting:?}")
        })?;
        app.settings.set(name, value)?;
    }
    store.update_app(&app, None, &Actor::command_line()).await?;
    show(id, json, store).await
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
            yes(app.settings.enabled),
            yes(app.settings.client_events),
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
            match key_state(key) {
                "active" => key.key.clone(),
                state => format!("{} ({state})", key.key),
            },
        )
    };
    output::fields(
        &fields(&app)
            .into_iter()
            .chain(changed_settings(&app.settings))
            .chain(keys.iter().map(key))
            .collect::<Vec<_>>(),
    )
}

fn to_json(app: &AppRecord) -> Value {
    json!({
        "id": app.id,
        "name": app.name,
        "settings": app.settings,
        "created_at": app.created_at,
    })
}

fn fields(app: &AppRecord) -> Vec<(&'static str, String)> {
    vec![
        ("id", app.id.clone()),
        ("name", app.name.clone()),
        ("enabled", yes(app.settings.enabled)),
        ("client events", yes(app.settings.client_events)),
    ]
}

/// The settings that are not the default.
fn changed_settings(settings: &AppSettings) -> Vec<(&'static str, String)> {
    let (ours, default) = (json!(settings), json!(AppSettings::default()));
    let changed = AppSettings::names().into_iter().filter_map(|name| {
        let pointer = format!("/{}", name.replace('.', "/"));
        let value = ours
            .pointer(&pointer)
            .filter(|value| default.pointer(&pointer) != Some(value))?;
        Some(("setting", format!("{name} = {value}")))
    });
    changed.collect()
}

fn yes(value: bool) -> String {
    if value { "yes".into() } else { "no".into() }
}
