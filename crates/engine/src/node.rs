//! One node as a bus and a roster see it: its apps, and the way to its shards. They hand it what
//! comes from other nodes, and ask it what is true here.

use std::future::ready;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use fanfare_protocol::presence::Member;
use fanfare_protocol::{AppId, ChannelName, UserId};
use tokio::time::Instant;

use crate::app::{App, Apps};
use crate::bus::{BoxFuture, Envelope, StreamPosition};
use crate::cache::CachedEvent;
use crate::channel_ref::ChannelRef;
use crate::command::Command;
use crate::deliver::Deliverer;
use crate::live::LiveNode;
use crate::notice::{Notice, Notices};
use crate::other_nodes::Responder;
use crate::roster::ChangedCount;
use crate::sequence::{Generation, Position};
use crate::snapshot::PresenceChange;
use crate::trace::{FinishedSpan, SpanSink, TraceContext, TracedWork};
use crate::watchlist::ConnectionRef;

/// One node, as its bus and its roster use it.
#[derive(Debug)]
pub struct Node {
    pub(crate) apps: Apps,
    pub(crate) deliverer: Deliverer,
    notices: Arc<dyn Notices>,
    lost_nodes: AtomicU64,
    spans: Arc<dyn SpanSink>,
    /// Answers the questions of other nodes, once it is set.
    pub(crate) responder: OnceLock<Arc<dyn Responder>>,
}

impl Node {
    pub(crate) fn new(
        deliverer: Deliverer,
        notices: Arc<dyn Notices>,
        spans: Arc<dyn SpanSink>,
        apps: Apps,
    ) -> Arc<Self> {
        Arc::new(Self {
            apps,
            deliverer,
            notices,
            lost_nodes: AtomicU64::new(0),
            spans,
            responder: OnceLock::new(),
        })
    }

    /// Counts another node that has ended without leaving, and that this node was the one to clear away.
    pub fn note_lost_node(&self) {
        self.lost_nodes.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn lost_nodes(&self) -> u64 {
        self.lost_nodes.load(Ordering::Relaxed)
    }

    /// Answers a question of another node, or returns `None` if nothing here knows it.
    #[must_use]
    pub fn respond(&self, question: &str) -> BoxFuture<'static, Option<String>> {
        match self.responder.get() {
            Some(responder) => responder.respond(question),
            None => Box::pin(ready(None)),
        }
    }

    /// Returns what the live events of all apps share.
    pub(crate) fn live(&self) -> &LiveNode {
        self.apps.live()
    }

    /// Returns the app with this id.
    #[must_use]
    pub fn app(&self, id: &str) -> Option<Arc<App>> {
        self.apps.by_id(id)
    }

    /// Queues an event from another node to the shards, and waits until their inboxes have room.
    /// Called in the channel's order.
    pub async fn deliver(&self, envelope: &Envelope, stream_position: &StreamPosition) {
        match envelope.trace.as_deref() {
            None => {
                self.deliverer
                    .deliver_when_room(envelope, stream_position)
                    .await;
            }
            Some(parent) => {
                let traced = self.deliver_traced(envelope, stream_position, *parent);
                Box::pin(traced).await;
            }
        }
    }

    async fn deliver_traced(
        &self,
        envelope: &Envelope,
        stream_position: &StreamPosition,
        parent: TraceContext,
    ) {
        let (start, context) = (Instant::now(), parent.child());
        let subscribers = self.subscribers(&envelope.channel_ref);
        let envelope = Envelope {
            trace: Some(Box::new(context)),
            ..envelope.clone()
        };
        self.deliverer
            .deliver_when_room(&envelope, stream_position)
            .await;
        self.spans.record(FinishedSpan {
            context,
            parent,
            is_parent_remote: true,
            start,
            end: Instant::now(),
            work: TracedWork::Deliver { subscribers },
        });
    }

    /// Queues a presence change to the channel's subscribers. Called in the order of positions.
    pub fn announce(
        &self,
        channel_ref: &ChannelRef,
        change: &PresenceChange<'_>,
        position: Position,
    ) {
        self.deliverer.announce(channel_ref, change, position);
    }

    /// Takes a channel's subscription count over all nodes, which its subscribers here get now, or
    /// soon if they have just got one.
    pub fn update_count(&self, channel_ref: &ChannelRef, count: usize) {
        self.deliverer.update_count(channel_ref, count);
    }

    /// Takes a channel's subscription count over all nodes after this node has changed it, so that
    /// the change is reported once.
    pub fn report_changed_count(&self, channel_ref: &ChannelRef, count: usize) {
        self.deliverer.report_changed_count(channel_ref, count);
    }

    /// Queues to a user's watchers that the user came online or went offline. Called in the order
    /// of positions.
    pub fn announce_online(&self, app: &App, user: &UserId, online: bool, position: Position) {
        let inboxes = self.deliverer.inboxes();
        app.users
            .announce(user, online, position, |watcher, frame| {
                inboxes[watcher.shard].push(Command::NotifyWatcher {
                    slot: watcher.slot,
                    socket_id: watcher.socket_id,
                    position,
                    frame,
                });
            });
    }

    /// Closes a user's connections on this node.
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

    /// Notes that the node drains: clients that leave from now on have longer to return.
    pub(crate) fn start_draining(&self, runs_on: bool) {
        self.deliverer.start_draining(runs_on);
    }

    /// Notes that the node takes clients again.
    pub(crate) fn end_draining(&self) {
        self.deliverer.end_draining();
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.deliverer.is_draining()
    }

    /// Returns how long clients that leave now may take to return before receivers are told.
    #[must_use]
    pub fn leave_grace(&self) -> Duration {
        self.deliverer.leave_grace()
    }

    /// Reports a channel event.
    pub fn notice(&self, app: &App, channel: &ChannelName, notice: Notice<'_>) {
        app.show_notice(channel, &notice);
        self.notices.notice(app.id(), channel, notice);
    }

    /// Reports a channel event of an app that this node may not have any more.
    pub fn notice_of(&self, app: &AppId, channel: &ChannelName, notice: Notice<'_>) {
        match self.app(app.as_str()) {
            Some(app) => self.notice(&app, channel, notice),
            None => self.notices.notice(app, channel, notice),
        }
    }

    /// Starts a generation: events may be missed from now on, so clients that subscribe from now on wait
    /// until their topics are received again.
    pub fn start_generation(&self, next: Generation) {
        self.deliverer.start_generation(next);
    }

    /// Fences every connection that may have missed events, before any newer event is delivered.
    /// Also drops all cached events, which may be out of date.
    pub fn fence(&self) {
        for app in self.apps.all() {
            app.cache.clear();
        }
        for inbox in self.deliverer.inboxes() {
            inbox.push(Command::Fence);
        }
    }

    /// Closes all fenced connections, `per_second` of them each second, with a code that makes
    /// their clients reconnect.
    pub fn close_fenced(&self, per_second: usize) {
        let inboxes = self.deliverer.inboxes();
        let per_second = per_second.div_ceil(inboxes.len().max(1)).max(1);
        for inbox in inboxes {
            inbox.push(Command::CloseFenced { per_second });
        }
    }

    /// Stores the event that a cache channel kept before this node received the channel. Called before a
    /// connection subscribes.
    pub fn seed_cache(&self, channel_ref: &ChannelRef, event: Option<CachedEvent>) {
        let limits = &channel_ref.app.settings().limits;
        channel_ref
            .app
            .cache
            .seed(&channel_ref.channel, event, limits);
    }

    /// Drops a cache channel's event, because this node doesn't receive newer ones any more.
    pub fn forget_cached(&self, channel_ref: &ChannelRef) {
        channel_ref.app.cache.forget(channel_ref.channel.as_str());
    }

    /// Returns the channels whose number of subscribed connections on this node has changed since
    /// the last call.
    #[must_use]
    pub fn take_changed_counts(&self) -> Vec<ChangedCount> {
        self.deliverer.take_changed()
    }

    /// Returns the number of a channel's subscribed connections on this node.
    #[must_use]
    pub fn subscribers(&self, channel_ref: &ChannelRef) -> usize {
        channel_ref
            .app
            .channels
            .subscribers(channel_ref.channel.as_str())
    }

    /// Returns whether a connection on this node watches users of an app.
    #[must_use]
    pub fn has_watchers(&self, app: &App) -> bool {
        app.users.has_watchers()
    }

    /// Returns how many transitions of an app may wait until its receivers are told.
    #[must_use]
    pub fn max_transitions(&self) -> usize {
        self.apps.max_transitions()
    }

    /// Returns all apps, in no particular order.
    #[must_use]
    pub fn apps(&self) -> Vec<Arc<App>> {
        self.apps.all()
    }

    /// Announces all that this node has after it was disconnected. `member` and `user` are called
    /// under the locks under which changes are reported, so that no change comes in between; all
    /// counts are listed as changed.
    pub fn recount(
        &self,
        mut member: impl FnMut(&ChannelRef, Member),
        mut user: impl FnMut(&Arc<App>, &UserId),
    ) {
        for app in self.apps.all() {
            app.local_presence.for_each(|channel, found| {
                let channel_ref = ChannelRef {
                    app: Arc::clone(&app),
                    channel: channel.clone(),
                };
                member(&channel_ref, found);
            });
            app.users.for_each(|found| user(&app, found));
            self.deliverer.mark_all_changed(&app);
        }
    }
}
