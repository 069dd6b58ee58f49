//! An app's connections as an operator sees them, and closing one.
//!
//! A node may have a million connections, so a shard is asked for few of its slots at a time, and
//! other commands have their turn in between.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use fanfare_protocol::{AppKey, ChannelName, CloseCode, Framing, SocketId, UserId};
use ipnet::IpNet;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::app::App;
use crate::bus::BoxFuture;
use crate::closed::PastSubscription;
use crate::command::Command;
use crate::connection::Connection;
use crate::connection_traffic::ConnectionTraffic;
use crate::engine::Engine;
use crate::error::Refusal;
use crate::lifecycle::{LifecycleEntry, LifecycleKind, MAX_LIFECYCLE_ENTRIES};
use crate::node::Node;
use crate::shard::{Shard, State};
use crate::subscriptions::Subscription;

/// Slots that a shard looks at before other commands have their turn.
const SLOTS_PER_TURN: usize = 4096;
/// How long a page is looked for. What was found by then is the page.
const LOOK_TIMEOUT: Duration = Duration::from_millis(800);
/// Most channels that a list tells of each connection.
pub const MAX_LISTED_CHANNELS: usize = 50;
/// Most channels that are told of one connection.
pub const MAX_SHOWN_CHANNELS: usize = 1000;
/// Most bytes of a page, about: a few connections with many channels of long names fill it.
const MAX_PAGE_BYTES: usize = 256 * 1024;
/// About how many bytes a connection takes besides the names of its channels.
const CONNECTION_BYTES: usize = 600;

/// Which of an app's connections are looked for.
#[derive(Debug, Clone, Default)]
pub struct ConnectionFilter {
    /// Those of a user: signed in, or a member of a presence channel.
    pub user: Option<UserId>,
    /// Those from one of these addresses.
    pub addresses: Option<IpNet>,
    /// Those that connected with a key.
    pub key: Option<AppKey>,
    /// Those that are subscribed to a channel.
    pub channel: Option<ChannelName>,
    /// Those whose socket ids contain a text.
    pub socket_id: Option<String>,
}

/// Where a list of a node's connections goes on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ConnectionPlace {
    /// The shard.
    pub shard: usize,
    /// The slot on the shard.
    pub slot: usize,
}

/// Some of a node's connections.
#[derive(Debug)]
pub struct ConnectionPage {
    /// The connections. There may be fewer than were asked for, even none, although more follow.
    pub connections: Vec<ConnectionInfo>,
    /// Where the list goes on, or `None` if it ends here.
    pub next: Option<ConnectionPlace>,
}

/// One connection as it is at this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionInfo {
    /// Its socket id.
    pub socket_id: SocketId,
    /// The key with which it connected.
    pub key: AppKey,
    /// Its transport.
    pub transport: Framing,
    /// Its network address, where it is known.
    pub address: Option<IpAddr>,
    /// The name and version of its client library, as far as it gave them.
    pub client: (String, String),
    /// The signed-in user.
    pub user_id: Option<UserId>,
    /// How long ago it connected.
    pub age: Duration,
    /// How long ago the client last sent anything, to about a second.
    pub silent: Duration,
    /// What went over it.
    pub traffic: ConnectionTraffic,
    /// Bytes that wait to be written.
    pub waiting_bytes: usize,
    /// How long its last PONG took. Unknown before the first one, and on the HTTP fallbacks.
    pub round_trip: Option<Duration>,
    /// Whether it may have missed events and will be closed.
    pub is_fenced: bool,
    /// How many channels it is subscribed to.
    pub channel_count: usize,
    /// The channels, by name, or the first of them.
    pub channels: Vec<SubscriptionInfo>,
    /// How long ago its user signed in, if one did.
    pub signed_in: Option<Duration>,
    /// The subscriptions that its client has ended, as far as they were noted, oldest first.
    pub ended_subscriptions: Vec<PastSubscription>,
    /// Whether these are all that it ended.
    pub has_all_ended_subscriptions: bool,
    /// The last things that happened to it, oldest first. Empty in lists.
    pub recent: Vec<LifecycleEntry>,
}

/// A subscription of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionInfo {
    /// The channel.
    pub channel: ChannelName,
    /// How long ago it was made; unknown on connections of more than 49 days.
    pub age: Option<Duration>,
    /// Whether the client gets positions, so that it can recover what it missed.
    pub wants_positions: bool,
    /// The member, on presence channels.
    pub user_id: Option<UserId>,
}

impl SubscriptionInfo {
    /// Returns a subscription of a connection of this age.
    fn of(channel: &ChannelName, subscription: &Subscription, age: Duration) -> Self {
        Self {
            channel: channel.clone(),
            age: subscription.since().map(|since| age.saturating_sub(since)),
            wants_positions: subscription.wants_positions,
            user_id: subscription.member.as_ref().map(|(user, _)| user.clone()),
        }
    }
}

impl ConnectionInfo {
    fn of(connection: &Connection, now: Instant, max_channels: usize) -> Self {
        let age = now.saturating_duration_since(connection.connected);
        let mut subscriptions: Vec<_> = connection
            .subscriptions
            .iter()
            .filter(|(channel, _)| !connection.is_implicit(channel.as_str()))
            .collect();
        let channel_count = subscriptions.len();
        subscriptions.sort_by_key(|(channel, _)| *channel);
        subscriptions.truncate(max_channels);
        let channels = subscriptions
            .into_iter()
            .map(|(channel, subscription)| SubscriptionInfo::of(channel, subscription, age))
            .collect();
        Self {
            socket_id: connection.socket_id,
            key: connection.key.clone(),
            transport: connection.framing(),
            address: connection.address,
            client: connection.client(),
            user_id: connection
                .user
                .as_ref()
                .map(|user| user.member.user_id.clone()),
            age,
            silent: now.saturating_duration_since(connection.last_activity),
            traffic: connection.traffic,
            waiting_bytes: connection.waiting(),
            round_trip: connection.round_trip.get(),
            is_fenced: connection.is_fenced(),
            channel_count,
            channels,
            signed_in: connection
                .user
                .as_ref()
                .map(|user| age.saturating_sub(user.since)),
            ended_subscriptions: connection
                .ended_subscriptions()
                .map(|ended| PastSubscription::of(&ended, connection.connected))
                .collect(),
            has_all_ended_subscriptions: connection.has_all_ended_subscriptions(),
            recent: Vec::new(),
        }
    }

    /// Adds a channel that is asked for, if it isn't among the first.
    fn add(&mut self, connection: &Connection, channel: Option<&ChannelName>) {
        if let Some(channel) = channel
            && let Some((channel, subscription)) =
                connection.subscriptions.get_entry(channel.as_str())
            && !self.channels.iter().any(|found| found.channel == *channel)
        {
            let found = SubscriptionInfo::of(channel, subscription, self.age);
            self.channels.push(found);
        }
    }

    /// Returns about how many bytes it takes in an answer.
    fn weight(&self) -> usize {
        let channels = self.channels.iter();
        let names: usize = channels
            .map(|found| found.channel.as_str().len() + 100)
            .sum();
        CONNECTION_BYTES + names
    }
}

impl Connection {
    /// Returns the last things that happened to it, oldest first: from its state and its notes.
    pub(crate) fn lifecycle(&self, age: Duration) -> Vec<LifecycleEntry> {
        // Each with its time since the connection began.
        let mut all: Vec<(Duration, LifecycleEntry)> = Vec::new();
        let mut add = |at: Duration, kind, count, channel: Option<&str>, text: Option<&str>| {
            let entry = LifecycleEntry {
                kind,
                ago: age.saturating_sub(at),
                count,
                channel: channel.map(str::to_owned),
                text: text.map(str::to_owned),
            };
            all.push((at, entry));
        };
        let (name, version) = self.client();
        let client = format!("{name} {version}");
        let client = Some(client.trim()).filter(|client| !client.is_empty());
        add(Duration::ZERO, LifecycleKind::Connected, 1, None, client);
        if let Some(user) = &self.user {
            let id = user.member.user_id.as_str();
            add(user.since, LifecycleKind::SignedIn, 1, None, Some(id));
        }
        for (channel, subscription) in self.subscriptions.iter() {
            if let Some(since) = subscription.since()
                && !self.is_implicit(channel.as_str())
            {
                let user = subscription.member.as_ref().map(|(user, _)| user.as_str());
                let channel = Some(channel.as_str());
                add(since, LifecycleKind::Subscribed, 1, channel, user);
            }
        }
        for note in self.lifecycle.iter().flat_map(|kept| kept.notes()) {
            let (channel, text) = (note.channel.as_deref(), note.text.as_deref());
            if let (LifecycleKind::Unsubscribed, Some(since)) = (note.kind, note.since) {
                add(since, LifecycleKind::Subscribed, 1, channel, None);
            }
            add(note.at, note.kind, note.count, channel, text);
        }
        // Subscriptions of one millisecond are in the order of their names.
        all.sort_by(|(at, one), (other_at, other)| {
            (at, &one.channel).cmp(&(other_at, &other.channel))
        });
        let excess = all.len().saturating_sub(MAX_LIFECYCLE_ENTRIES);
        all.drain(..excess);
        all.into_iter().map(|(_, entry)| entry).collect()
    }
}

impl ConnectionFilter {
    fn fits(&self, connection: &Connection) -> bool {
        let fits_address = |addresses: &IpNet| {
            let address = connection.address;
            address.is_some_and(|address| addresses.contains(&address.to_canonical()))
        };
        self.key.as_ref().is_none_or(|key| connection.key == *key)
            && self.addresses.as_ref().is_none_or(fits_address)
            && self.user.as_ref().is_none_or(|user| connection.is_of(user))
            && self.channel.as_ref().is_none_or(|channel| {
                connection.subscriptions.contains(channel.as_str())
                    && !connection.is_implicit(channel.as_str())
            })
            && self
                .socket_id
                .as_ref()
                .is_none_or(|part| connection.socket_id.to_string().contains(part))
    }
}

/// What a shard found in one turn.
struct Turn {
    connections: Vec<ConnectionInfo>,
    /// The slot at which the shard goes on, or `None` if it has no more.
    next: Option<usize>,
}

impl Engine {
    /// Returns an app's connections from a place on, each once if it stays: at most `limit`, and
    /// those that were found within 0.8 s. Waits for the shards.
    pub async fn list_connections(
        &self,
        app: &Arc<App>,
        filter: &ConnectionFilter,
        from: ConnectionPlace,
        limit: usize,
    ) -> ConnectionPage {
        let (filter, until) = (Arc::new(filter.clone()), Instant::now() + LOOK_TIMEOUT);
        let (mut connections, mut place, mut room) = (Vec::new(), from, MAX_PAGE_BYTES);
        let next = loop {
            if place.shard >= self.shards() {
                break None;
            }
            let (app, filter, left) = (
                Arc::clone(app),
                Arc::clone(&filter),
                limit - connections.len(),
            );
            let look = move |shard: &Shard| shard.look(&app, &filter, place.slot, left, room);
            let turn = self.node().ask_one(place.shard, look).await;
            let turn = turn.unwrap_or(Turn {
                connections: Vec::new(),
                next: None,
            });
            let weights = turn.connections.iter().map(ConnectionInfo::weight);
            room = room.saturating_sub(weights.sum());
            connections.extend(turn.connections);
            match turn.next {
                Some(slot) => {
                    place.slot = slot;
                    if connections.len() >= limit || room == 0 || Instant::now() >= until {
                        break Some(place);
                    }
                }
                // Even if the page is full: another shard shows whether more follow.
                None => {
                    place = ConnectionPlace {
                        shard: place.shard + 1,
                        slot: 0,
                    }
                }
            }
        };
        ConnectionPage { connections, next }
    }

    /// Returns one connection of an app, if this node has it. Waits for the shards.
    pub async fn inspect_connection(
        &self,
        app: &Arc<App>,
        socket_id: SocketId,
    ) -> Option<ConnectionInfo> {
        let inspect = |state: &mut State, slot: usize| {
            let connection = &state.connections[slot];
            let info = ConnectionInfo::of(connection, Instant::now(), MAX_SHOWN_CHANNELS);
            let recent = connection.lifecycle(info.age);
            ConnectionInfo { recent, ..info }
        };
        self.with_connection(app, socket_id, inspect).await
    }

    /// Closes one connection of an app with a code that keeps its client away, and returns whether
    /// this node had it. Waits for the shards.
    pub async fn disconnect(&self, app: &Arc<App>, socket_id: SocketId) -> bool {
        let close = |state: &mut State, slot: usize| {
            let refusal = Refusal::new(
                CloseCode::Unauthorized,
                "An operator has closed this connection",
            );
            state.close(slot, &refusal, Instant::now());
        };
        self.with_connection(app, socket_id, close).await.is_some()
    }

    /// Runs `act` on the shard that has a connection of an app, and returns what it returns.
    async fn with_connection<T: Send + 'static>(
        &self,
        app: &Arc<App>,
        socket_id: SocketId,
        act: impl Fn(&mut State, usize) -> T + Clone + Send + 'static,
    ) -> Option<T> {
        for index in 0..self.shards() {
            let mut from = Some(0);
            while let Some(slot) = from {
                let (app, act) = (Arc::clone(app), act.clone());
                let turn = move |shard: &Shard| shard.with_found(&app, socket_id, slot, act);
                match self.node().ask_one(index, turn).await {
                    Some(Ok(found)) => return Some(found),
                    Some(Err(next)) => from = next,
                    None => from = None,
                }
            }
        }
        None
    }

    /// Runs a query on every shard's thread, and waits for the answers.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        question: impl Fn(&Shard) -> T + Clone + Send + 'static,
    ) -> Vec<T> {
        self.node().ask(question).await
    }
}

impl Node {
    /// Runs a query on every shard's thread, and waits for the answers.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        question: impl Fn(&Shard) -> T + Clone + Send + 'static,
    ) -> Vec<T> {
        let inboxes = self.deliverer.inboxes();
        // All shards are asked before the first answer is awaited.
        let answers: Vec<_> = (0..inboxes.len())
            .map(|index| self.ask_one(index, question.clone()))
            .collect();
        let mut all = Vec::with_capacity(answers.len());
        for answer in answers {
            all.extend(answer.await);
        }
        all
    }

    /// Queues a query to one shard's thread at once, whether or not the future is polled. The
    /// answer is `None` if the shard is gone, and its connections with it.
    pub(crate) fn ask_one<T: Send + 'static>(
        &self,
        index: usize,
        question: impl FnOnce(&Shard) -> T + Send + 'static,
    ) -> BoxFuture<'static, Option<T>> {
        let (answer, answered) = oneshot::channel();
        self.deliverer.inboxes()[index].push(Command::Run(Box::new(move |shard| {
            // The caller may have gone.
            let _ = answer.send(question(shard));
        })));
        Box::pin(async move { answered.await.ok() })
    }
}

/// Returns whether an app has this connection. One that is being closed is gone for everyone but
/// its client, which has yet to answer.
fn is_here(connection: &Connection, app: &Arc<App>) -> bool {
    !connection.is_closing() && Arc::ptr_eq(&connection.app, app)
}

/// Returns the slots of one turn that begins with `from`, and the first one after them if there may
/// be a connection from there on.
fn slots_of_turn(state: &State, from: usize) -> (std::ops::Range<usize>, Option<usize>) {
    let (end, all) = (
        from.saturating_add(SLOTS_PER_TURN),
        state.connections.capacity(),
    );
    (from..end.min(all), (end < all).then_some(end))
}

impl Shard {
    /// Looks for connections from a slot on, until `limit` and one more are found, or they take
    /// more than `room` bytes, or the turn is over.
    fn look(
        &self,
        app: &Arc<App>,
        filter: &ConnectionFilter,
        from: usize,
        limit: usize,
        room: usize,
    ) -> Turn {
        let (state, now) = (self.state(), Instant::now());
        let (slots, next) = slots_of_turn(&state, from);
        let (mut connections, mut taken) = (Vec::new(), 0);
        for slot in slots {
            let Some(connection) = state.connections.get(slot) else {
                continue;
            };
            if !is_here(connection, app) || !filter.fits(connection) {
                continue;
            }
            if connections.len() >= limit || taken >= room {
                return Turn {
                    connections,
                    next: Some(slot),
                };
            }
            let mut info = ConnectionInfo::of(connection, now, MAX_LISTED_CHANNELS);
            info.add(connection, filter.channel.as_ref());
            taken += info.weight();
            connections.push(info);
        }
        Turn { connections, next }
    }

    /// Looks for a connection from a slot on and runs `act` on it. Returns the slot at which the
    /// next turn begins if it isn't found, or `None` if there are no more.
    fn with_found<T>(
        &self,
        app: &Arc<App>,
        socket_id: SocketId,
        from: usize,
        act: impl Fn(&mut State, usize) -> T,
    ) -> Result<T, Option<usize>> {
        let mut state = self.state();
        let (mut slots, next) = slots_of_turn(&state, from);
        let found = slots.find(|slot| {
            let connection = state.connections.get(*slot);
            connection.is_some_and(|c| c.socket_id == socket_id && is_here(c, app))
        });
        found.map(|slot| act(&mut state, slot)).ok_or(next)
    }
}
