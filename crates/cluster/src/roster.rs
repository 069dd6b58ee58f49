//! The engine's roster: what this node reports of itself, and queries over all nodes.

use std::sync::Arc;

use fanfare_engine::{
    App, BoxFuture, ChannelRef, ConnectionPermit, Network, Node, Notice, Online, PresenceSnapshot,
    RemoteNetworks, Roster, RosterError,
};
use fanfare_protocol::presence::Member;
use fanfare_protocol::{ChannelName, UserId};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::backend::{Answer, Moment, NodeName, Step};
use crate::cluster::Cluster;
use crate::link::Link;

/// No limit for channel names, because nodes with higher limits may have accepted them.
const ANY_LENGTH: usize = usize::MAX;

/// How a join is answered.
#[derive(Clone, Copy)]
pub(crate) enum Answered {
    /// A client waits for the members, and may be one too many.
    Snapshot {
        /// The limit of users.
        max: usize,
    },
    /// No client waits: the join is only announced again.
    Unread,
}

impl Roster for Cluster {
    fn join(
        &self,
        channel_ref: &ChannelRef,
        member: &Member,
        max: usize,
    ) -> BoxFuture<'static, Result<PresenceSnapshot, RosterError>> {
        let (answered, answer) = oneshot::channel();
        self.enqueue_join(channel_ref, member, Answered::Snapshot { max }, |answer| {
            // The client may have gone.
            let _ = answered.send(answer);
        });
        Box::pin(async move {
            match answer.await {
                Ok(Answer::Joined { snapshot, .. }) => Ok(snapshot),
                Ok(Answer::Full) => Err(RosterError::Full { max }),
                Ok(_) | Err(_) => Err(RosterError::Disconnected),
            }
        })
    }

    fn leave(&self, channel_ref: &ChannelRef, user: &UserId) {
        let (app, channel) = (
            channel_ref.app.id().clone(),
            channel_ref.channel.to_string(),
        );
        let (node, channel_ref, who) = (Arc::clone(&self.node), channel_ref.clone(), user.clone());
        let user = user.clone();
        let step = move |node: &NodeName, deadline| Step::Leave {
            app,
            node: node.clone(),
            channel,
            user,
            deadline,
        };
        self.queue
            .enqueue(&channel_ref.app.clone(), step, move |answer| {
                if answer == Answer::Changed(true) {
                    notice(&node, &channel_ref, Notice::MemberRemoved(&who));
                }
            });
    }

    fn presence_snapshot<'a>(
        &'a self,
        channel_ref: &'a ChannelRef,
    ) -> BoxFuture<'a, Result<PresenceSnapshot, RosterError>> {
        Box::pin(async move {
            let step = Step::PresenceSnapshot {
                app: channel_ref.app.id().clone(),
                channel: channel_ref.channel.to_string(),
            };
            match self.ask(step).await? {
                Answer::PresenceSnapshot(view) => Ok(view),
                _ => Err(RosterError::Disconnected),
            }
        })
    }

    fn user_counts<'a>(
        &'a self,
        app: &'a Arc<App>,
        channels: &'a [ChannelName],
    ) -> BoxFuture<'a, Result<Vec<usize>, RosterError>> {
        Box::pin(async move {
            if channels.is_empty() {
                return Ok(Vec::new());
            }
            let step = Step::UserCounts {
                app: app.id().clone(),
                channels: channels.iter().map(ToString::to_string).collect(),
            };
            match self.ask(step).await? {
                Answer::Numbers(counts) => Ok(counts),
                _ => Err(RosterError::Disconnected),
            }
        })
    }

    fn remote_subscriptions<'a>(
        &'a self,
        channel_ref: &'a ChannelRef,
    ) -> BoxFuture<'a, Result<usize, RosterError>> {
        Box::pin(async move {
            let (app, channel) = (
                channel_ref.app.id().clone(),
                channel_ref.channel.to_string(),
            );
            let step = |node| Step::RemoteSubscriptions { app, node, channel };
            match self.ask_as(step).await? {
                Answer::Numbers(numbers) => Ok(numbers.first().copied().unwrap_or(0)),
                _ => Err(RosterError::Disconnected),
            }
        })
    }

    fn remote_connections<'a>(
        &'a self,
        app: &'a Arc<App>,
    ) -> BoxFuture<'a, Result<usize, RosterError>> {
        Box::pin(async move {
            let app = app.id().clone();
            let step = |node| Step::RemoteConnections { app, node };
            match self.ask_as(step).await? {
                Answer::Numbers(numbers) => Ok(numbers.first().copied().unwrap_or(0)),
                _ => Err(RosterError::Disconnected),
            }
        })
    }

    fn all_remote_subscriptions<'a>(
        &'a self,
        app: &'a Arc<App>,
        prefix: &'a str,
    ) -> BoxFuture<'a, Result<Vec<(ChannelName, usize)>, RosterError>> {
        Box::pin(async move {
            let (app, prefix) = (app.id().clone(), prefix.to_owned());
            let step = |node| Step::AllRemoteSubscriptions { app, node, prefix };
            let Answer::Counts(counts) = self.ask_as(step).await? else {
                return Err(RosterError::Disconnected);
            };
            let parsed = |(name, count): (String, usize)| {
                Some((ChannelName::parse(&name, ANY_LENGTH).ok()?, count))
            };
            Ok(counts.into_iter().filter_map(parsed).collect())
        })
    }

    fn enter(&self, app: &Arc<App>, user: &UserId) {
        self.queue.enqueue(app, enter(app, user), |_| {});
    }

    fn exit(&self, app: &Arc<App>, user: &UserId) {
        let (id, user) = (app.id().clone(), user.clone());
        let step = move |node: &NodeName, deadline| Step::SignOut {
            app: id,
            node: node.clone(),
            user,
            deadline,
        };
        self.queue.enqueue(app, step, |_| {});
    }

    fn online<'a>(
        &'a self,
        app: &'a Arc<App>,
        users: &'a [UserId],
    ) -> BoxFuture<'a, Result<Online, RosterError>> {
        Box::pin(async move {
            let step = Step::Online {
                app: app.id().clone(),
                users: users.to_vec(),
            };
            match self.ask(step).await? {
                Answer::Online { position, online } => Ok(Online { position, online }),
                _ => Err(RosterError::Disconnected),
            }
        })
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
        let (id, mut counted) = (app.id().clone(), Vec::new());
        let steps = vec![Step::Census, Step::ConnectionsByNode { app: id }];
        let mut census = None;
        for answer in link.take_in_time(steps).await {
            match answer {
                Ok(Answer::Census { listening, live }) => census = Some((listening, live)),
                Ok(Answer::Counts(counts)) => counted = counts,
                _ => return Err(RosterError::Disconnected),
            }
        }
        let (listening, live) = census.ok_or(RosterError::Disconnected)?;
        // What dead nodes had doesn't count: the reaper is about to remove it.
        counted.retain(|(node, _)| live.contains(node));
        let living: usize = counted.iter().map(|(_, count)| count).sum();
        if living < max || listening < live.len() {
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
    /// Queues that this node has a member; `then` gets the answer.
    pub(crate) fn enqueue_join(
        &self,
        channel_ref: &ChannelRef,
        member: &Member,
        answered: Answered,
        then: impl FnOnce(Answer) + Send + 'static,
    ) {
        let (app, channel) = (
            channel_ref.app.id().clone(),
            channel_ref.channel.to_string(),
        );
        let (node, channel_ref, member) =
            (Arc::clone(&self.node), channel_ref.clone(), member.clone());
        let user = member.user_id.clone();
        let (max, view) = match answered {
            Answered::Snapshot { max } => (max, true),
            Answered::Unread => (usize::MAX, false),
        };
        let step = move |node: &NodeName, deadline| Step::Join {
            app,
            node: node.clone(),
            channel,
            member,
            max,
            view,
            deadline,
        };
        self.queue
            .enqueue(&channel_ref.app.clone(), step, move |answer| {
                if matches!(answer, Answer::Joined { added: true, .. }) {
                    notice(&node, &channel_ref, Notice::MemberAdded(&user));
                }
                then(answer);
            });
    }

    /// Takes a step that reads, and waits for its answer.
    async fn ask(&self, step: Step) -> Result<Answer, RosterError> {
        self.ask_as(|_| step).await
    }

    /// Takes a step that reads and names this node, and waits for its answer.
    async fn ask_as(&self, step: impl FnOnce(NodeName) -> Step) -> Result<Answer, RosterError> {
        let link = self.link().ok_or(RosterError::Disconnected)?;
        let answer = link.take_one(step(link.name().clone())).await;
        answer.map_err(|error| {
            tracing::debug!(%error, "the other nodes were asked in vain");
            RosterError::Disconnected
        })
    }
}

/// Returns the step that announces a signed-in user of the node.
pub(crate) fn enter(
    app: &Arc<App>,
    user: &UserId,
) -> impl FnOnce(&NodeName, Moment) -> Step + Send + 'static {
    let (app, user) = (app.id().clone(), user.clone());
    move |node, deadline| Step::SignIn {
        app,
        node: node.clone(),
        user,
        deadline,
    }
}

/// Returns the step that reports a channel's subscribed connections on the node.
pub(crate) fn count(
    channel_ref: &ChannelRef,
    count: usize,
    announce: bool,
) -> impl FnOnce(&NodeName, Moment) -> Step + Send + 'static {
    let (app, channel) = (
        channel_ref.app.id().clone(),
        channel_ref.channel.to_string(),
    );
    move |node, deadline| Step::Count {
        app,
        node: node.clone(),
        channel,
        count,
        announce,
        deadline,
    }
}

/// Reports that a channel became occupied or vacated over all nodes.
pub(crate) fn notice_count(node: &Node, channel_ref: &ChannelRef, answer: &Answer) {
    match answer {
        Answer::Counted { before: 0, after } if *after > 0 => {
            notice(node, channel_ref, Notice::Occupied);
        }
        Answer::Counted { before, after: 0 } if *before > 0 => {
            notice(node, channel_ref, Notice::Vacated);
        }
        _ => {}
    }
}

fn notice(node: &Node, channel_ref: &ChannelRef, notice: Notice<'_>) {
    node.notice(channel_ref.app.id(), &channel_ref.channel, notice);
}
