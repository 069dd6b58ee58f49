//! A client that does what it is told, one thing after the other, and writes down what it sees.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use fanfare_engine::testing::{Client, KEY, SECRET, Seen, Wire};
use fanfare_protocol::signature::{SigningKey, user_auth_text};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::nodes::ClusterNode;

/// What a client is told to do.
#[derive(Debug, Clone)]
pub(crate) enum Command {
    Subscribe(&'static str),
    Unsubscribe(&'static str),
    SignIn(Vec<String>),
    /// Sends an event to others.
    Send(&'static str, String),
    Leave,
}

/// What happened to a client.
#[derive(Debug)]
pub(crate) enum Entry {
    Seen(Instant, Seen),
    Unsubscribed(&'static str),
}

/// One connection, while it lasts and afterwards.
pub(crate) struct Connection {
    pub(crate) process: u64,
    pub(crate) user: String,
    pub(crate) socket_id: String,
    pub(crate) entries: RefCell<Vec<Entry>>,
    pub(crate) open: Cell<bool>,
    wire: Rc<Wire>,
    commands: mpsc::UnboundedSender<Command>,
    task: RefCell<Option<AbortHandle>>,
}

impl Connection {
    pub(crate) async fn open(node: &ClusterNode, process: u64, user: &str) -> Rc<Self> {
        let engine = node.engine();
        let arrival = fanfare_engine::testing::arrival(KEY);
        let admitted = engine.admit_on_all_nodes(arrival).await.unwrap();
        let client = node.node.connect_admitted(admitted);
        let (commands, orders) = mpsc::unbounded_channel();
        let connection = Rc::new(Self {
            process,
            user: user.to_owned(),
            socket_id: client.socket_id.clone(),
            entries: RefCell::default(),
            open: Cell::new(true),
            wire: Rc::clone(&client.wire),
            commands,
            task: RefCell::default(),
        });
        let task = tokio::task::spawn_local(Rc::clone(&connection).live(client, orders));
        *connection.task.borrow_mut() = Some(task.abort_handle());
        connection
    }

    pub(crate) fn tell(&self, command: Command) {
        // It may have been closed.
        let _ = self.commands.send(command);
    }

    /// Its node is gone.
    pub(crate) fn kill(&self) {
        self.open.set(false);
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }

    async fn live(
        self: Rc<Self>,
        mut client: Client,
        mut orders: mpsc::UnboundedReceiver<Command>,
    ) {
        loop {
            let order = tokio::select! {
                biased;
                () = closed(&client) => break,
                order = orders.recv() => order,
            };
            self.look();
            match order {
                None | Some(Command::Leave) => break,
                Some(Command::Unsubscribe(channel)) => {
                    self.obey(&client, Command::Unsubscribe(channel)).await;
                    self.entries.borrow_mut().push(Entry::Unsubscribed(channel));
                }
                Some(order) => self.obey(&client, order).await,
            }
            self.look();
        }
        self.look();
        self.open.set(false);
        if let Some(session) = client.session.take() {
            session.end().await;
        }
    }

    /// Writes down what has come since.
    pub(crate) fn look(&self) {
        let now = Instant::now();
        let seen = self.wire.seen().into_iter();
        let seen = seen.map(|seen| Entry::Seen(now, seen));
        self.entries.borrow_mut().extend(seen);
    }

    async fn obey(&self, client: &Client, order: Command) {
        let message = match order {
            Command::Subscribe(channel) if channel.starts_with("presence-") => {
                let member = json!({"user_id": self.user}).to_string();
                let auth = client.auth(channel, Some(&member));
                let data = json!({"channel": channel, "auth": auth, "channel_data": member});
                json!({"event": "pusher:subscribe", "data": data})
            }
            Command::Subscribe(channel) => {
                let data = json!({"channel": channel, "auth": client.auth(channel, None)});
                json!({"event": "pusher:subscribe", "data": data})
            }
            Command::Unsubscribe(channel) => {
                json!({"event": "pusher:unsubscribe", "data": {"channel": channel}})
            }
            Command::SignIn(watched) => {
                let user = json!({"id": self.user, "watchlist": watched}).to_string();
                let text = user_auth_text(client.session().socket_id(), &user);
                let auth = format!("{KEY}:{}", SigningKey::new(SECRET).sign(&text));
                json!({"event": "pusher:signin", "data": {"auth": auth, "user_data": user}})
            }
            Command::Send(channel, data) => {
                json!({"event": "client-e", "channel": channel, "data": data})
            }
            Command::Leave => return,
        };
        let session = client.session();
        session.note_activity();
        session.handle(&message.to_string()).await;
        session.flush();
    }
}

/// Waits until the connection was closed by its node.
async fn closed(client: &Client) {
    poll_fn(|cx| {
        let session = client.session();
        let wants = session.poll_interest(cx);
        if wants.end || session.is_closing() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}
