//! Creates the engine, alone or in a cluster, and starts the threads of its shards.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use fanfare_cluster::{Choice, Cluster, Settings};
use fanfare_engine::{Engine, NoSpans, Options, ShardSeed, WaitingLimits};
use fanfare_store::Store;
use secrecy::ExposeSecret;
use tokio::task::LocalSet;

use crate::config::Config;
use crate::notices::NodeNotices;
use crate::traces::Traces;
use crate::webhooks::Webhooks;

/// Exit code after a bug (`EX_SOFTWARE`).
const EXIT_BUG: i32 = 70;

/// A node, its shards, and its cluster if it is in one.
type Parts = (Arc<Engine>, Vec<ShardSeed>, Option<Arc<Cluster>>);

/// Creates the node, alone or in a cluster.
pub(super) async fn engine(
    config: &Config,
    store: &Store,
    traces: &Traces,
    webhooks: &Webhooks,
    node_name: &str,
) -> anyhow::Result<Parts> {
    let options = Options {
        spans: traces.spans(),
        ..engine_options(config, store)?
    };
    let notices = Arc::new(NodeNotices::new(webhooks.intake().clone()));
    let Some(url) = config.cluster_url() else {
        let (engine, shards) = Engine::new(options, notices);
        engine.set_live_name(node_name);
        return Ok((engine, shards, None));
    };
    let settings = Settings {
        name: node_name.to_owned(),
        installation: store.installation_uid().await?.into(),
        lease: Duration::from_secs(config.cluster.lease),
        fence_max: Duration::from_secs(config.fence.max),
        fence_per_second: config.fence.per_second,
    };
    let back_end =
        Choice::new(url.expose_secret(), &config.cluster.prefix).context("reading cluster.url")?;
    let back_end = back_end.into_back_end();
    let mut cluster = None;
    // The engine and the cluster refer to each other, so the cluster is created while the engine is.
    let (engine, shards) = Engine::clustered(options, notices, |node| {
        let new = Cluster::new(node, back_end, settings);
        cluster = Some(Arc::clone(&new));
        new.links()
    });
    Ok((engine, shards, cluster))
}

pub(super) fn engine_options(config: &Config, store: &Store) -> anyhow::Result<Options> {
    rlimit::increase_nofile_limit(u64::MAX).context("asking for more open files")?;
    Ok(Options {
        shards: config.shards,
        activity_timeout: Duration::from_secs(config.activity_timeout),
        pong_timeout: Duration::from_secs(config.pong_timeout),
        ping_interval: config.websocket.ping_interval(),
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
        live_events_bytes: config.live_events.max_bytes,
        max_connections: config.connections.max,
        max_subscriptions: config.connections.max_subscriptions,
        budgets: config.budgets(),
        user_hash_key: store.user_hash_key(),
        quotas: config.quotas.quotas(),
        max_transitions: config.webhooks.max_transitions,
        spans: Arc::new(NoSpans),
    })
}

/// Starts a shard on a thread and a runtime of its own. If it ends, the process ends, because its clients would
/// otherwise wait forever.
pub(super) fn start_shard(number: usize, shard: ShardSeed) -> anyhow::Result<()> {
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
