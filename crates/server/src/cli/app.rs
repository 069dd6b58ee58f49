//! `fanfare app`.

use clap::{Args, Subcommand};
use fanfare_protocol::AppSettings;
use serde_json::{Map, Value, json};

use super::api::{Api, Call};
use super::failure::Failure;
use super::identity;
use super::output::{self, yes};
use super::{Creation, Listing};
use crate::admin::apps::{App, CreatedApp};
use crate::admin::channels::{Channel, Member};
use crate::admin::connections::Clients;
use crate::admin::keys::{Key, KeyState};
use crate::admin::page::Page;
use crate::nodes::Connection;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create an app and its first key; with --id, --key and --secret, import it from elsewhere
    Create(Create),
    /// List all apps
    List(Listing),
    /// Show one app, and its keys to people
    Show {
        /// The app's id
        id: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Change the name or the settings of an app; active within a second
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
    /// Let an app take connections and requests again
    Enable {
        /// The app's id
        id: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Let an app take neither connections nor requests; those there are, are closed within a second
    Disable {
        /// The app's id
        id: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Delete an app with its keys, for good; its connections are closed
    Delete {
        /// The app's id
        id: String,
        /// The app's name, to make sure that it is the one that is meant
        #[arg(long, value_name = "NAME")]
        confirm: String,
    },
    /// Show, set or clear how an app's end users prove who they are
    #[command(subcommand)]
    Identity(identity::Command),
    /// List an app's occupied channels; needs --server
    Channels {
        /// The app's id
        id: String,
        /// How their names start
        #[arg(long)]
        prefix: Option<String>,
        #[command(flatten)]
        listing: Listing,
    },
    /// List who is on a presence channel; needs --server
    Members {
        /// The app's id
        id: String,
        /// The channel's name
        channel: String,
        #[command(flatten)]
        listing: Listing,
    },
    /// List an app's connections over all nodes; needs --server
    Connections {
        /// The app's id
        id: String,
        /// Those of one user
        #[arg(long, value_name = "ID")]
        user: Option<String>,
        #[command(flatten)]
        listing: Listing,
    },
    /// Count an app's connections by client library and version, those of the node that answers; needs --server
    Clients {
        /// The app's id
        id: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Disconnect a client, which stays away until it is restarted; needs --server
    Disconnect {
        /// The app's id
        id: String,
        /// The connection's socket id
        socket_id: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// What people call it
    #[arg(long)]
    name: String,
    /// Id to import; PyPI pusher takes digits only [default: drawn, digits]
    #[arg(long)]
    id: Option<String>,
    /// Key to import, with --secret [default: drawn]
    #[arg(long, requires = "secret")]
    key: Option<String>,
    /// Its secret
    #[arg(long, requires = "key")]
    secret: Option<String>,
    /// Let clients send events of their own on private and presence channels
    #[arg(long)]
    client_events: bool,
    /// A setting, for example limits.presence_members=500
    #[arg(long = "setting", value_name = "NAME=VALUE")]
    settings: Vec<String>,
    #[command(flatten)]
    creation: Creation,
}

pub(crate) async fn run(command: Command, api: &Api) -> anyhow::Result<()> {
    match command {
        Command::Create(create) => run_create(create, api).await,
        Command::List(listing) => list(&listing, api).await,
        Command::Show { id, json } => show(&id, json, api).await,
        Command::Update {
            id,
            name,
            settings,
            json,
        } => {
            let patch = json!({"name": name, "settings": patch(&settings)?});
            update(&id, patch, json, api).await
        }
        Command::Enable { id, json } => {
            update(&id, json!({"settings": {"enabled": true}}), json, api).await
        }
        Command::Disable { id, json } => {
            update(&id, json!({"settings": {"enabled": false}}), json, api).await
        }
        Command::Delete { id, confirm } => {
            let app: App = serde_json::from_value(api.send(Call::get(&["apps", &id])).await?)?;
            if app.name != confirm {
                let (id, name) = (app.id, app.name);
                return Err(Failure::misuse(format!(
                    "app {id} is named {name:?}, not {confirm:?}: if it is the one to delete, write --confirm {name:?}"
                ))
                .into());
            }
            let call = Call::delete(&["apps", &id]).query("confirm", Some(confirm));
            api.send(call).await?;
            output::text(&format!("deleted {id}"))
        }
        Command::Identity(command) => identity::run(command, api).await,
        Command::Channels {
            id,
            prefix,
            listing,
        } => channels(&id, prefix.as_deref(), &listing, api).await,
        Command::Members {
            id,
            channel,
            listing,
        } => members(&id, &channel, &listing, api).await,
        Command::Connections { id, user, listing } => {
            connections(&id, user.as_deref(), &listing, api).await
        }
        Command::Clients { id, json } => clients(&id, json, api).await,
        Command::Disconnect { id, socket_id } => {
            let call = Call::delete(&["apps", &id, "connections", &socket_id]);
            api.of_a_running_server()?.send(call).await?;
            output::text(&format!("disconnected {socket_id}"))
        }
    }
}

async fn run_create(create: Create, api: &Api) -> anyhow::Result<()> {
    let mut settings = patch(&create.settings)?;
    if create.client_events {
        settings["client_events"] = true.into();
    }
    let body = json!({
        "name": create.name,
        "id": create.id,
        "key": create.key,
        "secret": create.secret,
        "settings": settings,
    });
    let call = Call::post(&["apps"], body).with_idempotency_key(create.creation.idempotency_key);
    let answer = api.send(call).await?;
    output::answer(answer, create.creation.json, |created: CreatedApp| {
        for warning in &created.warnings {
            tracing::warn!("{warning}");
        }
        let key = [("key", created.key.key.key), ("secret", created.key.secret)];
        output::fields(&[fields(&created.app).as_slice(), &key].concat())
    })
}

async fn update(id: &str, patch: Value, json: bool, api: &Api) -> anyhow::Result<()> {
    let answer = api.send(Call::patch(&["apps", id], patch)).await?;
    output::answer(answer, json, |app: App| {
        output::fields(&[fields(&app), changed_settings(&app.settings)].concat())
    })
}

async fn list(listing: &Listing, api: &Api) -> anyhow::Result<()> {
    let answer = api.list(|| Call::get(&["apps"]), listing.limit()).await?;
    let headings = ["ID", "NAME", "ENABLED", "CLIENT EVENTS"];
    output::list(answer, listing.json, &headings, |app: App| {
        vec![
            app.id,
            app.name,
            yes(app.settings.enabled),
            yes(app.settings.client_events),
        ]
    })
}

async fn show(id: &str, json: bool, api: &Api) -> anyhow::Result<()> {
    let app = api.send(Call::get(&["apps", id])).await?;
    if json {
        return output::json(&app);
    }
    let app: App = serde_json::from_value(app)?;
    let keys = api.list(|| Call::get(&["apps", id, "keys"]), None).await?;
    let keys: Page<Key> = serde_json::from_value(keys)?;
    let key = |key: Key| match key.state {
        KeyState::Active => ("key", key.key),
        state => ("key", format!("{} ({state})", key.key)),
    };
    let keys = keys.items.into_iter().map(key).collect();
    output::fields(&[fields(&app), changed_settings(&app.settings), keys].concat())
}

pub(super) async fn channels(
    id: &str,
    prefix: Option<&str>,
    listing: &Listing,
    api: &Api,
) -> anyhow::Result<()> {
    let call = || Call::get(&["apps", id, "channels"]).query("prefix", prefix);
    let api = api.of_a_running_server()?;
    let answer = api.list(call, listing.limit()).await?;
    let headings = ["CHANNEL", "SUBSCRIPTIONS", "USERS"];
    output::list(answer, listing.json, &headings, |channel: Channel| {
        vec![
            channel.name,
            channel.subscription_count.to_string(),
            channel
                .user_count
                .map(|count| count.to_string())
                .unwrap_or_default(),
        ]
    })
}

async fn members(id: &str, channel: &str, listing: &Listing, api: &Api) -> anyhow::Result<()> {
    let call = || Call::get(&["apps", id, "channels", channel, "members"]);
    let api = api.of_a_running_server()?;
    let answer = api.list(call, listing.limit()).await?;
    output::list(answer, listing.json, &["USER"], |member: Member| {
        vec![member.user_id]
    })
}

async fn clients(id: &str, json: bool, api: &Api) -> anyhow::Result<()> {
    let api = api.of_a_running_server()?;
    let answer = api.send(Call::get(&["apps", id, "clients"])).await?;
    output::answer(answer, json, |clients: Clients| {
        let rows = clients.clients.into_iter().map(|client| {
            let risk = client.risk.unwrap_or_default();
            vec![
                client.client,
                client.version,
                client.connections.to_string(),
                risk,
            ]
        });
        let rows: Vec<_> = rows.collect();
        output::table(&["CLIENT", "VERSION", "CONNECTIONS", "RISK"], &rows)
    })
}

async fn connections(
    id: &str,
    user: Option<&str>,
    listing: &Listing,
    api: &Api,
) -> anyhow::Result<()> {
    let call = || Call::get(&["apps", id, "connections"]).query("user_id", user);
    let api = api.of_a_running_server()?;
    let answer = api.list(call, listing.limit()).await?;
    let headings = [
        "SOCKET ID",
        "USER",
        "TRANSPORT",
        "CONNECTED",
        "HEARD",
        "WAITING",
        "CHANNELS",
    ];
    output::list(answer, listing.json, &headings, |connection: Connection| {
        vec![
            connection.socket_id,
            connection.user_id.unwrap_or_default(),
            connection.transport.as_str().into(),
            output::time(connection.connected_at),
            output::time(connection.heard_at),
            connection.waiting_bytes.to_string(),
            connection.channels.join(" "),
        ]
    })
}

/// Parses settings such as `limits.user_id=7` into the JSON that the API takes.
fn patch(settings: &[String]) -> anyhow::Result<Value> {
    let mut patch = Map::new();
    for setting in settings {
        let (name, value) = setting.split_once('=').ok_or_else(|| {
            Failure::misuse(format!(
                "--setting wants NAME=VALUE, for example client_events=true, got {setting:?}"
            ))
        })?;
        // The type knows which settings are numbers and which are lists.
        let mut read = AppSettings::default();
        read.set(name, value)
            .map_err(|error| Failure::misuse(error.to_string()))?;
        let read = json!(read);
        match name.split_once('.') {
            Some((group, name)) => {
                patch.entry(group).or_insert_with(|| json!({}))[name] = read[group][name].clone()
            }
            None => patch
                .insert(name.into(), read[name].clone())
                .map_or((), drop),
        }
    }
    Ok(patch.into())
}

fn fields(app: &App) -> Vec<(&'static str, String)> {
    vec![
        ("id", app.id.clone()),
        ("name", app.name.clone()),
        ("enabled", yes(app.settings.enabled)),
        ("client events", yes(app.settings.client_events)),
    ]
}

/// Returns the settings that differ from the default.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_patched_by_their_names() {
        let settings = [
            "client_events=true",
            "limits.user_id=7",
            "limits.event_name=9",
            "allowed_origins=https://a.com, https://b.com",
        ];
        let patch = patch(&settings.map(str::to_owned)).unwrap();
        let expected = json!({
            "client_events": true,
            "limits": {"user_id": 7, "event_name": 9},
            "allowed_origins": ["https://a.com", "https://b.com"],
        });
        assert_eq!(patch, expected);
    }
}
