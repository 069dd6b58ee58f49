//! The admin API, one file a topic.

use std::time::Duration;

use fanfare_protocol::SocketId;
use fanfare_protocol::signature::{SigningKey, channel_auth_text};
use fanfare_testkit::admin::text;
use fanfare_testkit::{Api, Client, OWNER_SETTING, Server};
use serde_json::{Value, json};
use tokio::time::Instant;

mod apps;
mod browser_sessions;
mod document;
mod identity;
mod keys;
mod matrix;
mod outbox;
mod quotas;
mod secrets;
mod sign_in;
mod state;
mod tokens;
mod two_nodes;
mod usage;
mod webhook_log;
mod webhooks;

/// A server with the test app, where the owner's password is known.
async fn server(settings: &[&str]) -> Server {
    let mut all = vec![OWNER_SETTING, "demo=false"];
    all.extend(settings);
    crate::server_with(&all).await
}

/// Lets each sign-in come from an address of its own, so that none waits.
const BEHIND_A_PROXY: &str = "http.trusted_proxies=127.0.0.1";

/// A path of a client's connection with a key.
fn socket_path(key: &str) -> String {
    format!("/app/{key}?protocol=7")
}

/// What an app's backend calls with a key as the admin API has answered it.
fn backend(server: &Server, app: &str, key: &Value) -> Api {
    Api::new(server.address, app, &text(key, "key"), &text(key, "secret"))
}

/// A client that has come in with a key.
async fn client(server: &Server, key: &str) -> Client {
    Client::connect(server.address, &socket_path(key)).await
}

/// The signature that lets a client subscribe, made with any key.
fn channel_auth(key: &Value, client: &Client, channel: &str) -> String {
    let socket_id = SocketId::parse(&client.socket_id).unwrap();
    let signing = SigningKey::new(&text(key, "secret"));
    let signature = signing.sign(&channel_auth_text(socket_id, channel, None));
    format!("{}:{signature}", text(key, "key"))
}

/// Subscribes with what the app's backend has signed.
async fn subscribe(client: &mut Client, channel: &str, auth: &str) {
    let data = json!({"channel": channel, "auth": auth});
    client
        .send(&json!({"event": "pusher:subscribe", "data": data}))
        .await;
    client
        .expect("pusher_internal:subscription_succeeded")
        .await;
}

/// Unix time in milliseconds.
fn now() -> i64 {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap();
    since.as_millis().try_into().unwrap()
}

/// Waits for what must be so within this time.
async fn within(limit: Duration, what: &str, condition: impl AsyncFn() -> bool) {
    let start = Instant::now();
    while !condition().await {
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

const SECOND: Duration = Duration::from_secs(1);
