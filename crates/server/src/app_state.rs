//! What all handlers of HTTP requests share.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use fanfare_engine::Engine;
use fanfare_protocol::Ceilings;

use crate::access::Addresses;
use crate::admin::Admin;
use crate::app_sync::ConfigBarrier;
use crate::backend_api::Idempotency;
use crate::demo::Demo;
use crate::edge::sockets::Sockets;
use crate::edge::xhr::{HangingRequests, Sessions, WebSocketRetry};
use crate::identity::Identities;

/// What handlers share. It is cloned several times for each request, so that is one count.
#[derive(Clone)]
pub(crate) struct AppState(Arc<Shared>);

impl Deref for AppState {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl From<Shared> for AppState {
    fn from(shared: Shared) -> Self {
        Self(Arc::new(shared))
    }
}

/// What an [`AppState`] holds.
pub(crate) struct Shared {
    pub(crate) engine: Arc<Engine>,
    pub(crate) ready: Arc<AtomicBool>,
    pub(crate) demo: Option<Arc<Demo>>,
    pub(crate) path_prefix: Arc<str>,
    pub(crate) idempotency: Idempotency,
    pub(crate) sessions: Sessions,
    pub(crate) hanging: HangingRequests,
    pub(crate) websocket_retry: Arc<WebSocketRetry>,
    pub(crate) identities: Arc<Identities>,
    pub(crate) admin: Admin,
    pub(crate) in_force: ConfigBarrier,
    pub(crate) addresses: Addresses,
    pub(crate) ceilings: Ceilings,
    pub(crate) sockets: Sockets,
    /// Unix time in milliseconds.
    pub(crate) started_at: i64,
    pub(crate) max_body_bytes: usize,
    pub(crate) max_message_bytes: usize,
    /// The time in which a long WebSocket message must have come whole.
    pub(crate) message_timeout: Duration,
}
