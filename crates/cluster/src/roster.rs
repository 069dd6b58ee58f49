//! The engine's roster: what this node reports of itself, and queries over all nodes.

use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use fanfare_engine::{
    App, BoxFuture, ChangedCount, ChannelRef, ConnectionPermit, Network, Node, Notice, Online,
    PresenceSnapshot, RemoteNetworks, Roster, RosterError,
};
use fanfare_protocol::presence::Member;
use fanfare_protocol::{ChannelName, UserId};
use futures_util::future::join;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::backend::{Call, Change, Counted, Joined, LogRules, Reply};
use crate::cluster::Cluster;
use crate::link::Link;

/// No limit for channel names, because nodes with higher limits may have accepted them.
const ANY_LENGTH: usize = usize::MAX;

impl Roster for Cluster {
    fn join(
        &self,
        channel_ref: &ChannelRef,
        member: &Member,
        max: usize,
    ) -> BoxFuture<'static, Result<PresenceSnapshot, RosterError>> {
        let (answered, answer) = oneshot::channel();
        self.enqueue_join(channel_ref, member, Some(max), answered.into());
        Box::pin(async move {
            match answer.await {
                Ok(Joined::Member { snapshot, .. }) => Ok(snapshot),
                Ok(Joined::Full) => Err(RosterError::Full { max }),
                Err(_) => Err(RosterError::Disconnected),
            }
        })
    }

    fn leave(&self, channel_ref: &ChannelRef, user: &UserId) {
        let (node, left, who) = (Arc::clone(&self.node), channel_ref.clone(), user.clone());
        let change = Change::Leave {
            channel: channel_ref.channel.to_string(),
            user: user.clone(),
            log: self.log_rules(&channel_ref.app, self.node.leave_grace()),
            reply: Reply::new(move |removed| {
                if removed {
                    notice(&node, &left, Notice::MemberRemoved(&who));
                }
            }),
        };
        self.queue.enqueue(&channel_ref.app, change);
    }

    fn presence_snapshot<'a>(
        &'a self,
        channel_ref: &'a ChannelRef,
    ) -> BoxFuture<'a, Result<PresenceSnapshot, RosterError>> {
        let (app, channel) = (channel_ref.app.id(), channel_ref.channel.as_str());
        Box::pin(self.ask(move |link| link.presence.snapshot(app, channel)))
    }

    fn user_counts<'a>(
        &'a self,
        app: &'a Arc<App>,
        channels: &'a [ChannelName],
    ) -> BoxFuture<'a, Result<Vec<usize>, RosterError>> {
        if channels.is_empty() {
            return Box::pin(ready(Ok(Vec::new())));
        }
        let names = channels.iter().map(ToString::to_string).collect();
        Box::pin(self.ask(move |link| link.presence.user_counts(app.id(), names)))
    }

    fn remote_subscriptions<'a>(
        &'a self,
        channel_ref: &'a ChannelRef,
    ) -> BoxFuture<'a, Result<usize, RosterError>> {
        let (app, channel) = (channel_ref.app.id(), channel_ref.channel.as_str());
        Box::pin(self.ask(move |link| {
            link.presence
                .remote_subscriptions(app, link.name(), channel)
        }))
    }

    fn remote_connections<'a>(
        &'a self,
        app: &'a Arc<App>,
    ) -> BoxFuture<'a, Result<usize, RosterError>> {
        Box::pin(self.ask(move |link| link.presence.remote_connections(app.id(), link.name())))
    }

    fn all_remote_subscriptions<'a>(
        &'a self,
        app: &'a Arc<App>,
        prefix: &'a str,
    ) -> BoxFuture<'a, Result<Vec<(ChannelName, usize)>, RosterError>> {
        Box::pin(async move {
            let counts = self.ask(|link| {
                link.presence
                    .all_remote_subscriptions(app.id(), link.name(), prefix)
            });
            let parsed = |(name, count): (String, usize)| {
                Some((ChannelName::parse(&name, ANY_LENGTH).ok()?, count))
            };
            Ok(counts.await?.into_iter().filter_map(parsed).collect())
        })
    }

    fn sign_in(&self, app: &Arc<App>, user: &UserId) {
        self.queue.enqueue(app, sign_in(user));
    }

    fn sign_out(&self, app: &Arc<App>, user: &UserId) {
        let (user, reply) = (user.clone(), Reply::ignore());
        self.queue.enqueue(app, Change::SignOut { user, reply });
    }

    fn online<'a>(
        &'a self,
        app: &'a Arc<App>,
        users: &'a [UserId],
    ) -> BoxFuture<'a, Result<Online, RosterError>> {
        Box::pin(self.ask(move |link| link.presence.online(app.id(), users.to_vec())))
    }

    fn admit(
        &self,
        app: &Arc<App>,
        max: usize,
    ) -> BoxFuture<'static, Result<Option<ConnectionPermit>, RosterError>> {
        // Queued at the call, not when the future is polled, as the trait promises.
        let answer = self.ask_for_place(app, max);
        let (asker, link) = (self.asker(), self.link());
        let app = Arc::clone(app);
        Box::pin(async move {
            match (answer.await, link) {
                (Ok(None), Some(link)) => {
                    let Some(cluster) = asker.upgrade() else {
                        return Err(RosterError::Disconnected);
                    };
                    cluster.admit_if_living_leave_room(&link, &app, max).await
                }
                (Ok(channel_ref), _) => Ok(channel_ref),
                (Err(_), _) => Err(RosterError::Disconnected),
            }
        })
    }

    fn remote_networks<'a>(&'a self, app: &'a Arc<App>) -> BoxFuture<'a, RemoteNetworks> {
        Box::pin(self.ask_for_networks(app))
    }

    fn displace_remotely<'a>(
        &'a self,
        app: &'a Arc<App>,
        node: &'a str,
        network: Network,
    ) -> BoxFuture<'a, bool> {
        Box::pin(self.ask_to_displace(app, node, network))
    }
}

impl Cluster {
    /// Queues the query whether the app has room for one more connection.
    fn ask_for_place(
        &self,
        app: &Arc<App>,
        max: usize,
    ) -> oneshot::Receiver<Option<ConnectionPermit>> {
        let (answered, answer) = oneshot::channel();
        self.admissions.ask(&self.queue, app, max, answered);
        answer
    }

    /// Decides about a connection where all counted connections use a quota up. Stock clients never
    /// reconnect after the code of a quota, so a refusal needs proof that live connections use it
    /// up: every node that has some must send a heartbeat after the query, and the query is repeated then.
    /// Connections that have just ended no longer count by that time.
    ///
    /// # Errors
    ///
    /// Returns [`RosterError::Unsettled`] if dead nodes' connections count still, and
    /// [`RosterError::Disconnected`] while this node is disconnected.
    async fn admit_if_living_leave_room(
        &self,
        link: &Arc<Link>,
        app: &Arc<App>,
        max: usize,
    ) -> Result<Option<ConnectionPermit>, RosterError> {
        // Polled in this order, and so sent together.
        let (live, counted) = join(
            link.in_time(link.membership.live_nodes()),
            link.in_time(link.presence.connections_by_node(app.id())),
        )
        .await;
        let (Ok(live), Ok(mut counted)) = (live, counted) else {
            return Err(RosterError::Disconnected);
        };
        // What dead nodes had doesn't count: the reaper is about to remove it.
        counted.retain(|(node, _)| live.names.contains(node));
        let living: usize = counted.iter().map(|(_, count)| count).sum();
        if living < max || live.receiving < live.names.len() {
            return Err(RosterError::Unsettled);
        }
        let names: Vec<_> = counted.into_iter().map(|(node, _)| node).collect();
        // A heartbeat after the query shows that the node's counts in it were those of a live node.
        let arrived = timeout(
            self.settings.silence(),
            link.peers.wait_for_heartbeats(&names),
        )
        .await;
        if arrived.is_err() {
            return Err(RosterError::Unsettled);
        }
        self.ask_for_place(app, max)
            .await
            .map_err(|_| RosterError::Disconnected)
    }
}

impl Cluster {
    /// Queues that this node has a member, of whom a client waits for the channel's members if
    /// there is a limit of users.
    pub(crate) fn enqueue_join(
        &self,
        channel_ref: &ChannelRef,
        member: &Member,
        max: Option<usize>,
        reply: Reply<Joined>,
    ) {
        let (node, joined) = (Arc::clone(&self.node), channel_ref.clone());
        let user = member.user_id.clone();
        let change = Change::Join {
            channel: channel_ref.channel.to_string(),
            member: member.clone(),
            max: max.unwrap_or(usize::MAX),
            wants_members: max.is_some(),
            log: self.log_rules(&channel_ref.app, self.node.leave_grace()),
            reply: Reply::new(move |outcome| {
                if matches!(outcome, Joined::Member { added: true, .. }) {
                    notice(&node, &joined, Notice::MemberAdded(&user));
                }
                reply.send(outcome);
            }),
        };
        self.queue.enqueue(&channel_ref.app, change);
    }

    /// Returns the change that reports a channel's subscribed connections on this node.
    pub(crate) fn subscriptions(&self, changed: ChangedCount, reply: Reply<Counted>) -> Change {
        let ChangedCount {
            channel_ref,
            count,
            visited,
            announce,
        } = changed;
        Change::Subscriptions {
            channel: channel_ref.channel.to_string(),
            count,
            announce,
            visited,
            log: self.log_rules(&channel_ref.app, self.node.leave_grace()),
            reply,
        }
    }

    /// Returns how changes in an app are logged.
    pub(crate) fn log_rules(&self, app: &App, grace: Duration) -> LogRules {
        let wanted = app.wanted_notices();
        LogRules {
            channels: wanted.channels,
            members: wanted.members,
            grace,
            max_entries: self.node.max_transitions(),
        }
    }

    /// Makes a call that reads, and waits for its answer.
    async fn ask<T>(&self, call: impl FnOnce(&Link) -> Call<T>) -> Result<T, RosterError> {
        let link = self.link().ok_or(RosterError::Disconnected)?;
        link.in_time(call(&link)).await.map_err(|error| {
            tracing::debug!(%error, "the other nodes were asked in vain");
            RosterError::Disconnected
        })
    }
}

/// Returns the change that announces a signed-in user of the node.
pub(crate) fn sign_in(user: &UserId) -> Change {
    Change::SignIn {
        user: user.clone(),
        reply: Reply::ignore(),
    }
}

/// Reports what a report of a channel's subscriptions has changed over all nodes.
pub(crate) fn notice_count(node: &Node, changed: &ChangedCount, counted: Counted) {
    let ChangedCount {
        channel_ref,
        visited,
        announce,
        ..
    } = changed;
    if *announce && counted.before != counted.after {
        node.report_changed_count(channel_ref, counted.after);
    }
    match counted {
        Counted {
            before: 0,
            after: 0,
        } if *visited && is_wanted(&channel_ref.app) => {
            notice(node, channel_ref, Notice::Occupied);
            notice(node, channel_ref, Notice::Vacated);
        }
        Counted { before: 0, after } if after > 0 => {
            notice(node, channel_ref, Notice::Occupied);
        }
        Counted { before, after: 0 } if before > 0 => {
            notice(node, channel_ref, Notice::Vacated);
        }
        Counted { .. } => {}
    }
}

/// Returns whether anybody wants to know of a channel's short visit.
fn is_wanted(app: &App) -> bool {
    app.wanted_notices().channels || app.is_watched()
}

fn notice(node: &Node, channel_ref: &ChannelRef, notice: Notice<'_>) {
    node.notice(&channel_ref.app, &channel_ref.channel, notice);
}
