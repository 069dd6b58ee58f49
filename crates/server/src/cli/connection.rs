//! `fanfare connection`.

use clap::{Args, Subcommand};

use super::api::{Api, Call};
use super::{Listing, output};
use crate::nodes::{Connection, ConnectionDetails};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List an app's connections over all nodes; needs --server
    List {
        /// The app's id
        #[arg(long, value_name = "ID")]
        app: String,
        #[command(flatten)]
        filter: Filter,
        #[command(flatten)]
        listing: Listing,
    },
    /// Show one connection with its subscriptions, on whichever node it is; needs --server
    Show {
        #[command(flatten)]
        name: Name,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Close a connection; its client stays away until it is restarted; needs --server
    Close {
        #[command(flatten)]
        name: Name,
    },
}

/// Which connections are listed.
#[derive(Debug, Args)]
pub(crate) struct Filter {
    /// Those of a user: signed in, or a member of a presence channel
    #[arg(long, value_name = "ID")]
    user: Option<String>,
    /// Those from an address, or from a network like 10.0.0.0/8
    #[arg(long)]
    address: Option<String>,
    /// Those that came in with a key
    #[arg(long)]
    key: Option<String>,
    /// Those that are subscribed to a channel
    #[arg(long)]
    channel: Option<String>,
    /// Those of one node
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Those whose socket ids contain this
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
}

/// A connection by its name.
#[derive(Debug, Args)]
pub(crate) struct Name {
    /// The app's id
    #[arg(long, value_name = "ID")]
    app: String,
    /// The connection's socket id
    socket_id: String,
}

pub(crate) async fn run(command: Command, api: &Api) -> anyhow::Result<()> {
    let api = api.of_a_running_server()?;
    match command {
        Command::List {
            app,
            filter,
            listing,
        } => list(&app, &filter, &listing, api).await,
        Command::Show { name, json } => {
            let call = Call::get(&["apps", &name.app, "connections", &name.socket_id]);
            output::answer(api.send(call).await?, json, show)
        }
        Command::Close { name } => {
            let call = Call::delete(&["apps", &name.app, "connections", &name.socket_id]);
            api.send(call).await?;
            output::text(&format!("closed {}", name.socket_id))
        }
    }
}

async fn list(app: &str, filter: &Filter, listing: &Listing, api: &Api) -> anyhow::Result<()> {
    let call = || {
        Call::get(&["apps", app, "connections"])
            .query("user_id", filter.user.as_ref())
            .query("address", filter.address.as_ref())
            .query("key", filter.key.as_ref())
            .query("channel", filter.channel.as_ref())
            .query("node", filter.node.as_ref())
            .query("q", filter.search.as_ref())
    };
    print(api.list(call, listing.limit()).await?, listing.json)
}

/// Prints a list of connections.
pub(super) fn print(answer: serde_json::Value, json: bool) -> anyhow::Result<()> {
    let headings = [
        "SOCKET ID",
        "NODE",
        "USER",
        "ADDRESS",
        "CLIENT",
        "CONNECTED",
        "WAITING",
        "CHANNELS",
    ];
    output::list(answer, json, &headings, |found: Connection| {
        let client = client(&found);
        vec![
            found.socket_id,
            found.node,
            found.user_id.unwrap_or_default(),
            found.address.unwrap_or_default(),
            client,
            output::time(found.connected_at),
            found.waiting_bytes.to_string(),
            channels(found.channel_count, &found.channels),
        ]
    })
}

fn client(found: &Connection) -> String {
    let client = format!("{} {}", found.client, found.client_version);
    client.trim().to_owned()
}

/// Returns a few channels and how many there are.
fn channels(count: usize, names: &[String]) -> String {
    let few = &names[..names.len().min(3)];
    match count - few.len() {
        0 => few.join(" "),
        more => format!("{} and {more} more", few.join(" ")),
    }
}

fn show(found: ConnectionDetails) -> anyhow::Result<()> {
    let ConnectionDetails {
        connection,
        subscriptions,
        recent,
    } = found;
    let round_trip = connection.round_trip_ms;
    let mut fields = vec![
        ("node", connection.node.clone()),
        ("key", connection.key.clone()),
        ("transport", connection.transport.as_str().to_owned()),
        ("client", client(&connection)),
        ("address", connection.address.unwrap_or_default()),
        ("user", connection.user_id.unwrap_or_default()),
        ("connected", output::time(connection.connected_at)),
        ("heard", output::time(connection.heard_at)),
        (
            "received",
            traffic(connection.messages_in.into(), connection.bytes_in),
        ),
        (
            "sent",
            traffic(connection.messages_out, connection.bytes_out),
        ),
        (
            "waiting",
            format!(
                "{} bytes, {} at most",
                connection.waiting_bytes, connection.waiting_bytes_peak
            ),
        ),
        (
            "round trip",
            round_trip.map_or("not known".into(), |ms| format!("{ms:.1} ms")),
        ),
    ];
    for subscription in subscriptions {
        let since = output::time_or(subscription.subscribed_at, "a time that is not known");
        let position = subscription
            .position
            .map_or_else(String::new, |position| format!(", at {position}"));
        let text = format!("{} since {since}{position}", subscription.channel);
        fields.push(("channel", text));
    }
    for entry in recent {
        let text = format!("{} {}", output::time(entry.at), entry.what);
        fields.push(("recent", text));
    }
    output::fields(&fields)
}

fn traffic(messages: u64, bytes: u64) -> String {
    format!("{messages} messages, {bytes} bytes")
}
