//! The servers under measurement: started as child processes, or already running.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::clients::Clients;
use crate::front::{Front, Identity};
use crate::target::{App, Target};

/// A history as a chat app would have it.
const HISTORY: &str = r#"history=[{"channels":"*","size":100,"ttl":300}]"#;
/// Name of the configuration file, in the folder of the data.
const CONFIG: &str = "fanfare.toml";
const START_LIMIT: Duration = Duration::from_secs(60);
/// Below the ports of outgoing connections, so that ten thousand of those don't take them.
const FIRST_PORT: u16 = 20_000;
const LAST_PORT: u16 = 32_000;

/// One of the servers to compare.
#[derive(Debug, Clone)]
pub(crate) enum Contender {
    /// This executable's own `floor` command, with such subscribers.
    Floor(Clients),
    /// Fanfare.
    Fanfare(Setup),
    /// Several nodes of Fanfare.
    Nodes {
        /// Each node.
        setup: Setup,
        /// How many.
        nodes: usize,
        /// URL of what they share, if not a Redis of their own.
        back_end: Option<String>,
    },
    /// A server that is already running.
    Running {
        /// Its name in tables.
        name: String,
        /// How to reach it.
        target: Target,
    },
}

/// How Fanfare is run.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    /// The executable.
    pub(crate) program: PathBuf,
    /// Added to the environment.
    pub(crate) env: Vec<(String, String)>,
    /// Settings of its app, as NAME=VALUE.
    pub(crate) settings: Vec<String>,
    /// Whether its app keeps histories.
    pub(crate) history: bool,
    /// What clients speak TLS to, if they do.
    pub(crate) front: Option<Front>,
    /// Whether clients resume the TLS sessions that they had.
    pub(crate) resume: bool,
    /// What its subscribers speak.
    pub(crate) clients: Clients,
}

impl Contender {
    /// Returns its name in tables.
    pub(crate) fn name(&self) -> String {
        let name = match self {
            Self::Floor(clients) => clients.name("floor"),
            Self::Fanfare(setup) => match setup.front {
                Some(front) => front.name(),
                None if setup.history => "history",
                None => setup.clients.name("fanfare"),
            },
            Self::Nodes { .. } => "nodes",
            Self::Running { name, .. } => name,
        };
        name.to_owned()
    }

    /// Starts it, and waits until it answers.
    pub(crate) fn start(&self) -> Result<Server> {
        match self {
            Self::Floor(clients) => start_floor(*clients),
            Self::Fanfare(setup) => start_fanfare(setup, &prepare_store(setup)?),
            Self::Nodes {
                setup,
                nodes,
                back_end,
            } => start_nodes(setup, *nodes, back_end.as_deref()),
            Self::Running { target, .. } => Ok(Server {
                target: target.clone(),
                redis: None,
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
    /// Process of the Redis that was started for it.
    pub(crate) redis: Option<u32>,
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

    fn wait_until_it_accepts(&self, address: SocketAddr) -> Result<()> {
        let started = Instant::now();
        while TcpStream::connect(address).is_err() {
            if started.elapsed() > START_LIMIT {
                let log = fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
                bail!("nothing accepts connections at {address}; its log says: {log}");
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
            tls: None,
            clients: Clients::default(),
        };
        Ok(Server {
            target,
            redis: None,
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

fn start_floor(clients: Clients) -> Result<Server> {
    let address = free_address()?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["floor", "--listen", &address.to_string()]);
    let mut server = Running::spawn(command, TempDir::new()?)?.into_server(address)?;
    server.target.clients = clients;
    Ok(server)
}

/// Makes the store of an installation with the app.
fn prepare_store(setup: &Setup) -> Result<TempDir> {
    let dir = TempDir::new()?;
    // An empty one, so that no configuration in the current folder has an effect.
    let config = dir.path().join(CONFIG);
    File::create(&config)?;
    let mut create = Command::new(&setup.program);
    create
        .args(["app", "create", "--name", "bench"])
        .env("FANFARE_CONFIG", &config)
        .env("FANFARE_DATA_DIR", dir.path())
        .envs(setup.env.iter().cloned());
    create_app(create, setup)?;
    Ok(dir)
}

/// Starts a node on a copy of a store.
fn start_fanfare(setup: &Setup, store: &TempDir) -> Result<Server> {
    let address = free_address()?;
    let dir = TempDir::new()?;
    for file in fs::read_dir(store.path())? {
        let file = file?;
        fs::copy(file.path(), dir.path().join(file.file_name()))?;
    }
    let config = dir.path().join(CONFIG);
    let mut env = setup.env.clone();
    let tls = setup
        .front
        .map(|front| Encryption::prepare(front, setup.resume, &mut env))
        .transpose()?;
    let fanfare = |args: &[&str]| {
        let mut command = Command::new(&setup.program);
        command
            .args(args)
            .env("FANFARE_CONFIG", &config)
            .env("FANFARE_DATA_DIR", dir.path())
            .env("FANFARE_LISTEN", address.to_string())
            .envs(env.iter().cloned());
        command
    };
    // The first start of all creates an operator, whose password hash takes 19 MiB until some seconds later. The figures
    // are those of a later start.
    let mut alone = fanfare(&["serve"]);
    alone.env_remove("FANFARE_CLUSTER_URL");
    Running::spawn(alone, TempDir::new()?)?.wait_until_ready(address)?;
    let serve = fanfare(&["serve"]);
    let mut server = Running::spawn(serve, dir)?.into_server(address)?;
    server.target.clients = setup.clients;
    match tls {
        Some(tls) => tls.put_before(server),
        None => Ok(server),
    }
}

fn create_app(mut create: Command, setup: &Setup) -> Result<()> {
    let App { id, key, secret } = bench_app();
    create.args(["--id", &id, "--key", &key, "--secret", &secret]);
    if setup.history {
        create.args(["--setting", HISTORY]);
    }
    for setting in &setup.settings {
        create.args(["--setting", setting]);
    }
    let output = create
        .output()
        .with_context(|| format!("cannot run {}", setup.program.display()))?;
    ensure!(
        output.status.success(),
        "it did not create an app: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// What clients of a server will speak TLS to.
struct Encryption {
    front: Front,
    identity: Identity,
    address: SocketAddr,
    dir: TempDir,
}

impl Encryption {
    /// Creates a certificate, and adds to Fanfare's environment what it needs.
    fn prepare(front: Front, resume: bool, env: &mut Vec<(String, String)>) -> Result<Self> {
        let dir = TempDir::new()?;
        let identity = Identity::create(dir.path(), resume)?;
        let address = free_address()?;
        if front == Front::Fanfare {
            let mut set = |name: &str, value: String| env.push((name.into(), value));
            set(
                "FANFARE_TLS_CERTIFICATE",
                identity.certificate.display().to_string(),
            );
            set("FANFARE_TLS_KEY", identity.key.display().to_string());
            set("FANFARE_TLS_LISTEN", address.to_string());
        }
        Ok(Self {
            front,
            identity,
            address,
            dir,
        })
    }

    /// Returns the server as clients see it.
    fn put_before(self, mut server: Server) -> Result<Server> {
        let (path, plain) = (self.dir.path(), server.target.addresses[0]);
        let proxy = self
            .front
            .command(path, &self.identity, self.address, plain)?;
        if let Some(command) = proxy {
            let proxy = Running::spawn(command, self.dir)?;
            proxy.wait_until_it_accepts(self.address)?;
            server.target.pids.push(proxy.child.id());
            server.children.push(proxy);
        }
        server.target.addresses = vec![self.address];
        server.target.tls = Some(self.identity.client);
        Ok(server)
    }
}

fn start_nodes(setup: &Setup, nodes: usize, back_end: Option<&str>) -> Result<Server> {
    let (redis, url) = match back_end {
        Some(url) => (None, url.to_owned()),
        None => {
            let (redis, port) = start_redis()?;
            (Some(redis), format!("redis://127.0.0.1:{port}"))
        }
    };
    let mut setup = setup.clone();
    setup.env.push(("FANFARE_CLUSTER_URL".into(), url));
    // Nodes with copies of one store are nodes of one installation.
    let store = prepare_store(&setup)?;
    let mut all = start_fanfare(&setup, &store)?;
    for _ in 1..nodes {
        let node = start_fanfare(&setup, &store)?;
        all.target.addresses.extend(&node.target.addresses);
        all.target.pids.extend(&node.target.pids);
        all.children.extend(node.children);
    }
    all.redis = redis.as_ref().map(|redis| redis.child.id());
    all.children.extend(redis);
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
    redis.wait_until_it_accepts(address)?;
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
