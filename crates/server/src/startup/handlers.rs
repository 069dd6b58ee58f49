//! Builds the state that listeners and handlers share.

use std::sync::Arc;
use std::time::Duration;

use fanfare_engine::{Engine, NoNotices};
use fanfare_store::Store;

use super::engine::engine_options;
use crate::access::Addresses;
use crate::admin::Admin;
use crate::alerts::Alerts;
use crate::app_state::{AppState, Shared};
use crate::app_sync::{ConfigBarrier, SyncCounters};
use crate::backend_api::{Idempotency, Unauthenticated};
use crate::clock::unix_millis;
use crate::config::Config;
use crate::edge::hanging::HangingRequests;
use crate::edge::listener::Listening;
use crate::edge::socket_io::SocketIo;
use crate::edge::sockets::Sockets;
use crate::edge::takeover::Turns;
use crate::edge::xhr::{Sessions, WebSocketRetry};
use crate::identity::Identities;
use crate::metrics::Named;
use crate::nodes::NodeDrain;
use crate::outbox::Outboxes;
use crate::quotas::QuotaRatios;
use crate::router::{Audience, router};
use crate::traces::Traces;
use crate::usage::Usage;
use crate::webhooks::Webhooks;

/// Returns what a listener needs: its routes are for `audience`.
pub(super) fn listening(config: &Config, state: AppState, audience: Audience) -> Listening {
    Listening {
        sockets: state.sockets.clone(),
        addresses: state.addresses.clone(),
        timeouts: config.http.timeouts(),
        max_streams: config.http.max_streams,
        // Operators have other ways to an address of their own.
        proxy_protocol: config.listen_proxy_protocol && audience != Audience::Operators,
        tls: None,
        publishes: (audience != Audience::Operators).then(|| state.clone()),
        turns: Turns::default(),
        engine: Arc::clone(&state.engine),
        router: router(state, audience),
    }
}

/// Returns what the handlers share on a node that isn't ready yet.
pub(super) fn state(
    config: &Config,
    engine: Arc<Engine>,
    identities: Arc<Identities>,
    admin: Admin,
    config_barrier: ConfigBarrier,
    sync: SyncCounters,
    webhooks: Webhooks,
) -> Shared {
    Shared {
        sockets: Sockets::new(config.http.max_sockets, engine.ledger().clone()),
        engine,
        node_name: Arc::default(),
        ready: Arc::default(),
        drain: NodeDrain::new(Duration::from_secs(config.drain.period)),
        demo: None,
        docs: config.docs.enabled,
        base_path: config.http.base_path.as_str().into(),
        path_prefix: config.client_prefix().into(),
        idempotency: Idempotency::new(config.idempotency.max_bytes),
        unauthenticated: Unauthenticated::default(),
        sessions: Sessions::new(config.pending_sessions()),
        socket_io: SocketIo::new(&config.socket_io.default_app_key, config.pending_sessions()),
        hanging: HangingRequests::new(config.fallback.max_hanging_requests),
        websocket_retry: Arc::new(WebSocketRetry::new(Duration::from_secs(
            config.fallback.websocket_retry,
        ))),
        identities,
        admin,
        config_barrier,
        addresses: Addresses::new(
            config.http.trusted_proxies().unwrap_or_default(),
            config.network.exempt_networks().unwrap_or_default(),
        ),
        ceilings: config.ceilings.clone(),
        metrics_apps: Named(config.metrics.apps()),
        sync,
        usage: Usage::new(),
        alerts: Alerts::new(&config.alerts, config.listen.first_tcp().port()),
        quotas: config.quotas.quotas(),
        quota_ratios: QuotaRatios::default(),
        webhook_settings: config.webhooks.clone(),
        settings: config.in_force().into(),
        traces: Traces::default(),
        tls: None,
        webhooks,
        outboxes: Outboxes::default(),
        started_at: unix_millis(),
        max_body_bytes: config.http.max_body_bytes,
        max_message_bytes: config.websocket.max_message_bytes,
        message_timeout: Duration::from_secs(config.websocket.message_timeout),
    }
}

/// Returns what the handlers of [`admin::kept`](crate::admin::kept) share in a process without a node. The engine has
/// no shards, so a handler that asked it would wait forever.
pub(crate) fn state_at_rest(config: &Config, store: Store) -> anyhow::Result<AppState> {
    let (engine, _) = Engine::new(engine_options(config, &store)?, Arc::new(NoNotices));
    let identities = Arc::new(Identities::new(config.identity.allow_inner_addresses));
    let admin = Admin::new(store);
    let state = state(
        config,
        engine,
        identities,
        admin,
        ConfigBarrier::nowhere(),
        SyncCounters::new(),
        Webhooks::new(&config.webhooks),
    );
    Ok(state.into())
}
