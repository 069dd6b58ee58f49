//! What an operator sees of an app's connections, and can do about one.

use std::sync::Arc;
use std::time::Duration;

use fanfare_protocol::{AppKey, CloseCode, Framing, SocketId, UserId};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::app::App;
use crate::connection::Connection;
use crate::engine::Engine;
use crate::error::Refusal;
use crate::shard::{Command, Shard};

/// One connection as it is at this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionInfo {
    /// Its public name.
    pub socket_id: SocketId,
    /// The key it came in with.
    pub key: AppKey,
    /// How it is connected.
    pub transport: Framing,
    /// Who is signed in.
    pub user_id: Option<UserId>,
    /// For how long it has been here.
    pub age: Duration,
    /// Since when nothing was heard of it, as coarse as a second.
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
            .filter(|channel| !connection.is_unasked(channel.as_str()))
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
            silent: now.saturating_duration_since(connection.heard),
            waiting_bytes: connection.waiting(),
            channels,
        }
    }
}

impl Engine {
    /// An app's connections after the one called `after`, by socket id, at most `limit`; all or those of one user.
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

    /// One connection of an app, if it is here.
    pub async fn inspect_connection(
        &self,
        app: &Arc<App>,
        socket_id: SocketId,
    ) -> Option<ConnectionInfo> {
        let app = Arc::clone(app);
        let found = self.ask(move |shard| shard.find(&app, socket_id, ConnectionInfo::of));
        found.await.into_iter().flatten().next()
    }

    /// Closes one connection of an app with a code that keeps its client away; says whether it was here.
    pub async fn disconnect(&self, app: &Arc<App>, socket_id: SocketId) -> bool {
        let app = Arc::clone(app);
        let closed = self.ask(move |shard| shard.disconnect(&app, socket_id));
        closed.await.contains(&true)
    }

    /// Asks every shard, on its own thread.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl Fn(&Shard) -> T + Clone + Send + 'static,
    ) -> Vec<T> {
        let mut answers = Vec::new();
        for inbox in self.deliverer().inboxes() {
            let (answer, answered) = oneshot::channel();
            let question = question.clone();
            inbox.push(Command::Run(Box::new(move |shard| {
                // Who asked may have left.
                let _ = answer.send(question(shard));
            })));
            answers.push(answered);
        }
        let mut all = Vec::with_capacity(answers.len());
        for answer in answers {
            // An error means that the shard itself is gone, and its connections with it.
            all.extend(answer.await.ok());
        }
        all
    }
}

/// One that is being closed is gone for everybody but its own client, who has still to answer.
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
