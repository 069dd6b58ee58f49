//! Requests to addresses that operators of an app chose. They must not reach what only this machine or its network can.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;

/// Creates a client with a time-out for each whole request; see [`builder`].
pub(crate) fn client(allow_inner: bool, timeout: Duration) -> reqwest::Result<reqwest::Client> {
    builder(allow_inner, timeout).build()
}

/// Begins a client without proxies and redirects. Unless `allow_inner` is set, names that resolve to inner addresses
/// fail, whenever a connection is made. An address in the URL itself is never resolved: call [`check_url`] first.
pub(crate) fn builder(allow_inner: bool, timeout: Duration) -> reqwest::ClientBuilder {
    let client = reqwest::Client::builder()
        .timeout(timeout)
        .redirect(Policy::none())
        .no_proxy()
        .referer(false);
    if allow_inner {
        client
    } else {
        client.dns_resolver(OuterOnly)
    }
}

/// Checks a URL that an operator of an app chose, and returns what is wrong with it. `setting` is the one that allows
/// inner addresses.
pub(crate) fn check_url(url: &Url, allow_inner: bool, setting: &str) -> Result<(), String> {
    match url.scheme() {
        "https" => {}
        "http" if allow_inner => {}
        "http" => {
            return Err(format!(
                "must start with https://, because http:// is only allowed for development ({setting})"
            ));
        }
        _ => return Err("must start with https://".into()),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not hold a user or a password".into());
    }
    let host = url.host_str().unwrap_or_default();
    let literal = host.trim_start_matches('[').trim_end_matches(']');
    match literal.parse() {
        Ok(address) if !allow_inner && is_inner(address) => Err(format!(
            "must not be an address of this machine or its network ({setting})"
        )),
        _ => Ok(()),
    }
}

/// Resolves names, but not to inner addresses. One inner address among others refuses the whole name, because a mix is
/// a sign of an attack.
struct OuterOnly;

impl Resolve for OuterOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: Vec<SocketAddr> =
                tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            if found.iter().any(|address| is_inner(address.ip())) {
                return Err("the name stands for an address of this machine or its network".into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// Returns whether an address isn't that of a host on the internet.
pub(crate) fn is_inner(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_inner_v4(address),
        IpAddr::V6(address) => is_inner_v6(address),
    }
}

fn is_inner_v4(address: Ipv4Addr) -> bool {
    match address.octets() {
        // This network, private, this machine, multicast and reserved.
        [0 | 10 | 127 | 224..=255, ..] => true,
        // Carrier-grade NAT.
        [100, 64..=127, ..] => true,
        // Link-local, with the metadata services of clouds.
        [169, 254, ..] => true,
        [172, 16..=31, ..] => true,
        // Protocol assignments, documentation, the 6to4 relay, private.
        [192, 0, 0 | 2, _] | [192, 88, 99, _] | [192, 168, ..] => true,
        // Benchmarking, documentation.
        [198, 18 | 19, ..] | [198, 51, 100, _] | [203, 0, 113, _] => true,
        _ => false,
    }
}

fn is_inner_v6(address: Ipv6Addr) -> bool {
    let v4 = |high: u16, low: u16| {
        let bits = u32::from(high) << 16 | u32::from(low);
        is_inner_v4(Ipv4Addr::from_bits(bits))
    };
    match address.segments() {
        // IPv4 in IPv6: mapped, translated, NAT64, 6to4.
        [0, 0, 0, 0, 0, 0xffff, high, low] => v4(high, low),
        [0, 0, 0, 0, 0xffff, 0, high, low] => v4(high, low),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low),
        [0x2002, high, low, ..] => v4(high, low),
        // Protocol assignments with Teredo and benchmarking, documentation.
        [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => true,
        // Outside 2000::/3 are unspecified, loopback, unique local, link-local, multicast and unassigned addresses.
        [first, ..] => first & 0xe000 != 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inner_addresses_are_told_from_outer_ones() {
        for inner in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.9.9.9",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "::ffff:0:10.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:2::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "2002:a00:1::1",
            "2002:c0a8:101::1",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(is_inner(inner.parse().unwrap()), "{inner}");
        }
        for outer in [
            "1.1.1.1",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.17.0.1",
            "198.20.0.1",
            "223.255.255.255",
            "::ffff:1.1.1.1",
            "64:ff9b::1.1.1.1",
            "2002:101:101::1",
            "2001:200::1",
            "2606:4700::1111",
            "2a00::1",
        ] {
            assert!(!is_inner(outer.parse().unwrap()), "{outer}");
        }
    }

    #[test]
    fn a_url_is_checked_however_its_address_is_written() {
        let check = |url: &str| check_url(&url.parse().unwrap(), false, "allow");
        for url in [
            "https://127.0.0.1/",
            "https://127.1/",
            "https://2130706433/",
            "https://0x7f.0.0.1/",
            "https://0177.0.0.1/",
            "https://127.0.0.1./",
            "https://[::1]/",
            "https://[::ffff:10.0.0.1]/",
            "https://[fd00::1]:8443/",
            "https://169.254.169.254/latest",
            "http://example.com/",
            "ftp://example.com/",
            "https://user@example.com/",
            "https://:pass@example.com/",
        ] {
            assert!(check(url).is_err(), "{url}");
        }
        for url in [
            "https://example.com/keys",
            "https://1.1.1.1/",
            "https://[2606:4700::1111]/",
        ] {
            assert!(check(url).is_ok(), "{url}");
        }
        let local: Url = "http://127.0.0.1:8080/".parse().unwrap();
        assert!(check_url(&local, true, "allow").is_ok());
    }

    #[tokio::test]
    async fn a_name_of_this_machine_is_not_resolved() {
        let client = client(false, Duration::from_secs(5)).unwrap();
        let error = client.get("https://localhost/").send().await.unwrap_err();
        assert!(
            format!("{error:?}").contains("of this machine or its network"),
            "{error:?}"
        );
    }
}
