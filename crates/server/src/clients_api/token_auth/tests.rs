use axum::body::Body;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, ORIGIN};
use axum::http::{Method, Request};
use fanfare_protocol::AppSettings;
use fanfare_protocol::signature::SigningKey;
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};

use crate::auth_endpoint::MAX_BODY;
use crate::auth_endpoint::testing::{Answer, FORM, KEY, Node, SECRET};
use crate::clock::unix_seconds;

const TOKEN_SECRET: &str = "what the app shares with its identity provider";

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
