//! What a node is by itself: its apps, and the way to its shards. A bus hands it what comes from other nodes, and asks it
//! what is true here.

use std::sync::Arc;

use fanfare_protocol::presence::Member;
use fanfare_protocol::{AppId, ChannelName, UserId};

use crate::app::{App, Apps};
use crate::bus::{Envelope, StreamPosition};
use crate::cache::CachedEvent;
use crate::channel_ref::ChannelRef;
use crate::command::Command;
use crate::deliver::Deliverer;
use crate::notice::{Notice, Notices};
use crate::recent_events::RecentEvents;
use crate::roster::Changed;
use crate::sequence::{Generation, Position};
use crate::snapshot::PresenceChange;
use crate::watchlist::ConnectionRef;

/// One node, as its bus and its roster know it.
#[derive(Debug)]
pub struct Node {
    pub(crate) apps: Apps,
    pub(crate) deliverer: Deliverer,
    notices: Arc<dyn Notices>,
}

impl Node {
    pub(crate) fn new(
        deliverer: Deliverer,
        notices: Arc<dyn Notices>,
        recent_events: Arc<RecentEvents>,
    ) -> Arc<Self> {
        Arc::new(Self {
            apps: Apps::new(recent_events),
            deliverer,
            notices,
        })
    }

    /// An app by its id.
    #[must_use]
    pub fn app(&self, id: &str) -> Option<Arc<App>> {
        self.apps.by_id(id)
    }

    /// Takes an event from other nodes, and waits for room in the shards' inboxes. Called in the order of the channel.
    pub async fn deliver(&self, envelope: &Envelope, stamp: &StreamPosition) {
        self.deliverer.deliver_when_room(envelope, stamp).await;
    }

    /// Tells a presence channel's subscribers who came or left. Called in the order of positions.
    pub fn announce(
        &self,
        channel_ref: &ChannelRef,
        edge: &PresenceChange<'_>,
        position: Position,
    ) {
        self.deliverer.announce(channel_ref, edge, position);
    }

    /// Tells a channel's subscribers how many they are over all nodes.
    pub fn tell_count(&self, channel_ref: &ChannelRef, count: usize) {
        self.deliverer.tell_count(channel_ref, count);
    }

    /// Tells who watches a user that they have come online or gone offline. Called in the order of positions.
    pub fn tell_online(&self, app: &App, user: &UserId, online: bool, position: Position) {
        let inboxes = self.deliverer.inboxes();
        app.users
            .announce(user, online, position, |watcher, frame| {
                inboxes[watcher.shard].push(Command::TellOne {
                    slot: watcher.slot,
                    socket_id: watcher.socket_id,
                    position,
                    frame,
                });
            });
    }

    /// Closes the connections of a user that are on this node.
    pub fn terminate(&self, app: &Arc<App>, user: &UserId) {
        for connection in app.users.connections(user) {
            let ConnectionRef {
                shard,
                slot,
                socket_id,
            } = connection;
            self.deliverer.inboxes()[shard].push(Command::Terminate { slot, socket_id });
        }
    }

    /// Reports what happened on a channel.
    pub fn notice(&self, app: &AppId, channel: &ChannelName, notice: Notice<'_>) {
        self.notices.notice(app, channel, notice);
    }

    /// Nothing that is published is sure to come here any more: whoever subscribes from now on listens anew.
    pub fn lose(&self, next: Generation) {
        self.deliverer.start_generation(next);
    }

    /// After events may have been missed, and before anything newer comes in: every connection that could have had one is
    /// written nothing more.
    pub fn fence(&self) {
        for app in self.apps.all() {
            app.cache.clear();
        }
        for inbox in self.deliverer.inboxes() {
            inbox.push(Command::Fence);
        }
    }

    /// Closes all that are cut off, so many a second, with a code that brings their clients back.
    pub fn close_fenced(&self, per_second: usize) {
        let inboxes = self.deliverer.inboxes();
        let per_second = per_second.div_ceil(inboxes.len().max(1)).max(1);
        for inbox in inboxes {
            inbox.push(Command::CloseFenced { per_second });
        }
    }

    /// What a cache channel kept before this node listened to it. Called before anybody subscribes.
    pub fn seed_cache(&self, channel_ref: &ChannelRef, event: Option<CachedEvent>) {
        let limits = &channel_ref.app.settings().limits;
        channel_ref
            .app
            .cache
            .seed(&channel_ref.channel, event, limits);
    }

    /// This node does not hear of a cache channel any more: what it keeps grows old.
    pub fn forget_cached(&self, channel_ref: &ChannelRef) {
        channel_ref.app.cache.forget(channel_ref.channel.as_str());
    }

    /// The channels whose number of subscribed connections here has changed since this was asked.
    #[must_use]
    pub fn take_changed_counts(&self) -> Vec<Changed> {
        self.deliverer.take_changed()
    }

    /// A channel's subscribed connections here.
    #[must_use]
    pub fn subscribers(&self, channel_ref: &ChannelRef) -> usize {
        channel_ref
            .app
            .channels
            .subscribers(channel_ref.channel.as_str())
    }

    /// Whether anybody here watches users of an app.
    #[must_use]
    pub fn has_watchers(&self, app: &App) -> bool {
        app.users.has_watchers()
    }

    /// All apps, in no particular order.
    #[must_use]
    pub fn apps(&self) -> Vec<Arc<App>> {
        self.apps.all()
    }

    /// Everything that the others are told of this node after they were away: `member` and `user` are called under the
    /// locks under which changes are told, so that nothing comes in between; the counts of all channels are changed.
    pub fn recount(
        &self,
        mut member: impl FnMut(&ChannelRef, Member),
        mut user: impl FnMut(&Arc<App>, &UserId),
    ) {
        for app in self.apps.all() {
            app.rooms.for_each(|channel, found| {
                let channel_ref = ChannelRef {
                    app: Arc::clone(&app),
                    channel: channel.clone(),
                };
                member(&channel_ref, found);
            });
            app.users.for_each(|found| user(&app, found));
            self.deliverer.change_all(&app);
        }
    }
}
