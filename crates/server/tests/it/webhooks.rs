//! Webhooks: docs/compatibility.md#webhooks, C-093 to C-097. What a receiver hears of what clients do.

use std::collections::{HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use fanfare_protocol::signature::SigningKey;
use fanfare_store::{Actor, Database, MasterKey, NewWebhook, Store, WebhookRecord, WebhookState};
use fanfare_testkit::{APP_ID, Admin, KEY, OWNER_SETTING, SECRET, Server};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::server_with;

/// How long a receiver may hear nothing of what it is owed.
const PATIENCE: Duration = Duration::from_secs(30);

/// A request as a receiver hears it.
#[derive(Debug, Clone)]
struct Request {
    headers: Vec<(String, String)>,
    body: String,
}

impl Request {
    fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value)
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    fn events(&self) -> Vec<Value> {
        self.json()["events"].as_array().unwrap().clone()
    }

    /// Checks what the SDKs check.
    fn assert_signed(&self) {
        assert_eq!(self.header("content-type"), "application/json");
        assert_eq!(self.header("x-pusher-key"), KEY);
        let signature = SigningKey::new(SECRET).sign(&self.body);
        assert_eq!(self.header("x-pusher-signature"), signature);
    }
}

/// A receiver that answers as its script says, and 200 afterwards.
struct Receiver {
    address: SocketAddr,
    heard: mpsc::UnboundedReceiver<Request>,
    script: Arc<Mutex<VecDeque<&'static str>>>,
}

impl Receiver {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (hear, heard) = mpsc::unbounded_channel();
        let script: Arc<Mutex<VecDeque<&str>>> = Arc::default();
        let answers = Arc::clone(&script);
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                tokio::spawn(answer_all(socket, hear.clone(), Arc::clone(&answers)));
            }
        });
        Self {
            address,
            heard,
            script,
        }
    }

    fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// Answers the next requests with these statuses.
    fn answer(&self, statuses: &[&'static str]) {
        self.script.lock().extend(statuses);
    }

    async fn next(&mut self) -> Request {
        let next = timeout(PATIENCE, self.heard.recv()).await;
        next.expect("the receiver hears something").unwrap()
    }

    /// Returns the next event of a delivery that wasn't heard before. After a crash, a delivery may come again.
    async fn next_new_event(&mut self, heard: &mut HashSet<String>) -> Value {
        loop {
            let request = self.next().await;
            if heard.insert(request.header("fanfare-delivery").to_owned()) {
                return request.events().remove(0);
            }
        }
    }

    /// Returns the next event, which is alone in its request.
    async fn next_event(&mut self) -> Value {
        let request = self.next().await;
        request.assert_signed();
        let [event] = request.events().try_into().unwrap();
        event
    }
}

async fn answer_all(
    mut socket: TcpStream,
    hear: mpsc::UnboundedSender<Request>,
    script: Arc<Mutex<VecDeque<&'static str>>>,
) {
    let mut bytes = Vec::new();
    loop {
        let head = loop {
            if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            if socket.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                return;
            }
        };
        let text = String::from_utf8(bytes[..head].to_vec()).unwrap();
        let headers: Vec<_> = text
            .lines()
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        let mut request = Request {
            headers,
            body: String::new(),
        };
        let length: usize = request.header("content-length").parse().unwrap();
        while bytes.len() < head + length {
            assert_ne!(socket.read_buf(&mut bytes).await.unwrap(), 0);
        }
        request.body = String::from_utf8(bytes[head..head + length].to_vec()).unwrap();
        bytes.drain(..head + length);
        let _ = hear.send(request);
        let status = script.lock().pop_front().unwrap_or("200 OK");
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
        if socket.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn start() -> Server {
    server_with(&["webhooks.allow_inner_addresses=true", OWNER_SETTING]).await
}

/// Opens the server's store, as another process does.
async fn store(server: &Server) -> Store {
    let folder = server.data_dir();
    let database = Database::open_existing(&folder.join("fanfare.db"))
        .await
        .unwrap();
    let key = std::fs::read_to_string(folder.join("master.key")).unwrap();
    let key = MasterKey::parse(key.trim()).unwrap();
    database.unlock(key).await.unwrap()
}

/// Creates a webhook, and waits until the node knows of it.
async fn webhook(
    server: &Server,
    receiver: &Receiver,
    change: impl FnOnce(&mut NewWebhook),
) -> WebhookRecord {
    let mut new = NewWebhook {
        name: "test".into(),
        url: Some(receiver.url()),
        ..NewWebhook::default()
    };
    change(&mut new);
    let store = store(server).await;
    let created = store
        .create_webhook(APP_ID, new, 10, &Actor::system())
        .await
        .unwrap();
    until_webhooks_are(server, "active", 1).await;
    created
}

async fn metrics(owner: &Admin) -> String {
    owner.send("GET", "/metrics", &[], None).await.text
}

/// Waits until the node knows of so many webhooks in a state.
async fn until_webhooks_are(server: &Server, state: &str, count: usize) {
    let line = format!("fanfare_webhooks{{state=\"{state}\"}} {count}");
    let owner = server.owner().await;
    let known = async {
        while !metrics(&owner).await.contains(&line) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, known)
        .await
        .expect("the node knows of the webhook");
}

#[tokio::test]
async fn a_visit_of_a_member_is_told_in_order_and_signed() {
    let (server, mut receiver) = (start().await, Receiver::start().await);
    webhook(&server, &receiver, |_| {}).await;
    let mut client = server.connect().await;
    client.join("presence-a", r#"{"user_id":"7"}"#).await;
    for name in ["channel_occupied", "member_added"] {
        assert_eq!(receiver.next_event().await["name"], name);
    }
    drop(client);
    let left = receiver.next_event().await;
    assert_eq!(
        left,
        json!({"name": "member_removed", "channel": "presence-a", "user_id": "7"})
    );
    let vacated = receiver.next_event().await;
    assert_eq!(
        vacated,
        json!({"name": "channel_vacated", "channel": "presence-a"})
    );
}

#[tokio::test]
async fn a_member_who_returns_within_the_grace_is_told_of_once() {
    let (server, mut receiver) = (start().await, Receiver::start().await);
    webhook(&server, &receiver, |_| {}).await;
    for _ in 0..3 {
        let mut client = server.connect().await;
        client.join("presence-a", r#"{"user_id":"7"}"#).await;
    }
    let mut names = Vec::new();
    for _ in 0..4 {
        names.push(receiver.next_event().await["name"].clone());
    }
    let story = [
        "channel_occupied",
        "member_added",
        "member_removed",
        "channel_vacated",
    ];
    assert_eq!(names, story);
}

#[tokio::test]
async fn client_events_and_one_cache_miss_of_many_are_told() {
    let (server, mut receiver) = (start().await, Receiver::start().await);
    let events = ["client_event", "cache_miss"].map(Into::into).to_vec();
    webhook(&server, &receiver, |new| new.events = Some(events)).await;
    server.run_ok(&["app", "update", APP_ID, "--setting", "client_events=true"]);
    let mut sender = server.connect().await;
    sender.join("presence-a", r#"{"user_id":"7"}"#).await;
    let auth = sender.auth("private-a", None);
    let subscribe =
        json!({"event": "pusher:subscribe", "data": {"channel": "private-a", "auth": auth}});
    sender.send(&subscribe).await;
    sender
        .expect("pusher_internal:subscription_succeeded")
        .await;
    let socket_id = sender.socket_id.clone();
    for channel in ["presence-a", "private-a"] {
        let event = json!({"event": "client-x", "channel": channel, "data": {"n": 1}});
        sender.send(&event).await;
    }
    let expected = json!({
        "name": "client_event", "channel": "presence-a", "event": "client-x", "data": "{\"n\":1}",
        "socket_id": socket_id, "user_id": "7",
    });
    let (first, second) = (receiver.next_event().await, receiver.next_event().await);
    let of_private = |event: &Value| event["channel"] == "private-a";
    let (private, presence) = match of_private(&first) {
        true => (first, second),
        false => (second, first),
    };
    assert_eq!(presence, expected);
    assert!(private.get("user_id").is_none(), "{private}");
    for _ in 0..5 {
        let mut client = server.connect().await;
        client.subscribe("cache-a").await;
    }
    assert_eq!(
        receiver.next_event().await,
        json!({"name": "cache_miss", "channel": "cache-a"})
    );
    sender
        .send(&json!({"event": "client-last", "channel": "presence-a", "data": ""}))
        .await;
    assert_eq!(
        receiver.next_event().await["event"],
        "client-last",
        "one miss was told"
    );
}

#[tokio::test]
async fn a_refused_delivery_comes_again_with_the_same_body_and_holds_up_its_channel() {
    let (server, mut receiver) = (start().await, Receiver::start().await);
    webhook(&server, &receiver, |new| new.channels = vec!["news".into()]).await;
    receiver.answer(&["500 Internal Server Error", "302 Found"]);
    let mut client = server.connect().await;
    client.subscribe("news").await;
    client.subscribe("other").await;
    let first = receiver.next().await;
    first.assert_signed();
    drop(client);
    for attempt in ["2", "3"] {
        let again = receiver.next().await;
        assert_eq!(again.header("fanfare-attempt"), attempt);
        assert_eq!(again.body, first.body);
        for header in ["x-pusher-signature", "fanfare-delivery", "fanfare-sequence"] {
            assert_eq!(again.header(header), first.header(header));
        }
    }
    assert_eq!(receiver.next_event().await["name"], "channel_vacated");
}

#[tokio::test]
async fn what_waits_is_sent_at_once_when_the_webhook_is_enabled() {
    let (server, mut receiver) = (start().await, Receiver::start().await);
    let created = webhook(&server, &receiver, |_| {}).await;
    receiver.answer(&["500 Internal Server Error"; 4]);
    server.connect().await.subscribe("news").await;
    // The gaps are 1, 2, 4 and 8 seconds.
    for _ in 0..4 {
        receiver.next().await;
    }
    let path = format!("/apps/{APP_ID}/webhooks/{}/state", created.id);
    let owner = server.owner().await;
    owner
        .put(&path, &json!({"state": "active"}))
        .await
        .expect(200);
    let soon = timeout(Duration::from_secs(6), receiver.next()).await;
    assert_eq!(soon.expect("at once").header("fanfare-attempt"), "5");
}

#[tokio::test]
async fn a_batched_webhook_gets_what_comes_together_in_one_request() {
    let (server, mut receiver) = (start().await, Receiver::start().await);
    webhook(&server, &receiver, |new| new.is_batched = true).await;
    let mut clients = Vec::new();
    for user in 0..30 {
        let mut client = server.connect().await;
        client
            .join(
                "presence-a",
                &json!({"user_id": user.to_string()}).to_string(),
            )
            .await;
        clients.push(client);
    }
    drop(clients);
    let (mut requests, mut names) = (0, Vec::new());
    while names.last() != Some(&json!("channel_vacated")) {
        let request = receiver.next().await;
        request.assert_signed();
        requests += 1;
        names.extend(request.events().iter().map(|event| event["name"].clone()));
    }
    assert_eq!(names.len(), 62);
    assert_eq!(names[0], "channel_occupied");
    assert!(requests < 20, "{requests} requests for 62 events");
}

#[tokio::test]
async fn a_receiver_that_is_gone_disables_its_webhook_which_goes_on_recording() {
    let (server, mut receiver) = (start().await, Receiver::start().await);
    let created = webhook(&server, &receiver, |_| {}).await;
    receiver.answer(&["410 Gone"]);
    let mut client = server.connect().await;
    client.subscribe("news").await;
    receiver.next().await;
    until_webhooks_are(&server, "disabled", 1).await;
    let store = store(&server).await;
    let disabled = store.webhook(APP_ID, &created.id).await.unwrap();
    assert_eq!(disabled.state, WebhookState::Disabled);
    client.subscribe("more").await;
    let by = Actor::system();
    let (app, id, active) = (APP_ID, created.id.as_str(), WebhookState::Active);
    store
        .set_webhook_state(app, id, active, None, None, &by)
        .await
        .unwrap();
    let mut channels = [receiver.next_event().await, receiver.next_event().await];
    channels.sort_by_key(|event| event["channel"].to_string());
    assert_eq!(
        channels.map(|event| event["channel"].clone()),
        ["more", "news"]
    );
}

#[tokio::test]
async fn a_server_that_is_killed_says_afterwards_what_receivers_are_owed() {
    let (mut server, mut receiver) = (start().await, Receiver::start().await);
    webhook(&server, &receiver, |_| {}).await;
    let mut client = server.connect().await;
    client.join("presence-a", r#"{"user_id":"7"}"#).await;
    client.join("presence-b", r#"{"user_id":"7"}"#).await;
    let mut heard = HashSet::new();
    for _ in 0..4 {
        receiver.next_new_event(&mut heard).await;
    }
    server.kill().await;
    server.start_again().await;
    let mut client = server.connect().await;
    client.join("presence-b", r#"{"user_id":"7"}"#).await;
    // Of the channel that nobody has come back to, 20 seconds after the start.
    let removed = receiver.next_new_event(&mut heard).await;
    assert_eq!(
        removed,
        json!({"name": "member_removed", "channel": "presence-a", "user_id": "7"})
    );
    let vacated = receiver.next_new_event(&mut heard).await;
    assert_eq!(
        vacated,
        json!({"name": "channel_vacated", "channel": "presence-a"})
    );
    drop(client);
    for name in ["member_removed", "channel_vacated"] {
        let event = receiver.next_new_event(&mut heard).await;
        assert_eq!(
            (&event["name"], &event["channel"]),
            (&json!(name), &json!("presence-b"))
        );
    }
}

#[tokio::test]
async fn what_was_recorded_is_sent_after_a_restart() {
    let (mut server, mut receiver) = (start().await, Receiver::start().await);
    webhook(&server, &receiver, |_| {}).await;
    receiver.answer(&["503 Service Unavailable"; 3]);
    let mut client = server.connect().await;
    client.subscribe("news").await;
    let first = receiver.next().await;
    server.kill().await;
    server.start_again().await;
    let again = loop {
        let again = receiver.next().await;
        if receiver.script.lock().is_empty() {
            break again;
        }
    };
    assert_eq!(
        again.header("fanfare-delivery"),
        first.header("fanfare-delivery")
    );
    assert_eq!(again.events(), first.events());
}
