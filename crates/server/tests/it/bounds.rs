//! What a stranger may make the server do is bounded before it is done.

use std::time::Duration;

use fanfare_testkit::{KEY, Server};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::server;

/// Opens a session of the fallback and returns the path of its requests.
async fn session(server: &Server) -> String {
    let path = format!("/pusher/app/{KEY}/1/abcdefgh");
    let opened = server
        .api()
        .send("POST", &format!("{path}/xhr?protocol=7"), Vec::new())
        .await;
    assert_eq!(opened.status, 200, "{opened:?}");
    path
}

#[tokio::test]
async fn a_fallback_body_has_the_size_and_the_frames_that_messages_need() {
    let server = server().await;
    let path = session(&server).await;
    let send = async |body: String| {
        let path = format!("{path}/xhr_send");
        server.api().send("POST", &path, body.into()).await
    };
    let frames = |count: usize| json!(vec![""; count]).to_string();
    assert_eq!(send(frames(1000)).await.status, 204);
    let many = send(frames(1001)).await;
    assert_eq!(many.status, 413);
    assert!(many.text.contains("more than 1000 frames"), "{many:?}");
    assert_eq!(send(frames(333_333)).await.status, 413);
    let quotes = json!(["\"".repeat(128 * 1024 - 10)]).to_string();
    assert_eq!(send(quotes).await.status, 204, "each byte escaped");
    let large = send("x".repeat(1 << 20)).await;
    assert_eq!(large.status, 413);
    assert!(large.text.contains("at most 262144 bytes"), "{large:?}");
}

#[tokio::test]
async fn a_query_of_kilobytes_is_refused_and_not_sent_back() {
    let server = server().await;
    for (size, status, words) in [
        (8000, 401, "Invalid signature"),
        (12_000, 401, "query is too long"),
        (60_000, 431, "head is larger than 16384 bytes"),
    ] {
        let long = format!("a0[]=%41%2B+{}", "x".repeat(size - 200));
        let query = format!(
            "{long}&auth_key={KEY}&auth_timestamp={}&auth_version=1.0&auth_signature={}",
            fanfare_testkit::api::now(),
            "0".repeat(64)
        );
        let path = format!("/apps/1234567/channels?{query}");
        let answer = server.api().send("GET", &path, Vec::new()).await;
        assert_eq!(answer.status, status, "{}", answer.text);
        assert!(answer.text.contains(words), "{}", answer.text);
        assert!(answer.text.len() < 3_000, "{} bytes", answer.text.len());
    }
}

#[tokio::test]
async fn a_sign_in_too_many_is_refused_before_its_body_is_read() {
    let server = server().await;
    let post = async |body: Vec<u8>| {
        let answer = server.api().send("POST", "/api/v1/sessions", body).await;
        answer.status
    };
    assert_eq!(
        post(vec![b'x'; 250_000]).await,
        413,
        "no sign-in has that many"
    );
    for _ in 1..30 {
        assert_eq!(post(b"{".to_vec()).await, 400);
    }
    // Neither is a body that is no JSON looked at any more, nor one that is too large.
    assert_eq!(post(b"{".to_vec()).await, 429);
    assert_eq!(post(vec![b'x'; 250_000]).await, 429);
}

#[tokio::test]
async fn a_path_is_not_sent_back_whole() {
    let server = server().await;
    let long = "x".repeat(10_000);
    for path in [
        format!("/{long}"),
        format!("/apps/{long}/events"),
        format!("/app/{long}"),
        format!("/api/v1/{long}"),
    ] {
        let answer = server.api().send("POST", &path, Vec::new()).await;
        assert!(
            answer.status >= 400 && answer.text.len() < 1_000,
            "{path:.20}: {answer:?}"
        );
    }
}

#[tokio::test]
async fn the_largest_file_of_the_docs_is_sent_compressed_or_not_at_all() {
    let server = server().await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("http://{}/docs/api/swagger-ui-bundle.js", server.address);
    let plain = client.get(&url).send().await.unwrap();
    let tag = plain.headers()["etag"].clone();
    let plain = plain.bytes().await.unwrap();
    let gzip = client.get(&url).header("accept-encoding", "gzip");
    let gzip = gzip.send().await.unwrap();
    assert_eq!(gzip.headers()["content-encoding"], "gzip");
    assert_eq!(gzip.headers()["vary"], "accept-encoding");
    assert_eq!(gzip.headers()["x-content-type-options"], "nosniff");
    let gzip = gzip.bytes().await.unwrap();
    assert!(
        gzip.len() * 3 < plain.len(),
        "{} of {}",
        gzip.len(),
        plain.len()
    );
    let again = client.get(&url).header("if-none-match", tag);
    let again = again.send().await.unwrap();
    assert_eq!(again.status(), 304);
    assert!(again.bytes().await.unwrap().is_empty());
}

/// Sends the head of a `POST` whose client waits for `100 Continue`.
async fn ask_to_send(server: &Server, path: &str, length: usize) -> TcpStream {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
         Expect: 100-continue\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

#[tokio::test]
async fn a_body_that_is_announced_and_refused_is_not_asked_for() {
    let server = server().await;
    let session = session(&server).await;
    let api = server.api();
    let signed = api.sign("POST", "events", &[], b"x", fanfare_testkit::api::now());
    let events = api.path("events");
    for (path, status) in [
        (format!("{events}?{signed}"), 413),
        (format!("{events}?{}", signed.replace("1.0", "2.0")), 401),
        (format!("{session}/xhr_send"), 413),
        ("/pusher/app/none/1/abcdefgh/xhr_send".into(), 404),
        ("/api/v1/sessions".into(), 413),
        ("/api/v1/apps".into(), 401),
        ("/nowhere".into(), 404),
    ] {
        let mut stream = ask_to_send(&server, &path, 100 << 20).await;
        let mut seen = Vec::new();
        let answered = timeout(Duration::from_secs(10), stream.read_to_end(&mut seen)).await;
        answered.expect("an answer and an end").unwrap();
        let seen = String::from_utf8_lossy(&seen);
        assert!(
            seen.starts_with(&format!("HTTP/1.1 {status}")),
            "{path}: {seen}"
        );
    }
}

#[tokio::test]
async fn a_body_that_is_announced_and_accepted_is_asked_for() {
    let server = server().await;
    let api = server.api();
    let body = json!({"name": "e", "channel": "a", "data": "d"}).to_string();
    let now = fanfare_testkit::api::now();
    let signed = api.sign("POST", "events", &[], body.as_bytes(), now);
    let path = format!("{}?{signed}", api.path("events"));
    let mut stream = ask_to_send(&server, &path, body.len()).await;
    let mut seen = String::new();
    for (words, next) in [
        ("HTTP/1.1 100 Continue\r\n\r\n", &*body),
        ("HTTP/1.1 200", ""),
    ] {
        while !seen.contains(words) {
            let mut bytes = [0; 1024];
            let read = timeout(Duration::from_secs(10), stream.read(&mut bytes)).await;
            let read = read.expect("an answer").unwrap();
            assert!(read > 0, "{seen}");
            seen.push_str(&String::from_utf8_lossy(&bytes[..read]));
        }
        stream.write_all(next.as_bytes()).await.unwrap();
    }
}
