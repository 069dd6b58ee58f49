//! What is refused is in the log at its default level: each kind once at once, with app, reason and address.

use std::time::Duration;

use fanfare_testkit::api::now;
use fanfare_testkit::{APP_ID, Api, Client, KEY, SECRET, Server};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::{server, server_with};

/// Waits for a line of the log that holds all of these.
pub(crate) async fn logged(server: &Server, words: &[&str]) -> String {
    for _ in 0..1000 {
        let log = server.log();
        let line = log
            .lines()
            .find(|line| words.iter().all(|word| line.contains(word)));
        if let Some(line) = line {
            return line.to_owned();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("no line with {words:?} in:\n{}", server.log());
}

#[tokio::test]
async fn each_kind_of_refusal_is_logged_with_app_reason_and_address() {
    let server = server().await;
    let setting = ["app", "update", APP_ID, "--setting"];
    server.run_ok(&[&setting[..], &["allowed_origins=https://good.example"]].concat());
    let path = format!("/app/{KEY}?protocol=7");
    let mut client = server.connect().await;
    client
        .send(&json!({"event": "pusher:subscribe", "data": {"channel": "private-a", "auth": format!("{KEY}:00")}}))
        .await;
    let app = format!("app=\"{APP_ID}\"");
    let signed = [
        "kind=\"subscription_auth\"",
        &app,
        "Invalid signature for private-a",
    ];
    logged(&server, &signed).await;
    // Until a change of the app is active, a connection may still be taken.
    let refused = async |path: &str, headers: &[(&'static str, &str)]| {
        loop {
            let mut client = Client::open(server.address, path, headers).await.unwrap();
            let first = client.event().await;
            if first["event"] == "pusher:error" {
                return first;
            }
        }
    };
    refused(&path, &[("origin", "https://evil.example")]).await;
    let origin = [
        "kind=\"connection_origin_or_key\"",
        &app,
        "https://evil.example",
    ];
    logged(&server, &origin).await;
    refused("/app/nope?protocol=7", &[]).await;
    logged(
        &server,
        &["kind=\"unknown_key\"", "nope", "address=127.0.0.1"],
    )
    .await;
    let error = refused(&format!("/app/app/{KEY}?protocol=7"), &[]).await;
    let told = error["data"]["message"].as_str().unwrap();
    assert!(
        told.contains(&format!("/app/app/{KEY}, connect to /app/{KEY} (")),
        "{told}"
    );
    logged(
        &server,
        &["kind=\"websocket_path\"", &format!("/app/app/{KEY}")],
    )
    .await;

    let wrong = Api::new(server.address, APP_ID, KEY, "wrong secret");
    assert_eq!(wrong.get("channels", &[]).await.status, 401);
    logged(
        &server,
        &["kind=\"api_signature\"", &app, "address=127.0.0.1"],
    )
    .await;
    let api = server.api();
    let stale = api.sign("GET", "channels", &[], b"", now() - 3600);
    let stale = format!("{}?{stale}", api.path("channels"));
    assert_eq!(api.send("GET", &stale, Vec::new()).await.status, 401);
    logged(
        &server,
        &["kind=\"api_timestamp\"", &app, "Timestamp expired"],
    )
    .await;
    let other = Api::new(server.address, APP_ID, "other", "secret");
    assert_eq!(other.get("channels", &[]).await.status, 401);
    logged(&server, &["kind=\"api_key\"", &app, "other"]).await;
    assert_eq!(api.send("GET", "/nowhere", Vec::new()).await.status, 404);
    logged(&server, &["kind=\"path\"", "There is nothing at /nowhere"]).await;
    let answer = api.send("GET", "/api/v1/me", Vec::new()).await;
    assert_eq!(answer.status, 401);
    logged(
        &server,
        &["kind=\"operator_token\"", "Authorization: Bearer"],
    )
    .await;

    let before = server.log().matches("kind=\"api_signature\"").count();
    for _ in 0..50 {
        wrong.get("channels", &[]).await;
    }
    let after = server.log().matches("kind=\"api_signature\"").count();
    assert_eq!((before, after), (1, 1), "repetitions are counted only");
}

#[tokio::test]
async fn a_backends_stream_is_refused_as_its_other_requests_are() {
    let server = server().await;
    let app = format!("app=\"{APP_ID}\"");
    let endpoint = "events/stream";
    let channels = [("channels", "private-a")];
    for (key, secret, kind) in [
        (KEY, "wrong secret", "kind=\"api_signature\""),
        ("other", "secret", "kind=\"api_key\""),
    ] {
        let api = Api::new(server.address, APP_ID, key, secret);
        assert_eq!(api.get(endpoint, &channels).await.status, 401);
        logged(&server, &[kind, &app, "address=127.0.0.1"]).await;
    }
    let api = server.api();
    let stale = api.sign("GET", endpoint, &channels, b"", now() - 3600);
    let stale = format!("{}?{stale}", api.path(endpoint));
    assert_eq!(api.send("GET", &stale, Vec::new()).await.status, 401);
    logged(&server, &["kind=\"api_timestamp\"", &app]).await;
    let unknown = Api::new(server.address, "2", KEY, SECRET);
    assert_eq!(unknown.get(endpoint, &channels).await.status, 404);
    let no_channel = api.get(endpoint, &[("raw", "private-a")]).await;
    assert_eq!(no_channel.status, 400);
    assert!(no_channel.text.starts_with("raw is for WebSockets"));
}

#[tokio::test]
async fn what_is_no_http_is_logged_with_what_came_and_what_to_do() {
    let server = server().await;
    let hello = b"\x16\x03\x01\x00\xf8\x01\x00\x00\xf4\x03\x03".repeat(20);
    // None of them keeps another from being logged within the same minute.
    for (sent, kind, words) in [
        (
            &hello[..],
            "tls_hello",
            "a TLS hello came, and this port speaks plain HTTP",
        ),
        (b"SSH-2.0-client\r\n", "not_http", "an SSH client came"),
        (
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET / HTTP/1.1\r\n\r\n",
            "unread_proxy_header",
            "(version 1) came",
        ),
    ] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(sent).await.unwrap();
        let mut seen = Vec::new();
        // It may be reset, as it sends more than is read of it.
        let _ = stream.read_to_end(&mut seen).await;
        let kind = format!("kind=\"{kind}\"");
        logged(&server, &[&kind, words, "address=127.0.0.1"]).await;
    }
}

#[tokio::test]
async fn a_proxy_protocol_header_is_logged_with_what_to_do() {
    for (sent, words) in [
        (&b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET / HTTP/1.1\r\n\r\n"[..], "(version 1) came"),
        (
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc0\0\x02\x02\0\x01\0\x02GET / HTTP/1.1\r\n\r\n",
            "(version 2) came",
        ),
    ] {
        let server = server().await;
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(sent).await.unwrap();
        let mut seen = Vec::new();
        let _ = stream.read_to_end(&mut seen).await;
        logged(&server, &["kind=\"unread_proxy_header\"", "PROXY protocol", words]).await;
    }
}

#[tokio::test]
async fn behind_a_path_prefix_messages_name_the_whole_path() {
    let server = server_with(&["path_prefix=/realtime"]).await;
    let path = format!("/app/{KEY}?protocol=7");
    let mut client = Client::open(server.address, &path, &[]).await.unwrap();
    let error = client.expect("pusher:error").await;
    let told = error["data"]["message"].as_str().unwrap();
    let words = format!(
        "/app/{KEY}, connect to /realtime/app/{KEY} (in pusher-js set wsPath to /realtime)"
    );
    assert!(told.contains(&words), "{told}");
    let answer = server.api().get("channels", &[]).await;
    assert_eq!(answer.status, 404);
    let words = format!("it should be /realtime/apps/{APP_ID}/channels");
    assert!(answer.text.contains(&words), "{}", answer.text);
    let root = server.api().send("GET", "/", Vec::new()).await;
    assert!(
        root.text.contains("/realtime/apps/APP_ID/events"),
        "{}",
        root.text
    );
}
