//! The session over which calls go out, and over which the log is read, so that answers and messages
//! come in their order: what was published before a call was taken comes before its answer.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, Row};
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::time::Instant;

use super::schema::{Schema, topic_name};
use crate::backend::{BackendError, ConnectError, Incoming, IncomingBytes, Topic};

/// Most calls, and most of their bytes, that are sent at once: other nodes wait for as long as they take.
const BATCH: usize = 500;
const BATCH_BYTES: usize = 1 << 20;
/// Most messages that are read at once.
const PAGE: usize = 500;
/// Most bytes that may wait to be delivered. A node that is further behind reconnects.
const MAX_WAITING: usize = 64 << 20;
/// How long a node may not read the log, of which at least a quarter of a minute is kept.
const MAX_PAUSE: Duration = Duration::from_secs(12);

/// Receives an answer.
pub(super) type Receive = Box<dyn FnOnce(Result<Value, BackendError>) + Send>;

/// Something that waits for its turn.
pub(super) struct Item {
    what: What,
    receive: Receive,
}

enum What {
    /// A call as JSON, and its bytes.
    Call(String, Vec<Bytes>),
    Subscribe(Vec<Topic>),
    Unsubscribe(Vec<Topic>),
}

impl Item {
    /// Returns a call, which is an object. It refers to its bytes by their number, counted from one.
    pub(super) fn call(call: &Value, bytes: Vec<Bytes>, receive: Receive) -> Self {
        Self {
            what: What::Call(call.to_string(), bytes),
            receive,
        }
    }

    /// Returns a subscription to topics.
    pub(super) fn subscribe(topics: Vec<Topic>, receive: Receive) -> Self {
        Self {
            what: What::Subscribe(topics),
            receive,
        }
    }

    /// Returns the end of a subscription to topics.
    pub(super) fn unsubscribe(topics: Vec<Topic>, receive: Receive) -> Self {
        Self {
            what: What::Unsubscribe(topics),
            receive,
        }
    }
}

/// An item whose answer is handed over once everything before its place in the log was.
struct Due {
    /// `None` if it follows all that there is.
    place: Option<i64>,
    item: Item,
    answer: Result<Value, BackendError>,
}

/// The session, and what it receives.
pub(super) struct Line {
    session: PgConnection,
    schema: Schema,
    /// What this connection calls itself in notifications.
    name: String,
    /// The statement that takes a batch.
    take: Arc<str>,
    woken: Arc<Notify>,
    incoming: UnboundedSender<Incoming>,
    /// Bytes that wait to be delivered.
    waiting: Arc<AtomicUsize>,
    topics: HashMap<String, Topic>,
    /// The last place in the log that was read.
    read: i64,
    read_at: Instant,
}

impl Line {
    pub(super) fn new(
        session: PgConnection,
        schema: Schema,
        name: String,
        woken: Arc<Notify>,
        incoming: UnboundedSender<Incoming>,
    ) -> Self {
        let (class, object) = schema.calls_lock();
        Self {
            take: format!(
                "CALL take({class}, {object}, $1, $2, $3::text[]::jsonb[], $4, NULL, NULL)"
            )
            .into(),
            session,
            schema,
            name,
            woken,
            incoming,
            waiting: Arc::default(),
            topics: HashMap::new(),
            read: 0,
            read_at: Instant::now(),
        }
    }

    /// Skips what is in the log already.
    pub(super) async fn begin(mut self) -> Result<Self, ConnectError> {
        let newest = sqlx::query_scalar("SELECT coalesce(max(id), 0) FROM log")
            .fetch_one(&mut self.session)
            .await;
        self.read =
            newest.map_err(|error| ConnectError(format!("looking at the server: {error}")))?;
        self.read_at = Instant::now();
        Ok(self)
    }

    /// Takes calls and reads the log until the connection is lost, or nobody has it any more.
    pub(super) async fn run(mut self, mut waiting: UnboundedReceiver<Item>) {
        let mut batch = Vec::new();
        let woken = Arc::clone(&self.woken);
        loop {
            tokio::select! {
                count = waiting.recv_many(&mut batch, BATCH) => if count == 0 {
                    return;
                },
                () = woken.notified() => {}
            }
            if let Err(reason) = self.turn(std::mem::take(&mut batch)).await {
                // Nobody may listen any more.
                let _ = self.incoming.send(Incoming::Lost(reason));
                return;
            }
        }
    }

    /// Sends the calls among some items, reads the log, and hands over messages and answers in order.
    ///
    /// # Errors
    ///
    /// Returns why the connection is lost.
    async fn turn(&mut self, batch: Vec<Item>) -> Result<(), String> {
        let mut due = VecDeque::new();
        let ended = self.take_and_read(batch, &mut due).await;
        // What was taken before the connection was lost is answered, although the messages before the
        // answers don't come any more.
        for due in due {
            (due.item.receive)(due.answer);
        }
        ended
    }

    /// Does so, and leaves in `due` what could not be handed over in order.
    async fn take_and_read(
        &mut self,
        batch: Vec<Item>,
        due: &mut VecDeque<Due>,
    ) -> Result<(), String> {
        let mut part = Vec::new();
        let mut bytes = 0;
        for item in batch {
            bytes += item.bytes();
            part.push(item);
            if bytes > BATCH_BYTES {
                self.take(std::mem::take(&mut part), due).await?;
                bytes = 0;
            }
        }
        self.take(part, due).await?;
        self.read_log(due).await
    }

    /// Sends the calls among some items, and adds all of them with their answers to `due`.
    async fn take(&mut self, items: Vec<Item>, due: &mut VecDeque<Due>) -> Result<(), String> {
        let (calls, bytes) = calls_of(&items);
        match self.try_take(calls, bytes).await {
            Ok((places, answers)) => {
                due.extend(in_place(items, &places, answers));
                Ok(())
            }
            Err(BackendError::Refused(_)) if items.len() > 1 => {
                // Nothing was changed. One of them is the cause, and the others are taken without it.
                let mut place = Some(self.read);
                for item in items {
                    let before = due.len();
                    Box::pin(self.take(vec![item], due)).await?;
                    for one in due.range_mut(before..) {
                        place = one.place.or(place);
                        one.place = place;
                    }
                }
                Ok(())
            }
            Err(error) => {
                let lost = match &error {
                    BackendError::Refused(_) => Ok(()),
                    error => Err(error.to_string()),
                };
                due.extend(items.into_iter().map(|item| Due {
                    place: None,
                    item,
                    answer: Err(error.clone()),
                }));
                lost
            }
        }
    }

    /// Sends calls with their bytes, and returns the places in the log before the first and after each,
    /// and the answers.
    async fn try_take(
        &mut self,
        calls: Vec<String>,
        bytes: Vec<Bytes>,
    ) -> Result<(Vec<i64>, Vec<String>), BackendError> {
        if calls.is_empty() {
            return Ok((Vec::new(), Vec::new()));
        }
        let payloads: Vec<&[u8]> = bytes.iter().map(|bytes| &bytes[..]).collect();
        let taken = sqlx::query(AssertSqlSafe(Arc::clone(&self.take)))
            .bind(self.schema.notifications())
            .bind(&self.name)
            .bind(calls)
            .bind(payloads)
            .fetch_one(&mut self.session)
            .await
            .map_err(failure)?;
        let read = |error: sqlx::Error| BackendError::Broken(error.to_string());
        Ok((
            taken.try_get(0).map_err(read)?,
            taken.try_get(1).map_err(read)?,
        ))
    }

    /// Reads the log, and hands over what it has and what is due in between.
    async fn read_log(&mut self, due: &mut VecDeque<Due>) -> Result<(), String> {
        if self.read_at.elapsed() > MAX_PAUSE {
            return Err(format!(
                "this node has read no messages for {:?}, so some may be gone",
                self.read_at.elapsed()
            ));
        }
        loop {
            self.read_at = Instant::now();
            let page = sqlx::query(
                "SELECT id, topic, message FROM log WHERE id > $1 ORDER BY id LIMIT $2",
            )
            .bind(self.read)
            .bind(i64::try_from(PAGE).unwrap_or(i64::MAX))
            .fetch_all(&mut self.session)
            .await;
            let page = page.map_err(|error| failure(error).to_string())?;
            let is_last = page.len() < PAGE;
            for row in page {
                self.message(&row, due)?;
            }
            if is_last {
                due.drain(..).for_each(|due| self.hand_over(due));
                return Ok(());
            }
        }
    }

    /// Hands over a message, and before that what is due before it.
    fn message(&mut self, row: &PgRow, due: &mut VecDeque<Due>) -> Result<(), String> {
        let of_row = |error: sqlx::Error| error.to_string();
        let id: i64 = row.try_get(0).map_err(of_row)?;
        while let Some(next) = due.pop_front_if(|next| next.place.is_some_and(|place| place < id)) {
            self.hand_over(next);
        }
        self.read = id;
        let name: &str = row.try_get(1).map_err(of_row)?;
        let Some(topic) = self.topics.get(name) else {
            return Ok(());
        };
        let message: Vec<u8> = row.try_get(2).map_err(of_row)?;
        let room = IncomingBytes::take(&self.waiting, name.len() + message.len());
        if self.waiting.load(Ordering::Relaxed) > MAX_WAITING {
            return Err(format!("this node is {MAX_WAITING} bytes of events behind"));
        }
        let message = Incoming::Message {
            topic: topic.clone(),
            message: message.into(),
            room,
        };
        self.incoming
            .send(message)
            .map_err(|_| "it is closed".into())
    }

    /// Subscribes or unsubscribes, if that is what is due, and hands the answer over.
    fn hand_over(&mut self, due: Due) {
        match due.item.what {
            What::Call(..) => {}
            What::Subscribe(topics) => {
                let named = topics.into_iter().map(|topic| (topic_name(&topic), topic));
                self.topics.extend(named);
            }
            What::Unsubscribe(topics) => {
                for topic in &topics {
                    self.topics.remove(&topic_name(topic));
                }
            }
        }
        (due.item.receive)(due.answer);
    }
}

impl Item {
    fn bytes(&self) -> usize {
        match &self.what {
            What::Call(_, bytes) => bytes.iter().map(Bytes::len).sum(),
            What::Subscribe(_) | What::Unsubscribe(_) => 0,
        }
    }
}

/// Returns the calls among some items, and the bytes of all of them.
fn calls_of(items: &[Item]) -> (Vec<String>, Vec<Bytes>) {
    let (mut calls, mut all) = (Vec::new(), Vec::new());
    for item in items {
        if let What::Call(call, bytes) = &item.what {
            calls.push(numbered(call, all.len()));
            all.extend_from_slice(bytes);
        }
    }
    (calls, all)
}

/// Returns a call that says how many bytes there are before its own.
fn numbered(call: &str, base: usize) -> String {
    format!(
        "{{\"base\":{base},{}",
        call.strip_prefix('{').unwrap_or(call)
    )
}

/// Returns what an error means for a call.
pub(super) fn failure(error: sqlx::Error) -> BackendError {
    let sqlx::Error::Database(error) = error else {
        return BackendError::Broken(error.to_string());
    };
    let code = error.code().unwrap_or_default();
    let reason = format!("{code} {}", error.message());
    match &*code {
        // It is a standby by now.
        "25006" => BackendError::Unserved(reason),
        // Somebody ended the session or stopped the server, maybe after calls were committed and before
        // they were answered.
        code if code.starts_with("57") => BackendError::Broken(reason),
        // The lock is not free, or somebody has dropped a table or function: to connect creates it.
        "55P03" | "42P01" | "42883" | "3F000" => BackendError::Broken(reason),
        // A file of a table or an index is damaged or gone: to connect creates all of them again.
        "XX001" | "XX002" | "58P01" => BackendError::Broken(reason),
        _ => BackendError::Refused(reason),
    }
}

/// Returns items with their answers and places. What is no call has the place of the call before it.
fn in_place(items: Vec<Item>, places: &[i64], answers: Vec<String>) -> Vec<Due> {
    let mut answers = answers.into_iter();
    let mut places = places.iter().copied();
    let mut place = places.next();
    let in_place = |item: Item| {
        let answer = match item.what {
            What::Call(..) => {
                place = places.next();
                let answer = answers.next().unwrap_or_default();
                serde_json::from_str(&answer)
                    .map_err(|_| BackendError::Broken("an answer that is not JSON".into()))
            }
            What::Subscribe(_) | What::Unsubscribe(_) => Ok(Value::Null),
        };
        Due {
            place,
            item,
            answer,
        }
    };
    items.into_iter().map(in_place).collect()
}
