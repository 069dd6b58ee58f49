//! A node whose shards run on the test's own thread, and clients that see what a client sees.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::io::{self, ErrorKind, IoSlice};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use fanfare_engine::{
    Admitted, App, AppDefinition, Arrival, Engine, Key, KeyUsed, NoNotices, Options, PublishError,
    Session, Shard, Sink,
};
use fanfare_protocol::api::Event;
use fanfare_protocol::signature::{SigningKey, channel_auth_text};
use fanfare_protocol::{AppId, AppKey, AppSettings, Limits};
use serde_json::{Value, json};
use tokio::task::LocalSet;

pub(crate) const KEY: &str = "app-key";
pub(crate) const SECRET: &str = "app-secret";

thread_local! {
    static SHARDS: RefCell<HashMap<usize, Rc<Shard>>> = RefCell::default();
}

/// One node with one app.
pub(crate) struct Node {
    pub(crate) engine: Arc<Engine>,
    shards: Vec<Rc<Shard>>,
    next: Cell<usize>,
}

/// A connection and what was written to it.
pub(crate) struct Client {
    pub(crate) session: Option<Session>,
    pub(crate) wire: Rc<Wire>,
    pub(crate) socket_id: String,
}

/// A socket that takes as much as it is allowed to.
pub(crate) struct Wire {
    written: RefCell<Vec<u8>>,
    room: Cell<usize>,
}

struct WireSink(Rc<Wire>);

impl Sink for WireSink {
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

/// What a server frame holds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Seen {
    Event(Value),
    Ping,
    Close(u16),
}

pub(crate) fn options(shards: usize) -> Options {
    Options {
        shards,
        activity_timeout: Duration::from_secs(120),
        pong_timeout: Duration::from_secs(30),
        outbox_bytes: 64 * 1024,
        inbox_bytes: 1024 * 1024,
        max_connections: 1000,
        max_subscriptions: 100,
    }
}

pub(crate) fn definition(id: &str, key: &str, settings: AppSettings) -> AppDefinition {
    let keys = vec![Key {
        key: AppKey::parse(key).unwrap(),
        signing: SigningKey::new(SECRET),
        used: KeyUsed::default(),
    }];
    AppDefinition {
        id: AppId::parse(id).unwrap(),
        settings,
        keys,
    }
}

/// A connection as most come in.
pub(crate) fn arrival(key: &str) -> Arrival<'_> {
    Arrival {
        key,
        protocol: Some("7"),
        ..Arrival::default()
    }
}

pub(crate) fn settings() -> AppSettings {
    AppSettings {
        client_events: true,
        ..AppSettings::default()
    }
}

/// Runs a test on a node with paused time.
pub(crate) fn with_node<F: Future<Output = ()>>(shards: usize, test: impl FnOnce(Node) -> F) {
    with_options(options(shards), test);
}

pub(crate) fn with_options<F: Future<Output = ()>>(options: Options, test: impl FnOnce(Node) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, async { test(Node::start(options).await).await });
}

/// Lets everything happen that can happen without time passing.
pub(crate) async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

impl Node {
    async fn start(options: Options) -> Self {
        let count = options.shards;
        let (engine, seeds) = Engine::new(options, Arc::new(NoNotices));
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

    pub(crate) fn app(&self) -> Arc<App> {
        self.engine.apps().by_id("1").unwrap()
    }

    /// Connects on the shards in turn.
    pub(crate) fn connect(&self) -> Client {
        self.connect_with(KEY)
    }

    pub(crate) fn connect_with(&self, key: &str) -> Client {
        let client = self.connect_admitted(self.engine.admit(arrival(key)).unwrap());
        assert_eq!(client.names(), ["pusher:connection_established"]);
        client
    }

    pub(crate) fn connect_admitted(&self, admitted: Admitted) -> Client {
        let wire = Rc::new(Wire {
            written: RefCell::default(),
            room: Cell::new(usize::MAX),
        });
        let shard = &self.shards[self.next.get() % self.shards.len()];
        self.next.set(self.next.get() + 1);
        let session = shard.connect(admitted, Box::new(WireSink(Rc::clone(&wire))));
        let socket_id = session.socket_id().to_string();
        Client {
            session: Some(session),
            wire,
            socket_id,
        }
    }

    pub(crate) async fn publish(&self, channel: &str, name: &str, data: &str) {
        self.try_publish(channel, name, data, None).await.unwrap();
        settle().await;
    }

    pub(crate) async fn try_publish(
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
    pub(crate) fn session(&self) -> &Session {
        self.session.as_ref().expect("the connection has not ended")
    }

    pub(crate) async fn send(&self, message: &Value) {
        self.send_text(&message.to_string()).await;
    }

    pub(crate) async fn send_text(&self, text: &str) {
        self.session().heard();
        self.session().handle(text).await;
        self.session().flush();
        settle().await;
    }

    pub(crate) async fn subscribe(&self, channel: &str) {
        self.send(&json!({"event": "pusher:subscribe", "data": {"channel": channel, "auth": self.auth(channel, None)}})).await;
    }

    pub(crate) async fn join(&self, channel: &str, channel_data: &str) {
        let auth = self.auth(channel, Some(channel_data));
        let data = json!({"channel": channel, "auth": auth, "channel_data": channel_data});
        self.send(&json!({"event": "pusher:subscribe", "data": data}))
            .await;
    }

    pub(crate) async fn unsubscribe(&self, channel: &str) {
        self.send(&json!({"event": "pusher:unsubscribe", "data": {"channel": channel}}))
            .await;
    }

    pub(crate) fn auth(&self, channel: &str, channel_data: Option<&str>) -> String {
        let text = channel_auth_text(self.session().socket_id(), channel, channel_data);
        format!("{KEY}:{}", SigningKey::new(SECRET).sign(&text))
    }

    /// Ends the connection, as when its socket is gone.
    pub(crate) async fn leave(&mut self) {
        self.session
            .take()
            .expect("the connection has not ended")
            .end()
            .await;
        settle().await;
    }

    /// Takes everything that was written since the last look.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        let bytes = self.wire.written.take();
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
                1 => Seen::Event(serde_json::from_slice(payload).unwrap()),
                8 => Seen::Close(u16::from_be_bytes([payload[0], payload[1]])),
                9 => Seen::Ping,
                other => panic!("unexpected opcode {other}"),
            });
            rest = &rest[header + length..];
        }
        seen
    }

    pub(crate) fn events(&self) -> Vec<Value> {
        let event = |seen| match seen {
            Seen::Event(value) => value,
            other => panic!("expected an event, got {other:?}"),
        };
        self.seen().into_iter().map(event).collect()
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.events()
            .iter()
            .map(|event| event["event"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Takes no more than this from now on.
    pub(crate) fn allow(&self, bytes: usize) {
        self.wire.room.set(bytes);
    }
}

/// The `data` of an event, parsed.
pub(crate) fn data(event: &Value) -> Value {
    serde_json::from_str(event["data"].as_str().expect("data is a string")).unwrap()
}

/// The text of a codeless error.
pub(crate) fn complaint(events: &[Value]) -> String {
    let error = events.first().expect("an answer");
    assert_eq!(error["event"], "pusher:error");
    assert_eq!(error["data"]["code"], Value::Null);
    error["data"]["message"].as_str().unwrap().to_owned()
}
