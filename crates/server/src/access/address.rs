//! Client addresses of requests. Forwarding headers count only if they come from a trusted proxy.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::http::{Extensions, HeaderMap, HeaderName};
use ipnet::IpNet;
use parking_lot::Mutex;

/// Header in which proxies name the client they forward for.
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Largest number of addresses that the log warns of.
const MAX_UNDECLARED: usize = 8;
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Peer address of a request's connection, or that of the client for which a trusted proxy opened it. The listener adds
/// it to every request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    address: SocketAddr,
    origin: Origin,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// The peer has connected itself, over a network.
    Network,
    /// The peer is a process on this machine. Who may open the socket's file, may say for whom it speaks.
    UnixSocket,
    /// A trusted proxy has named the peer in the PROXY protocol.
    NamedByProxy,
}

impl Peer {
    /// Returns a peer that has connected from an address.
    pub(crate) fn at(address: SocketAddr) -> Self {
        Self {
            address,
            origin: Origin::Network,
        }
    }

    /// Returns a client that a trusted proxy has named.
    pub(crate) fn named_by_proxy(address: SocketAddr) -> Self {
        Self {
            address,
            origin: Origin::NamedByProxy,
        }
    }

    /// Returns a process on this machine.
    pub(crate) fn on_unix_socket() -> Self {
        Self {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            origin: Origin::UnixSocket,
        }
    }

    /// Returns the peer's address.
    pub(crate) fn ip(&self) -> IpAddr {
        self.address.ip().to_canonical()
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.origin {
            Origin::UnixSocket => formatter.write_str("a process on this machine (unix:)"),
            Origin::Network | Origin::NamedByProxy => self.address.fmt(formatter),
        }
    }
}

/// Marks requests that came over TLS to this server itself. The listener adds it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OverTls;

/// Knows the trusted proxies (`http.trusted_proxies`) and the addresses that are exempt from bounds of networks
/// (`network.exempt`). Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Addresses {
    trusted: Arc<[IpNet]>,
    exempt: Arc<[IpNet]>,
    /// Peers that sent `X-Forwarded-For` and aren't trusted. The log warns of each once.
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

    /// Returns the client's address, or `None` for a request that came over no network.
    pub(crate) fn of(&self, headers: &HeaderMap, extensions: &Extensions) -> Option<IpAddr> {
        let peer = *extensions.get::<Peer>()?;
        let forwarded = headers.get_all(FORWARDED_FOR).iter();
        let forwarded = forwarded.filter_map(|value| value.to_str().ok());
        Some(self.of_peer(peer, forwarded))
    }

    /// Returns the client's address by the lines of `X-Forwarded-For` that came from its peer.
    pub(crate) fn of_peer<'a>(
        &self,
        peer: Peer,
        forwarded: impl IntoIterator<Item = &'a str>,
    ) -> IpAddr {
        let mut forwarded = forwarded.into_iter().peekable();
        if self.is_trusted(peer) {
            let hops = forwarded.flat_map(|line| line.split(','));
            let hops: Vec<&str> = hops.map(str::trim).collect();
            return self.client(peer, &hops);
        }
        // A peer that was named is a client, and its proxy is declared.
        if forwarded.peek().is_some() && peer.origin != Origin::NamedByProxy {
            self.warn_of_undeclared(peer.ip());
        }
        peer.ip()
    }

    /// Returns the peer of a request if it names another client in `X-Forwarded-For` and isn't trusted.
    pub(crate) fn undeclared_proxy(
        &self,
        headers: &HeaderMap,
        extensions: &Extensions,
    ) -> Option<IpAddr> {
        let peer = *extensions.get::<Peer>()?;
        // A peer that was named is a client, and its proxy is declared.
        let is_client = peer.origin == Origin::NamedByProxy;
        if !headers.contains_key(FORWARDED_FOR) || is_client {
            return None;
        }
        (!self.is_trusted(peer)).then_some(peer.ip())
    }

    /// Warns once of a peer that is perhaps a proxy. All clients of a proxy that isn't declared share one network's
    /// bounds and sign-in attempts.
    fn warn_of_undeclared(&self, peer: IpAddr) {
        let mut undeclared = self.undeclared.lock();
        // Every client can send the header, so the list and the warnings are bounded.
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

    /// Returns the address whose network pays for what a request makes this node hold, or `None` if it is exempt.
    pub(crate) fn charged(&self, headers: &HeaderMap, extensions: &Extensions) -> Option<IpAddr> {
        let peer = *extensions.get::<Peer>()?;
        self.of(headers, extensions)
            .filter(|address| match *address == peer.ip() {
                true => self.is_peer_charged(peer),
                false => self.is_charged(*address),
            })
    }

    /// Returns whether a peer pays for what it makes this node hold. See [`Self::is_charged`].
    pub(crate) fn is_peer_charged(&self, peer: Peer) -> bool {
        !self.is_trusted(peer) && self.is_charged(peer.ip())
    }

    /// Returns whether an address pays for what it makes this node hold. A trusted proxy doesn't: its clients do.
    pub(crate) fn is_charged(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        !self.is_proxy(address) && !self.exempt.iter().any(|net| net.contains(&address))
    }

    /// Returns whether the client came over TLS, which ends here or at a trusted proxy.
    pub(crate) fn is_secure(&self, headers: &HeaderMap, extensions: &Extensions) -> bool {
        let peer = extensions.get::<Peer>();
        let proto = headers.get(FORWARDED_PROTO);
        let proto = proto.and_then(|value| value.to_str().ok()).unwrap_or("");
        // Each proxy appends its own value. The first is of the proxy that the client connected to.
        let first = proto.split(',').next().unwrap_or_default().trim();
        let is_trusted = peer.is_some_and(|peer| self.is_trusted(*peer));
        if !is_trusted || first.is_empty() {
            return extensions.get::<OverTls>().is_some();
        }
        ["https", "wss"]
            .iter()
            .any(|tls| first.eq_ignore_ascii_case(tls))
    }

    /// Returns the client of a chain of hops. Each hop was added by the one after it, so the client is the last hop
    /// that isn't trusted.
    fn client(&self, peer: Peer, hops: &[&str]) -> IpAddr {
        let mut client = peer.ip();
        let mut is_trusted = self.is_trusted(peer);
        for hop in hops.iter().rev() {
            match parse(hop) {
                Some(hop) if is_trusted => {
                    client = hop;
                    is_trusted = self.is_proxy(hop);
                }
                _ => break,
            }
        }
        client
    }

    /// Returns whether a peer is a trusted proxy.
    pub(crate) fn is_trusted(&self, peer: Peer) -> bool {
        peer.origin == Origin::UnixSocket || self.is_proxy(peer.ip())
    }

    /// Returns whether an address is one of `http.trusted_proxies`.
    fn is_proxy(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|net| net.contains(&address))
    }
}

/// Parses an address. Some proxies add a port.
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
        let peer = match peer {
            "unix" => Peer::on_unix_socket(),
            address => Peer::at(SocketAddr::new(address.parse().expect("a peer"), 1)),
        };
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
            extensions.insert(Peer::at(peer.parse().expect("a peer")));
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
    fn a_process_on_this_machine_is_a_trusted_proxy_and_hops_before_it_must_be_declared() {
        assert_eq!(client(&[], "unix", &[]), "127.0.0.1");
        assert_eq!(
            client(&[], "unix", &["203.0.113.9", "192.0.2.1"]),
            "192.0.2.1"
        );
        let ours = ["192.0.2.1/32"];
        assert_eq!(
            client(&ours, "unix", &["203.0.113.9", "192.0.2.1"]),
            "203.0.113.9"
        );
        let addresses = Addresses::new(Vec::new(), Vec::new());
        assert!(!addresses.is_peer_charged(Peer::on_unix_socket()));
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
            extensions.insert(Peer::at(peer.parse().expect("a peer")));
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
