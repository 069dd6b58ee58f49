//! `fanfare webhook`.
//!
//! | module | what it holds |
//! |---|---|
//! | `log` | deliveries, attempts, replays and examples |
//! | `forward` | brings deliveries to a receiver that the server can't reach |
//! | `check` | finds out what a receiver doesn't do right |

use clap::{Args, Subcommand, ValueEnum};
use fanfare_store::{WebhookFormat, WebhookState};
use serde_json::{Map, Value, json};

use super::api::{Api, Call, ServerFlags};
use super::failure::{Code, Failure};
use super::lookup::app_of;
use super::{Creation, Listing, duration, output};
use crate::admin::webhooks::{CreatedWebhook, Health, Webhook};
use crate::config::Config;
use crate::startup::Begin;
use crate::webhooks::FAILING_FROM;

mod check;
mod forward;
mod log;

/// What the secret of a webhook of the format `pusher` is good for.
const SIGNS_NOTHING: &str = "nothing while the format is pusher: the app's oldest active key signs";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Add a webhook to an app; it tells of what happens from then on
    Create(Create),
    /// List an app's webhooks
    List {
        /// The app's id
        #[arg(long)]
        app: String,
        #[command(flatten)]
        listing: Listing,
    },
    /// Show a webhook, without its secrets
    Show {
        #[command(flatten)]
        webhook: WebhookName,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Change what a webhook tells of, where and how; the rest stays
    Update(Box<Update>),
    /// Send a webhook's deliveries again, after a pause or after Fanfare has disabled it
    Enable {
        #[command(flatten)]
        webhook: WebhookName,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Stop sending; deliveries are recorded and wait
    Pause {
        #[command(flatten)]
        webhook: WebhookName,
        /// Why, for other operators
        #[arg(long)]
        reason: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Delete a webhook, with what waits for it
    Delete {
        #[command(flatten)]
        webhook: WebhookName,
    },
    /// Give a webhook another secret; the old ones sign as well for a while
    RotateSecret {
        #[command(flatten)]
        webhook: WebhookName,
        /// How long the old ones sign as well: 90s, 15m, 24h or 7d; 0 for not at all
        #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = duration::any_seconds)]
        keep_old: u64,
        #[command(flatten)]
        creation: Creation,
    },
    /// Send a webhook's receiver an example of each event, at once and whatever the webhook's state
    Test(log::Test),
    /// List a webhook's deliveries, newest first; with --after, oldest first
    Deliveries(log::Deliveries),
    /// Show a delivery with every attempt to send it
    Delivery(log::ShowDelivery),
    /// Send deliveries again, marked as replays
    Replay(log::ReplayDeliveries),
    /// Bring deliveries to a receiver that the server can't reach, over one outgoing connection
    Forward(forward::Forward),
    /// Send a receiver what it will meet one day, and say what it doesn't do right
    ///
    /// Sends requests that are signed rightly, sent twice, with several events, with an unknown event, signed wrongly, not
    /// signed, and old. Exits with 1 if the receiver does something wrong.
    Check(check::Check),
}

#[derive(Debug, Args)]
pub(crate) struct WebhookName {
    /// The webhook's id
    id: String,
    /// The id of its app [default: looked up]
    #[arg(long)]
    app: Option<String>,
}

/// The format of a webhook's requests.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// As hosted Pusher sends them, signed with the app's key
    Pusher,
    /// As Standard Webhooks describes them, signed with a secret of the webhook
    Standard,
}

impl From<Format> for WebhookFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Pusher => Self::Pusher,
            Format::Standard => Self::Standard,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// The app's id
    #[arg(long)]
    app: String,
    /// Where deliveries are sent [default: nowhere, the receiver asks for them]
    #[arg(long)]
    url: Option<String>,
    /// An event to tell of, several times for several [default: all]
    #[arg(long = "event", value_name = "NAME")]
    events: Vec<String>,
    /// A pattern of channels to tell of, such as 'presence-room-*', several times for several [default: all]
    #[arg(long, value_name = "PATTERN")]
    channels: Vec<String>,
    /// The format of its requests
    #[arg(long, value_enum, default_value = "pusher")]
    format: Format,
    /// Let a request hold several events
    #[arg(long)]
    batch: bool,
    /// What people call it [default: the host of the URL]
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    /// A header of its requests, several times for several
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    #[command(flatten)]
    creation: Creation,
}

#[derive(Debug, Args)]
pub(crate) struct Update {
    #[command(flatten)]
    webhook: WebhookName,
    /// Where deliveries are sent
    #[arg(long)]
    url: Option<String>,
    /// Send nothing any more: the receiver asks for its deliveries
    #[arg(long, conflicts_with = "url")]
    no_url: bool,
    /// An event to tell of, several times for several
    #[arg(long = "event", value_name = "NAME")]
    events: Vec<String>,
    /// Tell of all events
    #[arg(long, conflicts_with = "events")]
    all_events: bool,
    /// A pattern of channels to tell of, several times for several
    #[arg(long, value_name = "PATTERN")]
    channels: Vec<String>,
    /// Tell of all channels
    #[arg(long, conflicts_with = "channels")]
    all_channels: bool,
    /// The format of its requests
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Let a request hold several events
    #[arg(long)]
    batch: bool,
    /// Let each request hold one event
    #[arg(long, conflicts_with = "batch")]
    no_batch: bool,
    /// What people call it
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    /// A header of its requests to set, several times for several
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    /// A header of its requests to remove, several times for several
    #[arg(long = "remove-header", value_name = "NAME")]
    removed_headers: Vec<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Reads a header as it is written in requests.
fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text
        .split_once(':')
        .ok_or("write a name, a colon and a value, such as 'Authorization: Bearer 1234'")?;
    Ok((name.trim().into(), value.trim().into()))
}

pub(crate) async fn run(
    command: Command,
    server: &ServerFlags,
    config: &Config,
) -> anyhow::Result<()> {
    if let Command::Check(check) = &command {
        // It needs neither a server nor, with a key and a secret, a store.
        return check::run(check, server, config).await;
    }
    let api = &server.open(config, Begin::Never).await?;
    match command {
        Command::Create(create) => run_create(create, api).await,
        Command::List { app, listing } => list(&app, &listing, api).await,
        Command::Show { webhook, json } => {
            let app = webhook.app(api).await?;
            show(api.send(Call::get(&webhook.path(&app))).await?, json)
        }
        Command::Update(update) => run_update(*update, api).await,
        Command::Enable { webhook, json } => {
            let body = json!({"state": WebhookState::Active});
            set_state(&webhook, body, json, api).await
        }
        Command::Pause {
            webhook,
            reason,
            json,
        } => {
            let body = json!({"state": WebhookState::Paused, "reason": reason});
            set_state(&webhook, body, json, api).await
        }
        Command::Delete { webhook } => {
            let app = webhook.app(api).await?;
            api.send(Call::delete(&webhook.path(&app))).await?;
            output::text(&format!("deleted {}", webhook.id))
        }
        Command::RotateSecret {
            webhook,
            keep_old,
            creation,
        } => rotate_secret(&webhook, keep_old, creation, api).await,
        Command::Test(test) => log::test(&test, api).await,
        Command::Deliveries(deliveries) => log::list(&deliveries, api).await,
        Command::Delivery(show) => log::show(&show, api).await,
        Command::Replay(replay) => log::replay(&replay, api).await,
        Command::Forward(forward) => forward::run(&forward, api).await,
        // Done above.
        Command::Check(_) => Ok(()),
    }
}

async fn run_create(create: Create, api: &Api) -> anyhow::Result<()> {
    let events = Some(create.events).filter(|events| !events.is_empty());
    let headers: Map<String, Value> = create
        .headers
        .into_iter()
        .map(|(name, value)| (name, value.into()))
        .collect();
    let body = json!({
        "name": create.name,
        "url": create.url,
        "events": events,
        "channels": create.channels,
        "format": WebhookFormat::from(create.format),
        "batch": create.batch,
        "headers": headers,
    });
    let call = Call::post(&["apps", &create.app, "webhooks"], body);
    let call = call.with_idempotency_key(create.creation.idempotency_key);
    let answer = api.send(call).await?;
    output::answer(answer, create.creation.json, |created| {
        print_created(created)
    })
}

/// Prints a webhook with its newest secret, if its receiver needs one.
fn print_created(CreatedWebhook { webhook, secret }: CreatedWebhook) -> anyhow::Result<()> {
    let signed = match webhook.format {
        WebhookFormat::Standard => ("secret", secret),
        WebhookFormat::Pusher => ("signed", "with the app's oldest active key".into()),
    };
    output::fields(&[
        ("app", webhook.app_id),
        ("webhook", webhook.id),
        ("name", webhook.name),
        ("url", url(webhook.url)),
        signed,
    ])
}

async fn run_update(update: Update, api: &Api) -> anyhow::Result<()> {
    let app = update.webhook.app(api).await?;
    let path = update.webhook.path(&app);
    let answer = api.send(Call::patch(&path, update.patch())).await?;
    show(answer, update.json)
}

impl Update {
    /// Returns the fields to change, as the API takes them.
    fn patch(&self) -> Value {
        let mut patch = Map::new();
        let mut set = |field: &str, value: Value| patch.insert(field.to_owned(), value);
        if self.url.is_some() || self.no_url {
            set("url", json!(self.url));
        }
        if self.all_events {
            set("events", Value::Null);
        } else if !self.events.is_empty() {
            set("events", json!(self.events));
        }
        if self.all_channels || !self.channels.is_empty() {
            set("channels", json!(self.channels));
        }
        if let Some(format) = self.format {
            set("format", json!(WebhookFormat::from(format)));
        }
        if self.batch || self.no_batch {
            set("batch", json!(self.batch));
        }
        if let Some(name) = &self.name {
            set("name", json!(name));
        }
        let removed = self.removed_headers.iter().map(|name| (name, Value::Null));
        let headers = self
            .headers
            .iter()
            .map(|(name, value)| (name, json!(value)));
        let headers: Map<String, Value> = removed
            .chain(headers)
            .map(|(name, value)| (name.clone(), value))
            .collect();
        if !headers.is_empty() {
            set("headers", headers.into());
        }
        patch.into()
    }
}

async fn set_state(
    webhook: &WebhookName,
    body: Value,
    json: bool,
    api: &Api,
) -> anyhow::Result<()> {
    let app = webhook.app(api).await?;
    let path = webhook.below(&app, "state");
    show(api.send(Call::put(&path, body)).await?, json)
}

async fn rotate_secret(
    webhook: &WebhookName,
    keep_old: u64,
    creation: Creation,
    api: &Api,
) -> anyhow::Result<()> {
    let app = webhook.app(api).await?;
    let path = webhook.below(&app, "secrets");
    let call = Call::post(&path, json!({"keep_old_for": keep_old}));
    let call = call.with_idempotency_key(creation.idempotency_key);
    let answer = api.send(call).await?;
    output::answer(answer, creation.json, |created: CreatedWebhook| {
        let old = created.webhook.secrets.get(1);
        let old = old.and_then(|old| old.expires_at);
        let mut fields = vec![
            ("webhook", created.webhook.id),
            ("secret", created.secret),
            ("old until", output::time_or(old, "now")),
        ];
        if created.webhook.format == WebhookFormat::Pusher {
            fields.push(("signs", SIGNS_NOTHING.into()));
        }
        output::fields(&fields)
    })
}

async fn list(app: &str, listing: &Listing, api: &Api) -> anyhow::Result<()> {
    let call = || Call::get(&["apps", app, "webhooks"]);
    let answer = api.list(call, listing.limit()).await?;
    let headings = [
        "ID",
        "NAME",
        "URL",
        "EVENTS",
        "CHANNELS",
        "FORMAT",
        "STATE",
        "WAITING",
        "LAST SUCCESS",
    ];
    output::list(answer, listing.json, &headings, |webhook: Webhook| {
        vec![
            webhook.id.clone(),
            webhook.name.clone(),
            url(webhook.url.clone()),
            all_or(webhook.events.as_deref().unwrap_or_default()),
            all_or(&webhook.channels),
            webhook.format.to_string(),
            state(&webhook),
            webhook.health.waiting.to_string(),
            output::time_or(webhook.health.last_success_at, "never"),
        ]
    })
}

fn show(answer: Value, json: bool) -> anyhow::Result<()> {
    output::answer(answer, json, |webhook: Webhook| {
        let state = match &webhook.state_reason {
            Some(reason) => format!("{}: {reason}", state(&webhook)),
            None => state(&webhook),
        };
        let headers: Vec<&str> = webhook.headers.keys().map(String::as_str).collect();
        let secrets = webhook.secrets.iter().map(|secret| {
            let created = output::time(secret.created_at);
            match secret.expires_at {
                Some(at) => format!("{created} until {}", output::time(at)),
                None => created,
            }
        });
        let secrets: Vec<String> = secrets.collect();
        output::fields(&[
            ("app", webhook.app_id.clone()),
            ("webhook", webhook.id.clone()),
            ("name", webhook.name.clone()),
            ("url", url(webhook.url.clone())),
            (
                "events",
                all_or(webhook.events.as_deref().unwrap_or_default()),
            ),
            ("channels", all_or(&webhook.channels)),
            ("format", webhook.format.to_string()),
            ("batch", output::yes(webhook.batch)),
            ("headers", headers.join(", ")),
            ("secrets of", secrets.join(", ")),
            ("state", state),
            ("created", output::time(webhook.created_at)),
            ("last delivery", webhook.health.last_sequence.to_string()),
            ("waiting", waiting(&webhook.health)),
            (
                "last success",
                output::time_or(webhook.health.last_success_at, "never"),
            ),
            (
                "last failure",
                output::time_or(webhook.health.last_failure_at, "never"),
            ),
            ("failures", failures(&webhook.health)),
        ])
    })
}

/// Returns a webhook's state, or that its receiver fails, by the rule of the alerts.
fn state(webhook: &Webhook) -> String {
    let is_failing = webhook.health.failures >= i64::from(FAILING_FROM);
    match webhook.state {
        WebhookState::Active if is_failing => "failing".into(),
        state => state.to_string(),
    }
}

fn waiting(health: &Health) -> String {
    match health.next_attempt_at {
        Some(at) if health.waiting > 0 => {
            format!("{}, the next at {}", health.waiting, output::time(at))
        }
        _ => health.waiting.to_string(),
    }
}

fn failures(health: &Health) -> String {
    match health.failing_since {
        Some(since) => format!("{} since {}", health.failures, output::time(since)),
        None => "none since the last success".into(),
    }
}

fn url(url: Option<String>) -> String {
    url.unwrap_or_else(|| "none, pulled".into())
}

fn all_or(names: &[String]) -> String {
    match names {
        [] => "all".into(),
        names => names.join(" "),
    }
}

impl WebhookName {
    /// Returns the id of the webhook's app, and searches all apps if it wasn't given.
    async fn app(&self, api: &Api) -> anyhow::Result<String> {
        if let Some(app) = &self.app {
            return Ok(app.clone());
        }
        let found = app_of(api, "webhooks", "id", &self.id).await?;
        let none = || Failure::new(Code::NotFound, format!("there is no webhook {:?}", self.id));
        Ok(found.ok_or_else(none)?)
    }

    fn path<'a>(&'a self, app: &'a str) -> [&'a str; 4] {
        ["apps", app, "webhooks", &self.id]
    }

    fn below<'a>(&'a self, app: &'a str, part: &'a str) -> [&'a str; 5] {
        ["apps", app, "webhooks", &self.id, part]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_webhook_is_failing_after_ten_failures_in_a_row_and_not_before() {
        let of = |state: &str, failures: i64| {
            let webhook = json!({
                "id": "wh_1", "app_id": "1", "name": "a", "url": null, "events": null, "channels": [], "format": "pusher",
                "batch": false, "headers": {}, "state": state, "state_reason": null, "secrets": [], "created_at": 0,
                "updated_at": 0, "health": {
                    "last_sequence": 1, "waiting": 1, "next_attempt_at": null, "failures": failures, "failing_since": 1,
                    "last_success_at": null, "last_failure_at": 1,
                },
            });
            super::state(&serde_json::from_value(webhook).expect("a webhook"))
        };
        assert_eq!(of("active", 9), "active");
        assert_eq!(of("active", 10), "failing");
        assert_eq!(of("paused", 10), "paused");
    }
}
