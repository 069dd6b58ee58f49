//! From the configuration to running parts, in reading order, and back down again.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use fanfare_cluster::Cluster;
use fanfare_engine::{Engine, REFUSALS_LOG_PERIOD};
use fanfare_store::{Store, StoreError};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

use crate::access::{Candidate, SignInRateLimiter};
use crate::admin::Admin;
use crate::app_state::{AppState, Shared};
use crate::app_sync::{AppSync, ConfigBarrier};
use crate::capacity::Capacity;
use crate::config::{Config, ListenAddresses};
use crate::demo::Demo;
use crate::edge::listener::Shutdown;
use crate::edge::listening_socket::{HeldSocket, InheritedSockets};
use crate::first_owner::{self, FirstOwner};
use crate::identity::Identities;
use crate::key_uses;
use crate::nodes::NodeResponder;
use crate::outbox::{self, Outboxes};
use crate::server_lock::ServerLock;
use crate::tls::{self, Acme, Tls};
use crate::traces::Traces;
use crate::upgrade::{Program, release_signals};
use crate::webhooks::{self, Webhooks};

mod data_dir;
mod engine;
mod handlers;
mod listeners;
mod metering;
mod node_name;
mod redirect;
mod shutdown;
mod store;
mod welcome;

pub(crate) use handlers::state_at_rest;
pub(crate) use listeners::check_sockets;
pub(crate) use store::{Begin, open_store, open_store_alone};

use data_dir::make_data_dir;
use engine::{engine, start_shard};
use handlers::state;
use listeners::NodeSockets;
use metering::Metering;
use node_name::node_name;
use shutdown::{DrainPlan, Drained, StopSignals, Told, answer_last, drain, finish_requests};
use welcome::{print_to_stdout, warn_of_demo_app, welcome};

/// Runs a node until it is told to stop, on the inherited sockets if there are some.
pub(crate) async fn serve(
    mut config: Config,
    inherited: InheritedSockets,
    traces: Traces,
    program: &Program,
) -> anyhow::Result<Ended> {
    for warning in config.beyond_machine(Capacity::of_machine()) {
        tracing::warn!("{warning}");
    }
    // Before clients are served, because an unwatched signal would end the process without closing their connections.
    let mut signals = StopSignals::watch()?;
    // Before anything is touched, because a broken certificate is a mistake in the configuration.
    let tls = start_tls(&config)?;
    release_signals()?;
    // Before the store is opened, so that connection attempts wait in the queue instead of meeting a closed port.
    let sockets = NodeSockets::bind(&config, inherited)?;
    // After the port is bound, so that a start that fails there leaves nothing behind. If another server runs on the
    // store, nothing else is touched. The lock is held until the process ends.
    make_data_dir(&config.data_dir)?;
    let mut server_lock = ServerLock::take(&config)?;
    let addresses = sockets
        .main
        .addresses()
        .context("reading our own address")?;
    // Rules that depend on who can reach this node use the addresses on which it really listens.
    config.listen = ListenAddresses::new(addresses).context("there is nothing to listen on")?;
    let listen = config.listen.first_tcp();
    let operators_listen = sockets
        .operators(listen)
        .context("reading our own address")?;
    server_lock.describe(&config.listen.to_string());
    let prepared = tokio::select! {
        prepared = prepare(&config, &traces) => prepared?,
        signal = signals.next() => {
            tracing::info!(signal, "stopped before anything was served");
            return Ok(Ended::Stopped);
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
        barrier,
        owner,
        webhooks,
        outboxes,
        node_name,
    } = prepared;
    let sync = apps.counters();
    start_tasks(&store, &engine, cluster.as_ref(), &traces, apps);
    let (sign_in_limiter, refusals) = (admin.sign_in_limiter.clone(), admin.refusals.clone());
    tokio::spawn(refusals.clone().run(store.clone()));
    remember_sign_ins(&store, &sign_in_limiter).await;
    let webhooks_running = webhooks.start(&store, &engine, &node_name);
    let outboxes_running = outboxes.start(&store, &engine, &node_name);
    let state = AppState::from(Shared {
        node_name: node_name.into(),
        ready: Arc::new(AtomicBool::new(true)),
        demo: demo.clone(),
        tls,
        outboxes,
        traces: traces.clone(),
        ..state(
            &config,
            Arc::clone(&engine),
            identities,
            admin,
            barrier,
            sync,
            webhooks,
        )
    });
    engine.set_responder(Arc::new(NodeResponder(state.clone())));
    let metering = Metering::start(&config, &state, &store);
    let inherited = sockets.main.inherited();
    let held = sockets.hold().context("copying our sockets")?;
    let shutdown = Shutdown::default();
    // Before the first handshake, so that the certificate is there after a restart.
    start_acme(&config, &store, &state).await?;
    let listeners = sockets.serve(&config, &state, &shutdown)?;
    log_listening(&config, &state.node_name, inherited);
    if let Some(owner) = owner {
        print_to_stdout(&owner.welcome(operators_listen, &config.http.base_path));
    }
    if let Some(demo) = demo {
        // In a task of its own, because the self-check waits for the other nodes and a signal may come meanwhile.
        tokio::spawn(welcome(Arc::clone(&engine), demo, listen, config.clone()));
    }

    let (ended, signal) = wait_for_end(&mut signals, program, held).await;
    // Load balancers see this first. Connections are closed next, and requests are answered until the end.
    state.ready.store(false, Ordering::Relaxed);
    // Other nodes go on before this one has closed its connections.
    outboxes_running.stop();
    let alone = cluster.is_none();
    let keeps_queues = inherited || matches!(ended, Ended::Upgraded(_));
    shutdown.keeps_queues.store(keeps_queues, Ordering::Relaxed);
    if keeps_queues && alone {
        shutdown.stop_accepting.cancel();
    }
    let plan = DrainPlan::new(&config, engine.connections(), alone, keeps_queues);
    let drained = drain(&engine, &plan, signal, &mut signals).await;
    let handing_over = hand_over(webhooks_running, outboxes_running, cluster);
    tokio::join!(finish_requests(&shutdown), handing_over);
    answer_last(&shutdown, &listeners).await;
    // After the last request, so that no use is lost.
    key_uses::write_down(&store, &engine).await;
    metering.finish(&engine, &store).await;
    refusals.finish(&store).await;
    traces.finish().await;
    tracing::info!("stopped");
    Ok(ended.unless_told_to_stop(&drained, &mut signals))
}

/// Ends what this node does for apps, and leaves the other nodes: in this order, because they take over what waits.
async fn hand_over(
    webhooks: webhooks::Running,
    outboxes: outbox::Running,
    cluster: Option<Arc<Cluster>>,
) {
    webhooks.finish().await;
    outboxes.finish().await;
    if let Some(cluster) = cluster {
        cluster.leave().await;
    }
}

/// How a node ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// It was told to stop.
    Stopped,
    /// It was told to become the program that is installed now, which is to get these sockets.
    Upgraded(Vec<HeldSocket>),
}

impl Ended {
    /// Returns how a node ended that may have been told to stop in the meantime. It is then not to become anything.
    fn unless_told_to_stop(self, drained: &Drained, signals: &mut StopSignals) -> Self {
        match drained {
            Drained::AsPlanned if !signals.has_next() => self,
            _ => Self::Stopped,
        }
    }
}

/// Waits until the node is told to stop, or to become a program that would start, and returns by which signal. Of a node
/// that stops, the `held` sockets are closed with their listeners.
async fn wait_for_end(
    signals: &mut StopSignals,
    program: &Program,
    held: Vec<HeldSocket>,
) -> (Ended, &'static str) {
    loop {
        match signals.next_or_upgrade().await {
            Told::Stop(signal) => return (Ended::Stopped, signal),
            Told::Upgrade => {}
        }
        let checked = tokio::select! {
            checked = program.check(&held) => checked,
            signal = signals.next() => return (Ended::Stopped, signal),
        };
        match checked {
            Ok(()) => return (Ended::Upgraded(held), "SIGUSR2"),
            Err(error) => tracing::error!(
                error = format!("{error:#}"),
                "not upgraded: the program that is installed now would not start, so this one goes on"
            ),
        }
    }
}

/// Reads the certificates, if there are some, and begins to watch their files.
fn start_tls(config: &Config) -> anyhow::Result<Option<Tls>> {
    let Some((tls, files)) = Tls::start(config)? else {
        return Ok(None);
    };
    // From here on, SIGHUP no longer ends the process.
    let hangup = signal(SignalKind::hangup()).context("watching for SIGHUP")?;
    tokio::spawn(files.watch(hangup));
    tokio::spawn(tls::warn_of_expiry(tls.certificates.clone()));
    Ok(Some(tls))
}

/// Begins to order and to serve the certificate of the ACME server, if one is configured.
async fn start_acme(config: &Config, store: &Store, state: &AppState) -> anyhow::Result<()> {
    let Some(tls) = state.tls.as_ref().filter(|_| config.tls.acme.is_on()) else {
        return Ok(());
    };
    // A node that starts again must not hold the lease of its predecessor.
    let node = format!("{}/{:016x}", state.node_name, rand::random::<u64>());
    let has_others = config.cluster.url.is_some();
    let acme = Acme::start(
        config.tls.acme.clone(),
        store.clone(),
        node,
        has_others,
        tls,
    )
    .await;
    let acme = acme.context("reading the certificate of the ACME server")?;
    tokio::spawn(acme.run());
    Ok(())
}

/// Starts tasks that end with the process.
fn start_tasks(
    store: &Store,
    engine: &Arc<Engine>,
    cluster: Option<&Arc<Cluster>>,
    traces: &Traces,
    apps: AppSync,
) {
    tokio::spawn(traces.clone().export());
    tokio::spawn(apps.run());
    tokio::spawn(key_uses::run(store.clone(), Arc::clone(engine)));
    tokio::spawn(each_minute(Arc::clone(engine)));
    #[cfg(feature = "mimalloc")]
    tokio::spawn(crate::allocator::give_back(Arc::clone(engine)));
    if let Some(cluster) = cluster {
        tokio::spawn(Arc::clone(cluster).run());
    }
}

/// Logs that the node listens, and whether it serves already: a node of a cluster must be connected to the others.
fn log_listening(config: &Config, node: &str, inherited: bool) {
    let listen = &config.listen;
    let store = config.store_shown();
    if config.cluster.url.is_some() {
        tracing::info!(
            node,
            %listen,
            inherited,
            store,
            "listening: clients and backends are served once this node is connected to the others (cluster.url)"
        );
    } else {
        tracing::info!(node, %listen, inherited, store, "ready: clients and backends are served");
    }
}

/// Parts that must exist before the first client is served.
struct Prepared {
    store: Store,
    demo: Option<Arc<Demo>>,
    engine: Arc<Engine>,
    cluster: Option<Arc<Cluster>>,
    admin: Admin,
    identities: Arc<Identities>,
    apps: AppSync,
    barrier: ConfigBarrier,
    owner: Option<FirstOwner>,
    webhooks: Webhooks,
    outboxes: Outboxes,
    node_name: String,
}

/// Opens the store, starts the shards and reads the apps.
async fn prepare(config: &Config, traces: &Traces) -> anyhow::Result<Prepared> {
    let store = open_store(config, Begin::Always).await?;
    let demo = if config.demo() {
        Demo::find_or_create(&store).await?.map(Arc::new)
    } else {
        warn_of_demo_app(&store).await?;
        None
    };
    let webhooks = Webhooks::new(&config.webhooks);
    let node_name = node_name(&store);
    let (engine, shards, cluster) = engine(config, &store, traces, &webhooks, &node_name).await?;
    for (number, shard) in shards.into_iter().enumerate() {
        start_shard(number, shard)?;
    }
    let admin = Admin::new(store.clone());
    let outboxes = Outboxes::default();
    let identities = Arc::new(Identities::new(config.identity.allow_inner_addresses));
    let (mut apps, barrier) = AppSync::new(
        store.clone(),
        Arc::clone(&engine),
        Arc::clone(&identities),
        admin.jwts.clone(),
        config.ceilings.clone(),
        webhooks.clone(),
        outboxes.clone(),
    );
    apps.refresh().await.context("reading the apps")?;
    // After everything that may fail: the generated password is printed once, and a start that fails prints nothing.
    let owner = first_owner::create_if_none(&store, &admin.passwords, &config.owner).await?;
    Ok(Prepared {
        store,
        demo,
        engine,
        cluster,
        admin,
        identities,
        apps,
        barrier,
        owner,
        webhooks,
        outboxes,
        node_name,
    })
}

/// Remembers from where operators sign in, so that a stranger at the same address can't keep them out after a restart.
async fn remember_sign_ins(store: &Store, limiter: &SignInRateLimiter) {
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
            limiter.remember(Candidate {
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

/// Logs repeated refusals once a minute, and forgets live events that nobody has watched for long.
async fn each_minute(engine: Arc<Engine>) {
    loop {
        sleep(REFUSALS_LOG_PERIOD).await;
        engine.refusals().log_repeated();
        engine.sweep_live();
    }
}
