//! An app's connections as an operator sees them, and closing one.

use std::sync::Arc;
use std::time::Duration;

use fanfare_protocol::{AppKey, CloseCode, Framing, SocketId, UserId};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::app::App;
use crate::bus::BoxFuture;
use crate::command::Command;
use crate::connection::Connection;
use crate::engine::Engine;
use crate::error::Refusal;
use crate::node::Node;
use crate::shard::Shard;

/// One connection as it is at this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionInfo {
    /// Its socket id.
    pub socket_id: SocketId,
    /// The key with which it connected.
    pub key: AppKey,
    /// Its transport.
    pub transport: Framing,
    /// The signed-in user.
    pub user_id: Option<UserId>,
    /// How long ago it connected.
    pub age: Duration,
    /// How long ago the client last sent anything, to about a second.
    pub silent: Duration,
    /// Bytes that wait to be written.
    pub waiting_bytes: usize,
    /// The channels it is subscribed to, by name.
    pub channels: Vec<String>,
}

impl ConnectionInfo {
    fn of(connection: &Connection, now: Instant) -> Self {
        let mut channels: Vec<_> = connection
            .subscriptions
            .keys()
            .filter(|channel| !connection.is_implicit(channel.as_str()))
            .map(ToString::to_string)
            .collect();
        channels.sort();
        Self {
            socket_id: connection.socket_id,
            key: connection.key.clone(),
            transport: connection.framing(),
            user_id: connection
                .user
                .as_ref()
                .map(|user| user.member.user_id.clone()),
            age: now.saturating_duration_since(connection.connected),
            silent: now.saturating_duration_since(connection.last_activity),
            waiting_bytes: connection.waiting(),
            channels,
        }
    }
}

impl Engine {
    /// Returns an app's connections after the one called `after`, by socket id, at most `limit`;
    /// all of them, or those of one user. Waits for all shards.
    pub async fn list_connections(
        &self,
        app: &Arc<App>,
        user: Option<&UserId>,
        after: Option<SocketId>,
        limit: usize,
    ) -> Vec<ConnectionInfo> {
        let (app, user) = (Arc::clone(app), user.cloned());
        let found = self.ask(move |shard| shard.list(&app, user.as_ref(), after, limit));
        let mut all: Vec<_> = found.await.into_iter().flatten().collect();
        all.sort_by_key(|connection| connection.socket_id);
        all.truncate(limit);
        all
    }

    /// Returns one connection of an app, if this node has it. Waits for all shards.
    pub async fn inspect_connection(
        &self,
        app: &Arc<App>,
        socket_id: SocketId,
    ) -> Option<ConnectionInfo> {
        let app = Arc::clone(app);
        let found = self.ask(move |shard| shard.find(&app, socket_id, ConnectionInfo::of));
        found.await.into_iter().flatten().next()
    }

    /// Closes one connection of an app with a code that keeps its client away, and returns whether
    /// this node had it. Waits for all shards.
    pub async fn disconnect(&self, app: &Arc<App>, socket_id: SocketId) -> bool {
        let app = Arc::clone(app);
        let closed = self.ask(move |shard| shard.disconnect(&app, socket_id));
        closed.await.contains(&true)
    }

    /// Runs a query on every shard's thread, and waits for the answers.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        question: impl Fn(&Shard) -> T + Clone + Send + 'static,
    ) -> Vec<T> {
        self.node().ask(question).await
    }
}

impl Node {
    /// Runs a query on every shard's thread, and waits for the answers.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        question: impl Fn(&Shard) -> T + Clone + Send + 'static,
    ) -> Vec<T> {
        let inboxes = self.deliverer.inboxes();
        // All shards are asked before the first answer is awaited.
        let answers: Vec<_> = (0..inboxes.len())
            .map(|index| self.ask_one(index, question.clone()))
            .collect();
        let mut all = Vec::with_capacity(answers.len());
        for answer in answers {
            all.extend(answer.await);
        }
        all
    }

    /// Queues a query to one shard's thread at once, whether or not the future is polled. The
    /// answer is `None` if the shard is gone, and its connections with it.
    pub(crate) fn ask_one<T: Send + 'static>(
        &self,
        index: usize,
        question: impl FnOnce(&Shard) -> T + Send + 'static,
    ) -> BoxFuture<'static, Option<T>> {
        let (answer, answered) = oneshot::channel();
        self.deliverer.inboxes()[index].push(Command::Run(Box::new(move |shard| {
            // The caller may have gone.
            let _ = answer.send(question(shard));
        })));
        Box::pin(async move { answered.await.ok() })
    }
}

/// Returns whether an app has this connection. One that is being closed is gone for everyone but
/// its client, which has yet to answer.
fn is_here(connection: &Connection, app: &Arc<App>) -> bool {
    !connection.is_closing() && Arc::ptr_eq(&connection.app, app)
}

impl Shard {
    fn list(
        &self,
        app: &Arc<App>,
        user: Option<&UserId>,
        after: Option<SocketId>,
        limit: usize,
    ) -> Vec<ConnectionInfo> {
        let (state, now) = (self.state(), Instant::now());
        let mut found: Vec<&Connection> = state
            .connections
            .iter()
            .map(|(_, connection)| connection)
            .filter(|c| is_here(c, app) && after.is_none_or(|after| c.socket_id > after))
            .filter(|c| user.is_none() || c.user.as_ref().map(|user| &user.member.user_id) == user)
            .collect();
        if found.len() > limit {
            found.select_nth_unstable_by_key(limit, |connection| connection.socket_id);
            found.truncate(limit);
        }
        found
            .into_iter()
            .map(|connection| ConnectionInfo::of(connection, now))
            .collect()
    }

    fn find<T>(
        &self,
        app: &Arc<App>,
        socket_id: SocketId,
        read: impl FnOnce(&Connection, Instant) -> T,
    ) -> Option<T> {
        let state = self.state();
        let mut connections = state.connections.iter().map(|(_, connection)| connection);
        let found = connections.find(|c| c.socket_id == socket_id && is_here(c, app))?;
        Some(read(found, Instant::now()))
    }

    fn disconnect(&self, app: &Arc<App>, socket_id: SocketId) -> bool {
        let mut state = self.state();
        let slot = state
            .connections
            .iter()
            .find(|(_, c)| c.socket_id == socket_id && is_here(c, app))
            .map(|(slot, _)| slot);
        let refusal = Refusal::new(
            CloseCode::Unauthorized,
            "An operator has closed this connection",
        );
        slot.inspect(|slot| state.close(*slot, &refusal, Instant::now()))
            .is_some()
    }
}
