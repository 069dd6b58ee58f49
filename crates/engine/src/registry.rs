//! Which channels are occupied on this node: connections attach their shard to a channel and detach
//! it. The locks of the routes are held only while a change is made, and never across an await.

use std::sync::atomic::Ordering;

use crate::channel_ref::ChannelRef;
use crate::deliver::Deliverer;
use crate::notice::Notice;
use crate::route::{Attached, ChannelId, CountAnnounced, Route};
use crate::sequence::Generation;
use crate::sparse::ShrinkIfSparse;
use crate::transitions::TransitionKind;

impl Deliverer {
    /// Attaches a subscribing connection of `shard`: from now on the shard gets the channel's
    /// events. With `wants_positions` the connection gets their positions in the channel's history.
    pub(crate) fn attach(
        &self,
        channel_ref: &ChannelRef,
        shard: usize,
        wants_positions: bool,
    ) -> Attached {
        let mut routes = channel_ref.routes();
        let generation = self.generation();
        let route = routes
            .entry(channel_ref.channel.clone())
            .or_insert_with(|| Route {
                id: ChannelId(self.next_channel.fetch_add(1, Ordering::Relaxed)),
                shards: 0,
                subscribers: 0,
                positioned: 0,
                count_announced: CountAnnounced::Never,
                owes_count_notice: false,
                // A node by itself receives everything.
                received_since: (!self.is_shared()).then_some(generation),
                changed: false,
            });
        // Set before the shard lists the connection, so that no event passes its backlog by.
        route.shards |= 1 << shard;
        route.subscribers += 1;
        route.positioned += usize::from(wants_positions);
        let is_new = route.subscribers == 1;
        if is_new {
            self.occupied.fetch_add(1, Ordering::Relaxed);
            self.report(channel_ref, TransitionKind::Occupied, Notice::Occupied);
        }
        self.report_count(channel_ref, route, is_new);
        Attached {
            id: route.id,
            // A route received since an earlier generation may miss events, so the caller subscribes again.
            received_since: route.received_since.filter(|since| *since == generation),
        }
    }

    /// Detaches a connection of `shard`. `last` says that it was the shard's last one on the
    /// channel. Returns whether it was the node's last one.
    pub(crate) fn detach(
        &self,
        channel_ref: &ChannelRef,
        shard: usize,
        wants_positions: bool,
        last: bool,
    ) -> bool {
        let mut routes = channel_ref.routes();
        let Some(route) = routes.get_mut(&channel_ref.channel) else {
            return false;
        };
        route.subscribers -= 1;
        route.positioned -= usize::from(wants_positions);
        if last {
            // Events that are queued already find no subscribers in the shard.
            route.shards &= !(1 << shard);
        }
        self.report_count(channel_ref, route, false);
        let vacated = route.subscribers == 0;
        if vacated {
            routes.remove(&channel_ref.channel);
            routes.shrink_if_sparse();
            self.occupied.fetch_sub(1, Ordering::Relaxed);
            self.report(channel_ref, TransitionKind::Vacated, Notice::Vacated);
        }
        vacated
    }

    /// Notes that this node receives the channel's events since a generation.
    pub(crate) fn note_receiving(&self, channel_ref: &ChannelRef, since: Generation) {
        let mut routes = channel_ref.routes();
        if let Some(route) = routes.get_mut(&channel_ref.channel) {
            route.received_since = Some(since);
        }
    }

    /// Reports on a node by itself that a channel became occupied or vacated. In a cluster the
    /// roster does, because only all nodes together know that. Called under the channel's lock, so
    /// that the transition log has transitions in their order.
    fn report(&self, channel_ref: &ChannelRef, kind: TransitionKind, notice: Notice<'_>) {
        let ChannelRef { app, channel } = channel_ref;
        // Users' own channels are nobody else's business.
        if self.is_shared() || channel.user().is_some() {
            return;
        }
        if app.wanted_notices().channels {
            let grace = self.leave_grace();
            app.transitions.add(kind, channel.as_str(), None, grace);
        }
        app.show_notice(channel, &notice);
        self.notices.notice(app.id(), channel, notice);
    }
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use crate::testing::{LocalNode, options, run_paused};

    #[test]
    fn channels_that_were_vacated_take_no_memory() {
        run_paused(async {
            let node = LocalNode::alone(options(1)).await;
            let room = || {
                let app = node.app();
                let room = app
                    .channels
                    .stripes
                    .iter()
                    .map(|stripe| stripe.lock().capacity());
                room.sum::<usize>()
            };
            let before = node.connect();
            before.subscribe("stays").await;
            let mut clients: Vec<_> = (0..100).map(|_| node.connect()).collect();
            for (number, client) in clients.iter().enumerate() {
                for channel in 0..100 {
                    client.subscribe(&format!("{number}-{channel}")).await;
                }
            }
            let peak = room();
            assert!(peak >= 10_000, "{peak}");
            for client in &mut clients {
                client.leave().await;
            }
            assert!(room() <= peak / 2, "{} of {peak}", room());
        });
    }
}
