//! `fanfare webhook forward`: brings a webhook's deliveries to a receiver that the server can't reach, such as one on a
//! developer's machine. The one connection is outgoing: the server is asked for deliveries, and answers when it has some.

use std::time::Duration;

use clap::Args;
use reqwest::{Client, Url};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{Format, WebhookName, print_created};
use crate::admin::webhooks::deliveries::{Delivery, DeliveryList};
use crate::admin::webhooks::{CreatedWebhook, Webhook};
use crate::cli::api::{Api, Call};
use crate::cli::output;
use crate::cli::stop_signals::StopSignals;
use crate::failure::{Code, Failure, code_of, request_failed};
use crate::outbound;

/// Seconds that the server waits for a delivery before it answers that there is none. Less than the time-out of commands.
const WAIT: u32 = 20;
/// How long the receiver may take, as webhooks have it by default.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);
/// How long to wait before a lost server is asked again, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));
const NAME: &str = "fanfare webhook forward";

#[derive(Debug, Args)]
pub(crate) struct Forward {
    /// Where to bring deliveries, for example http://localhost:3000/webhooks
    target: String,
    /// The app's id
    #[arg(long, required_unless_present = "webhook")]
    app: Option<String>,
    /// The webhook's id [default: one is made, and deleted at the end]
    #[arg(long, value_name = "ID")]
    webhook: Option<String>,
    /// Begin with the deliveries in the log after this sequence number; 0 for all [default: with what happens from now on]
    #[arg(long, value_name = "SEQUENCE", requires = "webhook", value_parser = clap::value_parser!(i64).range(0..))]
    after: Option<i64>,
    /// An event that the webhook tells of that is made, several times for several [default: all]
    #[arg(long = "event", value_name = "NAME", conflicts_with = "webhook")]
    events: Vec<String>,
    /// A pattern of the channels that the webhook tells of that is made, several times for several [default: all]
    #[arg(long, value_name = "PATTERN", conflicts_with = "webhook")]
    channels: Vec<String>,
    /// The format of the webhook that is made
    #[arg(long, value_enum, default_value = "pusher", conflicts_with = "webhook")]
    format: Format,
}

/// The receiver to which deliveries are brought.
#[derive(Debug)]
struct Target {
    client: Client,
    url: Url,
}

pub(super) async fn run(forward: &Forward, api: &Api) -> anyhow::Result<()> {
    let target = Target::new(&forward.target)?;
    // Watched before there is a webhook to delete.
    let mut stop = StopSignals::watch()?;
    let Some(id) = &forward.webhook else {
        let created = forward.create(api).await?;
        let name = WebhookName {
            id: created.webhook.id.clone(),
            app: Some(created.webhook.app_id.clone()),
        };
        print_created(created)?;
        let forwarded = tokio::select! {
            () = stop.received() => Ok(()),
            failed = target.forward(&name, name.app(api).await?, 0, api) => failed,
        };
        let deleted = delete(&name, api).await;
        return forwarded.and(deleted);
    };
    let name = WebhookName {
        id: id.clone(),
        app: forward.app.clone(),
    };
    let app = name.app(api).await?;
    let after = match forward.after {
        Some(after) => after,
        None => {
            let webhook = api.send(Call::get(&name.path(&app))).await?;
            let webhook: Webhook = serde_json::from_value(webhook)?;
            webhook.health.last_sequence
        }
    };
    tokio::select! {
        () = stop.received() => Ok(()),
        failed = target.forward(&name, app, after, api) => failed,
    }
}

impl Forward {
    /// Makes a webhook whose deliveries are only kept for whoever asks.
    async fn create(&self, api: &Api) -> anyhow::Result<CreatedWebhook> {
        let events = Some(&self.events).filter(|events| !events.is_empty());
        let body = json!({
            "name": NAME,
            "events": events,
            "channels": self.channels,
            "format": fanfare_store::WebhookFormat::from(self.format),
        });
        let app = self.app.as_deref().unwrap_or_default();
        let answer = api
            .send(Call::post(&["apps", app, "webhooks"], body))
            .await?;
        Ok(serde_json::from_value(answer)?)
    }
}

/// Deletes the webhook that was made.
async fn delete(name: &WebhookName, api: &Api) -> anyhow::Result<()> {
    let app = name.app(api).await?;
    let deleted = api.send(Call::delete(&name.path(&app))).await;
    deleted.map(drop).map_err(|error| {
        error.context(format!(
            "the webhook that was made is left: fanfare webhook delete {} --app {app}",
            name.id
        ))
    })
}

impl Target {
    fn new(target: &str) -> anyhow::Result<Self> {
        let wrong = || {
            Failure::misuse(format!(
                "{target:?} is no address of http or https; write it like http://localhost:3000/webhooks"
            ))
        };
        let url: Url = target.parse().map_err(|_| wrong())?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(wrong().into());
        }
        let client = outbound::client(true, REQUEST_TIMEOUT)
            .map_err(|error| Failure::new(Code::Failed, request_failed(error)))?;
        Ok(Self { client, url })
    }

    /// Brings deliveries after a sequence number to the receiver until that can't go on: the server has refused.
    async fn forward(
        &self,
        name: &WebhookName,
        app: String,
        mut after: i64,
        api: &Api,
    ) -> anyhow::Result<()> {
        output::text(&format!(
            "deliveries of {} go to {} until Ctrl-C",
            name.id, self.url
        ))?;
        let path = name.below(&app, "deliveries");
        let mut retry = RETRY.0;
        loop {
            let call = Call::get(&path)
                .query("after", Some(after))
                .query("wait", Some(WAIT));
            let answer = match api.send(call).await {
                Ok(answer) => answer,
                Err(error) if code_of(&error) == Code::Unavailable => {
                    say(&format!("{error:#}; trying again in {} s", retry.as_secs()));
                    sleep(retry).await;
                    retry = (retry * 2).min(RETRY.1);
                    continue;
                }
                Err(error) => return Err(error),
            };
            if retry > RETRY.0 {
                say("the server answers again");
            }
            retry = RETRY.0;
            let list: DeliveryList = serde_json::from_value(answer)?;
            if let Some(oldest) = list.oldest.filter(|oldest| *oldest > after + 1) {
                say(&format!(
                    "deliveries before {oldest} are not in the log any more"
                ));
            }
            for delivery in list.items {
                self.bring(delivery).await?;
            }
            after = list.position;
        }
    }

    /// Sends one delivery, and prints what came of it.
    async fn bring(&self, delivery: Delivery) -> anyhow::Result<()> {
        let channel = delivery.channel.as_deref().unwrap_or("several channels");
        let what = format!(
            "{}  {}  {} {channel}",
            delivery.sequence,
            output::time(delivery.created_at),
            delivery.names.join(" "),
        );
        let Some(request) = delivery.request else {
            return output::text(&format!("{what}  without a request"));
        };
        let began = Instant::now();
        let mut sending = self.client.post(self.url.clone()).body(request.body);
        for (name, value) in &request.headers {
            sending = sending.header(name, value);
        }
        let came = match sending.send().await {
            Ok(response) => response.status().as_u16().to_string(),
            Err(error) => output::shortened(&request_failed(error)),
        };
        let took = began.elapsed().as_millis();
        output::text(&output::printable(&format!("{what}  {came}  {took} ms")))
    }
}

#[expect(
    clippy::print_stderr,
    reason = "what isn't about a delivery doesn't go where deliveries are printed"
)]
fn say(text: &str) {
    eprintln!("fanfare: {text}");
}
