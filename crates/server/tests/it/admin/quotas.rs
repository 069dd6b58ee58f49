//! Quotas on several nodes of one store.

use std::time::Duration;

use fanfare_testkit::admin::text;
use fanfare_testkit::{Api, Client, Server};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::two_nodes::Nodes;
use super::{SECOND, backend, client, now, server, socket_path, subscribe, within};

/// Waits if the day is about to end, because its quotas begin again then.
async fn not_at_midnight() {
    let left = 86_400_000 - now() % 86_400_000;
    if left < 60_000 {
        sleep(Duration::from_millis(left.unsigned_abs() + 1000)).await;
    }
}

/// Creates an app with quotas, and returns it with its key.
async fn app(nodes: &Nodes, quotas: Value) -> Value {
    let new = json!({"name": "Shop", "settings": {"quotas": quotas}});
    nodes.owner.post("/apps", &new).await.expect(201)
}

async fn is_known(api: &Api) {
    within(10 * SECOND, "the node knows the app", async || {
        api.get("channels", &[]).await.status == 200
    })
    .await;
}

/// Publishes until the node refuses, and returns how many were accepted, and the refusal.
async fn publish_until_refused(api: &Api) -> (usize, u16, String) {
    let body = r#"{"name":"e","channel":"news","data":"x"}"#;
    let mut accepted = 0;
    loop {
        let answer = api.post("events", body).await;
        if answer.status != 200 {
            return (accepted, answer.status, answer.text);
        }
        accepted += 1;
        assert!(accepted < 100_000, "nothing stops it");
    }
}

/// The first quota of the app, as the admin API answers.
async fn quota(nodes: &Nodes, id: &str) -> Value {
    let found = nodes.owner.get(&format!("/apps/{id}/quotas")).await;
    found.expect(200)[0].clone()
}

#[tokio::test]
async fn messages_stop_exactly_at_the_quota_on_three_nodes_and_after_a_restart() {
    let Some(mut nodes) = Nodes::start().await else {
        return;
    };
    not_at_midnight().await;
    let third = nodes.third().await;
    let app = app(&nodes, json!({"messages_per_day": 600})).await;
    let id = text(&app, "id");
    let apis = [&nodes.one, &nodes.two, &third].map(|node| backend(node, &id, &app["key"]));
    for api in &apis {
        is_known(api).await;
    }
    let [one, two, three] = &apis;
    let all = tokio::join!(
        publish_until_refused(one),
        publish_until_refused(two),
        publish_until_refused(three)
    );
    let all = [all.0, all.1, all.2];
    let accepted: usize = all.iter().map(|(accepted, ..)| accepted).sum();
    assert_eq!(accepted, 600, "{all:?}");
    assert!(all.iter().all(|(accepted, ..)| *accepted > 0), "{all:?}");
    for (_, status, told) in &all {
        assert_eq!(*status, 403, "{told}");
        for words in [
            "600 messages a day",
            "quotas.messages_per_day",
            "T00:00:00Z",
        ] {
            assert!(told.contains(words), "{told}");
        }
    }
    let found = quota(&nodes, &id).await;
    assert_eq!(
        (&found["state"], &found["used"]),
        (&json!("used_up"), &json!(600))
    );
    assert!(text(&found, "warning").contains("until"), "{found}");

    nodes.two.restart().await;
    let two = backend(&nodes.two, &id, &app["key"]);
    is_known(&two).await;
    let (accepted, status, _) = publish_until_refused(&two).await;
    assert_eq!((accepted, status), (0, 403));
    // A raised quota is active on every node.
    let more = json!({"settings": {"quotas": {"messages_per_day": 610}}});
    nodes
        .owner
        .patch(&format!("/apps/{id}"), &more)
        .await
        .expect(200);
    within(10 * SECOND, "the raised quota is active", async || {
        publish_until_refused(&two).await.0 > 0
    })
    .await;
}

#[tokio::test]
async fn used_up_deliveries_stop_every_node_within_two_seconds_and_new_clients_get_4004() {
    let Some(nodes) = Nodes::start().await else {
        return;
    };
    not_at_midnight().await;
    let app = app(&nodes, json!({"deliveries_per_day": 200})).await;
    let (id, key) = (text(&app, "id"), text(&app["key"], "key"));
    let (one, two) = (
        backend(&nodes.one, &id, &app["key"]),
        backend(&nodes.two, &id, &app["key"]),
    );
    is_known(&two).await;
    let mut subscriber = client(&nodes.one, &key).await;
    subscribe(&mut subscriber, "news", "").await;
    // Takes a share, and delivers to nobody.
    two.publish("news", "e", "x").await;
    let (accepted, status, told) = publish_until_refused(&one).await;
    assert_eq!(status, 403, "{told}");
    // Node two may keep a share of ten; what is on its way to the shard is not counted yet.
    assert!((180..=230).contains(&accepted), "{accepted}");
    within(3 * SECOND, "the other node knows", async || {
        publish_until_refused(&two).await.1 == 403
    })
    .await;
    for node in [&nodes.one, &nodes.two] {
        let mut refused = Client::open(node.address, &socket_path(&key), &[])
            .await
            .unwrap();
        let told = refused.event().await;
        assert_eq!(told["data"]["code"], 4004, "{told}");
        let message = text(&told["data"], "message");
        assert!(message.contains("200 deliveries a day"), "{message}");
        assert_eq!(refused.closed().await, 4004);
    }
}

#[tokio::test]
async fn without_the_store_a_node_goes_on_for_five_shares_which_count_afterwards() {
    let Some(nodes) = Nodes::start().await else {
        return;
    };
    not_at_midnight().await;
    let app = app(&nodes, json!({"messages_per_day": 2000})).await;
    let id = text(&app, "id");
    let api = backend(&nodes.one, &id, &app["key"]);
    api.publish("news", "e", "x").await;
    nodes.sql("ALTER TABLE quota_periods RENAME TO away");
    let (accepted, status, told) = publish_until_refused(&api).await;
    assert_eq!(status, 503, "{told}");
    assert!(
        (100..=121).contains(&accepted),
        "five shares of 20: {accepted}"
    );
    nodes.sql("ALTER TABLE away RENAME TO quota_periods");
    within(10 * SECOND, "the store answers again", async || {
        api.post("events", r#"{"name":"e","channel":"news","data":"x"}"#)
            .await
            .status
            == 200
    })
    .await;
    let used = quota(&nodes, &id).await["used"].as_i64().unwrap();
    let counted = i64::try_from(accepted).unwrap() + 2;
    assert!(
        (counted..=counted + 40).contains(&used),
        "{used}, {counted}"
    );
}

#[tokio::test]
async fn what_a_node_has_left_of_a_share_is_given_back_when_the_quota_changes() {
    not_at_midnight().await;
    let server: Server = server(&[]).await;
    let owner = server.owner().await;
    let quotas = |messages: u64| json!({"settings": {"quotas": {"messages_per_day": messages}}});
    let app = owner.create_app("Shop").await;
    let path = format!("/apps/{}", text(&app, "id"));
    owner.patch(&path, &quotas(1_000_000)).await.expect(200);
    let api = backend(&server, &text(&app, "id"), &app["key"]);
    api.publish("news", "e", "x").await;
    owner.patch(&path, &quotas(5)).await.expect(200);
    let (accepted, status, _) = publish_until_refused(&api).await;
    assert_eq!((accepted, status), (4, 403));
    owner.patch(&path, &quotas(7)).await.expect(200);
    let (accepted, status, _) = publish_until_refused(&api).await;
    assert_eq!((accepted, status), (2, 403));
}

#[tokio::test]
async fn the_installations_quota_counts_all_apps_and_a_stopped_node_gives_its_share_back() {
    not_at_midnight().await;
    let mut server: Server = server(&["quotas.messages_per_day=1000"]).await;
    let owner = server.owner().await;
    let (one, two) = (owner.create_app("One").await, owner.create_app("Two").await);
    for app in [&one, &two] {
        let api = backend(&server, &text(app, "id"), &app["key"]);
        api.publish("news", "e", "x").await;
    }
    let used = async |owner: &fanfare_testkit::Admin| {
        owner.get("/quotas").await.expect(200)[0]["used"].clone()
    };
    assert_eq!(used(&owner).await, 10, "a share");
    server.restart().await;
    let owner = server.owner().await;
    assert_eq!(used(&owner).await, 2);
    let shown = server.run_ok(&["quotas"]);
    assert!(shown.contains("messages_per_day"), "{shown}");
    let none = server.run_ok(&["quotas", "--app", &text(&one, "id"), "--json"]);
    assert_eq!(none.trim(), "[]");
}
