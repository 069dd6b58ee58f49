//! What a stranger may make the server do is bounded before it is done.

use fanfare_testkit::{KEY, Server};
use serde_json::json;

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
    let url = format!("http://{}/docs/swagger-ui-bundle.js", server.address);
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
