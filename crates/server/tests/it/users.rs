//! Users over HTTP: docs/compatibility.md#users, C-062, and docs/compatibility.md#http-api, C-090.

use fanfare_protocol::SocketId;
use fanfare_protocol::signature::{Credential, SigningKey, sign_request, user_auth_text};
use fanfare_testkit::{Client, KEY, SECRET, Server};
use serde_json::json;

use crate::server;

async fn signed_in(server: &Server, user: &str) -> Client {
    let mut client = server.connect().await;
    let user_data = json!({"id": user}).to_string();
    let text = user_auth_text(SocketId::parse(&client.socket_id).unwrap(), &user_data);
    let auth = format!("{KEY}:{}", SigningKey::new(SECRET).sign(&text));
    client
        .send(&json!({"event": "pusher:signin", "data": {"auth": auth, "user_data": user_data}}))
        .await;
    client.expect("pusher:signin_success").await;
    client
}

#[tokio::test]
async fn terminating_a_user_closes_their_connections_at_both_paths() {
    let server = server().await;
    let api = server.api();
    let mut bystander = signed_in(&server, "b").await;
    let mut first = signed_in(&server, "a").await;
    let answer = api.post("users/a/terminate_connections", "{}").await;
    assert_eq!((answer.status, answer.text.as_str()), (200, "{}"));
    assert_eq!(first.closed().await, 4009);
    let mut second = signed_in(&server, "a").await;
    let path = "/users/a/terminate_connections";
    let now = fanfare_testkit::api::now();
    let signed = sign_request(
        "POST",
        path,
        &[],
        b"{}",
        Credential {
            key: KEY,
            secret: SECRET,
        },
        now,
    );
    assert_eq!(
        api.send("POST", &format!("{path}?{signed}"), b"{}".to_vec())
            .await
            .text,
        "{}"
    );
    assert_eq!(second.closed().await, 4009);
    assert_eq!(
        api.post("users/nobody/terminate_connections", "{}")
            .await
            .text,
        "{}"
    );
    bystander.expect_nothing().await;
}

#[tokio::test]
async fn a_user_id_in_the_path_verifies_decoded() {
    let server = server().await;
    let api = server.api();
    let signed = api.sign(
        "POST",
        "users/a b é/terminate_connections",
        &[],
        b"{}",
        fanfare_testkit::api::now(),
    );
    let path = api.path("users/a%20b%20%C3%A9/terminate_connections");
    assert_eq!(
        api.send("POST", &format!("{path}?{signed}"), b"{}".to_vec())
            .await
            .text,
        "{}"
    );
}

#[tokio::test]
async fn without_an_app_in_the_path_an_unknown_key_opens_nothing() {
    let server = server().await;
    let path = "/users/a/terminate_connections";
    let now = fanfare_testkit::api::now();
    for credential in [
        Credential {
            key: "nope",
            secret: SECRET,
        },
        Credential {
            key: KEY,
            secret: "nope",
        },
    ] {
        let signed = sign_request("POST", path, &[], b"{}", credential, now);
        let answer = server
            .api()
            .send("POST", &format!("{path}?{signed}"), b"{}".to_vec())
            .await;
        assert_eq!(answer.status, 401, "{answer:?}");
    }
}

#[tokio::test]
async fn the_deprecated_endpoints_still_answer() {
    let server = server().await;
    let api = server.api();
    let (mut one, mut two) = (server.connect().await, server.connect().await);
    for client in [&mut one, &mut two] {
        client.subscribe("a").await;
    }
    let query = [("name", "e"), ("socket_id", &*one.socket_id)];
    let signed = api.sign(
        "POST",
        "channels/a/events",
        &query,
        b"the data",
        fanfare_testkit::api::now(),
    );
    let path = api.path("channels/a/events");
    let answer = api
        .send("POST", &format!("{path}?{signed}"), b"the data".to_vec())
        .await;
    assert_eq!((answer.status, answer.text.as_str()), (202, ""));
    assert_eq!(two.expect("e").await["data"], "the data");
    one.expect_nothing().await;
    let unnamed = api.post("channels/a/events", "the data").await;
    assert!(
        unnamed.status == 400 && unnamed.text.contains("name"),
        "{unnamed:?}"
    );
    one.join("presence-a", r#"{"user_id":1}"#).await;
    assert_eq!(
        api.get("channels/a/stats", &[]).await.json(),
        json!({"occupied": true, "connection_count": 2})
    );
    let presence = api.get("channels/presence-a/stats", &[]).await.json();
    assert_eq!(
        presence,
        json!({"occupied": true, "user_count": 1, "connection_count": 1})
    );
}
