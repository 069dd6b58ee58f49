//! Where a request comes from. A proxy's word counts only if the proxy is one of ours.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::http::{Extensions, HeaderMap};
use ipnet::IpNet;
use parking_lot::Mutex;

/// What proxies say of whom they speak for.
const FORWARDED_FOR: &str = "x-forwarded-for";
/// Most addresses that are warned of.
const MAX_UNDECLARED: usize = 8;
const FORWARDED_PROTO: &str = "x-forwarded-proto";

/// The other end of a request's connection; the listener adds it to every request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// Knows which proxies are ours (`http.trusted_proxies`), and which addresses no bound of a network applies to
/// (`network.exempt`). Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Addresses {
    trusted: Arc<[IpNet]>,
    exempt: Arc<[IpNet]>,
    /// Other ends that sent `X-Forwarded-For` and are not among the trusted: each is warned of once.
    undeclared: Arc<Mutex<Vec<IpAddr>>>,
}

impl Addresses {
    pub(crate) fn new(trusted: Vec<IpNet>, exempt: Vec<IpNet>) -> Self {
        Self {
            trusted: trusted.into(),
            exempt: exempt.into(),
            undeclared: Arc::default(),
        }
    }

    /// The client's address; `None` for a request that came over no network.
    pub(crate) fn of(&self, headers: &HeaderMap, extensions: &Extensions) -> Option<IpAddr> {
        let peer = extensions.get::<Peer>()?.0.ip().to_canonical();
        if !self.is_trusted(peer) {
            if headers.contains_key(FORWARDED_FOR) {
                self.warn_of_undeclared(peer);
            }
            return Some(peer);
        }
        let forwarded = headers
            .get_all(FORWARDED_FOR)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','));
        let hops: Vec<&str> = forwarded.map(str::trim).collect();
        Some(self.client(peer, &hops))
    }

    /// A proxy that is not declared stands for all its clients, which then share one network's bounds and attempts to sign in.
    fn warn_of_undeclared(&self, peer: IpAddr) {
        let mut undeclared = self.undeclared.lock();
        // Anybody can send the header.
        if undeclared.len() >= MAX_UNDECLARED || undeclared.contains(&peer) {
            return;
        }
        undeclared.push(peer);
        tracing::warn!(
            %peer,
            "X-Forwarded-For is not believed from here; if this is a proxy of yours, add it to http.trusted_proxies: until then \
             all its clients count as one"
        );
    }

    /// The address whose network pays for what a request makes this node hold. `None` for one that is exempt.
    pub(crate) fn charged(&self, headers: &HeaderMap, extensions: &Extensions) -> Option<IpAddr> {
        self.of(headers, extensions)
            .filter(|address| self.is_charged(*address))
    }

    /// Whether an address pays for what it makes this node hold. A proxy of ours does not: its clients do.
    pub(crate) fn is_charged(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        !self.is_trusted(address) && !self.exempt.iter().any(|net| net.contains(&address))
    }

    /// Whether the client came over TLS, which ends at a proxy of ours.
    pub(crate) fn is_secure(&self, headers: &HeaderMap, extensions: &Extensions) -> bool {
        let peer = extensions.get::<Peer>();
        let proto = headers.get(FORWARDED_PROTO);
        let proto = proto.and_then(|value| value.to_str().ok()).unwrap_or("");
        // Each proxy adds its own; the first is the one that the client spoke to.
        let first = proto.split(',').next().unwrap_or_default().trim();
        peer.is_some_and(|peer| self.is_trusted(peer.0.ip().to_canonical()))
            && ["https", "wss"]
                .iter()
                .any(|tls| first.eq_ignore_ascii_case(tls))
    }

    /// Each hop was added by the one after it: the first that is not ours, from behind, is the client.
    fn client(&self, peer: IpAddr, hops: &[&str]) -> IpAddr {
        let mut client = peer;
        for hop in hops.iter().rev() {
            match parse(hop) {
                Some(hop) if self.is_trusted(client) => client = hop,
                _ => break,
            }
        }
        client
    }

    fn is_trusted(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|net| net.contains(&address))
    }
}

/// An address, as some proxies write it with a port.
fn parse(hop: &str) -> Option<IpAddr> {
    let address = hop.parse().ok();
    let address = address.or_else(|| hop.parse::<SocketAddr>().ok().map(|with| with.ip()))?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(trusted: &[&str], peer: &str, hops: &[&str]) -> String {
        let trusted = trusted.iter().map(|net| net.parse().expect("a net"));
        let peer = peer.parse().expect("a peer");
        Addresses::new(trusted.collect(), Vec::new())
            .client(peer, hops)
            .to_string()
    }

    #[test]
    fn a_stranger_cannot_say_where_it_comes_from() {
        assert_eq!(client(&[], "192.0.2.1", &["198.51.100.1"]), "192.0.2.1");
        let ours = ["10.0.0.0/8"];
        assert_eq!(client(&ours, "192.0.2.1", &["10.0.0.1"]), "192.0.2.1");
    }

    #[test]
    fn a_proxy_that_is_not_declared_is_warned_of_once_and_a_crowd_of_strangers_is_not() {
        let addresses = Addresses::new(vec!["10.0.0.0/8".parse().expect("a net")], Vec::new());
        let mut headers = HeaderMap::new();
        let warned = |peer: &str, headers: &HeaderMap| {
            let mut extensions = Extensions::new();
            extensions.insert(Peer(peer.parse().expect("a peer")));
            addresses.of(headers, &extensions);
            addresses.undeclared.lock().len()
        };
        assert_eq!(warned("192.0.2.1:1", &headers), 0);
        headers.insert(FORWARDED_FOR, "198.51.100.1".parse().expect("a value"));
        assert_eq!(warned("10.0.0.1:1", &headers), 0, "it is declared");
        assert_eq!(warned("192.0.2.1:1", &headers), 1);
        assert_eq!(warned("192.0.2.1:2", &headers), 1);
        for last in 0..100 {
            warned(&format!("203.0.113.{last}:1"), &headers);
        }
        assert_eq!(addresses.undeclared.lock().len(), MAX_UNDECLARED);
    }

    #[test]
    fn behind_our_proxies_the_last_hop_that_is_not_ours_counts() {
        let ours = ["10.0.0.0/8"];
        assert_eq!(client(&ours, "10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(client(&ours, "10.0.0.1", &["192.0.2.1"]), "192.0.2.1");
        let hops = ["203.0.113.9", "192.0.2.1", "10.0.0.2"];
        assert_eq!(client(&ours, "10.0.0.1", &hops), "192.0.2.1");
        assert_eq!(
            client(&ours, "10.0.0.1", &["nonsense", "192.0.2.1:99"]),
            "192.0.2.1"
        );
        assert_eq!(
            client(&ours, "10.0.0.1", &["192.0.2.1", "nonsense"]),
            "10.0.0.1"
        );
    }

    #[test]
    fn only_a_proxy_of_ours_says_that_a_client_came_over_tls() {
        let addresses = Addresses::new(vec!["10.0.0.0/8".parse().expect("a net")], Vec::new());
        for (peer, proto, secure) in [
            ("10.0.0.1:1", "https", true),
            ("10.0.0.1:1", "HTTPS, http", true),
            ("10.0.0.1:1", "http, https", false),
            ("10.0.0.1:1", "", false),
            ("192.0.2.1:1", "https", false),
        ] {
            let mut extensions = Extensions::new();
            extensions.insert(Peer(peer.parse().expect("a peer")));
            let mut headers = HeaderMap::new();
            headers.insert(FORWARDED_PROTO, proto.parse().expect("a value"));
            assert_eq!(
                addresses.is_secure(&headers, &extensions),
                secure,
                "{peer} {proto}"
            );
        }
    }
}
