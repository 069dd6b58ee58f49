//! Parses the address to listen on, as people write it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};

use anyhow::bail;
use figment::Figment;

use super::error::source_of;
use crate::failure::{Code, Failure};

/// Port if none is given.
pub(super) const DEFAULT_PORT: u16 = 6001;
/// How `listen` may be written.
const LISTEN_FORMS: &str = "write HOST:PORT, for example 127.0.0.1:6001, localhost:6001, [::1]:6001 or 0.0.0.0:6001 (all addresses of this \
     machine); a port alone is one of 127.0.0.1";

/// Why the node can't listen on an address.
enum ListenError {
    /// Its form is wrong.
    Form(String),
    /// Its host has no address, or none yet: at boot, names may not resolve yet.
    Host(String),
}

/// Parses an address to listen on: a port, a host, or both. A port alone means 127.0.0.1. Returns `None` if `path` isn't
/// set.
///
/// # Errors
///
/// Returns a [`Failure`] with [`Code::Unavailable`] if the host's name doesn't resolve, because a later attempt may
/// succeed, and otherwise an error that says how to write it.
pub(super) fn listen_address(
    settings: &Figment,
    path: &str,
    default_port: u16,
) -> anyhow::Result<Option<SocketAddr>> {
    let Ok(value) = settings.find_value(path) else {
        return Ok(None);
    };
    let source = settings
        .find_metadata(path)
        .map_or_else(|| "default".into(), source_of);
    // In the file, a port alone is a number.
    let port = value.to_i128().map(|port| port.to_string());
    let text = match (value.as_str(), port) {
        (Some(text), _) => text.to_owned(),
        (None, Some(port)) => port,
        (None, None) => bail!("{path} in {source}: not an address: {LISTEN_FORMS}"),
    };
    match parse_listen(text.trim(), default_port) {
        Ok(address) => Ok(Some(address)),
        Err(ListenError::Form(why)) => bail!("{path} in {source}: {why}"),
        Err(ListenError::Host(why)) => {
            Err(Failure::new(Code::Unavailable, format!("{path} in {source}: {why}")).into())
        }
    }
}

fn parse_listen(text: &str, default_port: u16) -> Result<SocketAddr, ListenError> {
    let in_words = |why: &str| format!("{text:?} {why}: {LISTEN_FORMS}");
    let wrong = |why: &str| ListenError::Form(in_words(why));
    let not_found = |why: &str| ListenError::Host(in_words(why));
    if text.contains("://") || text.contains('/') {
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
        ] {
            let config = load(&[("listen", written)]).expect(written);
            assert_eq!(config.listen.to_string(), address, "{written}");
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.toml");
        std::fs::write(&file, "listen = 7701\n").unwrap();
        let config = Config::load(Some(&file), vec![]).unwrap();
        assert_eq!(config.listen.to_string(), "127.0.0.1:7701");
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
