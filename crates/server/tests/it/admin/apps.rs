//! Apps: pages, lost updates, creating once, deleting.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use fanfare_testkit::admin::text;
use fanfare_testkit::{APP_ID, Admin, Client, Reply};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::{SECOND, backend, client, server, within};

async fn create_once(admin: &Admin, key: &str, body: &Value) -> Reply {
    let header = [("idempotency-key", key)];
    admin.call("POST", "/apps", &header, Some(body)).await
}

async fn names(admin: &Admin) -> Vec<String> {
    let page = admin.get("/apps?limit=200").await.expect(200);
    let items = page["items"].as_array().unwrap().iter();
    items.map(|app| text(app, "name")).collect()
}

#[tokio::test]
async fn pages_hold_each_app_once_while_others_are_created_and_deleted() {
    let server = server(&[]).await;
    let owner = server.owner().await;
    for number in 0..7 {
        owner.create_app(&format!("before {number}")).await;
    }
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let (mut path, mut pages) = ("/apps?limit=2".to_owned(), 0);
    loop {
        let page = owner.get(&path).await.expect(200);
        let items = page["items"].as_array().unwrap();
        assert!((1..=2).contains(&items.len()));
        for app in items {
            *seen.entry(text(app, "name")).or_default() += 1;
        }
        pages += 1;
        if pages <= 3 {
            owner.create_app(&format!("during {pages}")).await;
        }
        if pages == 2 {
            // The one that the cursor names goes.
            let last = items.last().unwrap();
            let (id, name) = (text(last, "id"), text(last, "name").replace(' ', "%20"));
            let deleted = owner.delete(&format!("/apps/{id}?confirm={name}")).await;
            assert_eq!(deleted.status, 204);
        }
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("/apps?limit=2&cursor={cursor}"),
            None => break,
        }
    }
    for number in 0..7 {
        assert_eq!(seen.get(&format!("before {number}")), Some(&1), "{seen:?}");
    }
    assert!(seen.values().all(|count| *count == 1), "{seen:?}");
    for query in ["limit=0", "limit=201", "limit=x", "cursor=x", "cursor=e30"] {
        let refused = owner.get(&format!("/apps?{query}")).await;
        assert_eq!(refused.problem(400), "invalid", "{query}");
    }
}

#[tokio::test]
async fn a_key_and_an_identity_that_were_changed_in_the_meantime_are_not_overwritten() {
    let server = server(&[]).await;
    let owner = server.owner().await;
    let made = owner.create_app("One").await;
    let app = format!("/apps/{}", text(&made, "id"));
    let key = format!("{app}/keys/{}", text(&made["key"], "key"));
    let identity = format!("{app}/identity");
    let tag = owner.get(&key).await.header("etag").to_owned();
    let call = async |method: &str, path: &str, tag: &str, body: &Value| {
        owner
            .call(method, path, &[("if-match", tag)], Some(body))
            .await
    };
    let label = call("PATCH", &key, &tag, &json!({"label": "mine"})).await;
    assert_eq!(label.expect(200)["label"], "mine");
    // An empty one is what a script sends that failed to read the tag.
    for other in [tag.as_str(), "", "nothing of ours"] {
        let stale = call("PATCH", &key, other, &json!({"label": "theirs"})).await;
        assert_eq!(stale.problem(412), "stale", "{other:?}");
    }
    let stale = call("PUT", &identity, &tag, &json!({"grants": []})).await;
    assert_eq!(stale.problem(412), "stale");
    let set = call(
        "PUT",
        &identity,
        label.header("etag"),
        &json!({"grants": []}),
    )
    .await;
    assert_eq!(set.status, 204);
    let tag = owner.get(&identity).await.header("etag").to_owned();
    owner.put(&identity, &json!({"providers": []})).await;
    owner
        .patch(&key, &json!({"label": "again"}))
        .await
        .expect(200);
    let stale = call("DELETE", &identity, &tag, &Value::Null).await;
    assert_eq!(stale.problem(412), "stale");
}

#[tokio::test]
async fn an_update_of_what_was_changed_in_the_meantime_is_refused() {
    let server = server(&[]).await;
    let owner = server.owner().await;
    let path = format!("/apps/{}", text(&owner.create_app("One").await, "id"));
    let tag = owner.get(&path).await.header("etag").to_owned();
    let update = async |tag: &str, name: &str| {
        let header = [("if-match", tag)];
        let body = json!({"name": name});
        owner.call("PATCH", &path, &header, Some(&body)).await
    };
    let updated = update(&tag, "Two").await;
    updated.expect(200);
    assert_ne!(updated.header("etag"), tag);
    assert_eq!(update(&tag, "Three").await.problem(412), "stale");
    assert_eq!(update("\"nonsense\"", "Three").await.problem(412), "stale");
    update(updated.header("etag"), "Three").await.expect(200);
    update("*", "Four").await.expect(200);
    let shown = owner.get(&path).await;
    assert_eq!(shown.expect(200)["name"], "Four");
    // What changes nothing is no change.
    let same = update(shown.header("etag"), "Four").await;
    assert_eq!(same.header("etag"), shown.header("etag"));
}

#[tokio::test]
async fn of_two_updates_at_the_same_moment_none_is_lost_unsaid() {
    let server = server(&[]).await;
    let owner = server.owner().await;
    let path = format!("/apps/{}", text(&owner.create_app("One").await, "id"));
    for round in 0..15 {
        let name = format!("round {round}");
        let (one, two) = (
            json!({"name": name}),
            json!({"settings": {"limits": {"watchlist": 10 + round}}}),
        );
        let (one, two) = tokio::join!(owner.patch(&path, &one), owner.patch(&path, &two));
        let now = owner.get(&path).await.expect(200);
        for (reply, is_there) in [
            (one, now["name"] == name),
            (two, now["settings"]["limits"]["watchlist"] == 10 + round),
        ] {
            match reply.status {
                200 => assert!(is_there, "{round}: {now}"),
                _ => {
                    assert_eq!(reply.problem(412), "stale");
                    assert!(!is_there, "{round}: {now}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_create_that_is_sent_again_is_answered_the_same_and_done_once() {
    let server = server(&[]).await;
    let owner = server.owner().await;
    let body = json!({"name": "Once"});
    let first = create_once(&owner, "k1", &body).await;
    let made = first.expect(201);
    assert!(!text(&made["key"], "secret").is_empty());
    let again = create_once(&owner, "k1", &body).await;
    assert_eq!((again.status, &again.text), (201, &first.text));
    let other = create_once(&owner, "k1", &json!({"name": "Other"})).await;
    assert_eq!(other.problem(409), "conflict");
    let elsewhere = [("idempotency-key", "k1")];
    let tokens = json!({"name": "t", "role": "viewer"});
    let token = owner.call("POST", "/tokens", &elsewhere, Some(&tokens));
    token.await.expect(201);
    let somebody = owner.make_token("admin", None).await;
    let theirs = create_once(&somebody, "k1", &body).await.expect(201);
    assert_ne!(theirs["id"], made["id"]);
    assert_eq!(create_once(&owner, "", &body).await.problem(400), "invalid");
    // What failed may be sent again, mended or not.
    for _ in 0..2 {
        let bad = create_once(&owner, "k2", &json!({"name": " "})).await;
        assert_eq!(bad.problem(400), "invalid");
    }
    create_once(&owner, "k2", &json!({"name": "Mended"}))
        .await
        .expect(201);
    assert_eq!(names(&owner).await, ["Test", "Once", "Once", "Mended"]);
}

#[tokio::test]
async fn of_two_equal_creates_at_the_same_moment_one_is_done() {
    let server = server(&[]).await;
    let owner = server.owner().await;
    for round in 0..5 {
        let body = json!({"name": format!("round {round}")});
        let key = format!("k{round}");
        let (one, two) = tokio::join!(
            create_once(&owner, &key, &body),
            create_once(&owner, &key, &body)
        );
        let settled = create_once(&owner, &key, &body).await;
        settled.expect(201);
        for reply in [one, two] {
            match reply.status {
                201 => assert_eq!(reply.text, settled.text),
                _ => assert_eq!(reply.problem(409), "conflict"),
            }
        }
    }
    assert_eq!(names(&owner).await.len(), 6);
}

/// Sends a request and is gone before it is answered.
async fn send_and_leave(server: SocketAddr, token: &str, key: &str, body: &str) {
    let mut stream = TcpStream::connect(server).await.unwrap();
    let head = format!(
        "POST /api/v1/apps HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\nidempotency-key: {key}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
}

#[tokio::test]
async fn who_leaves_before_the_answer_finds_it_when_they_ask_again() {
    let server = server(&[]).await;
    let nobody = Admin::nobody(server.address);
    let (owner, session) = nobody
        .sign_in(fanfare_testkit::OWNER, fanfare_testkit::PASSWORD)
        .await;
    let token = text(&session, "access_token");
    for round in 0..5 {
        let (name, key) = (format!("round {round}"), format!("k{round}"));
        let body = json!({"name": name});
        send_and_leave(server.address, &token, &key, &body.to_string()).await;
        within(5 * SECOND, "the answer is there", async || {
            create_once(&owner, &key, &body).await.status == 201
        })
        .await;
        let all = names(&owner).await;
        assert_eq!(all.iter().filter(|other| **other == name).count(), 1);
    }
}

#[tokio::test]
async fn deleting_an_app_wants_its_name_and_closes_its_connections() {
    let server = server(&[]).await;
    let owner = server.owner().await;
    let made = owner.create_app("Shop & Co").await;
    let (id, key) = (text(&made, "id"), made["key"].clone());
    let path = format!("/apps/{id}");
    let mut connected = client(&server, &text(&key, "key")).await;
    for query in ["", "?confirm=", "?confirm=shop+%26+co", "?confirm=Shop"] {
        let refused = owner.delete(&format!("{path}{query}")).await;
        assert_eq!(refused.problem(400), "invalid", "{query}");
    }
    let api = backend(&server, &id, &key);
    assert_eq!(api.get("channels", &[]).await.status, 200);
    let deleted = owner.delete(&format!("{path}?confirm=Shop+%26+Co")).await;
    assert_eq!(deleted.status, 204);
    assert_eq!(api.get("channels", &[]).await.status, 404);
    assert_eq!(connected.closed().await, 4001);
    for reply in [
        owner.get(&path).await,
        owner.delete(&format!("{path}?confirm=Shop+%26+Co")).await,
        owner.get(&format!("{path}/keys")).await,
        owner.get(&format!("{path}/channels")).await,
    ] {
        assert_eq!(reply.problem(404), "not_found");
    }
    let audit = owner.get(&format!("/audit?app_id={id}")).await.expect(200);
    assert_eq!(audit["items"][0]["action"], "app.delete");
    // The test app is as it was.
    let mut other = server.connect().await;
    other.subscribe("news").await;
}

#[tokio::test]
async fn an_app_is_changed_while_it_runs_and_what_cannot_be_is_refused() {
    let server = server(&[]).await;
    let owner = server.owner().await;
    let path = format!("/apps/{APP_ID}");
    let patch = async |settings: Value| owner.patch(&path, &json!({"settings": settings})).await;
    let before = owner.get(&path).await.expect(200)["settings"].clone();
    for bad in [
        json!({"client_event": true}),
        json!({"limits": {"nope": 1}}),
        json!({"limits": 1}),
        json!({"enabled": "yes"}),
        json!({"limits": {"event_data": -1}}),
        json!([]),
    ] {
        assert_eq!(patch(bad.clone()).await.problem(400), "invalid", "{bad}");
    }
    for bad in [
        json!({"nam": "x"}),
        json!({"name": ""}),
        json!({"name": "x".repeat(201)}),
    ] {
        assert_eq!(owner.patch(&path, &bad).await.problem(400), "invalid");
    }
    assert_eq!(owner.get(&path).await.expect(200)["settings"], before);
    let changed = patch(json!({"limits": {"event_data": 5}}))
        .await
        .expect(200);
    assert_eq!(changed["settings"]["limits"]["event_data"], 5);
    assert_eq!(
        changed["settings"]["limits"]["channel_name"],
        before["limits"]["channel_name"]
    );
    let event = r#"{"name":"e","channel":"a","data":"123456"}"#;
    assert_eq!(server.api().post("events", event).await.status, 413);

    let imported = json!({"name": "x", "id": APP_ID});
    assert_eq!(
        owner.post("/apps", &imported).await.problem(409),
        "conflict"
    );
    let huge = json!({"name": "x".repeat(300 * 1024)});
    assert_eq!(owner.post("/apps", &huge).await.problem(413), "too_large");
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let form = owner.call("POST", "/apps", &form, None).await;
    assert_eq!(form.problem(415), "wrong_media_type");
    let imported =
        json!({"name": "x", "id": "moved", "key": "moved-key", "secret": "moved-secret"});
    let imported = owner.post("/apps", &imported).await.expect(201);
    backend(&server, "moved", &imported["key"])
        .publish("a", "e", "d")
        .await;
    Client::connect(server.address, "/app/moved-key?protocol=7").await;
}

#[tokio::test]
async fn an_apps_own_admin_lowers_its_limits_and_only_operators_of_all_apps_raise_them() {
    let server = server(&["ceilings.cache_bytes=2000000"]).await;
    let owner = server.owner().await;
    let path = format!("/apps/{APP_ID}");
    let own = owner.make_token("admin", Some(&[APP_ID])).await;
    let patch = async |admin: &Admin, settings: &Value| {
        admin.patch(&path, &json!({"settings": settings})).await
    };
    let bounds = json!({
        "limits": {"history_bytes": 8_388_608, "cache_bytes": 1_048_576, "backend_events_per_second": 50, "subscriptions": 1000},
        "history": [{"channels": "*", "size": 100, "ttl": 60}],
    });
    patch(&owner, &bounds).await.expect(200);
    let before = owner.get(&path).await.expect(200)["settings"].clone();
    for raised in [
        json!({"history": [{"channels": "*", "size": 10_000, "ttl": 60}]}),
        json!({"history": [{"channels": "*", "size": 100, "ttl": 86_400}]}),
        json!({"limits": {"history_bytes": 1_099_511_627_776_u64}}),
        json!({"limits": {"backend_events_per_second": 0}}),
        json!({"limits": {"client_events_per_second": 0}}),
        json!({"limits": {"subscriptions": 0}}),
        json!({"limits": {"subscriptions": 1001}}),
        json!({"limits": {"backend_events_per_second": 51, "event_data": 5}}),
        json!({"limits": {"event_data": 1_000_000}}),
    ] {
        let refused = patch(&own, &raised).await;
        assert_eq!(refused.problem(403), "forbidden", "{raised}");
    }
    assert_eq!(owner.get(&path).await.expect(200)["settings"], before);
    let lowered = json!({
        "client_events": true,
        "limits": {"backend_events_per_second": 49, "history_bytes": 5},
        "history": [{"channels": "room-*", "size": 100, "ttl": 6}],
    });
    patch(&own, &lowered).await.expect(200);
    patch(&owner, &bounds).await.expect(200);

    for (limit, value) in [
        ("cache_bytes", json!(9_223_372_036_854_775_808_u64)),
        ("channel_name", json!(1_000_000_000)),
        ("presence_members", json!(1_000_000_000)),
        ("connections", json!(u64::MAX)),
    ] {
        let reply = patch(&owner, &json!({"limits": {limit: value}})).await;
        assert_eq!(reply.problem(400), "invalid", "{limit}");
    }
    let above = patch(&owner, &json!({"limits": {"cache_bytes": 2_000_001}})).await;
    assert_eq!(above.problem(400), "invalid");
    let detail = text(&above.json(), "detail");
    assert!(detail.contains("ceilings.cache_bytes"), "{detail}");
    let made = owner.create_app("Below the ceiling").await;
    assert_eq!(made["settings"]["limits"]["cache_bytes"], 2_000_000);
}
