//! The one way out: which shards have subscribers of a channel, and the frame they get. The locks here are taken by this
//! file alone and never across an await.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fanfare_protocol::presence::Member;
use fanfare_protocol::{ChannelName, Frame, ServerMessage, UserId};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::bus::{BusError, Envelope};
use crate::cache::Offset;
use crate::inbox::Inbox;
use crate::roster::Place;
use crate::shard::Command;

/// Most shards a node may have: one bit each.
pub(crate) const MAX_SHARDS: usize = 64;
/// Up to so many subscribers are told at once how many they are; more of them no more often than this (spec 2.10).
const COUNTED_AT_ONCE: usize = 100;
const COUNT_PACE: Duration = Duration::from_secs(5);
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
    told: Told,
}

/// When a channel's subscribers were told how many they are.
#[derive(Debug, Clone, Copy)]
enum Told {
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
pub(crate) enum Edge<'a> {
    Added(&'a Member),
    Removed(&'a UserId),
}

/// Brings events to the shards that have subscribers for them.
#[derive(Debug)]
pub struct Deliverer {
    inboxes: Vec<Arc<Inbox>>,
    next_channel: AtomicU64,
    /// Channels whose subscribers are to be told how many they are, later.
    uncounted: Mutex<Vec<Place>>,
}

impl Deliverer {
    pub(crate) fn new(inboxes: Vec<Arc<Inbox>>) -> Self {
        assert!(
            (1..=MAX_SHARDS).contains(&inboxes.len()),
            "a node has 1 to {MAX_SHARDS} shards"
        );
        Self {
            inboxes,
            next_channel: AtomicU64::new(0),
            uncounted: Mutex::default(),
        }
    }

    pub(crate) fn inboxes(&self) -> &[Arc<Inbox>] {
        &self.inboxes
    }

    /// A connection of `shard` subscribes: from now on the shard gets the channel's events.
    pub(crate) fn attach(&self, place: &Place, shard: usize) -> ChannelId {
        let mut routes = place.app.channels.stripe(place.channel.as_str()).lock();
        let route = routes
            .entry(place.channel.clone())
            .or_insert_with(|| Route {
                id: ChannelId(self.next_channel.fetch_add(1, Ordering::Relaxed)),
                shards: 0,
                subscribers: 0,
                told: Told::Never,
            });
        route.shards |= 1 << shard;
        route.subscribers += 1;
        self.count(place, route);
        route.id
    }

    /// A connection of `shard` has left; `last` says that it was the shard's last one on the channel.
    pub(crate) fn detach(&self, place: &Place, shard: usize, last: bool) {
        let mut routes = place.app.channels.stripe(place.channel.as_str()).lock();
        let Some(route) = routes.get_mut(&place.channel) else {
            return;
        };
        route.subscribers -= 1;
        if last {
            route.shards &= !(1 << shard);
        }
        if route.subscribers == 0 {
            routes.remove(&place.channel);
        } else {
            self.count(place, route);
        }
    }

    /// After the number of subscribers changed: tells them, at once or, where they are many, when it is due.
    fn count(&self, place: &Place, route: &mut Route) {
        if !place.channel.is_counted() || !place.app.settings().subscription_count {
            return;
        }
        let now = Instant::now();
        match route.told {
            Told::Due(_) => {}
            Told::At(before)
                if route.subscribers > COUNTED_AT_ONCE && now < before + COUNT_PACE =>
            {
                route.told = Told::Due(before + COUNT_PACE);
                self.uncounted.lock().push(place.clone());
            }
            Told::Never | Told::At(_) => self.tell_count(place, route, now),
        }
    }

    fn tell_count(&self, place: &Place, route: &mut Route, now: Instant) {
        route.told = Told::At(now);
        let (channel, count) = (place.channel.as_str(), route.subscribers);
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
        for place in waiting {
            let mut routes = place.app.channels.stripe(place.channel.as_str()).lock();
            match routes.get_mut(&place.channel) {
                Some(route) if matches!(route.told, Told::Due(at) if at <= now) => {
                    self.tell_count(&place, route, now)
                }
                Some(Route {
                    told: Told::Due(_), ..
                }) => self.uncounted.lock().push(place.clone()),
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
    pub fn deliver(&self, envelopes: &[Envelope]) -> Result<(), BusError> {
        let frames: Vec<Option<Frame>> = envelopes.iter().map(encode_if_occupied).collect();
        let total = frames
            .iter()
            .flatten()
            .map(|frame| Inbox::weight(frame.len()))
            .sum();
        if total == 0 && !envelopes.iter().any(|envelope| envelope.keep) {
            return Ok(());
        }
        self.reserve_everywhere(total)?;
        let mut unused = vec![total; self.inboxes.len()];
        for (envelope, frame) in envelopes.iter().zip(frames) {
            let Place { app, channel } = &envelope.place;
            let routes = app.channels.stripe(channel.as_str()).lock();
            let offset = if envelope.keep {
                app.cache.keep(
                    channel,
                    &envelope.name,
                    &envelope.data,
                    &app.settings().limits,
                )
            } else {
                Offset::LIVE
            };
            let (Some(frame), Some(route)) = (frame, routes.get(channel)) else {
                continue;
            };
            for shard in shards(route.shards) {
                unused[shard] -= Inbox::weight(frame.len());
                let (channel, frame, except) = (route.id, frame.clone(), envelope.except);
                self.inboxes[shard].push(Command::Deliver {
                    channel,
                    frame,
                    except,
                    offset,
                });
            }
        }
        for (inbox, unused) in self.inboxes.iter().zip(unused) {
            inbox.release(unused);
        }
        Ok(())
    }

    fn reserve_everywhere(&self, weight: usize) -> Result<(), BusError> {
        for (index, inbox) in self.inboxes.iter().enumerate() {
            if !inbox.reserve(weight) {
                self.inboxes[..index]
                    .iter()
                    .for_each(|inbox| inbox.release(weight));
                return Err(BusError::Overloaded);
            }
        }
        Ok(())
    }

    /// Tells a presence channel's subscribers who came or left. Called in the order of positions.
    pub(crate) fn announce(&self, place: &Place, edge: &Edge<'_>, position: u64) {
        let routes = place.app.channels.stripe(place.channel.as_str()).lock();
        let Some(route) = routes.get(&place.channel) else {
            return;
        };
        let channel = place.channel.as_str();
        let frame = match edge {
            Edge::Added(member) => ServerMessage::MemberAdded { channel, member }.to_frame(),
            Edge::Removed(user) => ServerMessage::MemberRemoved {
                channel,
                user_id: user.as_str(),
            }
            .to_frame(),
        };
        for shard in shards(route.shards) {
            self.inboxes[shard].push(Command::Announce {
                channel: route.id,
                name: place.channel.clone(),
                frame: frame.clone(),
                position,
            });
        }
    }
}

/// The frame, if anybody gets it. Who subscribes after this look finds the event in the cache, if it is kept.
fn encode_if_occupied(envelope: &Envelope) -> Option<Frame> {
    let Place { app, channel } = &envelope.place;
    let event = ServerMessage::Event {
        name: &envelope.name,
        channel: channel.as_str(),
        data: &envelope.data,
        user_id: envelope.user_id.as_ref().map(UserId::as_str),
    };
    (app.channels.subscribers(channel.as_str()) > 0).then(|| event.to_frame())
}

fn shards(mask: u64) -> impl Iterator<Item = usize> {
    (0..MAX_SHARDS).filter(move |shard| mask & (1 << shard) != 0)
}
