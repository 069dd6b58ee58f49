//! Configuration to running parts, in reading order; and back down again.

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
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::LocalSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access::Addresses;
use crate::admin::Admin;
use crate::app_sync::{AppSync, InForce};
use crate::config::{Config, reachable, without_password};
use crate::demo::Demo;
use crate::failure::{Code, Failure};
use crate::first_owner;
use crate::http::{self, AppState, Idempotency, Shared, unix_millis};
use crate::identity::Identities;
use crate::key_uses;
use crate::listener;
use crate::master_key::MasterKeySource;
use crate::notices::LoggedNotices;
use crate::server_lock::ServerLock;
use crate::xhr::Sessions;

/// The exit code after an error of our own (`EX_SOFTWARE`).
const EXIT_BUG: i32 = 70;
/// How long requests under way may take to finish after the last connection was closed.
const REQUEST_GRACE: Duration = Duration::from_secs(5);
/// How long a node that starts waits for the others before it checks itself.
const JOIN_PATIENCE: Duration = Duration::from_secs(10);
/// How often it looks.
const JOIN_TICK: Duration = Duration::from_millis(50);
/// How long clients may take to answer the close frame, beyond the drain period.
const CLOSE_GRACE: Duration = Duration::from_secs(6);

/// Runs a node until it is told to stop.
pub(crate) async fn serve(config: Config) -> anyhow::Result<()> {
    make_data_dir(&config.data_dir)?;
    // Before the store is opened: where another server runs, nothing is touched. Held until the process ends.
    let mut server_lock = ServerLock::take(&config)?;
    let store = open_store(&config, Begin::Always).await?;
    let demo = if config.demo() {
        Demo::find_or_create(&store).await?.map(Arc::new)
    } else {
        None
    };
    let (engine, shards, cluster) = engine(&config)?;
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
    );
    apps.refresh().await.context("reading the apps")?;
    let listener = TcpListener::bind(config.listen)
        .await
        .map_err(|error| cannot_listen(&config, &error))?;
    let listen = listener.local_addr().context("reading our own address")?;
    server_lock.describe(listen);
    // After all that may fail: what is drawn here is printed once, and a start that fails prints nothing.
    let owner = first_owner::create_if_none(&store, &admin.passwords, &config.owner).await?;
    let tasks = TaskTracker::new();
    // Ends with the process: it only reads.
    tokio::spawn(apps.run());
    tokio::spawn(key_uses::run(store.clone(), Arc::clone(&engine)));
    tokio::spawn(log_refusals(Arc::clone(&engine)));
    if let Some(cluster) = &cluster {
        tokio::spawn(Arc::clone(cluster).run());
    }

    let ready = Arc::new(AtomicBool::new(true));
    let state = AppState::from(Shared {
        ready: Arc::clone(&ready),
        demo: demo.clone(),
        ..state(&config, Arc::clone(&engine), identities, admin, in_force)
    });
    let stop = CancellationToken::new();
    let router = http::router(state);
    tasks.spawn(listener::serve(
        listener,
        router,
        Arc::clone(&engine),
        config.header_timeout(),
        tasks.clone(),
        stop.clone(),
    ));
    tracing::info!(%listen, store = config.store_shown(), "ready: clients and backends are served");
    if let Some(demo) = demo {
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
    if let Some(owner) = owner {
        print_to_stdout(&owner.welcome());
    }

    let signal = told_to_stop().await?;
    ready.store(false, Ordering::Relaxed);
    drain(&engine, &config, signal).await;
    stop.cancel();
    tasks.close();
    let (requests, ()) = tokio::join!(timeout(REQUEST_GRACE, tasks.wait()), async {
        if let Some(cluster) = cluster {
            cluster.leave().await;
        }
    });
    if requests.is_err() {
        tracing::warn!("some requests were still under way and are cut off");
    }
    key_uses::write_down(&store, &engine).await;
    tracing::info!("stopped");
    Ok(())
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

/// What handlers share, of a node that is not ready yet.
fn state(
    config: &Config,
    engine: Arc<Engine>,
    identities: Arc<Identities>,
    admin: Admin,
    in_force: InForce,
) -> Shared {
    Shared {
        engine,
        ready: Arc::default(),
        demo: None,
        path_prefix: config.path_prefix.as_str().into(),
        idempotency: Idempotency::new(),
        sessions: Sessions::default(),
        identities,
        admin,
        in_force,
        addresses: Addresses::new(
            config.trusted_proxies().unwrap_or_default(),
            config.exempt_networks().unwrap_or_default(),
        ),
        started_at: unix_millis(),
        max_body_bytes: config.http.max_body_bytes,
        max_message_bytes: config.websocket.max_message_bytes,
    }
}

/// What the handlers of [`admin::kept`](crate::admin::kept) share where no node runs. The engine has no shards: whoever
/// asked it something would wait for ever.
pub(crate) fn state_at_rest(config: &Config, store: Store) -> anyhow::Result<AppState> {
    let (engine, _) = Engine::new(engine_options(config)?, Arc::new(NoNotices));
    let identities = Arc::new(Identities::new(config.identity.allow_inner_addresses));
    let admin = Admin::new(store);
    let state = state(config, engine, identities, admin, InForce::nowhere());
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
    } else if config.store.url.is_none() && !config.store_file().exists() {
        return Err(no_installation(config).into());
    }
    // Two first starts at the same moment would make two master keys, and SQLite's migrations want to be alone.
    let lock = match config.data_dir.is_dir() {
        true => Some(lock(&config.data_dir.join("lock"))?),
        false => None,
    };
    let shown = config.store_shown();
    let database = match (&config.store.url, create) {
        (Some(url), true) => Database::connect(url.expose_secret()).await,
        (Some(url), false) => Database::connect_existing(url.expose_secret()).await,
        (None, true) => Database::open(&config.store_file()).await,
        (None, false) => Database::open_existing(&config.store_file()).await,
    };
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
        outbox_bytes: config.outbox.max_bytes,
        max_waiting: WaitingLimits {
            total: config.outbox.max_total_bytes,
            app: config.outbox.max_app_bytes,
            network: config.network.max_waiting_bytes,
        },
        max_replay_bytes: config.outbox.max_replay_bytes,
        messages_per_second: config.connections.messages_per_second,
        inbox_bytes: config.inbox.max_bytes,
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
    let _ = timeout(JOIN_PATIENCE, joined).await;
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

async fn told_to_stop() -> anyhow::Result<&'static str> {
    let mut terminate = signal(SignalKind::terminate()).context("watching for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("watching for SIGINT")?;
    Ok(tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    })
}

/// Closes all connections, spread over the drain period; a second signal ends the wait.
async fn drain(engine: &Engine, config: &Config, signal: &str) {
    let period = Duration::from_secs(config.drain.period);
    let connections = engine.connections();
    tracing::info!(
        signal,
        connections,
        period_seconds = period.as_secs(),
        "stopping: closing connections"
    );
    tokio::select! {
        drained = timeout(period + CLOSE_GRACE, engine.drain(period)) => {
            if drained.is_err() {
                tracing::warn!(connections = engine.connections(), "some clients did not answer and are cut off");
            }
        }
        _ = told_to_stop() => tracing::warn!(connections = engine.connections(), "told again to stop: cutting off"),
    }
}

#[expect(
    clippy::print_stdout,
    reason = "what a newcomer is to see, not a log line"
)]
fn print_to_stdout(text: &str) {
    println!("{text}");
}
