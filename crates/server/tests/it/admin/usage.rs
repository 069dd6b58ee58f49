//! What apps did, as the admin API and the command line answer it.

use std::process::Command;

use fanfare_testkit::admin::text;
use fanfare_testkit::{APP_ID, Admin, Server};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{SECOND, backend, client, server, subscribe, within};

const SOON: &str = "usage.flush_period=1";

/// A number of the whole range.
fn total(usage: &Value, name: &str) -> i64 {
    let number = usage["total"][name].as_i64();
    number.unwrap_or_else(|| panic!("no {name} in {usage}"))
}

async fn usage(owner: &Admin, app: &str) -> Value {
    let path = format!("/apps/{app}/usage?step=minute");
    let from = (super::now() - 600_000).to_string();
    owner.get(&format!("{path}&from={from}")).await.expect(200)
}

/// Waits until so many events of backends are written.
async fn until_written(owner: &Admin, app: &str, events: i64) {
    within(20 * SECOND, "the usage is written", async || {
        total(&usage(owner, app).await, "backend_events") == events
    })
    .await;
}

#[tokio::test]
async fn what_an_app_did_is_answered_over_time_and_in_total() {
    let server = server(&[SOON]).await;
    let owner = server.owner().await;
    let app = owner.create_app("Shop").await;
    let id = text(&app, "id");
    let mut one = client(&server, &text(&app["key"], "key")).await;
    let _two = client(&server, &text(&app["key"], "key")).await;
    subscribe(&mut one, "news", "").await;
    let api = backend(&server, &id, &app["key"]);
    for _ in 0..3 {
        api.publish("news", "e", "x").await;
        one.expect("e").await;
    }
    let refused = api.post("events", "{").await;
    assert_eq!(refused.status, 400);
    until_written(&owner, &id, 3).await;
    let found = usage(&owner, &id).await;
    for (name, value) in [
        ("deliveries", 3),
        ("messages", 3),
        ("connections_opened", 2),
    ] {
        assert_eq!(total(&found, name), value, "{name}: {found}");
    }
    assert!(total(&found, "bytes_in") >= 3 && total(&found, "bytes_out") > 3);
    within(20 * SECOND, "the refusal is written", async || {
        usage(&owner, &id).await["total"]["refused"]["api_request"] == 1
    })
    .await;
    let points = found["points"].as_array().unwrap();
    // One more if a minute has just begun.
    assert!(
        (11..=12).contains(&points.len()),
        "every minute has a point: {found}"
    );
    assert_eq!(points.last().unwrap()["complete"], false);
    assert_eq!(points[0]["complete"], true);

    // The hour and the day have the same, before they are rolled up.
    for step in ["hour", "day"] {
        let path = format!("/apps/{id}/usage?step={step}&from=2026-01-01");
        let from = path.replace("2026-01-01", &(super::now() / 1000 - 3600).to_string());
        let found = owner.get(&from).await.expect(200);
        assert_eq!(total(&found, "deliveries"), 3, "{step}: {found}");
    }
    let all = owner.get("/usage").await.expect(200);
    assert!(total(&all, "deliveries") >= 3);
    let by_app = owner.get("/usage/apps").await.expect(200);
    let of_app = by_app["items"].as_array().unwrap();
    let of_app = of_app.iter().find(|app| app["app_id"] == id).unwrap();
    assert_eq!(
        (&of_app["name"], &of_app["deliveries"]),
        (&json!("Shop"), &json!(3))
    );
}

#[tokio::test]
async fn csv_comes_where_the_query_or_the_header_asks_for_it() {
    let server = server(&[SOON]).await;
    let owner = server.owner().await;
    server.api().publish("news", "e", "x").await;
    until_written(&owner, APP_ID, 1).await;
    let accepts = [("accept", "text/csv")];
    for (path, first) in [
        (format!("/apps/{APP_ID}/usage"), "time,"),
        ("/usage".to_owned(), "time,"),
        ("/usage/apps".to_owned(), "app_id,"),
    ] {
        let by_header = owner.call("GET", &path, &accepts, None).await;
        let by_query = owner.get(&format!("{path}?format=csv")).await;
        for reply in [&by_header, &by_query] {
            assert_eq!(reply.status, 200, "{reply:?}");
            assert_eq!(reply.header("content-type"), "text/csv; charset=utf-8");
            assert!(reply.text.starts_with(first), "{reply:?}");
        }
        let path = format!("{path}?format=json");
        let json = owner.call("GET", &path, &accepts, None).await;
        assert_eq!(json.header("content-type"), "application/json");
    }
    let by_app = owner.get("/usage/apps?format=csv").await.text;
    assert!(
        by_app.lines().any(|line| line.starts_with(APP_ID)),
        "{by_app}"
    );
}

#[tokio::test]
async fn a_range_that_cannot_be_answered_is_refused_in_words() {
    let server = server(&[]).await;
    let owner = server.owner().await;
    for (query, words) in [
        ("from=yesterday", "2026-11-21T09:34:10Z"),
        ("from=2026-11-21&to=2026-11-20", "from must be before to"),
        ("from=2099-01-01&to=2099-01-02", "in the future"),
        ("step=week", "minute"),
        ("step=minute&from=2020-01-01", "step=hour"),
        ("from=2000-01-01", "usage by day is kept from"),
    ] {
        for path in [&*format!("/apps/{APP_ID}/usage"), "/usage", "/usage/apps"] {
            let reply = owner.get(&format!("{path}?{query}")).await;
            assert_eq!(reply.problem(400), "invalid");
            assert!(reply.text.contains(words), "{query}: {reply:?}");
        }
    }
}

#[tokio::test]
async fn a_deleted_app_still_counts_for_all_apps_together() {
    let server = server(&[SOON]).await;
    let owner = server.owner().await;
    let new = json!({"name": "First", "id": "4711"});
    let app = owner.post("/apps", &new).await.expect(201);
    let api = backend(&server, "4711", &app["key"]);
    api.publish("news", "e", "x").await;
    until_written(&owner, "4711", 1).await;
    let deleted = owner.delete("/apps/4711?confirm=First").await;
    assert_eq!(deleted.status, 204);
    let path = "/apps/4711/usage?step=minute";
    assert_eq!(owner.get(path).await.problem(404), "not_found");
    let listed = owner.get("/usage/apps").await.expect(200);
    let of_app = listed["items"].as_array().unwrap();
    let of_app = of_app.iter().find(|app| app["app_id"] == "4711").unwrap();
    assert_eq!(
        (&of_app["name"], &of_app["messages"]),
        (&Value::Null, &json!(1))
    );
}

/// Publishes one event after the other until `until`, and returns when each was accepted.
async fn publish_until(server: &Server, until: Instant) -> Vec<Instant> {
    let (api, mut accepted) = (server.api(), Vec::new());
    while Instant::now() < until {
        api.publish("news", "e", "x").await;
        accepted.push(Instant::now());
    }
    accepted
}

#[tokio::test]
async fn a_killed_node_loses_what_came_since_its_last_write_and_nothing_counts_twice() {
    let mut server = server(&[SOON]).await;
    let before = publish_until(&server, Instant::now() + 4 * SECOND).await;
    let killed = Command::new("kill")
        .args(["-KILL", &server.pid().to_string()])
        .status();
    assert!(killed.unwrap().success());
    let killed_at = Instant::now();
    server.stopped().await;
    server.start_again().await;
    let after = publish_until(&server, Instant::now() + SECOND).await;
    // A node that is stopped writes everything.
    server.restart().await;
    let owner = server.owner().await;
    let found = total(&usage(&owner, APP_ID).await, "backend_events");
    let sent = before.len() + after.len();
    // A write begins each second and takes a moment.
    let unwritten = |at: &&Instant| killed_at - **at < 2 * SECOND;
    let at_risk = before.iter().filter(unwritten).count();
    let counted = usize::try_from(found).unwrap();
    assert!(counted <= sent, "{counted} of {sent}");
    assert!(
        counted >= sent - at_risk,
        "{counted} of {sent}, {at_risk} at risk"
    );
    assert!(
        at_risk < before.len(),
        "the node was killed before its first write"
    );
}

#[tokio::test]
async fn the_command_line_shows_usage_with_and_without_a_server() {
    let server = server(&[SOON]).await;
    let owner = server.owner().await;
    server.api().publish("news", "e", "x").await;
    until_written(&owner, APP_ID, 1).await;
    let table = server.run_ok(&["usage", "--from", "10m"]);
    assert!(table.starts_with("TIME"), "{table}");
    // A heading, ten minutes and the current one; one more if a minute has just begun.
    assert!((12..=13).contains(&table.lines().count()), "{table}");
    let csv = server.run_ok(&["usage", "--app", APP_ID, "--step", "hour", "--csv"]);
    assert!(csv.starts_with("time,complete,"), "{csv}");
    let json = server.run_ok(&["usage", "--app", APP_ID, "--json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(total(&json, "messages"), 1);
    let by_app = server.run_ok(&["usage", "--by-app"]);
    assert!(by_app.contains(APP_ID), "{by_app}");
    let unknown = server.run(&["usage", "--app", "12"]);
    assert_eq!(unknown.status.code(), Some(3));
}
