//! `fanfare channel`.

use clap::{Args, Subcommand};

use super::api::{Api, Call};
use super::{Listing, app, connection, duration, output};
use crate::admin::channels::{ChannelDetails, HistoryEvents};
use crate::explanation::Explanation;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List an app's occupied channels; needs --server
    List {
        /// The app's id
        #[arg(long, value_name = "ID")]
        app: String,
        /// How their names start
        #[arg(long)]
        prefix: Option<String>,
        #[command(flatten)]
        listing: Listing,
    },
    /// Show a channel: subscribers, kept event, history; needs --server
    Show {
        #[command(flatten)]
        name: Name,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List the subscribers of a channel over all nodes; needs --server
    Subscribers {
        #[command(flatten)]
        name: Name,
        #[command(flatten)]
        listing: Listing,
    },
    /// Show the events that a channel's history keeps, the newest first; needs --server
    History {
        #[command(flatten)]
        name: Name,
        /// Those after a position, the oldest first; 0 for all that are kept
        #[arg(long, value_name = "POSITION", conflicts_with = "before")]
        after: Option<String>,
        /// Those before a position
        #[arg(long, value_name = "POSITION")]
        before: Option<String>,
        /// Print so many, at most 200
        #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=200))]
        limit: u16,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Tell why a client has not got an event; needs --server
    Explain {
        #[command(flatten)]
        name: Name,
        /// The event's name [default: the newest event]
        #[arg(long, value_name = "NAME")]
        event: Option<String>,
        /// The user who has not got it
        #[arg(
            long,
            value_name = "ID",
            required_unless_present = "socket_id",
            conflicts_with = "socket_id"
        )]
        user: Option<String>,
        /// The connection that has not got it
        #[arg(long, value_name = "ID")]
        socket_id: Option<String>,
        /// Look for events since a time, or since so long ago: 15m, 24h, 7d [default: 1h]
        #[arg(long, value_name = "TIME", value_parser = duration::time_or_ago)]
        since: Option<i64>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// A channel by its name.
#[derive(Debug, Args)]
pub(crate) struct Name {
    /// The app's id
    #[arg(long, value_name = "ID")]
    app: String,
    /// The channel's name
    channel: String,
}

impl Name {
    /// Returns a `GET` of the channel, or of something below it.
    fn get(&self, below: &[&str]) -> Call {
        let path = ["apps", &self.app, "channels", &self.channel];
        Call::get(&[&path[..], below].concat())
    }
}

pub(crate) async fn run(command: Command, api: &Api) -> anyhow::Result<()> {
    let api = api.of_a_running_server()?;
    match command {
        Command::List {
            app,
            prefix,
            listing,
        } => app::channels(&app, prefix.as_deref(), &listing, api).await,
        Command::Show { name, json } => output::answer(api.send(name.get(&[])).await?, json, show),
        Command::Subscribers { name, listing } => {
            let answer = api.list(|| name.get(&["subscribers"]), listing.limit());
            connection::print(answer.await?, listing.json)
        }
        Command::History {
            name,
            after,
            before,
            limit,
            json,
        } => {
            let call = name.get(&["history"]).query("after", after);
            let call = call.query("before", before).query("limit", Some(limit));
            output::answer(api.send(call).await?, json, history)
        }
        Command::Explain {
            name,
            event,
            user,
            socket_id,
            since,
            json,
        } => {
            let call = Call::get(&["apps", &name.app, "explain"])
                .query("channel", Some(&name.channel))
                .query("event", event)
                .query("user_id", user)
                .query("socket_id", socket_id)
                .query("since", since);
            output::answer(api.send(call).await?, json, explain)
        }
    }
}

fn show(found: ChannelDetails) -> anyhow::Result<()> {
    let count = found.channel.subscription_count.to_string();
    let mut fields = vec![("channel", found.channel.name), ("subscribers", count)];
    if let Some(users) = found.channel.user_count {
        fields.push(("users", users.to_string()));
    }
    if let Some(kept) = found.cache {
        let until = output::time(kept.expires_at);
        let text = format!("{}, {} bytes, until {until}", kept.event, kept.data_bytes);
        fields.push(("kept event", text));
    }
    if let Some(history) = found.history {
        let rule = history.rule;
        let text = format!("{}: {} events, {} s", rule.channels, rule.size, rule.ttl);
        fields.push(("history", text));
        let oldest = history.oldest.unwrap_or_else(|| "nothing kept".into());
        fields.push(("positions", format!("{oldest} to {}", history.newest)));
    }
    if let Some(rate) = found.events_per_minute {
        fields.push(("events/min", format!("{rate:.0}")));
    }
    output::fields(&fields)
}

fn history(page: HistoryEvents) -> anyhow::Result<()> {
    let rows: Vec<_> = page
        .items
        .into_iter()
        .map(|event| {
            let time = i64::try_from(event.time_ms).unwrap_or(i64::MAX);
            let data = event
                .data
                .unwrap_or_else(|| format!("{} bytes", event.data_bytes));
            vec![event.position, output::time(time), event.event, data]
        })
        .collect();
    output::table(&["POSITION", "PUBLISHED", "EVENT", "DATA"], &rows)
}

fn explain(found: Explanation) -> anyhow::Result<()> {
    let mut lines = vec![output::printable(&found.answer)];
    for evidence in found.evidence {
        let at = output::time_or(evidence.at, "now");
        lines.push(format!("  {at:20}  {}", output::printable(&evidence.what)));
    }
    output::text(&lines.join("\n"))
}
