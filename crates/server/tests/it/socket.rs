//! Connections: docs/compatibility.md#connections.

use fanfare_testkit::client::data;
use fanfare_testkit::{Client, Frame, KEY, Server};
use serde_json::json;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::{server, server_with};

async fn refusal(server: &Server, path: &str) -> (u16, u16) {
    let mut client = Client::open(server.address, path, &[])
        .await
        .expect("always upgraded");
    let error = client.expect("pusher:error").await;
    assert!(error["data"]["message"].is_string());
    let code = u16::try_from(error["data"]["code"].as_u64().unwrap()).unwrap();
    (code, client.closed().await)
}

#[tokio::test]
async fn the_first_frame_is_the_greeting_for_every_protocol() {
    let server = server().await;
    for protocol in 4..=7 {
        let path =
            format!("/app/{KEY}?client=java-client&protocol={protocol}&version=2.4.4&protocol=x");
        let mut client = Client::open(server.address, &path, &[]).await.unwrap();
        let greeting = client.expect("pusher:connection_established").await;
        let data = data(&greeting);
        assert_eq!(data["activity_timeout"], 120);
        let (high, low) = data["socket_id"].as_str().unwrap().split_once('.').unwrap();
        assert!(
            high.parse::<u32>().is_ok() && low.parse::<u32>().is_ok(),
            "{data}"
        );
    }
}

#[tokio::test]
async fn a_refusal_is_an_error_frame_and_the_same_close_code() {
    let server = server().await;
    for (path, code) in [
        ("/app/nope?protocol=7", 4001),
        ("/app/a%20b?protocol=7", 4001),
        ("/app/?protocol=7", 4005),
        ("/app?protocol=7", 4005),
        ("/app/%ff?protocol=7", 4005),
        ("/nowhere?protocol=7", 4005),
        ("/", 4005),
        ("/apps/1234567/events", 4005),
        (&*format!("/app/{KEY}?protocol=3"), 4007),
        (&*format!("/app/{KEY}?protocol=99"), 4007),
        (&*format!("/app/{KEY}?protocol=abc"), 4007),
        (&*format!("/app/{KEY}"), 4008),
    ] {
        assert_eq!(refusal(&server, path).await, (code, code), "{path}");
    }
}

#[tokio::test]
async fn a_full_node_refuses_with_4100() {
    let server = server_with(&["connections.max=1"]).await;
    let _first = server.connect().await;
    assert_eq!(
        refusal(&server, &format!("/app/{KEY}?protocol=7")).await,
        (4100, 4100)
    );
}

#[tokio::test]
async fn an_offered_subprotocol_is_echoed_and_none_is_made_up() {
    let server = server().await;
    let path = format!("/app/{KEY}?protocol=7");
    let offer = [(
        "sec-websocket-protocol",
        "other, pusher-channels-protocol-7",
    )];
    let client = Client::open(server.address, &path, &offer).await.unwrap();
    assert_eq!(
        client.headers["sec-websocket-protocol"],
        "pusher-channels-protocol-7"
    );
    let client = Client::open(server.address, &path, &[]).await.unwrap();
    assert!(!client.headers.contains_key("sec-websocket-protocol"));
    // This client library refuses the handshake when nothing it offered was selected.
    let refused = Client::open(
        server.address,
        &path,
        &[("sec-websocket-protocol", "other")],
    )
    .await;
    assert!(matches!(refused, Err(Error::Protocol(_))));
}

#[tokio::test]
async fn pings_of_both_kinds_are_answered() {
    let server = server().await;
    let mut client = server.connect().await;
    client.send(&json!({"event": "pusher:ping"})).await;
    assert_eq!(client.expect("pusher:pong").await["data"], "{}");
    client.send_message(Message::Ping("payload".into())).await;
    assert_eq!(client.frame().await, Frame::Pong(b"payload".to_vec()));
}

#[tokio::test]
async fn an_event_goes_from_a_backend_to_a_subscriber_and_the_count_back() {
    let server = server_with(&["shards=3"]).await;
    let (mut one, mut two) = (server.connect().await, server.connect().await);
    for client in [&mut one, &mut two] {
        client.subscribe("private-a").await;
    }
    server.api().publish("private-a", "e", "{\"n\":1}").await;
    for client in [&mut one, &mut two] {
        let event = client.event().await;
        assert_eq!(
            event,
            json!({"event": "e", "channel": "private-a", "data": "{\"n\":1}"})
        );
    }
}

#[tokio::test]
async fn frames_that_come_with_the_handshake_are_not_lost() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let server = server().await;
    let mut stream = tokio::net::TcpStream::connect(server.address)
        .await
        .unwrap();
    let handshake = format!(
        "GET /app/{KEY}?protocol=7 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    let mut bytes = handshake.into_bytes();
    let ping = br#"{"event":"pusher:ping"}"#;
    // A masked text frame; with a mask of zeros the payload stands as it is.
    bytes.extend([0x81, 0x80 | u8::try_from(ping.len()).unwrap(), 0, 0, 0, 0]);
    bytes.extend(ping);
    stream.write_all(&bytes).await.unwrap();
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains("pusher:pong") {
        assert!(
            stream.read_buf(&mut seen).await.unwrap() > 0,
            "ended after {}",
            String::from_utf8_lossy(&seen)
        );
    }
}

#[tokio::test]
async fn everything_works_behind_a_path_prefix() {
    let server = server_with(&["path_prefix=/realtime"]).await;
    let mut client =
        Client::connect(server.address, &format!("/realtime/app/{KEY}?protocol=7")).await;
    client.subscribe("a").await;
    let api = server.api();
    let body = br#"{"name":"e","channel":"a","data":"d"}"#;
    let signed = api.sign("POST", "events", &[], body, fanfare_testkit::api::now());
    let answer = api
        .send(
            "POST",
            &format!("/realtime{}?{signed}", api.path("events")),
            body.to_vec(),
        )
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    client.expect("e").await;
}
