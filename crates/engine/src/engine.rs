//! The node: start, queries, drain.

use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use fanfare_protocol::presence::Member;
use fanfare_protocol::{ChannelName, Quotas, UserId};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::app::{App, AppDefinition, Apps};
use crate::budget::{Ledger, Payer};
use crate::bus::{Bus, BusError, HistoryRead};
use crate::cache::CachedEvent;
use crate::channel_ref::ChannelRef;
use crate::clock::SUBSCRIBE_TIMEOUT;
use crate::command::Command;
use crate::deliver::Deliverer;
use crate::histogram::SharedHistogram;
use crate::history::{HistoryAnswer, HistoryQuery};
use crate::history_reads::{HistoryCharge, HistoryReads};
use crate::inbox::Inbox;
use crate::live::LiveNode;
use crate::node::Node;
use crate::node_quotas::{NodeQuotas, QuotaRequests};
use crate::notice::Notices;
use crate::options::Options;
use crate::other_nodes::{OtherNodes, Responder};
use crate::quota::QuotaShares;
use crate::recent_events::RecentEvents;
use crate::refusals::{RefusalSink, Refusals};
use crate::replay::most_bytes;
use crate::roster::{Roster, RosterError};
use crate::shard::Shard;
use crate::transition_log::TransitionLog;

/// A channel's number of subscriptions and users.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Occupancy {
    /// Subscribed connections.
    pub subscription_count: usize,
    /// Distinct users, on presence channels.
    pub user_count: Option<usize>,
}

impl Occupancy {
    /// Returns the occupancy of a channel without members.
    fn counted(subscription_count: usize) -> Self {
        Self {
            subscription_count,
            user_count: None,
        }
    }

    /// Returns the occupancy of a presence channel. The roster knows each member at once, while
    /// other nodes report their numbers of subscriptions a moment later. So the roster decides
    /// whether the channel is occupied, and each member counts as a subscription.
    fn of_users(subscribed: usize, users: usize) -> Self {
        Self {
            subscription_count: if users == 0 { 0 } else { subscribed.max(users) },
            user_count: Some(users),
        }
    }
}

/// One node: its apps, shards, bus and roster.
pub struct Engine {
    node: Arc<Node>,
    bus: Arc<dyn Bus>,
    roster: Arc<dyn Roster>,
    transition_log: Arc<dyn TransitionLog>,
    other_nodes: Arc<dyn OtherNodes>,
    options: Options,
    connections: Arc<AtomicUsize>,
    ledger: Ledger,
    history_reads: HistoryReads,
    next_shard: AtomicUsize,
    updating: Mutex<()>,
    refusals: Refusals,
    pub(crate) quotas: Arc<NodeQuotas>,
    /// Time until the other nodes have accepted a publish.
    pub(crate) bus_delay: SharedHistogram,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// What links a node with the others, or stands for them on a node by itself.
pub struct Links {
    /// Carries events.
    pub bus: Arc<dyn Bus>,
    /// Knows who is where.
    pub roster: Arc<dyn Roster>,
    /// Keeps the transitions that receivers are to be told.
    pub transition_log: Arc<dyn TransitionLog>,
    /// Asks the other nodes.
    pub other_nodes: Arc<dyn OtherNodes>,
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Links").finish_non_exhaustive()
    }
}

/// A shard that is not running yet.
#[derive(Debug)]
pub struct ShardSeed {
    index: usize,
    engine: Arc<Engine>,
    inbox: Arc<Inbox<Command>>,
}

impl ShardSeed {
    /// Runs the shard on this thread, forever. Needs a `LocalSet`.
    pub async fn run(self) {
        let shard = Shard::new(self.index, self.engine, self.inbox);
        tokio::task::spawn_local(Rc::clone(&shard).heartbeat());
        if self.index == 0 {
            // One shard does this for the whole node.
            tokio::task::spawn_local(Rc::clone(&shard).announce_due_counts());
        }
        if let Some(interval) = shard.engine.options().ping_interval {
            tokio::task::spawn_local(Rc::clone(&shard).keep_alive(interval));
        }
        shard.run().await;
    }
}

impl Engine {
    /// Creates a node of a cluster, whose links to the others `connect` creates, and its shards,
    /// which the caller must run.
    #[must_use]
    pub fn clustered(
        options: Options,
        notices: Arc<dyn Notices>,
        connect: impl FnOnce(&Arc<Node>) -> Links,
    ) -> (Arc<Self>, Vec<ShardSeed>) {
        Self::build(options, true, notices, connect)
    }

    pub(crate) fn build(
        options: Options,
        shared: bool,
        notices: Arc<dyn Notices>,
        connect: impl FnOnce(&Arc<Node>) -> Links,
    ) -> (Arc<Self>, Vec<ShardSeed>) {
        let inboxes: Vec<_> = (0..options.shards)
            .map(|_| Arc::new(Inbox::new(options.inbox_bytes)))
            .collect();
        let deliverer = Deliverer::new(inboxes.clone(), shared, Arc::clone(&notices));
        let recent_events = RecentEvents::new(options.recent_events_bytes);
        let live = LiveNode::new(options.live_events_bytes);
        let apps = Apps::new(recent_events, live, options.max_transitions);
        let node = Node::new(deliverer, notices, Arc::clone(&options.spans), apps);
        let Links {
            bus,
            roster,
            transition_log,
            other_nodes,
        } = connect(&node);
        let refusals = Refusals::new(Arc::clone(&node) as Arc<dyn RefusalSink>);
        let engine = Arc::new(Self {
            node,
            bus,
            roster,
            transition_log,
            other_nodes,
            ledger: Ledger::new(options.budgets),
            history_reads: HistoryReads::default(),
            quotas: Arc::new(NodeQuotas::new(&options.quotas)),
            options,
            connections: Arc::default(),
            next_shard: AtomicUsize::new(0),
            updating: Mutex::new(()),
            refusals,
            bus_delay: SharedHistogram::default(),
        });
        let seed = |(index, inbox)| ShardSeed {
            index,
            engine: Arc::clone(&engine),
            inbox,
        };
        let seeds = inboxes.into_iter().enumerate().map(seed).collect();
        (engine, seeds)
    }

    /// Returns the log of what clients and backends were refused.
    pub fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// Returns this node's shares of the installation's quotas.
    #[must_use]
    pub fn installation_quotas(&self) -> &QuotaShares {
        &self.quotas.installation
    }

    /// Returns whether an app or the installation has a quota, or had one since the start.
    #[must_use]
    pub fn has_quotas(&self) -> bool {
        self.quotas.are_set.load(Ordering::Relaxed)
    }

    /// Returns the requests for shares.
    #[must_use]
    pub fn quota_requests(&self) -> &QuotaRequests {
        &self.quotas.requests
    }

    /// Returns the transition logs of all apps: this node's, or in a cluster the ones that all nodes
    /// share.
    #[must_use]
    pub fn transition_log(&self) -> &Arc<dyn TransitionLog> {
        &self.transition_log
    }

    /// Returns the way to the other nodes.
    #[must_use]
    pub fn other_nodes(&self) -> &Arc<dyn OtherNodes> {
        &self.other_nodes
    }

    /// Sets what answers the questions of other nodes; the first call counts.
    pub fn set_responder(&self, responder: Arc<dyn Responder>) {
        // A second responder would answer the same questions.
        let _ = self.node.responder.set(responder);
    }

    /// Returns all apps.
    pub fn apps(&self) -> &Apps {
        &self.node.apps
    }

    /// Applies apps that are new or have changed, removes those whose ids are in `deleted`, and
    /// closes connections that may not stay.
    pub fn update_apps(&self, definitions: Vec<AppDefinition>, deleted: &[String]) {
        // Two updates at once would each copy the directory, and one would overwrite the other.
        let _one_at_a_time = self.updating.lock();
        let has_quotas = |app: &AppDefinition| app.settings.quotas != Quotas::default();
        if definitions.iter().any(has_quotas) {
            self.quotas.are_set.store(true, Ordering::Relaxed);
        }
        let change = self.node.apps.update(definitions, deleted);
        for app in &change.newly_counted {
            self.deliverer().report_all_counts(app);
        }
        if !change.concerns_connections {
            return;
        }
        for inbox in self.deliverer().inboxes() {
            // Pushed after the update, so that a shard that reviews sees it.
            inbox.push(Command::Review);
        }
    }

    /// Hands a new connection to the next shard: `start` runs on the shard's thread and spawns the
    /// connection's reader there. Events don't wait for it, however many clients come at once.
    pub fn adopt(&self, start: impl FnOnce(Rc<Shard>) + Send + 'static) {
        let inboxes = self.deliverer().inboxes();
        let index = self.next_shard.fetch_add(1, Ordering::Relaxed) % inboxes.len();
        inboxes[index].push_deferred(Command::Run(Box::new(|shard| start(Rc::clone(shard)))));
    }

    /// Returns the number of connections on this node.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Returns what is charged to the node, its apps and its clients' networks.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Returns why this node accepts no events now, if so.
    #[must_use]
    pub fn unready(&self) -> Option<String> {
        self.bus.unready()
    }

    /// Returns the number of a channel's subscribed connections on this node.
    #[must_use]
    pub fn local_subscribers(&self, app: &App, channel: &ChannelName) -> usize {
        app.channels.subscribers(channel.as_str())
    }

    /// Returns one channel's subscriptions and users over all nodes. Waits for the other nodes.
    ///
    /// # Errors
    ///
    /// Returns `Disconnected` if the other nodes don't answer.
    pub async fn channel(
        &self,
        app: &Arc<App>,
        channel: &ChannelName,
    ) -> Result<Occupancy, RosterError> {
        let channel_ref = ChannelRef {
            app: Arc::clone(app),
            channel: channel.clone(),
        };
        let remote = self.roster.remote_subscriptions(&channel_ref).await?;
        let subscribed = remote + app.channels.subscribers(channel.as_str());
        if !channel.kind().has_members() {
            return Ok(Occupancy::counted(subscribed));
        }
        let users = self
            .roster
            .user_counts(app, std::slice::from_ref(channel))
            .await?;
        Ok(Occupancy::of_users(
            subscribed,
            users.first().copied().unwrap_or(0),
        ))
    }

    /// Returns the channels that are occupied on any node and whose names start with `prefix`, by
    /// name. Waits for the other nodes.
    ///
    /// # Errors
    ///
    /// Returns `Disconnected` if the other nodes don't answer.
    pub async fn channels(
        &self,
        app: &Arc<App>,
        prefix: &str,
    ) -> Result<Vec<(ChannelName, Occupancy)>, RosterError> {
        // The numbers of other nodes, of this one and of users are of three moments; none is exact
        // while clients come and go.
        let remote = self.roster.all_remote_subscriptions(app, prefix).await?;
        let mut found: BTreeMap<_, _> = app.channels.list(prefix).into_iter().collect();
        for (channel, count) in remote {
            *found.entry(channel).or_default() += count;
        }
        let presence = found.keys().filter(|channel| channel.kind().has_members());
        let presence: Vec<_> = presence.cloned().collect();
        // One number for each of them, in their order.
        let mut users = self.roster.user_counts(app, &presence).await?.into_iter();
        let occupancy = |(channel, subscribed): (ChannelName, usize)| {
            let occupancy = if channel.kind().has_members() {
                Occupancy::of_users(subscribed, users.next().unwrap_or(0))
            } else {
                Occupancy::counted(subscribed)
            };
            (occupancy.subscription_count > 0).then_some((channel, occupancy))
        };
        Ok(found.into_iter().filter_map(occupancy).collect())
    }

    /// Returns the event that a cache channel keeps. Waits for the other nodes.
    ///
    /// # Errors
    ///
    /// Returns `Disconnected` if the other nodes don't answer.
    pub async fn cached(
        &self,
        app: &Arc<App>,
        channel: &ChannelName,
    ) -> Result<Option<CachedEvent>, BusError> {
        let channel_ref = ChannelRef {
            app: Arc::clone(app),
            channel: channel.clone(),
        };
        self.bus.cached(&channel_ref).await
    }

    /// Returns what a channel's history holds, for a backend of the app. Waits for its turn, and for
    /// the other nodes.
    ///
    /// # Errors
    ///
    /// Returns `Overloaded` if its turn doesn't come within [`SUBSCRIBE_TIMEOUT`], and `Disconnected`
    /// if the other nodes don't answer.
    pub async fn history(
        &self,
        app: &Arc<App>,
        channel: &ChannelName,
        query: HistoryQuery,
    ) -> Result<HistoryAnswer, BusError> {
        let channel_ref = ChannelRef {
            app: Arc::clone(app),
            channel: channel.clone(),
        };
        let payer = self.ledger.payer_of(None, Some(Arc::clone(&app.usage)));
        let bytes = most_bytes(&channel_ref, &query);
        let reserved = self.reserve_history(app, &payer, bytes).await;
        let read = HistoryRead {
            query,
            room: usize::MAX,
            charge: reserved.ok_or(BusError::Overloaded)?,
        };
        let (answer, _) = self.bus.history(&channel_ref, read).await?;
        Ok(answer)
    }

    /// Waits until a read of at most `bytes` of a history has its turn, and returns the charge for
    /// them, or `None` after [`SUBSCRIBE_TIMEOUT`].
    pub(crate) async fn reserve_history(
        &self,
        app: &App,
        payer: &Payer,
        bytes: usize,
    ) -> Option<HistoryCharge> {
        let turn = self.history_reads.reserve(app.id(), payer, bytes);
        timeout(SUBSCRIBE_TIMEOUT, turn).await.ok()
    }

    /// Returns the users on a presence channel, by id. Waits for the other nodes.
    ///
    /// # Errors
    ///
    /// Returns `Disconnected` if the other nodes don't answer.
    pub async fn users(
        &self,
        app: &Arc<App>,
        channel: &ChannelName,
    ) -> Result<Vec<UserId>, RosterError> {
        let members = self.members(app, channel).await?;
        Ok(members.into_iter().map(|member| member.user_id).collect())
    }

    /// Returns the members of a presence channel over all nodes, each user once, by id. Waits for
    /// the other nodes.
    ///
    /// # Errors
    ///
    /// Returns `Disconnected` if the other nodes don't answer.
    pub async fn members(
        &self,
        app: &Arc<App>,
        channel: &ChannelName,
    ) -> Result<Vec<Member>, RosterError> {
        let channel_ref = ChannelRef {
            app: Arc::clone(app),
            channel: channel.clone(),
        };
        let mut members = self.roster.presence_snapshot(&channel_ref).await?.members;
        members.sort_by(|a, b| a.user_id.cmp(&b.user_id));
        Ok(members)
    }

    /// Returns the number of connections of an app over all nodes. Waits for the other nodes.
    ///
    /// # Errors
    ///
    /// Returns `Disconnected` if the other nodes don't answer.
    pub async fn count_connections(&self, app: &Arc<App>) -> Result<usize, RosterError> {
        let remote = self.roster.remote_connections(app).await?;
        Ok(remote + app.connection_count())
    }

    /// Admits no connections from now on, as a node that runs on without clients.
    pub fn refuse_connections(&self) {
        self.node.start_draining(true);
    }

    /// Admits connections again. A drain that is under way closes no further ones, and is over.
    pub fn accept_connections(&self) {
        self.node.end_draining();
    }

    /// Returns the number of threads that own connections.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.deliverer().inboxes().len()
    }

    /// Closes all connections of a node that stops, spread over `period`, and waits until they are
    /// gone, or until [`Self::accept_connections`] is called.
    pub async fn drain(&self, period: Duration) {
        self.node.start_draining(false);
        self.close_connections(period).await;
    }

    /// Does the same as [`Self::drain`] on a node that runs on, and tells clients so.
    pub async fn move_clients(&self, period: Duration) {
        self.refuse_connections();
        self.close_connections(period).await;
    }

    async fn close_connections(&self, period: Duration) {
        let mut drained = Vec::new();
        for inbox in self.deliverer().inboxes() {
            let (done, gone) = oneshot::channel();
            inbox.push(Command::Drain { period, done });
            drained.push(gone);
        }
        for gone in drained {
            // An error means that the shard is gone, and its connections with it.
            let _ = gone.await;
        }
    }

    pub(crate) fn connection_count(&self) -> &Arc<AtomicUsize> {
        &self.connections
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.node.is_draining()
    }

    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    pub(crate) fn node(&self) -> &Node {
        &self.node
    }

    pub(crate) fn deliverer(&self) -> &Deliverer {
        &self.node.deliverer
    }

    pub(crate) fn bus(&self) -> &dyn Bus {
        &*self.bus
    }

    pub(crate) fn roster(&self) -> &dyn Roster {
        &*self.roster
    }
}
