//! The connections of an app on a node, and closing one.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use fanfare_engine::{
    App, ConnectionFilter, ConnectionInfo, ConnectionPlace, MAX_LISTED_CHANNELS, SubscriptionInfo,
};
use fanfare_protocol::{AppKey, ChannelName, Framing, SocketId, UserId};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Ask;
use crate::app_state::AppState;
use crate::clock::unix_millis;

/// The transport of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Transport {
    /// A WebSocket of Pusher's protocol.
    WebSocket,
    /// One of the HTTP fallbacks.
    Http,
    /// A WebSocket with plain JSON objects, or with data alone.
    #[serde(rename = "plain_websocket")]
    PlainWebSocket,
    /// A stream of Server-Sent Events.
    Sse,
    /// A client of Socket.IO in one of its namespaces.
    #[serde(rename = "socket_io")]
    SocketIo,
}

impl Transport {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::WebSocket => "websocket",
            Self::Http => "http",
            Self::PlainWebSocket => "plain_websocket",
            Self::Sse => "sse",
            Self::SocketIo => "socket_io",
        }
    }
}

/// A connected client. `messages_in` stops at 4,294,967,295.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub(crate) struct Connection {
    /// Its public name.
    #[schema(example = "123.456")]
    pub(crate) socket_id: String,
    /// The node that it is on.
    #[schema(example = "web-1-9f3c21d0")]
    pub(crate) node: String,
    /// The key it came in with.
    pub(crate) key: String,
    /// `websocket`, `http` for the fallbacks, `plain_websocket`, `sse`, or `socket_io`.
    pub(crate) transport: Transport,
    /// Its network address; `null` where it isn't known.
    #[schema(required, example = "203.0.113.7")]
    pub(crate) address: Option<String>,
    /// The name that its client library gives itself: `js` for pusher-js; empty if it gives none.
    #[schema(example = "js")]
    pub(crate) client: String,
    /// The version of the library; empty if it says none.
    #[schema(example = "8.4.0")]
    pub(crate) client_version: String,
    /// The user who is signed in.
    #[schema(required)]
    pub(crate) user_id: Option<String>,
    /// When it came in, Unix time in milliseconds.
    pub(crate) connected_at: i64,
    /// When it was heard last, Unix time in milliseconds.
    pub(crate) heard_at: i64,
    /// Bytes of the messages that it sent.
    pub(crate) bytes_in: u64,
    /// Bytes that were written to it.
    pub(crate) bytes_out: u64,
    /// Messages that it sent.
    pub(crate) messages_in: u32,
    /// Messages that were queued for it.
    pub(crate) messages_out: u64,
    /// Bytes that wait until the client reads.
    pub(crate) waiting_bytes: usize,
    /// The most bytes that waited while its socket took nothing.
    pub(crate) waiting_bytes_peak: u32,
    /// Milliseconds that the answer to the last PING took; `null` before the first one and on the fallbacks.
    #[schema(required)]
    pub(crate) round_trip_ms: Option<f64>,
    /// Whether it may have missed events, so that it gets no more and will be closed with 4101.
    pub(crate) is_fenced: bool,
    /// How many channels it is subscribed to.
    pub(crate) channel_count: usize,
    /// The channels that it is subscribed to, by name: the first 50 of them.
    pub(crate) channels: Vec<String>,
}

/// A connected client with its subscriptions.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub(crate) struct ConnectionDetails {
    #[serde(flatten)]
    pub(crate) connection: Connection,
    /// Its subscriptions, by channel: the first 1,000 of them.
    pub(crate) subscriptions: Vec<Subscription>,
    /// The last 32 things that happened to it, the oldest first. Fewer are kept where many clients have many.
    // Nodes of earlier versions tell of none.
    #[serde(default)]
    #[schema(required)]
    pub(crate) recent: Vec<LifecycleEntry>,
}

/// What kind of thing happened to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LifecycleKind {
    /// It connected.
    Connected,
    /// Its user signed in.
    SignedIn,
    /// It subscribed to a channel.
    Subscribed,
    /// It recovered what it had missed of a channel.
    Recovered,
    /// It could not recover what it had missed of a channel.
    NotRecovered,
    /// It unsubscribed from a channel.
    Unsubscribed,
    /// Events of the client were sent to a channel.
    ClientEvent,
    /// It was refused something.
    Refused,
}

/// Something that happened to a connection, once or several times.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub(crate) struct LifecycleEntry {
    /// When it happened last, Unix time in milliseconds.
    pub(crate) at: i64,
    /// What kind of thing it was.
    pub(crate) kind: LifecycleKind,
    /// How often it happened.
    #[schema(example = 1)]
    pub(crate) count: u32,
    /// The channel.
    #[schema(required)]
    pub(crate) channel: Option<String>,
    /// The same in words. What quotes the client's data is left out.
    #[schema(example = "subscribed to presence-room-1")]
    pub(crate) what: String,
}

impl LifecycleEntry {
    fn of(entry: &fanfare_engine::LifecycleEntry) -> Self {
        use fanfare_engine::LifecycleKind as Kind;
        let channel = entry.channel.as_deref().unwrap_or_default();
        let text = entry.text.as_deref();
        let with = |before: &str| text.map_or_else(String::new, |text| format!("{before}{text}"));
        let (kind, what) = match entry.kind {
            Kind::Connected => (
                LifecycleKind::Connected,
                format!("connected{}", with(" with ")),
            ),
            Kind::SignedIn => (
                LifecycleKind::SignedIn,
                format!("signed in{}", with(" as ")),
            ),
            Kind::Subscribed => (
                LifecycleKind::Subscribed,
                format!("subscribed to {channel}{}", with(" as ")),
            ),
            Kind::Recovered => (
                LifecycleKind::Recovered,
                format!("recovered what it had missed of {channel}"),
            ),
            Kind::NotRecovered => (
                LifecycleKind::NotRecovered,
                format!(
                    "could not recover what it had missed of {channel}{}",
                    with(": ")
                ),
            ),
            Kind::Unsubscribed => (
                LifecycleKind::Unsubscribed,
                format!("unsubscribed from {channel}"),
            ),
            Kind::ClientEvent => {
                let what = match entry.count {
                    1 => format!("sent{} to {channel}", with(" ")),
                    more => format!(
                        "sent {more} client events to {channel}{}",
                        with(", the last ")
                    ),
                };
                (LifecycleKind::ClientEvent, what)
            }
            Kind::Refused => {
                let times = match entry.count {
                    1 => String::new(),
                    more => format!(" {more} times"),
                };
                let on = entry.channel.as_ref();
                let on = on.map_or_else(String::new, |channel| format!(" on {channel}"));
                let what = format!("was refused{on}{times}{}", with(": "));
                (LifecycleKind::Refused, what)
            }
        };
        Self {
            at: at(entry.ago),
            kind,
            count: entry.count,
            channel: entry.channel.clone(),
            what,
        }
    }
}

/// A subscription of a connection.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub(crate) struct Subscription {
    /// The channel.
    #[schema(example = "presence-room-1")]
    pub(crate) channel: String,
    /// When it was made, Unix time in milliseconds; `null` if that was more than 49 days after the client connected.
    #[schema(required)]
    pub(crate) subscribed_at: Option<i64>,
    /// The member, on presence channels.
    #[schema(required)]
    pub(crate) user_id: Option<String>,
    /// Whether the client gets positions of the channel's history, so that it can recover what it missed.
    pub(crate) recovers: bool,
    /// The position in the channel's history up to which everything is written to the client. `null` if the channel keeps
    /// none, if something waits, and after the first 20 subscriptions.
    #[schema(required)]
    pub(crate) position: Option<String>,
}

/// Returns when something was, as Unix time in milliseconds.
pub(super) fn at(ago: Duration) -> i64 {
    let now = unix_millis();
    now - i64::try_from(ago.as_millis()).unwrap_or(now)
}

impl Connection {
    fn of(found: &ConnectionInfo, node: &str) -> Self {
        let traffic = found.traffic;
        let (client, client_version) = found.client.clone();
        let channels = found.channels.iter().take(MAX_LISTED_CHANNELS);
        Self {
            socket_id: found.socket_id.to_string(),
            node: node.to_owned(),
            key: found.key.to_string(),
            transport: match found.transport {
                Framing::WebSocket => Transport::WebSocket,
                Framing::SockJs => Transport::Http,
                Framing::Object | Framing::Raw => Transport::PlainWebSocket,
                Framing::EventStream(_) => Transport::Sse,
                Framing::SocketIo => Transport::SocketIo,
            },
            address: found.address.map(|address| address.to_string()),
            client,
            client_version,
            user_id: found.user_id.as_ref().map(ToString::to_string),
            connected_at: at(found.age),
            heard_at: at(found.silent),
            bytes_in: traffic.bytes_in,
            bytes_out: traffic.bytes_out,
            messages_in: traffic.messages_in,
            messages_out: traffic.messages_out,
            waiting_bytes: found.waiting_bytes,
            waiting_bytes_peak: traffic.waiting_bytes_peak,
            round_trip_ms: found.round_trip.map(|took| took.as_secs_f64() * 1000.0),
            is_fenced: found.is_fenced,
            channel_count: found.channel_count,
            channels: channels.map(|found| found.channel.to_string()).collect(),
        }
    }
}

impl ConnectionDetails {
    fn of(found: &ConnectionInfo, node: &str) -> Self {
        let subscriptions = found.channels.iter().map(Subscription::of);
        Self {
            connection: Connection::of(found, node),
            subscriptions: subscriptions.collect(),
            recent: found.recent.iter().map(LifecycleEntry::of).collect(),
        }
    }
}

impl Subscription {
    fn of(found: &SubscriptionInfo) -> Self {
        Self {
            channel: found.channel.to_string(),
            subscribed_at: found.age.map(at),
            user_id: found.user_id.as_ref().map(ToString::to_string),
            recovers: found.wants_positions,
            position: None,
        }
    }
}

/// Which connections are looked for, as texts.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Filter {
    #[serde(default)]
    pub(crate) user_id: Option<String>,
    #[serde(default)]
    pub(crate) address: Option<String>,
    #[serde(default)]
    pub(crate) key: Option<String>,
    #[serde(default)]
    pub(crate) channel: Option<String>,
    #[serde(default)]
    pub(crate) socket_id: Option<String>,
}

impl Filter {
    /// Reads the texts.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with one of them.
    pub(crate) fn parse(&self, app: &App) -> Result<ConnectionFilter, String> {
        let user = |text: &String| {
            UserId::new(text).ok_or_else(|| {
                format!("the user_id {text:?}: it must not be empty, nor have the character U+0000")
            })
        };
        let addresses = |text: &String| {
            let one = text.parse::<IpAddr>().map(IpNet::from);
            one.or_else(|_| text.parse()).map_err(|_| {
                format!("the address {text:?}: pass an address or a network, like 203.0.113.7 or 10.0.0.0/8")
            })
        };
        let key = |text: &String| {
            AppKey::parse(text).map_err(|error| format!("the key {text:?}: {error}"))
        };
        let channel = |text: &String| {
            let max = app.settings().limits.channel_name;
            ChannelName::parse(text, max).map_err(|error| format!("the channel {text:?}: {error}"))
        };
        Ok(ConnectionFilter {
            user: self.user_id.as_ref().map(user).transpose()?,
            addresses: self.address.as_ref().map(addresses).transpose()?,
            key: self.key.as_ref().map(key).transpose()?,
            channel: self.channel.as_ref().map(channel).transpose()?,
            socket_id: self.socket_id.clone(),
        })
    }
}

/// Where a list of a node's connections goes on.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Place {
    shard: usize,
    slot: usize,
}

/// Asks a node for some of an app's connections.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Connections {
    pub(crate) app: String,
    pub(crate) filter: Filter,
    pub(crate) from: Place,
    pub(crate) limit: usize,
}

/// Some of an app's connections on a node.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ConnectionsOfNode {
    pub(crate) items: Vec<Connection>,
    /// Where the list goes on, or `None` if it ends here.
    pub(crate) next: Option<Place>,
}

impl Ask for Connections {
    type Answer = ConnectionsOfNode;

    async fn answer(self, state: &AppState) -> ConnectionsOfNode {
        let app = state.engine.apps().by_id(&self.app);
        // The node that asks has checked the filter, and an app that isn't known here has no connections here.
        let parsed = app.and_then(|app| Some((self.filter.parse(&app).ok()?, app)));
        let Some((filter, app)) = parsed else {
            return ConnectionsOfNode {
                items: Vec::new(),
                next: None,
            };
        };
        let from = ConnectionPlace {
            shard: self.from.shard,
            slot: self.from.slot,
        };
        let listed = state
            .engine
            .list_connections(&app, &filter, from, self.limit);
        let found = listed.await;
        let items = found.connections.iter();
        ConnectionsOfNode {
            items: items
                .map(|found| Connection::of(found, &state.node_name))
                .collect(),
            next: found.next.map(|next| Place {
                shard: next.shard,
                slot: next.slot,
            }),
        }
    }
}

/// Asks a node for one connection of an app.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ShowConnection {
    pub(crate) app: String,
    pub(crate) socket_id: String,
}

/// Asks a node to close one connection of an app.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Disconnect {
    pub(crate) app: String,
    pub(crate) socket_id: String,
}

fn named(state: &AppState, app: &str, socket_id: &str) -> Option<(Arc<App>, SocketId)> {
    let app = state.engine.apps().by_id(app)?;
    Some((app, SocketId::parse(socket_id).ok()?))
}

impl Ask for ShowConnection {
    type Answer = Option<ConnectionDetails>;

    async fn answer(self, state: &AppState) -> Option<ConnectionDetails> {
        let (app, socket_id) = named(state, &self.app, &self.socket_id)?;
        let found = state.engine.inspect_connection(&app, socket_id).await?;
        Some(ConnectionDetails::of(&found, &state.node_name))
    }
}

impl Ask for Disconnect {
    /// Whether the node had the connection.
    type Answer = bool;

    async fn answer(self, state: &AppState) -> bool {
        match named(state, &self.app, &self.socket_id) {
            Some((app, socket_id)) => state.engine.disconnect(&app, socket_id).await,
            None => false,
        }
    }
}
