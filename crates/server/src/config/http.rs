//! Settings of `http`: requests, their sockets and their bodies.

use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::network::networks;
use super::rules::Rules;
use super::server::{PATH_PREFIX_FORM, is_path_prefix};
use super::units::{bytes, network_list, seconds};
use crate::capacity::{Capacity, RAISE_OPEN_FILES, RESERVED_FILES};
use crate::edge::client::Timeouts;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HttpConfig {
    /// What precedes all paths in requests of a proxy that passes it on.
    pub(crate) base_path: String,
    /// Number of threads that serve HTTP; 0 for the cores that the shards leave, at least one.
    pub(crate) threads: usize,
    /// Largest request body in bytes.
    #[serde(deserialize_with = "bytes")]
    pub(crate) max_body_bytes: usize,
    /// Largest number of bytes of clients' request bodies in memory at once; a quarter of it for one network. Clients
    /// need no secret to send these bodies.
    #[serde(deserialize_with = "bytes")]
    pub(crate) max_pending_body_bytes: usize,
    /// Seconds that a client may take for the first request head of a connection.
    #[serde(deserialize_with = "seconds")]
    pub(crate) first_head_timeout: u64,
    /// Largest number of clients' sockets of all kinds.
    pub(crate) max_sockets: usize,
    /// Largest number of requests at a time on a connection of HTTP/2, which isn't offered if it is 0.
    pub(crate) max_streams: u32,
    /// Seconds that a client may take for a later request's head, including the idle time before it, and for which it
    /// may read nothing of an answer.
    #[serde(deserialize_with = "seconds")]
    pub(crate) header_timeout: u64,
    /// Proxies whose `X-Forwarded-For` is trusted: addresses and networks, separated by commas.
    #[serde(deserialize_with = "network_list")]
    pub(crate) trusted_proxies: String,
}

impl HttpConfig {
    pub(super) fn defaults(capacity: Capacity) -> Self {
        Self {
            base_path: String::new(),
            threads: 0,
            max_body_bytes: 1024 * 1024,
            max_pending_body_bytes: (capacity.memory / 16).max(4 << 20),
            first_head_timeout: 10,
            header_timeout: 75,
            max_sockets: capacity.sockets,
            max_streams: 128,
            trusted_proxies: String::new(),
        }
    }

    /// Returns the trusted proxies, or `None` if one of them is neither an address nor a network.
    pub(crate) fn trusted_proxies(&self) -> Option<Vec<IpNet>> {
        networks(&self.trusted_proxies)
    }

    /// Returns how long clients may take.
    pub(crate) fn timeouts(&self) -> Timeouts {
        Timeouts {
            first_head: Duration::from_secs(self.first_head_timeout),
            head: Duration::from_secs(self.header_timeout),
        }
    }

    /// Returns a warning if the limit of open files doesn't allow so many sockets.
    pub(super) fn beyond_open_files(&self, allowed: usize) -> Option<String> {
        (self.max_sockets > allowed).then(|| {
            format!(
                "http.max_sockets is {}, and the limit of open files of this process allows {allowed}: clients \
                 beyond that wait until another socket is closed. Raise the limit to at least {} ({RAISE_OPEN_FILES}), or \
                 lower http.max_sockets",
                self.max_sockets,
                (self.max_sockets as u64).saturating_add(RESERVED_FILES),
            )
        })
    }

    pub(super) fn check(&self, max_message_bytes: usize, rules: Rules<'_>) -> anyhow::Result<()> {
        rules.check(
            "base_path",
            is_path_prefix(&self.base_path),
            PATH_PREFIX_FORM,
        )?;
        rules.check(
            "trusted_proxies",
            self.trusted_proxies().is_some(),
            format_args!(
                "must be addresses and networks with commas, for example 10.0.0.0/8, 192.0.2.7, not {:?}",
                self.trusted_proxies
            ),
        )?;
        rules.range(
            "first_head_timeout",
            self.first_head_timeout,
            1..=3600,
            "seconds",
        )?;
        rules.range("header_timeout", self.header_timeout, 1..=3600, "seconds")?;
        rules.at_least("max_sockets", self.max_sockets, 1, "")?;
        rules.range("max_streams", self.max_streams, 0..=10_000, "")?;
        rules.range("threads", self.threads, 0..=1024, "")?;
        rules.range(
            "max_body_bytes",
            self.max_body_bytes,
            16 * 1024..=64 << 20,
            "bytes",
        )?;
        rules.check(
            "max_pending_body_bytes",
            self.max_pending_body_bytes >= 2 * max_message_bytes,
            "must be at least twice websocket.max_message_bytes, or the largest message never fits",
        )
    }
}
