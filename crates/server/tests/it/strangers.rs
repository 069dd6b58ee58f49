//! What a client makes the server hold costs the client something, and is bounded for its network. Every address of
//! 127.0.0.0/8 is this machine, so that a test has several networks.

use std::net::Ipv4Addr;
use std::time::Duration;

use fanfare_testkit::{APP_ID, KEY, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::server_with;

/// A socket that comes from 127.0.0.`host`.
async fn socket(server: &Server, host: u8) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    let address = Ipv4Addr::new(127, 0, 0, host);
    socket.bind((address, 0).into()).unwrap();
    socket.connect(server.address).await.unwrap()
}

/// The answer to one request; an empty one if the socket is closed.
async fn answer(mut stream: TcpStream, request: &str) -> String {
    let mut seen = Vec::new();
    let answered = async {
        stream.write_all(request.as_bytes()).await?;
        stream.read_to_end(&mut seen).await
    };
    // The server may close what it does not want before it has read all of it.
    let _ = timeout(Duration::from_secs(20), answered)
        .await
        .expect("an answer or an end");
    String::from_utf8_lossy(&seen).into_owned()
}

fn get(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n")
}

#[tokio::test]
async fn sockets_that_never_become_anything_make_room_and_websockets_stay() {
    let server = server_with(&["http.max_sockets=40"]).await;
    let mut early = server.connect().await;
    early.subscribe("a").await;
    let mut held = Vec::new();
    for number in 0..200 {
        let mut stream = socket(&server, 1).await;
        if number % 2 == 0 {
            stream.write_all(b"GET / HTTP/1.1\r\nHost:").await.unwrap();
        }
        held.push(stream);
        if number % 20 == 0 {
            let mut late = server.connect().await;
            late.subscribe("a").await;
            server.api().publish("a", "e", "d").await;
            late.expect("e").await;
            early.expect("e").await;
        }
    }
    let ready = answer(socket(&server, 1).await, &get("/readyz", "")).await;
    assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");
    assert!(!server.log().contains("cannot accept"), "{}", server.log());
}

#[tokio::test]
async fn a_network_that_has_its_share_of_sockets_leaves_the_others_of_other_networks() {
    let server = server_with(&["network.exempt=none", "network.max_sockets=5"]).await;
    let request = get("/healthz", "");
    let mut other = socket(&server, 3).await;
    other.write_all(&request.as_bytes()[..10]).await.unwrap();
    let mut held = Vec::new();
    for _ in 0..30 {
        held.push(socket(&server, 2).await);
    }
    let own = answer(socket(&server, 2).await, &request).await;
    assert!(own.starts_with("HTTP/1.1 200"), "{own}");
    let other = answer(other, &request[10..]).await;
    assert!(other.starts_with("HTTP/1.1 200"), "{other}");
    // The network's own went, long before their time was over.
    let mut open = 0;
    for mut stream in held {
        let closed = timeout(Duration::from_millis(200), stream.read(&mut [0])).await;
        open += usize::from(closed.is_err());
    }
    assert!(open <= 5, "{open} are open");
}

#[tokio::test]
async fn a_head_of_more_than_16_kib_is_refused_in_words_however_it_comes() {
    let server = server_with(&[]).await;
    for size in [17_000, 40_000, 100_000] {
        let long = format!("x: {}\r\n", "y".repeat(size));
        let first = answer(socket(&server, 1).await, &get("/healthz", &long)).await;
        assert!(first.starts_with("HTTP/1.1 431"), "{size}: {first}");
        assert!(first.contains("larger than 16384 bytes"), "{first}");
    }
    let long = format!("x: {}\r\n", "y".repeat(17_000));
    let later = format!(
        "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n{}",
        get("/healthz", &long)
    );
    let answers = answer(socket(&server, 1).await, &later).await;
    assert!(answers.starts_with("HTTP/1.1 200"), "{answers}");
    assert!(
        answers.contains("HTTP/1.1 431") && answers.contains("larger than 16384 bytes"),
        "{answers}"
    );
    let most = format!("x: {}\r\n", "y".repeat(16_000));
    let fits = answer(socket(&server, 1).await, &get("/healthz", &most)).await;
    assert!(fits.starts_with("HTTP/1.1 200"), "{fits}");
}

#[tokio::test]
async fn a_first_head_has_its_own_time_and_the_pause_between_requests_another() {
    let server = server_with(&["http.first_head_timeout=1"]).await;
    let mut kept = socket(&server, 1).await;
    let request = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut seen = Vec::new();
    kept.write_all(request).await.unwrap();
    while !seen.ends_with(b"ok\n") {
        assert!(kept.read_buf(&mut seen).await.unwrap() > 0);
    }
    // Longer than the first head may take, as it is closed for.
    assert_eq!(answer(socket(&server, 1).await, "").await, "");
    assert_eq!(answer(socket(&server, 1).await, "GET / HT").await, "");
    kept.write_all(request).await.unwrap();
    seen.clear();
    assert!(
        kept.read_buf(&mut seen).await.unwrap() > 0,
        "it is still open"
    );
}

#[tokio::test]
async fn a_network_over_its_share_of_connections_is_told_to_come_back_and_others_come_in() {
    let server = server_with(&[
        "http.trusted_proxies=127.0.0.1",
        "network.exempt=none",
        "network.max_connections=3",
    ])
    .await;
    let mut held = Vec::new();
    for number in 0..6 {
        let (stream, seen) = websocket(&server, "192.0.2.1").await;
        let refused = seen.contains("\"code\":4100") && seen.contains("network 192.0.2.1");
        assert_eq!(refused, number >= 3, "{number}: {seen}");
        held.push(stream);
    }
    let (_other, seen) = websocket(&server, "192.0.2.2").await;
    assert!(seen.contains("connection_established"), "{seen}");
}

/// Opens `count` sessions of the HTTP fallback over one socket, and reads what is answered.
async fn open_sessions(server: &Server, host: u8, name: &str, count: usize) {
    let mut stream = socket(server, host).await;
    let mut requests = String::new();
    for number in 0..count {
        let path = format!("/pusher/app/{KEY}/1/{name}{number}/xhr?protocol=7");
        requests += &format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
    }
    let (mut reader, mut writer) = stream.split();
    let read = async {
        let (mut seen, mut opened) = (Vec::new(), 0);
        while opened < count {
            assert!(reader.read_buf(&mut seen).await.unwrap() > 0);
            opened += count_of(&seen, b"HTTP/1.1 200");
            // An answer's beginning may come in two parts.
            seen.drain(..seen.len().saturating_sub(11));
        }
    };
    let (written, ()) = tokio::join!(writer.write_all(requests.as_bytes()), read);
    written.unwrap();
}

fn count_of(text: &[u8], part: &[u8]) -> usize {
    text.windows(part.len())
        .filter(|found| *found == part)
        .count()
}

#[tokio::test]
async fn sessions_that_do_not_come_back_take_no_place_of_a_client() {
    let server = server_with(&["connections.max=20", "connections.max_pending=50"]).await;
    server.run_ok(&[
        "app",
        "update",
        APP_ID,
        "--setting",
        "limits.connections=10",
    ]);
    for round in 0..5 {
        open_sessions(&server, 2, &format!("r{round}n"), 300).await;
        let mut client = server.connect().await;
        client.subscribe("a").await;
        server.api().publish("a", "e", "d").await;
        client.expect("e").await;
    }
}

#[tokio::test]
async fn a_quota_that_one_network_uses_up_has_room_for_clients_of_others_and_only_many_networks_keep_a_client_away()
 {
    let settings = ["http.trusted_proxies=127.0.0.0/8", "network.exempt=none"];
    let server = server_with(&settings).await;
    server.run_ok(&["app", "update", APP_ID, "--setting", "limits.connections=8"]);
    let mut held = Vec::new();
    for from in ["192.0.2.1"; 6].into_iter().chain(["192.0.2.2"; 2]) {
        let (stream, seen) = websocket(&server, from).await;
        assert!(seen.contains("connection_established"), "{seen}");
        held.push(stream);
    }
    held.push(comes_in(&server, "192.0.2.3").await);
    // The one that made room comes back.
    is_told(&server, "192.0.2.1", 4100).await;
    held.clear();
    for number in 0..8 {
        held.push(comes_in(&server, &format!("198.51.100.{number}")).await);
    }
    is_told(&server, "192.0.2.3", 4004).await;
}

/// Waits until a client from this address is refused with this code: settings of apps and who has most connections are known
/// within a second.
async fn is_told(server: &Server, from: &str, code: u16) {
    let start = Instant::now();
    loop {
        let (_, seen) = websocket(server, from).await;
        if seen.contains(&format!("\"code\":{code}")) {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "{seen}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A WebSocket from this address, once there is room for it.
async fn comes_in(server: &Server, from: &str) -> TcpStream {
    let start = Instant::now();
    loop {
        let (stream, seen) = websocket(server, from).await;
        if seen.contains("connection_established") {
            return stream;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "{seen}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A WebSocket of a client behind a proxy, and what it is told.
async fn websocket(server: &Server, from: &str) -> (TcpStream, String) {
    let mut stream = socket(server, 1).await;
    let handshake = format!(
        "GET /app/{KEY}?protocol=7 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nX-Forwarded-For: {from}\r\n\r\n"
    );
    stream.write_all(handshake.as_bytes()).await.unwrap();
    let mut seen = Vec::new();
    loop {
        assert!(stream.read_buf(&mut seen).await.unwrap() > 0);
        let text = String::from_utf8_lossy(&seen).into_owned();
        if text.contains("connection_established") || text.contains("\"code\":") {
            return (stream, text);
        }
    }
}

#[tokio::test]
async fn many_wrong_signatures_of_a_network_are_answered_later_and_right_ones_at_once() {
    let server = server_with(&["network.exempt=none"]).await;
    let api = server.api();
    let now = fanfare_testkit::api::now();
    let signed = api.sign("GET", "channels", &[], b"", now);
    let right = format!("{}?{signed}", api.path("channels"));
    let wrong = |number: usize| {
        let path = api.path(["channels", "events/stream"][number % 2]);
        let zeros = "0".repeat(64);
        let query = format!("auth_key={KEY}&auth_timestamp={now}&auth_version=1.0");
        format!("{path}?{query}&auth_signature={zeros}")
    };
    let mut asked = JoinSet::new();
    for number in 0..60 {
        let (stream, request) = (socket(&server, 2).await, get(&wrong(number), ""));
        asked.spawn(async move { answer(stream, &request).await });
    }
    let is_refused = |seen: String| assert!(seen.contains("Invalid signature"), "{seen}");
    for _ in 0..20 {
        is_refused(asked.join_next().await.unwrap().unwrap());
    }
    for host in [2, 3] {
        let seen = answer(socket(&server, host).await, &get(&right, "")).await;
        assert!(seen.starts_with("HTTP/1.1 200"), "{seen}");
    }
    is_refused(answer(socket(&server, 3).await, &get(&wrong(1), "")).await);
    while let Some(seen) = asked.try_join_next() {
        is_refused(seen.unwrap());
    }
    assert!(!asked.is_empty(), "all were answered at once");
    while let Some(seen) = asked.join_next().await {
        is_refused(seen.unwrap());
    }
}
