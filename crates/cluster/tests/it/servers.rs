//! Redis servers, a Redis Cluster and a Sentinel, which tests share.

use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use fanfare_testkit::RedisServer;
use tokio::time::Instant;

/// How long a Redis Cluster may take to come up.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Servers that tests share while any of them needs them.
pub(crate) struct Shared<T>(Mutex<Weak<T>>);

impl<T> Shared<T> {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(Weak::new()))
    }

    pub(crate) fn get(&self, start: impl FnOnce() -> T) -> Arc<T> {
        let mut known = self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        known.upgrade().unwrap_or_else(|| {
            let started = Arc::new(start());
            *known = Arc::downgrade(&started);
            started
        })
    }
}

/// A single server.
pub(crate) fn single() -> Arc<RedisServer> {
    static SHARED: Shared<RedisServer> = Shared::new();
    SHARED.get(|| RedisServer::start(&[]))
}

/// Three masters.
pub(crate) fn cluster() -> Arc<Vec<RedisServer>> {
    static SHARED: Shared<Vec<RedisServer>> = Shared::new();
    SHARED.get(|| {
        let lines = ["cluster-enabled yes", "cluster-node-timeout 2000"];
        let servers: Vec<_> = (0..3).map(|_| RedisServer::start(&lines)).collect();
        let addresses = servers
            .iter()
            .map(|server| format!("127.0.0.1:{}", server.port));
        let addresses: Vec<_> = addresses.collect();
        let mut create = vec!["--cluster", "create"];
        create.extend(addresses.iter().map(String::as_str));
        create.push("--cluster-yes");
        servers[0].ask(&create);
        let start = Instant::now();
        let is_up = |server: &RedisServer| {
            server
                .ask(&["cluster", "info"])
                .contains("cluster_state:ok")
        };
        while !servers.iter().all(is_up) {
            assert!(
                start.elapsed() < TIMEOUT,
                "the Redis Cluster does not come up"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        servers
    })
}

/// A master with a password, and the Sentinel that knows it.
pub(crate) struct Watched {
    _master: RedisServer,
    pub(crate) sentinel: RedisServer,
}

pub(crate) const PASSWORD: &str = "p@ss:word";

pub(crate) fn watched() -> Arc<Watched> {
    static SHARED: Shared<Watched> = Shared::new();
    SHARED.get(|| {
        let secret = format!("requirepass \"{PASSWORD}\"");
        let master = RedisServer::start(&[&secret]);
        let monitor = format!("sentinel monitor chosen 127.0.0.1 {} 1", master.port);
        let auth = format!("sentinel auth-pass chosen \"{PASSWORD}\"");
        let sentinel = RedisServer::sentinel(&[&monitor, &auth]);
        Watched {
            _master: master,
            sentinel,
        }
    })
}
