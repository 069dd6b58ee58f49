//! The servers under measurement: started as child processes, or already running.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::target::{App, Target};

/// A history as a chat app would have it.
const HISTORY: &str = r#"history=[{"channels":"*","size":100,"ttl":300}]"#;
const START_LIMIT: Duration = Duration::from_secs(15);
/// Below the ports of outgoing connections, so that ten thousand of those don't take them.
const FIRST_PORT: u16 = 20_000;
const LAST_PORT: u16 = 32_000;

/// One of the servers to compare.
#[derive(Debug, Clone)]
pub(crate) enum Contender {
    /// This executable's own `floor` command.
    Floor,
    /// Fanfare from its executable, with more environment variables.
    Fanfare {
        /// The executable.
        program: PathBuf,
        /// Added to the environment.
        env: Vec<(String, String)>,
        /// Whether its app keeps histories.
        history: bool,
    },
    /// Several nodes of Fanfare, on a Redis of their own.
    Nodes {
        /// The executable.
        program: PathBuf,
        /// Added to the environment.
        env: Vec<(String, String)>,
        /// How many.
        nodes: usize,
    },
    /// A server that is already running.
    Running(Target),
}

impl Contender {
    /// Returns its name in tables.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Fanfare { history: false, .. } => "fanfare",
            Self::Fanfare { history: true, .. } => "history",
            Self::Nodes { .. } => "nodes",
            Self::Running(_) => "server",
        }
    }

    /// Starts it, and waits until it answers.
    pub(crate) fn start(&self) -> Result<Server> {
        match self {
            Self::Floor => start_floor(),
            Self::Fanfare {
                program,
                env,
                history,
            } => start_fanfare(program, env, *history),
            Self::Nodes {
                program,
                env,
                nodes,
            } => start_nodes(program, env, *nodes),
            Self::Running(target) => Ok(Server {
                target: target.clone(),
                children: Vec::new(),
            }),
        }
        .with_context(|| format!("cannot start {}", self.name()))
    }
}

/// A running server. Its child processes are killed when it is dropped.
pub(crate) struct Server {
    /// How to reach it.
    pub(crate) target: Target,
    children: Vec<Running>,
}

struct Running {
    child: Child,
    dir: TempDir,
}

impl Drop for Running {
    fn drop(&mut self) {
        // The child may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    fn spawn(mut command: Command, dir: TempDir) -> Result<Self> {
        let log = File::create(dir.path().join("log"))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot run {}", command.get_program().display()))?;
        Ok(Self { child, dir })
    }

    fn wait_until_ready(&mut self, address: SocketAddr) -> Result<()> {
        let started = Instant::now();
        while !answers_ready(address) {
            let ended = self.child.try_wait()?;
            if ended.is_some() || started.elapsed() > START_LIMIT {
                let log = fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
                bail!("it is not ready at {address}; its log says: {log}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn into_server(mut self, address: SocketAddr) -> Result<Server> {
        self.wait_until_ready(address)?;
        let target = Target {
            addresses: vec![address],
            pids: vec![self.child.id()],
            app: bench_app(),
        };
        Ok(Server {
            target,
            children: vec![self],
        })
    }
}

impl Server {
    /// Returns whether it was started for this measurement alone.
    pub(crate) fn is_fresh(&self) -> bool {
        !self.children.is_empty()
    }
}

fn start_floor() -> Result<Server> {
    let address = free_address()?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["floor", "--listen", &address.to_string()]);
    Running::spawn(command, TempDir::new()?)?.into_server(address)
}

fn start_fanfare(program: &Path, env: &[(String, String)], history: bool) -> Result<Server> {
    let address = free_address()?;
    let dir = TempDir::new()?;
    // An empty one, so that no configuration in the current folder has an effect.
    let config = dir.path().join("fanfare.toml");
    File::create(&config)?;
    let fanfare = |args: &[&str]| {
        let mut command = Command::new(program);
        command
            .args(args)
            .env("FANFARE_CONFIG", &config)
            .env("FANFARE_DATA_DIR", dir.path())
            .env("FANFARE_LISTEN", address.to_string())
            .envs(env.iter().cloned());
        command
    };
    let App { id, key, secret } = bench_app();
    let mut create = fanfare(&["app", "create", "--name", "bench"]);
    create.args(["--id", &id, "--key", &key, "--secret", &secret]);
    if history {
        create.args(["--setting", HISTORY]);
    }
    let output = create
        .output()
        .with_context(|| format!("cannot run {}", program.display()))?;
    ensure!(
        output.status.success(),
        "it did not create an app: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let serve = fanfare(&["serve"]);
    Running::spawn(serve, dir)?.into_server(address)
}

fn start_nodes(program: &Path, env: &[(String, String)], nodes: usize) -> Result<Server> {
    let (redis, port) = start_redis()?;
    let mut env = env.to_vec();
    env.push((
        "FANFARE_CLUSTER_URL".into(),
        format!("redis://127.0.0.1:{port}"),
    ));
    let mut all = start_fanfare(program, &env, false)?;
    for _ in 1..nodes {
        // Each node has the app in its own store.
        let node = start_fanfare(program, &env, false)?;
        all.target.addresses.extend(&node.target.addresses);
        all.target.pids.extend(&node.target.pids);
        all.children.extend(node.children);
    }
    all.children.push(redis);
    Ok(all)
}

fn start_redis() -> Result<(Running, u16)> {
    let (address, dir) = (free_address()?, TempDir::new()?);
    let port = address.port();
    let mut command = Command::new("redis-server");
    command
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .args(["--save", "", "--dir"])
        .arg(dir.path());
    let redis = Running::spawn(command, dir).context("redis-server must be installed")?;
    let started = Instant::now();
    while TcpStream::connect(address).is_err() {
        ensure!(
            started.elapsed() < START_LIMIT,
            "redis-server does not answer"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok((redis, port))
}

fn bench_app() -> App {
    App {
        id: "app-id".into(),
        key: "app-key".into(),
        secret: "app-secret".into(),
    }
}

fn free_address() -> Result<SocketAddr> {
    static NEXT: AtomicU16 = AtomicU16::new(FIRST_PORT);
    loop {
        let port = NEXT.fetch_add(1, Ordering::Relaxed);
        ensure!(port < LAST_PORT, "no free port");
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
}

fn answers_ready(address: SocketAddr) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        write!(stream, "GET /readyz HTTP/1.1\r\nHost: {address}\r\n\r\n")?;
        let mut start = [0; 12];
        stream.read_exact(&mut start)?;
        Ok(start == *b"HTTP/1.1 200")
    };
    ask().unwrap_or(false)
}
