//! Publishes on their socket, beside what HTTP answers on the same connection.

use std::time::Duration;

use fanfare_testkit::Server;
use fanfare_testkit::api::now;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::{server, server_with};

const BODY: &str = r#"{"name":"greeting","channel":"news","data":"hi"}"#;

/// A connection of a backend that writes its requests by itself.
struct Backend {
    stream: TcpStream,
    read: String,
}

/// An answer as it came.
struct Answer {
    head: String,
    body: String,
}

impl Answer {
    fn status(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    fn closes(&self) -> bool {
        self.head.to_lowercase().contains("connection: close")
    }
}

impl Backend {
    async fn connect(server: &Server) -> Self {
        let stream = TcpStream::connect(server.address).await.unwrap();
        Self {
            stream,
            read: String::new(),
        }
    }

    async fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    async fn more(&mut self) -> bool {
        let mut buffer = [0; 4096];
        let read = timeout(Duration::from_secs(10), self.stream.read(&mut buffer));
        let count = read.await.expect("an answer in time").unwrap();
        self.read
            .push_str(std::str::from_utf8(&buffer[..count]).unwrap());
        count > 0
    }

    async fn answer(&mut self) -> Answer {
        loop {
            if let Some((head, rest)) = self.read.split_once("\r\n\r\n") {
                let lower = head.to_lowercase();
                let length = lower.split("content-length: ").nth(1).unwrap();
                let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
                if rest.len() >= length {
                    let (head, body) = (head.to_owned(), rest[..length].to_owned());
                    self.read = rest[length..].to_owned();
                    return Answer { head, body };
                }
            }
            assert!(self.more().await, "the connection ended: {:?}", self.read);
        }
    }

    async fn ended(&mut self) {
        assert!(self.read.is_empty(), "{:?}", self.read);
        assert!(!self.more().await, "{:?}", self.read);
    }
}

fn request(server: &Server, endpoint: &str, headers: &str, body: &str) -> String {
    let api = server.api();
    let query = api.sign("POST", endpoint, &[], body.as_bytes(), now());
    let length = body.len();
    format!(
        "POST {}?{query} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n{headers}\r\n{body}",
        api.path(endpoint)
    )
}

fn publish(server: &Server) -> String {
    request(server, "events", "", BODY)
}

#[tokio::test]
async fn a_connection_publishes_again_and_again_however_its_requests_are_cut() {
    let server = server().await;
    let mut subscriber = server.connect().await;
    subscriber.subscribe("news").await;
    let mut backend = Backend::connect(&server).await;
    let text = publish(&server);
    let head_ends = text.find("\r\n\r\n").unwrap() + 4;
    // Whole, two at once, head and body apart, within the head, within the body, byte by byte.
    backend.send(&text).await;
    backend.send(&format!("{text}{text}")).await;
    for _ in 0..3 {
        assert_eq!(backend.answer().await.status(), "200");
    }
    for cut in [head_ends, 30, head_ends + 10, text.len() - 1] {
        backend.send(&text[..cut]).await;
        tokio::task::yield_now().await;
        backend.send(&text[cut..]).await;
        let answer = backend.answer().await;
        assert_eq!((answer.status(), &*answer.body), ("200", "{}"), "{cut}");
    }
    for byte in text.chars() {
        backend.send(&byte.to_string()).await;
    }
    assert_eq!(backend.answer().await.status(), "200");
    for _ in 0..8 {
        subscriber.expect("greeting").await;
    }
    subscriber.expect_nothing().await;
}

#[tokio::test]
async fn requests_of_all_kinds_share_a_connection() {
    let server = server().await;
    let mut backend = Backend::connect(&server).await;
    backend.send(&publish(&server)).await;
    assert_eq!(backend.answer().await.status(), "200");
    let api = server.api();
    let query = api.sign("GET", "channels", &[], b"", now());
    let get = format!(
        "GET {}?{query} HTTP/1.1\r\nHost: x\r\n\r\n",
        api.path("channels")
    );
    // Behind a publish, with one behind it.
    backend
        .send(&format!("{}{get}{}", publish(&server), publish(&server)))
        .await;
    assert_eq!(backend.answer().await.body, "{}");
    assert_eq!(backend.answer().await.body, r#"{"channels":{}}"#);
    assert_eq!(backend.answer().await.body, "{}");
}

#[tokio::test]
async fn what_is_refused_is_answered_as_by_http_and_the_connection_goes_on() {
    let server = server().await;
    let mut backend = Backend::connect(&server).await;
    // A space in the length makes it HTTP's.
    let by_http = |text: &str| text.replacen("Host: x\r\n", "Host: x\r\nExpect: nothing\r\n", 1);
    let bad = r#"{"name":"greeting","channel":"no such","data":"hi"}"#;
    let forged = publish(&server).replacen("auth_signature=", "auth_signature=0", 1);
    let other_body = publish(&server).replacen("hi", "ho", 1);
    for (text, status) in [
        (request(&server, "events", "", bad), "400"),
        (request(&server, "batch_events", "", "{}"), "400"),
        (forged, "401"),
        (other_body, "401"),
    ] {
        let mut http = Backend::connect(&server).await;
        http.send(&by_http(&text)).await;
        let expected = http.answer().await;
        backend.send(&text).await;
        let answer = backend.answer().await;
        assert_eq!(answer.status(), status);
        let named = |answer: &Answer| {
            let mut lines: Vec<_> = answer.head.lines().map(str::to_lowercase).collect();
            lines.retain(|line| !line.starts_with("date: "));
            lines.sort();
            lines
        };
        assert_eq!(named(&answer), named(&expected));
        assert_eq!(answer.body, expected.body);
        backend.send(&publish(&server)).await;
        assert_eq!(backend.answer().await.status(), "200");
    }
}

#[tokio::test]
async fn a_success_has_the_headers_that_http_gives_it() {
    let server = server().await;
    let mut backend = Backend::connect(&server).await;
    let mut heads = Vec::new();
    for headers in ["", "X: y\r\nExpect: nothing\r\n"] {
        backend
            .send(&request(&server, "events", headers, BODY))
            .await;
        let answer = backend.answer().await;
        let mut lines: Vec<_> = answer.head.lines().map(str::to_lowercase).collect();
        lines.retain(|line| !line.starts_with("date: "));
        lines.sort();
        assert!(answer.head.contains("date: "), "{}", answer.head);
        heads.push(lines);
    }
    assert_eq!(heads[0], heads[1]);
}

#[tokio::test]
async fn a_client_that_asks_for_the_end_gets_it_after_its_answer() {
    let server = server().await;
    let mut backend = Backend::connect(&server).await;
    let text = request(&server, "events", "Connection: close\r\n", BODY);
    backend.send(&text).await;
    let answer = backend.answer().await;
    assert!(answer.closes(), "{}", answer.head);
    backend.ended().await;
}

#[tokio::test]
async fn a_repeated_key_is_published_once_and_a_batch_in_order() {
    let server = server().await;
    let mut subscriber = server.connect().await;
    subscriber.subscribe("news").await;
    let mut backend = Backend::connect(&server).await;
    let once = request(&server, "events", "Idempotency-Key: k\r\n", BODY);
    for _ in 0..2 {
        backend.send(&once).await;
        assert_eq!(backend.answer().await.status(), "200");
    }
    let event = |data: &str| format!(r#"{{"name":"e","channel":"news","data":"{data}"}}"#);
    let batch = format!(r#"{{"batch":[{},{}]}}"#, event("1"), event("2"));
    backend
        .send(&request(&server, "batch_events", "", &batch))
        .await;
    assert_eq!(backend.answer().await.body, "{}");
    subscriber.expect("greeting").await;
    assert_eq!(subscriber.expect("e").await["data"], "1");
    assert_eq!(subscriber.expect("e").await["data"], "2");
    let info = r#"{"name":"e","channel":"news","data":"3","info":"subscription_count"}"#;
    backend.send(&request(&server, "events", "", info)).await;
    let answer = backend.answer().await;
    assert_eq!(
        answer.body,
        r#"{"channels":{"news":{"subscription_count":1}}}"#
    );
}

#[tokio::test]
async fn a_connection_that_waits_ends_with_the_server_and_one_that_sends_is_answered() {
    let mut server = server().await;
    let mut idle = Backend::connect(&server).await;
    idle.send(&publish(&server)).await;
    assert_eq!(idle.answer().await.status(), "200");
    let mut sending = Backend::connect(&server).await;
    sending.send(&publish(&server)).await;
    assert_eq!(sending.answer().await.status(), "200");
    let text = publish(&server);
    sending.send(&text[..40]).await;
    // What was sent has arrived once another connection is answered after it.
    idle.send(&publish(&server)).await;
    assert_eq!(idle.answer().await.status(), "200");
    server.terminate();
    idle.ended().await;
    sending.send(&text[40..]).await;
    let answer = sending.answer().await;
    assert!(answer.closes(), "{}", answer.head);
    assert_eq!(server.stopped().await, Some(0));
}

#[tokio::test]
async fn a_later_head_that_comes_in_parts_has_no_longer_than_a_silent_client() {
    let server = server_with(&["http.header_timeout=1"]).await;
    let mut backend = Backend::connect(&server).await;
    backend.send(&publish(&server)).await;
    assert_eq!(backend.answer().await.status(), "200");
    let text = publish(&server);
    let begin = text.split_inclusive("\r\n").next().unwrap_or_default();
    backend.send(begin).await;
    let start = Instant::now();
    let mut read = [0; 1];
    let ended = loop {
        // Each line is a sign of life, and none is the last.
        let _ = backend.stream.write_all(b"x: y\r\n").await;
        let reading = timeout(Duration::from_millis(200), backend.stream.read(&mut read));
        if let Ok(ended) = reading.await {
            break ended;
        }
        assert!(start.elapsed() < Duration::from_secs(8));
    };
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    assert!(start.elapsed() > Duration::from_millis(800));
}
