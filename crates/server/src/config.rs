//! The configuration: one struct, four layers - defaults, file, environment, flags - and errors that name the source.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use fanfare_cluster::Redis;
use fanfare_engine::{Bounds, Budgets, Resource};
use fanfare_protocol::Ceilings;
use fanfare_store::{MasterKey, check_url};
use figment::Figment;
use figment::providers::{Format, Serialized, Toml};
use ipnet::IpNet;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use crate::access::check_password;
use crate::capacity::Capacity;
use crate::listener::Timeouts;
use crate::telemetry;
use crate::xhr::PendingBounds;

mod environment;
mod error;
mod layer;
mod listen;
mod names;
mod secret;

pub(crate) use environment::{new_master_key_variable, token_variable, unknown_variables};
pub(crate) use layer::Setting;
pub(crate) use listen::reachable;
pub(crate) use names::nearest;
pub(crate) use secret::without_password;

use environment::environment;
use error::{in_words, source_of};
use listen::{DEFAULT_PORT, listen_address};
use names::{SETTINGS, no_such_setting};
use secret::{hide, hide_password};

/// Most bytes of request bodies, and of unfinished messages, that one network may hold, however much memory there is.
const MAX_NETWORK_BODIES: usize = 16 << 20;
/// First segments of paths that are served whatever `path_prefix` is.
const OWN_PATHS: &[&str] = &[
    "api",
    "demo",
    "docs",
    "healthz",
    "openapi.json",
    "readyz",
    "ready",
    "sdk",
    "up",
];

/// The file that is read when it is there and no other is named.
const DEFAULT_FILE: &str = "fanfare.toml";

/// What this node does. See `docs/configuration.md`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Where HTTP and WebSocket are served.
    #[serde(deserialize_with = "listen_address")]
    pub(crate) listen: SocketAddr,
    /// Where this node keeps its files.
    pub(crate) data_dir: PathBuf,
    /// Whether there is a demo app and a page for it; if not said, when only this machine can reach us.
    pub(crate) demo: Option<bool>,
    /// What stands before `/app` and `/apps` in our URLs.
    pub(crate) path_prefix: String,
    /// Threads that own connections.
    pub(crate) shards: usize,
    /// Seconds of silence after which clients should ask whether we are there, and we ask them.
    pub(crate) activity_timeout: u64,
    /// Seconds a client has to answer.
    pub(crate) pong_timeout: u64,
    /// The key that secrets are sealed with; if not given, a file in the data folder.
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
    pub(crate) http: HttpConfig,
    pub(crate) network: NetworkConfig,
    /// Keys of publishes that may be sent again, of all apps together.
    pub(crate) idempotency: QueueConfig,
    /// What cache channels and histories of all apps keep on this node.
    pub(crate) recent_events: QueueConfig,
    pub(crate) identity: IdentityConfig,
    /// What no app goes beyond, whatever its settings say.
    pub(crate) ceilings: Ceilings,
    pub(crate) owner: OwnerConfig,
    pub(crate) drain: DrainConfig,
    pub(crate) fence: FenceConfig,
    pub(crate) log: LogConfig,
    /// Whether the configuration says where the store is: a data folder or a URL, rather than what is the default.
    #[serde(skip)]
    pub(crate) names_store: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StoreConfig {
    /// `sqlite:` or `postgres:`; if not given, an SQLite file in the data folder.
    #[serde(serialize_with = "hide_password")]
    pub(crate) url: Option<SecretString>,
    /// Where Postgres announces changes, if `url` leads through a connection pooler that cannot.
    #[serde(serialize_with = "hide_password")]
    pub(crate) listen_url: Option<SecretString>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClusterConfig {
    /// Where Redis is, if there are several nodes.
    #[serde(serialize_with = "hide_password")]
    pub(crate) url: Option<SecretString>,
    /// What all names in Redis begin with: installations with different prefixes do not hear each other.
    pub(crate) prefix: String,
    /// Seconds without a sign of life after which a node counts as dead.
    pub(crate) lease: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MemoryConfig {
    /// Bytes that this process may take; the defaults of other bounds follow from it.
    pub(crate) limit: usize,
    /// Most bytes that subscriptions take.
    pub(crate) subscriptions: usize,
    /// Most bytes that the subscriptions of one app take.
    pub(crate) subscriptions_of_app: usize,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConnectionsConfig {
    /// Most connections this node takes; 0 for as many as the limit of open files allows.
    pub(crate) max: usize,
    /// Most sessions of one app whose client has sent one request only.
    pub(crate) max_pending: usize,
    /// Most channels one connection may be subscribed to.
    pub(crate) max_subscriptions: usize,
    /// Messages of one connection that are handled a second, client events besides; 0 for any number.
    pub(crate) messages_per_second: u32,
}

/// What waits for clients to read it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OutboxConfig {
    /// Most bytes of others' events that wait for one connection.
    pub(crate) max_bytes: usize,
    /// Most bytes that wait for all connections of this node.
    pub(crate) max_total_bytes: usize,
    /// Most bytes that wait for the connections of one app.
    pub(crate) max_app_bytes: usize,
    /// Most bytes of a history that one subscription is sent.
    pub(crate) max_replay_bytes: usize,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct QueueConfig {
    pub(crate) max_bytes: usize,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WebSocketConfig {
    /// Largest message a client may send.
    pub(crate) max_message_bytes: usize,
    /// Most bytes of messages that have not come whole; half of it for one app, and a quarter for one network.
    pub(crate) max_unfinished_bytes: usize,
    /// Seconds in which a message of more than 4 KiB must have come whole.
    pub(crate) message_timeout: u64,
    /// Seconds between two PINGs to each connection, which keep it open at proxies; 0 for none.
    pub(crate) ping_interval: u64,
}

/// The HTTP fallbacks of pusher-js.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FallbackConfig {
    /// Seconds over which sessions are asked to reconnect once, so that they try a WebSocket again; 0 for never.
    pub(crate) websocket_retry: u64,
    /// Most requests of one browser that wait for events at a time, where it speaks HTTP/1.1; 0 for any number.
    pub(crate) max_hanging_requests: usize,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HttpConfig {
    /// Threads that serve HTTP; 0 for the cores that the shards leave, at least one.
    pub(crate) threads: usize,
    /// Largest request body.
    pub(crate) max_body_bytes: usize,
    /// Most bytes of bodies of clients, who need no secret to send them, in memory at once; a quarter of it for one network.
    pub(crate) max_pending_body_bytes: usize,
    /// Seconds a client may take for the first head of a connection.
    pub(crate) first_head_timeout: u64,
    /// Most sockets of clients, whatever they are used for.
    pub(crate) max_sockets: usize,
    /// Seconds a client may take for a later request's head, also between two requests of a connection, and for which it may
    /// read nothing of an answer.
    pub(crate) header_timeout: u64,
    /// Proxies whose `X-Forwarded-For` is believed: addresses and networks, with commas.
    pub(crate) trusted_proxies: String,
}

/// What the clients of one network (an IPv4 address, an IPv6 /64) may hold of this node.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NetworkConfig {
    /// Most connections from one network.
    pub(crate) max_connections: usize,
    /// Most bytes that wait for the connections from one network.
    pub(crate) max_waiting_bytes: usize,
    /// Most sockets from one network, whatever they are used for.
    pub(crate) max_sockets: usize,
    /// Most sessions from one network whose client has sent one request only.
    pub(crate) max_pending: usize,
    /// Most bytes that the subscriptions from one network take.
    pub(crate) max_subscription_bytes: usize,
    /// Addresses and networks that no bound of a network applies to, or `none`.
    pub(crate) exempt: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IdentityConfig {
    /// Whether key sets may be fetched from this machine and its network, and without TLS.
    pub(crate) allow_inner_addresses: bool,
}

/// The first operator, made when there is none.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OwnerConfig {
    /// What they sign in with.
    pub(crate) name: String,
    /// If not given, one is drawn and printed once.
    #[serde(serialize_with = "hide")]
    pub(crate) password: Option<SecretString>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DrainConfig {
    /// Seconds over which a stopping node closes its connections.
    pub(crate) period: u64,
}

/// Connections that may have missed events, because this node was cut off from the others.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FenceConfig {
    /// Seconds after which their clients are told at the latest.
    pub(crate) max: u64,
    /// How many of them are closed a second.
    pub(crate) per_second: usize,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogConfig {
    /// As `RUST_LOG` has it: `info`, `fanfare=debug`.
    pub(crate) filter: String,
    pub(crate) format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// Addresses of private networks, where an undeclared proxy or a container's gateway may stand for all clients.
const PRIVATE_NETWORKS: &str = "127.0.0.0/8, 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, 100.64.0.0/10, 169.254.0.0/16, \
                                ::1/128, fc00::/7, fe80::/10";

impl Default for Config {
    fn default() -> Self {
        Self::defaults(Capacity::detected())
    }
}

impl Config {
    /// The defaults, some of which follow from what this node may take. This is the one place where they are derived.
    fn defaults(capacity: Capacity) -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], DEFAULT_PORT)),
            data_dir: "data".into(),
            demo: None,
            path_prefix: String::new(),
            shards: 1,
            activity_timeout: 120,
            pong_timeout: 30,
            master_key: None,
            store: StoreConfig {
                url: None,
                listen_url: None,
            },
            cluster: ClusterConfig {
                url: None,
                prefix: "fanfare".into(),
                lease: 5,
            },
            memory: MemoryConfig {
                limit: capacity.memory,
                subscriptions: capacity.memory / 4,
                subscriptions_of_app: capacity.memory / 16 * 3,
            },
            connections: ConnectionsConfig {
                max: capacity.connections,
                max_pending: (capacity.connections / 4).clamp(64, 4096),
                max_subscriptions: 2000,
                messages_per_second: 100,
            },
            outbox: OutboxConfig {
                max_bytes: 1024 * 1024,
                max_total_bytes: capacity.memory / 8,
                max_app_bytes: capacity.memory / 16,
                max_replay_bytes: 4 * 1024 * 1024,
            },
            inbox: QueueConfig {
                max_bytes: 64 * 1024 * 1024,
            },
            websocket: WebSocketConfig {
                max_message_bytes: 128 * 1024,
                max_unfinished_bytes: (capacity.memory / 16).max(4 << 20),
                message_timeout: 30,
                ping_interval: 25,
            },
            fallback: FallbackConfig {
                websocket_retry: 300,
                max_hanging_requests: 4,
            },
            http: HttpConfig {
                threads: 0,
                max_body_bytes: 1024 * 1024,
                max_pending_body_bytes: (capacity.memory / 16).max(4 << 20),
                first_head_timeout: 10,
                header_timeout: 75,
                max_sockets: capacity.sockets,
                trusted_proxies: String::new(),
            },
            network: NetworkConfig {
                // Many people share an address: an office, a school, a provider's gateway.
                max_connections: (capacity.connections / 8).max(64),
                max_waiting_bytes: (capacity.memory / 32).min(32 << 20),
                max_sockets: (capacity.connections / 4).max(128),
                max_pending: (capacity.connections / 16).clamp(16, 1024),
                max_subscription_bytes: (capacity.memory / 32).clamp(2 << 20, 32 << 20),
                exempt: PRIVATE_NETWORKS.into(),
            },
            idempotency: QueueConfig {
                max_bytes: (capacity.memory / 16).clamp(4 << 20, 256 << 20),
            },
            recent_events: QueueConfig {
                max_bytes: (capacity.memory / 4).max(16 << 20),
            },
            identity: IdentityConfig {
                allow_inner_addresses: false,
            },
            ceilings: Ceilings::default(),
            owner: OwnerConfig {
                name: "owner".into(),
                password: None,
            },
            drain: DrainConfig { period: 20 },
            fence: FenceConfig {
                max: 5,
                per_second: 2000,
            },
            log: LogConfig {
                filter: "info".into(),
                format: LogFormat::Text,
            },
            names_store: false,
        }
    }
}

/// Reads addresses and networks with commas; `None` if one is neither.
fn networks(list: &str) -> Option<Vec<IpNet>> {
    let net = |text: &str| {
        let address = || text.parse::<IpAddr>().ok().map(IpNet::from);
        text.parse().ok().or_else(address)
    };
    let texts = list.split(',').map(str::trim);
    texts.filter(|text| !text.is_empty()).map(net).collect()
}

impl Config {
    /// Reads all layers; `file` is the file the user named, if any.
    pub(crate) fn load(file: Option<&Path>, flags: Vec<Setting>) -> anyhow::Result<Self> {
        let mut figment = Figment::new();
        match file {
            Some(file) if !file.is_file() => {
                bail!("the configuration file {} is not there", file.display())
            }
            Some(file) => figment = figment.merge(Toml::file_exact(file)),
            None if Path::new(DEFAULT_FILE).is_file() => {
                figment = figment.merge(Toml::file_exact(DEFAULT_FILE))
            }
            None => {}
        }
        for setting in environment().into_iter().chain(flags) {
            if !SETTINGS.contains(&&*setting.path) {
                bail!("{}: {}", setting.source, no_such_setting(&setting.path));
            }
            figment = figment.merge(setting);
        }
        let capacity = Capacity::detected().as_configured(&figment);
        let given = figment.clone();
        figment = figment.join(Serialized::defaults(Self::defaults(capacity)));
        let mut config: Self = figment
            .extract()
            .map_err(|error| anyhow::anyhow!(in_words(&error)))?;
        config.names_store = ["data_dir", "store.url"].iter().any(|path| {
            let metadata = figment.find_metadata(path);
            metadata.is_some_and(|metadata| source_of(metadata) != "default")
        });
        config.raise_waiting_defaults(&given);
        config.validate(&figment)?;
        if config.connections.max == 0 {
            config.connections.max = capacity.connections;
        }
        Ok(config)
    }

    /// `None` if one of them is neither an address nor a network.
    pub(crate) fn trusted_proxies(&self) -> Option<Vec<IpNet>> {
        networks(&self.http.trusted_proxies)
    }

    /// `None` if one of them is neither an address nor a network.
    pub(crate) fn exempt_networks(&self) -> Option<Vec<IpNet>> {
        match self.network.exempt.trim() {
            // An empty environment variable is one that is not set.
            "none" => Some(Vec::new()),
            list => networks(list),
        }
    }

    /// How many sessions may be there whose client has sent one request only.
    pub(crate) fn pending_sessions(&self) -> PendingBounds {
        PendingBounds {
            app: self.connections.max_pending,
            network: self.network.max_pending,
        }
    }

    /// What the node, an app and a network of clients may hold.
    pub(crate) fn budgets(&self) -> Budgets {
        let bodies = self.http.max_pending_body_bytes;
        let unfinished = self.websocket.max_unfinished_bytes;
        // One body or message of a client fits in any case. It takes up to twice its bytes while it is read.
        let fits_one = |bytes: usize| bytes.max(2 * self.websocket.max_message_bytes);
        let of_network = |bytes: usize| fits_one((bytes / 4).min(MAX_NETWORK_BODIES));
        Budgets {
            node: Bounds::unlimited()
                .with(Resource::RequestBytes, bodies)
                .with(Resource::MessageBytes, unfinished)
                .with(Resource::SubscriptionBytes, self.memory.subscriptions),
            app: Bounds::unlimited()
                .with(Resource::MessageBytes, fits_one(unfinished / 2))
                .with(
                    Resource::SubscriptionBytes,
                    self.memory.subscriptions_of_app,
                ),
            network: Bounds::unlimited()
                .with(Resource::Connections, self.network.max_connections)
                .with(Resource::RequestBytes, of_network(bodies))
                .with(Resource::MessageBytes, of_network(unfinished))
                .with(Resource::Sockets, self.network.max_sockets)
                .with(
                    Resource::SubscriptionBytes,
                    self.network.max_subscription_bytes,
                ),
        }
    }

    fn validate(&self, figment: &Figment) -> anyhow::Result<()> {
        let check = |path: &str, valid: bool, rule: &str| {
            let source = figment
                .find_metadata(path)
                .map_or_else(|| "default".into(), source_of);
            if valid {
                Ok(())
            } else {
                Err(anyhow::anyhow!("{path} {rule} (it was set by {source})"))
            }
        };
        self.validate_place_and_owner(check)?;
        self.validate_store(check)?;
        if let Err((name, rule)) = self.ceilings.check() {
            check(&format!("ceilings.{name}"), false, &rule)?;
        }
        self.validate_cluster(check)?;
        self.validate_idle(check)?;
        check("shards", (1..=64).contains(&self.shards), "must be 1 to 64")?;
        check(
            "activity_timeout",
            (1..=3600).contains(&self.activity_timeout),
            "must be 1 to 3600 seconds",
        )?;
        check(
            "pong_timeout",
            (1..=3600).contains(&self.pong_timeout),
            "must be 1 to 3600 seconds",
        )?;
        self.validate_sizes(check)?;
        let segment_fits = |segment: &str| {
            let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '~');
            !matches!(segment, "" | "." | "..") && segment.chars().all(allowed)
        };
        let prefix = self.path_prefix.strip_prefix('/');
        let prefix_fits =
            self.path_prefix.is_empty() || prefix.is_some_and(|p| p.split('/').all(segment_fits));
        check(
            "path_prefix",
            prefix_fits,
            "must be empty, or like /realtime: letters, digits and -_.~ between slashes",
        )?;
        let first = prefix.and_then(|p| p.split('/').next());
        check(
            "path_prefix",
            first.is_none_or(|first| !OWN_PATHS.contains(&first)),
            &format!(
                "must not begin with a path of Fanfare's own ({}): choose another, such as /realtime",
                OWN_PATHS.join(", ")
            ),
        )?;
        let filter = telemetry::check_filter(&self.log.filter);
        check(
            "log.filter",
            filter.is_ok(),
            &filter.err().unwrap_or_default(),
        )
    }

    fn validate_place_and_owner(
        &self,
        check: impl Fn(&str, bool, &str) -> anyhow::Result<()> + Copy,
    ) -> anyhow::Result<()> {
        check(
            "data_dir",
            !self.data_dir.as_os_str().is_empty(),
            "must name a folder",
        )?;
        check(
            "data_dir",
            !self.data_dir.exists() || self.data_dir.is_dir(),
            &format!(
                "must be a folder, and {} is a file",
                self.data_dir.display()
            ),
        )?;
        check(
            "http.trusted_proxies",
            self.trusted_proxies().is_some(),
            &format!(
                "must be addresses and networks with commas, for example 10.0.0.0/8, 192.0.2.7, not {:?}",
                self.http.trusted_proxies
            ),
        )?;
        check(
            "owner.name",
            !self.owner.name.trim().is_empty()
                && self.owner.name.chars().count() <= 200
                && !self.owner.name.contains(char::is_control),
            "must have 1 to 200 printable characters",
        )?;
        check(
            "owner.password",
            self.owner
                .password
                .as_ref()
                .is_none_or(|password| check_password(password).is_ok()),
            "must have 10 to 1000 characters",
        )?;
        self.validate_bounds(check)?;
        check(
            "master_key",
            self.master_key
                .as_ref()
                .is_none_or(|key| MasterKey::parse(key.expose_secret()).is_ok()),
            "must be 64 hex digits (32 bytes), as `openssl rand -hex 32` prints them",
        )?;
        Ok(())
    }

    fn validate_sizes(
        &self,
        check: impl Fn(&str, bool, &str) -> anyhow::Result<()> + Copy,
    ) -> anyhow::Result<()> {
        check(
            "connections.max_subscriptions",
            self.connections.max_subscriptions >= 1,
            "must be at least 1: a connection without a channel gets no event",
        )?;
        check(
            "outbox.max_bytes",
            self.outbox.max_bytes >= 64 * 1024,
            "must be at least 65536 bytes",
        )?;
        check(
            "inbox.max_bytes",
            self.inbox.max_bytes >= 64 * 1024,
            "must be at least 65536 bytes",
        )?;
        check(
            "inbox.max_bytes",
            self.inbox.max_bytes >= self.http.max_body_bytes,
            &format!(
                "must be at least http.max_body_bytes, {} bytes: no room would ever be found for the largest event",
                self.http.max_body_bytes
            ),
        )?;
        for (name, bytes) in [
            ("idempotency.max_bytes", self.idempotency.max_bytes),
            ("recent_events.max_bytes", self.recent_events.max_bytes),
        ] {
            check(name, bytes >= 1024 * 1024, "must be at least 1048576 bytes")?;
        }
        let message = self.websocket.max_message_bytes;
        check(
            "websocket.max_message_bytes",
            (16 * 1024..=16 << 20).contains(&message),
            "must be 16384 to 16777216 bytes",
        )?;
        check(
            "websocket.max_unfinished_bytes",
            self.websocket.max_unfinished_bytes >= 2 * message,
            "must be at least twice websocket.max_message_bytes, or the largest message never fits",
        )?;
        check(
            "websocket.message_timeout",
            (1..=3600).contains(&self.websocket.message_timeout),
            "must be 1 to 3600 seconds",
        )?;
        check(
            "http.threads",
            self.http.threads <= 1024,
            "must be 0 to 1024",
        )?;
        let body = self.http.max_body_bytes;
        check(
            "http.max_body_bytes",
            (16 * 1024..=64 << 20).contains(&body),
            "must be 16384 to 67108864 bytes",
        )?;
        check(
            "http.max_pending_body_bytes",
            self.http.max_pending_body_bytes >= 2 * message,
            "must be at least twice websocket.max_message_bytes, or the largest message never fits",
        )?;
        check(
            "http.header_timeout",
            (1..=3600).contains(&self.http.header_timeout),
            "must be 1 to 3600 seconds",
        )?;
        check(
            "drain.period",
            self.drain.period <= 3600,
            "must be 0 to 3600 seconds",
        )?;
        Ok(())
    }

    fn validate_bounds(
        &self,
        check: impl Fn(&str, bool, &str) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        check(
            "network.exempt",
            self.exempt_networks().is_some(),
            "must be addresses and networks with commas, for example 10.0.0.0/8, 192.0.2.7; or none",
        )?;
        check(
            "http.first_head_timeout",
            (1..=3600).contains(&self.http.first_head_timeout),
            "must be 1 to 3600 seconds",
        )?;
        for (path, max) in [
            ("http.max_sockets", self.http.max_sockets),
            ("network.max_connections", self.network.max_connections),
            ("memory.subscriptions", self.memory.subscriptions),
            (
                "memory.subscriptions_of_app",
                self.memory.subscriptions_of_app,
            ),
            (
                "network.max_subscription_bytes",
                self.network.max_subscription_bytes,
            ),
            ("network.max_sockets", self.network.max_sockets),
            ("network.max_pending", self.network.max_pending),
            ("connections.max_pending", self.connections.max_pending),
        ] {
            check(path, max > 0, "must be at least 1")?;
        }
        check(
            "memory.limit",
            self.memory.limit >= 64 << 20,
            "must be at least 67108864 bytes (64 MiB)",
        )?;
        self.validate_waiting(check)
    }

    /// Fewest bytes that may wait in all: a shard gets an even part of a bound, and one slow client should not pass that.
    fn least_waiting(&self) -> usize {
        self.outbox.max_bytes.saturating_mul(self.shards)
    }

    /// Raises the bounds that were not given to what `outbox.max_bytes` needs.
    fn raise_waiting_defaults(&mut self, given: &Figment) {
        let least = self.least_waiting();
        for (path, bytes) in [
            ("outbox.max_total_bytes", &mut self.outbox.max_total_bytes),
            ("outbox.max_app_bytes", &mut self.outbox.max_app_bytes),
            (
                "network.max_waiting_bytes",
                &mut self.network.max_waiting_bytes,
            ),
        ] {
            if !given.contains(path) {
                *bytes = least.max(*bytes);
            }
        }
    }

    fn validate_waiting(
        &self,
        check: impl Fn(&str, bool, &str) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let OutboxConfig {
            max_total_bytes,
            max_app_bytes,
            max_replay_bytes,
            ..
        } = self.outbox;
        let fits = |bytes: usize| bytes >= self.least_waiting();
        let rule = "must be at least outbox.max_bytes times shards: one slow client may hold outbox.max_bytes";
        check("outbox.max_total_bytes", fits(max_total_bytes), rule)?;
        check("outbox.max_app_bytes", fits(max_app_bytes), rule)?;
        let of_network = self.network.max_waiting_bytes;
        check("network.max_waiting_bytes", fits(of_network), rule)?;
        check(
            "outbox.max_replay_bytes",
            (64 * 1024..=1 << 30).contains(&max_replay_bytes),
            "must be 65536 to 1073741824 bytes",
        )?;
        check(
            "connections.messages_per_second",
            self.connections.messages_per_second <= 1_000_000,
            "must be 0 to 1000000",
        )
    }

    fn validate_store(
        &self,
        check: impl Fn(&str, bool, &str) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let url = self.store.url.as_ref().map(|url| url.expose_secret());
        if let Some(Err(error)) = url.map(check_url) {
            check("store.url", false, &format!("is not possible: {error}"))?;
        }
        let listen = self.store.listen_url.as_ref();
        let Some(listen) = listen.map(|url| url.expose_secret()) else {
            return Ok(());
        };
        let is_postgres = |url: &str| url.starts_with("postgres");
        check(
            "store.listen_url",
            is_postgres(listen) && url.is_some_and(is_postgres),
            "must be postgres://USER:PASSWORD@HOST/DATABASE, beside a store.url of the same database",
        )?;
        if let Err(error) = check_url(listen) {
            check(
                "store.listen_url",
                false,
                &format!("is not possible: {error}"),
            )?;
        }
        Ok(())
    }

    /// What happens on connections while nobody says anything.
    fn validate_idle(
        &self,
        check: impl Fn(&str, bool, &str) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        check(
            "websocket.ping_interval",
            self.websocket.ping_interval <= 3600,
            "must be 1 to 3600 seconds, or 0 for no PINGs",
        )?;
        check(
            "fallback.websocket_retry",
            self.fallback.websocket_retry <= 86_400,
            "must be 1 to 86400 seconds, or 0 for never",
        )
    }

    fn validate_cluster(
        &self,
        check: impl Fn(&str, bool, &str) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let url = self.cluster.url.as_ref().map(|url| url.expose_secret());
        if let Some(Err(error)) = url.map(|url| Redis::new(url, "")) {
            check("cluster.url", false, &format!("is not possible: {error}"))?;
        }
        let in_names = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let prefix = &self.cluster.prefix;
        check(
            "cluster.prefix",
            (1..=100).contains(&prefix.len()) && prefix.chars().all(in_names),
            "must be 1 to 100 letters, digits and -_.",
        )?;
        check(
            "fence.max",
            (1..=60).contains(&self.fence.max),
            "must be 1 to 60 seconds",
        )?;
        check(
            "fence.per_second",
            (1..=1_000_000).contains(&self.fence.per_second),
            "must be 1 to 1000000 connections a second",
        )?;
        check(
            "cluster.lease",
            (2..=60).contains(&self.cluster.lease),
            "must be 2 to 60 seconds",
        )
    }

    /// Whether there is a demo app and a page for it.
    pub(crate) fn demo(&self) -> bool {
        self.demo.unwrap_or_else(|| self.listen.ip().is_loopback())
    }

    /// The SQLite file that holds apps and keys where no `store.url` is given.
    pub(crate) fn store_file(&self) -> PathBuf {
        self.data_dir.join("fanfare.db")
    }

    /// Where apps and keys are, as it may be shown.
    pub(crate) fn store_shown(&self) -> String {
        let file = || format!("sqlite:{}", self.store_file().display());
        self.store
            .url
            .as_ref()
            .map_or_else(file, |url| without_password(url.expose_secret()))
    }

    /// Threads that serve HTTP. More than there are cores for would cost a wake-up for every request.
    pub(crate) fn http_threads(&self) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        match self.http.threads {
            0 => cores.saturating_sub(self.shards).max(1),
            threads => threads,
        }
    }

    /// How often each WebSocket gets a PING.
    pub(crate) fn ping_interval(&self) -> Option<Duration> {
        let seconds = self.websocket.ping_interval;
        (seconds > 0).then(|| Duration::from_secs(seconds))
    }

    /// How long clients may take.
    pub(crate) fn timeouts(&self) -> Timeouts {
        Timeouts {
            first_head: Duration::from_secs(self.http.first_head_timeout),
            head: Duration::from_secs(self.http.header_timeout),
        }
    }

    /// All values in force as TOML, secrets hidden.
    pub(crate) fn to_toml(&self) -> anyhow::Result<String> {
        let mut shown = self.clone();
        shown.demo = Some(self.demo());
        shown.store.url = Some(self.store_shown().into());
        toml::to_string(&shown).context("writing the configuration")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

    pub(super) fn load(settings: &[(&str, &str)]) -> anyhow::Result<Config> {
        let flags = settings
            .iter()
            .map(|(path, value)| Setting::flag("--set", path, *value))
            .collect();
        Config::load(None, flags)
    }

    pub(super) fn refused(path: &str, value: &str) -> String {
        load(&[(path, value)]).expect_err(value).to_string()
    }

    #[test]
    fn every_setting_is_a_field_and_every_field_a_setting() {
        let value = serde_json::to_value(Config::default()).unwrap();
        let mut fields = Vec::new();
        for (name, value) in value.as_object().unwrap() {
            match value.as_object() {
                Some(inner) => fields.extend(inner.keys().map(|key| format!("{name}.{key}"))),
                None => fields.push(name.clone()),
            }
        }
        let mut settings = SETTINGS.to_vec();
        fields.sort_unstable();
        settings.sort_unstable();
        assert_eq!(fields, settings);
    }

    #[test]
    fn every_setting_is_in_the_documentation() {
        let docs = include_str!("../../../docs/configuration.md");
        let of_apps = fanfare_protocol::AppSettings::names();
        for path in SETTINGS
            .iter()
            .copied()
            .chain(of_apps.iter().map(String::as_str))
        {
            assert!(
                docs.contains(&format!("`{path}`")),
                "{path} is not in docs/configuration.md"
            );
        }
    }

    #[test]
    fn the_last_layer_wins() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.toml");
        std::fs::write(&file, "shards = 2\npong_timeout = 7\n").unwrap();
        let config =
            Config::load(Some(&file), vec![Setting::flag("--set", "shards", "3")]).unwrap();
        assert_eq!(
            (config.shards, config.pong_timeout, config.activity_timeout),
            (3, 7, 120)
        );
    }

    #[test]
    fn a_wrong_value_is_refused_with_its_source() {
        assert!(refused("listen", "nowhere.invalid").contains("listen in flag --set"));
        assert!(
            refused("shards", "0").contains("shards must be 1 to 64 (it was set by flag --set)")
        );
        assert!(refused("shards", "many").contains("shards in flag --set"));
        assert!(refused("ceilings.event_data", "0").contains("ceilings.event_data must be 1 to"));
        assert!(refused("ceilings.cache_bytes", "9999999999999").contains("ceilings.cache_bytes"));
        assert!(load(&[("ceilings.connections", "0")]).is_ok());
        for prefix in [
            "app", "/", "/a/", "/:x", "/*x", "/{x}", "/a b", "//a", "/..", "/a/./b", "/api/v1",
            "/sdk", "/docs/x",
        ] {
            assert!(
                refused("path_prefix", prefix).contains("path_prefix"),
                "{prefix}"
            );
        }
        assert!(load(&[("path_prefix", "/real-time/v1")]).is_ok());
        assert_eq!(
            load(&[("data_dir", "1234")]).unwrap().data_dir,
            Path::new("1234")
        );
        assert!(
            refused("shard", "1").contains("there is no setting \"shard\"; did you mean shards?")
        );
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.toml");
        std::fs::write(&file, "shards = 0\n").unwrap();
        let error = Config::load(Some(&file), vec![]).unwrap_err().to_string();
        assert!(error.contains("x.toml"), "{error}");
        std::fs::write(&file, "shard = 1\n").unwrap();
        let error = Config::load(Some(&file), vec![]).unwrap_err().to_string();
        assert!(
            error.contains("x.toml") && error.contains("shard"),
            "{error}"
        );
        assert!(Config::load(Some(&folder.path().join("none.toml")), vec![]).is_err());
    }

    #[test]
    fn defaults_follow_from_what_is_set() {
        let config = load(&[("connections.max", "8000"), ("memory.limit", "1073741824")]).unwrap();
        assert_eq!(config.network.max_connections, 1000);
        let shown = config.to_toml().unwrap();
        assert!(shown.contains("limit = 1073741824"), "{shown}");
        // What is derived where nothing is set is shown as well.
        let detected = load(&[("connections.max", "0")]).unwrap();
        assert!(detected.connections.max > 0 && detected.memory.limit > 64 << 20);
        let own = load(&[
            ("connections.max", "8000"),
            ("network.max_connections", "7"),
        ])
        .unwrap();
        assert_eq!(own.network.max_connections, 7);
        assert_eq!(own.outbox.max_total_bytes, own.memory.limit / 8);
        let large = load(&[("outbox.max_bytes", "4000000000")]).unwrap();
        assert_eq!(large.network.max_waiting_bytes, 4_000_000_000);
        assert!(refused("outbox.max_app_bytes", "1000").contains("at least outbox.max_bytes"));
        assert!(refused("memory.limit", "1000").contains("memory.limit must be at least"));
        assert!(refused("memory.limit", "much").contains("memory.limit in flag --set"));
        assert!(refused("network.exempt", "nowhere").contains("network.exempt must be"));
    }

    #[test]
    fn a_value_that_cannot_have_its_effect_is_refused_with_what_to_write() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let file = file.to_str().unwrap();
        for (path, value, words) in [
            ("data_dir", "", "must name a folder"),
            ("data_dir", file, "is a file"),
            ("log.filter", "warning", "did you mean warn?"),
            (
                "log.filter",
                "verbose",
                "off, error, warn, info, debug or trace",
            ),
            ("log.filter", "information", "did you mean info?"),
            ("log.filter", "", "must name a level"),
            ("log.filter", "fanfare=warning", "fanfare=warning"),
            ("log.filter", "info,fanfere=debug", "did you mean fanfare?"),
            ("log.filter", "a=b=c", "a=b=c"),
            ("log.format", "xml", "log.format in flag --set"),
            ("master_key", "abc", "64 hex digits"),
            ("owner.name", " ", "1 to 200 printable characters"),
            ("owner.password", "short", "10 to 1000 characters"),
            ("store.url", "mysql://x", "sqlite: or postgres:"),
            ("store.url", "sqlite::memory:", "a file"),
            ("store.url", "sqlite:x.db?mode=memory", "a file"),
            ("store.url", "sqlite:x.db?mode=ro", "read only"),
            ("store.url", "postgres://host:x/db", "is not possible"),
            ("store.listen_url", "postgres://h/db", "beside a store.url"),
            ("connections.max_subscriptions", "0", "at least 1"),
            ("outbox.max_bytes", "0", "at least 65536"),
            ("inbox.max_bytes", "0", "at least 65536"),
            ("inbox.max_bytes", "70000", "http.max_body_bytes, 1048576"),
            ("activity_timeout", "0", "1 to 3600"),
            ("pong_timeout", "0", "1 to 3600"),
            ("http.header_timeout", "0", "1 to 3600"),
            ("http.trusted_proxies", "proxy.example", "\"proxy.example\""),
            ("cluster.url", "http://h", "cluster.url"),
            ("cluster.prefix", "", "cluster.prefix"),
            ("cluster.lease", "0", "2 to 60"),
        ] {
            let error = refused(path, value);
            assert!(error.contains(words), "{path}={value}: {error}");
        }
        let listens = [
            ("store.url", "postgres://pooler:6432/db"),
            ("store.listen_url", "postgres://host/db"),
        ];
        assert!(load(&listens).is_ok());
        for filter in [
            "off",
            "WARN",
            "info,fanfare=debug",
            "fanfare::notices=trace",
            "hyper=info,1",
        ] {
            assert!(load(&[("log.filter", filter)]).is_ok(), "{filter}");
        }
    }

    #[test]
    fn errors_of_the_file_are_one_line_and_name_what_was_meant() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.toml");
        for (text, words) in [
            ("shards = \n", "line 1, column"),
            ("[limits]\nconnections = 5\n", "is a setting of an app"),
            ("[drain]\nperid = 5\n", "did you mean drain.period?"),
            ("listne = \"x\"\n", "did you mean listen?"),
        ] {
            std::fs::write(&file, text).unwrap();
            let error = Config::load(Some(&file), vec![]).unwrap_err().to_string();
            assert!(
                error.contains(words) && error.contains("x.toml") && !error.contains(['\n', '|']),
                "{error}"
            );
        }
    }
}
