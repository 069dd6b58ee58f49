//! Subscription counts: how many subscribers a channel has, and when these are told
//! (docs/protocol.md#subscription-counts).

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use fanfare_protocol::ServerMessage;
use tokio::time::Instant;

use crate::app::App;
use crate::channel_ref::ChannelRef;
use crate::command::Command;
use crate::deliver::{Deliverer, shards};
use crate::roster::Changed;
use crate::route::{CountAnnounced, Route};

/// Up to this many subscribers get each count at once; a larger channel gets one every
/// [`COUNT_INTERVAL`] at most.
const MAX_IMMEDIATE_SUBSCRIBERS: usize = 100;
const COUNT_INTERVAL: Duration = Duration::from_secs(5);

impl Deliverer {
    /// Announces a changed count. On a node by itself the subscribers get it at once, or later if
    /// they are many. In a cluster it is reported to the other nodes, and subscribers get the total
    /// from there.
    pub(crate) fn count(&self, channel_ref: &ChannelRef, route: &mut Route) {
        if self.is_shared() {
            self.mark_changed(channel_ref, route);
        } else if is_counted(channel_ref) && route.subscribers > 0 {
            let now = Instant::now();
            if self.may_announce_count(channel_ref, route, now) {
                route.count_announced = CountAnnounced::At(now);
                self.push_count(channel_ref, route, route.subscribers);
            }
        }
    }

    /// Lists the channel's count to be reported to other nodes, once.
    fn mark_changed(&self, channel_ref: &ChannelRef, route: &mut Route) {
        // Users' own channels have no counts.
        if !mem::replace(&mut route.changed, true) && channel_ref.channel.user().is_none() {
            self.changed.lock().push(channel_ref.clone());
        }
    }

    /// Reports the count to the other nodes again, so that subscribers here get the total.
    pub(crate) fn count_again(&self, channel_ref: &ChannelRef) {
        let mut routes = channel_ref.routes();
        if let Some(route) = routes.get_mut(&channel_ref.channel) {
            self.mark_changed(channel_ref, route);
        }
    }

    /// Returns whether subscribers may get the count now; if not, schedules it.
    fn may_announce_count(
        &self,
        channel_ref: &ChannelRef,
        route: &mut Route,
        now: Instant,
    ) -> bool {
        match route.count_announced {
            CountAnnounced::Due(_) => false,
            CountAnnounced::At(before)
                if route.subscribers > MAX_IMMEDIATE_SUBSCRIBERS
                    && now < before + COUNT_INTERVAL =>
            {
                route.count_announced = CountAnnounced::Due(before + COUNT_INTERVAL);
                self.due_counts.lock().push(channel_ref.clone());
                false
            }
            CountAnnounced::Never | CountAnnounced::At(_) => true,
        }
    }

    /// Returns the channels whose count has changed since the last call.
    pub(crate) fn take_changed(&self) -> Vec<Changed> {
        let now = Instant::now();
        // Released before a route is locked, because `mark_changed` takes the two locks in the other order.
        // A count that changes in between is read below.
        let changed_channels = mem::take(&mut *self.changed.lock());
        let changed = |channel_ref: ChannelRef| {
            let mut routes = channel_ref.routes();
            let (mut count, mut tell) = (0, is_counted(&channel_ref));
            if let Some(route) = routes.get_mut(&channel_ref.channel) {
                route.changed = false;
                count = route.subscribers;
                tell = tell && self.may_announce_count(&channel_ref, route, now);
                if tell {
                    route.count_announced = CountAnnounced::At(now);
                }
            }
            drop(routes);
            Changed {
                channel_ref,
                count,
                tell,
            }
        };
        changed_channels.into_iter().map(changed).collect()
    }

    /// Lists the counts of all channels of an app as changed.
    pub(crate) fn mark_all_changed(&self, app: &Arc<App>) {
        for stripe in &app.channels.stripes {
            for (channel, route) in stripe.lock().iter_mut() {
                let channel_ref = ChannelRef {
                    app: Arc::clone(app),
                    channel: channel.clone(),
                };
                self.mark_changed(&channel_ref, route);
            }
        }
    }

    /// Queues a channel's subscription count over all nodes to its subscribers.
    pub(crate) fn announce_count(&self, channel_ref: &ChannelRef, count: usize) {
        let routes = channel_ref.routes();
        if let Some(route) = routes.get(&channel_ref.channel) {
            self.push_count(channel_ref, route, count);
        }
    }

    /// Queues a count to the channel's subscribers.
    fn push_count(&self, channel_ref: &ChannelRef, route: &Route, count: usize) {
        let channel = channel_ref.channel.as_str();
        let frame = ServerMessage::SubscriptionCount { channel, count }.to_frame();
        for shard in shards(route.shards) {
            self.inboxes[shard].push(Command::Broadcast {
                channel: route.id,
                frame: frame.clone(),
            });
        }
    }

    /// Queues the counts that are due.
    pub(crate) fn announce_due_counts(&self, now: Instant) {
        let waiting = mem::take(&mut *self.due_counts.lock());
        for channel_ref in waiting {
            let mut routes = channel_ref.routes();
            match routes.get_mut(&channel_ref.channel) {
                Some(route) if matches!(route.count_announced, CountAnnounced::Due(at) if at <= now) =>
                {
                    route.count_announced = CountAnnounced::Never;
                    self.count(&channel_ref, route);
                }
                Some(Route {
                    count_announced: CountAnnounced::Due(_),
                    ..
                }) => self.due_counts.lock().push(channel_ref.clone()),
                // The channel was vacated, and perhaps occupied again, in the meantime.
                _ => {}
            }
        }
    }
}

/// Returns whether the channel's subscribers get its subscription count.
fn is_counted(channel_ref: &ChannelRef) -> bool {
    channel_ref.channel.is_counted() && channel_ref.app.settings().subscription_count
}
