//! Settings of `network`: what the clients of one network may hold on this node.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::memory::LEAST_SUBSCRIPTIONS;
use super::outbox::LEAST_WAITING;
use super::rules::Rules;
use super::units::{bytes, network_list};
use crate::capacity::Capacity;

/// Private networks. An address there may be an undeclared proxy or a container's gateway that stands for all clients.
const PRIVATE_NETWORKS: &str = "127.0.0.0/8, 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, 100.64.0.0/10, 169.254.0.0/16, \
                                ::1/128, fc00::/7, fe80::/10";

/// Bounds of what the clients of one network (an IPv4 address, an IPv6 /64) may hold on this node.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NetworkConfig {
    /// Largest number of connections from one network.
    pub(crate) max_connections: usize,
    /// Largest number of bytes that wait for the connections from one network.
    #[serde(deserialize_with = "bytes")]
    pub(crate) max_waiting_bytes: usize,
    /// Largest number of sockets of all kinds from one network.
    pub(crate) max_sockets: usize,
    /// Largest number of pending sessions from one network, whose client has sent one request only.
    pub(crate) max_pending: usize,
    /// Largest number of bytes of the subscriptions from one network.
    #[serde(deserialize_with = "bytes")]
    pub(crate) max_subscription_bytes: usize,
    /// Addresses and networks that are exempt from these bounds, or `none`.
    #[serde(deserialize_with = "network_list")]
    pub(crate) exempt: String,
}

impl NetworkConfig {
    pub(super) fn defaults(capacity: Capacity) -> Self {
        Self {
            // An office, a school or a provider's gateway shares one address.
            max_connections: (capacity.connections / 8).max(64),
            // All bounds of a network in bytes together are less than 64 MiB, so that one address can't take more.
            max_waiting_bytes: (capacity.memory / 32).min(16 << 20),
            max_sockets: (capacity.connections / 4).max(128),
            max_pending: (capacity.connections / 16).clamp(16, 1024),
            max_subscription_bytes: (capacity.memory / 32).clamp(2 << 20, 16 << 20),
            exempt: PRIVATE_NETWORKS.into(),
        }
    }

    /// Returns the exempt networks, or `None` if one is neither an address nor a network.
    pub(crate) fn exempt_networks(&self) -> Option<Vec<IpNet>> {
        match self.exempt.trim() {
            // A word is needed, because an empty environment variable counts as not set.
            "none" => Some(Vec::new()),
            list => networks(list),
        }
    }

    pub(super) fn check(&self, least_waiting: usize, rules: Rules<'_>) -> anyhow::Result<()> {
        rules.check(
            "exempt",
            self.exempt_networks().is_some(),
            "must be addresses and networks with commas, for example 10.0.0.0/8, 192.0.2.7; or none",
        )?;
        rules.at_least("max_connections", self.max_connections, 1, "")?;
        rules.at_least(
            "max_subscription_bytes",
            self.max_subscription_bytes,
            LEAST_SUBSCRIPTIONS,
            "bytes",
        )?;
        rules.at_least("max_sockets", self.max_sockets, 1, "")?;
        rules.at_least("max_pending", self.max_pending, 1, "")?;
        rules.check(
            "max_waiting_bytes",
            self.max_waiting_bytes >= least_waiting,
            LEAST_WAITING,
        )
    }
}

/// Parses addresses and networks separated by commas, or returns `None` if one is neither.
pub(super) fn networks(list: &str) -> Option<Vec<IpNet>> {
    let net = |text: &str| {
        let address = || text.parse::<IpAddr>().ok().map(IpNet::from);
        text.parse().ok().or_else(address)
    };
    let texts = list.split(',').map(str::trim);
    texts.filter(|text| !text.is_empty()).map(net).collect()
}
