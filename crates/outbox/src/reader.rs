//! Reading an outbox, wherever it is.

use std::time::Duration;

use crate::error::OutboxError;
use crate::event::{BatchLimits, OutboxEvent, Rejection};
use crate::location::Location;
use crate::postgres::PostgresOutbox;
use crate::redis::RedisOutbox;

/// Most waiting events that are counted.
pub const MAX_COUNTED: u64 = 10_000;

/// Who reads.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Id of the app that the events are published for.
    pub app: String,
    /// Name of the node, another one for each process.
    pub node: String,
}

/// Who may read an outbox now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lease {
    /// This node, for five seconds.
    Mine,
    /// Another one.
    Other {
        /// Id of the app that it reads for.
        app: String,
        /// Its name.
        node: String,
    },
}

/// What waits in an outbox.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Backlog {
    /// Events, [`MAX_COUNTED`] at most.
    pub waiting: u64,
    /// Whether there are no more than that.
    pub is_exact: bool,
    /// How long the first one has waited.
    pub oldest_age: Option<Duration>,
}

/// The limits of an app that callers are told of when they publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishLimits {
    /// Bytes of an event's data.
    pub event_data: usize,
    /// Bytes of an event's name.
    pub event_name: usize,
    /// Bytes of a channel's name.
    pub channel_name: usize,
    /// Channels of an event.
    pub channels: usize,
}

/// A connection to an outbox. After an error it must be dropped, and another one goes on where it was.
#[derive(Debug)]
pub struct Reader(Kind);

#[derive(Debug)]
enum Kind {
    Postgres(Box<PostgresOutbox>),
    Redis(Box<RedisOutbox>),
}

/// Calls a method of whichever kind it is.
macro_rules! on_kind {
    ($reader:expr, $outbox:ident => $call:expr) => {
        match &mut $reader.0 {
            Kind::Postgres($outbox) => $call,
            Kind::Redis($outbox) => $call,
        }
    };
}

impl Reader {
    /// Connects. `poll_interval` is how often Postgres is asked while nothing waits.
    ///
    /// # Errors
    ///
    /// Returns [`OutboxError::NotInstalled`] if there is no outbox, and [`OutboxError::Database`] if the database can't
    /// be reached.
    pub async fn connect(
        location: &Location,
        identity: Identity,
        poll_interval: Duration,
    ) -> Result<Self, OutboxError> {
        Ok(Self(match location {
            Location::Postgres { url } => {
                let outbox = PostgresOutbox::connect(url, identity, poll_interval).await?;
                Kind::Postgres(Box::new(outbox))
            }
            Location::Redis { url, stream } => {
                let outbox = RedisOutbox::connect(url, stream, identity).await?;
                Kind::Redis(Box::new(outbox))
            }
        }))
    }

    /// Takes the lease, or renews it, unless another node has it.
    ///
    /// # Errors
    ///
    /// Returns [`OutboxError::Database`].
    pub async fn lease(&mut self) -> Result<Lease, OutboxError> {
        on_kind!(self, outbox => outbox.lease().await)
    }

    /// Removes what was delivered, and returns the next batch in order: of transactions in that of their commits. Events
    /// that were taken and neither delivered nor rejected come again, in the same batch. Waits up to `wait`, and returns
    /// no events if none come.
    ///
    /// # Errors
    ///
    /// Returns [`OutboxError::LeaseLost`] if this node isn't the reader, and [`OutboxError::Database`].
    pub async fn next(
        &mut self,
        limits: BatchLimits,
        wait: Duration,
    ) -> Result<Vec<OutboxEvent>, OutboxError> {
        on_kind!(self, outbox => outbox.next(limits, wait).await)
    }

    /// Notes that events were delivered. They are removed with the next call of [`Self::next`] or [`Self::release`].
    pub fn delivered(&mut self, ids: impl IntoIterator<Item = String>) {
        on_kind!(self, outbox => outbox.delivered(ids));
    }

    /// Sets events aside, with the reasons.
    ///
    /// # Errors
    ///
    /// Returns [`OutboxError::LeaseLost`] if this node isn't the reader, and [`OutboxError::Database`].
    pub async fn reject(&mut self, rejections: &[Rejection]) -> Result<(), OutboxError> {
        on_kind!(self, outbox => outbox.reject(rejections).await)
    }

    /// Gives the lease up, so that another node takes over at once, and removes what was delivered.
    ///
    /// # Errors
    ///
    /// Returns [`OutboxError::Database`].
    pub async fn release(&mut self) -> Result<(), OutboxError> {
        on_kind!(self, outbox => outbox.release().await)
    }

    /// Returns what waits.
    ///
    /// # Errors
    ///
    /// Returns [`OutboxError::Database`].
    pub async fn backlog(&mut self) -> Result<Backlog, OutboxError> {
        on_kind!(self, outbox => outbox.backlog().await)
    }

    /// Tells callers the app's limits, so that what breaks them is an error in the caller's transaction. Callers of Redis
    /// can't be told.
    ///
    /// # Errors
    ///
    /// Returns [`OutboxError::Database`].
    pub async fn set_limits(&mut self, limits: PublishLimits) -> Result<(), OutboxError> {
        match &mut self.0 {
            Kind::Postgres(outbox) => outbox.set_limits(limits).await,
            Kind::Redis(_) => Ok(()),
        }
    }

    /// Removes what is kept no longer.
    ///
    /// # Errors
    ///
    /// Returns [`OutboxError::Database`].
    pub async fn tidy(&mut self) -> Result<(), OutboxError> {
        match &mut self.0 {
            Kind::Postgres(outbox) => outbox.tidy().await,
            Kind::Redis(_) => Ok(()),
        }
    }
}
