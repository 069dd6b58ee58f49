//! The connections of this node, in which a request finds its own.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::Mutex;
use tokio::sync::mpsc::Sender;

use super::connection::{Control, Packets};
use super::recovery::Recovery;
use crate::edge::xhr::{PendingBounds, PendingSessions};

/// What the handlers of Socket.IO share.
pub(crate) struct SocketIo {
    /// The key of the app that clients get who name none (`socket_io.default_app_key`).
    default_key: Option<String>,
    by_sid: Mutex<HashMap<String, Handle>>,
    /// Connections over HTTP whose client has yet to ask for a namespace.
    pub(super) pending: PendingSessions,
    pub(super) recovery: Recovery,
}

/// The ways to a connection.
#[derive(Clone)]
pub(super) struct Handle {
    /// What its transports ask for.
    pub(super) control: Sender<Control>,
    /// Packets of its client.
    pub(super) packets: Sender<Packets>,
    /// Whether it has a WebSocket, or one is about to replace polling.
    pub(super) has_websocket: Arc<AtomicBool>,
}

impl fmt::Debug for SocketIo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SocketIo({})", self.by_sid.lock().len())
    }
}

impl SocketIo {
    /// Creates an empty table. `default_key` is empty if clients must name their app.
    pub(crate) fn new(default_key: &str, bounds: PendingBounds) -> Self {
        Self {
            default_key: Some(default_key)
                .filter(|key| !key.is_empty())
                .map(str::to_owned),
            by_sid: Mutex::default(),
            pending: PendingSessions::new(bounds),
            recovery: Recovery::default(),
        }
    }

    /// Returns the key of the app that clients get who name none.
    pub(crate) fn default_key(&self) -> Option<&str> {
        self.default_key.as_deref()
    }

    /// Adds a connection.
    pub(super) fn insert(&self, sid: String, handle: Handle) {
        self.by_sid.lock().insert(sid, handle);
    }

    /// Returns the ways to a connection that hasn't ended.
    pub(super) fn find(&self, sid: &str) -> Option<Handle> {
        let handle = self.by_sid.lock().get(sid).cloned();
        handle.filter(|handle| !handle.control.is_closed())
    }

    /// Removes a connection that has ended.
    pub(super) fn forget(&self, sid: &str) {
        self.by_sid.lock().remove(sid);
    }
}
