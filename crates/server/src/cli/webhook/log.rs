//! The log of a webhook: deliveries, attempts, replays; and examples for its receiver.

use clap::Args;
use serde_json::{Map, Value, json};

use super::WebhookName;
use crate::admin::webhooks::deliveries::{Attempt, Delivery};
use crate::admin::webhooks::replay::{Replayed, TestResult, TestResults};
use crate::cli::api::{Api, Call};
use crate::cli::{duration, output};
use crate::failure::{Code, Failure};

/// Which deliveries are meant.
#[derive(Debug, Args)]
struct Filter {
    /// Those after this sequence number; 0 for all
    #[arg(long, value_name = "SEQUENCE", value_parser = clap::value_parser!(i64).range(0..))]
    after: Option<i64>,
    /// Those before this sequence number
    #[arg(long, value_name = "SEQUENCE")]
    before: Option<i64>,
    /// Those that are waiting, delivered, failed or kept
    #[arg(long)]
    state: Option<String>,
    /// Those with an event of this name
    #[arg(long, value_name = "NAME")]
    event: Option<String>,
    /// Those with an event of this channel
    #[arg(long)]
    channel: Option<String>,
    /// Those recorded since a time, or since so long ago: 15m, 24h, 7d
    #[arg(long, value_name = "TIME", value_parser = duration::time_or_ago)]
    from: Option<i64>,
    /// Those recorded before a time
    #[arg(long, value_name = "TIME", value_parser = duration::time_or_ago)]
    to: Option<i64>,
}

#[derive(Debug, Args)]
pub(crate) struct Deliveries {
    #[command(flatten)]
    webhook: WebhookName,
    #[command(flatten)]
    filter: Filter,
    /// Print no more than so many
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Print JSON; with --after, with the signed requests
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ShowDelivery {
    #[command(flatten)]
    webhook: WebhookName,
    /// The delivery's sequence number; it may be left out if the id is that of a delivery
    #[arg(value_parser = sequence)]
    sequence: Option<i64>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ReplayDeliveries {
    #[command(flatten)]
    webhook: WebhookName,
    /// A delivery, several times for several
    #[arg(
        long = "sequence",
        value_name = "N",
        conflicts_with_all = ["after", "before", "state", "event", "channel", "from", "to"]
    )]
    sequences: Vec<i64>,
    #[command(flatten)]
    filter: Filter,
    /// Only count them
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Test {
    #[command(flatten)]
    webhook: WebhookName,
    /// The event to send an example of [default: each that the webhook tells of]
    #[arg(long, value_name = "NAME")]
    event: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn list(deliveries: &Deliveries, api: &Api) -> anyhow::Result<()> {
    let app = deliveries.webhook.app(api).await?;
    let filter = &deliveries.filter;
    let call = || {
        Call::get(&deliveries.webhook.below(&app, "deliveries"))
            .query("after", filter.after)
            .query("before", filter.before)
            .query("state", filter.state.as_ref())
            .query("event", filter.event.as_ref())
            .query("channel", filter.channel.as_ref())
            .query("from", filter.from)
            .query("to", filter.to)
    };
    let limit = usize::try_from(deliveries.limit).unwrap_or(usize::MAX);
    let answer = api.list(call, Some(limit)).await?;
    let headings = [
        "SEQUENCE", "RECORDED", "STATE", "EVENTS", "CHANNEL", "ATTEMPTS", "FINISHED",
    ];
    output::list(answer, deliveries.json, &headings, |delivery: Delivery| {
        vec![
            delivery.sequence.to_string(),
            output::time(delivery.created_at),
            delivery.state.to_string(),
            delivery.names.join(" "),
            delivery.channel.unwrap_or_else(|| "several".into()),
            delivery.attempt_count.to_string(),
            output::time_or(delivery.finished_at, ""),
        ]
    })
}

pub(super) async fn show(show: &ShowDelivery, api: &Api) -> anyhow::Result<()> {
    let (webhook, sequence) = show.delivery()?;
    let app = webhook.app(api).await?;
    let sequence = sequence.to_string();
    let [apps, app, webhooks, id] = webhook.path(&app);
    let call = Call::get(&[apps, app, webhooks, id, "deliveries", &sequence]);
    output::answer(api.send(call).await?, show.json, print_delivery)
}

/// Reads a sequence number, or the id of a delivery, as receivers get it.
fn sequence(text: &str) -> Result<i64, String> {
    let number = text.rsplit_once('_').map_or(text, |(_, number)| number);
    let number = number.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| {
        "write the number of the delivery, such as 7, or its id, such as wh_9e3f7a10c5d8b2461f7e_7".into()
    })
}

impl ShowDelivery {
    /// Returns the webhook and the sequence number, which the id may hold.
    fn delivery(&self) -> anyhow::Result<(WebhookName, i64)> {
        let WebhookName { id, app } = &self.webhook;
        let of_delivery = id
            .rsplit_once('_')
            .filter(|(webhook, _)| webhook.contains('_'));
        let (id, in_id) = match of_delivery {
            Some((webhook, _)) => (webhook, Some(sequence(id).map_err(Failure::misuse)?)),
            None => (id.as_str(), None),
        };
        let found = self.sequence.or(in_id).ok_or_else(|| {
            Failure::misuse(format!(
                "which delivery of {id}? Pass its number: fanfare webhook delivery {id} 7"
            ))
        })?;
        let webhook = WebhookName {
            id: id.to_owned(),
            app: app.clone(),
        };
        Ok((webhook, found))
    }
}

fn print_delivery(mut found: Value) -> anyhow::Result<()> {
    let attempts: Vec<Attempt> = serde_json::from_value(found["attempts"].take())?;
    let delivery: Delivery = serde_json::from_value(found)?;
    output::fields(&[
        ("delivery", delivery.id),
        ("recorded", output::time(delivery.created_at)),
        ("state", delivery.state.to_string()),
        ("finished", output::time_or(delivery.finished_at, "not yet")),
        ("events", delivery.events.get().to_owned()),
    ])?;
    if attempts.is_empty() {
        return Ok(());
    }
    let headings = [
        "ATTEMPT", "AT", "TOOK", "STATUS", "REPLAY", "NODE", "ANSWER",
    ];
    let rows: Vec<Vec<String>> = attempts.into_iter().map(attempt_row).collect();
    output::text("")?;
    output::table(&headings, &rows)
}

fn attempt_row(attempt: Attempt) -> Vec<String> {
    // Why it failed, and what the receiver said of that.
    let parts = [attempt.error, attempt.answer].into_iter().flatten();
    let said = parts.collect::<Vec<_>>().join(": ");
    vec![
        attempt.attempt.to_string(),
        output::time(attempt.at),
        format!("{} ms", attempt.milliseconds),
        attempt
            .status
            .map_or("none".into(), |status| status.to_string()),
        output::yes(attempt.is_replay),
        attempt.node,
        output::shortened(&said),
    ]
}

pub(super) async fn replay(replay: &ReplayDeliveries, api: &Api) -> anyhow::Result<()> {
    let app = replay.webhook.app(api).await?;
    let path = replay.webhook.below(&app, "replay");
    let mut selection = replay.selection();
    let mut all = Replayed {
        dry_run: replay.dry_run,
        ..Replayed::default()
    };
    loop {
        let call = Call::post(&path, Value::Object(selection.clone()));
        let replayed: Replayed = serde_json::from_value(api.send(call).await?)?;
        all.deliveries += replayed.deliveries;
        all.waiting += replayed.waiting;
        all.unknown.extend(replayed.unknown);
        let Some(next) = replayed.next else { break };
        selection.insert("after".into(), next.into());
    }
    if replay.json {
        return output::json(&serde_json::to_value(&all)?);
    }
    output::text(&said_of(&all))
}

/// Returns what was done, and why not more.
fn said_of(all: &Replayed) -> String {
    let counted = |count: i64| match count {
        1 => "1 delivery".to_owned(),
        _ => format!("{count} deliveries"),
    };
    let verb = match all.dry_run {
        true => "would be sent again",
        false => "will be sent again",
    };
    let mut said = vec![format!("{} {verb}", counted(all.deliveries))];
    match all.waiting {
        0 => {}
        1 => said.push("1 is waiting to be sent already".into()),
        waiting => said.push(format!("{waiting} are waiting to be sent already")),
    }
    if !all.unknown.is_empty() {
        let unknown: Vec<String> = all.unknown.iter().map(i64::to_string).collect();
        said.push(format!("not in the log: {}", unknown.join(", ")));
    }
    if all.deliveries == 0 && said.len() == 1 {
        said.push("nothing in the log matches".into());
    }
    said.join("; ")
}

impl ReplayDeliveries {
    /// Returns the selection as the API takes it.
    fn selection(&self) -> Map<String, Value> {
        let filter = &self.filter;
        let sequences = Some(&self.sequences).filter(|sequences| !sequences.is_empty());
        let fields = [
            ("sequences", json!(sequences)),
            ("after", json!(filter.after)),
            ("before", json!(filter.before)),
            ("state", json!(filter.state)),
            ("event", json!(filter.event)),
            ("channel", json!(filter.channel)),
            ("from", json!(filter.from)),
            ("to", json!(filter.to)),
            ("dry_run", json!(self.dry_run)),
        ];
        let given = fields.into_iter().filter(|(_, value)| !value.is_null());
        given
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }
}

pub(super) async fn test(test: &Test, api: &Api) -> anyhow::Result<()> {
    let app = test.webhook.app(api).await?;
    let path = test.webhook.below(&app, "test");
    let answer = api
        .send(Call::post(&path, json!({"event": test.event})))
        .await?;
    let results: TestResults = serde_json::from_value(answer.clone())?;
    let failed = results
        .items
        .iter()
        .filter(|item| item.error.is_some())
        .count();
    let headings = ["EVENT", "STATUS", "TOOK", "ANSWER"];
    output::list(answer, test.json, &headings, |item: TestResult| {
        vec![
            item.event,
            item.status
                .map_or("none".into(), |status| status.to_string()),
            format!("{} ms", item.milliseconds),
            output::shortened(&item.error.unwrap_or(item.answer)),
        ]
    })?;
    if failed > 0 {
        let all = results.items.len();
        let message = format!("{failed} of {all} requests were not taken");
        return Err(Failure::new(Code::Failed, message).into());
    }
    Ok(())
}
