//! One connection to each master, over which everything goes that this node publishes, reports and
//! receives. So a node never publishes while it doesn't receive. Only histories are read over
//! another one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use fanfare_engine::BoxFuture;
use fanfare_protocol::AppId;
use futures_util::future::join_all;
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Cmd, Pipeline, PushInfo, PushKind, RedisError, ToRedisArgs, Value,
};
use tokio::sync::Mutex;
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio::task::unconstrained;

use super::answer::{self, text};
use super::history_line::HistoryLine;
use super::keys::Keys;
use super::script::{Script, Scripts};
use super::topology::{self, Master, connect_to};
use super::url::RedisUrl;
use crate::backend::{
    BackendError, Call, ConnectError, Connected, HistoryPage, Incoming, IncomingBytes,
};

/// Most bytes that may wait to be delivered. A node that is further behind reconnects.
const MAX_WAITING: usize = 64 << 20;
/// How often scripts are loaded for one call. If they are gone again each time, there is another
/// cause.
const MOST_RELOADS: usize = 5;
/// Most commands that may wait to be written.
const PIPELINE: usize = 4096;

/// Connections to all masters.
pub(super) struct RedisConnection {
    pub(super) keys: Keys,
    scripts: Arc<Scripts>,
    masters: Vec<(Master, Line)>,
    /// The connections for histories, in the order of the masters.
    history_lines: Vec<HistoryLine>,
    /// Number of `SUNSUBSCRIBE`s whose confirmation is outstanding.
    pub(super) unsubscribing: Arc<AtomicUsize>,
}

/// A connection to one master.
#[derive(Clone)]
pub(super) struct Line {
    connection: MultiplexedConnection,
    loaded: Arc<Loaded>,
}

/// The scripts that are loaded over a connection.
pub(super) struct Loaded {
    scripts: Arc<Scripts>,
    /// How often they were loaded.
    times: AtomicU64,
    /// Held by the call that loads them, on behalf of all.
    loading: Mutex<()>,
}

impl Line {
    pub(super) fn new(connection: MultiplexedConnection, loaded: &Arc<Loaded>) -> Self {
        let loaded = Arc::clone(loaded);
        Self { connection, loaded }
    }

    fn times_loaded(&self) -> u64 {
        self.loaded.times.load(Ordering::Acquire)
    }

    /// Loads the scripts again, unless another call has done so since they were loaded `seen`
    /// times. Waits for Redis, and for another call that loads them.
    async fn reload(&mut self, seen: u64) -> Result<(), ConnectError> {
        let loaded = Arc::clone(&self.loaded);
        let _one_for_all = loaded.loading.lock().await;
        // Looked at again under the lock: another call may have loaded them while this one waited.
        if self.times_loaded() == seen {
            load(&loaded.scripts, &mut self.connection).await?;
            loaded.times.fetch_add(1, Ordering::AcqRel);
            tracing::info!("loaded the scripts again: Redis had them no more");
        }
        Ok(())
    }
}

/// Connects to all masters and loads the scripts. Each part gives up after a few seconds.
pub(crate) async fn connect(url: &RedisUrl, keys: &Keys) -> Result<Connected, ConnectError> {
    let (sender, incoming) = mpsc::unbounded_channel();
    let scripts = Arc::new(Scripts::new());
    let unsubscribing = Arc::new(AtomicUsize::new(0));
    let (mut masters, mut history_lines) = (Vec::new(), Vec::new());
    for mut master in topology::find(url).await? {
        let pushes = PushReceiver {
            keys: keys.clone(),
            sender: sender.clone(),
            waiting: Arc::default(),
            unsubscribing: Arc::clone(&unsubscribing),
        };
        let config = AsyncConnectionConfig::new()
            .set_push_sender(move |push: PushInfo| pushes.push(push))
            .set_pipeline_buffer_size(PIPELINE);
        let opened = async {
            let mut connection = connect_to(url.redis_at(&master.address), config).await?;
            master.run = topology::run_of(&mut connection).await?;
            master.process = topology::process_of(&mut connection).await?;
            load(&scripts, &mut connection).await?;
            Ok(connection)
        };
        // Of several masters, the operator must know which.
        let opened: Result<_, ConnectError> = opened.await;
        let connection = opened.map_err(|error| {
            let (host, port) = &master.address;
            ConnectError(format!("{host}:{port}: {error}"))
        })?;
        let loaded = Arc::new(Loaded {
            scripts: Arc::clone(&scripts),
            times: AtomicU64::new(1),
            loading: Mutex::default(),
        });
        history_lines.push(HistoryLine::new(url, &master, &loaded));
        masters.push((master, Line::new(connection, &loaded)));
    }
    let connection = RedisConnection {
        keys: keys.clone(),
        scripts,
        masters,
        history_lines,
        unsubscribing,
    };
    Ok(Connected::new(connection, incoming))
}

/// Loads all scripts in one pipeline.
async fn load(
    scripts: &Scripts,
    connection: &mut MultiplexedConnection,
) -> Result<(), ConnectError> {
    let mut loading = Pipeline::new();
    for script in scripts.all() {
        loading.cmd("SCRIPT").arg("LOAD").arg(&script.text);
    }
    let count = loading.len();
    let loaded = connection.send_packed_commands(&loading, 0, count).await;
    let loaded = loaded.and_then(|values| values.into_iter().map(Value::extract_error).collect());
    let loaded: Result<Vec<Value>, RedisError> = loaded;
    loaded
        .map(|_| ())
        .map_err(|error| ConnectError(format!("loading scripts: {error}")))
}

/// Receives what Redis pushes over one connection.
struct PushReceiver {
    keys: Keys,
    sender: UnboundedSender<Incoming>,
    /// Bytes that wait to be delivered.
    waiting: Arc<AtomicUsize>,
    unsubscribing: Arc<AtomicUsize>,
}

impl PushReceiver {
    /// Handles a push: a message, the end of the connection, or an unsubscription.
    fn push(&self, push: PushInfo) -> Result<(), ()> {
        let incoming = match push.kind {
            PushKind::SMessage => self.message(push.data),
            PushKind::Disconnection => Some(Incoming::Lost("Redis closed the connection".into())),
            PushKind::SUnsubscribe => {
                // An unsubscription that this node didn't ask for means that a slot has moved.
                let expected = |count: usize| count.checked_sub(1);
                let own =
                    self.unsubscribing
                        .fetch_update(Ordering::AcqRel, Ordering::Acquire, expected);
                own.is_err()
                    .then(|| Incoming::Lost("slots have moved to another Redis".into()))
            }
            _ => None,
        };
        match incoming {
            Some(incoming) => self.sender.send(incoming).map_err(|_| ()),
            None => Ok(()),
        }
    }

    fn message(&self, data: Vec<Value>) -> Option<Incoming> {
        let mut data = data.into_iter();
        let name = text(data.next()?)?;
        let topic = self.keys.parse_topic(&name)?;
        let Value::BulkString(message) = data.next()? else {
            return None;
        };
        let room = IncomingBytes::take(&self.waiting, name.len() + message.len());
        if self.waiting.load(Ordering::Relaxed) > MAX_WAITING {
            return Some(Incoming::Lost(format!(
                "this node is {MAX_WAITING} bytes of events behind"
            )));
        }
        Some(Incoming::Message {
            topic,
            message: Bytes::from(message),
            room,
        })
    }
}

/// A command, and the index of the master that takes it.
pub(super) struct Command {
    master: usize,
    command: Cmd,
}

impl Command {
    /// Appends an argument.
    pub(super) fn arg(&mut self, argument: impl ToRedisArgs) -> &mut Self {
        self.command.arg(argument);
        self
    }
}

impl RedisConnection {
    /// Returns the command that runs a script in an app.
    pub(super) fn of_app(&self, app: &AppId, script: impl FnOnce(&Scripts) -> &Script) -> Command {
        let tag = self.keys.of_app(app);
        self.command(&tag, script(&self.scripts).call(&tag))
    }

    /// Returns the command that runs a script in the installation.
    pub(super) fn of_installation(&self, script: impl FnOnce(&Scripts) -> &Script) -> Command {
        let tag = self.keys.of_installation();
        self.command(&tag, script(&self.scripts).call(&tag))
    }

    /// Returns a command for the master that serves a key.
    pub(super) fn command(&self, key: &str, command: Cmd) -> Command {
        let master = self.master(key);
        Command { master, command }
    }

    /// Returns the name of the run of the master that takes a command.
    pub(super) fn run(&self, command: &Command) -> &str {
        &self.masters[command.master].0.run
    }

    /// Sends a command, and reads its reply.
    pub(super) fn ask<T: 'static>(
        &self,
        command: Command,
        read: impl FnOnce(Value) -> Option<T> + Send + 'static,
    ) -> Call<T> {
        let to = &self.masters[command.master].1;
        let mut batch = Batch::of_command(to, command.command);
        Box::pin(async move {
            let value = batch.value().await.map_err(BackendError::Broken)?;
            answer::read(value, read)
        })
    }

    /// Sends the command that reads a history.
    pub(super) fn ask_history(
        &self,
        command: Command,
        read: fn(Value) -> Option<HistoryPage>,
    ) -> Call<HistoryPage> {
        let line = self.history_lines[command.master].clone();
        Box::pin(line.read(command.command, read))
    }

    /// Sends commands whose replies say only whether they were taken.
    pub(super) fn ask_all(&self, commands: Vec<Command>) -> Call<()> {
        let values = self.take(commands, false);
        Box::pin(async move {
            for value in values.await {
                answer::read(value?, answer::done)?;
            }
            Ok(())
        })
    }

    /// Sends commands of which none may be taken before an earlier one of the same master, and
    /// returns their replies.
    pub(super) fn take_in_order(
        &self,
        commands: Vec<Command>,
    ) -> BoxFuture<'static, Vec<Result<Value, BackendError>>> {
        self.take(commands, true)
    }

    fn take(
        &self,
        commands: Vec<Command>,
        ordered: bool,
    ) -> BoxFuture<'static, Vec<Result<Value, BackendError>>> {
        let batch = |(_, to): &(Master, Line)| Batch::new(to, ordered);
        let mut batches: Vec<Batch> = self.masters.iter().map(batch).collect();
        // The master that takes a command, and the command's index among those of that master.
        let mut places = Vec::with_capacity(commands.len());
        for Command { master, command } in commands {
            let pipeline = &mut batches[master].pipeline;
            places.push((master, pipeline.len()));
            pipeline.add_command(command);
        }
        Box::pin(async move {
            // All masters at once: the commands of an app go to one master, so their order holds.
            let mut taken: Vec<Vec<_>> = join_all(batches.into_iter().map(Batch::send)).await;
            let take = |(master, index): (usize, usize)| taken[master][index].take();
            let values = places.into_iter().map(take);
            values
                .map(|value| value.unwrap_or_else(|| Err(BackendError::Broken(String::new()))))
                .collect()
        })
    }

    /// Returns the index of the master that serves a key's slot.
    fn master(&self, key: &str) -> usize {
        if self.masters.len() == 1 {
            return 0;
        }
        let slot = topology::slot(key);
        let holds = |(master, _): &(Master, Line)| {
            let mut slots = master.slots.iter();
            slots.any(|(first, last)| (*first..=*last).contains(&slot))
        };
        self.masters.iter().position(holds).unwrap_or(0)
    }
}

/// Commands that go to one master at once.
pub(super) struct Batch {
    to: Line,
    pipeline: Pipeline,
    /// Whether no command may be taken before an earlier one.
    ordered: bool,
}

impl Batch {
    fn new(to: &Line, ordered: bool) -> Self {
        Self {
            to: to.clone(),
            pipeline: Pipeline::new(),
            ordered,
        }
    }

    /// Returns a batch of one command.
    pub(super) fn of_command(to: &Line, command: Cmd) -> Self {
        let mut batch = Self::new(to, false);
        batch.pipeline.add_command(command);
        batch
    }

    /// Sends the commands, and returns the replies in order, each to be taken once.
    async fn send(mut self) -> Vec<Option<Result<Value, BackendError>>> {
        match self.values().await {
            Ok(values) => values.into_iter().map(|value| Some(Ok(value))).collect(),
            Err(reason) => {
                let broken = || Some(Err(BackendError::Broken(reason.clone())));
                (0..self.pipeline.len()).map(|_| broken()).collect()
            }
        }
    }

    /// Sends the one command, and returns its reply.
    ///
    /// # Errors
    ///
    /// Returns why the connection is broken.
    pub(super) async fn value(&mut self) -> Result<Value, String> {
        let value = self.values().await?.pop();
        value.ok_or_else(|| "there is no answer".into())
    }

    /// Sends the commands, loads missing scripts, and returns the replies in order.
    ///
    /// # Errors
    ///
    /// Returns why the connection is broken.
    async fn values(&mut self) -> Result<Vec<Value>, String> {
        if self.pipeline.is_empty() {
            return Ok(Vec::new());
        }
        // Read before sending, so that a load after it is noticed.
        let mut seen = self.to.times_loaded();
        let mut values = send(&mut self.to, &self.pipeline).await?;
        for _ in 0..MOST_RELOADS {
            if !values.iter().any(is_script_gone) {
                break;
            }
            self.repeat(seen, &mut values).await?;
            seen = self.to.times_loaded();
        }
        Ok(values)
    }

    /// Loads the scripts again, and repeats the commands whose script was missing: nothing was
    /// changed by these.
    ///
    /// # Errors
    ///
    /// Returns why the commands cannot be repeated; the connection is broken then.
    async fn repeat(&mut self, seen: u64, values: &mut [Value]) -> Result<(), String> {
        let gone = |at: &usize| is_script_gone(&values[*at]);
        let gone: Vec<_> = (0..values.len()).filter(gone).collect();
        let later = gone.first().copied().unwrap_or(values.len())..values.len();
        if self.ordered && later.into_iter().any(|at| !is_script_gone(&values[at])) {
            // An earlier report of this node would be taken after a later one.
            return Err("another node loaded scripts between the reports of this node".into());
        }
        let reloaded = self.to.reload(seen).await;
        reloaded.map_err(|error| error.to_string())?;
        let mut again = Pipeline::new();
        for at in &gone {
            if let Some(command) = self.pipeline.cmd_iter().nth(*at) {
                again.add_command(command.clone());
            }
        }
        let answers = send(&mut self.to, &again).await?;
        for (at, answer) in gone.into_iter().zip(answers) {
            values[at] = answer;
        }
        Ok(())
    }
}

async fn send(to: &mut Line, pipeline: &Pipeline) -> Result<Vec<Value>, String> {
    let count = pipeline.len();
    let sent = to.connection.send_packed_commands(pipeline, 0, count);
    // Otherwise, a task that has made as many sends as Tokio lets it make at once would go on with
    // the others in the reverse order.
    match unconstrained(sent).await {
        Ok(values) if values.len() == count => Ok(values),
        Ok(_) => Err("there are fewer answers than questions".into()),
        Err(error) => Err(error.to_string()),
    }
}

/// Returns whether a command was not taken because Redis no longer has its script.
fn is_script_gone(value: &Value) -> bool {
    matches!(value, Value::ServerError(error) if error.code() == "NOSCRIPT")
}
