//! The demo app, the self-check, and the text printed at the start, so that a newcomer sees an event go from a curl
//! line to a browser before reading anything.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail};
use fanfare_store::{Actor, Store, StoreError};
use futures_util::{SinkExt, StreamExt};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::backend::Backend;
use crate::config::{Config, reachable};

/// Presence channel of the demo page.
pub(crate) const PRESENCE_CHANNEL: &str = "presence-demo";
/// Channel on which the demo page receives events.
const EVENT_CHANNEL: &str = "demo";

const CHECK_TIMEOUT: Duration = Duration::from_secs(10);

/// The demo app's credentials.
#[derive(Debug)]
pub(crate) struct Demo {
    pub(crate) app_id: String,
    pub(crate) key: String,
    secret: SecretString,
}

impl Demo {
    /// Returns the demo app of the first run. Creates it if nothing was ever created in this store.
    pub(crate) async fn find_or_create(store: &Store) -> Result<Option<Self>, StoreError> {
        let mut found = store.demo_app().await?;
        if found.is_none() && store.is_pristine().await? {
            found = match store.create_demo_app(&Actor::system()).await {
                // Another node created it first.
                Err(StoreError::Conflict(_)) => store.demo_app().await?,
                created => Some(created?),
            };
        }
        Ok(found.map(|(app, key)| Self {
            app_id: app.id,
            key: key.key,
            secret: key.secret,
        }))
    }

    pub(crate) fn secret(&self) -> &str {
        self.secret.expose_secret()
    }

    fn backend(&self, server: String) -> Backend {
        Backend {
            server,
            app_id: self.app_id.clone(),
            key: self.key.clone(),
            secret: self.secret().into(),
        }
    }

    /// Publishes an event over HTTP, and returns how long it took until a WebSocket received it. Fails after
    /// [`CHECK_TIMEOUT`].
    pub(crate) async fn check(
        &self,
        listen: SocketAddr,
        path_prefix: &str,
    ) -> anyhow::Result<Duration> {
        let check = async {
            let channel = format!("check-{}", hex_name());
            let mut socket = connect(listen, path_prefix, &self.key).await?;
            expect(&mut socket, "pusher:connection_established").await?;
            let subscribe = json!({"event": "pusher:subscribe", "data": {"channel": channel}});
            socket.send(Message::text(subscribe.to_string())).await?;
            expect(&mut socket, "pusher_internal:subscription_succeeded").await?;
            let backend = self.backend(format!("http://{listen}{path_prefix}"));
            // The first request includes setting up the client. Only the second is measured.
            backend.publish(&channel, "warm-up", "{}").await?;
            expect(&mut socket, "warm-up").await?;
            let start = Instant::now();
            let (published, received) = tokio::join!(
                backend.publish(&channel, "check", "{}"),
                expect(&mut socket, "check")
            );
            published.and(received)?;
            Ok(start.elapsed())
        };
        timeout(CHECK_TIMEOUT, check)
            .await
            .context("no event came through in time")?
    }

    /// Returns the text that is printed at the start.
    pub(crate) fn welcome(
        &self,
        listen: SocketAddr,
        config: &Config,
        checked: &anyhow::Result<Duration>,
    ) -> String {
        let server = format!("http://{}", reachable(listen));
        let data = json!({"text": "Hello from the terminal"}).to_string();
        let curl = self
            .backend(format!("{server}{}", config.client_prefix()))
            .sign(EVENT_CHANNEL, "greeting", &data)
            .to_curl();
        let checked = match checked {
            Ok(took) => format!(
                "an event went from the HTTP API to a WebSocket in {:.1} ms",
                took.as_secs_f64() * 1e3
            ),
            Err(error) => format!("FAILED, no event came through: {error:#}"),
        };
        let again = self.command(listen, config, &data);
        let mut text = String::new();
        let _ = write!(
            text,
            "\nFanfare {version} listens on {server}\n\n\
             \x20 self-check  {checked}\n\
             \x20 demo page   {server}{base}/demo\n\n\
             \x20 app id      {id}\n\
             \x20 key         {key}\n\
             \x20 secret      {secret}\n\n\
             Open the demo page, then send it an event from another terminal:\n\n\
             \x20 {curl}\n\n\
             That line is signed and good for ten minutes. This one does the same at any time:\n\n\
             \x20 {again}\n",
            version = env!("CARGO_PKG_VERSION"),
            base = config.http.base_path,
            id = self.app_id,
            key = self.key,
            secret = self.secret(),
        );
        text
    }
}

impl Demo {
    /// Returns the command that publishes to the demo app from any terminal. It names the server if the defaults would
    /// not find it.
    fn command(&self, listen: SocketAddr, config: &Config, data: &str) -> String {
        let program = program_name();
        let mut line = format!("{program} publish {EVENT_CHANNEL} greeting '{data}'");
        let is_default =
            listen == Config::default().listen.first_tcp() && config.client_prefix().is_empty();
        if is_default && !config.names_store() {
            return line;
        }
        let Self { app_id, key, .. } = self;
        let _ = write!(
            line,
            " --server http://{}{} --app {app_id} --key {key} --secret {}",
            reachable(listen),
            config.client_prefix(),
            self.secret()
        );
        line
    }
}

type Socket = WebSocketStream<TcpStream>;

async fn connect(listen: SocketAddr, path_prefix: &str, key: &str) -> anyhow::Result<Socket> {
    let stream = TcpStream::connect(listen)
        .await
        .with_context(|| format!("connecting to {listen}"))?;
    let url = format!("ws://{listen}{path_prefix}/app/{key}?protocol=7&client=fanfare-check");
    let (socket, _) = client_async(url, stream)
        .await
        .context("opening a WebSocket")?;
    Ok(socket)
}

async fn expect(socket: &mut Socket, event: &str) -> anyhow::Result<()> {
    while let Some(message) = socket.next().await {
        let Message::Text(text) = message? else {
            continue;
        };
        let value: Value = serde_json::from_str(&text)?;
        if value["event"] == event {
            return Ok(());
        }
        bail!("expected {event}, got {text}");
    }
    bail!("the WebSocket ended before {event} came")
}

fn hex_name() -> String {
    format!("{:016x}", rand::random::<u64>())
}

/// Returns how the user would call this program from the current folder.
fn program_name() -> String {
    let shown = || {
        let program = std::env::current_exe().ok()?;
        let here = std::env::current_dir().ok()?;
        let shown = program.strip_prefix(&here).unwrap_or(&program);
        Some(shown.display().to_string())
    };
    shown().unwrap_or_else(|| "fanfare".into())
}
