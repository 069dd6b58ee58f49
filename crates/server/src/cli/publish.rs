//! `fanfare publish`: signed HTTP, as an app's backend does.

use anyhow::{Context, bail};
use clap::Args;
use fanfare_store::{KeyRecord, Store};
use secrecy::ExposeSecret;

use super::output;
use crate::backend::Backend;
use crate::config::Config;
use crate::startup;

#[derive(Debug, Args)]
pub(crate) struct Publish {
    /// Channel to publish to
    channel: String,
    /// Name of the event
    event: String,
    /// The event's data, usually JSON
    data: String,
    /// The app's id [default: the demo app, or the only one]
    #[arg(long)]
    app: Option<String>,
    /// Server to publish to [default: this node's address]
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// Key to sign with; with --app and --secret, the local store is not needed
    #[arg(long, requires_all = ["app", "secret"])]
    key: Option<String>,
    /// The key's secret
    #[arg(long, requires = "key")]
    secret: Option<String>,
    /// Print the request as a line for a shell instead, good for ten minutes
    #[arg(long)]
    curl: bool,
}

pub(crate) async fn run(publish: Publish, config: &Config) -> anyhow::Result<()> {
    let server = publish
        .server
        .clone()
        .unwrap_or_else(|| format!("http://{}{}", config.listen, config.path_prefix));
    let (app_id, key, secret) = match (&publish.app, &publish.key, &publish.secret) {
        (Some(app), Some(key), Some(secret)) => (app.clone(), key.clone(), secret.clone()),
        _ => find_credential(publish.app.as_deref(), &startup::open_store(config).await?).await?,
    };
    let backend = Backend {
        server,
        app_id,
        key,
        secret,
    };
    if publish.curl {
        return output::text(
            &backend
                .sign(&publish.channel, &publish.event, &publish.data)
                .to_curl(),
        );
    }
    backend
        .publish(&publish.channel, &publish.event, &publish.data)
        .await?;
    output::text(&format!(
        "published {} to {}",
        publish.event, publish.channel
    ))
}

/// The app's oldest key in force.
async fn find_credential(
    app: Option<&str>,
    store: &Store,
) -> anyhow::Result<(String, String, String)> {
    let app = match app {
        Some(app) => app.to_owned(),
        None => default_app(store).await?,
    };
    let keys = store.keys(&app).await?;
    let key = keys.into_iter().find(KeyRecord::is_in_force);
    let key = key.with_context(|| {
        format!("app {app} has no key in force; make one with: fanfare key create --app {app}")
    })?;
    Ok((app, key.key, key.secret.expose_secret().to_owned()))
}

async fn default_app(store: &Store) -> anyhow::Result<String> {
    if let Some((app, _)) = store.demo_app().await? {
        return Ok(app.id);
    }
    match store.apps().await?.as_slice() {
        [app] => Ok(app.id.clone()),
        [] => bail!("there is no app yet; make one with: fanfare app create --name NAME"),
        apps => bail!(
            "there are {} apps; say which one with --app ID (fanfare app list)",
            apps.len()
        ),
    }
}
