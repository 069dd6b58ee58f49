//! `fanfare top`, of a running node.

use fanfare_testkit::{APP_ID, Server};
use serde_json::{Value, json};

use crate::server;

async fn top(server: &Server, arguments: &[&str]) -> String {
    let arguments = [&["top", "--once", "--every", "1s"], arguments].concat();
    // On a thread of its own, because this test may have requests under way.
    let output = tokio::task::block_in_place(|| server.run(&arguments));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_of_this_machine_needs_no_token_and_leaves_none_that_is_active() {
    let server = server().await;
    let listen = server.address.to_string();
    let shown = top(&server, &["--listen", &listen]).await;
    assert!(
        shown.contains(&format!("http://{listen}")) && shown.contains("ready"),
        "{shown}"
    );
    let tokens: Value = serde_json::from_str(&server.run_ok(&["token", "list", "--json"])).unwrap();
    let [token] = &tokens["items"].as_array().unwrap()[..] else {
        panic!("{tokens}")
    };
    assert_eq!(
        (&token["name"], &token["role"]),
        (&json!("fanfare top"), &json!("metrics"))
    );
    assert!(!token["revoked_at"].is_null(), "{token}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_app_that_floods_and_the_reason_of_refused_publishes_are_shown() {
    let server = server().await;
    server.run_ok(&[
        "app",
        "update",
        APP_ID,
        "--setting",
        "limits.backend_events_per_second=5",
    ]);
    let api = server.api();
    let body = json!({"name": "e", "channel": "flood", "data": "d"}).to_string();
    // Before the first look, because an app without any traffic has no metrics yet.
    while api.post("events", body.clone()).await.status != 429 {}
    let flood = tokio::spawn(async move {
        loop {
            api.post("events", body.clone()).await;
        }
    });
    let shown = top(&server, &["--listen", &server.address.to_string()]).await;
    flood.abort();
    assert!(shown.contains("! publishes refused, over_rate"), "{shown}");
    let app = shown.lines().find(|line| line.starts_with(APP_ID));
    let app: Vec<&str> = app.unwrap_or_default().split_whitespace().collect();
    let [_, connections, _, refused, ..] = app[..] else {
        panic!("{shown}")
    };
    assert_eq!(connections, "0");
    assert_ne!(refused, "0", "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_does_not_answer_is_down_and_the_others_are_shown() {
    let server = server().await;
    let token = server.run_ok(&[
        "token", "create", "--name", "t", "--role", "metrics", "--json",
    ]);
    let token: Value = serde_json::from_str(&token).unwrap();
    let file = server.folder().join("token");
    std::fs::write(&file, token["secret"].as_str().unwrap()).unwrap();
    let up = format!("http://{}", server.address);
    let shown = top(
        &server,
        &[
            "--server",
            &up,
            "--server",
            "http://127.0.0.1:1",
            "--token-file",
            file.to_str().unwrap(),
        ],
    )
    .await;
    assert!(shown.contains("DOWN") && shown.contains("ready"), "{shown}");
    assert!(shown.contains("! http://127.0.0.1:1: "), "{shown}");
}

#[tokio::test]
async fn all_nodes_down_and_a_refused_token_have_their_exit_codes() {
    let server = server().await;
    let file = server.folder().join("token");
    std::fs::write(&file, "wrong").unwrap();
    let up = format!("http://{}", server.address);
    for (url, code) in [("http://127.0.0.1:1", 6), (&*up, 4)] {
        let output = server.run(&[
            "top",
            "--once",
            "--every",
            "1s",
            "--server",
            url,
            "--token-file",
            file.to_str().unwrap(),
        ]);
        assert_eq!(output.status.code(), Some(code), "{url}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("DOWN"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_leaves_no_token_that_is_active() {
    let server = server().await;
    let listen = server.address.to_string();
    for signal in ["-INT", "-TERM", "-HUP"] {
        let active = || {
            let tokens = server.run_ok(&["token", "list", "--json"]);
            let tokens: Value = serde_json::from_str(&tokens).unwrap();
            let tokens = tokens["items"].as_array().unwrap().clone();
            let is_active = |token: &&Value| token["revoked_at"].is_null();
            (tokens.iter().filter(is_active).count(), tokens.len())
        };
        let (_, before) = active();
        let mut top =
            server.start_command(&["top", "--once", "--every", "1h", "--listen", &listen]);
        while active() != (1, before + 1) {}
        let kill = std::process::Command::new("kill")
            .args([signal, &top.id().to_string()])
            .status();
        assert!(kill.unwrap().success());
        let ended = tokio::task::block_in_place(|| top.wait()).unwrap();
        assert_eq!(ended.code(), Some(1), "{signal}");
        assert_eq!(active(), (0, before + 1), "{signal}");
    }
}
