//! The back end over Postgres 15 or later: one function for each call, one lock for all of them, and
//! a log of messages that every node reads.
//!
//! A node sends the calls that wait as one batch, and `take` in `functions.sql` takes them under the
//! lock. So the calls of all nodes have one order, and the ids in the log become visible in that
//! order. `NOTIFY` only wakes the other nodes.

mod answer;
mod broker;
mod examine;
mod history;
mod line;
mod listener;
mod membership;
mod presence;
mod schema;
mod sessions;

use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use fanfare_engine::BoxFuture;
use serde_json::Value;
use sqlx::PgPool;
use sqlx::postgres::PgConnectOptions;
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio::sync::{Notify, oneshot};
use tokio::task::AbortHandle;

use crate::backend::{Backend, BackendError, Call, ConnectError, Connected};
pub use examine::PostgresExamination;
use line::{Item, Line, Receive};
use schema::Schema;

/// Longest prefix: names in Postgres have 63 bytes at most.
const MAX_PREFIX: usize = 36;

/// Why a text is not an address of Postgres, or a prefix is not possible there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidPostgres(String);

/// The back end over Postgres.
#[derive(Debug)]
pub struct Postgres {
    options: PgConnectOptions,
    schema: Schema,
}

impl Postgres {
    /// Returns the back end at `url`, in the form of the setting `cluster.url`:
    /// `postgres://[USER:PASSWORD@]HOST[:PORT]/DATABASE`.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidPostgres`], which says what is wrong with the URL or the prefix.
    pub fn new(url: &str, prefix: &str) -> Result<Self, InvalidPostgres> {
        if prefix.len() > MAX_PREFIX {
            return Err(InvalidPostgres(format!(
                "cluster.prefix has {} characters; with Postgres it may have {MAX_PREFIX}",
                prefix.len()
            )));
        }
        let options = PgConnectOptions::from_str(url).map_err(|error| {
            InvalidPostgres(format!(
                "{error}; expected postgres://[USER:PASSWORD@]HOST[:PORT]/DATABASE"
            ))
        })?;
        Ok(Self {
            // Not all servers and poolers know the parameter.
            options: options
                .extra_float_digits(None)
                .application_name("fanfare cluster"),
            schema: Schema::new(prefix),
        })
    }
}

impl Backend for Postgres {
    fn connect(&self) -> BoxFuture<'_, Result<Connected, ConnectError>> {
        Box::pin(self.open())
    }
}

impl Postgres {
    async fn open(&self) -> Result<Connected, ConnectError> {
        let sessions = sessions::open(&self.options, &self.schema).await?;
        let (sender, incoming) = mpsc::unbounded_channel();
        let (calls, waiting) = mpsc::unbounded_channel();
        let woken = Arc::new(Notify::new());
        // Names this connection in its own notifications, which it ignores.
        let name = format!("{:016x}", rand::random::<u64>());
        let listening = listener::listen(
            sessions.listener,
            name.clone(),
            Arc::clone(&woken),
            sender.clone(),
        );
        let line = Line::new(sessions.calls, self.schema.clone(), name, woken, sender);
        let line = line.begin().await?;
        let tasks = [
            tokio::spawn(listening).abort_handle(),
            tokio::spawn(line.run(waiting)).abort_handle(),
            tokio::spawn(sessions::tidy_regularly(
                sessions.pool.clone(),
                calls.clone(),
            ))
            .abort_handle(),
        ];
        let connection = PostgresConnection {
            schema: self.schema.clone(),
            calls,
            pool: sessions.pool,
            tasks,
        };
        Ok(Connected::new(connection, incoming))
    }
}

/// A connection, which consists of one for calls, one to be woken, and those of a small pool for
/// histories.
struct PostgresConnection {
    schema: Schema,
    calls: UnboundedSender<Item>,
    pool: PgPool,
    tasks: [AbortHandle; 3],
}

impl Drop for PostgresConnection {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl PostgresConnection {
    /// Returns a call that is sent when it is first polled, and whose answer is read by `read`.
    fn ask<T: Send + 'static>(
        &self,
        call: Value,
        bytes: Vec<Bytes>,
        read: fn(&Value) -> Option<T>,
    ) -> Call<T> {
        let calls = self.calls.clone();
        Box::pin(async move {
            let answer = answer_to(&calls, |receive| Item::call(&call, bytes, receive));
            answer::read(&answer.await?, read)
        })
    }

    /// Returns the call of an item that is answered when its turn has come.
    fn wait_for(&self, item: impl FnOnce(Receive) -> Item + Send + 'static) -> Call<()> {
        let calls = self.calls.clone();
        Box::pin(async move { answer_to(&calls, item).await.map(|_| ()) })
    }
}

/// Sends an item to the line, and waits for its answer.
async fn answer_to(
    calls: &UnboundedSender<Item>,
    item: impl FnOnce(Receive) -> Item,
) -> Result<Value, BackendError> {
    let (answered, answer) = oneshot::channel();
    let receive: Receive = Box::new(move |value| {
        // The caller may have given up.
        let _ = answered.send(value);
    });
    calls.send(item(receive)).map_err(|_| closed())?;
    answer.await.unwrap_or_else(|_| Err(closed()))
}

fn closed() -> BackendError {
    BackendError::Broken("it is closed".into())
}
