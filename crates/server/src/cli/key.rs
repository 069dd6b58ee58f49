//! `fanfare key`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

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
        /// What it is for
        #[arg(long)]
        label: Option<String>,
        /// When it goes out of force, Unix time in milliseconds [default: never]
        #[arg(long, value_name = "TIME", conflicts_with = "expires_in")]
        expires_at: Option<i64>,
        /// Seconds from now until it goes out of force
        #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
        expires_in: Option<u32>,
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
            label,
            expires_at,
            expires_in,
            json,
        } => {
            let new = NewKey {
                key,
                secret,
                label,
                expires_at: expires_at.or(expires_in.map(from_now)),
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
            output::table(
                &["KEY", "LABEL", "EXPIRES", "LAST USED", "STATE"],
                &keys.iter().map(row).collect::<Vec<_>>(),
            )
        }
    }
}

fn row(key: &KeyRecord) -> Vec<String> {
    let at = |time: Option<i64>, otherwise: &str| time.map_or(otherwise.into(), output::time);
    let mut last_used = at(key.last_used_at, "never");
    if let Some(from) = &key.last_used_from {
        last_used = format!("{last_used} from {from}");
    }
    vec![
        key.key.clone(),
        key.label.clone().unwrap_or_default(),
        at(key.expires_at, "never"),
        last_used,
        state(key).into(),
    ]
}

/// Unix time in milliseconds.
fn from_now(seconds: u32) -> i64 {
    let then = SystemTime::now() + Duration::from_secs(seconds.into());
    let since = then.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// A key without its secret.
pub(crate) fn to_json(key: &KeyRecord) -> Value {
    json!({
        "key": key.key,
        "app": key.app_id,
        "state": state(key),
        "label": key.label,
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
        "last_used_at": key.last_used_at,
        "last_used_from": key.last_used_from,
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
