//! Subscription counts: how many subscribers a channel has, and when these are told
//! (docs/protocol.md#subscription-counts).

use std::mem;
use std::num::NonZeroU32;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use fanfare_protocol::{ChannelName, Frame, ServerMessage};
use tokio::time::{Instant, timeout_at};

use crate::app::App;
use crate::channel_ref::ChannelRef;
use crate::command::Command;
use crate::deliver::{ChangedRoute, Deliverer, shards};
use crate::notice::Notice;
use crate::outbox::{Origin, SharedFrame};
use crate::roster::ChangedCount;
use crate::route::{ChannelId, CountAnnounced, Route};
use crate::shard::{Shard, State};
use crate::subscriptions::Subscription;

/// Shortest time between two counts of a channel. A reader of a number follows about four changes a
/// second, and four counts a second are about 500 bytes, which any network carries.
const COUNT_INTERVAL: Duration = Duration::from_millis(250);
/// A channel with more subscribers than this gets a count every [`LARGE_INTERVAL`] at most.
const LARGE: usize = 100;
const LARGE_INTERVAL: Duration = Duration::from_secs(5);
/// Most counts that are queued to one connection before its socket is tried: less than an outbox
/// may hold.
const OWED_AT_ONCE: usize = 32;

impl Deliverer {
    /// Handles a changed number of subscribers on this node. `is_new` says that the first one came. On a node by itself that is the count.
    /// In a cluster it is reported to the other nodes, and the count over all nodes comes from there.
    pub(crate) fn report_count(&self, channel_ref: &ChannelRef, route: &mut Route, is_new: bool) {
        if self.is_shared() {
            self.mark_changed(channel_ref, route, is_new);
        } else if is_counted(channel_ref) && route.subscribers > 0 {
            self.announce_or_defer(channel_ref, route, route.subscribers);
        }
    }

    /// Lists the channel's count to be reported to other nodes, once.
    fn mark_changed(&self, channel_ref: &ChannelRef, route: &mut Route, is_new: bool) {
        // Users' own channels have no counts.
        if !mem::replace(&mut route.changed, true) && channel_ref.channel.user().is_none() {
            let channel_ref = channel_ref.clone();
            self.changed.lock().push(ChangedRoute {
                channel_ref,
                is_new,
            });
        }
    }

    /// Reports the count to the other nodes again, so that subscribers here get the total.
    pub(crate) fn report_count_again(&self, channel_ref: &ChannelRef) {
        let mut routes = channel_ref.routes();
        if let Some(route) = routes.get_mut(&channel_ref.channel) {
            self.mark_changed(channel_ref, route, false);
        }
    }

    /// Returns the channels whose count has changed since the last call.
    pub(crate) fn take_changed(&self) -> Vec<ChangedCount> {
        // Released before a route is locked, because `mark_changed` takes the two locks in the other order.
        // A count that changes in between is read below.
        let changed = mem::take(&mut *self.changed.lock());
        let report = |ChangedRoute {
                          channel_ref,
                          is_new,
                      }| {
            let mut routes = channel_ref.routes();
            let route = routes.get_mut(&channel_ref.channel);
            let count = route.map_or(0, |route| {
                route.changed = false;
                route.subscribers
            });
            drop(routes);
            ChangedCount {
                count,
                visited: is_new && count == 0 && !channel_ref.channel.kind().has_members(),
                announce: is_counted(&channel_ref),
                channel_ref,
            }
        };
        changed.into_iter().map(report).collect()
    }

    /// Lists the counts of all channels of an app as changed.
    pub(crate) fn mark_all_changed(&self, app: &Arc<App>) {
        for_each_route(app, |channel_ref, route| {
            self.mark_changed(channel_ref, route, false)
        });
    }

    /// Reports the counts of all channels of an app whose subscribers get counts from now on.
    pub(crate) fn report_all_counts(&self, app: &Arc<App>) {
        for_each_route(app, |channel_ref, route| {
            self.report_count(channel_ref, route, false)
        });
    }

    /// Takes a channel's count over all nodes.
    pub(crate) fn update_count(&self, channel_ref: &ChannelRef, count: usize) {
        let mut routes = channel_ref.routes();
        if let Some(route) = routes.get_mut(&channel_ref.channel) {
            self.announce_or_defer(channel_ref, route, count);
        }
    }

    /// Announces a new count at once if the channel has been quiet. Otherwise its subscribers get
    /// the newest count when the interval since the last one is over.
    fn announce_or_defer(&self, channel_ref: &ChannelRef, route: &mut Route, newest: usize) {
        let now = Instant::now();
        let interval = if newest > LARGE {
            LARGE_INTERVAL
        } else {
            COUNT_INTERVAL
        };
        match &mut route.count_announced {
            CountAnnounced::Due(count) => *count = newest,
            CountAnnounced::At(before) if now < *before + interval => {
                let at = *before + interval;
                route.count_announced = CountAnnounced::Due(newest);
                self.add_due_count(at, route.id, channel_ref);
            }
            CountAnnounced::Never | CountAnnounced::At(_) => {
                route.count_announced = CountAnnounced::At(now);
                self.push_count(channel_ref, route, newest);
            }
        }
    }

    fn add_due_count(&self, at: Instant, id: ChannelId, channel_ref: &ChannelRef) {
        let mut due = self.due_counts.lock();
        let is_first = due.keys().next().is_none_or(|(first, _)| at < *first);
        due.insert((at, id), channel_ref.clone());
        drop(due);
        if is_first {
            self.first_count_due.notify_one();
        }
    }

    /// Queues a count to the channel's subscribers.
    fn push_count(&self, channel_ref: &ChannelRef, route: &mut Route, count: usize) {
        let Some(number) = u32::try_from(count).ok().and_then(NonZeroU32::new) else {
            return;
        };
        let is_owed = mem::take(&mut route.owes_count_notice) || !self.is_shared();
        if is_owed {
            self.notice_count(channel_ref, count);
        }
        let frame = frame(&channel_ref.channel, number);
        for shard in shards(route.shards) {
            self.inboxes[shard].push(Command::Count {
                channel: route.id,
                name: channel_ref.channel.clone(),
                count: number,
                frame: frame.clone(),
            });
        }
    }

    /// Reports a count over all nodes, if the outside wants it.
    fn notice_count(&self, channel_ref: &ChannelRef, count: usize) {
        let ChannelRef { app, channel } = channel_ref;
        if app.wanted_notices().subscription_counts {
            let notice = Notice::SubscriptionCount(count);
            self.notices.notice(app.id(), channel, notice);
        }
    }

    /// Takes a count over all nodes that this node has changed. Every node announces it, and this
    /// one reports it as well: with its next announcement, so at most as often as subscribers get
    /// counts.
    pub(crate) fn report_changed_count(&self, channel_ref: &ChannelRef, count: usize) {
        if count == 0 || !channel_ref.app.wanted_notices().subscription_counts {
            return;
        }
        let mut routes = channel_ref.routes();
        match routes.get_mut(&channel_ref.channel) {
            Some(route) => {
                route.owes_count_notice = true;
                // Subscribers who have this count by then are left out.
                self.announce_or_defer(channel_ref, route, count);
            }
            // The last subscriber of this node has left, so there is no announcement here.
            None => self.notice_count(channel_ref, count),
        }
    }

    /// Queues the counts that are due, and returns when the next one is.
    fn push_due_counts(&self, now: Instant) -> Option<Instant> {
        loop {
            // Released before a route is locked, because `add_due_count` takes the two locks in the
            // other order.
            let mut due = self.due_counts.lock();
            let first = due.first_entry()?;
            let (at, id) = *first.key();
            if at > now {
                return Some(at);
            }
            let channel_ref = first.remove();
            drop(due);
            let mut routes = channel_ref.routes();
            // A channel that was vacated meanwhile, and perhaps occupied again, has another id.
            let route = routes.get_mut(&channel_ref.channel);
            if let Some(route) = route.filter(|route| route.id == id)
                && let CountAnnounced::Due(count) = route.count_announced
            {
                route.count_announced = CountAnnounced::At(now);
                // The app's settings may have changed meanwhile.
                if is_counted(&channel_ref) {
                    self.push_count(&channel_ref, route, count);
                }
            }
        }
    }
}

impl Shard {
    /// Announces the counts of the node when they are due, forever. Sleeps while none is.
    pub(crate) async fn announce_due_counts(self: Rc<Self>) {
        let deliverer = self.engine.deliverer();
        loop {
            let first_is_due = deliverer.first_count_due.notified();
            match deliverer.push_due_counts(Instant::now()) {
                // The signal ends the sleep if another count is due earlier.
                Some(at) => drop(timeout_at(at, first_is_due).await),
                None => first_is_due.await,
            }
        }
    }
}

impl State {
    /// Queues a count to the subscribers that got another one last. Those whose sockets take nothing
    /// now get the newest count later, so that they aren't disconnected over numbers that have been
    /// superseded.
    pub(crate) fn announce_count(
        &mut self,
        channel: ChannelId,
        name: &ChannelName,
        count: NonZeroU32,
        frame: &Frame,
    ) {
        let Some(subscribers) = self.channels.get_mut(&channel) else {
            return;
        };
        subscribers.count = Some(count);
        if let Some(backlog) = &mut subscribers.backlog {
            backlog.passed_count = true;
        }
        let frame = SharedFrame::new(frame);
        for slot in subscribers.slots.iter().chain(&subscribers.positioned) {
            let connection = &mut self.connections[*slot];
            let is_blocked = connection.is_blocked();
            let Some(subscription) = connection.subscriptions.get_mut(name.as_str()) else {
                continue;
            };
            if subscription.counted == Some(count) {
                continue;
            }
            if is_blocked {
                connection.owes_counts = true;
                continue;
            }
            subscription.counted = Some(count);
            self.outgoing.push(connection, *slot, &frame, Origin::Live);
        }
    }

    /// Queues the count that was announced last to one subscriber of the channel.
    pub(crate) fn send_count(&mut self, slot: usize, name: &ChannelName) {
        let connection = &mut self.connections[slot];
        let Some(subscription) = connection.subscriptions.get_mut(name.as_str()) else {
            return;
        };
        let subscribers = self.channels.get(&subscription.channel);
        let Some(count) = subscribers.and_then(|subscribers| subscribers.count) else {
            return;
        };
        subscription.counted = Some(count);
        self.push(slot, &frame(name, count), Origin::Live);
    }

    /// Sends the counts that were announced while the connection's socket took nothing, as many as
    /// it takes now.
    pub(crate) fn send_owed_counts(&mut self, slot: usize) {
        if self.connections[slot].is_blocked() {
            return;
        }
        let is_owed = |(name, subscription): (&ChannelName, &Subscription)| {
            let subscribers = self.channels.get(&subscription.channel);
            let count = subscribers.and_then(|subscribers| subscribers.count);
            (count.is_some() && subscription.counted != count).then(|| name.clone())
        };
        let subscriptions = self.connections[slot].subscriptions.iter();
        let owed: Vec<ChannelName> = subscriptions.filter_map(is_owed).collect();
        for names in owed.chunks(OWED_AT_ONCE) {
            if self.connections[slot].is_blocked() {
                return;
            }
            for name in names {
                self.send_count(slot, name);
            }
            self.connections[slot].flush(&mut self.outgoing.buffers);
        }
        self.connections[slot].owes_counts = false;
    }
}

/// Calls `visit` for each channel of an app, under the channel's lock.
fn for_each_route(app: &Arc<App>, visit: impl Fn(&ChannelRef, &mut Route)) {
    for stripe in &app.channels.stripes {
        for (channel, route) in stripe.lock().iter_mut() {
            let channel_ref = ChannelRef {
                app: Arc::clone(app),
                channel: channel.clone(),
            };
            visit(&channel_ref, route);
        }
    }
}

/// Encodes a count as subscribers get it.
fn frame(channel: &ChannelName, count: NonZeroU32) -> Frame {
    let message = ServerMessage::SubscriptionCount {
        channel: channel.as_str(),
        count: count.get() as usize,
    };
    message.to_frame()
}

/// Returns whether the channel's subscribers get its subscription count.
fn is_counted(channel_ref: &ChannelRef) -> bool {
    channel_ref.channel.is_counted() && channel_ref.app.settings().subscription_count
}
