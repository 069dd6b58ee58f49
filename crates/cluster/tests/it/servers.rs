//! Redis servers of the tests' own, on ports of their own.

use std::io::Write;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::Instant;

/// How long a server may take to start.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Starts a server that ends with its standard input: also when the tests are killed.
const UNTIL_INPUT_ENDS: &str = r#""$@" >log 2>&1 & cat >/dev/null; kill -KILL $!"#;

/// A server, until it is dropped.
pub(crate) struct Server {
    pub(crate) port: u16,
    process: Child,
    _folder: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        // Its temporary files go after it.
        let _ = self.process.wait();
    }
}

/// A port that nobody has.
pub(crate) fn free_port() -> u16 {
    // A node of a Redis Cluster has a second one, 10000 higher.
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        if port < 50000 && TcpListener::bind(("127.0.0.1", port + 10000)).is_ok() {
            return port;
        }
    }
}

impl Server {
    /// Starts one with lines of `redis.conf`; files that these name are written first.
    pub(crate) fn start(port: u16, lines: &[&str], sentinel: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut file = std::fs::File::create(folder.path().join("redis.conf")).unwrap();
        writeln!(
            file,
            "bind 127.0.0.1\nsave \"\"\nappendonly no\ndaemonize no"
        )
        .unwrap();
        if !lines.iter().any(|line| line.starts_with("port ")) {
            writeln!(file, "port {port}").unwrap();
        }
        for line in lines {
            writeln!(file, "{line}").unwrap();
        }
        let mut command = Command::new("sh");
        command.args(["-c", UNTIL_INPUT_ENDS, "sh", "redis-server", "redis.conf"]);
        if sentinel {
            command.arg("--sentinel");
        }
        command.current_dir(folder.path()).stdin(Stdio::piped());
        let version = Command::new("redis-server").arg("--version").output();
        assert!(
            version.is_ok(),
            "redis-server is not on the PATH: install Redis 7 or later (Debian, Ubuntu: apt-get install redis-server)"
        );
        let server = Self {
            port,
            process: command.spawn().unwrap(),
            _folder: folder,
        };
        let start = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(start.elapsed() < TIMEOUT, "redis-server does not start");
            std::thread::sleep(Duration::from_millis(10));
        }
        server
    }

    /// Asks it something with its own client.
    pub(crate) fn ask(&self, question: &[&str]) -> String {
        ask(self.port, question)
    }
}

fn ask(port: u16, question: &[&str]) -> String {
    let mut command = Command::new("redis-cli");
    command
        .args(["-p", &port.to_string(), "--no-auth-warning"])
        .args(question);
    let answer = command
        .output()
        .expect("redis-cli is where redis-server is");
    String::from_utf8(answer.stdout).unwrap()
}

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
pub(crate) fn single() -> Arc<Server> {
    static SHARED: Shared<Server> = Shared::new();
    SHARED.get(|| Server::start(free_port(), &[], false))
}

/// Three masters.
pub(crate) fn cluster() -> Arc<Vec<Server>> {
    static SHARED: Shared<Vec<Server>> = Shared::new();
    SHARED.get(|| {
        let lines = ["cluster-enabled yes", "cluster-node-timeout 2000"];
        let servers: Vec<_> = (0..3)
            .map(|_| Server::start(free_port(), &lines, false))
            .collect();
        let addresses = servers
            .iter()
            .map(|server| format!("127.0.0.1:{}", server.port));
        let addresses: Vec<_> = addresses.collect();
        let mut create = vec!["--cluster", "create"];
        create.extend(addresses.iter().map(String::as_str));
        create.push("--cluster-yes");
        ask(servers[0].port, &create);
        let start = Instant::now();
        let is_up = |server: &Server| {
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
    _master: Server,
    pub(crate) sentinel: Server,
}

pub(crate) const PASSWORD: &str = "p@ss:word";

pub(crate) fn watched() -> Arc<Watched> {
    static SHARED: Shared<Watched> = Shared::new();
    SHARED.get(|| {
        let secret = format!("requirepass \"{PASSWORD}\"");
        let master = Server::start(free_port(), &[&secret], false);
        let monitor = format!("sentinel monitor chosen 127.0.0.1 {} 1", master.port);
        let auth = format!("sentinel auth-pass chosen \"{PASSWORD}\"");
        let sentinel = Server::start(free_port(), &[&monitor, &auth], true);
        Watched {
            _master: master,
            sentinel,
        }
    })
}
