//! Stopping and starting again: docs/compatibility.md#connections, C-015 and C-022.

use std::net::TcpListener;
use std::time::Duration;

use fanfare_testkit::{Client, Server};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::{server, server_with};

const PATH: &str = "/app/app-key?protocol=7";

/// A server with the test app on a socket that the test holds, as a supervisor does.
async fn server_on(socket: &TcpListener, settings: &[&str]) -> Server {
    Server::start_on(env!("CARGO_BIN_EXE_fanfare"), settings, socket).await
}

#[tokio::test]
async fn a_stopping_server_sends_its_clients_away_with_4200_and_ends() {
    let mut server = server_with(&["drain.period=1"]).await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(server.connect().await);
    }
    server.terminate();
    for client in &mut clients {
        assert_eq!(client.closed().await, 4200);
    }
    assert_eq!(server.stopped().await, Some(0), "{}", server.log());
}

#[tokio::test]
async fn a_stopping_server_says_that_it_is_not_ready() {
    let mut server = server_with(&["drain.period=1"]).await;
    let api = server.api();
    assert_eq!(api.send("GET", "/healthz", Vec::new()).await.status, 200);
    assert_eq!(api.send("GET", "/readyz", Vec::new()).await.status, 200);
    // This client does not answer the close frame, so the server waits for it.
    let silent = server.connect().await;
    server.terminate();
    while !server.log().contains("stopping") {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(api.send("GET", "/readyz", Vec::new()).await.status, 503);
    drop(silent);
    assert_eq!(server.stopped().await, Some(0));
}

#[tokio::test]
async fn clients_come_back_to_a_restarted_server() {
    let mut server = server_with(&["drain.period=0"]).await;
    let before = server.connect().await;
    server.restart().await;
    let mut after = server.connect().await;
    assert_ne!(before.socket_id, after.socket_id);
    after.subscribe("private-a").await;
    server
        .api()
        .publish("private-a", "e", &json!({}).to_string())
        .await;
    after.expect("e").await;
}

#[tokio::test]
async fn log_lines_have_no_colours_where_nobody_would_see_them() {
    let server = server_with(&[]).await;
    while !server.log().contains("ready") {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert!(!server.log().contains('\u{1b}'), "{:?}", server.log());
}

#[tokio::test]
async fn attempts_wait_in_the_queue_of_an_inherited_socket_for_the_next_process() {
    // As a supervisor does, the test holds the socket all the time.
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut server = server_on(&socket, &[]).await;
    let mut before = server.connect().await;
    server.terminate();
    assert_eq!(before.closed().await, 4200);
    assert_eq!(server.stopped().await, Some(0), "{}", server.log());
    let address = server.address;
    let waiting = tokio::spawn(async move { Client::connect(address, PATH).await });
    // Its attempt is in the queue by now, or will meet the next process: both are right.
    server.start_again_on(&socket).await;
    let mut after = waiting.await.unwrap();
    after.subscribe("news").await;
    // The log is read as it comes.
    while !server.log().contains("inherited=true") {
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_process_on_an_inherited_socket_accepts_nothing_once_it_stops() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut server = server_on(&socket, &[]).await;
    // It does not answer the close frame, so that the process still runs when the next attempt comes.
    let silent = server.connect().await;
    server.terminate();
    while !server.log().contains("stopping") {
        sleep(Duration::from_millis(5)).await;
    }
    let mut attempt = TcpStream::connect(server.address).await.unwrap();
    attempt
        .write_all(b"GET /healthz HTTP/1.0\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(server.stopped().await, Some(0), "{}", server.log());
    drop(silent);
    server.start_again_on(&socket).await;
    let mut answer = String::new();
    attempt.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.0 200"), "{answer}");
}

#[tokio::test]
async fn where_the_server_listens_decides_about_the_demo_whoever_has_bound_it() {
    let socket = TcpListener::bind("0.0.0.0:0").unwrap();
    let server = server_on(&socket, &["listen=127.0.0.1:1"]).await;
    let api = server.api();
    assert_eq!(api.send("GET", "/demo", Vec::new()).await.status, 404);
}

#[tokio::test]
async fn a_descriptor_that_is_no_listening_socket_is_refused_by_name() {
    let server = server().await;
    let output = std::process::Command::new("sh")
        .args([
            "-c",
            "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" serve 3</dev/null",
        ])
        .arg(env!("CARGO_BIN_EXE_fanfare"))
        .current_dir(server.folder())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        error.contains("file descriptor 3 of LISTEN_FDS") && error.contains("ListenStream"),
        "{error}"
    );
}

#[tokio::test]
async fn attempts_are_answered_while_a_server_stops_and_tell_clients_to_come_back() {
    let mut server = server_with(&["drain.period=1"]).await;
    // It does not answer the close frame, so the server waits for it.
    let silent = server.connect().await;
    server.terminate();
    while !server.log().contains("stopping") {
        sleep(Duration::from_millis(5)).await;
    }
    let mut attempt = Client::open(server.address, PATH, &[]).await.unwrap();
    assert_eq!(attempt.event().await["data"]["code"], 4100);
    assert_eq!(attempt.closed().await, 4100);
    drop(silent);
    assert_eq!(server.stopped().await, Some(0));
}

#[tokio::test]
async fn the_queue_of_connections_is_as_long_as_the_system_allows() {
    let server = server().await;
    let most: usize = std::fs::read_to_string("/proc/sys/net/core/somaxconn")
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    // A stopped process accepts nothing, so each of these stays in the queue; one that does not fit is not answered.
    let signal = |name: &str| {
        let killed = std::process::Command::new("kill")
            .args([name, &server.pid().to_string()])
            .status();
        assert!(killed.unwrap().success());
    };
    signal("-STOP");
    let mut waiting = Vec::new();
    for number in 0..most.min(500) {
        let connected = timeout(Duration::from_secs(5), TcpStream::connect(server.address)).await;
        let connected = connected.unwrap_or_else(|_| panic!("number {number} does not fit"));
        waiting.push(connected.unwrap());
    }
    signal("-CONT");
}
