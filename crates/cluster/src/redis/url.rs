//! The address of Redis, as the setting `cluster.url` has it.

use percent_encoding::percent_decode_str;
use redis::{
    ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion, RedisConnectionInfo,
    RedisResult,
};

const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

/// Why a text is not an address of Redis.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0}; expected redis://[USER:PASSWORD@]HOST[:PORT][,HOST...][/DB][?sentinel=NAME], or rediss:// for TLS"
)]
pub struct InvalidUrl(String);

/// The addresses of Redis, and the credentials.
#[derive(Clone)]
pub(crate) struct RedisUrl {
    tls: bool,
    username: Option<String>,
    password: Option<String>,
    pub(crate) hosts: Vec<(String, u16)>,
    database: i64,
    /// The name by which the Sentinels know the master, if the hosts are Sentinels.
    pub(crate) sentinel: Option<String>,
    sentinel_password: Option<String>,
}

impl std::fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisUrl")
            .field("tls", &self.tls)
            .field("hosts", &self.hosts)
            .field("sentinel", &self.sentinel)
            .finish_non_exhaustive()
    }
}

impl RedisUrl {
    pub(crate) fn parse(url: &str) -> Result<Self, InvalidUrl> {
        let invalid = |what: &str| InvalidUrl(what.into());
        let (scheme, rest) = url
            .split_once("://")
            .ok_or_else(|| invalid("there is no ://"))?;
        let tls = match scheme {
            "redis" | "valkey" => false,
            "rediss" | "valkeys" => true,
            _ => return Err(InvalidUrl(format!("{scheme:?} is no scheme of Redis"))),
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, hosts) = match authority.rsplit_once('@') {
            Some((login, hosts)) => (Some(login), hosts),
            None => (None, authority),
        };
        let mut parsed = Self {
            tls,
            username: None,
            password: None,
            hosts: Vec::new(),
            database: match database {
                "" => 0,
                number => number
                    .parse()
                    .map_err(|_| invalid("the database is no number"))?,
            },
            sentinel: None,
            sentinel_password: None,
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("sentinel", name)) => parsed.sentinel = Some(decode(name)?),
                Some(("sentinel_password", password)) => {
                    parsed.sentinel_password = Some(decode(password)?);
                }
                // The value may be a secret, so it isn't repeated.
                _ => return Err(invalid("there is a parameter that is not known")),
            }
        }
        if let Some(login) = login {
            let (username, password) = login.split_once(':').unwrap_or(("", login));
            parsed.username = Some(decode(username)?).filter(|name| !name.is_empty());
            parsed.password = Some(decode(password)?).filter(|word| !word.is_empty());
        }
        let default = if parsed.sentinel.is_some() {
            SENTINEL_PORT
        } else {
            PORT
        };
        for host in hosts.split(',') {
            parsed
                .hosts
                .push(parse_host(host, default).ok_or_else(|| invalid("a host is malformed"))?);
        }
        Ok(parsed)
    }

    /// Returns how to connect to a Redis at an address.
    pub(crate) fn redis_at(&self, (host, port): &(String, u16)) -> RedisResult<ConnectionInfo> {
        let mut settings = RedisConnectionInfo::default()
            .set_protocol(ProtocolVersion::RESP3)
            .set_lib_name("fanfare", env!("CARGO_PKG_VERSION"))
            .set_db(self.database);
        if let Some(username) = &self.username {
            settings = settings.set_username(username);
        }
        if let Some(password) = &self.password {
            settings = settings.set_password(password);
        }
        Ok(self.at(host, *port)?.set_redis_settings(settings))
    }

    /// Returns how to connect to a Sentinel at an address.
    pub(crate) fn sentinel_at(&self, (host, port): &(String, u16)) -> RedisResult<ConnectionInfo> {
        let mut settings = RedisConnectionInfo::default();
        if let Some(password) = &self.sentinel_password {
            settings = settings.set_password(password);
        }
        Ok(self.at(host, *port)?.set_redis_settings(settings))
    }

    fn at(&self, host: &str, port: u16) -> RedisResult<ConnectionInfo> {
        let host = host.to_owned();
        let address = if self.tls {
            ConnectionAddr::TcpTls {
                host,
                port,
                insecure: false,
                tls_params: None,
            }
        } else {
            ConnectionAddr::Tcp(host, port)
        };
        address.into_connection_info()
    }
}

fn decode(text: &str) -> Result<String, InvalidUrl> {
    let decoded = percent_decode_str(text).decode_utf8();
    let decoded = decoded.map_err(|_| InvalidUrl("a %-escape is no text".into()))?;
    Ok(decoded.into_owned())
}

/// Parses `HOST`, `HOST:PORT`, `[IPv6]` or `[IPv6]:PORT`.
fn parse_host(text: &str, default: u16) -> Option<(String, u16)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            (host, rest.strip_prefix(':'))
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = match port {
        Some(port) => port.parse().ok()?,
        None => default,
    };
    (!host.is_empty()).then(|| (host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(url: &str) -> Vec<(String, u16)> {
        RedisUrl::parse(url).expect("valid").hosts
    }

    #[test]
    fn hosts_have_ports_or_the_usual_one() {
        assert_eq!(hosts("redis://a"), [("a".into(), 6379)]);
        assert_eq!(
            hosts("rediss://a:1,b,[::1]:2/3"),
            [("a".into(), 1), ("b".into(), 6379), ("::1".into(), 2)]
        );
        assert_eq!(
            hosts("redis://a,b:1?sentinel=m"),
            [("a".into(), 26379), ("b".into(), 1)]
        );
    }

    #[test]
    fn logins_are_decoded() {
        let url = RedisUrl::parse("redis://me:p%40ss%3A@h/2").expect("valid");
        assert_eq!(
            (url.username.as_deref(), url.password.as_deref()),
            (Some("me"), Some("p@ss:"))
        );
        assert_eq!(url.database, 2);
        let url = RedisUrl::parse("redis://:secret@h").expect("valid");
        assert_eq!(
            (url.username, url.password.as_deref()),
            (None, Some("secret"))
        );
    }

    #[test]
    fn what_is_wrong_is_said_without_what_may_be_secret() {
        for (url, word) in [
            ("localhost:6379", "://"),
            ("http://h", "scheme"),
            ("redis://", "host"),
            ("redis://h:port", "host"),
            ("redis://u:hunter2@h/x", "database"),
            ("redis://h?password=hunter2", "parameter"),
        ] {
            let error = RedisUrl::parse(url).expect_err(url).to_string();
            assert!(
                error.contains(word) && !error.contains("hunter2"),
                "{error}"
            );
        }
    }
}
