//! Stopping and starting again: C-022, C-015.

use serde_json::json;

use crate::server_with;

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
