//! Which channels are occupied on this node: connections attach their shard to a channel and detach it. The locks of the routes
//! are held for as long as a change takes, and never across an await.

use std::sync::atomic::Ordering;

use crate::channel_ref::ChannelRef;
use crate::deliver::Deliverer;
use crate::notice::Notice;
use crate::route::{Attached, ChannelId, CountAnnounced, Route};
use crate::sequence::Generation;

impl Deliverer {
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
}
