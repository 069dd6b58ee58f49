//! The HTTP fallbacks as they are on the wire, beside what pusher-js proves: docs/compatibility.md#http-fallbacks.

use std::time::Duration;

use fanfare_protocol::SocketId;
use fanfare_protocol::signature::{SigningKey, channel_auth_text};
use fanfare_testkit::{KEY, SECRET, Server};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{server, server_with};

/// What a stream begins with.
const PRELUDE: usize = 2049;

/// A session as a client makes one, request by request.
struct Session {
    http: reqwest::Client,
    url: String,
}

impl Session {
    fn new(server: &Server, name: &str) -> Self {
        Self::of_key(server, KEY, name)
    }

    fn of_key(server: &Server, key: &str, name: &str) -> Self {
        Self {
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            url: format!("http://{}/pusher/app/{key}/{name}", server.address),
        }
    }

    async fn request(&self, method: Method, transport: &str, body: &str) -> Response {
        let url = format!(
            "{}/{transport}?protocol=7&client=js&version=8.6.0&t=1&n=1",
            self.url
        );
        self.http
            .request(method, url)
            .header("content-type", "application/json")
            .body(body.to_owned())
            .send()
            .await
            .unwrap()
    }

    async fn stream(&self) -> Stream {
        let response = self.request(Method::POST, "xhr_streaming", "").await;
        assert_eq!(response.status(), StatusCode::OK);
        Stream {
            response,
            rest: Vec::new(),
            units: 0,
        }
    }

    /// The lines of the next poll's answer.
    async fn poll(&self) -> Vec<String> {
        let response = self.request(Method::POST, "xhr", "").await;
        assert_eq!(response.status(), StatusCode::OK);
        let text = response.text().await.unwrap();
        assert!(text.ends_with('\n'), "{text:?}");
        text.lines().map(str::to_owned).collect()
    }

    async fn send(&self, frames: &[Value]) -> StatusCode {
        let frames: Vec<String> = frames.iter().map(Value::to_string).collect();
        self.send_body(&json!(frames).to_string()).await
    }

    async fn send_body(&self, body: &str) -> StatusCode {
        self.request(Method::POST, "xhr_send", body).await.status()
    }
}

/// An answer that is still being written.
struct Stream {
    response: Response,
    rest: Vec<u8>,
    /// What was read of it, as JavaScript counts.
    units: usize,
}

impl Stream {
    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let mut line: Vec<u8> = self.rest.drain(..=end).collect();
                line.pop();
                let line = String::from_utf8(line).unwrap();
                self.units += line.encode_utf16().count() + 1;
                return Some(line);
            }
            let chunk = timeout(Duration::from_secs(10), self.response.chunk());
            let chunk = chunk.await.expect("a line within ten seconds").unwrap()?;
            self.rest.extend_from_slice(&chunk);
        }
    }

    async fn event(&mut self) -> Value {
        event(&self.line().await.unwrap())
    }

    /// What comes before the first event.
    async fn greeting(&mut self) -> String {
        assert_eq!(self.line().await.unwrap().len() + 1, PRELUDE);
        assert_eq!(self.line().await.unwrap(), "o");
        socket_id(&self.event().await)
    }

    async fn expect_nothing(&mut self) {
        let line = timeout(Duration::from_millis(150), self.line()).await;
        assert!(line.is_err(), "{line:?}");
    }
}

/// The frame in a line.
fn event(line: &str) -> Value {
    let frames: Vec<String> = serde_json::from_str(line.strip_prefix('a').unwrap()).unwrap();
    assert_eq!(frames.len(), 1);
    serde_json::from_str(&frames[0]).unwrap()
}

fn socket_id(greeting: &Value) -> String {
    assert_eq!(greeting["event"], "pusher:connection_established");
    let data = fanfare_testkit::client::data(greeting);
    data["socket_id"].as_str().unwrap().to_owned()
}

fn subscribe(channel: &str) -> Value {
    json!({"event": "pusher:subscribe", "data": {"channel": channel}})
}

#[tokio::test]
async fn any_page_may_send_the_three_requests() {
    let server = server().await;
    for transport in ["xhr_streaming", "xhr", "xhr_send"] {
        let session = Session::new(&server, "12/abcdefgh");
        let url = format!("{}/{transport}", session.url);
        let preflight = session
            .http
            .request(Method::OPTIONS, url)
            .header("origin", "https://example.com")
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "content-type")
            .send()
            .await
            .unwrap();
        assert!(preflight.status().is_success());
        let header = |name: &str| preflight.headers()[name].to_str().unwrap().to_lowercase();
        assert_eq!(header("access-control-allow-origin"), "*");
        assert!(header("access-control-allow-methods").contains("post"));
        assert!(header("access-control-allow-headers").contains("content-type"));
        assert_ne!(header("access-control-max-age"), "0");
    }
    let refused = Session::new(&server, "12/abcdefgh");
    let refused = refused.request(Method::POST, "xhr_send", "[]").await;
    assert_eq!(refused.status(), StatusCode::NOT_FOUND);
    assert_eq!(refused.headers()["access-control-allow-origin"], "*");
}

#[tokio::test]
async fn a_stream_is_opened_greeted_and_never_stored_or_held_back() {
    let server = server().await;
    let session = Session::new(&server, "0/00000000");
    let mut stream = session.stream().await;
    let headers = stream.response.headers();
    assert_eq!(
        headers["content-type"],
        "application/javascript; charset=UTF-8"
    );
    assert_eq!(headers["cache-control"], "no-store, no-transform");
    assert_eq!(headers["x-accel-buffering"], "no");
    stream.greeting().await;
    assert_eq!(
        session.send(&[subscribe("news")]).await,
        StatusCode::NO_CONTENT
    );
    assert_eq!(
        stream.event().await["event"],
        "pusher_internal:subscription_succeeded"
    );
    server.api().publish("news", "headline", "\"é\\n🎉\"").await;
    let headline = stream.event().await;
    assert_eq!(
        (&headline["event"], &headline["data"]),
        (&json!("headline"), &json!("\"é\\n🎉\""))
    );
}

#[tokio::test]
async fn what_happens_between_two_polls_is_in_the_next_one() {
    let server = server().await;
    let session = Session::new(&server, "999/vvvvvvvv");
    let lines = session.poll().await;
    assert_eq!(lines[0], "o");
    socket_id(&event(&lines[1]));
    session.send(&[subscribe("a"), subscribe("b")]).await;
    let mut subscribed = session.poll().await;
    if subscribed.len() == 1 {
        subscribed.extend(session.poll().await);
    }
    assert_eq!(subscribed.len(), 2, "{subscribed:?}");
    for n in 0..3 {
        server.api().publish("a", "e", &n.to_string()).await;
    }
    let mut data = Vec::new();
    while data.len() < 3 {
        let lines = session.poll().await;
        data.extend(lines.iter().map(|line| event(line)["data"].clone()));
    }
    assert_eq!(data, ["0", "1", "2"]);
}

#[tokio::test]
async fn a_sign_of_life_is_not_answered() {
    let server = server().await;
    let session = Session::new(&server, "1/abcdefgh");
    let mut stream = session.stream().await;
    stream.greeting().await;
    for _ in 0..10 {
        assert_eq!(session.send_body("[]").await, StatusCode::NO_CONTENT);
    }
    stream.expect_nothing().await;
}

#[tokio::test]
async fn a_refusal_opens_the_session_says_why_and_closes_it() {
    let server = server().await;
    for transport in ["xhr_streaming", "xhr"] {
        let session = Session::of_key(&server, "nope", "1/abcdefgh");
        let answer = session.request(Method::POST, transport, "").await;
        assert_eq!(answer.status(), StatusCode::OK);
        let text = answer.text().await.unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "o");
        assert_eq!(event(lines[1])["data"]["code"], 4001);
        assert!(lines[2].starts_with("c[4001,\""), "{lines:?}");
        assert_eq!(session.send_body("[]").await, StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn a_session_is_a_connection_of_its_app() {
    let server = server_with(&["connections.max=1"]).await;
    let session = Session::new(&server, "1/abcdefgh");
    let mut stream = session.stream().await;
    stream.greeting().await;
    // From its second request on.
    session.send(&[subscribe("news")]).await;
    assert_eq!(
        stream.event().await["event"],
        "pusher_internal:subscription_succeeded"
    );
    let second = Session::new(&server, "2/abcdefgh");
    assert_eq!(second.poll().await[0], "o");
    let refused = second.poll().await;
    assert!(
        refused.last().unwrap().starts_with("c[4100,"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_body_that_is_no_array_of_frames_is_refused_and_the_session_goes_on() {
    let server = server().await;
    let session = Session::new(&server, "1/abcdefgh");
    let mut stream = session.stream().await;
    stream.greeting().await;
    for bad in ["", "{}", "[1]", "[\"a\"", "nonsense"] {
        assert_eq!(
            session.send_body(bad).await,
            StatusCode::BAD_REQUEST,
            "{bad}"
        );
    }
    let long = json!(["x".repeat(1 << 20)]).to_string();
    assert_eq!(
        session.send_body(&long).await,
        StatusCode::PAYLOAD_TOO_LARGE
    );
    for name in ["1/a.b", "1/%2e%2e", "1/%ff"] {
        let odd = Session::new(&server, name).send_body("[]").await;
        assert!(odd.is_client_error(), "{name}");
    }
    session.send(&[json!("no event"), subscribe("news")]).await;
    assert_eq!(stream.event().await["event"], "pusher:error");
    assert_eq!(
        stream.event().await["event"],
        "pusher_internal:subscription_succeeded"
    );
}

#[tokio::test]
async fn a_newer_request_for_lines_takes_over_without_opening_the_session_again() {
    let server = server().await;
    let session = Session::new(&server, "1/abcdefgh");
    let mut first = session.stream().await;
    first.greeting().await;
    session.send(&[subscribe("news")]).await;
    first.event().await;
    let mut second = session.stream().await;
    assert_eq!(first.line().await, None);
    assert_eq!(second.line().await.unwrap().len() + 1, PRELUDE);
    server.api().publish("news", "e", "1").await;
    assert_eq!(second.event().await["event"], "e");
}

#[tokio::test]
async fn a_stream_waits_where_clients_ask_for_the_next_one_and_nothing_is_lost() {
    let server = server().await;
    let session = Session::new(&server, "1/abcdefgh");
    let mut stream = session.stream().await;
    stream.greeting().await;
    session.send(&[subscribe("news")]).await;
    stream.event().await;
    let data = |n: usize| format!("{n}:{}", "é".repeat(4000));
    let (api, mut published, mut seen) = (server.api(), 0, 0);
    for streams in 1.. {
        // pusher-js asks anew once all that it got is longer than this.
        while stream.units <= 256 * 1024 && seen < 200 {
            // Always some on their way, also when a stream ends.
            while published < (seen + 20).min(200) {
                api.publish("news", "e", &data(published)).await;
                published += 1;
            }
            let line = stream.line().await.unwrap();
            if line.starts_with('a') {
                assert_eq!(event(&line)["data"], data(seen));
                seen += 1;
            } else {
                assert_eq!(line.len() + 1, PRELUDE);
            }
        }
        assert_eq!(stream.rest, b"");
        if seen == 200 {
            assert!(streams >= 3, "{streams}");
            return;
        }
        stream = session.stream().await;
    }
}

#[tokio::test]
async fn a_client_that_stays_away_is_gone_after_a_while() {
    let server = server().await;
    let session = Session::new(&server, "1/abcdefgh");
    let mut stream = session.stream().await;
    let socket_id = stream.greeting().await;
    let member = json!({"user_id": "ada"}).to_string();
    let text = channel_auth_text(
        SocketId::parse(&socket_id).unwrap(),
        "presence-a",
        Some(&member),
    );
    let auth = format!("{KEY}:{}", SigningKey::new(SECRET).sign(&text));
    let join = json!({"channel": "presence-a", "auth": auth, "channel_data": member});
    session
        .send(&[json!({"event": "pusher:subscribe", "data": join})])
        .await;
    stream.event().await;
    drop(stream);
    let left = async {
        while server.api().get("channels/presence-a", &[]).await.json()["occupied"] == true {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(Duration::from_secs(10), left).await.unwrap();
    assert_eq!(session.send_body("[]").await, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_stopping_server_ends_streams_and_polls_with_4200() {
    let mut server = server_with(&["drain.period=0"]).await;
    let streaming = Session::new(&server, "1/abcdefgh");
    let mut stream = streaming.stream().await;
    stream.greeting().await;
    let polling = Session::new(&server, "2/abcdefgh");
    polling.poll().await;
    let poll = tokio::spawn(async move { polling.poll().await });
    server.terminate();
    assert_eq!(stream.event().await["data"]["code"], 4200);
    assert!(stream.line().await.unwrap().starts_with("c[4200,"));
    assert_eq!(stream.line().await, None);
    let lines = poll.await.unwrap();
    assert!(lines.last().unwrap().starts_with("c[4200,"), "{lines:?}");
    assert_eq!(server.stopped().await, Some(0), "{}", server.log());
}

#[tokio::test]
async fn the_body_of_a_stranger_is_not_kept() {
    let server = server().await;
    let stranger = Session::new(&server, "123/nobodyaa");
    let body = json!(["x".repeat(2 << 20)]).to_string();
    // Larger than a body may be: it was not looked at.
    assert_eq!(stranger.send_body(&body).await, StatusCode::NOT_FOUND);
}
