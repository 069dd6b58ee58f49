//! Configuration to running parts, in reading order; and back down again.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{fs, io};

use anyhow::Context;
use fanfare_cluster::{Cluster, Redis, Settings};
use fanfare_engine::{
    Bus, Engine, NoNotices, Options, REFUSALS_LOG_PERIOD, ShardSeed, WaitingLimits,
};
use fanfare_store::{Database, Store, StoreError};
use secrecy::ExposeSecret;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::LocalSet;
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;

use crate::access::{Addresses, Candidate, SignInPace};
use crate::admin::Admin;
use crate::app_sync::{AppSync, ConfigBarrier};
use crate::config::{Config, reachable, without_password};
use crate::demo::Demo;
use crate::failure::{Code, Failure};
use crate::first_owner::{self, FirstOwner};
use crate::http::{self, AppState, Idempotency, Shared, unix_millis};
use crate::identity::Identities;
use crate::key_uses;
use crate::listener::{self, Listening, Shutdown};
use crate::listening_socket::ListeningSockets;
use crate::master_key::MasterKeySource;
use crate::notices::LoggedNotices;
use crate::server_lock::ServerLock;
use crate::sockets::Sockets;
use crate::xhr::{HangingRequests, Sessions, WebSocketRetry};

/// The exit code after an error of our own (`EX_SOFTWARE`).
const EXIT_BUG: i32 = 70;
/// How long requests under way may take to finish after the last connection was closed, those that came last included.
const REQUEST_GRACE: Duration = Duration::from_secs(5);
/// How long opening the store may take, migrations included.
const OPEN_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a node that starts waits for the others before it checks itself.
const JOIN_TIMEOUT: Duration = Duration::from_secs(10);
/// How often it looks.
const JOIN_TICK: Duration = Duration::from_millis(50);
/// How long clients may take to answer the close frame, beyond the drain period.
const CLOSE_GRACE: Duration = Duration::from_secs(6);
/// The same on a node without others: clients that are gone would keep all others waiting for the next process.
const CLOSE_GRACE_ALONE: Duration = Duration::from_secs(1);
/// Connections a second that a node without others closes when it stops. Its clients have nowhere else to go, so each is
/// away until the end of the drain; the next process takes three times as many a second.
const CLOSED_PER_SECOND_ALONE: u64 = 5_000;
/// Longest drain where attempts wait in the queue of an inherited socket: stock clients give up after 15 s.
const MAX_DRAIN_WITH_QUEUE: Duration = Duration::from_secs(2);
/// How long attempts are answered after the last connection was closed. Clients closed with 4200 are back by then, are
/// told to come back after a second, and find the next process.
const LAST_ATTEMPTS: Duration = Duration::from_millis(500);
/// How long clients that were accepted last may take to be answered, after the port is closed.
const LAST_ANSWERS: Duration = Duration::from_millis(500);

/// Runs a node until it is told to stop, on the sockets that it inherited if there are some.
pub(crate) async fn serve(
    mut config: Config,
    inherited: Option<ListeningSockets>,
) -> anyhow::Result<()> {
    make_data_dir(&config.data_dir)?;
    // First of all: where another server runs, nothing is touched. Held until the process ends.
    let mut server_lock = ServerLock::take(&config)?;
    // Before clients are served: a signal before that would end the process without a word to them.
    let mut signals = StopSignals::watch()?;
    // Before the store is opened: meanwhile attempts wait in the queue, instead of meeting a closed port.
    let sockets = match inherited {
        Some(sockets) => sockets,
        None => {
            ListeningSockets::bind(config.listen).map_err(|error| cannot_listen(&config, &error))?
        }
    };
    let addresses = sockets.addresses().context("reading our own address")?;
    let listen = addresses[0];
    server_lock.describe(listen);
    // All that depends on who can reach this node goes by where it really listens.
    config.listen = addresses
        .into_iter()
        .find(|address| !address.ip().is_loopback())
        .unwrap_or(listen);
    let prepared = tokio::select! {
        prepared = prepare(&config) => prepared?,
        signal = signals.next() => {
            tracing::info!(signal, "stopped before anything was served");
            return Ok(());
        }
    };
    let Prepared {
        store,
        demo,
        engine,
        cluster,
        admin,
        identities,
        apps,
        in_force,
        owner,
    } = prepared;
    // Ends with the process: it only reads.
    tokio::spawn(apps.run());
    tokio::spawn(key_uses::run(store.clone(), Arc::clone(&engine)));
    tokio::spawn(log_refusals(Arc::clone(&engine)));
    let (sign_in_pace, refusals) = (admin.sign_in_pace.clone(), admin.refusals.clone());
    tokio::spawn(refusals.clone().run(store.clone()));
    remember_sign_ins(&store, &sign_in_pace).await;
    if let Some(cluster) = &cluster {
        tokio::spawn(Arc::clone(cluster).run());
    }

    let ready = Arc::new(AtomicBool::new(true));
    let state = AppState::from(Shared {
        ready: Arc::clone(&ready),
        demo: demo.clone(),
        ..state(&config, Arc::clone(&engine), identities, admin, in_force)
    });
    let inherited = sockets.inherited();
    let shutdown = Shutdown {
        keeps_queue: inherited,
        ..Shutdown::default()
    };
    let listening = listening(&config, state);
    let listeners = TaskTracker::new();
    for socket in sockets.into_tokio().context("watching our sockets")? {
        listeners.spawn(listener::serve(socket, listening.clone(), shutdown.clone()));
    }
    listeners.close();
    tracing::info!(
        %listen,
        inherited,
        store = config.store_shown(),
        "ready: clients and backends are served"
    );
    if let Some(owner) = owner {
        print_to_stdout(&owner.welcome());
    }
    if let Some(demo) = demo {
        // Beside the wait for a signal, because the check waits for the other nodes.
        tokio::spawn(welcome(Arc::clone(&engine), demo, listen, config.clone()));
    }

    let signal = signals.next().await;
    ready.store(false, Ordering::Relaxed);
    let alone = cluster.is_none();
    if inherited && alone {
        shutdown.stop_accepting.cancel();
    }
    let plan = DrainPlan::new(&config, engine.connections(), alone, inherited);
    drain(&engine, &plan, signal, &mut signals).await;
    tokio::join!(finish_requests(&shutdown), async {
        if let Some(cluster) = cluster {
            cluster.leave().await;
        }
    });
    answer_last(&shutdown, &listeners).await;
    key_uses::write_down(&store, &engine).await;
    refusals.finish(&store).await;
    tracing::info!("stopped");
    Ok(())
}

/// What is needed before the first client is served.
struct Prepared {
    store: Store,
    demo: Option<Arc<Demo>>,
    engine: Arc<Engine>,
    cluster: Option<Arc<Cluster>>,
    admin: Admin,
    identities: Arc<Identities>,
    apps: AppSync,
    in_force: ConfigBarrier,
    owner: Option<FirstOwner>,
}

/// Opens the store, reads the apps and starts the shards.
async fn prepare(config: &Config) -> anyhow::Result<Prepared> {
    let store = open_store(config, Begin::Always).await?;
    let demo = if config.demo() {
        Demo::find_or_create(&store).await?.map(Arc::new)
    } else {
        warn_of_demo_app(&store).await?;
        None
    };
    let (engine, shards, cluster) = engine(config)?;
    for (number, shard) in shards.into_iter().enumerate() {
        start_shard(number, shard)?;
    }
    let admin = Admin::new(store.clone());
    let identities = Arc::new(Identities::new(config.identity.allow_inner_addresses));
    let (mut apps, in_force) = AppSync::new(
        store.clone(),
        Arc::clone(&engine),
        Arc::clone(&identities),
        admin.jwts.clone(),
        config.ceilings.clone(),
    );
    apps.refresh().await.context("reading the apps")?;
    // After all that may fail: what is drawn here is printed once, and a start that fails prints nothing.
    let owner = first_owner::create_if_none(&store, &admin.passwords, &config.owner).await?;
    Ok(Prepared {
        store,
        demo,
        engine,
        cluster,
        admin,
        identities,
        apps,
        in_force,
        owner,
    })
}

/// Checks the demo app and prints how to use it.
async fn welcome(engine: Arc<Engine>, demo: Arc<Demo>, listen: SocketAddr, config: Config) {
    wait_for_others(&engine).await;
    let checked = demo.check(reachable(listen), &config.path_prefix).await;
    if let Err(error) = &checked {
        tracing::error!(
            error = format!("{error:#}"),
            "the self-check failed: no event came through"
        );
    }
    print_to_stdout(&demo.welcome(listen, &config, &checked));
}

/// The secret of the demo app was printed when it was made, and the app works whether or not its page is served.
async fn warn_of_demo_app(store: &Store) -> Result<(), StoreError> {
    if let Some((app, _)) = store.demo_app().await?
        && app.settings.enabled
    {
        tracing::warn!(
            app = app.id,
            "the demo app is still there, and whoever saw its secret at the first start may publish and connect; if nobody \
             uses it, run `fanfare app disable {}`, or delete it",
            app.id
        );
    }
    Ok(())
}

/// From where operators sign in is known from the start: a stranger at the same address must not keep them out.
async fn remember_sign_ins(store: &Store, pace: &SignInPace) {
    let known = async {
        let sessions = store.sessions(None).await?;
        let operators = store.operators(None, 10_000).await?;
        Ok::<_, StoreError>((sessions, operators))
    };
    let Ok((sessions, operators)) = known.await else {
        return;
    };
    let names: HashMap<_, _> = operators
        .into_iter()
        .map(|operator| (operator.id, operator.name))
        .collect();
    for session in sessions {
        if let Some(name) = names.get(&session.operator_id) {
            pace.remember(Candidate {
                address: session
                    .address
                    .as_deref()
                    .and_then(|address| address.parse().ok()),
                name,
                agent: session.agent.as_deref(),
            });
        }
    }
}

/// A node, its shards, and where it is among others, if it is.
type Parts = (Arc<Engine>, Vec<ShardSeed>, Option<Arc<Cluster>>);

/// Makes the node, alone or among others.
fn engine(config: &Config) -> anyhow::Result<Parts> {
    let (options, notices) = (engine_options(config)?, Arc::new(LoggedNotices));
    let Some(url) = &config.cluster.url else {
        let (engine, shards) = Engine::new(options, notices);
        return Ok((engine, shards, None));
    };
    let settings = Settings {
        prefix: config.cluster.prefix.clone(),
        lease: Duration::from_secs(config.cluster.lease),
        fence_max: Duration::from_secs(config.fence.max),
        fence_per_second: config.fence.per_second,
    };
    let redis = Redis::new(url.expose_secret(), &settings.prefix).context("reading cluster.url")?;
    let mut cluster = None;
    let (engine, shards) = Engine::clustered(options, notices, |node| {
        let new = Cluster::new(node, Arc::new(redis), settings);
        cluster = Some(Arc::clone(&new));
        (Arc::clone(&new) as Arc<dyn Bus>, new)
    });
    Ok((engine, shards, cluster))
}

/// What the listeners share.
fn listening(config: &Config, state: AppState) -> Listening {
    Listening {
        sockets: state.sockets.clone(),
        addresses: state.addresses.clone(),
        timeouts: config.timeouts(),
        engine: Arc::clone(&state.engine),
        router: http::router(state),
    }
}

/// What handlers share, of a node that is not ready yet.
fn state(
    config: &Config,
    engine: Arc<Engine>,
    identities: Arc<Identities>,
    admin: Admin,
    in_force: ConfigBarrier,
) -> Shared {
    Shared {
        sockets: Sockets::new(config.http.max_sockets, engine.ledger().clone()),
        engine,
        ready: Arc::default(),
        demo: None,
        path_prefix: config.path_prefix.as_str().into(),
        idempotency: Idempotency::new(config.idempotency.max_bytes),
        sessions: Sessions::new(config.pending_sessions()),
        hanging: HangingRequests::new(config.fallback.max_hanging_requests),
        websocket_retry: Arc::new(WebSocketRetry::new(Duration::from_secs(
            config.fallback.websocket_retry,
        ))),
        identities,
        admin,
        in_force,
        addresses: Addresses::new(
            config.trusted_proxies().unwrap_or_default(),
            config.exempt_networks().unwrap_or_default(),
        ),
        ceilings: config.ceilings.clone(),
        started_at: unix_millis(),
        max_body_bytes: config.http.max_body_bytes,
        max_message_bytes: config.websocket.max_message_bytes,
        message_timeout: Duration::from_secs(config.websocket.message_timeout),
    }
}

/// What the handlers of [`admin::kept`](crate::admin::kept) share where no node runs. The engine has no shards: whoever
/// asked it something would wait for ever.
pub(crate) fn state_at_rest(config: &Config, store: Store) -> anyhow::Result<AppState> {
    let (engine, _) = Engine::new(engine_options(config)?, Arc::new(NoNotices));
    let identities = Arc::new(Identities::new(config.identity.allow_inner_addresses));
    let admin = Admin::new(store);
    let state = state(config, engine, identities, admin, ConfigBarrier::nowhere());
    Ok(state.into())
}

/// A store that no other process of this data folder opens at the same moment.
#[derive(Debug)]
pub(crate) struct OpenedAlone {
    pub(crate) store: Store,
    pub(crate) master_key: MasterKeySource,
    _lock: Option<fs::File>,
}

/// Whether an installation is begun where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begin {
    /// As a server does.
    Always,
    /// In a folder that is there, or in a database, if the configuration names it.
    InNamedPlace,
    /// Rather say that there is none: in a wrong folder a command would be done in a store that no server uses.
    Never,
}

impl Begin {
    fn is_allowed(self, config: &Config) -> bool {
        match self {
            Self::Always => true,
            Self::InNamedPlace => {
                config.names_store && (config.store.url.is_some() || config.data_dir.is_dir())
            }
            Self::Never => false,
        }
    }
}

/// Opens the store that the configuration names, with its master key.
pub(crate) async fn open_store(config: &Config, begin: Begin) -> anyhow::Result<Store> {
    Ok(open_store_alone(config, begin).await?.store)
}

/// Opens the store, and keeps others from opening it until the answer is dropped. Whoever has it open already goes on.
pub(crate) async fn open_store_alone(config: &Config, begin: Begin) -> anyhow::Result<OpenedAlone> {
    let create = begin.is_allowed(config);
    if create {
        make_data_dir(&config.data_dir)?;
    } else if config.store.url.is_none() {
        match config.store_file().try_exists() {
            Ok(true) => {}
            Ok(false) => return Err(no_installation(config).into()),
            Err(error) => return Err(cannot_look(config, &error).into()),
        }
    }
    // Two first starts at the same moment would make two master keys, and SQLite's migrations want to be alone.
    let lock = match config.data_dir.is_dir() {
        true => Some(lock(&config.data_dir.join("lock"))?),
        false => None,
    };
    let shown = config.store_shown();
    let database = async {
        match (&config.store.url, create) {
            (Some(url), true) => Database::connect(url.expose_secret()).await,
            (Some(url), false) => Database::connect_existing(url.expose_secret()).await,
            (None, true) => Database::open(&config.store_file()).await,
            (None, false) => Database::open_existing(&config.store_file()).await,
        }
    };
    // A pooler without a connection to its database lets clients wait for two minutes, without a word.
    let database = timeout(OPEN_TIMEOUT, database).await.map_err(|_| {
        Failure::new(
            Code::Unavailable,
            format!(
                "the store {shown} does not answer within {} s; is the database up, and connected to the pooler in front of it?",
                OPEN_TIMEOUT.as_secs()
            ),
        )
    })?;
    if matches!(database, Err(StoreError::Missing)) {
        return Err(no_installation(config).into());
    }
    let mut database = database.with_context(|| format!("opening the store {shown}"))?;
    if config.store.url.is_none() {
        keep_private(config);
    }
    if let Some(url) = &config.store.listen_url {
        let listening = database.listen_on(url.expose_secret()).await;
        let shown = without_password(url.expose_secret());
        listening.with_context(|| format!("connecting to store.listen_url {shown}"))?;
    }
    let sealed = database
        .is_sealed()
        .await
        .with_context(|| format!("reading the store {shown}"))?;
    if !sealed && !create {
        return Err(no_installation(config).into());
    }
    if !sealed && begin == Begin::InNamedPlace {
        tracing::info!(
            store = shown,
            "this is the beginning of an installation: no server has run on this store yet"
        );
    }
    let mut master_key = MasterKeySource::find(config, sealed)?;
    let mut store = database.unlock(master_key.read()?).await;
    if matches!(store, Err(StoreError::WrongMasterKey))
        && let Some(replacement) = master_key.replacement()
        && let Ok(replaced) = database.unlock(replacement.read()?).await
    {
        tracing::info!("the master key was replaced by a process that ended before it was done");
        (store, master_key) = (Ok(replaced), replacement);
    }
    let store = store.with_context(|| {
        format!(
            "opening the store {shown} with the master key from {}; give it the key it was first started with, or the one \
             that replaced it; nothing was changed",
            master_key.shown()
        )
    })?;
    Ok(OpenedAlone {
        store,
        master_key: master_key.keep()?,
        _lock: lock,
    })
}

/// The data folder is there, maybe, and is not this user's.
fn cannot_look(config: &Config, error: &io::Error) -> Failure {
    Failure::misuse(format!(
        "cannot look into the data folder {}: {error}; run this as the user whom the installation belongs to, or name another \
         folder with --data-dir",
        config.data_dir.display()
    ))
}

/// Where was looked, and what to do.
fn no_installation(config: &Config) -> Failure {
    let place = match &config.store.url {
        Some(_) => format!("in the store {}", config.store_shown()),
        None => {
            let folder = std::path::absolute(&config.data_dir);
            let folder = folder.unwrap_or_else(|_| config.data_dir.clone());
            format!("in the data folder {}", folder.display())
        }
    };
    Failure::misuse(format!(
        "there is no Fanfare installation {place}; `fanfare serve` begins one. If a server runs on this machine, run this in \
         its folder, or name its store as the server was told: --data-dir FOLDER, --store-url URL or --config FILE; for a \
         server elsewhere: --server URL"
    ))
}

/// Only its owner can read what is in it.
fn make_data_dir(data_dir: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let made = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data_dir);
    made.map_err(|error| {
        Failure::misuse(format!(
            "creating the data folder {} (setting data_dir): {error}; give it a folder that this user may write to",
            data_dir.display()
        ))
        .into()
    })
}

/// Files of versions that left their rights to the umask become their owner's alone.
fn keep_private(config: &Config) {
    use std::os::unix::fs::PermissionsExt;
    let store = config.store_file();
    let beside = |suffix: &str| {
        let mut name = store.file_name().unwrap_or_default().to_owned();
        name.push(suffix);
        store.with_file_name(name)
    };
    let files = [
        store.clone(),
        beside("-wal"),
        beside("-shm"),
        config.data_dir.join("lock"),
    ];
    for file in files {
        let Ok(metadata) = fs::metadata(&file) else {
            continue;
        };
        if metadata.permissions().mode() & 0o077 != 0
            && let Err(error) = fs::set_permissions(&file, fs::Permissions::from_mode(0o600))
        {
            tracing::warn!(file = %file.display(), %error, "others on this machine can read this file");
        }
    }
}

fn lock(file: &Path) -> anyhow::Result<fs::File> {
    let locked = fs::File::create(file).and_then(|file| file.lock().map(|()| file));
    locked.with_context(|| format!("locking {}", file.display()))
}

fn engine_options(config: &Config) -> anyhow::Result<Options> {
    rlimit::increase_nofile_limit(u64::MAX).context("asking for more open files")?;
    Ok(Options {
        shards: config.shards,
        activity_timeout: Duration::from_secs(config.activity_timeout),
        pong_timeout: Duration::from_secs(config.pong_timeout),
        ping_interval: config.ping_interval(),
        outbox_bytes: config.outbox.max_bytes,
        max_waiting: WaitingLimits {
            total: config.outbox.max_total_bytes,
            app: config.outbox.max_app_bytes,
            network: config.network.max_waiting_bytes,
        },
        max_replay_bytes: config.outbox.max_replay_bytes,
        messages_per_second: config.connections.messages_per_second,
        inbox_bytes: config.inbox.max_bytes,
        recent_events_bytes: config.recent_events.max_bytes,
        max_connections: config.connections.max,
        max_subscriptions: config.connections.max_subscriptions,
        budgets: config.budgets(),
    })
}

/// A shard has a thread and a runtime of its own. Its end is the node's: clients on it would wait for ever otherwise.
fn start_shard(number: usize, shard: ShardSeed) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting a shard")?;
    let run = move || {
        let ended = catch_unwind(AssertUnwindSafe(|| {
            LocalSet::new().block_on(&runtime, shard.run())
        }));
        tracing::error!(
            shard = number,
            panicked = ended.is_err(),
            "a shard has ended, which is a bug; the process ends so that it is started afresh"
        );
        std::process::exit(EXIT_BUG);
    };
    std::thread::Builder::new()
        .name(format!("shard-{number}"))
        .spawn(run)
        .context("starting a shard")?;
    Ok(())
}

/// Logs once a minute what was refused again.
async fn log_refusals(engine: Arc<Engine>) {
    loop {
        sleep(REFUSALS_LOG_PERIOD).await;
        engine.refusals().log_repeated();
    }
}

async fn wait_for_others(engine: &Engine) {
    let joined = async {
        while engine.unready().is_some() {
            sleep(JOIN_TICK).await;
        }
    };
    // The check says what is wrong.
    let _ = timeout(JOIN_TIMEOUT, joined).await;
}

/// Why nothing can be served at the address, and what to do.
fn cannot_listen(config: &Config, error: &io::Error) -> Failure {
    let listen = config.listen;
    let (code, why) = match error.kind() {
        io::ErrorKind::AddrInUse => (
            Code::Conflict,
            "address already in use: another program listens there; stop it, or choose another port"
                .to_owned(),
        ),
        io::ErrorKind::AddrNotAvailable => (
            Code::Misuse,
            format!(
                "{} is not an address of this machine; 0.0.0.0:{} is all that it has",
                listen.ip(),
                listen.port()
            ),
        ),
        io::ErrorKind::PermissionDenied => (
            Code::Misuse,
            "this user may not use that port; ports below 1024 need CAP_NET_BIND_SERVICE, others do not".to_owned(),
        ),
        _ => (Code::Failed, error.to_string()),
    };
    Failure::new(
        code,
        format!("cannot listen on {listen} (setting listen, FANFARE_LISTEN, --listen): {why}"),
    )
}

/// The signals that tell a node to stop.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    fn watch() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("watching for SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("watching for SIGINT")?,
        })
    }

    /// Waits for the next one and returns its name.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// How a stopping node closes its connections.
#[derive(Debug, PartialEq, Eq)]
struct DrainPlan {
    /// Over which they are closed.
    period: Duration,
    /// How long clients may take to answer the close frame, beyond the period.
    close_grace: Duration,
    /// How long attempts are answered after that.
    last_attempts: Duration,
}

impl DrainPlan {
    /// Clients of a node among others move over `drain.period`. Those of a node without others are away until the next
    /// process serves, so they are closed as fast as that process can take them back.
    fn new(config: &Config, connections: usize, alone: bool, inherited: bool) -> Self {
        let most = Duration::from_secs(config.drain.period);
        let needed = connections as u64 * 1_000 / CLOSED_PER_SECOND_ALONE;
        let needed = Duration::from_millis(needed);
        let period = match (alone, inherited) {
            (false, _) => most,
            (true, false) => needed.min(most),
            (true, true) => needed.min(most).min(MAX_DRAIN_WITH_QUEUE),
        };
        // Attempts that wait in a queue, and clients that were never here, need no answer.
        let answers = connections > 0 && !(alone && inherited);
        Self {
            period,
            close_grace: if alone {
                CLOSE_GRACE_ALONE
            } else {
                CLOSE_GRACE
            },
            last_attempts: if answers {
                LAST_ATTEMPTS
            } else {
                Duration::ZERO
            },
        }
    }
}

/// Closes all connections as planned; a second signal closes them at once.
async fn drain(engine: &Engine, plan: &DrainPlan, signal: &str, signals: &mut StopSignals) {
    let connections = engine.connections();
    tracing::info!(
        signal,
        connections,
        period_seconds = plan.period.as_secs_f32(),
        "stopping: closing connections"
    );
    let as_planned = async {
        engine.drain(plan.period).await;
        sleep(plan.last_attempts).await;
    };
    tokio::select! {
        planned = timeout(plan.period + plan.close_grace, as_planned) => {
            if planned.is_err() && engine.connections() > 0 {
                tracing::warn!(
                    connections = engine.connections(),
                    "some clients did not answer and are cut off"
                );
            }
        }
        _ = signals.next() => {
            tracing::warn!(connections = engine.connections(), "told again to stop: cutting off");
            // Each client is still told why, but nobody waits for its answer.
            let _ = timeout(LAST_ANSWERS, engine.drain(Duration::ZERO)).await;
        }
    }
}

/// Lets requests under way finish; connections that come meanwhile are still answered.
async fn finish_requests(shutdown: &Shutdown) {
    shutdown.finish.cancel();
    shutdown.connections.close();
    let grace = REQUEST_GRACE.saturating_sub(LAST_ANSWERS);
    if timeout(grace, shutdown.connections.wait()).await.is_err() {
        tracing::warn!("some requests were still under way and are cut off");
    }
}

/// Closes the listening sockets, and answers the connections that were accepted until then.
async fn answer_last(shutdown: &Shutdown, listeners: &TaskTracker) {
    shutdown.stop_accepting.cancel();
    listeners.wait().await;
    shutdown.late.close();
    shutdown.upgrades.close();
    let answered = async {
        shutdown.late.wait().await;
        shutdown.upgrades.wait().await;
    };
    // Whoever has sent no request by then gets no answer.
    let _ = timeout(LAST_ANSWERS, answered).await;
}

#[expect(
    clippy::print_stdout,
    reason = "what a newcomer is to see, not a log line"
)]
fn print_to_stdout(text: &str) {
    println!("{text}");
}
