//! Which Redis serves which hash slots.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ConnectionInfo, RedisError, Value, cmd};

use super::answer::{integer, text, texts};
use super::url::RedisUrl;
use crate::backend::ConnectError;

/// How long each step of connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Number of hash slots of a Redis Cluster.
const SLOTS: u16 = 16384;
/// The oldest major version of Redis that has sharded publish and subscribe.
const OLDEST: u64 = 7;

/// A master, and the hash slots that it serves.
#[derive(Debug, Clone)]
pub(crate) struct Master {
    pub(crate) address: (String, u16),
    pub(crate) slots: Vec<(u16, u16)>,
    /// Names its run: another one after it was restarted or took over from another master.
    pub(crate) run: String,
    /// Names its process: another one after it was restarted.
    pub(crate) process: String,
}

/// Returns the hash slot of a key, which is that of its hash tag.
pub(crate) fn slot(key: &str) -> u16 {
    let tagged = || {
        let (_, rest) = key.split_once('{')?;
        let (tag, _) = rest.split_once('}')?;
        (!tag.is_empty()).then_some(tag)
    };
    crc16::State::<crc16::XMODEM>::calculate(tagged().unwrap_or(key).as_bytes()) % SLOTS
}

/// Finds all masters through the first address that answers.
///
/// # Errors
///
/// Returns what each address answered, if none of them names the masters.
pub(crate) async fn find(url: &RedisUrl) -> Result<Vec<Master>, ConnectError> {
    let mut errors = Vec::new();
    for host in &url.hosts {
        let found = match &url.sentinel {
            Some(name) => ask_sentinel(url, host, name).await,
            None => ask_redis(url, host).await,
        };
        match found {
            Ok(masters) => return Ok(masters),
            Err(error) => errors.push(format!("{}:{}: {error}", host.0, host.1)),
        }
    }
    Err(ConnectError(errors.join("; ")))
}

async fn ask_sentinel(
    url: &RedisUrl,
    host: &(String, u16),
    name: &str,
) -> Result<Vec<Master>, ConnectError> {
    let mut sentinel = open(url.sentinel_at(host)).await?;
    let mut question = cmd("SENTINEL");
    question.arg("GET-MASTER-ADDR-BY-NAME").arg(name);
    let answer = ask(&mut sentinel, &question).await?;
    let address = texts(answer).unwrap_or_default();
    let [host, port] = &address[..] else {
        return Err(ConnectError(format!(
            "this Sentinel knows no master {name:?}"
        )));
    };
    let port = port
        .parse()
        .map_err(|_| ConnectError("a port is no number".into()))?;
    let address = (host.clone(), port);
    let found = ask_redis(url, &address).await;
    found.map_err(|error| {
        let (host, port) = &address;
        ConnectError(format!(
            "the master {name:?} that this Sentinel names, {host}:{port}: {error}"
        ))
    })
}

async fn ask_redis(url: &RedisUrl, host: &(String, u16)) -> Result<Vec<Master>, ConnectError> {
    let mut redis = open(url.redis_at(host)).await?;
    let hello = ask(&mut redis, &cmd("HELLO")).await?;
    let (mut mode, mut role, mut version) = (String::new(), String::new(), String::new());
    if let Value::Map(fields) = hello {
        for (field, value) in fields {
            match text(field).as_deref() {
                Some("mode") => mode = text(value).unwrap_or_default(),
                Some("role") => role = text(value).unwrap_or_default(),
                Some("version") => version = text(value).unwrap_or_default(),
                _ => {}
            }
        }
    }
    let major = version
        .split('.')
        .next()
        .and_then(|major| major.parse::<u64>().ok());
    if major.is_some_and(|major| major < OLDEST) {
        return Err(ConnectError(format!(
            "this is Redis {version}; Redis {OLDEST} or later, or Valkey, is needed"
        )));
    }
    match (&*mode, &*role) {
        ("cluster", _) => masters(ask(&mut redis, cmd("CLUSTER").arg("SLOTS")).await?, host),
        ("sentinel", _) => Err(ConnectError(
            "this is a Sentinel; add ?sentinel=NAME with the name of its master".into(),
        )),
        (_, "master") => Ok(vec![Master {
            address: host.clone(),
            slots: vec![(0, SLOTS - 1)],
            run: String::new(),
            process: String::new(),
        }]),
        _ => Err(ConnectError(
            "this is a replica, which takes no changes".into(),
        )),
    }
}

/// Reads `CLUSTER SLOTS`: first slot, last slot, master, replicas. A missing host stands for the
/// one that was asked.
fn masters(slots: Value, asked: &(String, u16)) -> Result<Vec<Master>, ConnectError> {
    let malformed = || ConnectError("CLUSTER SLOTS was answered with something else".into());
    let Value::Array(ranges) = slots else {
        return Err(malformed());
    };
    let mut masters: Vec<Master> = Vec::new();
    let mut covered = 0;
    for range in ranges {
        let Value::Array(range) = range else {
            return Err(malformed());
        };
        let mut range = range.into_iter();
        let mut number = || u16::try_from(integer(range.next()?)?).ok();
        let (first, last) = number().zip(number()).ok_or_else(malformed)?;
        let Some(Value::Array(master)) = range.next() else {
            return Err(malformed());
        };
        let mut master = master.into_iter();
        let host = master
            .next()
            .and_then(text)
            .filter(|host| !host.is_empty() && host != "?");
        let port = master
            .next()
            .and_then(integer)
            .and_then(|port| u16::try_from(port).ok());
        let address = (
            host.unwrap_or_else(|| asked.0.clone()),
            port.ok_or_else(malformed)?,
        );
        covered += u32::from(last) - u32::from(first) + 1;
        match masters.iter_mut().find(|master| master.address == address) {
            Some(known) => known.slots.push((first, last)),
            None => masters.push(Master {
                address,
                slots: vec![(first, last)],
                run: String::new(),
                process: String::new(),
            }),
        }
    }
    if covered < u32::from(SLOTS) {
        return Err(ConnectError(
            "the Redis Cluster does not serve all slots at this moment".into(),
        ));
    }
    Ok(masters)
}

async fn open(
    info: Result<ConnectionInfo, RedisError>,
) -> Result<MultiplexedConnection, ConnectError> {
    connect_to(info, AsyncConnectionConfig::new()).await
}

/// Connects within [`CONNECT_TIMEOUT`].
pub(crate) async fn connect_to(
    info: Result<ConnectionInfo, RedisError>,
    config: AsyncConnectionConfig,
) -> Result<MultiplexedConnection, ConnectError> {
    let words = |error: RedisError| ConnectError(error.to_string());
    let client = Client::open(info.map_err(words)?).map_err(words)?;
    let config = config
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(None);
    let connection = client.get_multiplexed_async_connection_with_config(&config);
    let connected = tokio::time::timeout(CONNECT_TIMEOUT, connection).await;
    connected.map_err(|_| late())?.map_err(words)
}

pub(crate) async fn ask(
    connection: &mut MultiplexedConnection,
    question: &redis::Cmd,
) -> Result<Value, ConnectError> {
    let answer =
        tokio::time::timeout(CONNECT_TIMEOUT, connection.send_packed_command(question)).await;
    let answer = answer.map_err(|_| late())?.and_then(Value::extract_error);
    answer.map_err(|error| ConnectError(error.to_string()))
}

/// Returns the name of a master's run: its replication id.
pub(crate) async fn run_of(connection: &mut MultiplexedConnection) -> Result<String, ConnectError> {
    info_of(connection, "replication", "master_replid").await
}

/// Returns the name of the process that runs a Redis. It stays while replicas come and go, which
/// may rename the run.
pub(crate) async fn process_of(
    connection: &mut MultiplexedConnection,
) -> Result<String, ConnectError> {
    info_of(connection, "server", "run_id").await
}

async fn info_of(
    connection: &mut MultiplexedConnection,
    section: &str,
    field: &str,
) -> Result<String, ConnectError> {
    let info = ask(connection, cmd("INFO").arg(section)).await?;
    let info = match info {
        Value::VerbatimString { text, .. } => text,
        other => text(other).unwrap_or_default(),
    };
    let value = info
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let value = value.map(|value| value.trim().to_owned());
    value.ok_or_else(|| ConnectError(format!("INFO {section} names no {field}")))
}

fn late() -> ConnectError {
    ConnectError(format!("no answer within {CONNECT_TIMEOUT:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_redis() {
        // From the specification of Redis Cluster, and of its examples of hash tags.
        assert_eq!(slot("123456789"), 0x31c3);
        assert_eq!(slot("{user1000}.following"), slot("{user1000}.followers"));
        assert_eq!(slot("foo{}{bar}"), slot("foo{}{bar}"));
        assert_eq!(slot("foo{{bar}}zap"), slot("{bar"));
        assert_eq!(slot("foo{bar}{zap}"), slot("bar"));
    }
}
