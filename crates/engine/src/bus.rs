//! What carries events to every node that has subscribers.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use fanfare_protocol::{SocketId, UserId};

use crate::roster::Place;

/// A future behind a pointer, so that no type parameter leaks.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// An event on its way to the subscribers of one channel.
#[derive(Debug, Clone)]
pub struct Envelope {
    /// Where it goes.
    pub place: Place,
    /// The event's name.
    pub name: Arc<str>,
    /// What was published, exactly.
    pub data: Arc<str>,
    /// Who sent it: client events on presence channels only.
    pub user_id: Option<UserId>,
    /// The connection that does not get it.
    pub except: Option<SocketId>,
    /// Whether a cache channel keeps it: what backends publish, and nothing that clients send.
    pub keep: bool,
}

/// Why the bus did not take an event. Nobody got it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// A shard's inbox is full.
    #[error("the server is over capacity")]
    Overloaded,
}

/// Carries events, this node's own included: at most once, in order per channel.
pub trait Bus: Send + Sync + 'static {
    /// Hands events to every node that listens to their channels: all of them, or none.
    fn publish(&self, envelopes: Vec<Envelope>) -> BoxFuture<'_, Result<(), BusError>>;
}
