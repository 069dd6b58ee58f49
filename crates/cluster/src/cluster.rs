//! This node in its cluster: connects, announces all it has, sends heartbeats, and starts again
//! when the connection is lost.

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use fanfare_engine::{
    Bus, ChannelRef, Generation, Links, Node, OtherNodes, Roster, Topic, TransitionLog,
};
use fanfare_protocol::AppId;
use futures_util::future::join3;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep, timeout};

use crate::admission::Admissions;
use crate::backend::{
    self, Backend, BackendError, Census, Connected, LeaseRenewal, NodeName, Reply,
};
use crate::displacement::Queries;
use crate::fence::Fence;
use crate::link::Link;
use crate::message::{Heartbeat, Message};
use crate::peers::Peers;
use crate::questions::Questions;
use crate::queue::Queue;
use crate::reaper::Rounds;
use crate::roster;
use crate::topics::Topics;

/// Interval at which changed counts are reported.
const COUNT_EVERY: Duration = Duration::from_millis(100);
/// Shortest and longest pause between two attempts to connect.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Interval at which the log repeats that there is no connection.
const REMIND_EVERY: Duration = Duration::from_secs(30);
/// Most publishes that wait for their answers.
const IN_FLIGHT: usize = 10_000;
/// How long fenced clients stay after a node is ready. A proxy with a health check of a second or
/// two notices meanwhile, or in the second that stock clients wait after 4101. Events published in
/// this time don't reach fenced clients.
const CLOSE_AFTER: Duration = Duration::from_millis(500);
/// After a connection that lasted this long, the next attempt is made at once.
const LASTED: Duration = Duration::from_secs(1);
/// How long a node that stops may take to say farewell.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(2);
/// Interval at which [`Cluster::flush`] looks whether all reports are answered.
const FAREWELL_TICK: Duration = Duration::from_millis(10);

/// Limits a log line that could come with every event.
#[derive(Debug, Default)]
pub(crate) struct Reminder(Mutex<Option<Instant>>);

impl Reminder {
    /// Returns whether the line is due, and notes that it is logged now.
    pub(crate) fn is_due(&self) -> bool {
        let mut logged = self.0.lock();
        let is_due = logged.is_none_or(|at| at.elapsed() >= REMIND_EVERY);
        if is_due {
            *logged = Some(Instant::now());
        }
        is_due
    }
}

/// The log's text while the back end refuses publishes.
pub(crate) const TAKES_NOTHING: &str = "what nodes share takes no events: publishes are refused";

/// Settings of a cluster.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The name of this node for people, other than those of the other nodes.
    pub name: String,
    /// The installation of which this is a node. Nodes of others with the same names are kept apart.
    pub installation: Arc<str>,
    /// How long a node counts as alive without a heartbeat.
    pub lease: Duration,
    /// Longest time that clients stay fenced before they are closed.
    pub fence_max: Duration,
    /// How many fenced clients are closed a second.
    pub fence_per_second: usize,
}

impl Settings {
    /// Returns how long a node may receive nothing, not even its own heartbeats, until its
    /// connection counts as lost. That is well below the lease, so that a node knows before it
    /// counts as dead.
    pub(crate) fn silence(&self) -> Duration {
        self.lease * 3 / 5
    }

    fn heartbeat_interval(&self) -> Duration {
        self.lease / 5
    }
}

/// One node of a cluster, as bus and roster of its engine.
pub struct Cluster {
    itself: Weak<Self>,
    pub(crate) node: Arc<Node>,
    backend: Arc<dyn Backend>,
    pub(crate) settings: Settings,
    /// The name of this process, the same over all its connections.
    pub(crate) process: String,
    /// The connection, from when other nodes know this node until it is lost.
    link: ArcSwapOption<Link>,
    pub(crate) topics: Topics,
    pub(crate) queue: Queue,
    pub(crate) in_flight: Semaphore,
    pub(crate) admissions: Admissions,
    pub(crate) queries: Queries,
    pub(crate) questions: Questions,
    fence: Fence,
    /// When the log said last that the back end refuses events, and that its clock does.
    pub(crate) refused_reminder: Reminder,
    pub(crate) late_reminder: Reminder,
    /// Whether the node is stopping and sends no heartbeats any more.
    leaving: AtomicBool,
    pub(crate) log_generation: watch::Sender<Generation>,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("process", &self.process)
            .field("ready", &self.ready())
            .finish_non_exhaustive()
    }
}

/// The state that a lost connection leaves to the next one.
#[derive(Default)]
struct Past {
    /// Names that this process had and that may still be in the list of all nodes.
    names: Vec<NodeName>,
    /// Apps in which it may have left entries under these names.
    apps: HashSet<AppId>,
    others: HashSet<String>,
}

/// Why a heartbeat failed.
enum HeartbeatError {
    /// The back end answers, and refuses it.
    Refused(String),
    /// Anything else.
    Lost(String),
}

impl HeartbeatError {
    fn reason(self) -> String {
        match self {
            Self::Refused(reason) | Self::Lost(reason) => reason,
        }
    }
}

/// Attempts to connect since the last good connection.
#[derive(Debug)]
struct Attempts {
    pause: Duration,
    /// When their failure was logged last, and whether it was a refusal.
    logged: Option<(Instant, bool)>,
}

impl Default for Attempts {
    fn default() -> Self {
        Self {
            pause: SHORTEST_PAUSE,
            logged: None,
        }
    }
}

impl Attempts {
    /// Notes a failed attempt: logs it now and then, and waits, longer each time.
    async fn failed(&mut self, reason: &str, refused: bool) {
        let is_logged =
            |(at, same): (Instant, bool)| same == refused && at.elapsed() < REMIND_EVERY;
        if self.logged.is_some_and(is_logged) {
            tracing::debug!(reason, "still not among the other nodes");
        } else {
            self.logged = Some((Instant::now(), refused));
            if refused {
                tracing::error!(reason, "{TAKES_NOTHING}");
            } else {
                tracing::error!(
                    error = reason,
                    "no connection to the other nodes (cluster.url): until there is one, publishes and /readyz are answered with 503 and clients that subscribe are closed with 4100; this node keeps trying"
                );
            }
        }
        self.wait().await;
    }

    /// Waits for a random time, because all nodes lose their connection at the same moment.
    async fn wait(&mut self) {
        sleep(self.pause.mul_f64(rand::random_range(0.5..1.0))).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }
}

impl Cluster {
    /// Creates a cluster of `node` and the others that share `backend`. Does nothing until
    /// [`run`](Self::run) is called.
    #[must_use]
    pub fn new(node: &Arc<Node>, backend: Arc<dyn Backend>, settings: Settings) -> Arc<Self> {
        node.set_live_name(&settings.name);
        Arc::new_cyclic(|itself| Self {
            itself: Weak::clone(itself),
            node: Arc::clone(node),
            backend,
            settings,
            process: format!("{:016x}", rand::random::<u64>()),
            link: ArcSwapOption::empty(),
            topics: Topics::default(),
            queue: Queue::default(),
            in_flight: Semaphore::new(IN_FLIGHT),
            admissions: Admissions::default(),
            queries: Queries::default(),
            questions: Questions::default(),
            fence: Fence::default(),
            refused_reminder: Reminder::default(),
            late_reminder: Reminder::default(),
            leaving: AtomicBool::new(false),
            log_generation: watch::Sender::new(0),
        })
    }

    /// Returns what links the node with the others.
    #[must_use]
    pub fn links(self: &Arc<Self>) -> Links {
        Links {
            bus: Arc::clone(self) as Arc<dyn Bus>,
            roster: Arc::clone(self) as Arc<dyn Roster>,
            transition_log: Arc::clone(self) as Arc<dyn TransitionLog>,
            other_nodes: Arc::clone(self) as Arc<dyn OtherNodes>,
        }
    }

    /// Returns the name of this process, which is the same over all its connections.
    pub(crate) fn process(&self) -> &str {
        &self.process
    }

    /// Returns a reference for tasks that may outlive the caller.
    pub(crate) fn asker(&self) -> Weak<Self> {
        Weak::clone(&self.itself)
    }

    /// Returns the connection, if other nodes know this node.
    pub(crate) fn link(&self) -> Option<Arc<Link>> {
        self.link.load_full()
    }

    /// Returns whether this node and all others receive each other's messages.
    pub(crate) fn ready(&self) -> bool {
        self.link
            .load()
            .as_ref()
            .is_some_and(|link| link.is_ready())
    }

    /// Connects, and connects again whenever the connection is lost, until this node has said
    /// farewell.
    pub async fn run(self: Arc<Self>) {
        tokio::select! {
            () = self.stay_connected() => {}
            () = self.close_overdue() => {}
        }
    }

    /// Serves one connection after the other, each with the next generation.
    async fn stay_connected(self: &Arc<Self>) {
        let (mut past, mut attempts) = (Past::default(), Attempts::default());
        for generation in 1.. {
            let connected = loop {
                match self.backend.connect().await {
                    Ok(connected) => break connected,
                    Err(error) => attempts.failed(&error.to_string(), false).await,
                }
            };
            past = self.serve(connected, generation, past, &mut attempts).await;
            if self.is_leaving() {
                // The other nodes would have to find out a second time that this one is gone.
                return;
            }
        }
    }

    /// Closes clients that have been fenced for as long as they may be, with or without a
    /// connection. The time runs from their fence, and not from each connection.
    async fn close_overdue(&self) {
        loop {
            self.fence.overdue().await;
            self.close_fenced();
        }
    }

    /// Fences the connections that may have missed events.
    fn fence(&self) {
        self.node.fence();
        self.fence.begin(self.settings.fence_max);
    }

    /// Closes all fenced connections, at the rate of the settings.
    fn close_fenced(&self) {
        self.fence.end();
        self.node.close_fenced(self.settings.fence_per_second);
    }

    /// Serves one connection until it is lost, and returns what it leaves to the next one.
    async fn serve(
        self: &Arc<Self>,
        connected: Connected,
        generation: Generation,
        mut past: Past,
        attempts: &mut Attempts,
    ) -> Past {
        let name: NodeName = format!("{}.{generation}", self.process).into();
        let Settings { lease, .. } = self.settings;
        let peers = Peers::new(
            &name,
            self.settings.silence(),
            std::mem::take(&mut past.others),
            Instant::now() + lease,
        );
        let (link, incoming) = Link::new(connected, Arc::clone(&name), generation, peers);
        let receiving = tokio::spawn(Arc::clone(self).receive(Arc::clone(&link), incoming));
        let ended = tokio::select! {
            reason = link.lost() => HeartbeatError::Lost(reason),
            ended = self.live(&link, &past) => ended,
        };
        let refused = matches!(ended, HeartbeatError::Refused(_));
        let reason = ended.reason();
        link.set_lost(reason.clone());
        if link.has_joined() {
            tracing::warn!(
                %reason,
                "lost the connection to the other nodes: clients stay connected, publishes are refused until it is back"
            );
        }
        // In this order: no new call takes this connection, subscribes see another generation, and
        // then topics and queue start again for the next one.
        self.link.store(None);
        self.node.start_generation(generation + 1);
        self.topics.reset();
        self.queue.close();
        // Nothing of this connection may be delivered once the next one exists.
        if receiving.await.is_err() {
            tracing::error!("receiving from the other nodes ended with a panic, which is a bug");
        }
        if !link.has_joined() {
            attempts.failed(&reason, refused).await;
        } else if link.age() < LASTED {
            attempts.wait().await;
        } else {
            *attempts = Attempts::default();
        }
        if link.has_cleared() {
            past = Past::default();
        }
        if !link.is_unknown() {
            past.names.push(name);
        }
        past.apps.extend(link.touched());
        past.others = link.peers.others();
        past
    }

    /// Announces this node and serves the connection; returns why that ended.
    async fn live(self: &Arc<Self>, link: &Arc<Link>, past: &Past) -> HeartbeatError {
        let joined = async {
            self.heartbeat(link).await?;
            let subscribed = link.broker.subscribe(vec![backend::Topic::Nodes]);
            link.in_time(subscribed).await.map_err(|error| {
                HeartbeatError::Lost(format!("subscribing to the other nodes: {error}"))
            })
        };
        if let Err(error) = joined.await {
            return error;
        }
        link.set_joined();
        // Fenced before the link is known, so before any newer event can be delivered.
        if link.generation > 1 {
            self.fence();
        }
        self.link.store(Some(Arc::clone(link)));
        // Opened before everything is announced: a change in between is queued under the lock that
        // `recount` takes, so it stays in order.
        self.queue.open();
        self.announce_everything();
        // The first heartbeat was sent before this node could receive the answers to it.
        link.heartbeat_now.notify_one();
        let reason = tokio::select! {
            reason = self.queue.send(link) => reason,
            reason = self.subscribe_loop(link) => reason,
            reason = self.heartbeat_loop(link) => reason,
            reason = self.count_loop() => reason,
            reason = self.live_loop(link) => reason,
            reason = self.settle(link, past) => reason,
        };
        HeartbeatError::Lost(reason)
    }

    /// Announces all that this node has, to nodes that know nothing of it.
    fn announce_everything(self: &Arc<Self>) {
        self.node.recount(
            |channel_ref, member| self.enqueue_join(channel_ref, &member, None, Reply::ignore()),
            |app, user| self.queue.enqueue(app, roster::sign_in(user)),
        );
        self.report_counts();
    }

    /// Once everything is announced, waits until all nodes receive each other's messages, and then
    /// accepts events. Removes what this process had announced over earlier connections, because it
    /// is announced again.
    async fn settle(self: &Arc<Self>, link: &Arc<Link>, past: &Past) -> String {
        self.flush(link).await;
        if let Err(error) = self.clear_former(link, &past.apps, &past.names).await {
            return error.to_string();
        }
        link.set_cleared();
        // Only now, because what this node has is no end that receivers are owed.
        self.log_generation.send_replace(link.generation);
        // Subscribed before the first look, so that no change falls between look and wait.
        let mut changes = link.peers.changes();
        while let Some(missing) = link.peers.missing() {
            tracing::debug!(missing, "not ready");
            // The wait ends with the connection.
            let _ = changes.changed().await;
        }
        if link.set_ready() {
            let others = link.peers.others().len();
            tracing::info!(
                others,
                "connected: this node and the others receive each other's messages"
            );
        }
        sleep(CLOSE_AFTER).await;
        self.close_fenced();
        // `live` ends with the first of its parts, so this one must not return.
        std::future::pending().await
    }

    /// Waits until all reports that were queued until now are answered.
    async fn flush(&self, link: &Link) {
        let queued = self.queue.queued_reports();
        while link.answered_reports() < queued {
            sleep(FAREWELL_TICK).await;
        }
    }

    /// Subscribes to pending topics and unsubscribes from idle ones, forever; returns why that
    /// ended.
    async fn subscribe_loop(&self, link: &Arc<Link>) -> String {
        loop {
            let idle = self.topics.take_idle(|topic| self.is_wanted(topic));
            let pending = self.topics.take_pending();
            if idle.is_empty() && pending.is_empty() {
                self.topics.changed(Duration::from_secs(1)).await;
                continue;
            }
            if let Err(error) = self.change_topics(link, idle, &pending).await {
                return format!("subscribing to channels: {error}");
            }
            // Only now may subscribes go on: the topics are received, and caches have what came
            // before.
            let names: Vec<_> = pending.into_iter().map(|(name, _)| name).collect();
            self.topics.finish_subscribe(&names, link.generation);
        }
    }

    /// Unsubscribes from idle topics, subscribes to pending ones, and reads the events that their
    /// channels cache.
    async fn change_topics(
        &self,
        link: &Link,
        idle: Vec<(backend::Topic, Topic)>,
        pending: &[(backend::Topic, Topic)],
    ) -> Result<(), BackendError> {
        let broker = &link.broker;
        let idle: Vec<_> = idle.into_iter().map(|(name, _)| name).collect();
        let names = pending.iter().map(|(name, _)| name.clone()).collect();
        let caches: Vec<_> = pending
            .iter()
            .filter_map(|(_, topic)| cached(topic))
            .collect();
        for channel_ref in &caches {
            // The cached event of this node may be out of date; events from now on are not.
            self.node.forget_cached(channel_ref);
        }
        let read = |channel_ref: &&ChannelRef| {
            broker.cached(channel_ref.app.id(), channel_ref.channel.as_str())
        };
        // Polled in this order: an event that is published in between is received, or cached.
        let (unsubscribed, subscribed, events) = join3(
            link.all_in_time((!idle.is_empty()).then(|| broker.unsubscribe(idle))),
            link.in_time(broker.subscribe(names)),
            link.all_in_time(caches.iter().map(read)),
        )
        .await;
        unsubscribed?;
        subscribed?;
        for (channel_ref, event) in caches.into_iter().zip(events?) {
            let event = event.as_ref().and_then(crate::bus::cached_event);
            self.node.seed_cache(channel_ref, event);
        }
        Ok(())
    }

    /// Returns whether a topic has a subscriber or watcher on this node.
    fn is_wanted(&self, topic: &Topic) -> bool {
        match topic {
            Topic::Channel(channel_ref) => self.node.subscribers(channel_ref) > 0,
            Topic::Users(app) => self.node.has_watchers(app),
            Topic::Live(app) => self.node.has_live_viewers(app),
        }
    }

    /// Sends one heartbeat, and returns which nodes are alive and which are dead.
    async fn heartbeat(&self, link: &Arc<Link>) -> Result<Census, HeartbeatError> {
        let beat = Message::Heartbeat(Heartbeat {
            node: link.name().to_string(),
            shown: Some(self.settings.name.clone()),
            receives: link.peers.received_nodes(),
        });
        let renewal = LeaseRenewal {
            node: link.name().clone(),
            first: link.is_unknown(),
            lease: self.settings.lease,
            message: beat.write(),
            installation: Arc::clone(&self.settings.installation),
        };
        let answer = link.in_time(link.membership.heartbeat(renewal));
        match timeout(self.settings.silence(), answer).await {
            Ok(Ok(census)) => {
                link.set_clock(census.now, self.settings.lease);
                link.peers.set_live(census.live.clone());
                Ok(census)
            }
            Ok(Err(BackendError::Refused(reason))) => Err(HeartbeatError::Refused(reason)),
            Ok(Err(error)) => Err(HeartbeatError::Lost(format!(
                "sending a heartbeat: {error}"
            ))),
            Err(_) => Err(HeartbeatError::Lost(format!(
                "a heartbeat was not answered within {:?}",
                self.settings.silence()
            ))),
        }
    }

    /// Sends heartbeats and reaps dead nodes, forever; returns why that ended.
    async fn heartbeat_loop(self: &Arc<Self>, link: &Arc<Link>) -> String {
        let (start, mut rounds) = (Instant::now(), Rounds::default());
        loop {
            let _ = timeout(
                self.settings.heartbeat_interval(),
                link.heartbeat_now.notified(),
            )
            .await;
            if self.is_leaving() {
                // Once the node is forgotten, a heartbeat would be refused and end the connection
                // before the farewell.
                std::future::pending::<()>().await;
            }
            // Taken before the heartbeat is sent: its answer may take a while.
            let sent = Instant::now();
            let Census { live, dead, .. } = match self.heartbeat(link).await {
                Ok(census) => census,
                Err(error) => return error.reason(),
            };
            // In the first lease after a loss, a live node's lease may have run out only because no
            // node reached the back end.
            if link.age() >= self.settings.lease {
                for name in dead.iter().filter(|name| ***name != **link.name()) {
                    let (cluster, link) = (Arc::clone(self), Arc::clone(link));
                    tokio::spawn(cluster.reap_in_turn(link, name.clone()));
                }
            }
            let known = live.into_iter().chain(dead).collect();
            if let Err(error) = self.inspect_lists(link, &mut rounds, &known).await
                && !self.is_leaving()
            {
                return error.to_string();
            }
            let silent = link
                .peers
                .silent_for(start.max(sent - self.settings.silence()));
            if silent > self.settings.silence() {
                return format!(
                    "nothing was received for {silent:?}, not even this node's own heartbeats"
                );
            }
        }
    }

    /// Returns whether the node is stopping.
    fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }

    /// Reports changed counts, forever.
    async fn count_loop(self: &Arc<Self>) -> String {
        self.admissions.start();
        loop {
            self.report_counts();
            self.admissions.announce(&self.queue, self.node.apps());
            sleep(COUNT_EVERY).await;
        }
    }

    /// Queues the counts that have changed.
    fn report_counts(self: &Arc<Self>) {
        for changed in self.node.take_changed_counts() {
            let (node, of) = (Arc::clone(&self.node), changed.clone());
            let reply = Reply::new(move |counted| roster::notice_count(&node, &of, counted));
            let app = Arc::clone(&changed.channel_ref.app);
            self.queue.enqueue(&app, self.subscriptions(changed, reply));
        }
    }

    /// Says farewell, so that the other nodes need not wait until this node counts as dead. Waits
    /// two seconds at most; nodes that it doesn't reach find out by themselves.
    pub async fn leave(self: &Arc<Self>) {
        let Some(link) = self.link() else {
            return;
        };
        let farewell = async {
            self.report_counts();
            self.flush(&link).await;
            self.leaving.store(true, Ordering::Relaxed);
            // Entries for connections that are still here would be left behind if they were
            // announced from now on.
            self.queue.close();
            self.flush(&link).await;
            // Everything is removed before the farewell, so that nodes that get it have nothing to
            // reap.
            self.reap(&link, link.name()).await?;
            link.in_time(link.membership.forget(link.name())).await?;
            let message = Message::Farewell { node: link.name() }.write();
            let sent = link.broker.broadcast(message, link.publish_until());
            link.in_time(sent).await
        };
        match timeout(FAREWELL_TIMEOUT, farewell).await {
            Ok(Ok(_)) => tracing::debug!("the other nodes know that this one ends"),
            Ok(Err(error)) => {
                tracing::info!(%error, "the other nodes were not told that this one ends; they find out")
            }
            Err(_) => tracing::info!(
                "the other nodes did not answer in time; they find out that this one ends"
            ),
        }
    }
}

/// Returns the channel of a topic, if it is a cache channel.
fn cached(topic: &Topic) -> Option<&ChannelRef> {
    match topic {
        Topic::Channel(channel_ref) if channel_ref.channel.keeps_last() => Some(channel_ref),
        Topic::Channel(_) | Topic::Users(_) | Topic::Live(_) => None,
    }
}
