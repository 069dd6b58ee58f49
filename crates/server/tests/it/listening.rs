//! The addresses that a server listens on: several, of both families, and Unix sockets.

use std::fs;
use std::net::{Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use fanfare_testkit::Server;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::refusals::logged;
use super::{server, server_with};

const READY: &str = "GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin, sent: &str) -> String {
    stream.write_all(sent.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn is_served_at(address: SocketAddr) -> bool {
    match TcpStream::connect(address).await {
        Ok(stream) => ask(stream, READY).await.starts_with("HTTP/1.1 200"),
        Err(_) => false,
    }
}

/// A server that also listens on a Unix socket, whose path is returned.
async fn server_on_unix_socket() -> (Server, PathBuf) {
    let mut server = server().await;
    let path = server.folder().join("fanfare.sock");
    let listen = format!("{}, unix:{}", server.address, path.display());
    server.restart_with("listen", &listen).await;
    (server, path)
}

async fn connect(path: &Path) -> UnixStream {
    UnixStream::connect(path).await.unwrap()
}

#[tokio::test]
async fn a_server_listens_on_all_its_addresses() {
    let mut server = server().await;
    let v4 = server.address;
    let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, v4.port()));
    assert!(!is_served_at(v6).await);
    server.restart_with("listen", &format!("{v4}, {v6}")).await;
    assert!(is_served_at(v4).await && is_served_at(v6).await);
    let listens = format!("listen={v4}, {v6}");
    // The first clients may be answered before the line is written.
    logged(&server, &["clients and backends are served", &listens]).await;
}

#[tokio::test]
async fn all_addresses_of_ipv6_are_those_of_ipv4_too_unless_these_are_named() {
    let mut server = server().await;
    let v4 = server.address;
    let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, v4.port()));
    for listen in [
        format!("[::]:{}", v4.port()),
        format!("[::]:{0}, 0.0.0.0:{0}", v4.port()),
    ] {
        server.restart_with("listen", &listen).await;
        assert!(is_served_at(v4).await && is_served_at(v6).await, "{listen}");
    }
}

#[tokio::test]
async fn a_unix_socket_is_for_its_user_and_group_and_says_for_whom_it_speaks() {
    let (server, path) = server_on_unix_socket().await;
    let answer = ask(connect(&path).await, READY).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let forwarded = "GET /apps/1/channels HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 203.0.113.7\r\n\
                     Connection: close\r\n\r\n";
    ask(connect(&path).await, forwarded).await;
    logged(&server, &["address=203.0.113.7"]).await;
}

#[tokio::test]
async fn the_file_of_a_socket_whose_server_was_killed_is_replaced() {
    let (mut server, path) = server_on_unix_socket().await;
    server.kill().await;
    assert!(path.exists());
    server.start_again().await;
    let answer = ask(connect(&path).await, READY).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn a_path_at_which_somebody_listens_or_keeps_a_file_is_left_alone() {
    let (server, path) = server_on_unix_socket().await;
    let other = server_with(&[]).await;
    let listen = format!("unix:{}", path.display());
    let refused = other.run(&["serve", "--listen", &listen, "--data-dir", "second"]);
    let told = String::from_utf8(refused.stderr).unwrap();
    assert!(told.contains("address already in use"), "{told}");
    let answer = ask(connect(&path).await, READY).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let file = server.folder().join("notes.txt");
    fs::write(&file, "mine").unwrap();
    let listen = format!("unix:{}", file.display());
    let refused = other.run(&["serve", "--listen", &listen, "--data-dir", "second"]);
    let told = String::from_utf8(refused.stderr).unwrap();
    assert!(told.contains("no socket"), "{told}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
}

#[tokio::test]
async fn a_peer_on_a_unix_socket_sends_the_proxy_protocol_where_it_is_read() {
    let (mut server, path) = server_on_unix_socket().await;
    server
        .restart_with("http.trusted_proxies", "127.0.0.2")
        .await;
    server.restart_with("listen_proxy_protocol", "true").await;
    let header = "PROXY TCP4 203.0.113.7 192.0.2.2 1 2\r\n";
    let sent = READY.replace("/readyz", "/apps/1/channels");
    ask(connect(&path).await, &format!("{header}{sent}")).await;
    logged(&server, &["address=203.0.113.7"]).await;
    let answer = ask(connect(&path).await, READY).await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
}

/// A process that is killed when it is dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a server with two inherited sockets of these names.
fn start_on(folder: &Path, names: &str, sockets: [OwnedFd; 2]) -> Killed {
    let [first, second] = sockets;
    let inherit = "LISTEN_PID=$$ LISTEN_FDS=2 exec \"$0\" serve 3<&0 4<&1 0</dev/null 1>&2";
    let child = Command::new("/bin/sh")
        .args(["-c", inherit, env!("CARGO_BIN_EXE_fanfare")])
        .current_dir(folder)
        .env_clear()
        .env("LISTEN_FDNAMES", names)
        .env("FANFARE_DEMO", "false")
        .stdin(first)
        .stdout(second)
        .stderr(Stdio::piped())
        .spawn();
    Killed(child.unwrap())
}

#[tokio::test]
async fn inherited_sockets_are_known_by_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("main.sock");
    let sockets = || {
        let _ = fs::remove_file(&path);
        let main = UnixListener::bind(&path).unwrap();
        let ops = TcpListener::bind("127.0.0.1:0").unwrap();
        (ops.local_addr().unwrap(), [ops.into(), main.into()])
    };
    let (ops, passed) = sockets();
    let _server = start_on(folder.path(), "ops:fanfare.socket", passed);
    // Whoever connects before the server accepts waits in the socket's queue.
    let of_operators = READY.replace("/readyz", "/api/v1/me");
    let answer = ask(TcpStream::connect(ops).await.unwrap(), &of_operators).await;
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    let answer = ask(connect(&path).await, &of_operators).await;
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    let answer = ask(connect(&path).await, READY).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");

    let (_, passed) = sockets();
    let mut refused = start_on(folder.path(), "opps:main", passed);
    let mut told = String::new();
    let mut stderr = refused.0.stderr.take().unwrap();
    std::io::Read::read_to_string(&mut stderr, &mut told).unwrap();
    assert!(told.contains("LISTEN_FDNAMES has \"opps\""), "{told}");
}
