//! An app's webhooks in the admin API: their settings, their state, their secrets.

use fanfare_testkit::admin::text;
use fanfare_testkit::{Admin, Server};
use serde_json::{Value, json};

use super::{now, server};

const DAY: i64 = 86_400_000;

/// Returns the owner, and the path of the webhooks of an app.
async fn app(server: &Server) -> (Admin, String) {
    let owner = server.owner().await;
    let app = owner.create_app("Shop").await;
    let path = format!("/apps/{}/webhooks", text(&app, "id"));
    (owner, path)
}

/// Returns what is wrong with a request that the API refuses.
async fn refused(owner: &Admin, path: &str, body: Value) -> String {
    let reply = owner.post(path, &body).await;
    assert_eq!(reply.problem(400), "invalid", "{body}");
    text(&reply.json(), "detail")
}

#[tokio::test]
async fn a_webhook_is_created_changed_and_deleted() {
    let server = server(&[]).await;
    let (owner, path) = app(&server).await;
    let new = json!({
        "url": "https://shop.example.com:8443/hook?from=fanfare",
        "events": ["member_added", "channel_occupied"],
        "channels": ["presence-room-*", "news"],
        "batch": true,
        "headers": {"Authorization": "Bearer marked", "X-Tenant": "7"},
    });
    let once = [("idempotency-key", "one")];
    let made = owner.call("POST", &path, &once, Some(&new)).await;
    let made = made.expect(201);
    assert_eq!(text(&made, "name"), "shop.example.com:8443");
    assert!(text(&made, "secret").starts_with("whsec_"));
    let again = owner.call("POST", &path, &once, Some(&new)).await;
    assert_eq!(again.expect(201), made, "sent again");

    let one = format!("{path}/{}", text(&made, "id"));
    let shown = owner.get(&one).await;
    let etag = shown.header("etag").to_owned();
    assert!(!shown.text.contains("marked") && !shown.text.contains(&text(&made, "secret")));
    let shown = shown.expect(200);
    assert_eq!(
        shown["headers"],
        json!({"Authorization": "set", "X-Tenant": "set"})
    );
    assert_eq!(
        (&shown["format"], &shown["state"], &shown["batch"]),
        (&json!("pusher"), &json!("active"), &json!(true))
    );
    let health = &shown["health"];
    assert_eq!(
        (&health["waiting"], &health["last_success_at"]),
        (&json!(0), &json!(null))
    );
    assert_eq!(owner.get(&path).await.expect(200)["items"], json!([shown]));

    let patch = json!({
        "name": "Orders", "events": null, "channels": ["presence-*"], "batch": false,
        "headers": {"authorization": "Bearer other", "X-Tenant": null, "X-New": "1"},
    });
    let tag = [("if-match", etag.as_str())];
    let changed = owner
        .call("PATCH", &one, &tag, Some(&patch))
        .await
        .expect(200);
    assert_eq!(text(&changed, "name"), "Orders");
    assert_eq!(
        (&changed["events"], &changed["batch"]),
        (&json!(null), &json!(false))
    );
    assert_eq!(
        changed["headers"],
        json!({"authorization": "set", "X-New": "set"})
    );
    assert_eq!(changed["url"], made["url"], "what is left out stays");
    let stale = owner.call("PATCH", &one, &tag, Some(&patch)).await;
    assert_eq!(stale.problem(412), "stale");
    let pulled = owner.patch(&one, &json!({"url": null})).await.expect(200);
    assert_eq!(pulled["url"], json!(null));

    assert_eq!(
        owner.call("DELETE", &one, &tag, None).await.problem(412),
        "stale"
    );
    assert_eq!(owner.delete(&one).await.status, 204);
    assert_eq!(owner.get(&one).await.problem(404), "not_found");
    let audit = owner.get("/audit/export").await.text;
    for action in ["webhook.create", "webhook.update", "webhook.delete"] {
        assert!(audit.contains(action), "{action}");
    }
    assert!(audit.contains("X-Tenant") && !audit.contains("marked") && !audit.contains("Bearer"));
}

#[tokio::test]
async fn what_could_not_work_is_refused_with_the_rule_and_what_to_do() {
    let server = server(&["webhooks.max_per_app=1"]).await;
    let (owner, path) = app(&server).await;
    let url = "https://example.com/";
    for (body, words) in [
        (
            json!({"events": ["channel_ocupied"]}),
            "did you mean channel_occupied?",
        ),
        (json!({"events": []}), "leave it out for all"),
        (json!({"channels": ["a b"]}), "no channel matches \"a b\""),
        (
            json!({"channels": ["private-*"], "events": ["member_added"]}),
            "none of member_added ever happens",
        ),
        (
            json!({"url": "http://example.com/"}),
            "webhooks.allow_inner_addresses",
        ),
        (
            json!({"url": "https://127.0.0.1/"}),
            "webhooks.allow_inner_addresses",
        ),
        (
            json!({"url": "example.com/hook"}),
            "such as https://example.com/hook",
        ),
        (
            json!({"url": "https://me:pass@example.com/"}),
            "a user or a password",
        ),
        (
            json!({"url": url, "format": "standard", "batch": true}),
            "batch must be false",
        ),
        (
            json!({"url": url, "format": "json"}),
            "the body: unknown variant",
        ),
        (
            json!({"url": url, "headers": {"X-Pusher-Key": "k"}}),
            "X-Pusher-Key is set by Fanfare",
        ),
        (
            json!({"url": url, "headers": {"Connection": "close"}}),
            "Connection is set by Fanfare",
        ),
        (
            json!({"url": url, "headers": {"X-A": "marked\r\n"}}),
            "the value of X-A must be",
        ),
        (
            json!({"url": url, "secret": "marked"}),
            "a webhook's secret is whsec_",
        ),
        (json!({"url": url, "name": " "}), "name"),
        (json!({"uri": url}), "unknown field `uri`"),
    ] {
        let detail = refused(&owner, &path, body.clone()).await;
        assert!(detail.contains(words), "{body}: {detail}");
        assert!(!detail.contains("marked"), "{detail}");
    }
    let made = owner.post(&path, &json!({"url": url})).await.expect(201);
    let more = owner.post(&path, &json!({"url": url})).await;
    assert_eq!(more.problem(409), "conflict");
    assert!(
        text(&more.json(), "detail").contains("webhooks.max_per_app"),
        "{more:?}"
    );
    // The rules hold for what a change makes of it.
    let one = format!("{path}/{}", text(&made, "id"));
    assert_eq!(owner.patch(&one, &json!({"batch": true})).await.status, 200);
    let standard = owner.patch(&one, &json!({"format": "standard"})).await;
    assert_eq!(standard.problem(400), "invalid");
    let none = owner.patch(&format!("{path}/wh_none"), &json!({})).await;
    assert_eq!(none.problem(404), "not_found");
}

#[tokio::test]
async fn inner_addresses_are_taken_where_they_are_allowed() {
    let server = server(&["webhooks.allow_inner_addresses=true"]).await;
    let (owner, path) = app(&server).await;
    let inner = json!({"url": "http://127.0.0.1:3000/hook"});
    owner.post(&path, &inner).await.expect(201);
}

#[tokio::test]
async fn a_webhook_is_paused_and_made_active_again() {
    let server = server(&[]).await;
    let (owner, path) = app(&server).await;
    let made = owner.post(&path, &json!({})).await.expect(201);
    assert_eq!(text(&made, "name"), "pulled");
    let one = format!("{path}/{}", text(&made, "id"));
    let set = async |state: &str| {
        let body = json!({"state": state, "reason": "moving house"});
        owner.put(&format!("{one}/state"), &body).await
    };
    let paused = set("paused").await.expect(200);
    assert_eq!(
        (text(&paused, "state"), text(&paused, "state_reason")),
        ("paused".into(), "moving house".into())
    );
    assert_eq!(set("active").await.expect(200)["state"], "active");
    let disabled = set("disabled").await;
    assert_eq!(disabled.problem(400), "invalid");
    assert!(text(&disabled.json(), "detail").contains("active or paused"));

    let explain = async |reason: &str| {
        let body = json!({"state": "paused", "reason": reason});
        owner.put(&format!("{one}/state"), &body).await
    };
    // Characters count, not bytes.
    let longest = "\u{e9}".repeat(200);
    let paused = explain(&longest).await.expect(200);
    assert_eq!(text(&paused, "state_reason"), longest);
    for reason in [
        format!("{longest}x"),
        "two\nlines".into(),
        "\u{1b}[2J".into(),
    ] {
        let refused = explain(&reason).await;
        assert_eq!(refused.problem(400), "invalid");
        let detail = text(&refused.json(), "detail");
        assert_eq!(detail, "reason has at most 200 printable characters");
    }
    let blank = explain("  ").await.expect(200);
    assert_eq!(blank["state_reason"], json!(null));
}

#[tokio::test]
async fn a_new_secret_overlaps_with_the_old_ones() {
    let server = server(&[]).await;
    let (owner, path) = app(&server).await;
    let made = owner.post(&path, &json!({"format": "standard"})).await;
    let made = made.expect(201);
    let secrets = format!("{path}/{}/secrets", text(&made, "id"));
    let second = owner.post(&secrets, &json!({})).await.expect(201);
    assert_ne!(second["secret"], made["secret"]);
    let times = second["secrets"].as_array().unwrap();
    assert_eq!((times.len(), &times[0]["expires_at"]), (2, &json!(null)));
    let until = times[1]["expires_at"].as_i64().unwrap() - now();
    assert!((until - DAY).abs() < 60_000, "{second}");

    let imported = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    let body = json!({"secret": imported, "keep_old_for": 0});
    let third = owner.post(&secrets, &body).await.expect(201);
    assert_eq!(third["secret"], imported);
    assert_eq!(third["secrets"].as_array().unwrap().len(), 1);
    let long = owner
        .post(&secrets, &json!({"keep_old_for": 2_592_001}))
        .await;
    assert!(
        text(&long.json(), "detail").contains("0 to 2592000 seconds"),
        "{long:?}"
    );
    let audit = owner.get("/audit/export").await.text;
    assert!(audit.contains("webhook.add_secret") && !audit.contains("whsec_"));
}
