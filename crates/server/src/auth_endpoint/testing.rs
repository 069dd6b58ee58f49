//! A server with one app and without a socket, which tests ask as a backend or as a browser.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderMap, Request};
use fanfare_engine::{AppDefinition, Budgets, Engine, Key as AppKeyPair, KeyUsed, Ledger, Options};
use fanfare_protocol::signature::SigningKey;
use fanfare_protocol::{AppId, AppKey, AppSettings, Identity};
use fanfare_store::{Database, MasterKey};
use fanfare_testkit::Api;
use http_body_util::BodyExt;
use serde_json::Value;
use tower::ServiceExt;

use crate::access::Addresses;
use crate::admin::Admin;
use crate::app_state::{AppState, Shared};
use crate::app_sync::AppSync;
use crate::backend_api::{Idempotency, Unauthenticated};
use crate::clock::unix_seconds;
use crate::edge::sockets::Sockets;
use crate::identity::Identities;
use crate::metrics::Named;
use crate::router::{Audience, router};

/// The credentials of the published vectors (docs/protocol.md#channel-signatures).
pub(crate) const KEY: &str = "278d425bdf160c739803";
pub(crate) const SECRET: &str = "7ad3773142a6692b25b8";
pub(crate) const FORM: &str = "application/x-www-form-urlencoded";

/// Creates the state of a server with one app and without a socket.
pub(crate) struct Node {
    state: AppState,
    _folder: tempfile::TempDir,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text);
        serde_json::from_str(&self.text).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

fn options() -> Options {
    Options {
        shards: 1,
        activity_timeout: Duration::from_secs(120),
        pong_timeout: Duration::from_secs(30),
        ping_interval: None,
        outbox_bytes: 1 << 20,
        max_waiting: fanfare_engine::WaitingLimits {
            total: 1,
            app: 1,
            network: 1,
        },
        max_replay_bytes: 1,
        messages_per_second: 0,
        inbox_bytes: 1 << 20,
        recent_events_bytes: 1 << 20,
        live_events_bytes: 1 << 20,
        max_connections: 1,
        max_subscriptions: 1,
        budgets: Budgets::default(),
        user_hash_key: fanfare_protocol::UserHashKey::default(),
        quotas: fanfare_protocol::Quotas::default(),
        max_transitions: 1,
        spans: Arc::new(fanfare_engine::NoSpans),
    }
}

impl Node {
    pub(crate) async fn start(settings: AppSettings, identity: &Value) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(&folder.path().join("store.db")).await;
        let store = database.unwrap().unlock(MasterKey::random()).await.unwrap();
        let (engine, _) = Engine::new(options(), Arc::new(fanfare_engine::NoNotices));
        let id = AppId::parse("1").unwrap();
        let key = AppKeyPair {
            key: AppKey::parse(KEY).unwrap(),
            signing: SigningKey::new(SECRET),
            used: KeyUsed::default(),
        };
        let identities = Identities::new(false);
        let identity: Option<Identity> = serde_json::from_value(identity.clone()).unwrap();
        identities.set(&id, identity.as_ref()).unwrap();
        engine.update_apps(
            vec![AppDefinition {
                id,
                settings,
                keys: vec![key],
                former_keys: Vec::new(),
                wanted_notices: fanfare_engine::WantedNotices::default(),
            }],
            &[],
        );
        let identities = Arc::new(identities);
        let admin = Admin::new(store.clone());
        let webhooks = crate::webhooks::Webhooks::new(&crate::config::WebhooksConfig::default());
        let (sync, config_barrier) = AppSync::new(
            store,
            Arc::clone(&engine),
            Arc::clone(&identities),
            admin.jwts.clone(),
            fanfare_protocol::Ceilings::default(),
            webhooks.clone(),
            crate::outbox::Outboxes::default(),
        );
        let state = AppState::from(Shared {
            node_name: "node".into(),
            drain: crate::nodes::NodeDrain::default(),
            engine,
            config_barrier,
            ready: Arc::new(AtomicBool::new(true)),
            demo: None,
            unauthenticated: Unauthenticated::default(),
            docs: true,
            base_path: "".into(),
            path_prefix: "".into(),
            ceilings: fanfare_protocol::Ceilings::default(),
            idempotency: Idempotency::new(1 << 20),
            identities,
            admin,
            sockets: Sockets::new(1, Ledger::new(Budgets::default())),
            addresses: Addresses::new(Vec::new(), Vec::new()),
            started_at: 0,
            tls: None,
            metrics_apps: Named::default(),
            sync: sync.counters(),
            usage: crate::usage::Usage::new(),
            alerts: crate::alerts::Alerts::new(&crate::config::AlertsConfig::default(), 0),
            quotas: fanfare_protocol::Quotas::default(),
            quota_ratios: crate::quotas::QuotaRatios::default(),
            webhook_settings: crate::config::WebhooksConfig::default(),
            settings: Arc::default(),
            traces: crate::traces::Traces::default(),
            webhooks,
            outboxes: crate::outbox::Outboxes::default(),
            sessions: crate::edge::xhr::Sessions::new(crate::edge::xhr::PendingBounds {
                app: 1,
                network: 1,
            }),
            socket_io: crate::edge::socket_io::SocketIo::new(
                "",
                crate::edge::xhr::PendingBounds { app: 1, network: 1 },
            ),
            hanging: crate::edge::hanging::HangingRequests::new(0),
            websocket_retry: Arc::new(crate::edge::xhr::WebSocketRetry::new(Duration::ZERO)),
            max_body_bytes: 1 << 20,
            max_message_bytes: 1 << 17,
            message_timeout: Duration::from_secs(30),
        });
        Self {
            state,
            _folder: folder,
        }
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let response = router(self.state.clone(), Audience::All)
            .oneshot(request)
            .await
            .unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            text: String::from_utf8(body.to_vec()).unwrap(),
        }
    }

    /// Sends a request as a backend does.
    pub(crate) async fn backend(&self, path: &str, body: &Value) -> Answer {
        // Only signs, and sends nothing to this address.
        let api = Api::new((Ipv4Addr::LOCALHOST, 0).into(), "1", KEY, SECRET);
        let body = body.to_string();
        let query = api.sign("POST", path, &[], body.as_bytes(), unix_seconds());
        let request = Request::post(format!("{}?{query}", api.path(path)));
        self.send(request.body(body.into()).unwrap()).await
    }

    /// Sends a request as pusher-js does.
    pub(crate) async fn browser(&self, path: &str, token: &str, form: &str) -> Answer {
        let request = Request::post(format!("/app/{KEY}/{path}"))
            .header(CONTENT_TYPE, FORM)
            .header(AUTHORIZATION, format!("Bearer {token}"));
        self.send(request.body(form.to_owned().into()).unwrap())
            .await
    }
}
