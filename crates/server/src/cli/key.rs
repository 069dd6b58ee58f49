//! `fanfare key`.

use clap::Subcommand;
use fanfare_store::{Actor, KeyRecord, NewKey, Store};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::output;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Add a key to an app; the others stay in force
    Create {
        /// The app's id
        #[arg(long)]
        app: String,
        /// Key to import [default: drawn]
        #[arg(long)]
        key: Option<String>,
        /// Secret to import [default: drawn]
        #[arg(long)]
        secret: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Take a key out of force, for good; its connections are closed within a second
    Revoke {
        /// The key
        key: String,
    },
    /// List the keys of an app
    List {
        /// The app's id
        #[arg(long)]
        app: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

pub(crate) async fn run(command: Command, store: &Store) -> anyhow::Result<()> {
    match command {
        Command::Create {
            app,
            key,
            secret,
            json,
        } => {
            let new = NewKey {
                key,
                secret,
                ..NewKey::default()
            };
            let created = store.create_key(&app, new, &Actor::command_line()).await?;
            let secret = created.secret.expose_secret().to_owned();
            if json {
                let mut value = to_json(&created);
                value["secret"] = json!(secret);
                return output::json(&value);
            }
            output::fields(&[
                ("app", created.app_id),
                ("key", created.key),
                ("secret", secret),
            ])
        }
        Command::Revoke { key } => {
            store.revoke_key(None, &key, &Actor::command_line()).await?;
            output::text(&format!("revoked {key}"))
        }
        Command::List { app, json } => {
            let keys = store.keys(&app).await?;
            if json {
                return output::json(&keys.iter().map(to_json).collect());
            }
            let row = |key: &KeyRecord| vec![key.key.clone(), state(key).into()];
            output::table(&["KEY", "STATE"], &keys.iter().map(row).collect::<Vec<_>>())
        }
    }
}

/// A key without its secret.
pub(crate) fn to_json(key: &KeyRecord) -> Value {
    json!({
        "key": key.key,
        "app": key.app_id,
        "state": state(key),
        "created_at": key.created_at,
        "revoked_at": key.revoked_at,
    })
}

pub(crate) fn state(key: &KeyRecord) -> &'static str {
    if key.revoked_at.is_some() {
        "revoked"
    } else if key.is_in_force() {
        "active"
    } else {
        "expired"
    }
}
