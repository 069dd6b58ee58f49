use axum::body::Body;
use axum::http::Request;
use fanfare_protocol::AppSettings;
use serde_json::{Value, json};

use crate::auth_endpoint::testing::{KEY, Node};

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
