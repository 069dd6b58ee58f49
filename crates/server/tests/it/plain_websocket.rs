//! Clients that don't speak Pusher's protocol, over real sockets (docs/any-client.md).

use fanfare_protocol::signature::SigningKey;
use fanfare_protocol::signed_url::sign_url;
use fanfare_testkit::api::now;
use fanfare_testkit::{APP_ID, Client, Frame, KEY, OWNER_SETTING, SECRET, Server};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::{server, server_with};

const CHAT: &str = "chat-1";

async fn open(server: &Server, query: &str) -> Client {
    let path = format!("/ws/{KEY}{query}");
    Client::open(server.address, &path, &[]).await.unwrap()
}

/// Lets clients write on public chats, and waits until that is active.
async fn open_chats(server: &Server) {
    let setting = ["app", "update", APP_ID, "--setting"];
    server.run_ok(&[&setting[..], &["client_event_channels=chat-*"]].concat());
    server.run_ok(&[&setting[..], &["client_events=true"]].concat());
    let mut client = open(server, "?channels=chat-0").await;
    client.expect("pusher:connection_established").await;
    client.expect("pusher:subscription_succeeded").await;
    loop {
        client
            .send(&json!({"type": "event", "channel": "chat-0", "event": "client-x", "ref": 1}))
            .await;
        if client.event().await["event"] == "pusher:ack" {
            return;
        }
    }
}

#[tokio::test]
async fn clients_of_all_kinds_talk_on_one_channel() {
    let server = server_with(&[OWNER_SETTING]).await;
    open_chats(&server).await;
    let mut pusher = server.connect().await;
    pusher.subscribe(CHAT).await;
    let mut object = open(&server, "?channels=news%2Cchat-1&client=robot").await;
    object.expect("pusher:connection_established").await;
    for channel in ["news", CHAT] {
        let succeeded = object.expect("pusher:subscription_succeeded").await;
        assert_eq!(succeeded["channel"], channel);
    }
    let mut raw = open(&server, "?raw=chat-1").await;
    // A raw client is told nothing, but its own words come after its subscription.
    raw.send_message(Message::text("good morning")).await;
    let said = object.expect("client-message").await;
    assert_eq!(said["data"], "good morning");
    assert_eq!(pusher.event().await["data"], "good morning");
    object
        .send(&json!({"type": "event", "channel": CHAT, "event": "client-say", "data": {"n": 1}, "ref": "r"}))
        .await;
    assert_eq!(object.expect("pusher:ack").await["ref"], "r");
    assert_eq!(raw.text().await, r#"{"n":1}"#);
    server.api().publish(CHAT, "say", "from the backend").await;
    assert_eq!(raw.text().await, "from the backend");
    assert_eq!(pusher.event().await["data"], r#"{"n":1}"#);
    assert_eq!(pusher.event().await["data"], "from the backend");
    let event = object.expect("say").await;
    assert_eq!(
        event,
        json!({"channel": CHAT, "event": "say", "data": "from the backend"})
    );
    let owner = server.owner().await;
    let path = format!("/apps/{APP_ID}/connections");
    let listed = owner.get(&path).await.expect(200);
    let shown: Vec<_> = listed["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|connection| format!("{} {}", connection["transport"], connection["client"]))
        .collect();
    for connection in [
        r#""plain_websocket" "robot""#,
        r#""plain_websocket" "websocket""#,
        r#""websocket" "js""#,
    ] {
        assert!(shown.iter().any(|one| one == connection), "{shown:?}");
    }
}

#[tokio::test]
async fn what_is_refused_is_a_close_code_and_for_objects_an_error_before_it() {
    let server = server().await;
    for (path, code) in [
        ("/ws/unknown?channels=a".to_owned(), 4001),
        (format!("/ws/{KEY}?rewind=x"), 1008),
        ("/ws/".into(), 4005),
    ] {
        let mut client = Client::open(server.address, &path, &[]).await.unwrap();
        let error = client.expect("pusher:error").await;
        let told = if code < 4000 {
            Value::Null
        } else {
            code.into()
        };
        assert_eq!(error["data"]["code"], told, "{path}: {error}");
        assert_eq!(client.closed().await, code, "{path}");
    }
    for path in [
        "/ws/unknown?raw=a".to_owned(),
        format!("/ws/{KEY}?raw=private-a"),
        format!("/ws/{KEY}?raw=a&channels=b"),
    ] {
        let mut client = Client::open(server.address, &path, &[]).await.unwrap();
        let frame = client.frame().await;
        assert!(
            matches!(frame, Frame::Close(1008 | 4001 | 4009)),
            "{path}: {frame:?}"
        );
    }
    let setting = format!("{KEY}?channels=a");
    let origins = [
        "app",
        "update",
        APP_ID,
        "--setting",
        "allowed_origins=https://a.example",
    ];
    server.run_ok(&origins);
    let path = format!("/ws/{setting}");
    loop {
        let evil = [("origin", "https://evil.example")];
        let mut client = Client::open(server.address, &path, &evil).await.unwrap();
        // Until the change is active, a connection may still be taken.
        if client.event().await["event"] == "pusher:error" {
            assert_eq!(client.closed().await, 4009);
            break;
        }
    }
}

#[tokio::test]
async fn a_client_returns_to_what_it_missed_and_signs_for_private_channels() {
    let server = server().await;
    let rules = r#"history=[{"channels":"kept*","size":10,"ttl":60}]"#;
    server.run_ok(&["app", "update", APP_ID, "--setting", rules]);
    // Positions come once the setting is active.
    let (mut client, position) = loop {
        let mut client = open(&server, "?channels=kept").await;
        let greeting = client.expect("pusher:connection_established").await;
        client.socket_id = greeting["data"]["socket_id"].as_str().unwrap().to_owned();
        let succeeded = client.expect("pusher:subscription_succeeded").await;
        if let Some(position) = succeeded["data"]["position"].as_str() {
            break (client, position.to_owned());
        }
    };
    for n in 1..=3 {
        server.api().publish("kept", "n", &n.to_string()).await;
        let event = client.expect("n").await;
        assert_eq!(event["data"], n);
        assert!(event["position"].is_string());
    }
    let mut late = open(&server, "?channels=kept&rewind=2").await;
    late.expect("pusher:connection_established").await;
    late.expect("pusher:subscription_succeeded").await;
    assert_eq!(late.event().await["data"], 2);
    let mut raw = open(&server, "?raw=kept&rewind=2").await;
    assert_eq!(raw.text().await, "2");
    assert_eq!(raw.text().await, "3");
    let mut back = open(&server, "").await;
    back.expect("pusher:connection_established").await;
    back.send(&json!({"type": "subscribe", "channel": "kept", "recover": {"position": position}, "ref": 1}))
        .await;
    let succeeded = back.expect("pusher:subscription_succeeded").await;
    assert_eq!(succeeded["data"]["recovered"], true);
    for n in 1..=3 {
        assert_eq!(back.event().await["data"], n);
    }
    back.expect("pusher:ack").await;
    let auth = client.auth("private-a", None);
    client
        .send(&json!({"type": "subscribe", "channel": "private-a", "auth": auth, "ref": 2}))
        .await;
    client.expect("pusher:subscription_succeeded").await;
    client.expect("pusher:ack").await;
    assert!(auth.starts_with(KEY) && !auth.contains(SECRET));
}

#[tokio::test]
async fn bad_frames_end_their_connection_alone() {
    let server = server().await;
    let mut other = open(&server, "?channels=a").await;
    other.expect("pusher:connection_established").await;
    other.expect("pusher:subscription_succeeded").await;
    for (query, codeless) in [("?channels=a", true), ("?raw=a", false)] {
        let mut client = open(&server, query).await;
        if codeless {
            client.expect("pusher:connection_established").await;
            client.expect("pusher:subscription_succeeded").await;
        }
        client.send_message(Message::binary(vec![1, 2, 3])).await;
        if codeless {
            assert!(client.complaint().await.contains("Binary"));
        }
        assert_eq!(client.closed().await, 1003, "{query}");
    }
    server.api().publish("a", "n", "1").await;
    assert_eq!(other.event().await["data"], 1);
}

#[tokio::test]
async fn a_url_that_the_backend_has_signed_opens_private_and_presence_channels() {
    let server = server().await;
    let path = format!("/ws/{KEY}");
    let signed = |query: &str| {
        let query = sign_url(&path, query, &SigningKey::new(SECRET), now() + 60);
        format!("?{query}")
    };
    let member = "channel_data=%7B%22user_id%22%3A%22ada%22%7D";
    let query = signed(&format!("channels=private-a,presence-a&{member}"));
    let mut client = open(&server, &query).await;
    client.expect("pusher:connection_established").await;
    client.expect("pusher:subscription_succeeded").await;
    let succeeded = client.expect("pusher:subscription_succeeded").await;
    assert_eq!(succeeded["data"]["presence"]["ids"], json!(["ada"]));
    let mut raw = open(&server, &signed("raw=private-a&rewind=1")).await;
    raw.send_message(Message::Ping(Vec::new().into())).await;
    assert_eq!(raw.frame().await, Frame::Pong(Vec::new()));
    server.api().publish("private-a", "n", "\"1\"").await;
    assert_eq!(raw.text().await, "\"1\"");
    assert_eq!(client.expect("n").await["data"], "1");
    // What a client adds to a signed URL opens nothing, and what is not signed opens nothing either.
    for (query, code) in [
        (format!("{}&channels=private-b", signed("")), None),
        (query.replace("private-a", "private-b"), Some(4009)),
        ("?channels=a,private-b".into(), Some(4009)),
        ("?channels=private-encrypted-b".into(), Some(1008)),
    ] {
        let mut client = open(&server, &query).await;
        match code {
            None => {
                client.expect("pusher:connection_established").await;
                client.expect_nothing().await;
            }
            Some(code) => {
                client.expect("pusher:error").await;
                assert_eq!(client.closed().await, code, "{query}");
            }
        }
    }
}
