//! An app's keys: several at once, and what becomes of one that goes.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fanfare_testkit::admin::text;
use fanfare_testkit::{Admin, Client};
use serde_json::{Value, json};

use super::{SECOND, backend, channel_auth, client, now, server, subscribe, within};

async fn new_key(admin: &Admin, app: &str, body: Value) -> Value {
    admin
        .post(&format!("/apps/{app}/keys"), &body)
        .await
        .expect(201)
}

async fn state(admin: &Admin, app: &str, key: &Value) -> String {
    let path = format!("/apps/{app}/keys/{}", text(key, "key"));
    text(&admin.get(&path).await.expect(200), "state")
}

#[tokio::test]
async fn a_key_is_rotated_while_a_publisher_and_subscribers_run_and_nothing_is_lost() {
    let server = server(&[]).await;
    let owner = server.owner().await;
    let made = owner.create_app("Rotated").await;
    let (app, old) = (text(&made, "id"), made["key"].clone());
    let watching = new_key(&owner, &app, json!({"label": "watching"})).await;
    let mut watcher = client(&server, &text(&watching, "key")).await;
    subscribe(&mut watcher, "news", "").await;
    let mut left_behind = client(&server, &text(&old, "key")).await;
    subscribe(&mut left_behind, "news", "").await;

    let api = Arc::new(Mutex::new(backend(&server, &app, &old)));
    let (sent, stop) = (
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let publisher = tokio::spawn({
        let (api, sent, stop) = (Arc::clone(&api), Arc::clone(&sent), Arc::clone(&stop));
        async move {
            while !stop.load(Ordering::SeqCst) {
                let api = api.lock().unwrap().clone();
                let number = sent.load(Ordering::SeqCst).to_string();
                api.publish("news", "number", &number).await;
                sent.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    let more = async |what: &str| {
        let enough = sent.load(Ordering::SeqCst) + 25;
        within(10 * SECOND, what, async || {
            sent.load(Ordering::SeqCst) >= enough
        })
        .await;
    };

    more("events with the old key").await;
    let new = new_key(&owner, &app, json!({"label": "from now on"})).await;
    more("events with the old key beside the new one").await;
    let mut moved = client(&server, &text(&new, "key")).await;
    subscribe(&mut moved, "news", "").await;
    *api.lock().unwrap() = backend(&server, &app, &new);
    more("events with the new key").await;
    let path = format!("/apps/{app}/keys/{}", text(&old, "key"));
    assert_eq!(owner.delete(&path).await.status, 204);
    more("events after the old key was revoked").await;
    stop.store(true, Ordering::SeqCst);
    publisher.await.unwrap();

    let sent = sent.load(Ordering::SeqCst);
    for expected in 0..sent {
        let event = watcher.expect("number").await;
        assert_eq!(event["data"], expected.to_string());
    }
    watcher.expect_nothing().await;
    let first: usize = moved.expect("number").await["data"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    for expected in first + 1..sent {
        assert_eq!(moved.expect("number").await["data"], expected.to_string());
    }
    assert_eq!(left_behind.closed().await, 4009);
}

#[tokio::test]
async fn every_active_key_signs_requests_subscriptions_and_sign_ins_and_lets_clients_in() {
    let server = server(&[]).await;
    let owner = server.owner().await;
    let made = owner.create_app("Many").await;
    let (app, mut keys) = (text(&made, "id"), vec![made["key"].clone()]);
    keys.push(new_key(&owner, &app, json!({})).await);
    keys.push(new_key(&owner, &app, json!({"expires_at": now() + 600_000})).await);
    for key in &keys {
        let mut client = client(&server, &text(key, "key")).await;
        for (number, signer) in keys.iter().enumerate() {
            let channel = format!("private-{number}");
            let auth = channel_auth(signer, &client, &channel);
            subscribe(&mut client, &channel, &auth).await;
        }
        for signer in &keys {
            let api = backend(&server, &app, signer);
            api.publish("private-0", "e", "d").await;
            client.expect("e").await;
        }
        let api = backend(&server, &app, key);
        let asked = json!({"socket_id": client.socket_id, "user": {"id": "ada"}});
        let signed = api.post("user-auth", asked.to_string()).await.json();
        client
            .send(&json!({"event": "pusher:signin", "data": signed}))
            .await;
        client.expect("pusher:signin_success").await;
    }
    assert_eq!(state(&owner, &app, &keys[0]).await, "active");
    assert_eq!(state(&owner, &app, &keys[2]).await, "expiring");
}

#[tokio::test]
async fn a_revoked_key_is_refused_and_its_connections_are_closed_within_a_second() {
    let server = server(&[]).await;
    let owner = server.owner().await;
    let made = owner.create_app("Revoking").await;
    let (app, old) = (text(&made, "id"), made["key"].clone());
    let new = new_key(&owner, &app, json!({})).await;
    let (mut with_old, mut with_new) = (
        client(&server, &text(&old, "key")).await,
        client(&server, &text(&new, "key")).await,
    );
    let old_auth = channel_auth(&old, &with_new, "private-a");
    let path = format!("/apps/{app}/keys/{}", text(&old, "key"));
    assert_eq!(owner.delete(&path).await.status, 204);
    let words = format!(
        "App key {} is no longer active: it was revoked at 20",
        text(&old, "key")
    );
    // It was active here before it was answered.
    let answer = backend(&server, &app, &old).get("channels", &[]).await;
    assert_eq!(answer.status, 401);
    assert!(answer.text.contains(&words), "{}", answer.text);
    let closed = tokio::time::timeout(SECOND, with_old.closed()).await;
    assert_eq!(closed.expect("within a second"), 4009);
    with_new
        .send(&json!({"event": "pusher:subscribe", "data": {"channel": "private-a", "auth": old_auth}}))
        .await;
    assert!(with_new.complaint().await.contains(&words));
    let mut refused = Client::open(server.address, &super::socket_path(&text(&old, "key")), &[])
        .await
        .unwrap();
    let error = refused.event().await;
    let message = text(&error["data"], "message");
    assert!(message.starts_with(&words), "{error}");
    assert_eq!(refused.closed().await, 4001);
    assert_eq!(state(&owner, &app, &old).await, "revoked");
    assert_eq!(owner.delete(&path).await.problem(409), "conflict");
    let again = owner.patch(&path, &json!({"expires_at": null})).await;
    assert_eq!(again.problem(409), "conflict");
    with_new.expect("pusher:subscription_error").await;
    with_new.expect_nothing().await;
}

#[tokio::test]
async fn a_key_that_expires_is_refused_and_its_connections_are_closed_within_a_second() {
    let server = server(&[]).await;
    let owner = server.owner().await;
    let made = owner.create_app("Expiring").await;
    let (app, old) = (text(&made, "id"), made["key"].clone());
    let api = backend(&server, &app, &old);
    let mut connected = client(&server, &text(&old, "key")).await;
    let path = format!("/apps/{app}/keys/{}", text(&old, "key"));
    let expires_at = now() + 2500;
    let patched = owner.patch(&path, &json!({"expires_at": expires_at})).await;
    assert_eq!(text(&patched.expect(200), "state"), "expiring");
    assert_eq!(api.get("channels", &[]).await.status, 200);
    assert_eq!(connected.closed().await, 4009);
    let late = now() - expires_at;
    assert!((-5..1000).contains(&late), "{late} ms after it expired");
    let answer = api.get("channels", &[]).await;
    assert_eq!(answer.status, 401);
    let words = format!(
        "App key {} is no longer active: it expired at 20",
        text(&old, "key")
    );
    assert!(answer.text.contains(&words), "{}", answer.text);
    assert_eq!(state(&owner, &app, &old).await, "expired");
    // It may be taken back as long as it was not revoked.
    owner
        .patch(&path, &json!({"expires_at": null}))
        .await
        .expect(200);
    assert_eq!(api.get("channels", &[]).await.status, 200);
}

#[tokio::test]
async fn when_and_from_where_a_key_was_last_used_appears() {
    let server = server(&[]).await;
    let owner = server.owner().await;
    let made = owner.create_app("Used").await;
    let (app, requesting) = (text(&made, "id"), made["key"].clone());
    let mut keys = vec![requesting];
    for label in ["connecting", "authorizing", "idle"] {
        keys.push(new_key(&owner, &app, json!({"label": label})).await);
    }
    let before = now();
    backend(&server, &app, &keys[0])
        .publish("a", "e", "d")
        .await;
    let mut client = client(&server, &text(&keys[1], "key")).await;
    let auth = channel_auth(&keys[2], &client, "private-a");
    subscribe(&mut client, "private-a", &auth).await;
    let listed = async || {
        let page = owner.get(&format!("/apps/{app}/keys")).await.expect(200);
        page["items"].as_array().unwrap().clone()
    };
    let is_used = |keys: &[Value], at: usize| keys[at]["last_used_at"].is_i64();
    within(Duration::from_secs(15), "the last uses", async || {
        let keys = listed().await;
        (0..3).all(|at| is_used(&keys, at))
    })
    .await;
    let found = listed().await;
    for key in &found[..3] {
        assert_eq!(key["last_used_from"], "127.0.0.1", "{key}");
        assert!(key["last_used_at"].as_i64().unwrap() >= before, "{key}");
    }
    assert!(!is_used(&found, 3), "{found:?}");
}

#[tokio::test]
async fn what_cannot_be_a_key_is_refused_and_keys_of_others_are_not_found() {
    let server = server(&[]).await;
    let owner = server.owner().await;
    let one = owner.create_app("One").await;
    let other = owner.create_app("Other").await;
    let keys = format!("/apps/{}/keys", text(&one, "id"));
    let past = owner.post(&keys, &json!({"expires_at": now() - 1})).await;
    assert_eq!(past.problem(400), "invalid");
    let odd = owner.post(&keys, &json!({"key": "a:b"})).await;
    assert_eq!(odd.problem(400), "invalid");
    let taken = json!({"key": text(&other["key"], "key")});
    assert_eq!(owner.post(&keys, &taken).await.problem(409), "conflict");
    let others = format!("{keys}/{}", text(&other["key"], "key"));
    assert_eq!(owner.get(&others).await.problem(404), "not_found");
    assert_eq!(owner.delete(&others).await.problem(404), "not_found");
    let patched = owner.patch(&others, &json!({"label": "x"})).await;
    assert_eq!(patched.problem(404), "not_found");
    let imported = json!({"key": "imported-key", "secret": "imported-secret", "label": "  "});
    let imported = owner.post(&keys, &imported).await.expect(201);
    assert_eq!(imported["secret"], "imported-secret");
    assert_eq!(imported["label"], Value::Null);
    let shown = owner.get(&format!("{keys}/imported-key")).await.expect(200);
    assert_eq!(shown.get("secret"), None);
}
