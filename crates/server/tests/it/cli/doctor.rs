//! `fanfare doctor`, of a node's own machine and of a server behind a proxy.

use std::net::SocketAddr;

use fanfare_testkit::Server;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use crate::server;

/// Starts a proxy that edits the head of each connection's first request.
async fn proxy(server: SocketAddr, edit: fn(&str) -> String) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(client.read_u8().await?);
                }
                let head = edit(&String::from_utf8_lossy(&head));
                let mut server = TcpStream::connect(server).await?;
                server.write_all(head.as_bytes()).await?;
                copy_bidirectional(&mut client, &mut server).await
            });
        }
    });
    address
}

/// Returns the severity of each check, and all that was printed.
async fn doctor(server: &Server, arguments: &[&str]) -> (Vec<(String, String)>, Value) {
    let arguments = [&["doctor", "--json"], arguments].concat();
    // On a thread of its own, because a proxy of this test may have to answer meanwhile.
    let output = tokio::task::block_in_place(|| server.run(&arguments));
    let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
    let findings = printed["findings"].as_array().unwrap();
    let text = |finding: &Value, field: &str| finding[field].as_str().unwrap().to_owned();
    let severities = findings
        .iter()
        .map(|finding| (text(finding, "check"), text(finding, "severity")))
        .collect();
    let failed = findings
        .iter()
        .any(|finding| finding["severity"] == "failure");
    assert_eq!(output.status.code(), Some(i32::from(failed)));
    (severities, printed)
}

fn severity<'a>(findings: &'a [(String, String)], check: &str) -> &'a str {
    let found = findings.iter().find(|(name, _)| name == check);
    &found
        .unwrap_or_else(|| panic!("{check} is not in {findings:?}"))
        .1
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_runs_is_well() {
    let server = server().await;
    let listen = server.address.to_string();
    let (findings, printed) = doctor(&server, &["--listen", &listen]).await;
    for check in [
        "configuration",
        "store.tables",
        "store.master_key",
        "server.ready",
        "server.websocket",
        "files.writes",
    ] {
        assert_eq!(severity(&findings, check), "ok", "{printed:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_of_the_store_is_found_wherever_it_listens() {
    let server = server().await;
    let elsewhere = ["--listen", "127.0.0.1:9"];
    let (findings, printed) = doctor(&server, &elsewhere).await;
    assert_eq!(severity(&findings, "server.ready"), "ok", "{printed:#}");
    let publish = [&["publish", "news", "e", "d"][..], &elsewhere].concat();
    let printed = server.run_ok(&publish);
    assert!(printed.contains(&server.address.to_string()), "{printed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_proxies_sees_its_clients() {
    let server = server().await;
    let token = server.run_ok(&[
        "token", "create", "--name", "doctor", "--role", "admin", "--json",
    ]);
    let token: Value = serde_json::from_str(&token).unwrap();
    let url = format!("http://{}", server.address);
    let (findings, printed) = doctor(
        &server,
        &[
            "--server",
            &url,
            "--token",
            token["secret"].as_str().unwrap(),
        ],
    )
    .await;
    for check in [
        "server.alive",
        "server.clock",
        "server.ready",
        "server.websocket",
        "server.clients",
    ] {
        assert_eq!(severity(&findings, check), "ok", "{printed:#}");
    }
    assert!(
        printed
            .to_string()
            .contains("sees this client as 127.0.0.1")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_the_server_does_not_know_is_named() {
    let server = server().await;
    let token = server.run_ok(&[
        "token", "create", "--name", "doctor", "--role", "admin", "--json",
    ]);
    let token: Value = serde_json::from_str(&token).unwrap();
    let proxy = proxy(server.address, |head| {
        head.replacen(
            "\r\n",
            "\r\nX-Forwarded-For: 203.0.113.9\r\nConnection: close\r\n",
            1,
        )
    });
    let url = format!("http://{}", proxy.await);
    let (findings, printed) = doctor(
        &server,
        &[
            "--server",
            &url,
            "--token",
            token["secret"].as_str().unwrap(),
        ],
    )
    .await;
    assert_eq!(
        severity(&findings, "server.clients"),
        "failure",
        "{printed:#}"
    );
    assert!(
        printed
            .to_string()
            .contains("add 127.0.0.1 to http.trusted_proxies")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_passes_no_websockets_is_found() {
    let server = server().await;
    let proxy = proxy(server.address, |head| {
        let kept = head.lines().filter(|line| {
            let line = line.to_lowercase();
            !line.starts_with("upgrade:") && !line.starts_with("connection:")
        });
        let kept: String = kept.map(|line| format!("{line}\r\n")).collect();
        // One request for each connection, because only the first one's head is edited.
        kept.replacen("\r\n", "\r\nConnection: close\r\n", 1)
    });
    let url = format!("http://{}", proxy.await);
    let (findings, printed) = doctor(&server, &["--server", &url]).await;
    assert_eq!(severity(&findings, "server.alive"), "ok", "{printed:#}");
    assert_eq!(
        severity(&findings, "server.websocket"),
        "failure",
        "{printed:#}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_without_a_server_gets_a_warning_and_no_files() {
    let mut server = server().await;
    server.terminate();
    server.stopped().await;
    let (findings, _) = doctor(&server, &["--data-dir", "elsewhere"]).await;
    for check in ["files.data_folder", "store.reachable", "server.alive"] {
        assert_eq!(severity(&findings, check), "warning");
    }
    assert!(!server.folder().join("elsewhere").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_and_a_missing_master_key_are_failures() {
    let server = server().await;
    let (findings, printed) = doctor(
        &server,
        &["--set", &format!("master_key={}", "ab".repeat(32))],
    )
    .await;
    assert_eq!(
        severity(&findings, "store.master_key"),
        "failure",
        "{printed:#}"
    );
    let file = server.data_dir().join("master.key");
    let aside = server.data_dir().join("aside");
    std::fs::rename(&file, &aside).unwrap();
    let (findings, printed) = doctor(&server, &[]).await;
    assert_eq!(
        severity(&findings, "store.master_key"),
        "failure",
        "{printed:#}"
    );
    assert!(!file.exists() && !file.with_extension("key.new").exists());
    std::fs::rename(&aside, &file).unwrap();
}

#[tokio::test]
async fn a_token_without_a_server_is_refused() {
    let server = server().await;
    let file = server.folder().join("token");
    std::fs::write(&file, "token").unwrap();
    let output = server.run(&["doctor", "--token-file", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("no server to use it on"), "{error}");
}
