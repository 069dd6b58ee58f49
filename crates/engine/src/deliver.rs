//! The one way out: which shards have subscribers of a channel, and the frame they get. The locks here are taken by this
//! file alone and never across an await.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use fanfare_protocol::presence::Member;
use fanfare_protocol::{AppId, ChannelName, Frame, HistoryPosition, ServerMessage, UserId};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::app::App;
use crate::bus::{BusError, Envelope, Generation, StreamPosition};
use crate::cache::Offset;
use crate::inbox::Inbox;
use crate::notice::{Notice, Notices};
use crate::roster::ChannelRef;
use crate::shard::Command;

/// Most shards a node may have: one bit each.
pub(crate) const MAX_SHARDS: usize = 64;
/// Up to so many subscribers are told at once how many they are; more of them no more often than this
/// (docs/protocol.md#subscription-counts).
const COUNTED_AT_ONCE: usize = 100;
const COUNT_PACE: Duration = Duration::from_secs(5);
/// Most bytes that a position adds to a frame.
const POSITION_ROOM: usize = 128;
/// Locks per app. Publishes to channels of different stripes do not wait for each other.
const STRIPES: usize = 16;

/// An occupied channel on this node, while it is occupied. Numbers are never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ChannelId(u64);

/// The channels of one app that are occupied on this node.
#[derive(Debug, Default)]
pub(crate) struct Channels {
    hasher: RandomState,
    stripes: [Mutex<HashMap<ChannelName, Route>>; STRIPES],
}

/// Where a channel's subscribers are.
#[derive(Debug)]
struct Route {
    id: ChannelId,
    shards: u64,
    subscribers: usize,
    /// Those of them that are told where in the channel's history an event is.
    positioned: usize,
    told: CountAnnounced,
    /// Since when this node gets the channel's events, if it does.
    listening: Option<Generation>,
    /// Whether the other nodes are to be told how many subscribers there are.
    changed: bool,
}

/// A channel that somebody on a shard is about to subscribe to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attached {
    pub(crate) id: ChannelId,
    /// Since when this node gets the channel's events, if it does.
    pub(crate) listening: Option<Generation>,
}

/// A channel whose number of subscribed connections on this node has changed.
#[derive(Debug, Clone)]
pub struct Changed {
    /// The channel.
    pub channel_ref: ChannelRef,
    /// Subscribed connections on this node.
    pub count: usize,
    /// Whether its subscribers are to be told how many there are over all nodes.
    pub tell: bool,
}

/// When a channel's subscribers were told how many they are.
#[derive(Debug, Clone, Copy)]
enum CountAnnounced {
    Never,
    At(Instant),
    /// Not since the number changed; they will be when this time has come.
    Due(Instant),
}

impl Channels {
    fn stripe(&self, channel: &str) -> &Mutex<HashMap<ChannelName, Route>> {
        &self.stripes[self.hasher.hash_one(channel) as usize % STRIPES]
    }

    /// Subscribed connections of a channel.
    pub(crate) fn subscribers(&self, channel: &str) -> usize {
        self.stripe(channel)
            .lock()
            .get(channel)
            .map_or(0, |route| route.subscribers)
    }

    /// Occupied channels whose names start with `prefix`, with their subscribed connections, by name. Users' own channels
    /// are not among them.
    pub(crate) fn list(&self, prefix: &str) -> Vec<(ChannelName, usize)> {
        let mut found: Vec<_> = self
            .stripes
            .iter()
            .flat_map(|stripe| {
                let routes = stripe.lock();
                let matching = routes
                    .iter()
                    .filter(|(name, _)| name.as_str().starts_with(prefix) && name.user().is_none());
                matching
                    .map(|(name, route)| (name.clone(), route.subscribers))
                    .collect::<Vec<_>>()
            })
            .collect();
        found.sort();
        found
    }
}

/// A change of who is on a presence channel.
#[derive(Debug)]
pub enum PresenceChange<'a> {
    /// A user's first connection came.
    Added(&'a Member),
    /// A user's last connection went.
    Removed(&'a UserId),
}

/// Brings events to the shards that have subscribers for them.
#[derive(Debug)]
pub(crate) struct Deliverer {
    inboxes: Vec<Arc<Inbox>>,
    next_channel: AtomicU64,
    /// Channels whose subscribers are to be told how many they are, later.
    uncounted: Mutex<Vec<ChannelRef>>,
    /// Since which connection to other nodes events come from there; 0 where there are none.
    generation: AtomicU32,
    /// Channels whose counts the other nodes are to be told.
    changed: Mutex<Vec<ChannelRef>>,
    notices: Arc<dyn Notices>,
}

impl Deliverer {
    /// `shared` says that there are other nodes, which know together how many subscribers a channel has.
    pub(crate) fn new(inboxes: Vec<Arc<Inbox>>, shared: bool, notices: Arc<dyn Notices>) -> Self {
        assert!(
            (1..=MAX_SHARDS).contains(&inboxes.len()),
            "a node has 1 to {MAX_SHARDS} shards"
        );
        Self {
            inboxes,
            next_channel: AtomicU64::new(0),
            uncounted: Mutex::default(),
            generation: AtomicU32::new(shared.into()),
            changed: Mutex::default(),
            notices,
        }
    }

    fn is_shared(&self) -> bool {
        self.generation() > 0
    }

    /// Who listens since another generation may have missed something.
    pub(crate) fn generation(&self) -> Generation {
        self.generation.load(Ordering::Acquire)
    }

    pub(crate) fn start_generation(&self, next: Generation) {
        self.generation.store(next, Ordering::Release);
    }

    pub(crate) fn inboxes(&self) -> &[Arc<Inbox>] {
        &self.inboxes
    }

    /// A connection of `shard` subscribes: from now on the shard gets the channel's events.
    /// With `wants_positions` it is told where in the channel's history they are.
    pub(crate) fn attach(
        &self,
        channel_ref: &ChannelRef,
        shard: usize,
        wants_positions: bool,
    ) -> Attached {
        let mut routes = channel_ref
            .app
            .channels
            .stripe(channel_ref.channel.as_str())
            .lock();
        let generation = self.generation();
        let route = routes
            .entry(channel_ref.channel.clone())
            .or_insert_with(|| Route {
                id: ChannelId(self.next_channel.fetch_add(1, Ordering::Relaxed)),
                shards: 0,
                subscribers: 0,
                positioned: 0,
                told: CountAnnounced::Never,
                // By itself, a node hears of everything.
                listening: (generation == 0).then_some(generation),
                changed: false,
            });
        route.shards |= 1 << shard;
        route.subscribers += 1;
        route.positioned += usize::from(wants_positions);
        if route.subscribers == 1 {
            self.notice(channel_ref, Notice::Occupied);
        }
        self.count(channel_ref, route);
        Attached {
            id: route.id,
            listening: route.listening.filter(|since| *since == generation),
        }
    }

    /// A connection of `shard` has left; `last` says that it was the shard's last one on the channel. Says whether it was
    /// the node's last one.
    pub(crate) fn detach(
        &self,
        channel_ref: &ChannelRef,
        shard: usize,
        wants_positions: bool,
        last: bool,
    ) -> bool {
        let mut routes = channel_ref
            .app
            .channels
            .stripe(channel_ref.channel.as_str())
            .lock();
        let Some(route) = routes.get_mut(&channel_ref.channel) else {
            return false;
        };
        route.subscribers -= 1;
        route.positioned -= usize::from(wants_positions);
        if last {
            route.shards &= !(1 << shard);
        }
        self.count(channel_ref, route);
        let vacated = route.subscribers == 0;
        if vacated {
            routes.remove(&channel_ref.channel);
            self.notice(channel_ref, Notice::Vacated);
        }
        vacated
    }

    /// This node gets the channel's events.
    pub(crate) fn note_listening(&self, channel_ref: &ChannelRef, since: Generation) {
        let mut routes = channel_ref
            .app
            .channels
            .stripe(channel_ref.channel.as_str())
            .lock();
        if let Some(route) = routes.get_mut(&channel_ref.channel) {
            route.listening = Some(since);
        }
    }

    /// With other nodes, they know together when a channel is occupied.
    fn notice(&self, channel_ref: &ChannelRef, notice: Notice<'_>) {
        if !self.is_shared() {
            let channel = &channel_ref.channel;
            self.notices.notice(channel_ref.app.id(), channel, notice);
        }
    }

    /// After the number of subscribers changed: tells them, at once or, where they are many, when it is due. With other
    /// nodes, these are told, and subscribers hear from there.
    fn count(&self, channel_ref: &ChannelRef, route: &mut Route) {
        if self.is_shared() {
            self.change(channel_ref, route);
        } else if is_counted(channel_ref) && route.subscribers > 0 {
            let now = Instant::now();
            if self.may_tell(channel_ref, route, now) {
                route.told = CountAnnounced::At(now);
                self.push_count(channel_ref, route, route.subscribers);
            }
        }
    }

    fn change(&self, channel_ref: &ChannelRef, route: &mut Route) {
        // A user's own channel is counted by nobody.
        if !mem::replace(&mut route.changed, true) && channel_ref.channel.user().is_none() {
            self.changed.lock().push(channel_ref.clone());
        }
    }

    /// The other nodes are told once more how many subscribers there are, so that these hear it.
    pub(crate) fn count_again(&self, channel_ref: &ChannelRef) {
        let mut routes = channel_ref
            .app
            .channels
            .stripe(channel_ref.channel.as_str())
            .lock();
        if let Some(route) = routes.get_mut(&channel_ref.channel) {
            self.change(channel_ref, route);
        }
    }

    /// Says whether subscribers may be told now how many they are; if not, they will be later.
    fn may_tell(&self, channel_ref: &ChannelRef, route: &mut Route, now: Instant) -> bool {
        match route.told {
            CountAnnounced::Due(_) => false,
            CountAnnounced::At(before)
                if route.subscribers > COUNTED_AT_ONCE && now < before + COUNT_PACE =>
            {
                route.told = CountAnnounced::Due(before + COUNT_PACE);
                self.uncounted.lock().push(channel_ref.clone());
                false
            }
            CountAnnounced::Never | CountAnnounced::At(_) => true,
        }
    }

    /// The channels whose count has changed since this was asked.
    pub(crate) fn take_changed(&self) -> Vec<Changed> {
        let now = Instant::now();
        let places = mem::take(&mut *self.changed.lock());
        let changed = |channel_ref: ChannelRef| {
            let mut routes = channel_ref
                .app
                .channels
                .stripe(channel_ref.channel.as_str())
                .lock();
            let (mut count, mut tell) = (0, is_counted(&channel_ref));
            if let Some(route) = routes.get_mut(&channel_ref.channel) {
                route.changed = false;
                count = route.subscribers;
                tell = tell && self.may_tell(&channel_ref, route, now);
                if tell {
                    route.told = CountAnnounced::At(now);
                }
            }
            drop(routes);
            Changed {
                channel_ref,
                count,
                tell,
            }
        };
        places.into_iter().map(changed).collect()
    }

    /// All counts of an app have changed.
    pub(crate) fn change_all(&self, app: &Arc<App>) {
        for stripe in &app.channels.stripes {
            for (channel, route) in stripe.lock().iter_mut() {
                let channel_ref = ChannelRef {
                    app: Arc::clone(app),
                    channel: channel.clone(),
                };
                self.change(&channel_ref, route);
            }
        }
    }

    /// Tells a channel's subscribers how many they are over all nodes.
    pub(crate) fn tell_count(&self, channel_ref: &ChannelRef, count: usize) {
        let routes = channel_ref
            .app
            .channels
            .stripe(channel_ref.channel.as_str())
            .lock();
        if let Some(route) = routes.get(&channel_ref.channel) {
            self.push_count(channel_ref, route, count);
        }
    }

    fn push_count(&self, channel_ref: &ChannelRef, route: &Route, count: usize) {
        let channel = channel_ref.channel.as_str();
        let frame = ServerMessage::SubscriptionCount { channel, count }.to_frame();
        for shard in shards(route.shards) {
            self.inboxes[shard].push(Command::Tell {
                channel: route.id,
                frame: frame.clone(),
            });
        }
    }

    /// Tells the numbers whose time has come.
    pub(crate) fn tell_due_counts(&self, now: Instant) {
        let waiting = mem::take(&mut *self.uncounted.lock());
        for channel_ref in waiting {
            let mut routes = channel_ref
                .app
                .channels
                .stripe(channel_ref.channel.as_str())
                .lock();
            match routes.get_mut(&channel_ref.channel) {
                Some(route) if matches!(route.told, CountAnnounced::Due(at) if at <= now) => {
                    route.told = CountAnnounced::Never;
                    self.count(&channel_ref, route);
                }
                Some(Route {
                    told: CountAnnounced::Due(_),
                    ..
                }) => self.uncounted.lock().push(channel_ref.clone()),
                // It was vacated, and perhaps occupied anew, in the meantime.
                _ => {}
            }
        }
    }

    /// Brings events to every shard that has subscribers for them: all events, or none.
    ///
    /// Room is found in every inbox first; then each event is queued to all its shards under the lock of its channel,
    /// so that two events of a channel reach every shard in the same order.
    ///
    /// # Errors
    ///
    /// A shard's inbox is full.
    pub(crate) fn deliver(&self, envelopes: &[Envelope]) -> Result<(), BusError> {
        let frames: Vec<Option<Frame>> = envelopes.iter().map(encode_if_occupied).collect();
        let weights = envelopes.iter().zip(&frames);
        let total = weights
            .map(|(envelope, frame)| weight(envelope, frame.as_ref()))
            .sum();
        let stays = |envelope: &Envelope| envelope.keep || envelope.history.is_some();
        if total == 0 && !envelopes.iter().any(stays) {
            return Ok(());
        }
        // All events of a request are of one app.
        if let Some(envelope) = envelopes.first() {
            self.reserve_everywhere(envelope.channel_ref.app.id(), total)?;
        }
        self.queue(envelopes, frames, total, None);
        Ok(())
    }

    /// Brings an event from other nodes to the shards, and waits for room there.
    pub(crate) async fn deliver_when_room(&self, envelope: &Envelope, stamp: &StreamPosition) {
        let frame = encode_if_occupied(envelope);
        let weight = weight(envelope, frame.as_ref());
        if frame.is_some() {
            for inbox in &self.inboxes {
                inbox.reserve_when_room(weight).await;
            }
        }
        let envelopes = std::slice::from_ref(envelope);
        self.queue(envelopes, vec![frame], weight, Some(stamp));
    }

    /// Queues events to their shards, for which `reserved` was found in every inbox. On a node by itself they are kept and
    /// recorded here, else that was done before.
    fn queue(
        &self,
        envelopes: &[Envelope],
        frames: Vec<Option<Frame>>,
        reserved: usize,
        stamp: Option<&StreamPosition>,
    ) {
        let mut unused = vec![reserved; self.inboxes.len()];
        for (envelope, frame) in envelopes.iter().zip(frames) {
            let ChannelRef { app, channel } = &envelope.channel_ref;
            let routes = app.channels.stripe(channel.as_str()).lock();
            let (offset, recorded) = remember(envelope, stamp);
            let Some(route) = routes.get(channel) else {
                continue;
            };
            // Who subscribed since the first look was told of a history, or a kept event, that ended before this one.
            let late = frame.is_none();
            let Some(frame) =
                frame.or_else(|| (offset != Offset::LIVE).then(|| encode(envelope, None)))
            else {
                continue;
            };
            let positioned = recorded.filter(|_| route.positioned > 0);
            let positioned = positioned.map(|position| encode(envelope, Some(&position)));
            let extra = positioned.as_ref().map_or(0, Frame::len);
            for shard in shards(route.shards) {
                let weight = Inbox::weight(frame.len() + extra);
                if late {
                    self.inboxes[shard].force(weight);
                } else {
                    unused[shard] -= weight;
                }
                self.inboxes[shard].push(Command::Deliver {
                    channel: route.id,
                    frame: frame.clone(),
                    positioned: positioned.clone(),
                    except: envelope.except,
                    offset,
                });
            }
        }
        for (inbox, unused) in self.inboxes.iter().zip(unused) {
            inbox.release(unused);
        }
    }

    fn reserve_everywhere(&self, app: &AppId, weight: usize) -> Result<(), BusError> {
        for (index, inbox) in self.inboxes.iter().enumerate() {
            if !inbox.reserve_for(app, weight) {
                self.inboxes[..index]
                    .iter()
                    .for_each(|inbox| inbox.release(weight));
                return Err(BusError::Overloaded);
            }
        }
        Ok(())
    }

    /// Tells a presence channel's subscribers who came or left. Called in the order of positions.
    pub(crate) fn announce(
        &self,
        channel_ref: &ChannelRef,
        edge: &PresenceChange<'_>,
        position: u64,
    ) {
        let routes = channel_ref
            .app
            .channels
            .stripe(channel_ref.channel.as_str())
            .lock();
        let Some(route) = routes.get(&channel_ref.channel) else {
            return;
        };
        let channel = channel_ref.channel.as_str();
        let frame = match edge {
            PresenceChange::Added(member) => {
                ServerMessage::MemberAdded { channel, member }.to_frame()
            }
            PresenceChange::Removed(user) => ServerMessage::MemberRemoved {
                channel,
                user_id: user.as_str(),
            }
            .to_frame(),
        };
        for shard in shards(route.shards) {
            self.inboxes[shard].push(Command::Announce {
                channel: route.id,
                name: channel_ref.channel.clone(),
                frame: frame.clone(),
                position,
            });
        }
    }
}

/// The frame, if anybody gets it.
fn encode_if_occupied(envelope: &Envelope) -> Option<Frame> {
    let ChannelRef { app, channel } = &envelope.channel_ref;
    (app.channels.subscribers(channel.as_str()) > 0).then(|| encode(envelope, None))
}

fn encode(envelope: &Envelope, position: Option<&HistoryPosition>) -> Frame {
    let event = ServerMessage::Event {
        name: &envelope.name,
        channel: envelope.channel_ref.channel.as_str(),
        data: &envelope.data,
        user_id: envelope.user_id.as_ref().map(UserId::as_str),
        position,
    };
    event.to_frame()
}

/// What an event may weigh in an inbox, with a position if it gets one.
fn weight(envelope: &Envelope, frame: Option<&Frame>) -> usize {
    let positioned = |frame: &Frame| match envelope.history {
        Some(_) => frame.len() + POSITION_ROOM,
        None => 0,
    };
    frame.map_or(0, |frame| Inbox::weight(frame.len() + positioned(frame)))
}

/// Keeps an event and records it where the channel does so; says when that was, and where.
fn remember(
    envelope: &Envelope,
    stamp: Option<&StreamPosition>,
) -> (Offset, Option<HistoryPosition>) {
    let ChannelRef { app, channel } = &envelope.channel_ref;
    if !envelope.keep && envelope.history.is_none() {
        return (Offset::LIVE, None);
    }
    let position = stamp.and_then(|stamp| stamp.position);
    let offset = position.map_or_else(|| app.next_offset(), Offset::of);
    let limits = &app.settings().limits;
    if envelope.keep {
        let event = (&envelope.name, &envelope.data);
        app.cache.keep(channel, event, limits, offset);
    }
    let recorded = match (stamp, envelope.history) {
        (Some(stamp), _) => stamp.recorded.clone(),
        (None, Some(retention)) => {
            let max = limits.history_bytes;
            Some(app.histories.record(envelope, retention, offset, max))
        }
        (None, None) => None,
    };
    (offset, recorded)
}

/// Whether its subscribers are told how many they are.
fn is_counted(channel_ref: &ChannelRef) -> bool {
    channel_ref.channel.is_counted() && channel_ref.app.settings().subscription_count
}

fn shards(mask: u64) -> impl Iterator<Item = usize> {
    (0..MAX_SHARDS).filter(move |shard| mask & (1 << shard) != 0)
}
