//! The PROXY protocol before a connection's first request: who is believed, and what happens to everybody else.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use fanfare_testkit::Server;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::refusals::logged;
use super::server_with;

/// The proxy's address, which is this machine. The tests' other connections come from 127.0.0.1.
const PROXY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const REQUEST: &str = "GET /apps/1234567/channels HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
const READY: &str = "GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

async fn server(more: &[&str]) -> Server {
    let settings = [
        "listen_proxy_protocol=true",
        "http.trusted_proxies=127.0.0.2",
    ];
    server_with(&[&settings, more].concat()).await
}

async fn connect(server: &Server, from: Ipv4Addr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from((from, 0))).unwrap();
    socket.connect(server.address).await.unwrap()
}

/// Sends bytes and returns all that is answered.
async fn ask(server: &Server, from: impl Into<Option<Ipv4Addr>>, sent: &str) -> String {
    let mut stream = connect(server, from.into().unwrap_or(Ipv4Addr::LOCALHOST)).await;
    stream.write_all(sent.as_bytes()).await.unwrap();
    let mut answer = String::new();
    // The connection may be reset after the answer.
    let _ = stream.read_to_string(&mut answer).await;
    answer
}

fn header(client: IpAddr) -> String {
    format!("PROXY TCP4 {client} 192.0.2.2 56324 443\r\n")
}

fn client(last: u8) -> IpAddr {
    Ipv4Addr::new(203, 0, 113, last).into()
}

#[tokio::test]
async fn the_client_that_a_trusted_proxy_names_counts_as_the_peer() {
    let server = server(&[]).await;
    let sent = format!("{}{REQUEST}", header(client(7)));
    let answer = ask(&server, PROXY, &sent).await;
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    logged(&server, &["kind=\"api_signature\"", "address=203.0.113.7"]).await;
    // What the client itself says of its address is nothing, and no proxy is missing in the settings.
    let forwarded = REQUEST.replace("Host: x", "Host: x\r\nX-Forwarded-For: 198.51.100.1");
    ask(&server, PROXY, &format!("{}{forwarded}", header(client(8)))).await;
    assert!(!server.log().contains("X-Forwarded-For is not believed"));
}

#[tokio::test]
async fn sockets_count_against_the_network_of_the_client() {
    let server = server(&["network.max_sockets=2"]).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = connect(&server, PROXY).await;
        // A request that isn't complete, so that the socket isn't idle for long enough to be taken.
        let head = format!("{}{READY}", header(client(7)).as_str());
        let head = head.replace("Connection: close\r\n", "");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut first = [0; 12];
        stream.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
        held.push(stream);
    }
    let third = ask(&server, PROXY, &format!("{}{READY}", header(client(7)))).await;
    assert!(third.starts_with("HTTP/1.1 200"), "{third}");
    // The network's own longest idle one made room.
    let first = &mut held[0];
    let mut rest = Vec::new();
    let ended = timeout(Duration::from_secs(5), first.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "the first socket is still open");
    let other = ask(&server, PROXY, &format!("{}{READY}", header(client(8)))).await;
    assert!(other.starts_with("HTTP/1.1 200"), "{other}");
}

#[tokio::test]
async fn a_proxy_that_speaks_for_itself_is_served() {
    let server = server(&[]).await;
    for header in ["PROXY UNKNOWN\r\n", "\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"] {
        let answer = ask(&server, PROXY, &format!("{header}{READY}")).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

#[tokio::test]
async fn a_trusted_proxy_must_send_a_header_and_nobody_else_may() {
    let server = server(&[]).await;
    let answer = ask(&server, PROXY, READY).await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!(answer.contains("listen_proxy_protocol = true"), "{answer}");
    logged(
        &server,
        &[
            "kind=\"proxy_header\"",
            "no PROXY protocol header came",
            "address=127.0.0.2",
        ],
    )
    .await;
    let answer = ask(&server, PROXY, &format!("PROXY TCP4 nonsense\r\n{READY}")).await;
    assert!(
        answer.starts_with("HTTP/1.1 400") && answer.contains("malformed"),
        "{answer}"
    );
    // Whoever isn't a proxy is served as on any listener.
    let answer = ask(&server, None, READY).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let answer = ask(&server, None, &format!("{}{READY}", header(client(7)))).await;
    assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
    logged(
        &server,
        &[
            "kind=\"unread_proxy_header\"",
            "http.trusted_proxies: set both",
            "address=127.0.0.1",
        ],
    )
    .await;
}

#[tokio::test]
async fn a_header_that_does_not_come_whole_holds_a_socket_no_longer_than_a_head() {
    let server = server(&["http.first_head_timeout=1"]).await;
    for sent in ["", "PROXY TCP4 203.0.113.7", "\r\n\r\n\0\r\nQUIT\n\x21"] {
        let ended = timeout(Duration::from_secs(10), ask(&server, PROXY, sent)).await;
        assert_eq!(ended.as_deref(), Ok(""), "{sent:?}");
    }
}
