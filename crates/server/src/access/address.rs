//! Where a request comes from. A proxy's word counts only if the proxy is one of ours.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::http::{Extensions, HeaderMap};
use ipnet::IpNet;

/// What proxies say of whom they speak for.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// The other end of a request's connection; the listener adds it to every request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// Knows which proxies are ours (`proxies.trusted`). Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Addresses {
    trusted: Arc<[IpNet]>,
}

impl Addresses {
    pub(crate) fn new(trusted: Vec<IpNet>) -> Self {
        Self {
            trusted: trusted.into(),
        }
    }

    /// The client's address; `None` for a request that came over no network.
    pub(crate) fn of(&self, headers: &HeaderMap, extensions: &Extensions) -> Option<IpAddr> {
        let peer = extensions.get::<Peer>()?.0.ip().to_canonical();
        if !self.is_trusted(peer) {
            return Some(peer);
        }
        let forwarded = headers
            .get_all(FORWARDED_FOR)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','));
        let hops: Vec<IpAddr> = forwarded
            .map_while(|hop| hop.trim().parse().ok())
            .map(|hop: IpAddr| hop.to_canonical())
            .collect();
        Some(self.client(peer, &hops))
    }

    /// Each hop was added by the one after it: the first that is not ours, from behind, is the client.
    fn client(&self, peer: IpAddr, hops: &[IpAddr]) -> IpAddr {
        let mut client = peer;
        for hop in hops.iter().rev() {
            if !self.is_trusted(client) {
                break;
            }
            client = *hop;
        }
        client
    }

    fn is_trusted(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|net| net.contains(&address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(trusted: &[&str], peer: &str, hops: &[&str]) -> String {
        let trusted = trusted.iter().map(|net| net.parse().expect("a net"));
        let hops: Vec<_> = hops.iter().map(|hop| hop.parse().expect("a hop")).collect();
        let peer = peer.parse().expect("a peer");
        Addresses::new(trusted.collect())
            .client(peer, &hops)
            .to_string()
    }

    #[test]
    fn a_stranger_cannot_say_where_it_comes_from() {
        assert_eq!(client(&[], "192.0.2.1", &["198.51.100.1"]), "192.0.2.1");
        let ours = ["10.0.0.0/8"];
        assert_eq!(client(&ours, "192.0.2.1", &["10.0.0.1"]), "192.0.2.1");
    }

    #[test]
    fn behind_our_proxies_the_last_hop_that_is_not_ours_counts() {
        let ours = ["10.0.0.0/8"];
        assert_eq!(client(&ours, "10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(client(&ours, "10.0.0.1", &["192.0.2.1"]), "192.0.2.1");
        let hops = ["203.0.113.9", "192.0.2.1", "10.0.0.2"];
        assert_eq!(client(&ours, "10.0.0.1", &hops), "192.0.2.1");
    }
}
