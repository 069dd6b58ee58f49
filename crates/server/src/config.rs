//! The configuration: one struct, filled from four layers (defaults, file, environment, flags). Errors name the layer.

use std::path::PathBuf;

use anyhow::Context;
use fanfare_protocol::Ceilings;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::capacity::Capacity;

mod acme;
mod alerts;
mod budgets;
mod cluster;
mod connections;
mod derived;
mod drain;
mod environment;
mod error;
mod fallback;
mod fence;
mod http;
mod identity;
mod layer;
mod listen;
mod load;
mod log;
mod memory;
mod names;
mod network;
mod ops;
mod outbox;
mod owner;
mod queue;
mod quotas;
mod reference;
mod rules;
mod secret;
mod server;
mod socket_io;
mod sources;
mod store;
mod tls;
mod units;
mod usage;
mod webhooks;
mod websocket;

pub(crate) use acme::AcmeConfig;
pub(crate) use alerts::AlertsConfig;
pub(crate) use environment::{
    new_master_key_variable, otel_variables, token_variable, unknown_variables,
};
pub(crate) use layer::Setting;
pub(crate) use listen::{ListenAddress, ListenAddresses, reachable};
pub(crate) use log::{LogConfig, LogFormat};
pub(crate) use names::nearest;
pub(crate) use owner::OwnerConfig;
pub(crate) use reference::{Described, described};
pub(crate) use secret::{HIDDEN, without_password};
pub(crate) use sources::SettingInForce;
pub(crate) use tls::TlsVersion;
pub(crate) use units::parse_seconds;
pub(crate) use webhooks::WebhooksConfig;

use cluster::ClusterConfig;
use connections::ConnectionsConfig;
use drain::DrainConfig;
use fallback::FallbackConfig;
use fence::FenceConfig;
use http::HttpConfig;
use identity::IdentityConfig;
use memory::MemoryConfig;
use network::NetworkConfig;
use ops::{DocsConfig, MetricsConfig, OpsConfig};
use outbox::OutboxConfig;
use queue::QueueConfig;
use quotas::QuotasConfig;
use rules::Rules;
use secret::hide;
use socket_io::SocketIoConfig;
use sources::Sources;
use store::StoreConfig;
use tls::TlsConfig;
use units::seconds;
use usage::UsageConfig;
use websocket::WebSocketConfig;

/// Settings of this node. `docs/configuration.md` explains them.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Addresses for HTTP and WebSockets.
    pub(crate) listen: ListenAddresses,
    /// Permissions of the files of Unix sockets in `listen`, in octal digits.
    pub(crate) listen_unix_mode: String,
    /// Whether trusted proxies begin each connection to `listen` with a header of the PROXY protocol.
    pub(crate) listen_proxy_protocol: bool,
    /// Folder of this node's files.
    pub(crate) data_dir: PathBuf,
    /// Whether there is a demo app and its page. By default only if the node listens on a loopback address.
    pub(crate) demo: Option<bool>,
    /// Prefix of `/app` and `/apps` in URLs.
    pub(crate) path_prefix: String,
    /// Number of threads that own connections.
    pub(crate) shards: usize,
    /// Seconds of silence after which the client pings the node, and the node pings the client.
    #[serde(deserialize_with = "seconds")]
    pub(crate) activity_timeout: u64,
    /// Seconds a client has to answer a ping.
    #[serde(deserialize_with = "seconds")]
    pub(crate) pong_timeout: u64,
    /// Key that seals the store's secrets. By default in a file in the data folder.
    #[serde(serialize_with = "hide")]
    pub(crate) master_key: Option<SecretString>,
    pub(crate) store: StoreConfig,
    pub(crate) cluster: ClusterConfig,
    pub(crate) memory: MemoryConfig,
    pub(crate) connections: ConnectionsConfig,
    pub(crate) outbox: OutboxConfig,
    pub(crate) inbox: QueueConfig,
    pub(crate) websocket: WebSocketConfig,
    pub(crate) fallback: FallbackConfig,
    pub(crate) socket_io: SocketIoConfig,
    pub(crate) http: HttpConfig,
    pub(crate) tls: TlsConfig,
    pub(crate) network: NetworkConfig,
    /// Bound of the idempotency keys of publishes, all apps together.
    pub(crate) idempotency: QueueConfig,
    /// Bound of what cache channels and histories of all apps keep on this node.
    pub(crate) recent_events: QueueConfig,
    /// Bound of the live events that all apps keep for operators who will watch.
    pub(crate) live_events: QueueConfig,
    pub(crate) identity: IdentityConfig,
    /// Highest values of apps' settings on this node.
    pub(crate) ceilings: Ceilings,
    pub(crate) owner: OwnerConfig,
    pub(crate) drain: DrainConfig,
    pub(crate) fence: FenceConfig,
    pub(crate) log: LogConfig,
    pub(crate) metrics: MetricsConfig,
    pub(crate) usage: UsageConfig,
    pub(crate) webhooks: WebhooksConfig,
    pub(crate) quotas: QuotasConfig,
    pub(crate) ops: OpsConfig,
    pub(crate) docs: DocsConfig,
    pub(crate) alerts: AlertsConfig,
    /// Source of each value.
    #[serde(skip)]
    sources: Sources,
}

impl Default for Config {
    fn default() -> Self {
        Self::defaults(Capacity::detected())
    }
}

impl Config {
    /// Returns the defaults. Some are derived from what this node may use, all of them here.
    fn defaults(capacity: Capacity) -> Self {
        Self {
            listen: ListenAddresses::default(),
            listen_unix_mode: "660".into(),
            listen_proxy_protocol: false,
            data_dir: "data".into(),
            demo: None,
            path_prefix: String::new(),
            shards: 1,
            activity_timeout: 120,
            pong_timeout: 30,
            master_key: None,
            store: StoreConfig::default(),
            cluster: ClusterConfig::default(),
            memory: MemoryConfig::defaults(capacity),
            connections: ConnectionsConfig::defaults(capacity),
            outbox: OutboxConfig::defaults(capacity),
            inbox: QueueConfig::inbox(),
            websocket: WebSocketConfig::defaults(capacity),
            fallback: FallbackConfig::default(),
            socket_io: SocketIoConfig::default(),
            http: HttpConfig::defaults(capacity),
            tls: TlsConfig::default(),
            network: NetworkConfig::defaults(capacity),
            idempotency: QueueConfig::idempotency(capacity),
            recent_events: QueueConfig::recent_events(capacity),
            live_events: QueueConfig::live_events(capacity),
            identity: IdentityConfig::default(),
            ceilings: Ceilings::default(),
            owner: OwnerConfig::default(),
            drain: DrainConfig::default(),
            fence: FenceConfig::default(),
            log: LogConfig::default(),
            metrics: MetricsConfig::default(),
            usage: UsageConfig::default(),
            webhooks: WebhooksConfig::default(),
            quotas: QuotasConfig::default(),
            ops: OpsConfig::default(),
            docs: DocsConfig::default(),
            alerts: AlertsConfig::default(),
            sources: Sources::default(),
        }
    }
}

impl Config {
    /// Checks every value against its rules.
    fn check(&self, rules: Rules<'_>) -> anyhow::Result<()> {
        let least_waiting = self.outbox.least_waiting(self.shards);
        self.check_server(rules)?;
        self.store.check(rules.of("store"))?;
        self.cluster.check(&self.store, rules.of("cluster"))?;
        self.memory.check(rules.of("memory"))?;
        self.connections.check(rules.of("connections"))?;
        self.outbox.check(self.shards, rules.of("outbox"))?;
        self.inbox
            .check_inbox(self.http.max_body_bytes, rules.of("inbox"))?;
        self.websocket.check(rules.of("websocket"))?;
        self.fallback.check(rules.of("fallback"))?;
        self.socket_io.check(rules.of("socket_io"))?;
        self.http
            .check(self.websocket.max_message_bytes, rules.of("http"))?;
        let plain: Vec<_> = self.listen.tcp().chain(self.ops.listen).collect();
        self.tls.check(&plain, rules.of("tls"))?;
        self.network.check(least_waiting, rules.of("network"))?;
        self.idempotency.check_memory(rules.of("idempotency"))?;
        self.recent_events.check_memory(rules.of("recent_events"))?;
        self.live_events.check_memory(rules.of("live_events"))?;
        if let Err((name, rule)) = self.ceilings.check() {
            rules.of("ceilings").check(name, false, rule)?;
        }
        self.owner.check(rules.of("owner"))?;
        self.drain.check(rules.of("drain"))?;
        self.fence.check(rules.of("fence"))?;
        self.log.check(rules.of("log"))?;
        self.metrics.check(rules.of("metrics"))?;
        self.usage.check(rules.of("usage"))?;
        self.webhooks.check(rules.of("webhooks"))?;
        self.alerts.check(rules.of("alerts"))?;
        self.quotas.check(rules.of("quotas"))?;
        self.ops.check(&self.listen, rules.of("ops"))
    }

    /// Returns the number of threads that serve HTTP. With more than there are cores, each request would cost a
    /// wake-up.
    pub(crate) fn http_threads(&self) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        match self.http.threads {
            0 => cores.saturating_sub(self.shards).max(1),
            threads => threads,
        }
    }

    /// Returns a warning for each bound that is higher than what the machine has, and therefore bounds nothing.
    pub(crate) fn beyond_machine(&self, machine: Capacity) -> Vec<String> {
        let warnings = [
            self.memory.beyond_machine(machine.memory),
            self.connections.beyond_open_files(machine.connections),
            self.http.beyond_open_files(machine.sockets),
        ];
        warnings.into_iter().flatten().collect()
    }

    /// Returns whether the configuration names the store, by a data folder or a URL, instead of leaving the default.
    pub(crate) fn names_store(&self) -> bool {
        ["data_dir", "store.url"].iter().any(|path| {
            self.sources
                .get(*path)
                .is_some_and(|source| sources::is_given(source))
        })
    }

    /// Returns all active values as TOML, each with its source. Secrets are hidden.
    pub(crate) fn to_toml(&self) -> anyhow::Result<String> {
        let mut shown = self.clone();
        shown.demo = Some(self.demo());
        shown.store.url = Some(self.store_shown().into());
        let text = toml::to_string(&shown).context("writing the configuration")?;
        Ok(sources::annotate(&text, &self.sources))
    }
}

#[cfg(test)]
pub(crate) mod tests;
