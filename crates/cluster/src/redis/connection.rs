//! One connection to each master, over which everything goes that this node publishes, reports and
//! receives. So a node never publishes while it doesn't receive. Only histories are read over
//! another one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use fanfare_engine::BoxFuture;
use futures_util::future::join_all;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, Pipeline, PushInfo, PushKind, RedisError, Value};
use tokio::sync::Mutex;
use tokio::sync::mpsc::{self, UnboundedSender};

use super::answer::{self, text};
use super::history_line::HistoryLine;
use super::keys::Keys;
use super::script::Scripts;
use super::topology::{self, Master, connect_to};
use super::url::RedisUrl;
use crate::backend::{
    Answer, ConnectError, Connected, Connection, HistoryPage, HistoryRequest, Incoming,
    IncomingBytes, Step, StepError,
};

/// Most bytes that may wait to be delivered. A node that is further behind reconnects.
const MAX_WAITING: usize = 64 << 20;
/// How often scripts are loaded for one call. If they are gone again each time, there is another
/// cause.
const MOST_RELOADS: usize = 5;
/// Most commands that may wait to be written.
const PIPELINE: usize = 4096;

/// Connections to all masters.
struct RedisConnection {
    keys: Keys,
    scripts: Arc<Scripts>,
    masters: Vec<(Master, Line)>,
    /// The connections for histories, in the order of the masters.
    history_lines: Vec<HistoryLine>,
    /// Number of `SUNSUBSCRIBE`s whose confirmation is outstanding.
    unlistening: Arc<AtomicUsize>,
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

/// Connects to all masters and loads the scripts. Each step gives up after a few seconds.
pub(crate) async fn connect(url: &RedisUrl, keys: &Keys) -> Result<Connected, ConnectError> {
    let (sender, incoming) = mpsc::unbounded_channel();
    let scripts = Arc::new(Scripts::new());
    let unlistening = Arc::new(AtomicUsize::new(0));
    let (mut masters, mut history_lines) = (Vec::new(), Vec::new());
    for mut master in topology::find(url).await? {
        let pushes = PushReceiver {
            keys: keys.clone(),
            sender: sender.clone(),
            waiting: Arc::default(),
            unlistening: Arc::clone(&unlistening),
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
        unlistening,
    };
    Ok(Connected {
        connection: Arc::new(connection),
        incoming,
    })
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
    unlistening: Arc<AtomicUsize>,
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
                    self.unlistening
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

impl Connection for RedisConnection {
    fn take(&self, steps: Vec<Step>) -> BoxFuture<'static, Vec<Result<Answer, StepError>>> {
        let mut calls: Vec<Call> = self.masters.iter().map(|(_, to)| Call::new(to)).collect();
        // The master that takes a step, and the step's index among those of that master.
        let mut places = Vec::with_capacity(steps.len());
        for step in steps {
            if matches!(step, Step::Unsubscribe { .. }) {
                // Counted before the command is sent, so that the confirmation never comes first.
                self.unlistening.fetch_add(1, Ordering::AcqRel);
            }
            let (master, command) = self.command(&step);
            places.push((master, calls[master].steps.len()));
            calls[master].pipeline.add_command(command);
            calls[master].steps.push(step);
        }
        Box::pin(async move {
            // All masters at once: the steps of an app go to one master, so their order holds.
            let answered = join_all(calls.into_iter().map(Call::make)).await;
            let mut answered: Vec<Vec<_>> = answered
                .into_iter()
                .map(|answers| answers.into_iter().map(Some).collect())
                .collect();
            let take = |(master, index): (usize, usize)| answered[master][index].take();
            let answers = places.into_iter().map(take);
            answers
                .map(|answer| answer.unwrap_or_else(|| Err(StepError::Broken(String::new()))))
                .collect()
        })
    }

    fn history(
        &self,
        request: HistoryRequest,
    ) -> BoxFuture<'static, Result<HistoryPage, StepError>> {
        let master = self.master(&self.keys.of_app(&request.app));
        let run = &self.masters[master].0.run;
        let command = self.scripts.history(&self.keys, &request, run);
        Box::pin(self.history_lines[master].clone().read(command))
    }
}

impl RedisConnection {
    /// Returns the index of the master that takes a step, and the step as a command.
    fn command(&self, step: &Step) -> (usize, Cmd) {
        let master = self.master(&self.scripts.key(&self.keys, step));
        let run = &self.masters[master].0.run;
        (master, self.scripts.command(&self.keys, step, run))
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

/// The steps of a call that go to one master.
pub(super) struct Call {
    to: Line,
    pipeline: Pipeline,
    steps: Vec<Step>,
}

impl Call {
    fn new(to: &Line) -> Self {
        Self {
            to: to.clone(),
            pipeline: Pipeline::new(),
            steps: Vec::new(),
        }
    }

    /// Returns a call of one command that is no step.
    pub(super) fn of_command(to: &Line, command: Cmd) -> Self {
        let mut call = Self::new(to);
        call.pipeline.add_command(command);
        call
    }

    /// Sends the steps, and returns the answers in order.
    async fn make(mut self) -> Vec<Result<Answer, StepError>> {
        match self.values().await {
            Ok(values) => {
                let steps = self.steps.iter().zip(values);
                steps
                    .map(|(step, value)| answer::read(step, value))
                    .collect()
            }
            Err(reason) => vec![Err(StepError::Broken(reason)); self.steps.len()],
        }
    }

    /// Sends the commands, loads missing scripts, and returns the replies in order.
    ///
    /// # Errors
    ///
    /// Returns why the connection is broken.
    pub(super) async fn values(&mut self) -> Result<Vec<Value>, String> {
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

    /// Loads the scripts again, and repeats the steps whose script was missing: nothing was changed
    /// by these.
    ///
    /// # Errors
    ///
    /// Returns why the steps cannot be repeated; the connection is broken then.
    async fn repeat(&mut self, seen: u64, values: &mut [Value]) -> Result<(), String> {
        let gone = |at: &usize| is_script_gone(&values[*at]);
        let gone: Vec<_> = (0..values.len()).filter(gone).collect();
        let is_said = |at: &usize| {
            let step = self.steps.get(*at);
            step.is_some_and(|step| step.reporter().is_some())
        };
        let first = gone.iter().copied().find(is_said);
        let later = first.unwrap_or(values.len())..values.len();
        if later
            .into_iter()
            .any(|at| is_said(&at) && !is_script_gone(&values[at]))
        {
            // An earlier report of this node would be taken after a later one.
            return Err("another node loaded scripts in the middle of what this node says".into());
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
    match to.connection.send_packed_commands(pipeline, 0, count).await {
        Ok(values) if values.len() == count => Ok(values),
        Ok(_) => Err("there are fewer answers than questions".into()),
        Err(error) => Err(error.to_string()),
    }
}

/// Returns whether a step was not taken because Redis no longer has its script.
fn is_script_gone(value: &Value) -> bool {
    matches!(value, Value::ServerError(error) if error.code() == "NOSCRIPT")
}
