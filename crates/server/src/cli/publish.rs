//! `fanfare publish`: signed HTTP, as an app's backend does.

use clap::Args;
use fanfare_store::{AppRecord, KeyRecord, Store};
use secrecy::ExposeSecret;

use super::api::without_api_path;
use super::output;
use crate::backend::Backend;
use crate::config::{Config, reachable};
use crate::failure::{Code, Failure, code_of};
use crate::server_lock::ServerLock;
use crate::startup::{self, Begin};

#[derive(Debug, Args)]
pub(crate) struct Publish {
    /// Channel to publish to
    channel: String,
    /// Name of the event
    event: String,
    /// The event's data, usually JSON
    data: String,
    #[command(flatten)]
    signing: Signing,
    /// Print the request as a line for a shell instead, good for ten minutes
    #[arg(long)]
    curl: bool,
}

/// The server and the app that a command signs for.
#[derive(Debug, Args)]
pub(super) struct Signing {
    /// The app's id [default: the demo app, or the only one]
    #[arg(long)]
    app: Option<String>,
    /// The server [default: this node's address]
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// Key to sign with; with --app and --secret, the local store is not needed
    #[arg(long, requires_all = ["app", "secret"])]
    key: Option<String>,
    /// The key's secret
    #[arg(long, requires = "key")]
    secret: Option<String>,
}

impl Signing {
    /// Returns the server's address, without a slash at its end.
    pub(super) fn server(&self, config: &Config) -> String {
        match &self.server {
            Some(server) => without_api_path(server).to_owned(),
            None => {
                let listen = reachable(ServerLock::address_of_server(config));
                format!("http://{listen}{}", config.client_prefix())
            }
        }
    }

    /// Returns the app and its key, from the local store if they aren't given.
    pub(super) async fn target(&self, config: &Config) -> anyhow::Result<Target> {
        if let (Some(app), Some(key), Some(secret)) = (&self.app, &self.key, &self.secret) {
            return Ok(Target {
                id: app.clone(),
                name: None,
                key: key.clone(),
                secret: secret.clone(),
            });
        }
        let target = async {
            let store = startup::open_store(config, Begin::Never).await?;
            find_target(self.app.as_deref(), &store).await
        };
        target.await.map_err(|error| match &self.server {
            Some(server) => without_credentials(server, &error),
            None => error,
        })
    }
}

/// The app to publish to.
pub(super) struct Target {
    id: String,
    /// Known if the app comes from the store.
    name: Option<String>,
    pub(super) key: String,
    pub(super) secret: String,
}

pub(crate) async fn run(publish: Publish, config: &Config) -> anyhow::Result<()> {
    let server = publish.signing.server(config);
    let target = publish.signing.target(config).await?;
    let is_from_store = target.name.is_some();
    let backend = Backend {
        server,
        app_id: target.id,
        key: target.key,
        secret: target.secret,
    };
    if publish.curl {
        return output::text(
            &backend
                .sign(&publish.channel, &publish.event, &publish.data)
                .to_curl(),
        );
    }
    let published = backend.publish(&publish.channel, &publish.event, &publish.data);
    published.await.map_err(|error| {
        let is_refused = matches!(code_of(&error), Code::Refused | Code::NotFound);
        if is_from_store && publish.signing.server.is_some() && is_refused {
            let id = &backend.app_id;
            error.context(format!(
                "signed with a key of app {id} in this machine's store; for another server's app pass --app ID --key KEY \
                 --secret SECRET"
            ))
        } else {
            error
        }
    })?;
    let name = target.name.map(|name| format!(" ({name})"));
    output::text(&format!(
        "published {} to {} of app {}{} on {}",
        publish.event,
        publish.channel,
        backend.app_id,
        name.unwrap_or_default(),
        backend.server
    ))
}

/// Returns what to pass if this machine's store has no credentials for a server.
fn without_credentials(server: &str, error: &anyhow::Error) -> anyhow::Error {
    let code = code_of(error);
    let message = format!(
        "to publish to {server}, pass --app ID --key KEY --secret SECRET of an app there; this machine's store has none: \
         {error:#}"
    );
    Failure::new(code, message).into()
}

/// Returns the app with its oldest active key.
pub(super) async fn find_target(app: Option<&str>, store: &Store) -> anyhow::Result<Target> {
    let app = match app {
        Some(app) => store.app(app).await?,
        None => default_app(store).await?,
    };
    let keys = store.keys(&app.id).await?;
    let key = keys.into_iter().find(KeyRecord::is_active);
    let key = key.ok_or_else(|| {
        Failure::new(
            Code::NotFound,
            format!(
                "app {id} has no active key; make one with: fanfare key create --app {id}",
                id = app.id
            ),
        )
    })?;
    Ok(Target {
        id: app.id,
        name: Some(app.name),
        key: key.key,
        secret: key.secret.expose_secret().to_owned(),
    })
}

async fn default_app(store: &Store) -> anyhow::Result<AppRecord> {
    if let Some((app, _)) = store.demo_app().await? {
        return Ok(app);
    }
    let mut apps = store.apps().await?;
    match apps.len() {
        1 => Ok(apps.remove(0)),
        0 => Err(Failure::new(
            Code::NotFound,
            "there is no app yet; make one with: fanfare app create --name NAME",
        )
        .into()),
        count => Err(Failure::misuse(format!(
            "there are {count} apps; say which one with --app ID (fanfare app list)"
        ))
        .into()),
    }
}
