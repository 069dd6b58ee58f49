//! A server that becomes the program that is installed now: what clients see of it, and what happens if that program
//! would not start.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use fanfare_testkit::{APP_ID, Api, KEY, SECRET, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::task::TaskTracker;

use super::server_with;

const BINARY: &str = env!("CARGO_BIN_EXE_fanfare");
const READY: &str = "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
const CONNECTS_PER_SECOND: u64 = 200;
/// How long an attempt may wait, and how long an upgrade may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the log says once a program serves.
const SERVES: &str = "ready: clients and backends are served";

/// Waits until the log has `words` so many times.
async fn logged(server: &Server, words: &str, times: usize) {
    let start = Instant::now();
    while server.log().matches(words).count() < times {
        assert!(start.elapsed() < PATIENCE, "{}", server.log());
        sleep(Duration::from_millis(10)).await;
    }
}

fn tell_to_upgrade(server: &Server) {
    send(server, "-USR2");
}

fn send(server: &Server, signal: &str) {
    let told = Command::new("kill")
        .args([signal, &server.pid().to_string()])
        .status();
    assert!(told.unwrap().success());
}

/// Writes a configuration file with which the server speaks TLS at `listen`.
fn configure_tls(server: &Server, listen: SocketAddr) {
    let pair = rcgen::generate_simple_self_signed(["localhost".into()]).unwrap();
    let pem = |label: &str, der: &[u8]| {
        let text = BASE64_STANDARD.encode(der);
        format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
    };
    let write = |name: &str, text: String| fs::write(server.folder().join(name), text).unwrap();
    write("tls.crt", pem("CERTIFICATE", pair.cert.der()));
    write(
        "tls.key",
        pem("PRIVATE KEY", &pair.signing_key.serialize_der()),
    );
    let tls =
        format!("[tls]\ncertificate = \"tls.crt\"\nkey = \"tls.key\"\nlisten = \"{listen}\"\n");
    write("fanfare.toml", tls);
}

async fn is_answered(address: SocketAddr) -> Result<(), String> {
    let ask = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(READY.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    match timeout(PATIENCE, ask).await {
        Ok(Ok(answer)) if answer.starts_with("HTTP/1.1 200") => Ok(()),
        Ok(answer) => Err(format!("{answer:?}")),
        Err(_) => Err("no answer".into()),
    }
}

#[tokio::test]
async fn an_upgrade_refuses_no_connection_and_no_publish() {
    let server = server_with(&["drain.period=1"]).await;
    let mut client = server.connect().await;
    let pid = server.pid();
    let (done, published) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let attempts = TaskTracker::new();
    let connecting = tokio::spawn({
        let (done, attempts, address) = (Arc::clone(&done), attempts.clone(), server.address);
        async move {
            let mut ticks =
                interval(Duration::from_secs(1) / u32::try_from(CONNECTS_PER_SECOND).unwrap());
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            let mut tasks = Vec::new();
            while !done.load(Ordering::Relaxed) {
                ticks.tick().await;
                tasks.push(attempts.spawn(is_answered(address)));
            }
            tasks
        }
    });
    let publishing = tokio::spawn({
        let (address, done, published) =
            (server.address, Arc::clone(&done), Arc::clone(&published));
        async move {
            while !done.load(Ordering::Relaxed) {
                // Each must be accepted. On a connection of its own, because a request on a kept one may cross its end, as
                // with every restart of an HTTP server.
                let api = Api::new(address, APP_ID, KEY, SECRET);
                api.publish("news", "headline", "1").await;
                published.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    sleep(Duration::from_millis(300)).await;
    let told = server.run_ok(&["upgrade"]);
    assert!(told.contains(&pid.to_string()), "{told}");
    assert_eq!(client.closed().await, 4200);
    logged(&server, SERVES, 2).await;
    let before = published.load(Ordering::Relaxed);
    let start = Instant::now();
    while published.load(Ordering::Relaxed) < before + 3 {
        assert!(start.elapsed() < PATIENCE, "{}", server.log());
        sleep(Duration::from_millis(10)).await;
    }
    done.store(true, Ordering::Relaxed);
    publishing.await.unwrap();
    let tasks = connecting.await.unwrap();
    let connects = tasks.len();
    for task in tasks {
        assert_eq!(task.await.unwrap(), Ok(()), "{}", server.log());
    }
    assert!(connects > 100, "{connects} connects only");
    assert!(
        Path::new(&format!("/proc/{pid}")).exists(),
        "another process"
    );
    server.connect().await;
}

#[tokio::test]
async fn an_upgrade_to_what_would_not_start_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("fanfare");
    symlink(BINARY, &program).unwrap();
    let mut server = Server::start(program.to_str().unwrap(), &["drain.period=1"]).await;
    let mut client = server.connect().await;
    let broken = folder.path().join("broken");
    fs::write(
        &broken,
        "#!/bin/sh\necho 'fanfare: no such setting' >&2\nexit 2\n",
    )
    .unwrap();
    fs::set_permissions(&broken, fs::Permissions::from_mode(0o755)).unwrap();
    install(&broken, &program);
    tell_to_upgrade(&server);
    logged(&server, "not upgraded", 1).await;
    assert!(server.log().contains("no such setting"), "{}", server.log());
    fs::remove_file(&program).unwrap();
    tell_to_upgrade(&server);
    logged(&server, "not upgraded", 2).await;
    // It goes on, with the client that it had.
    client.subscribe("news").await;
    symlink(BINARY, &program).unwrap();
    tell_to_upgrade(&server);
    assert_eq!(client.closed().await, 4200);
    logged(&server, SERVES, 2).await;
    // A second time, and then it stops as ever.
    tell_to_upgrade(&server);
    logged(&server, SERVES, 3).await;
    let mut client = server.connect().await;
    server.terminate();
    assert_eq!(client.closed().await, 4200);
    assert_eq!(server.stopped().await, Some(0), "{}", server.log());
}

/// Puts another program in the place of one, as a package does: at once.
fn install(what: &Path, program: &Path) {
    let next = program.with_extension("next");
    symlink(what, &next).unwrap();
    fs::rename(next, program).unwrap();
}

#[tokio::test]
async fn signals_in_the_midst_of_upgrades_do_not_end_the_process() {
    let server = server_with(&["drain.period=1"]).await;
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap();
    configure_tls(&server, port.local_addr().unwrap());
    drop(port);
    tell_to_upgrade(&server);
    logged(&server, SERVES, 2).await;
    // With TLS, SIGHUP doesn't end a program either. Both come at every moment of the next upgrades.
    let start = Instant::now();
    while server.log().matches(SERVES).count() < 5 {
        assert!(start.elapsed() < PATIENCE, "{}", server.log());
        tell_to_upgrade(&server);
        send(&server, "-HUP");
    }
    assert_eq!(
        is_answered(server.address).await,
        Ok(()),
        "{}",
        server.log()
    );
}

#[tokio::test]
async fn a_server_that_is_told_to_stop_during_an_upgrade_stops() {
    let mut server = server_with(&["drain.period=1"]).await;
    // It doesn't answer the close frame, so the drain takes its time.
    let _client = server.connect().await;
    tell_to_upgrade(&server);
    logged(&server, "stopping: closing connections", 1).await;
    server.terminate();
    assert_eq!(server.stopped().await, Some(0), "{}", server.log());
    assert_eq!(server.log().matches(SERVES).count(), 1);
}

#[tokio::test]
async fn an_upgrade_may_switch_tls_on_if_the_address_is_free_and_off() {
    let server = server_with(&["drain.period=1"]).await;
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let encrypted = taken.local_addr().unwrap();
    configure_tls(&server, encrypted);
    tell_to_upgrade(&server);
    logged(&server, "not upgraded", 1).await;
    let log = server.log();
    assert!(
        log.contains("(setting tls.listen): address already in use"),
        "{log}"
    );
    drop(taken);
    tell_to_upgrade(&server);
    logged(&server, SERVES, 2).await;
    TcpStream::connect(encrypted).await.unwrap();
    // The socket is there already, so it need not be free.
    tell_to_upgrade(&server);
    logged(&server, SERVES, 3).await;
    TcpStream::connect(encrypted).await.unwrap();
    fs::remove_file(server.folder().join("fanfare.toml")).unwrap();
    tell_to_upgrade(&server);
    logged(&server, SERVES, 4).await;
    logged(&server, "TLS is no longer spoken", 1).await;
    TcpStream::connect(encrypted).await.unwrap_err();
    assert_eq!(is_answered(server.address).await, Ok(()));
}

#[test]
fn a_check_for_an_upgrade_knows_what_a_supervisor_passes() {
    let folder = tempfile::tempdir().unwrap();
    let check = |names: &str| {
        let checked = Command::new(BINARY)
            .args(["serve", "--check"])
            .current_dir(folder.path())
            .env_clear()
            .env("LISTEN_FDNAMES", names)
            .output();
        String::from_utf8(checked.unwrap().stderr).unwrap()
    };
    let refused = check("main:tls");
    assert!(refused.contains("there is no certificate"), "{refused}");
    assert_eq!(check("main"), "");
    assert_eq!(check("own-main:own-tls"), "");
}
