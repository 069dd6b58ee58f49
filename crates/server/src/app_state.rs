//! The state that all handlers of HTTP requests share.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fanfare_engine::{App, Engine};
use fanfare_protocol::{Ceilings, Quotas};

use crate::access::Addresses;
use crate::admin::Admin;
use crate::alerts::Alerts;
use crate::app_sync::{ConfigBarrier, SyncCounters};
use crate::backend_api::{Idempotency, Unauthenticated};
use crate::config::{SettingInForce, WebhooksConfig};
use crate::demo::Demo;
use crate::edge::hanging::HangingRequests;
use crate::edge::socket_io::SocketIo;
use crate::edge::sockets::Sockets;
use crate::edge::xhr::{Sessions, WebSocketRetry};
use crate::identity::Identities;
use crate::metrics::Named;
use crate::nodes::NodeDrain;
use crate::outbox::Outboxes;
use crate::quotas::QuotaRatios;
use crate::tls::Tls;
use crate::traces::Traces;
use crate::usage::Usage;
use crate::webhooks::Webhooks;

/// Shared state. axum clones it several times for each request, so a clone is one reference count.
#[derive(Clone)]
pub(crate) struct AppState(Arc<Shared>);

impl Deref for AppState {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl fmt::Debug for AppState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppState").finish_non_exhaustive()
    }
}

impl From<Shared> for AppState {
    fn from(shared: Shared) -> Self {
        Self(Arc::new(shared))
    }
}

impl Shared {
    /// Returns whether this node is starting or shutting down.
    pub(crate) fn is_stopping(&self) -> bool {
        !self.ready.load(Ordering::Relaxed)
    }

    /// Returns the key of the app of clients of Socket.IO who name none: the configured one, or the demo app's.
    pub(crate) fn socket_io_key(&self) -> Option<&str> {
        let demo = self.demo.as_ref().map(|demo| demo.key.as_str());
        self.socket_io.default_key().or(demo)
    }

    /// Returns the app with this id. Waits for changes by other processes if there is none, because one may have been made a
    /// moment ago.
    pub(crate) async fn find_app(&self, id: &str) -> Option<Arc<App>> {
        if let Some(app) = self.engine.apps().by_id(id) {
            return Some(app);
        }
        self.config_barrier.wait_for_unknown().await;
        self.engine.apps().by_id(id)
    }

    /// Waits for changes by other processes if no app has or had this key, because one may have been made a moment ago.
    pub(crate) async fn expect_key(&self, key: &str) {
        let apps = self.engine.apps();
        let is_known = apps.by_key(key).is_some() || apps.by_former_key(key).is_some();
        if !is_known && !key.is_empty() {
            self.config_barrier.wait_for_unknown().await;
        }
    }

    /// Returns why this node takes no connections and events now, if so.
    pub(crate) fn unready(&self) -> Option<String> {
        if self.is_stopping() {
            return Some("starting or shutting down".into());
        }
        if self.drain.is_on() {
            return Some("an operator drains this node (fanfare node drain)".into());
        }
        if self.sockets.is_full() {
            return Some(format!(
                "no more connections can be accepted, {} sockets are in use (http.max_sockets, or the limit of open files)",
                self.sockets.open()
            ));
        }
        self.engine.unready()
    }
}

/// Content of an [`AppState`].
pub(crate) struct Shared {
    pub(crate) engine: Arc<Engine>,
    /// The name of this node.
    pub(crate) node_name: Arc<str>,
    pub(crate) ready: Arc<AtomicBool>,
    /// Whether an operator drains this node.
    pub(crate) drain: NodeDrain,
    pub(crate) demo: Option<Arc<Demo>>,
    /// Whether the documentation is at `/docs` (`docs.enabled`).
    pub(crate) docs: bool,
    /// What precedes all paths (`http.base_path`).
    pub(crate) base_path: Arc<str>,
    /// What precedes `/app` and `/apps`, base path included.
    pub(crate) path_prefix: Arc<str>,
    pub(crate) idempotency: Idempotency,
    pub(crate) unauthenticated: Unauthenticated,
    pub(crate) sessions: Sessions,
    pub(crate) socket_io: SocketIo,
    pub(crate) hanging: HangingRequests,
    pub(crate) websocket_retry: Arc<WebSocketRetry>,
    pub(crate) identities: Arc<Identities>,
    pub(crate) admin: Admin,
    pub(crate) config_barrier: ConfigBarrier,
    pub(crate) addresses: Addresses,
    pub(crate) ceilings: Ceilings,
    pub(crate) sockets: Sockets,
    /// The apps that have metrics of their own.
    pub(crate) metrics_apps: Named,
    pub(crate) sync: SyncCounters,
    pub(crate) usage: Usage,
    pub(crate) alerts: Alerts,
    /// The quotas of all apps together.
    pub(crate) quotas: Quotas,
    pub(crate) quota_ratios: QuotaRatios,
    pub(crate) webhook_settings: WebhooksConfig,
    /// The settings in force, without their secrets.
    pub(crate) settings: Arc<[SettingInForce]>,
    pub(crate) traces: Traces,
    pub(crate) webhooks: Webhooks,
    pub(crate) outboxes: Outboxes,
    /// Set if this node speaks TLS.
    pub(crate) tls: Option<Tls>,
    /// When this node started, Unix time in milliseconds.
    pub(crate) started_at: i64,
    pub(crate) max_body_bytes: usize,
    pub(crate) max_message_bytes: usize,
    /// How long a long WebSocket message may take to come whole.
    pub(crate) message_timeout: Duration,
}
