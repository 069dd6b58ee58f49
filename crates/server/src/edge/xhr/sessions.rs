//! The table of sessions, in which a request finds its own.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::mpsc::Sender;

use super::pending::{PendingBounds, PendingSessions};
use super::session::Request;

/// A session's name. The client chooses it, and it belongs to one app key. Other clients can hardly guess it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct SessionId {
    pub(super) key: String,
    pub(super) server: String,
    pub(super) session: String,
}

/// The sessions of this node. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Sessions {
    by_id: Arc<Mutex<HashMap<SessionId, Sender<Request>>>>,
    /// Sessions whose client has sent one request only.
    pub(super) pending: PendingSessions,
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sessions({})", self.len())
    }
}

impl Sessions {
    pub(crate) fn new(bounds: PendingBounds) -> Self {
        Self {
            by_id: Arc::default(),
            pending: PendingSessions::new(bounds),
        }
    }

    /// Returns the number of sessions on this node.
    pub(crate) fn len(&self) -> usize {
        self.by_id.lock().len()
    }

    /// Returns the sender of a session that hasn't ended.
    pub(super) fn find(&self, id: &SessionId) -> Option<Sender<Request>> {
        let requests = self.by_id.lock().get(id).cloned();
        requests.filter(|requests| !requests.is_closed())
    }

    /// Adds a new session. If a session of the same name was added at the same moment, it is no longer found, and ends.
    pub(super) fn insert(&self, id: SessionId, requests: Sender<Request>) {
        self.by_id.lock().insert(id, requests);
    }

    /// Removes a session that has ended.
    pub(super) fn forget(&self, id: &SessionId) {
        let mut sessions = self.by_id.lock();
        // A newer session may have taken the name meanwhile.
        if sessions.get(id).is_some_and(Sender::is_closed) {
            sessions.remove(id);
        }
    }
}
