//! Which sessions there are, so that a request finds its own.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::mpsc::Sender;

use super::pending::{PendingBounds, PendingSessions};
use super::session::Request;

/// A session's name, chosen by the client: it is of one app key, and hard to guess for others.
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
    /// Those whose client has sent one request only.
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

    /// Sessions on this node.
    pub(crate) fn len(&self) -> usize {
        self.by_id.lock().len()
    }

    /// The way to a session that is not over.
    pub(super) fn find(&self, id: &SessionId) -> Option<Sender<Request>> {
        let requests = self.by_id.lock().get(id).cloned();
        requests.filter(|requests| !requests.is_closed())
    }

    /// Remembers a new session. One of the same name that came at the same moment is found no more, and ends.
    pub(super) fn insert(&self, id: SessionId, requests: Sender<Request>) {
        self.by_id.lock().insert(id, requests);
    }

    /// Forgets a session that is over.
    pub(super) fn forget(&self, id: &SessionId) {
        let mut sessions = self.by_id.lock();
        // Another one may have got the name in the meantime.
        if sessions.get(id).is_some_and(Sender::is_closed) {
            sessions.remove(id);
        }
    }
}
