//! The addresses to listen on, as people write them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use anyhow::bail;
use figment::Figment;
use figment::value::Value;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::error::source_of;
use crate::failure::{Code, Failure};

/// Port if none is given.
pub(super) const DEFAULT_PORT: u16 = 6001;
/// How `listen` may be written.
const LISTEN_FORMS: &str = "write HOST:PORT, for example 127.0.0.1:6001, localhost:6001, [::1]:6001 or 0.0.0.0:6001 (all addresses of this \
     machine); a port alone is one of 127.0.0.1";
/// What precedes the path of a Unix socket.
const UNIX: &str = "unix:";
/// Longest path of a Unix socket in bytes, as Linux has it. Other systems allow a few less.
const MAX_UNIX_PATH: usize = 107;

/// An address to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ListenAddress {
    Tcp(SocketAddr),
    /// The file of a Unix socket.
    Unix(PathBuf),
}

impl ListenAddress {
    /// Returns the address if it is one of a network.
    pub(crate) fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(formatter),
            Self::Unix(path) => write!(formatter, "{UNIX}{}", path.display()),
        }
    }
}

/// At least one address to listen on. In text they are separated by commas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListenAddresses(Vec<ListenAddress>);

impl ListenAddresses {
    /// Returns addresses to listen on, or `None` if there are none.
    pub(crate) fn new(addresses: Vec<ListenAddress>) -> Option<Self> {
        (!addresses.is_empty()).then_some(Self(addresses))
    }

    pub(crate) fn all(&self) -> &[ListenAddress] {
        &self.0
    }

    /// Returns the addresses of networks.
    pub(crate) fn tcp(&self) -> impl Iterator<Item = SocketAddr> {
        self.0.iter().filter_map(ListenAddress::tcp)
    }

    /// Returns the first address of a network. Without one, it is the default address, at which nobody listens then.
    pub(crate) fn first_tcp(&self) -> SocketAddr {
        self.tcp().next().unwrap_or_else(default_listen)
    }

    /// Returns whether only this machine can connect.
    pub(crate) fn is_local(&self) -> bool {
        self.tcp().all(|address| address.ip().is_loopback())
    }
}

impl From<SocketAddr> for ListenAddresses {
    fn from(address: SocketAddr) -> Self {
        Self(vec![ListenAddress::Tcp(address)])
    }
}

impl Default for ListenAddresses {
    fn default() -> Self {
        Self(vec![ListenAddress::Tcp(default_listen())])
    }
}

fn default_listen() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_PORT))
}

impl fmt::Display for ListenAddresses {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, address) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(formatter, "{comma}{address}")?;
        }
        Ok(())
    }
}

impl Serialize for ListenAddresses {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Reads the text that [`listen_addresses`] made of what was written.
impl<'de> Deserialize<'de> for ListenAddresses {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_all(&text, DEFAULT_PORT).map_err(|error| match error {
            ListenError::Form(why) | ListenError::Host(why) => serde::de::Error::custom(why),
        })
    }
}

/// Why the node can't listen on an address.
enum ListenError {
    /// Its form is wrong.
    Form(String),
    /// Its host has no address, or none yet: at boot, names may not resolve yet.
    Host(String),
}

/// Parses the addresses to listen on, separated by commas or as a list. Each is a port, a host, or both, or `unix:` and
/// a path. A port alone means 127.0.0.1. Returns `None` if `path` isn't set.
///
/// # Errors
///
/// Returns a [`Failure`] with [`Code::Unavailable`] if a host's name doesn't resolve, because a later attempt may
/// succeed, and otherwise an error that says how to write it.
pub(super) fn listen_addresses(
    settings: &Figment,
    path: &str,
    default_port: u16,
) -> anyhow::Result<Option<ListenAddresses>> {
    let Ok(value) = settings.find_value(path) else {
        return Ok(None);
    };
    let source = settings
        .find_metadata(path)
        .map_or_else(|| "default".into(), source_of);
    let texts: Option<Vec<String>> = match &value {
        Value::Array(_, values) => values.iter().map(text_of).collect(),
        value => text_of(value).map(|text| vec![text]),
    };
    let Some(texts) = texts else {
        bail!("{path} in {source}: not an address: {LISTEN_FORMS}");
    };
    match parse_all(&texts.join(","), default_port) {
        Ok(addresses) => Ok(Some(addresses)),
        Err(ListenError::Form(why)) => bail!("{path} in {source}: {why}"),
        Err(ListenError::Host(why)) => {
            Err(Failure::new(Code::Unavailable, format!("{path} in {source}: {why}")).into())
        }
    }
}

/// Parses the one address of a network to listen on. See [`listen_addresses`].
pub(super) fn listen_address(
    settings: &Figment,
    path: &str,
    default_port: u16,
) -> anyhow::Result<Option<SocketAddr>> {
    let Some(addresses) = listen_addresses(settings, path, default_port)? else {
        return Ok(None);
    };
    match addresses.all() {
        [ListenAddress::Tcp(address)] => Ok(Some(*address)),
        _ => bail!(
            "{path} is {:?}, and must be one address: {LISTEN_FORMS}",
            addresses.to_string()
        ),
    }
}

/// Returns an address as text. In the file, a port alone is a number.
fn text_of(value: &Value) -> Option<String> {
    let port = || value.to_i128().map(|port| port.to_string());
    value.as_str().map(str::to_owned).or_else(port)
}

fn parse_all(text: &str, default_port: u16) -> Result<ListenAddresses, ListenError> {
    let mut addresses: Vec<ListenAddress> = Vec::new();
    for one in text.split(',').map(str::trim) {
        if one.is_empty() {
            return Err(ListenError::Form(format!(
                "an address is empty: {LISTEN_FORMS}"
            )));
        }
        let address = match one.strip_prefix(UNIX) {
            Some(path) => parse_unix(one, path)?,
            None => ListenAddress::Tcp(parse_listen(one, default_port)?),
        };
        let is_any_port = address.tcp().is_some_and(|address| address.port() == 0);
        if addresses.contains(&address) && !is_any_port {
            return Err(ListenError::Form(format!("{one:?} is there twice")));
        }
        addresses.push(address);
    }
    Ok(ListenAddresses(addresses))
}

fn parse_unix(written: &str, path: &str) -> Result<ListenAddress, ListenError> {
    let wrong = |why: &str| {
        ListenError::Form(format!(
            "{written:?} {why}: write unix: and an absolute path, for example unix:/run/fanfare/fanfare.sock"
        ))
    };
    let path = path.strip_prefix("//").unwrap_or(path);
    if !path.starts_with('/') || path.ends_with('/') {
        return Err(wrong("is no path of a socket"));
    }
    if path.len() > MAX_UNIX_PATH {
        return Err(wrong(
            "has a path of more than 107 bytes, the most that the system allows",
        ));
    }
    Ok(ListenAddress::Unix(path.into()))
}

fn parse_listen(text: &str, default_port: u16) -> Result<SocketAddr, ListenError> {
    let in_words = |why: &str| format!("{text:?} {why}: {LISTEN_FORMS}");
    let wrong = |why: &str| ListenError::Form(in_words(why));
    let not_found = |why: &str| ListenError::Host(in_words(why));
    if text.contains("://") || text.contains('/') {
        if text.starts_with('/') {
            return Err(wrong(&format!(
                "is a path: for a Unix socket write unix:{text}; for an address"
            )));
        }
        return Err(wrong("is a URL or a path, and an address is wanted"));
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(address);
    }
    let literal = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    if let Ok(ip) = literal.unwrap_or(text).parse::<IpAddr>() {
        return Ok(SocketAddr::from((ip, default_port)));
    }
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None if is_number(text) => ("", Some(text)),
        None => (text, None),
    };
    let port: u16 = port
        .map_or(Ok(default_port), str::parse)
        .map_err(|_| wrong("has no port from 0 to 65535"))?;
    match host {
        "" => return Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
        "*" => return Ok(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))),
        _ => {}
    }
    let found = (host, port)
        .to_socket_addrs()
        .map_err(|error| not_found(&format!("names a host that is not found ({error})")))?;
    // IPv4 first, so that `localhost` is 127.0.0.1 as in all examples.
    let found: Vec<SocketAddr> = found.collect();
    let first = found
        .iter()
        .find(|address| address.is_ipv4())
        .or(found.first());
    first
        .copied()
        .ok_or_else(|| not_found("names a host without an address"))
}

/// Returns the address at which this machine reaches a server that listens on `listen`.
pub(crate) fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => std::net::Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::from((ip, listen.port()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::config::tests::{load, refused};

    #[test]
    fn an_address_to_listen_on_is_read_as_people_write_it() {
        for (written, address) in [
            ("127.0.0.1:7701", "127.0.0.1:7701"),
            ("localhost:7701", "127.0.0.1:7701"),
            (":7701", "127.0.0.1:7701"),
            ("7701", "127.0.0.1:7701"),
            (" 7701 ", "127.0.0.1:7701"),
            ("*:7701", "0.0.0.0:7701"),
            ("0.0.0.0:7701", "0.0.0.0:7701"),
            ("[::1]:7701", "[::1]:7701"),
            ("[::]:7701", "[::]:7701"),
            ("::1", "[::1]:6001"),
            ("[::1]", "[::1]:6001"),
            ("localhost", "127.0.0.1:6001"),
            ("0.0.0.0", "0.0.0.0:6001"),
            ("127.0.0.1:0", "127.0.0.1:0"),
            ("6001,[::1]:6001", "127.0.0.1:6001, [::1]:6001"),
            ("127.0.0.1:0, 127.0.0.1:0", "127.0.0.1:0, 127.0.0.1:0"),
            ("unix:/run/fanfare.sock", "unix:/run/fanfare.sock"),
            ("unix:///run/fanfare.sock", "unix:/run/fanfare.sock"),
            ("*:80, unix:/run/a.sock", "0.0.0.0:80, unix:/run/a.sock"),
        ] {
            let config = load(&[("listen", written)]).expect(written);
            assert_eq!(config.listen.to_string(), address, "{written}");
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.toml");
        std::fs::write(&file, "listen = 7701\n").unwrap();
        let config = Config::load(Some(&file), vec![]).unwrap();
        assert_eq!(config.listen.to_string(), "127.0.0.1:7701");
        let list = "listen = [6001, \"[::]:7701\", \"unix:/run/fanfare.sock\"]\n";
        std::fs::write(&file, list).unwrap();
        let config = Config::load(Some(&file), vec![]).unwrap();
        assert_eq!(
            config.listen.to_string(),
            "127.0.0.1:6001, [::]:7701, unix:/run/fanfare.sock"
        );
        assert_eq!(config.listen.first_tcp().port(), 6001);
        assert!(!config.listen.is_local());
        std::fs::write(&file, "listen = true\n").unwrap();
        let error = Config::load(Some(&file), vec![]).unwrap_err().to_string();
        assert!(error.contains("not an address"), "{error}");
        for wrong in [
            "http://127.0.0.1:7701",
            "127.0.0.1:70000",
            "127.0.0.1:",
            "127.0.0.1:http",
            "/run/fanfare.sock",
            "nowhere.invalid:1",
            "70000",
        ] {
            let error = refused("listen", wrong);
            assert!(
                error.contains(&format!("{wrong:?}")) && error.contains("HOST:PORT"),
                "{error}"
            );
        }
        for wrong in [
            "unix:",
            "unix:fanfare.sock",
            "unix:/run/",
            &format!("unix:/{}", "x".repeat(107)),
        ] {
            let error = refused("listen", wrong);
            assert!(error.contains("unix:/run/fanfare/fanfare.sock"), "{error}");
        }
        assert!(refused("listen", "6001, :6001").contains("twice"));
        assert!(refused("listen", "6001,").contains("HOST:PORT"));
        for several in ["6002, 6003", "unix:/run/ops.sock"] {
            assert!(refused("ops.listen", several).contains("must be one address"));
        }
        assert_eq!(
            reachable("0.0.0.0:1".parse().unwrap()).to_string(),
            "127.0.0.1:1"
        );
        assert_eq!(reachable("[::]:1".parse().unwrap()).to_string(), "[::1]:1");
        assert_eq!(
            reachable("10.0.0.1:1".parse().unwrap()).to_string(),
            "10.0.0.1:1"
        );
    }
}
