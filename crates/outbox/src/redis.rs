//! The outbox in a stream of Redis: entries that callers add with `XADD`, read by a consumer group.
//!
//! All nodes read as one consumer, so what one has taken and not acknowledged comes again for the next one, in the same
//! order. A lease beside the stream lets one node read at a time.

mod entry;

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, FromRedisValue, RedisError, Script, Value, cmd};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::timeout;

use self::entry::{Entry, age};
use crate::error::OutboxError;
use crate::event::{BatchLimits, OutboxEvent, Rejection};
use crate::reader::{Backlog, Identity, Lease, MAX_COUNTED};

/// Name of the consumer group, and of its one consumer.
const GROUP: &str = "fanfare";
/// How long a node may read without renewing the lease.
const LEASE_MS: u64 = 5_000;
/// How long a connection or an answer may take, beyond what was asked to wait.
const TIMEOUT: Duration = Duration::from_secs(15);
/// Entries that are taken at once.
const TAKEN_AT_ONCE: usize = 256;
/// How long an idempotency key is known, in seconds.
const KEY_TTL: u64 = 24 * 60 * 60;
/// About the most rejected entries that are kept.
const MAX_REJECTED: u64 = 10_000;
/// Takes or renews the lease, and answers with its holder.
const LEASE: &str = "
    local holder = redis.call('GET', KEYS[1])
    if not holder or holder == ARGV[1] then
        redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
        return ARGV[1]
    end
    return holder";
/// Gives the lease up, unless another node has it.
const RELEASE: &str = "
    if redis.call('GET', KEYS[1]) == ARGV[1] then
        return redis.call('DEL', KEYS[1])
    end
    return 0";

/// One connection to an outbox.
pub(crate) struct RedisOutbox {
    connection: MultiplexedConnection,
    stream: String,
    identity: Identity,
    /// Entries that were taken and are neither delivered nor rejected, in order, behind those of the last batch.
    taken: VecDeque<OutboxEvent>,
    delivered: Vec<String>,
    /// Whether entries that an earlier reader took may still be unacknowledged.
    has_earlier: bool,
    /// Whether other groups read the stream as well, which need its entries.
    is_shared: bool,
}

impl std::fmt::Debug for RedisOutbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisOutbox")
            .field("stream", &self.stream)
            .finish_non_exhaustive()
    }
}

impl RedisOutbox {
    pub(crate) async fn connect(
        url: &SecretString,
        stream: &str,
        identity: Identity,
    ) -> Result<Self, OutboxError> {
        let client = Client::open(url.expose_secret())?;
        // Each command says how long it may take.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(TIMEOUT))
            .set_response_timeout(None);
        let connection = client
            .get_multiplexed_async_connection_with_config(&config)
            .await?;
        let mut outbox = Self {
            connection,
            stream: stream.to_owned(),
            identity,
            taken: VecDeque::new(),
            delivered: Vec::new(),
            has_earlier: true,
            is_shared: false,
        };
        outbox.create_group().await?;
        Ok(outbox)
    }

    /// Creates the group, if it isn't there: it begins with the first entry, so what was written before isn't lost.
    async fn create_group(&mut self) -> Result<(), OutboxError> {
        let mut create = cmd("XGROUP");
        create
            .arg("CREATE")
            .arg(&self.stream)
            .arg(GROUP)
            .arg(0)
            .arg("MKSTREAM");
        match self.ask::<()>(&create).await {
            Err(OutboxError::Database(text)) if text.contains("BUSYGROUP") => Ok(()),
            other => other,
        }
    }

    pub(crate) async fn lease(&mut self) -> Result<Lease, OutboxError> {
        let me = format!("{} {}", self.identity.app, self.identity.node);
        let script = Script::new(LEASE);
        let mut call = script.key(self.lease_key());
        call.arg(&me).arg(LEASE_MS);
        let holder: String = in_time(call.invoke_async(&mut self.connection), TIMEOUT).await?;
        if holder == me {
            self.is_shared = self.groups().await? > 1;
            return Ok(Lease::Mine);
        }
        self.forget_taken();
        let (app, node) = holder.split_once(' ').unwrap_or((&holder, ""));
        Ok(Lease::Other {
            app: app.to_owned(),
            node: node.to_owned(),
        })
    }

    /// Forgets what this node had taken, because it is the next reader's now, who finds it unacknowledged.
    fn forget_taken(&mut self) {
        self.taken.clear();
        self.delivered.clear();
        self.has_earlier = true;
    }

    fn lease_key(&self) -> String {
        format!("{}:reader", self.stream)
    }

    async fn groups(&mut self) -> Result<usize, OutboxError> {
        let mut info = cmd("XINFO");
        info.arg("GROUPS").arg(&self.stream);
        Ok(self.ask::<Vec<Value>>(&info).await?.len())
    }

    /// Returns the next batch, without events if none come within `wait`.
    pub(crate) async fn next(
        &mut self,
        limits: BatchLimits,
        wait: Duration,
    ) -> Result<Vec<OutboxEvent>, OutboxError> {
        self.acknowledge().await?;
        if self.taken.is_empty() && self.has_earlier {
            self.take("0", None).await?;
            self.has_earlier = !self.taken.is_empty();
        }
        if self.taken.is_empty() && !self.has_earlier {
            self.take(">", Some(wait)).await?;
        }
        let mut events = Vec::new();
        let (mut channels, mut bytes) = (0, 0);
        while let Some(event) = self.taken.front() {
            channels += event.channels.len();
            bytes += event.data.len();
            let fits = events.len() < limits.events
                && channels <= limits.channels
                && bytes <= limits.bytes;
            if !events.is_empty() && !fits {
                break;
            }
            events.extend(self.taken.pop_front());
        }
        Ok(events)
    }

    /// Takes entries from the earliest that are unacknowledged (`0`) or new (`>`), and sets aside what can't be an event.
    async fn take(&mut self, from: &str, wait: Option<Duration>) -> Result<(), OutboxError> {
        let mut read = cmd("XREADGROUP");
        read.arg("GROUP")
            .arg(GROUP)
            .arg(GROUP)
            .arg("COUNT")
            .arg(TAKEN_AT_ONCE);
        let wait = wait.filter(|wait| !wait.is_zero());
        if let Some(wait) = wait {
            read.arg("BLOCK").arg(wait.as_millis().max(1) as u64);
        }
        read.arg("STREAMS").arg(&self.stream).arg(from);
        let limit = TIMEOUT + wait.unwrap_or_default();
        let answer: Value = in_time(read.query_async(&mut self.connection), limit).await?;
        let mut gone = Vec::new();
        let mut rejections = Vec::new();
        for entry in entry::read(answer)? {
            match entry {
                Entry::Event { event, key: None } => self.taken.push_back(event),
                Entry::Event {
                    event,
                    key: Some(key),
                } => {
                    if self.is_first(&event.id, &key).await? {
                        self.taken.push_back(event);
                    } else {
                        gone.push(event.id);
                    }
                }
                Entry::Malformed(rejection) => rejections.push(rejection),
                Entry::Gone(id) => gone.push(id),
            }
        }
        if !gone.is_empty() {
            self.remove(&gone).await?;
        }
        if !rejections.is_empty() {
            self.reject(&rejections).await?;
        }
        Ok(())
    }

    /// Whether no other entry had this key within a day.
    async fn is_first(&mut self, id: &str, key: &str) -> Result<bool, OutboxError> {
        let name = format!("{}:idempotency:{key}", self.stream);
        let mut set = cmd("SET");
        set.arg(&name).arg(id).arg("NX").arg("EX").arg(KEY_TTL);
        if self.ask::<Option<String>>(&set).await?.is_some() {
            return Ok(true);
        }
        let holder: Option<String> = self.ask(cmd("GET").arg(&name)).await?;
        // An entry that comes again is still the first.
        Ok(holder.is_none_or(|holder| holder == id))
    }

    pub(crate) fn delivered(&mut self, ids: impl IntoIterator<Item = String>) {
        self.delivered.extend(ids);
    }

    async fn acknowledge(&mut self) -> Result<(), OutboxError> {
        if self.delivered.is_empty() {
            return Ok(());
        }
        let ids = std::mem::take(&mut self.delivered);
        self.remove(&ids).await
    }

    /// Acknowledges entries, and deletes them if nobody else reads them.
    async fn remove(&mut self, ids: &[String]) -> Result<(), OutboxError> {
        let mut pipeline = redis::pipe();
        pipeline
            .cmd("XACK")
            .arg(&self.stream)
            .arg(GROUP)
            .arg(ids)
            .ignore();
        if !self.is_shared {
            pipeline.cmd("XDEL").arg(&self.stream).arg(ids).ignore();
        }
        in_time(pipeline.query_async::<()>(&mut self.connection), TIMEOUT).await
    }

    pub(crate) async fn reject(&mut self, rejections: &[Rejection]) -> Result<(), OutboxError> {
        let rejected = format!("{}:rejected", self.stream);
        for Rejection { id, reason } in rejections {
            let mut range = cmd("XRANGE");
            range.arg(&self.stream).arg(id).arg(id);
            let entry = self.ask::<Vec<(String, Vec<Vec<u8>>)>>(&range).await?.pop();
            let fields = entry.map(|(_, fields)| fields).unwrap_or_default();
            let mut add = cmd("XADD");
            add.arg(&rejected)
                .arg("MAXLEN")
                .arg("~")
                .arg(MAX_REJECTED)
                .arg("*");
            add.arg("id").arg(id).arg("reason").arg(reason).arg(fields);
            self.ask::<()>(&add).await?;
            self.remove(std::slice::from_ref(id)).await?;
        }
        Ok(())
    }

    pub(crate) async fn release(&mut self) -> Result<(), OutboxError> {
        self.acknowledge().await?;
        self.forget_taken();
        let me = format!("{} {}", self.identity.app, self.identity.node);
        let script = Script::new(RELEASE);
        let mut call = script.key(self.lease_key());
        call.arg(&me);
        in_time(call.invoke_async::<()>(&mut self.connection), TIMEOUT).await
    }

    /// Counts what is in the stream: what was delivered is deleted. Where other groups read it too, what this one has not
    /// acknowledged counts, as far as Redis knows.
    pub(crate) async fn backlog(&mut self) -> Result<Backlog, OutboxError> {
        let mut info = cmd("XINFO");
        info.arg("GROUPS").arg(&self.stream);
        let groups: Vec<HashMap<String, Value>> = self.ask(&info).await?;
        let field = |name: &str| {
            let is_ours =
                |group: &&HashMap<String, Value>| text(group.get("name")) == Some(GROUP.into());
            groups
                .iter()
                .find(is_ours)
                .and_then(|group| text(group.get(name)))
        };
        let number = |name: &str| {
            field(name)
                .and_then(|text| text.parse::<u64>().ok())
                .unwrap_or(0)
        };
        let mut first = cmd("XRANGE");
        first.arg(&self.stream);
        let waiting = if self.is_shared {
            first.arg(format!(
                "({}",
                field("last-delivered-id").unwrap_or_else(|| "0".into())
            ));
            number("pending") + number("lag")
        } else {
            first.arg("-");
            self.ask(cmd("XLEN").arg(&self.stream)).await?
        };
        first.arg("+").arg("COUNT").arg(1);
        let first: Vec<(String, Value)> = self.ask(&first).await?;
        let now = self.clock().await?;
        Ok(Backlog {
            waiting: waiting.min(MAX_COUNTED),
            is_exact: waiting <= MAX_COUNTED,
            oldest_age: first.first().map(|(id, _)| age(id, now)),
        })
    }

    /// Returns the time of Redis, Unix time in milliseconds.
    async fn clock(&mut self) -> Result<u64, OutboxError> {
        let (seconds, micros): (u64, u64) = self.ask(&cmd("TIME")).await?;
        Ok(seconds * 1_000 + micros / 1_000)
    }

    async fn ask<T: FromRedisValue>(&mut self, command: &Cmd) -> Result<T, OutboxError> {
        in_time(command.query_async(&mut self.connection), TIMEOUT).await
    }
}

fn text(value: Option<&Value>) -> Option<String> {
    value.and_then(|value| String::from_redis_value_ref(value).ok())
}

async fn in_time<T>(
    work: impl Future<Output = Result<T, RedisError>>,
    limit: Duration,
) -> Result<T, OutboxError> {
    match timeout(limit, work).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(OutboxError::Database(format!(
            "Redis: no answer within {limit:?}"
        ))),
    }
}
