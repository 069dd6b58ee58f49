//! The configuration: one struct, four layers - defaults, file, environment, flags - and errors that name the source.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use fanfare_cluster::Redis;
use fanfare_engine::{Bounds, Budgets, Resource};
use figment::providers::{Format, Serialized, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};
use ipnet::IpNet;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize, Serializer};

use crate::access::check_password;
use crate::capacity::Capacity;

/// The file that is read when it is there and no other is named.
const DEFAULT_FILE: &str = "fanfare.toml";

/// Every setting, by its name in the file. The environment variable is `FANFARE_` and the name in capitals, with `_`
/// for `.`.
pub(crate) const SETTINGS: &[&str] = &[
    "listen",
    "data_dir",
    "demo",
    "path_prefix",
    "shards",
    "activity_timeout",
    "pong_timeout",
    "master_key",
    "store.url",
    "cluster.url",
    "cluster.prefix",
    "cluster.lease",
    "memory.limit",
    "connections.max",
    "connections.max_subscriptions",
    "connections.messages_per_second",
    "outbox.max_bytes",
    "outbox.max_total_bytes",
    "outbox.max_app_bytes",
    "outbox.max_replay_bytes",
    "inbox.max_bytes",
    "websocket.max_message_bytes",
    "http.threads",
    "http.max_body_bytes",
    "http.max_pending_body_bytes",
    "http.header_timeout",
    "http.trusted_proxies",
    "network.max_connections",
    "network.max_waiting_bytes",
    "network.exempt",
    "identity.allow_inner_addresses",
    "owner.name",
    "owner.password",
    "drain.period",
    "fence.max",
    "fence.per_second",
    "log.filter",
    "log.format",
];

/// Variables of the command line, which are no settings.
const OTHER_VARIABLES: &[&str] = &["FANFARE_CONFIG", "FANFARE_SERVER", TOKEN, NEW_MASTER_KEY];
/// The API token of the command line, where it works on another machine.
const TOKEN: &str = "FANFARE_TOKEN";
/// What `fanfare master-key rotate` is given.
const NEW_MASTER_KEY: &str = "FANFARE_NEW_MASTER_KEY";

/// The settings that are text: `1234` is a folder's name there, and no number.
const TEXT: &[&str] = &[
    "listen",
    "data_dir",
    "path_prefix",
    "master_key",
    "store.url",
    "cluster.url",
    "cluster.prefix",
    "http.trusted_proxies",
    "network.exempt",
    "owner.name",
    "owner.password",
    "log.filter",
    "log.format",
];

/// What this node does. See `docs/configuration.md`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Where HTTP and WebSocket are served.
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
    pub(crate) connections: Connections,
    pub(crate) outbox: Outbox,
    pub(crate) inbox: Queue,
    pub(crate) websocket: WebSocket,
    pub(crate) http: Http,
    pub(crate) network: NetworkConfig,
    pub(crate) identity: IdentityConfig,
    pub(crate) owner: OwnerConfig,
    pub(crate) drain: Drain,
    pub(crate) fence: FenceConfig,
    pub(crate) log: Log,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StoreConfig {
    /// `sqlite:` or `postgres:`; if not given, an SQLite file in the data folder.
    #[serde(serialize_with = "hide_password")]
    pub(crate) url: Option<SecretString>,
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
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Connections {
    /// Most connections this node takes; 0 for as many as the limit of open files allows.
    pub(crate) max: usize,
    /// Most channels one connection may be subscribed to.
    pub(crate) max_subscriptions: usize,
    /// Messages of one connection that are handled a second, client events besides; 0 for any number.
    pub(crate) messages_per_second: u32,
}

/// What waits for clients to read it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Outbox {
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
pub(crate) struct Queue {
    pub(crate) max_bytes: usize,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WebSocket {
    /// Largest message a client may send.
    pub(crate) max_message_bytes: usize,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Http {
    /// Threads that serve HTTP; 0 for the cores that the shards leave, at least one.
    pub(crate) threads: usize,
    /// Largest request body.
    pub(crate) max_body_bytes: usize,
    /// Most bytes of bodies of clients, who need no secret to send them, in memory at once; a quarter of it for one network.
    pub(crate) max_pending_body_bytes: usize,
    /// Seconds a client may take for a request's head, also between two requests of a connection, and for which it may
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
    /// Addresses and networks that no bound of a network applies to.
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
pub(crate) struct Drain {
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
pub(crate) struct Log {
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
            listen: SocketAddr::from(([127, 0, 0, 1], 6001)),
            data_dir: "data".into(),
            demo: None,
            path_prefix: String::new(),
            shards: 1,
            activity_timeout: 120,
            pong_timeout: 30,
            master_key: None,
            store: StoreConfig { url: None },
            cluster: ClusterConfig {
                url: None,
                prefix: "fanfare".into(),
                lease: 5,
            },
            memory: MemoryConfig {
                limit: capacity.memory,
            },
            connections: Connections {
                max: capacity.connections,
                max_subscriptions: 2000,
                messages_per_second: 100,
            },
            outbox: Outbox {
                max_bytes: 1024 * 1024,
                max_total_bytes: capacity.memory / 8,
                max_app_bytes: capacity.memory / 16,
                max_replay_bytes: 4 * 1024 * 1024,
            },
            inbox: Queue {
                max_bytes: 64 * 1024 * 1024,
            },
            websocket: WebSocket {
                max_message_bytes: 128 * 1024,
            },
            http: Http {
                threads: 0,
                max_body_bytes: 1024 * 1024,
                max_pending_body_bytes: (capacity.memory / 16).max(4 << 20),
                header_timeout: 75,
                trusted_proxies: String::new(),
            },
            network: NetworkConfig {
                // Many people share an address: an office, a school, a provider's gateway.
                max_connections: (capacity.connections / 8).max(64),
                max_waiting_bytes: (capacity.memory / 32).min(32 << 20),
                exempt: PRIVATE_NETWORKS.into(),
            },
            identity: IdentityConfig {
                allow_inner_addresses: false,
            },
            owner: OwnerConfig {
                name: "owner".into(),
                password: None,
            },
            drain: Drain { period: 20 },
            fence: FenceConfig {
                max: 5,
                per_second: 2000,
            },
            log: Log {
                filter: "info".into(),
                format: LogFormat::Text,
            },
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

fn hide<S: Serializer>(secret: &Option<SecretString>, serializer: S) -> Result<S::Ok, S::Error> {
    secret.as_ref().map(|_| "(hidden)").serialize(serializer)
}

fn hide_password<S: Serializer>(
    url: &Option<SecretString>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    url.as_ref()
        .map(|url| without_password(url.expose_secret()))
        .serialize(serializer)
}

/// A URL as it may be shown: without the password before the host, and without one in the query.
pub(crate) fn without_password(url: &str) -> String {
    let (address, query) = url.split_once('?').unwrap_or((url, ""));
    let hidden = || {
        let (scheme, rest) = address.split_once("://")?;
        let (user, host) = rest.rsplit_once('@')?;
        let (user, _) = user.split_once(':')?;
        Some(format!("{scheme}://{user}:(hidden)@{host}"))
    };
    let shown = hidden().unwrap_or_else(|| address.to_owned());
    if query.is_empty() {
        return shown;
    }
    let pair = |pair: &str| match pair.split_once('=') {
        Some((name, _)) if name.to_lowercase().contains("password") => format!("{name}=(hidden)"),
        _ => pair.to_owned(),
    };
    format!(
        "{shown}?{}",
        query.split('&').map(pair).collect::<Vec<_>>().join("&")
    )
}

/// One value from the environment or from a flag; errors name where it came from.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    source: String,
    path: String,
    value: String,
}

impl Setting {
    /// A setting given on the command line.
    pub(crate) fn flag(flag: &str, path: &str, value: impl Into<String>) -> Self {
        Self {
            source: format!("flag {flag}"),
            path: path.into(),
            value: value.into(),
        }
    }
}

impl Provider for Setting {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.source.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        // Parsing does not fail: what is no number and no boolean is text as well.
        let value = if TEXT.contains(&&*self.path) {
            Value::from(self.value.clone())
        } else {
            self.value
                .parse::<Value>()
                .unwrap_or_else(|never| match never {})
        };
        let nested = figment::util::nest(&self.path, value);
        let dict = nested.into_dict().unwrap_or_default();
        Ok(Map::from([(Profile::Default, dict)]))
    }
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
                bail!(
                    "{}: there is no setting {:?}; there are {}",
                    setting.source,
                    setting.path,
                    SETTINGS.join(", ")
                );
            }
            figment = figment.merge(setting);
        }
        let capacity = Capacity::detected().as_configured(&figment);
        let given = figment.clone();
        figment = figment.join(Serialized::defaults(Self::defaults(capacity)));
        let mut config: Self = figment
            .extract()
            .map_err(|error| anyhow::anyhow!(in_words(&error)))?;
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
        networks(&self.network.exempt)
    }

    /// What the node, an app and a network of clients may hold.
    pub(crate) fn budgets(&self) -> Budgets {
        let bodies = self.http.max_pending_body_bytes;
        // One body of a client fits in any case.
        let of_network = (bodies / 4).max(2 * self.websocket.max_message_bytes);
        Budgets {
            node: Bounds::unlimited().with(Resource::RequestBytes, bodies),
            network: Bounds::unlimited()
                .with(Resource::Connections, self.network.max_connections)
                .with(Resource::RequestBytes, of_network),
            ..Budgets::default()
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
        check(
            "http.trusted_proxies",
            self.trusted_proxies().is_some(),
            "must be addresses and networks with commas, for example 10.0.0.0/8, 192.0.2.7",
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
        self.validate_cluster(check)?;
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
        let message = self.websocket.max_message_bytes;
        check(
            "websocket.max_message_bytes",
            (16 * 1024..=16 << 20).contains(&message),
            "must be 16384 to 16777216 bytes",
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
        let segment_fits = |segment: &str| {
            let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '~');
            !segment.is_empty() && segment.chars().all(allowed)
        };
        let prefix = self.path_prefix.strip_prefix('/');
        let prefix_fits =
            self.path_prefix.is_empty() || prefix.is_some_and(|p| p.split('/').all(segment_fits));
        check(
            "path_prefix",
            prefix_fits,
            "must be empty, or like /realtime: letters, digits and -_.~ between slashes",
        )?;
        let filter = tracing_subscriber::EnvFilter::try_new(&self.log.filter);
        check(
            "log.filter",
            filter.is_ok(),
            "must be a log filter such as info or fanfare=debug",
        )
    }

    fn validate_bounds(
        &self,
        check: impl Fn(&str, bool, &str) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        check(
            "network.exempt",
            self.exempt_networks().is_some(),
            "must be addresses and networks with commas, for example 10.0.0.0/8, 192.0.2.7; or empty",
        )?;
        check(
            "network.max_connections",
            self.network.max_connections > 0,
            "must be at least 1",
        )?;
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
        let Outbox {
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

    /// How long a client's request head may take.
    pub(crate) fn header_timeout(&self) -> Duration {
        Duration::from_secs(self.http.header_timeout)
    }

    /// All values in force as TOML, secrets hidden.
    pub(crate) fn to_toml(&self) -> anyhow::Result<String> {
        let mut shown = self.clone();
        shown.demo = Some(self.demo());
        shown.store.url = Some(self.store_shown().into());
        toml::to_string(&shown).context("writing the configuration")
    }
}

/// The variables that are set, `DATABASE_URL` first, so that our own name for the same wins.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place where the environment is read"
)]
fn environment() -> Vec<Setting> {
    let database = ("DATABASE_URL".to_owned(), "store.url");
    let ours = SETTINGS.iter().map(|path| (variable(path), *path));
    std::iter::once(database)
        .chain(ours)
        .filter_map(|(name, path)| {
            let value = std::env::var(&name)
                .ok()
                .filter(|value| !value.is_empty())?;
            Some(Setting {
                source: format!("environment variable {name}"),
                path: path.into(),
                value,
            })
        })
        .collect()
}

/// Variables that look like settings of ours and are none: typing errors, or what Kubernetes sets for a service of our
/// name.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place where the environment is read"
)]
pub(crate) fn unknown_variables() -> Vec<String> {
    let ours =
        |name: &String| name.starts_with("FANFARE_") && !OTHER_VARIABLES.contains(&name.as_str());
    let known = |name: &String| SETTINGS.iter().any(|path| *name == variable(path));
    std::env::vars_os()
        .filter_map(|(name, _)| name.into_string().ok())
        .filter(|name| ours(name) && !known(name))
        .collect()
}

/// The API token for another server, from the environment.
pub(crate) fn token_variable() -> Option<SecretString> {
    secret_variable(TOKEN)
}

/// The master key to come, from the environment.
pub(crate) fn new_master_key_variable() -> Option<SecretString> {
    secret_variable(NEW_MASTER_KEY)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place where the environment is read"
)]
fn secret_variable(name: &str) -> Option<SecretString> {
    let value = std::env::var(name).ok();
    value.filter(|value| !value.is_empty()).map(Into::into)
}

/// The environment variable of a setting.
fn variable(path: &str) -> String {
    format!("FANFARE_{}", path.to_uppercase().replace('.', "_"))
}

fn source_of(metadata: &Metadata) -> String {
    match metadata
        .source
        .as_ref()
        .and_then(figment::Source::file_path)
    {
        Some(path) => format!("file {}", path.display()),
        None if metadata.name.contains("Config") => "default".into(),
        None => metadata.name.to_string(),
    }
}

fn in_words(error: &figment::Error) -> String {
    let path = error.path.join(".");
    let source = error
        .metadata
        .as_ref()
        .map_or_else(|| "the configuration".into(), source_of);
    if path.is_empty() {
        format!("{source}: {}", error.kind)
    } else {
        format!("{path} in {source}: {}", error.kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(settings: &[(&str, &str)]) -> anyhow::Result<Config> {
        let flags = settings
            .iter()
            .map(|(path, value)| Setting::flag("--set", path, *value))
            .collect();
        Config::load(None, flags)
    }

    fn refused(path: &str, value: &str) -> String {
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
        assert!(refused("listen", "nowhere").contains("listen in flag --set"));
        assert!(
            refused("shards", "0").contains("shards must be 1 to 64 (it was set by flag --set)")
        );
        assert!(refused("shards", "many").contains("shards in flag --set"));
        assert!(refused("log.filter", "a=b=c").contains("log.filter"));
        for prefix in ["app", "/", "/a/", "/:x", "/*x", "/{x}", "/a b", "//a"] {
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
        assert!(refused("shard", "1").contains("there is no setting \"shard\""));
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
    fn secrets_are_not_shown() {
        let config = load(&[
            ("store.url", "postgres://me:pass@host/db"),
            ("master_key", "verysecret"),
        ])
        .unwrap();
        let shown = config.to_toml().unwrap();
        assert!(shown.contains("postgres://me:(hidden)@host/db"), "{shown}");
        assert!(
            !shown.contains("pass@") && !shown.contains("verysecret"),
            "{shown}"
        );
        assert!(!format!("{config:?}").contains("verysecret"));
        let query = without_password("postgres://h/db?user=u&password=hunter2&sslmode=require");
        assert_eq!(
            query,
            "postgres://h/db?user=u&password=(hidden)&sslmode=require"
        );
    }
}
