use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::edge::sockets::Sockets;
use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, ORIGIN};
use axum::http::{Method, Request};
use fanfare_engine::{AppDefinition, Budgets, Engine, Key as AppKeyPair, KeyUsed, Ledger, Options};
use fanfare_protocol::signature::{Credential, sign_request};
use fanfare_protocol::{AppId, AppKey, AppSettings, Identity};
use fanfare_store::{Database, MasterKey};
use http_body_util::BodyExt;
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};
use tower::ServiceExt;

use super::*;
use crate::access::Addresses;
use crate::admin::Admin;
use crate::app_state::Shared;
use crate::app_sync::AppSync;
use crate::backend_api::Idempotency;
use crate::clock::unix_seconds;
use crate::identity::Identities;
use crate::router::router;

/// The credentials of the published vectors (docs/protocol.md#channel-signatures).
const KEY: &str = "278d425bdf160c739803";
const SECRET: &str = "7ad3773142a6692b25b8";
const TOKEN_SECRET: &str = "what the app shares with its identity provider";
const FORM: &str = "application/x-www-form-urlencoded";

/// Creates the state of a server with one app and without a socket.
struct Node {
    state: AppState,
    _folder: tempfile::TempDir,
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text);
        serde_json::from_str(&self.text).unwrap()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

impl Node {
    async fn start(settings: AppSettings, identity: &Value) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(&folder.path().join("store.db")).await;
        let store = database.unwrap().unlock(MasterKey::random()).await.unwrap();
        let (engine, _) = Engine::new(
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
                max_connections: 1,
                max_subscriptions: 1,
                budgets: Budgets::default(),
            },
            std::sync::Arc::new(fanfare_engine::NoNotices),
        );
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
            }],
            &[],
        );
        let identities = Arc::new(identities);
        let admin = Admin::new(store.clone());
        let (_, in_force) = AppSync::new(
            store,
            Arc::clone(&engine),
            Arc::clone(&identities),
            admin.jwts.clone(),
            fanfare_protocol::Ceilings::default(),
        );
        let state = AppState::from(Shared {
            engine,
            in_force,
            ready: Arc::new(AtomicBool::new(true)),
            demo: None,
            path_prefix: "".into(),
            ceilings: fanfare_protocol::Ceilings::default(),
            idempotency: Idempotency::new(1 << 20),
            identities,
            admin,
            sockets: Sockets::new(1, Ledger::new(Budgets::default())),
            addresses: Addresses::new(Vec::new(), Vec::new()),
            started_at: 0,
            sessions: crate::edge::xhr::Sessions::new(crate::edge::xhr::PendingBounds {
                app: 1,
                network: 1,
            }),
            hanging: crate::edge::xhr::HangingRequests::new(0),
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

    async fn send(&self, request: Request<Body>) -> Answer {
        let response = router(self.state.clone()).oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            text: String::from_utf8(body.to_vec()).unwrap(),
        }
    }

    /// Sends a request as a backend does.
    async fn backend(&self, path: &str, body: &Value) -> Answer {
        let path = format!("/apps/1/{path}");
        let credential = Credential {
            key: KEY,
            secret: SECRET,
        };
        let body = body.to_string();
        let query = sign_request(
            "POST",
            &path,
            &[],
            body.as_bytes(),
            credential,
            unix_seconds(),
        );
        let request = Request::post(format!("{path}?{query}"));
        self.send(request.body(body.into()).unwrap()).await
    }

    /// Sends a request as pusher-js does.
    async fn browser(&self, path: &str, token: &str, form: &str) -> Answer {
        let request = Request::post(format!("/app/{KEY}/{path}"))
            .header(CONTENT_TYPE, FORM)
            .header(AUTHORIZATION, format!("Bearer {token}"));
        self.send(request.body(form.to_owned().into()).unwrap())
            .await
    }
}

fn identity() -> Value {
    json!({
        "providers": [{"algorithms": ["HS256"], "secret": TOKEN_SECRET}],
        "grants": [
            {"channels": "private-user-{sub}"},
            {"channels": "presence-team-{team}", "presence": {"user_info": {"name": "name"}}},
        ],
        "sign_in": {"user_info": {"name": "name"}},
    })
}

fn token(claims: &Value) -> String {
    let mut claims = claims.clone();
    claims["exp"] = (unix_seconds() + 60).into();
    let key = EncodingKey::from_secret(TOKEN_SECRET.as_bytes());
    encode(&Header::default(), &claims, &key).unwrap()
}

fn signed(text: &str) -> String {
    format!("{KEY}:{}", SigningKey::new(SECRET).sign(text))
}

#[tokio::test]
async fn a_backend_is_answered_with_the_published_signatures() {
    let node = Node::start(AppSettings::default(), &Value::Null).await;
    let answer = node
        .backend(
            "auth",
            &json!({"socket_id": "1234.1234", "channel_name": "private-foobar"}),
        )
        .await;
    let auth = format!("{KEY}:58df8b0c36d6982b82c3ecf6b4662e34fe8c25bba48f5369f135bf843651c3a4");
    assert_eq!(answer.json(), json!({ "auth": auth }));
    let body = r#"{"user_id": 10, "user_info": {"name": "Mr. Channels"}}"#;
    let user: Value = serde_json::from_str(body).unwrap();
    let answer = node
        .backend(
            "auth",
            &json!({"socket_id": "1234.1234", "channel_name": "presence-foobar", "user": user}),
        )
        .await;
    let auth = format!("{KEY}:31935e7d86dba64c2a90aed31fdc61869f9b22ba9d8863bba239c03ca481bc80");
    let channel_data = r#"{"user_id":10,"user_info":{"name":"Mr. Channels"}}"#;
    assert_eq!(
        answer.json(),
        json!({"auth": auth, "channel_data": channel_data})
    );
    let answer = node
        .backend(
            "user-auth",
            &json!({"socket_id": "1234.1234", "user": {"id": "12345"}}),
        )
        .await;
    let auth = format!("{KEY}:4708d583dada6a56435fb8bc611c77c359a31eebde13337c16ab43aa6de336ba");
    assert_eq!(
        answer.json(),
        json!({"auth": auth, "user_data": r#"{"id":"12345"}"#})
    );
}

#[tokio::test]
async fn what_a_backend_cannot_have_signed_is_refused_with_the_reason() {
    let node = Node::start(AppSettings::default(), &Value::Null).await;
    let body = |channel: &str, user: Value| json!({"socket_id": "1.1", "channel_name": channel, "user": user});
    let long = "x".repeat(2000);
    for (path, body, words) in [
        ("auth", body("chat", Value::Null), "is public"),
        (
            "auth",
            body("private-encrypted-x", Value::Null),
            "shared_secret",
        ),
        ("auth", body("#server-to-user-1", Value::Null), "signed in"),
        ("auth", body("private-a b", Value::Null), "character 10"),
        ("auth", body("", Value::Null), "it is empty"),
        (
            "auth",
            body("private-x", json!({"user_id": "1"})),
            "it is for presence channels",
        ),
        (
            "auth",
            body("presence-x", Value::Null),
            "Missing parameter: user",
        ),
        ("auth", body("presence-x", json!({})), "user_id"),
        (
            "auth",
            body("presence-x", json!([])),
            "expected a JSON object",
        ),
        (
            "auth",
            body("presence-x", json!({"user_id": "x".repeat(129)})),
            "129 characters",
        ),
        (
            "auth",
            body(
                "presence-x",
                json!({"user_id": "1", "user_info": {"n": long}}),
            ),
            "at most 1024",
        ),
        (
            "auth",
            json!({"channel_name": "private-x"}),
            "Missing parameter: socket_id",
        ),
        (
            "auth",
            json!({"socket_id": "x", "channel_name": "private-x"}),
            "Invalid socket_id",
        ),
        (
            "auth",
            json!({"socket_id": "1.1"}),
            "Missing parameter: channel_name",
        ),
        ("auth", json!([]), "expected a JSON object"),
        (
            "user-auth",
            json!({"socket_id": "1.1"}),
            "Missing parameter: user",
        ),
        (
            "user-auth",
            json!({"socket_id": "1.1", "user": {"id": 7}}),
            "user_data",
        ),
        (
            "user-auth",
            json!({"socket_id": "1.1", "user": {"id": "a b"}}),
            "'id' must have",
        ),
    ] {
        let answer = node.backend(path, &body).await;
        assert_eq!(answer.status, 400, "{body:.200}: {}", answer.text);
        assert!(answer.text.contains(words), "{body:.200}: {}", answer.text);
    }
    let unsigned = Request::post("/apps/1/auth")
        .body(Body::from("{}"))
        .unwrap();
    assert_eq!(node.send(unsigned).await.status, 401);
}

#[tokio::test]
async fn a_browser_gets_what_its_token_grants() {
    let node = Node::start(AppSettings::default(), &identity()).await;
    let token = token(&json!({"sub": "7", "team": "red", "name": "A"}));
    let form = "socket_id=1.2&channel_name=private-user-7";
    let answer = node.browser("auth", &token, form).await;
    assert_eq!(answer.json(), json!({"auth": signed("1.2:private-user-7")}));
    let form = "socket_id=1.2&channel_name=presence-team-red&extra=1";
    let answer = node.browser("auth", &token, form).await;
    let data = r#"{"user_id":"7","user_info":{"name":"A"}}"#;
    let auth = signed(&format!("1.2:presence-team-red:{data}"));
    assert_eq!(answer.json(), json!({"auth": auth, "channel_data": data}));
    let answer = node.browser("user-auth", &token, "socket_id=1.2").await;
    let data = r#"{"id":"7","user_info":{"name":"A"}}"#;
    let auth = signed(&format!("1.2::user::{data}"));
    assert_eq!(answer.json(), json!({"auth": auth, "user_data": data}));
}

#[tokio::test]
async fn a_browser_may_send_json_and_cannot_say_who_it_is() {
    let node = Node::start(AppSettings::default(), &identity()).await;
    let body = json!({
        "socket_id": "1.2", "channel_name": "presence-team-red", "user": {"user_id": "somebody else"},
    });
    let request = Request::post(format!("/app/{KEY}/auth"))
        .header(CONTENT_TYPE, "application/json; charset=utf-8")
        .header(
            AUTHORIZATION,
            format!("bearer {}", token(&json!({"sub": "7", "team": "red"}))),
        )
        .body(body.to_string().into());
    let answer = node.send(request.unwrap()).await.json();
    assert_eq!(answer["channel_data"], r#"{"user_id":"7"}"#);
}

/// Sends a token, which must be refused and must not be in the answer.
async fn refused(node: &Node, path: &str, token: &str, form: &str, expected: (u16, &str)) {
    let Answer { status, text, .. } = node.browser(path, token, form).await;
    let (expected, words) = expected;
    assert_eq!(status, expected, "{form}: {text}");
    assert!(text.contains(words), "{form}: {text}");
    for secret in [token, SECRET, TOKEN_SECRET] {
        assert!(secret.is_empty() || !text.contains(secret), "{text}");
    }
}

#[tokio::test]
async fn a_browser_is_told_what_is_wrong_with_what_it_asks() {
    let node = Node::start(AppSettings::default(), &identity()).await;
    let token = token(&json!({"sub": "7"}));
    let encrypted = "socket_id=1.2&channel_name=private-encrypted-x";
    for (form, words) in [
        (encrypted, "shared_secret"),
        ("socket_id=1.2&channel_name=chat", "is public"),
        (
            "socket_id=1&channel_name=private-user-7",
            "Invalid socket_id",
        ),
        ("channel_name=private-user-7", "socket_id"),
        ("socket_id=1.2", "channel_name"),
        ("socket_id=1.2&socket_id=1.3", "Invalid body"),
    ] {
        refused(&node, "auth", &token, form, (400, words)).await;
    }
    let large = "x".repeat(MAX_BODY + 1);
    refused(&node, "auth", &token, &large, (413, "too large")).await;
}

#[tokio::test]
async fn a_browser_is_told_why_its_token_opens_nothing() {
    let node = Node::start(AppSettings::default(), &identity()).await;
    let good = token(&json!({"sub": "7", "team": "red"}));
    let nobody = token(&json!({"team": "red"}));
    let odd = token(&json!({"sub": "a b"}));
    let large = token(&json!({"sub": "7", "team": "red", "name": "x".repeat(2000)}));
    let user = "socket_id=1.2&channel_name=private-user-7";
    let other = "socket_id=1.2&channel_name=private-user-8";
    let team = "socket_id=1.2&channel_name=presence-team-red";
    for (path, token, form, expected) in [
        ("auth", &*good, other, (403, "No grant")),
        ("auth", &nobody, team, (403, "No grant")),
        ("auth", &large, team, (403, "at most 1024")),
        ("user-auth", &nobody, user, (403, "sign_in")),
        ("user-auth", &odd, user, (403, "'id' must have")),
        ("auth", "nonsense", user, (401, "no signed JSON Web Token")),
        ("auth", "", user, (401, "no signed JSON Web Token")),
    ] {
        refused(&node, path, token, form, expected).await;
    }
}

#[tokio::test]
async fn only_one_header_of_the_right_kind_is_a_token() {
    let node = Node::start(AppSettings::default(), &identity()).await;
    let good = format!("Bearer {}", token(&json!({"sub": "7"})));
    for headers in [
        vec![],
        vec!["Basic eDp5"],
        vec!["Bearer"],
        vec![&*good, &*good],
    ] {
        let mut request = Request::post(format!("/app/{KEY}/auth")).header(CONTENT_TYPE, FORM);
        for header in &headers {
            request = request.header(AUTHORIZATION, *header);
        }
        let answer = node
            .send(request.body("socket_id=1.2".into()).unwrap())
            .await;
        assert_eq!(answer.status, 401, "{headers:?}");
        assert!(answer.text.contains("Missing token"), "{}", answer.text);
    }
}

#[tokio::test]
async fn an_app_without_identity_disabled_or_unknown_signs_nothing() {
    let token = token(&json!({"sub": "7"}));
    let form = "socket_id=1.2&channel_name=private-user-7";
    let node = Node::start(AppSettings::default(), &Value::Null).await;
    let answer = node.browser("auth", &token, form).await;
    assert_eq!(
        (answer.status, answer.text.contains("identity provider")),
        (403, true)
    );
    let disabled = AppSettings {
        enabled: false,
        ..AppSettings::default()
    };
    let answer = Node::start(disabled, &identity())
        .await
        .browser("auth", &token, form)
        .await;
    assert_eq!(
        (answer.status, answer.text.contains("disabled")),
        (403, true)
    );
    let request = Request::post("/app/unknown/auth")
        .body(Body::empty())
        .unwrap();
    assert_eq!(node.send(request).await.status, 404);
}

#[tokio::test]
async fn pages_of_allowed_origins_may_ask_and_read_even_errors() {
    let settings = AppSettings {
        allowed_origins: vec!["https://*.example.com".into()],
        ..AppSettings::default()
    };
    let node = Node::start(settings, &identity()).await;
    let request = |method: Method, origin: &str, token: &str| {
        Request::builder()
            .method(method)
            .uri(format!("/app/{KEY}/auth"))
            .header(ORIGIN, origin)
            .header(CONTENT_TYPE, FORM)
            .header(AUTHORIZATION, format!("Bearer {token}"))
            .body(Body::from("socket_id=1.2&channel_name=private-user-7"))
            .unwrap()
    };
    let good = token(&json!({"sub": "7"}));
    let page = "https://shop.example.com";
    for (token, status) in [(&*good, 200), ("nonsense", 401)] {
        let answer = node.send(request(Method::POST, page, token)).await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("access-control-allow-origin"), Some(page));
        assert_eq!(answer.header("vary"), Some("origin"));
        assert_eq!(answer.header("access-control-allow-credentials"), None);
    }
    let answer = node.send(request(Method::OPTIONS, page, "")).await;
    assert_eq!(answer.status, 204);
    assert_eq!(answer.header("access-control-allow-origin"), Some(page));
    assert_eq!(answer.header("access-control-allow-methods"), Some("POST"));
    assert_eq!(
        answer.header("access-control-allow-headers"),
        Some("authorization, content-type")
    );
    assert_eq!(answer.header("access-control-max-age"), Some("600"));
    for method in [Method::POST, Method::OPTIONS] {
        for origin in ["https://evil.com", "null", "https://example.com"] {
            let answer = node.send(request(method.clone(), origin, &good)).await;
            assert_eq!(answer.status, 403, "{method} {origin}");
            assert!(answer.text.contains("allowed_origins"), "{}", answer.text);
            let cors = answer
                .headers
                .keys()
                .any(|name| name.as_str().starts_with("access-control"));
            assert!(!cors, "{:?}", answer.headers);
        }
    }
}

#[tokio::test]
async fn any_origin_may_ask_where_the_app_names_none_and_no_page_needs_one() {
    let node = Node::start(AppSettings::default(), &identity()).await;
    let preflight = |key: &str| {
        Request::options(format!("/app/{key}/user-auth"))
            .header(ORIGIN, "https://anywhere.example")
            .body(Body::empty())
            .unwrap()
    };
    for key in [KEY, "unknown"] {
        let answer = node.send(preflight(key)).await;
        assert_eq!(
            answer.header("access-control-allow-origin"),
            Some("https://anywhere.example")
        );
    }
    let answer = node
        .browser("user-auth", &token(&json!({"sub": "7"})), "socket_id=1.2")
        .await;
    assert_eq!(
        (answer.status, answer.header("access-control-allow-origin")),
        (200, None)
    );
}
