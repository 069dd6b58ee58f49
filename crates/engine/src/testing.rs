//! For tests: a node whose shards run on the test's own thread, and clients that see what a client sees.

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a test stops where something is missing"
)]

pub mod story;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::io::{self, ErrorKind, IoSlice};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use fanfare_protocol::api::Event;
use fanfare_protocol::client::Subscribe;
use fanfare_protocol::signature::{SigningKey, channel_auth_text};
use fanfare_protocol::{AppId, AppKey, AppSettings, Framing, Limits, Quotas, Recover, UserHashKey};
use serde_json::{Value, json};
use tokio::task::LocalSet;

use crate::{
    Admitted, App, AppDefinition, Arrival, Budgets, Engine, Key, KeyUsed, NoNotices, NoSpans,
    Options, PublishError, Session, Shard, ShardSeed, Sink, WaitingLimits, WantedNotices,
};

/// The key of the app that a [`LocalNode`] has.
pub const KEY: &str = "app-key";
/// Its secret.
pub const SECRET: &str = "app-secret";

thread_local! {
    /// Shards on their way from their own task to the test that starts them.
    static SHARDS: RefCell<HashMap<usize, Rc<Shard>>> = RefCell::default();
}

/// One node with one app.
#[derive(Debug)]
pub struct LocalNode {
    /// The node.
    pub engine: Arc<Engine>,
    shards: Vec<Rc<Shard>>,
    next: Cell<usize>,
}

/// A connection and what was written to it.
#[derive(Debug)]
pub struct Client {
    /// The session that the connection's reader has, until it ends.
    pub session: Option<Session>,
    /// The bytes that were written.
    pub wire: Rc<Wire>,
    /// Its socket id.
    pub socket_id: String,
}

/// A socket that takes as many bytes as the test allows.
#[derive(Debug)]
pub struct Wire {
    framing: Framing,
    written: RefCell<Vec<u8>>,
    room: Cell<usize>,
}

impl Wire {
    /// Takes everything that was written since the last look.
    pub fn seen(&self) -> Vec<Seen> {
        let bytes = self.written.take();
        let (mut rest, mut seen) = (&bytes[..], Vec::new());
        while !rest.is_empty() {
            let (header, length) = match rest[1] {
                126 => (4, usize::from(u16::from_be_bytes([rest[2], rest[3]]))),
                127 => (
                    10,
                    u64::from_be_bytes(rest[2..10].try_into().unwrap()) as usize,
                ),
                short => (2, usize::from(short)),
            };
            let payload = &rest[header..header + length];
            seen.push(match rest[0] & 0x0f {
                1 if self.framing == Framing::Raw => {
                    Seen::Event(str::from_utf8(payload).unwrap().into())
                }
                1 => Seen::Event(serde_json::from_slice(payload).unwrap()),
                8 => Seen::Close(u16::from_be_bytes([payload[0], payload[1]])),
                9 => Seen::Ping,
                other => panic!("unexpected opcode {other}"),
            });
            rest = &rest[header + length..];
        }
        seen
    }
}

#[derive(Debug)]
struct WireSink(Rc<Wire>);

impl Sink for WireSink {
    fn framing(&self) -> Framing {
        self.0.framing
    }

    fn write(&self, chunks: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut count = 0;
        for chunk in chunks {
            let taken = chunk.len().min(self.0.room.get());
            self.0.room.set(self.0.room.get() - taken);
            self.0
                .written
                .borrow_mut()
                .extend_from_slice(&chunk[..taken]);
            count += taken;
        }
        if count == 0 {
            Err(ErrorKind::WouldBlock.into())
        } else {
            Ok(count)
        }
    }
}

/// A frame of the server.
#[derive(Debug, Clone, PartialEq)]
pub enum Seen {
    /// A message.
    Event(Value),
    /// A PING frame.
    Ping,
    /// A close frame, and its code.
    Close(u16),
}

/// Returns the settings of a node for most tests.
#[must_use]
pub fn options(shards: usize) -> Options {
    Options {
        shards,
        activity_timeout: Duration::from_secs(120),
        pong_timeout: Duration::from_secs(30),
        ping_interval: None,
        outbox_bytes: 64 * 1024,
        max_waiting: WaitingLimits {
            total: 64 << 20,
            app: 64 << 20,
            network: 64 << 20,
        },
        max_replay_bytes: 1 << 20,
        messages_per_second: 0,
        inbox_bytes: 1024 * 1024,
        recent_events_bytes: usize::MAX,
        live_events_bytes: 4 << 20,
        max_connections: 1000,
        max_subscriptions: 100,
        budgets: Budgets::default(),
        user_hash_key: UserHashKey::default(),
        quotas: Quotas::default(),
        max_transitions: 100_000,
        spans: Arc::new(NoSpans),
    }
}

/// Returns an app with one key.
#[must_use]
pub fn definition(id: &str, key: &str, settings: AppSettings) -> AppDefinition {
    let keys = vec![Key {
        key: AppKey::parse(key).unwrap(),
        signing: SigningKey::new(SECRET),
        used: KeyUsed::default(),
    }];
    AppDefinition {
        id: AppId::parse(id).unwrap(),
        settings,
        keys,
        former_keys: Vec::new(),
        wanted_notices: WantedNotices::default(),
    }
}

/// Returns a connection as most tests need it.
#[must_use]
pub fn arrival(key: &str) -> Arrival<'_> {
    Arrival {
        key,
        protocol: Some("7"),
        ..Arrival::default()
    }
}

/// Returns the settings of an app for most tests.
#[must_use]
pub fn settings() -> AppSettings {
    AppSettings {
        client_events: true,
        ..AppSettings::default()
    }
}

/// Runs a test on this thread, with paused time.
pub fn run_paused(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, test);
}

/// Waits until everything has happened that can happen without time passing.
pub async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

impl LocalNode {
    /// Runs the shards of an engine on this thread, and gives it an app.
    pub async fn start((engine, seeds): (Arc<Engine>, Vec<ShardSeed>)) -> Self {
        let count = seeds.len();
        for seed in seeds {
            tokio::task::spawn_local(seed.run());
        }
        for index in 0..count {
            engine.adopt(move |shard| {
                SHARDS.with(|shards| shards.borrow_mut().insert(index, shard));
            });
        }
        settle().await;
        let shards = SHARDS.with(|shards| {
            (0..count)
                .filter_map(|index| shards.borrow_mut().remove(&index))
                .collect()
        });
        engine.update_apps(vec![definition("1", KEY, settings())], &[]);
        Self {
            engine,
            shards,
            next: Cell::new(0),
        }
    }

    /// Starts a node by itself.
    pub async fn alone(options: Options) -> Self {
        Self::start(Engine::new(options, Arc::new(NoNotices))).await
    }

    /// Returns the app.
    #[must_use]
    pub fn app(&self) -> Arc<App> {
        self.engine.apps().by_id("1").unwrap()
    }

    /// Connects to the shards in turn.
    #[must_use]
    pub fn connect(&self) -> Client {
        self.connect_with(KEY)
    }

    /// Connects with a key.
    #[must_use]
    pub fn connect_with(&self, key: &str) -> Client {
        let client = self.connect_admitted(self.engine.admit(arrival(key)).unwrap());
        assert_eq!(client.names(), ["pusher:connection_established"]);
        client
    }

    /// Connects a client that doesn't speak Pusher's protocol, with channels in its URL. What it gets isn't taken.
    pub async fn connect_plain(&self, framing: Framing, channels: &[&str]) -> Client {
        let client = self.connect_framed(self.engine.admit(arrival(KEY)).unwrap(), framing);
        for channel in channels {
            let request = Subscribe {
                channel: (*channel).into(),
                auth: None,
                channel_data: None,
                recover: Some(Recover::Start),
                rewind: None,
            };
            client.session().subscribe_from_url(&request).await;
        }
        client.session().flush();
        settle().await;
        client
    }

    /// Connects an admitted connection.
    #[must_use]
    pub fn connect_admitted(&self, admitted: Admitted) -> Client {
        self.connect_framed(admitted, Framing::WebSocket)
    }

    fn connect_framed(&self, admitted: Admitted, framing: Framing) -> Client {
        let wire = Rc::new(Wire {
            framing,
            written: RefCell::default(),
            room: Cell::new(usize::MAX),
        });
        let session = self.connect_through(admitted, Box::new(WireSink(Rc::clone(&wire))));
        let socket_id = session.socket_id().to_string();
        Client {
            session: Some(session),
            wire,
            socket_id,
        }
    }

    /// Connects an admitted connection whose socket is the caller's own.
    #[must_use]
    pub fn connect_through(&self, admitted: Admitted, sink: Box<dyn Sink>) -> Session {
        let shard = &self.shards[self.next.get() % self.shards.len()];
        self.next.set(self.next.get() + 1);
        shard.connect(admitted, sink)
    }

    /// Publishes an event that must be accepted, and waits until it arrives.
    pub async fn publish(&self, channel: &str, name: &str, data: &str) {
        self.try_publish(channel, name, data, None).await.unwrap();
        settle().await;
    }

    /// Publishes an event.
    ///
    /// # Errors
    ///
    /// Returns why it was not accepted.
    pub async fn try_publish(
        &self,
        channel: &str,
        name: &str,
        data: &str,
        except: Option<&str>,
    ) -> Result<(), PublishError> {
        let body = json!({"name": name, "channel": channel, "data": data, "socket_id": except})
            .to_string();
        let event = Event::parse(body.as_bytes(), &Limits::HOSTED).unwrap();
        self.engine
            .publish(&self.app(), &[event], None)
            .await
            .map(|_| ())
    }
}

impl Client {
    /// Returns the session, as the connection's reader has it.
    #[must_use]
    pub fn session(&self) -> &Session {
        self.session.as_ref().expect("the connection has not ended")
    }

    /// Sends a message.
    pub async fn send(&self, message: &Value) {
        self.send_text(&message.to_string()).await;
    }

    /// Sends a text frame.
    pub async fn send_text(&self, text: &str) {
        self.session().note_activity();
        self.session().handle(text).await;
        self.session().flush();
        // A long history takes several turns.
        while self.session().is_turn_over() {
            self.session().flush();
        }
        settle().await;
    }

    /// Subscribes with a signature.
    pub async fn subscribe(&self, channel: &str) {
        self.send(&json!({"event": "pusher:subscribe", "data": {"channel": channel, "auth": self.auth(channel, None)}})).await;
    }

    /// Subscribes to a presence channel.
    pub async fn join(&self, channel: &str, channel_data: &str) {
        let auth = self.auth(channel, Some(channel_data));
        let data = json!({"channel": channel, "auth": auth, "channel_data": channel_data});
        self.send(&json!({"event": "pusher:subscribe", "data": data}))
            .await;
    }

    /// Unsubscribes.
    pub async fn unsubscribe(&self, channel: &str) {
        self.send(&json!({"event": "pusher:unsubscribe", "data": {"channel": channel}}))
            .await;
    }

    /// Signs a subscription.
    #[must_use]
    pub fn auth(&self, channel: &str, channel_data: Option<&str>) -> String {
        let text = channel_auth_text(self.session().socket_id(), channel, channel_data);
        format!("{KEY}:{}", SigningKey::new(SECRET).sign(&text))
    }

    /// Ends the connection, as when its socket is gone.
    pub async fn leave(&mut self) {
        self.session
            .take()
            .expect("the connection has not ended")
            .end()
            .await;
        settle().await;
    }

    /// Takes everything that was written since the last look.
    pub fn seen(&self) -> Vec<Seen> {
        self.wire.seen()
    }

    /// Takes everything that was written since the last look, which must be messages.
    pub fn events(&self) -> Vec<Value> {
        let event = |seen| match seen {
            Seen::Event(value) => value,
            other => panic!("expected an event, got {other:?}"),
        };
        self.seen().into_iter().map(event).collect()
    }

    /// Returns the names of these messages.
    pub fn names(&self) -> Vec<String> {
        self.events()
            .iter()
            .map(|event| event["event"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Lets the socket take no more than this from now on.
    pub fn allow(&self, bytes: usize) {
        self.wire.room.set(bytes);
    }
}

/// Returns the parsed `data` of an event.
#[must_use]
pub fn data(event: &Value) -> Value {
    serde_json::from_str(event["data"].as_str().expect("data is a string")).unwrap()
}

/// Returns the text of an error without a code.
pub fn complaint(events: &[Value]) -> String {
    let error = events.first().expect("an answer");
    assert_eq!(error["event"], "pusher:error");
    assert_eq!(error["data"]["code"], Value::Null);
    error["data"]["message"].as_str().unwrap().to_owned()
}
