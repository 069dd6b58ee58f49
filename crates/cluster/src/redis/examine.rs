//! Looks at the Redis servers as an operator would who asks whether a cluster can work with them.

use std::collections::HashMap;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Value, cmd};

use super::Redis;
use super::answer::{text, texts};
use super::topology::{self, Master, ask, connect_to, slot};
use crate::backend::ConnectError;
use crate::server_clock::{self, ServerClock};

/// Writes, publishes and removes, as the scripts of a node do.
const TRIAL: &str = "redis.call('SET', KEYS[1], 'x', 'PX', 1000) \
     redis.call('SPUBLISH', KEYS[1], 'x') \
     return redis.call('DEL', KEYS[1])";

/// What was found out about one Redis server, a master.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisExamination {
    /// Its host and port.
    pub address: String,
    /// Its name and version, for example `Redis 7.2.4`.
    pub software: String,
    /// Median time of a command.
    pub round_trip: Duration,
    /// Milliseconds by which its clock is ahead of this machine's.
    pub clock_ahead: i64,
    /// Bytes that it uses.
    pub used_memory: u64,
    /// Bytes that it may use, 0 if it has no bound.
    pub max_memory: u64,
    /// What it does when it is full: `noeviction`, or which keys it drops.
    pub eviction: String,
    /// Bytes that may wait for one subscriber before it is cut off, and 0 without a bound. `None` if the server doesn't
    /// tell.
    pub subscriber_buffer: Option<u64>,
    /// Why a trial of what nodes do was refused, for example for a missing right.
    pub refused: Option<String>,
}

impl Redis {
    /// Examines each master. Writes one key, which it removes.
    ///
    /// # Errors
    ///
    /// Returns [`ConnectError`] if the masters aren't found or one of them can't be reached.
    pub async fn examine(&self) -> Result<Vec<RedisExamination>, ConnectError> {
        let mut examined = Vec::new();
        for master in topology::find(&self.url).await? {
            let info = self.url.redis_at(&master.address);
            let (host, port) = &master.address;
            let address = format!("{host}:{port}");
            let in_words = |error: ConnectError| ConnectError(format!("{address}: {}", error.0));
            let mut connection = connect_to(info, AsyncConnectionConfig::new())
                .await
                .map_err(in_words)?;
            let key = self.trial_key(&master);
            examined.push(
                examine(&mut connection, address.clone(), &key)
                    .await
                    .map_err(in_words)?,
            );
        }
        Ok(examined)
    }

    /// Returns a name as apps have them, in a slot that the master serves.
    fn trial_key(&self, master: &Master) -> String {
        let serves = |name: &String| {
            let slot = slot(name);
            let mut ranges = master.slots.iter();
            ranges.any(|(first, last)| (*first..=*last).contains(&slot))
        };
        let names = (0_u32..).map(|number| self.keys.of_trial(number));
        names.into_iter().find(serves).unwrap_or_default()
    }
}

async fn examine(
    connection: &mut MultiplexedConnection,
    address: String,
    key: &str,
) -> Result<RedisExamination, ConnectError> {
    let server = info(connection, "server").await?;
    let memory = info(connection, "memory").await?;
    let number = |name: &str| memory.get(name).and_then(|value| value.parse().ok());
    let clock = measure_clock(connection).await?;
    let software = match server.get("valkey_version") {
        Some(version) => format!("Valkey {version}"),
        None => format!(
            "Redis {}",
            server.get("redis_version").map_or("", String::as_str)
        ),
    };
    let trial = ask(connection, cmd("EVAL").arg(TRIAL).arg(1).arg(key)).await;
    Ok(RedisExamination {
        address,
        software,
        round_trip: clock.round_trip,
        clock_ahead: clock.ahead,
        used_memory: number("used_memory").unwrap_or(0),
        max_memory: number("maxmemory").unwrap_or(0),
        eviction: memory.get("maxmemory_policy").cloned().unwrap_or_default(),
        subscriber_buffer: subscriber_buffer(connection).await,
        refused: trial.err().map(|error| error.0),
    })
}

/// Returns a section of `INFO`.
async fn info(
    connection: &mut MultiplexedConnection,
    section: &str,
) -> Result<HashMap<String, String>, ConnectError> {
    let lines = match ask(connection, cmd("INFO").arg(section)).await? {
        Value::VerbatimString { text, .. } => text,
        other => text(other).unwrap_or_default(),
    };
    let fields = lines.lines().filter_map(|line| line.split_once(':'));
    Ok(fields
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect())
}

async fn measure_clock(
    connection: &mut MultiplexedConnection,
) -> Result<ServerClock, ConnectError> {
    server_clock::measure(async || {
        let time = ask(connection, &cmd("TIME")).await?;
        let there = texts(time).unwrap_or_default();
        let parse = |at: usize| there.get(at).and_then(|text| text.parse::<i64>().ok());
        let (Some(seconds), Some(micros)) = (parse(0), parse(1)) else {
            return Err(ConnectError("TIME was answered with something else".into()));
        };
        Ok(seconds * 1000 + micros / 1000)
    })
    .await
}

/// Returns the hard bound of `client-output-buffer-limit pubsub`. Managed servers often don't tell.
async fn subscriber_buffer(connection: &mut MultiplexedConnection) -> Option<u64> {
    let mut question = cmd("CONFIG");
    question.arg("GET").arg("client-output-buffer-limit");
    let limits = match ask(connection, &question).await.ok()? {
        Value::Map(pairs) => text(pairs.into_iter().next()?.1)?,
        other => texts(other)?.into_iter().nth(1)?,
    };
    let mut words = limits.split_whitespace();
    words.find(|word| *word == "pubsub")?;
    words.next()?.parse().ok()
}
