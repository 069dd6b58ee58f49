//! [`Bus`] and [`Roster`] of a node by itself: it receives everything anyway, so events are
//! delivered directly.

use std::collections::{HashMap, HashSet};
use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fanfare_protocol::presence::Member;
use fanfare_protocol::{AppId, ChannelName, UserId};
use parking_lot::Mutex;

use crate::app::App;
use crate::budget::Network;
use crate::bus::{
    BoxFuture, Bus, BusError, Envelope, HistoryRead, IdempotencyKey, PublishOutcome, Topic,
};
use crate::cache::CachedEvent;
use crate::channel_ref::ChannelRef;
use crate::engine::{Engine, Links, ShardSeed};
use crate::history::HistoryAnswer;
use crate::history_reads::HistoryCharge;
use crate::local_transition_log::LocalTransitionLog;
use crate::network_counts::RemoteNetworks;
use crate::node::Node;
use crate::notice::{Notice, Notices};
use crate::options::Options;
use crate::other_nodes::NoOtherNodes;
use crate::permit::ConnectionPermit;
use crate::roster::{Roster, RosterError};
use crate::sequence::{Generation, Position};
use crate::snapshot::{Online, PresenceChange, PresenceSnapshot};
use crate::sparse::ShrinkIfSparse;
use crate::transitions::TransitionKind;

/// Delivers events directly, and keeps the roster in this process.
#[derive(Debug)]
pub struct Memory {
    node: Arc<Node>,
    presence: Mutex<HashMap<(AppId, ChannelName), PresenceChannel>>,
    online: Mutex<HashSet<(AppId, UserId)>>,
    /// One position for all channels: it never restarts, not even for a channel that was vacated in
    /// between.
    position: AtomicU64,
}

#[derive(Debug, Default)]
struct PresenceChannel {
    position: Position,
    members: HashMap<UserId, Option<Arc<str>>>,
}

impl Engine {
    /// Creates a node by itself, and its shards, which the caller must run.
    #[must_use]
    pub fn new(options: Options, notices: Arc<dyn Notices>) -> (Arc<Self>, Vec<ShardSeed>) {
        Self::build(options, false, notices, |node| {
            let memory = Arc::new(Memory::new(Arc::clone(node)));
            let log = LocalTransitionLog::new(Arc::clone(node), Arc::clone(&memory));
            Links {
                bus: Arc::clone(&memory) as Arc<dyn Bus>,
                roster: memory,
                transition_log: Arc::new(log),
                other_nodes: Arc::new(NoOtherNodes),
            }
        })
    }
}

impl Memory {
    /// Returns the bus and roster of `node` alone.
    #[must_use]
    pub fn new(node: Arc<Node>) -> Self {
        Self {
            node,
            presence: Mutex::default(),
            online: Mutex::default(),
            position: AtomicU64::new(0),
        }
    }

    fn next_position(&self) -> Position {
        // Called under the lock of members or users, which orders positions of one channel.
        self.position.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Adds a member and announces it under one lock, so that changes are announced in the order of
    /// their positions.
    fn add_member(
        &self,
        channel_ref: &ChannelRef,
        member: &Member,
        max: usize,
    ) -> Result<PresenceSnapshot, RosterError> {
        let mut presence = self.presence.lock();
        let presence_channel = presence.entry(key(channel_ref)).or_default();
        if let Some(user_info) = presence_channel.members.get_mut(&member.user_id) {
            user_info.clone_from(&member.user_info);
            return Ok(presence_channel.snapshot());
        }
        if presence_channel.members.len() >= max {
            if presence_channel.members.is_empty() {
                presence.remove(&key(channel_ref));
            }
            return Err(RosterError::Full { max });
        }
        presence_channel.position = self.next_position();
        let change = PresenceChange::Added(member);
        self.node
            .announce(channel_ref, &change, presence_channel.position);
        self.report_member(channel_ref, TransitionKind::Added, &member.user_id);
        presence_channel
            .members
            .insert(member.user_id.clone(), member.user_info.clone());
        Ok(presence_channel.snapshot())
    }

    /// Reports a member who came or left. Called under the lock of the members, so that the
    /// transition log has transitions in their order.
    fn report_member(&self, channel_ref: &ChannelRef, kind: TransitionKind, user: &UserId) {
        let ChannelRef { app, channel } = channel_ref;
        if app.wanted_notices().members {
            let grace = self.node.leave_grace();
            let user = Some(user.as_str());
            app.transitions.add(kind, channel.as_str(), user, grace);
        }
        let notice = if kind.is_present() {
            Notice::MemberAdded(user)
        } else {
            Notice::MemberRemoved(user)
        };
        self.node.notice(app, channel, notice);
    }

    /// Calls `absent` if a user is not on a presence channel, under the lock of the members.
    pub(crate) fn unless_member(
        &self,
        app: &App,
        channel: &ChannelName,
        user: &UserId,
        absent: impl FnOnce(),
    ) {
        let presence = self.presence.lock();
        let members = presence.get(&(app.id().clone(), channel.clone()));
        if members.is_none_or(|found| !found.members.contains_key(user)) {
            absent();
        }
    }

    /// Notes that a user is online or not, and announces it under one lock, as for members.
    fn set_online(&self, app: &Arc<App>, user: &UserId, is_online: bool) {
        let mut online = self.online.lock();
        let entry = (app.id().clone(), user.clone());
        let changed = if is_online {
            online.insert(entry)
        } else {
            online.remove(&entry)
        };
        online.shrink_if_sparse();
        if changed {
            let position = self.next_position();
            self.node.announce_online(app, user, is_online, position);
        }
    }
}

impl PresenceChannel {
    fn snapshot(&self) -> PresenceSnapshot {
        let member = |(user_id, user_info): (&UserId, &Option<Arc<str>>)| Member {
            user_id: user_id.clone(),
            user_info: user_info.clone(),
        };
        PresenceSnapshot {
            position: self.position,
            members: self.members.iter().map(member).collect(),
        }
    }
}

fn key(channel_ref: &ChannelRef) -> (AppId, ChannelName) {
    (channel_ref.app.id().clone(), channel_ref.channel.clone())
}

impl Bus for Memory {
    /// Delivers at once. The idempotency key is unused, because the server checks it before it
    /// calls a node by itself.
    fn publish(
        &self,
        envelopes: Vec<Envelope>,
        _: Option<IdempotencyKey>,
    ) -> BoxFuture<'_, Result<PublishOutcome, BusError>> {
        let delivered = self.node.deliverer.deliver(&envelopes);
        Box::pin(ready(delivered.map(|()| PublishOutcome::Accepted)))
    }

    fn subscribe(&self, _: &Topic) -> BoxFuture<'_, Generation> {
        Box::pin(ready(self.node.deliverer.generation()))
    }

    fn unsubscribe(&self, _: &Topic) {}

    fn cached<'a>(
        &'a self,
        channel_ref: &'a ChannelRef,
    ) -> BoxFuture<'a, Result<Option<CachedEvent>, BusError>> {
        let (event, _) = channel_ref.app.cache.recall(channel_ref.channel.as_str());
        Box::pin(ready(Ok(event)))
    }

    fn history<'a>(
        &'a self,
        channel_ref: &'a ChannelRef,
        read: HistoryRead,
    ) -> BoxFuture<'a, Result<(HistoryAnswer, HistoryCharge), BusError>> {
        let max = channel_ref.app.settings().limits.history_bytes;
        let answer = channel_ref
            .app
            .histories
            .read(&channel_ref.channel, &read.query, max);
        Box::pin(ready(Ok((answer, read.charge))))
    }

    fn terminate(&self, app: &Arc<App>, user: &UserId) -> BoxFuture<'_, Result<(), BusError>> {
        self.node.terminate(app, user);
        Box::pin(ready(Ok(())))
    }

    fn nodes(&self) -> usize {
        1
    }

    fn unready(&self) -> Option<String> {
        None
    }
}

impl Roster for Memory {
    fn join(
        &self,
        channel_ref: &ChannelRef,
        member: &Member,
        max: usize,
    ) -> BoxFuture<'static, Result<PresenceSnapshot, RosterError>> {
        Box::pin(ready(self.add_member(channel_ref, member, max)))
    }

    fn leave(&self, channel_ref: &ChannelRef, user: &UserId) {
        let mut presence = self.presence.lock();
        let Some(presence_channel) = presence.get_mut(&key(channel_ref)) else {
            return;
        };
        if presence_channel.members.remove(user).is_none() {
            return;
        }
        presence_channel.position = self.next_position();
        self.node.announce(
            channel_ref,
            &PresenceChange::Removed(user),
            presence_channel.position,
        );
        self.report_member(channel_ref, TransitionKind::Removed, user);
        presence_channel.members.shrink_if_sparse();
        if presence_channel.members.is_empty() {
            presence.remove(&key(channel_ref));
            presence.shrink_if_sparse();
        }
    }

    fn presence_snapshot<'a>(
        &'a self,
        channel_ref: &'a ChannelRef,
    ) -> BoxFuture<'a, Result<PresenceSnapshot, RosterError>> {
        let view = self
            .presence
            .lock()
            .get(&key(channel_ref))
            .map(PresenceChannel::snapshot);
        let nobody = || PresenceSnapshot {
            position: self.position.load(Ordering::Relaxed),
            members: Vec::new(),
        };
        Box::pin(ready(Ok(view.unwrap_or_else(nobody))))
    }

    fn user_counts<'a>(
        &'a self,
        app: &'a Arc<App>,
        channels: &'a [ChannelName],
    ) -> BoxFuture<'a, Result<Vec<usize>, RosterError>> {
        let presence = self.presence.lock();
        let count = |channel: &ChannelName| {
            presence
                .get(&(app.id().clone(), channel.clone()))
                .map_or(0, |presence_channel| presence_channel.members.len())
        };
        Box::pin(ready(Ok(channels.iter().map(count).collect())))
    }

    fn remote_subscriptions<'a>(
        &'a self,
        _: &'a ChannelRef,
    ) -> BoxFuture<'a, Result<usize, RosterError>> {
        Box::pin(ready(Ok(0)))
    }

    fn remote_connections<'a>(
        &'a self,
        _: &'a Arc<App>,
    ) -> BoxFuture<'a, Result<usize, RosterError>> {
        Box::pin(ready(Ok(0)))
    }

    fn all_remote_subscriptions<'a>(
        &'a self,
        _: &'a Arc<App>,
        _: &'a str,
    ) -> BoxFuture<'a, Result<Vec<(ChannelName, usize)>, RosterError>> {
        Box::pin(ready(Ok(Vec::new())))
    }

    fn sign_in(&self, app: &Arc<App>, user: &UserId) {
        self.set_online(app, user, true);
    }

    fn sign_out(&self, app: &Arc<App>, user: &UserId) {
        self.set_online(app, user, false);
    }

    fn online<'a>(
        &'a self,
        app: &'a Arc<App>,
        users: &'a [UserId],
    ) -> BoxFuture<'a, Result<Online, RosterError>> {
        let online = self.online.lock();
        let is_online = |user: &UserId| online.contains(&(app.id().clone(), user.clone()));
        Box::pin(ready(Ok(Online {
            position: self.position.load(Ordering::Relaxed),
            online: users.iter().map(is_online).collect(),
        })))
    }

    /// Counts the connection; the quota of this node, checked before, is the whole quota.
    fn admit(
        &self,
        app: &Arc<App>,
        _: usize,
    ) -> BoxFuture<'static, Result<Option<ConnectionPermit>, RosterError>> {
        Box::pin(ready(Ok(Some(app.count_connection()))))
    }

    fn remote_networks<'a>(&'a self, _: &'a Arc<App>) -> BoxFuture<'a, RemoteNetworks> {
        let nodes = Vec::new();
        Box::pin(ready(RemoteNetworks {
            nodes,
            complete: true,
        }))
    }

    fn displace_remotely<'a>(
        &'a self,
        _: &'a Arc<App>,
        _: &'a str,
        _: Network,
    ) -> BoxFuture<'a, bool> {
        Box::pin(ready(false))
    }
}
