//! This node among others: connects, tells them its truth, beats, and starts again when the connection is lost.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use fanfare_engine::{Changed, Generation, Node, Place, Topic};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};

use crate::admission::Admissions;
use crate::backend::{Answer, Backend, Connected, NodeName, Step};
use crate::link::Link;
use crate::message::{Beat, Message};
use crate::names::Names;
use crate::peers::Peers;
use crate::queue::Queue;
use crate::roster::{self, Answered};
use crate::topics::Topics;

/// How often the others are told of counts that have changed.
const COUNT_EVERY: Duration = Duration::from_millis(100);
/// Longest pause between two attempts to connect.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How often the log says that there is still no connection.
const REMIND_EVERY: Duration = Duration::from_secs(30);
/// Most events whose answers are waited for.
const IN_FLIGHT: usize = 10_000;
/// How long a proxy may take to notice that a node is ready.
const NOTICED_WITHIN: Duration = Duration::from_secs(2);
/// Most questions to histories at once.
const ASKING: usize = 16;
/// How long a node that ends may take to say so.
const FAREWELL_WITHIN: Duration = Duration::from_secs(2);
/// How often a node that ends looks whether all was said.
const FAREWELL_TICK: Duration = Duration::from_millis(10);

/// How nodes work together.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What all names begin with: installations with different prefixes do not hear each other.
    pub prefix: String,
    /// After how long without a beat a node counts as dead.
    pub lease: Duration,
    /// Over how long the connections that may have missed something are closed.
    pub cut_off_period: Duration,
}

impl Settings {
    /// How long a node may hear nothing, itself included, until its connection counts as lost. Well below the lease, so that
    /// it knows before it is taken for dead.
    fn silence(&self) -> Duration {
        self.lease * 3 / 5
    }

    fn beat_every(&self) -> Duration {
        self.lease / 5
    }
}

/// This node among others.
pub struct Cluster {
    pub(crate) node: Arc<Node>,
    backend: Arc<dyn Backend>,
    pub(crate) settings: Settings,
    pub(crate) names: Names,
    /// This process, whatever connection it has.
    process: String,
    /// The connection, from when the others know this node until it is lost.
    link: ArcSwapOption<Link>,
    pub(crate) topics: Topics,
    pub(crate) queue: Queue,
    pub(crate) in_flight: Semaphore,
    /// Questions to histories.
    pub(crate) asking: Semaphore,
    pub(crate) admissions: Admissions,
    /// It ends: it beats no more.
    leaving: AtomicBool,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("process", &self.process)
            .field("ready", &self.ready())
            .finish_non_exhaustive()
    }
}

/// What a connection leaves to the next one.
#[derive(Default)]
struct Past {
    name: Option<NodeName>,
    others: HashSet<String>,
}

impl Cluster {
    /// `node` among the others that share `backend`. Does nothing until it is [run](Self::run).
    #[must_use]
    pub fn new(node: &Arc<Node>, backend: Arc<dyn Backend>, settings: Settings) -> Arc<Self> {
        Arc::new(Self {
            node: Arc::clone(node),
            backend,
            names: Names::new(&settings.prefix),
            settings,
            process: format!("{:016x}", rand::random::<u64>()),
            link: ArcSwapOption::empty(),
            topics: Topics::default(),
            queue: Queue::default(),
            in_flight: Semaphore::new(IN_FLIGHT),
            asking: Semaphore::new(ASKING),
            admissions: Admissions::default(),
            leaving: AtomicBool::new(false),
        })
    }

    /// The connection, if the others know this node.
    pub(crate) fn link(&self) -> Option<Arc<Link>> {
        self.link.load_full()
    }

    /// Whether this node and all others hear each other.
    pub(crate) fn ready(&self) -> bool {
        self.link
            .load()
            .as_ref()
            .is_some_and(|link| link.is_ready())
    }

    /// Connects, again and again, until it has said farewell.
    pub async fn run(self: Arc<Self>) {
        let mut past = Past::default();
        for generation in 1.. {
            let connected = self.connect().await;
            past = self.serve(connected, generation, past).await;
            if self.leaving.load(Ordering::Relaxed) {
                // The others would have to find out a second time that it is gone.
                return;
            }
        }
    }

    async fn connect(&self) -> Connected {
        let (start, mut pause) = (Instant::now(), Duration::from_millis(50));
        let mut remind = Duration::ZERO;
        loop {
            match self.backend.connect().await {
                Ok(connected) => return connected,
                Err(error) if start.elapsed() >= remind => {
                    remind = start.elapsed() + REMIND_EVERY;
                    tracing::error!(%error, "no connection to the other nodes (cluster.url): publishes are refused until there is one");
                }
                Err(error) => tracing::debug!(%error, "still no connection to the other nodes"),
            }
            // All nodes lose their connection at the same moment.
            sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Lives with one connection until it is lost.
    async fn serve(
        self: &Arc<Self>,
        connected: Connected,
        generation: Generation,
        past: Past,
    ) -> Past {
        let name: NodeName = format!("{}.{generation}", self.process).into();
        let Settings { lease, .. } = self.settings;
        let peers = Peers::new(
            &name,
            self.settings.silence(),
            past.others,
            Instant::now() + lease,
        );
        let link = Link::new(connected.connection, Arc::clone(&name), generation, peers);
        let hearing = tokio::spawn(Arc::clone(self).hear(Arc::clone(&link), connected.incoming));
        let reason = tokio::select! {
            reason = link.lost() => reason,
            reason = self.live(&link, past.name) => reason,
        };
        link.lose(reason.clone());
        tracing::warn!(
            %reason,
            "lost the connection to the other nodes: clients stay connected, publishes are refused until it is back"
        );
        self.link.store(None);
        self.node.lose(generation + 1);
        self.topics.lose();
        self.queue.close();
        // Nothing of this connection is delivered once the next one is there.
        if hearing.await.is_err() {
            tracing::error!("hearing the other nodes ended with a panic, which is a bug");
        }
        Past {
            name: Some(name),
            others: link.peers.others(),
        }
    }

    /// Joins the others and stays with them; returns why that ended.
    async fn live(self: &Arc<Self>, link: &Arc<Link>, before: Option<NodeName>) -> String {
        let joined = async {
            self.beat(link).await?;
            let topic = self.names.nodes_topic();
            let listening = link.take_one(Step::Listen { topic }).await;
            listening.map_err(|error| format!("listening to the other nodes: {error}"))
        };
        if let Err(reason) = joined.await {
            return reason;
        }
        if before.is_some() {
            self.node.cut_off();
        }
        self.link.store(Some(Arc::clone(link)));
        self.queue.open();
        self.tell_everything();
        // The first one was before this node could hear what it is answered with.
        link.beat.notify_one();
        tokio::select! {
            reason = self.queue.send(link) => reason,
            reason = self.listen_on(link) => reason,
            reason = self.beat_on(link) => reason,
            reason = self.count_on() => reason,
            reason = self.settle(link, before) => reason,
        }
    }

    /// This node's whole truth, for others who know nothing of it.
    fn tell_everything(self: &Arc<Self>) {
        self.node.recount(
            |place, member| self.say_join(place, &member, Answered::Unread, |_| {}),
            |app, user| self.queue.say(app, roster::enter(app, user), |_| {}),
        );
        self.tell_counts();
    }

    /// When everything was told, this node takes events as soon as all hear each other. What it had said with the
    /// connection before is cleared away, for it was said again.
    async fn settle(self: &Arc<Self>, link: &Arc<Link>, before: Option<NodeName>) -> String {
        self.flush(link).await;
        if let Some(before) = before
            && let Err(error) = self.bury(link, &before).await
        {
            return error.to_string();
        }
        while let Some(missing) = link.peers.missing() {
            tracing::debug!(missing, "not ready");
            link.peers.changed().await;
        }
        if link.set_ready() {
            let others = link.peers.others().len();
            tracing::info!(
                others,
                "connected: this node and the others hear each other"
            );
        }
        // Clients that came back earlier would find a proxy that does not send them to this node yet.
        sleep(NOTICED_WITHIN).await;
        self.node.bring_back(self.settings.cut_off_period);
        std::future::pending().await
    }

    /// Waits until all that was said until now is answered.
    async fn flush(&self, link: &Link) {
        let said = self.queue.said();
        while link.answered_steps() < said {
            sleep(FAREWELL_TICK).await;
        }
    }

    /// Asks to listen to what is wanted, and to listen no more to what is not, for ever.
    async fn listen_on(&self, link: &Arc<Link>) -> String {
        loop {
            let idle = self.topics.take_idle(|topic| self.is_wanted(topic));
            let pending = self.topics.take_pending();
            let mut steps = Vec::new();
            for (topic, _) in idle {
                steps.push(Step::Unlisten { topic });
            }
            for (topic, wanted) in &pending {
                steps.push(Step::Listen {
                    topic: topic.clone(),
                });
                if let Some(place) = cached(wanted) {
                    // What is kept here may be old; what comes from now on is not.
                    self.node.forget_cached(place);
                    steps.push(Step::Cached {
                        app: place.app.id().clone(),
                        channel: place.channel.to_string(),
                    });
                }
            }
            if steps.is_empty() {
                self.topics.changed(Duration::from_secs(1)).await;
                continue;
            }
            let mut kept = pending.iter().filter_map(|(_, topic)| cached(topic));
            for answer in link.take_in_time(steps).await {
                match answer {
                    Ok(Answer::Kept(event)) => {
                        if let Some(place) = kept.next() {
                            let event = event.as_ref().and_then(crate::bus::cached_event);
                            self.node.seed_cache(place, event);
                        }
                    }
                    Ok(_) => {}
                    Err(error) => return format!("listening to channels: {error}"),
                }
            }
            let names: Vec<_> = pending.into_iter().map(|(name, _)| name).collect();
            self.topics.listening(&names, link.generation);
        }
    }

    fn is_wanted(&self, topic: &Topic) -> bool {
        match topic {
            Topic::Channel(place) => self.node.subscribers(place) > 0,
            Topic::Users(app) => self.node.has_watchers(app),
        }
    }

    /// Says that this node lives, once, and learns who else does.
    async fn beat(&self, link: &Arc<Link>) -> Result<Vec<String>, String> {
        let beat = Message::Beat(Beat {
            node: link.name().to_string(),
            hears: link.peers.hears(),
        });
        let step = Step::Beat {
            node: link.name().clone(),
            first: link.is_unknown(),
            lease: self.settings.lease,
            message: beat.write(),
        };
        match timeout(self.settings.silence(), link.take_one(step)).await {
            Ok(Ok(Answer::Beat { now, live, dead })) => {
                link.set_clock(now, self.settings.lease);
                link.peers.set_live(live);
                Ok(dead)
            }
            Ok(Ok(other)) => Err(format!(
                "a beat was answered with {other:?}, which is a bug"
            )),
            Ok(Err(error)) => Err(format!("beating: {error}")),
            Err(_) => Err(format!(
                "a beat was not answered within {:?}",
                self.settings.silence()
            )),
        }
    }

    /// Says that this node lives, for ever, and clears away what the dead have left.
    async fn beat_on(self: &Arc<Self>, link: &Arc<Link>) -> String {
        let start = Instant::now();
        loop {
            let _ = timeout(self.settings.beat_every(), link.beat.notified()).await;
            if self.leaving.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
            let sent = Instant::now();
            let dead = match self.beat(link).await {
                Ok(dead) => dead,
                Err(reason) => return reason,
            };
            for name in dead {
                if *name != **link.name() {
                    tokio::spawn(Arc::clone(self).bury_in_turn(Arc::clone(link), name));
                }
            }
            let silent = link
                .peers
                .silent_for(start.max(sent - self.settings.silence()));
            if silent > self.settings.silence() {
                return format!("nothing was heard for {silent:?}, not even this node's own beats");
            }
        }
    }

    /// Tells the others of counts that have changed, for ever.
    async fn count_on(self: &Arc<Self>) -> String {
        self.admissions.start();
        loop {
            self.tell_counts();
            self.admissions.tell(&self.queue, self.node.apps());
            sleep(COUNT_EVERY).await;
        }
    }

    fn tell_counts(self: &Arc<Self>) {
        for changed in self.node.take_changed_counts() {
            let node = Arc::clone(&self.node);
            let Changed { place, count, tell } = changed;
            let step = roster::count(&place, count, tell);
            let app = Arc::clone(&place.app);
            self.queue.say(&app, step, move |answer| {
                roster::notice_count(&node, &place, &answer);
            });
        }
    }

    /// Says farewell, so that the others need not wait until this node counts as dead. Needs nothing of them: who is not
    /// reached finds out.
    pub async fn leave(self: &Arc<Self>) {
        let Some(link) = self.link() else {
            return;
        };
        let farewell = async {
            self.tell_counts();
            self.flush(&link).await;
            self.leaving.store(true, Ordering::Relaxed);
            // Whoever is still here would be left behind by what is said from now on.
            self.queue.close();
            self.flush(&link).await;
            self.bury(&link, link.name()).await?;
            let node = link.name().clone();
            link.take_one(Step::Forget { node }).await?;
            let message = Message::Farewell { node: link.name() }.write();
            let deadline = link.publish_until();
            link.take_one(Step::TellNodes { message, deadline }).await
        };
        match timeout(FAREWELL_WITHIN, farewell).await {
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

/// The channel of a topic, if it is one that keeps its last event.
fn cached(topic: &Topic) -> Option<&Place> {
    match topic {
        Topic::Channel(place) if place.channel.is_cached() => Some(place),
        Topic::Channel(_) | Topic::Users(_) => None,
    }
}
