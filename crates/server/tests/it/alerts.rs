//! Alerts of a running node: to its targets, in the admin API and the audit log, silenced by hand.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fanfare_testkit::{APP_ID, Server};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::server_with;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A request that a target got.
struct Request {
    headers: Vec<(String, String)>,
    body: String,
}

impl Request {
    fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(header, _)| header == name);
        &found.unwrap_or_else(|| panic!("no {name}")).1
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// Starts a target, which refuses the first `refusals` requests.
async fn target(mut refusals: usize) -> (String, mpsc::UnboundedReceiver<Request>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let (send, receive) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = BufReader::new(stream);
            let mut headers = Vec::new();
            loop {
                let mut line = String::new();
                stream.read_line(&mut line).await.unwrap();
                match line.trim_end().split_once(": ") {
                    Some((name, value)) => headers.push((name.to_lowercase(), value.to_owned())),
                    None if line.trim_end().is_empty() => break,
                    None => {}
                }
            }
            let length = headers.iter().find(|(name, _)| name == "content-length");
            let mut body = vec![0; length.map_or(0, |(_, length)| length.parse().unwrap())];
            stream.read_exact(&mut body).await.unwrap();
            let status = if refusals > 0 {
                "503 Unavailable"
            } else {
                "200 OK"
            };
            refusals = refusals.saturating_sub(1);
            let answer =
                format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
            let body = String::from_utf8(body).unwrap();
            let _ = send.send(Request { headers, body });
        }
    });
    (url, receive)
}

async fn next(requests: &mut mpsc::UnboundedReceiver<Request>) -> Request {
    let next = timeout(Duration::from_secs(30), requests.recv()).await;
    next.expect("a notification in time").unwrap()
}

/// Publishes far more than the app may, until the task is aborted.
fn flood(server: &Server) -> tokio::task::JoinHandle<()> {
    server.run_ok(&[
        "app",
        "update",
        APP_ID,
        "--setting",
        "limits.backend_events_per_second=5",
    ]);
    let api = server.api();
    let body = json!({"name": "e", "channel": "flood", "data": "secret payload"}).to_string();
    tokio::spawn(async move {
        loop {
            api.post("events", body.clone()).await;
        }
    })
}

fn settings(url: &str) -> Vec<String> {
    vec![
        format!("alerts.url={url}"),
        format!("alerts.secret={SECRET}"),
        "alerts.wait=1".into(),
        "alerts.calm=2".into(),
        "usage.flush_period=1".into(),
    ]
}

#[tokio::test]
async fn an_alert_and_its_end_reach_a_target_that_verifies_them_and_are_in_the_audit_log() {
    let (url, mut requests) = target(1).await;
    let settings = settings(&url);
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let server = server_with(&settings).await;
    let flood = flood(&server);
    let refused = next(&mut requests).await;
    let opened = next(&mut requests).await;
    assert_eq!(
        refused.header("webhook-id"),
        opened.header("webhook-id"),
        "sent again"
    );
    let body = opened.json();
    assert_eq!(body["type"], "alert.opened");
    assert_eq!(body["data"]["kind"], "publishes_refused");
    assert_eq!(body["data"]["app_id"], APP_ID);
    assert!(
        !opened.body.contains("payload") && !opened.body.contains("flood"),
        "{body}"
    );

    let key = STANDARD
        .decode(SECRET.strip_prefix("whsec_").unwrap())
        .unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
    let (id, at) = (
        opened.header("webhook-id"),
        opened.header("webhook-timestamp"),
    );
    mac.update(format!("{id}.{at}.{}", opened.body).as_bytes());
    let signature = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
    assert_eq!(opened.header("webhook-signature"), signature);

    flood.abort();
    let resolved = next(&mut requests).await.json();
    assert_eq!(resolved["type"], "alert.resolved");
    assert_eq!(resolved["data"]["id"], body["data"]["id"]);
    let audit = server.run_ok(&["audit", "list", "--json"]);
    for action in ["alert.open", "alert.resolve"] {
        assert!(audit.contains(action), "{audit}");
    }
}

#[tokio::test]
async fn a_silenced_alert_is_listed_and_nobody_is_notified() {
    let (url, mut requests) = target(0).await;
    let mut settings = settings(&url);
    settings.push(format!("alerts.chat_url={url}"));
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let server = server_with(&settings).await;
    let first = flood(&server);
    let (one, other) = (next(&mut requests).await, next(&mut requests).await);
    let chat = [&one, &other]
        .into_iter()
        .find(|request| request.json()["text"].is_string());
    let text = chat.expect("a chat message").json()["text"].to_string();
    assert!(
        text.contains("publishes_refused") && text.contains(APP_ID),
        "{text}"
    );

    let listed: Value =
        serde_json::from_str(&server.run_ok(&["alert", "list", "--open", "--json"])).unwrap();
    let id = listed["items"][0]["id"].as_str().unwrap();
    server.run_ok(&["alert", "silence", id, "--for", "1h"]);
    first.abort();
    let is_open = || {
        let listed = server.run_ok(&["alert", "list", "--open", "--json"]);
        listed.contains("publishes_refused")
    };
    while is_open() {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let second = flood(&server);
    while !is_open() {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    second.abort();
    let more = requests.try_recv().ok().map(|request| request.json());
    assert_eq!(more, None, "neither the end nor the next alert");
}
