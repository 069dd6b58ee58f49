//! Nodes that work together, in this process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use fanfare_cluster::backend::Backend;
use fanfare_cluster::{Cluster, Settings};
use fanfare_engine::testing::{self, KEY, LocalNode, definition, options};
use fanfare_engine::{Engine, Notice, Notices};
use fanfare_protocol::{AppId, ChannelName};
use parking_lot::Mutex;
use tokio::task::AbortHandle;

use crate::sim::Sim;

pub(crate) const LEASE: Duration = Duration::from_secs(5);

/// Nodes that were started in this process, which gives each another name.
static NODES: AtomicU64 = AtomicU64::new(0);

pub(crate) fn settings() -> Settings {
    Settings {
        name: String::new(),
        installation: "ours".into(),
        lease: LEASE,
        fence_max: Duration::from_secs(5),
        fence_per_second: 2000,
    }
}

/// A node, and what makes it one of several.
pub(crate) struct ClusterNode {
    pub(crate) node: LocalNode,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) notices: Arc<Recorder>,
    name: String,
    run: AbortHandle,
}

impl ClusterNode {
    /// Starts a node; it connects while others go on.
    pub(crate) async fn start(backend: Arc<dyn Backend>, shards: usize) -> Self {
        let notices = Arc::new(Recorder::default());
        let name = format!("node-{}", NODES.fetch_add(1, Ordering::Relaxed));
        let mut made = None;
        let recorder = Arc::clone(&notices) as Arc<dyn Notices>;
        let engine = Engine::clustered(options(shards), recorder, |node| {
            let name = name.clone();
            let settings = Settings { name, ..settings() };
            let cluster = Cluster::new(node, backend, settings);
            made = Some(Arc::clone(&cluster));
            cluster.links()
        });
        let cluster = made.unwrap();
        let node = LocalNode::start(engine).await;
        let run = tokio::spawn(Arc::clone(&cluster).run()).abort_handle();
        Self {
            node,
            cluster,
            notices,
            name,
            run,
        }
    }

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.node.engine
    }

    /// Returns its name for people.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.node.engine.unready().is_none()
    }

    /// Waits until it takes events.
    pub(crate) async fn ready(&self) {
        while !self.is_ready() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Does nothing more, like a process that is gone. Its connection is the backend's to break.
    pub(crate) fn kill(&self) {
        self.notices.deaf.store(true, Ordering::Relaxed);
        self.run.abort();
    }
}

/// Writes notices down.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    all: Mutex<Vec<(String, String)>>,
    deaf: AtomicBool,
}

impl Recorder {
    /// All that were taken: the channel, and what happened.
    pub(crate) fn all(&self) -> Vec<(String, String)> {
        self.all.lock().clone()
    }
}

impl Notices for Recorder {
    fn notice(&self, _: &AppId, channel: &ChannelName, notice: Notice<'_>) {
        if self.deaf.load(Ordering::Relaxed) {
            return;
        }
        let what = match notice {
            Notice::Occupied => "occupied".to_owned(),
            Notice::Vacated => "vacated".to_owned(),
            Notice::MemberAdded(user) => format!("added {user}"),
            Notice::MemberRemoved(user) => format!("removed {user}"),
            Notice::SubscriptionCount(count) => format!("count {count}"),
            other => panic!("not wanted: {other:?}"),
        };
        self.all.lock().push((channel.to_string(), what));
    }
}

/// Nodes that receive each other, with an app that may have so many connections.
pub(crate) async fn with_quota(sim: &Sim, count: u64, quota: usize) -> Vec<ClusterNode> {
    let mut nodes = Vec::new();
    for process in 0..count {
        let node = ClusterNode::start(sim.backend(process), 2).await;
        let mut limited = testing::settings();
        limited.limits.connections = quota;
        let app = definition("1", KEY, limited);
        node.engine().update_apps(vec![app], &[]);
        nodes.push(node);
    }
    for node in &nodes {
        node.ready().await;
    }
    nodes
}
