//! The node: start, queries, drain.

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use fanfare_protocol::{ChannelKind, ChannelName, UserId};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::app::{App, AppDefinition, Apps};
use crate::bus::Bus;
use crate::cache::CachedEvent;
use crate::deliver::Deliverer;
use crate::inbox::Inbox;
use crate::memory::Memory;
use crate::roster::{Place, Roster};
use crate::shard::{Command, Shard};

/// What a node is told about itself.
#[derive(Debug, Clone)]
pub struct Options {
    /// Threads that own connections.
    pub shards: usize,
    /// Silence after which a client should ask, and we do.
    pub activity_timeout: Duration,
    /// Silence after our question that ends the connection.
    pub pong_timeout: Duration,
    /// Most bytes that may wait for one connection.
    pub outbox_bytes: usize,
    /// Most bytes of events that may wait for one shard.
    pub inbox_bytes: usize,
    /// Most connections this node takes.
    pub max_connections: usize,
    /// Most channels one connection may be subscribed to.
    pub max_subscriptions: usize,
}

/// How occupied a channel is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Occupancy {
    /// Subscribed connections.
    pub subscription_count: usize,
    /// Distinct users, on presence channels.
    pub user_count: Option<usize>,
}

/// One node.
pub struct Engine {
    apps: Apps,
    deliverer: Arc<Deliverer>,
    bus: Arc<dyn Bus>,
    roster: Arc<dyn Roster>,
    options: Options,
    connections: Arc<AtomicUsize>,
    next_shard: AtomicUsize,
    draining: AtomicBool,
    updating: Mutex<()>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// A shard that does not run yet.
#[derive(Debug)]
pub struct ShardSeed {
    index: usize,
    engine: Arc<Engine>,
    inbox: Arc<Inbox>,
}

impl ShardSeed {
    /// Runs the shard on this thread, for ever; wants a `LocalSet`.
    pub async fn run(self) {
        let shard = Shard::new(self.index, self.engine);
        tokio::task::spawn_local(Rc::clone(&shard).heartbeat());
        shard.run(self.inbox).await;
    }
}

impl Engine {
    /// A node by itself, and its shards, which the caller runs.
    #[must_use]
    pub fn new(options: Options) -> (Arc<Self>, Vec<ShardSeed>) {
        let inboxes: Vec<_> = (0..options.shards)
            .map(|_| Arc::new(Inbox::new(options.inbox_bytes)))
            .collect();
        let deliverer = Arc::new(Deliverer::new(inboxes.clone()));
        let memory = Arc::new(Memory::new(Arc::clone(&deliverer)));
        let engine = Arc::new(Self {
            apps: Apps::default(),
            deliverer,
            bus: Arc::clone(&memory) as Arc<dyn Bus>,
            roster: memory,
            options,
            connections: Arc::default(),
            next_shard: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
            updating: Mutex::new(()),
        });
        let seed = |(index, inbox)| ShardSeed {
            index,
            engine: Arc::clone(&engine),
            inbox,
        };
        let seeds = inboxes.into_iter().enumerate().map(seed).collect();
        (engine, seeds)
    }

    /// All apps.
    pub fn apps(&self) -> &Apps {
        &self.apps
    }

    /// Takes apps that are new or have changed, and forgets those whose ids are in `deleted`; connections that may not stay
    /// are closed.
    pub fn update_apps(&self, definitions: Vec<AppDefinition>, deleted: &[String]) {
        let _one_at_a_time = self.updating.lock();
        self.apps.update(definitions, deleted);
        for inbox in self.deliverer.inboxes() {
            inbox.push(Command::Review);
        }
    }

    /// Hands a new connection to a shard: `start` runs on the shard's thread and spawns the connection's reader there.
    pub fn adopt(&self, start: impl FnOnce(Rc<Shard>) + Send + 'static) {
        let inboxes = self.deliverer.inboxes();
        let index = self.next_shard.fetch_add(1, Ordering::Relaxed) % inboxes.len();
        inboxes[index].push(Command::Run(Box::new(|shard| start(Rc::clone(shard)))));
    }

    /// Connections on this node.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// How occupied one channel is.
    pub async fn channel(&self, app: &Arc<App>, channel: &ChannelName) -> Occupancy {
        let subscription_count = app.channels.subscribers(channel.as_str());
        let user_count = match channel.kind() {
            ChannelKind::Presence => self
                .roster
                .user_counts(app, std::slice::from_ref(channel))
                .await
                .pop(),
            ChannelKind::Public | ChannelKind::Private | ChannelKind::ServerToUser => None,
        };
        Occupancy {
            subscription_count,
            user_count,
        }
    }

    /// The occupied channels whose names start with `prefix`, by name; users are counted if asked for.
    pub async fn channels(
        &self,
        app: &Arc<App>,
        prefix: &str,
        with_users: bool,
    ) -> Vec<(ChannelName, Occupancy)> {
        let (names, subscribers): (Vec<_>, Vec<_>) = app.channels.list(prefix).into_iter().unzip();
        let users = if with_users {
            self.roster.user_counts(app, &names).await
        } else {
            Vec::new()
        };
        let mut users = users.into_iter().map(Some).chain(std::iter::repeat(None));
        let occupancy = |subscription_count| Occupancy {
            subscription_count,
            user_count: users.next().flatten(),
        };
        let occupancies: Vec<_> = subscribers.into_iter().map(occupancy).collect();
        names.into_iter().zip(occupancies).collect()
    }

    /// The event that a cache channel keeps.
    #[must_use]
    pub fn cached(&self, app: &App, channel: &ChannelName) -> Option<CachedEvent> {
        app.cache.recall(channel.as_str()).0
    }

    /// The users on a presence channel, by id.
    pub async fn users(&self, app: &Arc<App>, channel: &ChannelName) -> Vec<UserId> {
        let place = Place {
            app: Arc::clone(app),
            channel: channel.clone(),
        };
        let view = self.roster.view(&place).await;
        let mut users: Vec<_> = view
            .members
            .into_iter()
            .map(|member| member.user_id)
            .collect();
        users.sort();
        users
    }

    /// Lets nobody in any more.
    pub fn refuse_connections(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Closes all connections, spread over `period`, and waits until they are gone.
    pub async fn drain(&self, period: Duration) {
        self.refuse_connections();
        let mut drained = Vec::new();
        for inbox in self.deliverer.inboxes() {
            let (done, gone) = oneshot::channel();
            inbox.push(Command::Drain { period, done });
            drained.push(gone);
        }
        for gone in drained {
            // An error means that the shard itself is gone, and its connections with it.
            let _ = gone.await;
        }
    }

    pub(crate) fn connection_count(&self) -> &Arc<AtomicUsize> {
        &self.connections
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    pub(crate) fn deliverer(&self) -> &Deliverer {
        &self.deliverer
    }

    pub(crate) fn bus(&self) -> &dyn Bus {
        &*self.bus
    }

    pub(crate) fn roster(&self) -> &dyn Roster {
        &*self.roster
    }
}
