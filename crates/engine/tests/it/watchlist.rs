//! Watchlists: docs/compatibility.md#users, C-063 and C-064.

use fanfare_protocol::AppSettings;
use fanfare_protocol::signature::{SigningKey, user_auth_text};
use serde_json::{Value, json};

use crate::node::{Client, KEY, Node, SECRET, data, definition, settings, with_node};

async fn sign_in(client: &Client, user: &str, watchlist: &Value) {
    let user_data = json!({"id": user, "watchlist": watchlist}).to_string();
    let text = user_auth_text(client.session().socket_id(), &user_data);
    let auth = format!("{KEY}:{}", SigningKey::new(SECRET).sign(&text));
    client
        .send(&json!({"event": "pusher:signin", "data": {"auth": auth, "user_data": user_data}}))
        .await;
}

fn enable(node: &Node) {
    node.engine.update_apps(
        vec![definition(
            "1",
            KEY,
            AppSettings {
                watchlists: true,
                ..settings()
            },
        )],
        &[],
    );
}

/// What a watchlist event says, as (name, users).
fn told(event: &Value) -> Vec<(String, Vec<String>)> {
    assert_eq!(event["event"], "pusher_internal:watchlist_events");
    let events: Vec<Value> = serde_json::from_value(data(event)["events"].clone()).unwrap();
    let one = |event: &Value| {
        (
            event["name"].as_str().unwrap().to_owned(),
            serde_json::from_value(event["user_ids"].clone()).unwrap(),
        )
    };
    events.iter().map(one).collect()
}

fn one(name: &str, users: &[&str]) -> (String, Vec<String>) {
    (
        name.to_owned(),
        users.iter().map(|user| (*user).to_owned()).collect(),
    )
}

#[test]
fn who_watches_is_told_who_is_there_and_then_of_every_change_once() {
    with_node(2, async |node| {
        enable(&node);
        let (a, watcher) = (node.connect(), node.connect());
        sign_in(&a, "a", &json!([])).await;
        sign_in(&watcher, "w", &json!(["a", "b"])).await;
        let events = watcher.events();
        assert_eq!(events[0]["event"], "pusher:signin_success");
        assert_eq!(
            told(&events[1]),
            [one("online", &["a"]), one("offline", &["b"])]
        );
        let (mut b1, mut b2) = (node.connect(), node.connect());
        sign_in(&b1, "b", &json!([])).await;
        sign_in(&b2, "b", &json!([])).await;
        sign_in(&b2, "b", &json!([])).await;
        let events = watcher.events();
        assert_eq!(events.len(), 1, "a second tab is no news");
        assert_eq!(told(&events[0]), [one("online", &["b"])]);
        b1.leave().await;
        assert!(watcher.seen().is_empty());
        b2.leave().await;
        assert_eq!(told(&watcher.events()[0]), [one("offline", &["b"])]);
        assert_eq!(
            a.names(),
            ["pusher:signin_success"],
            "who watches nobody hears of nobody"
        );
    });
}

#[test]
fn of_a_long_watchlist_the_first_hundred_count() {
    with_node(1, async |node| {
        enable(&node);
        let client = node.connect();
        let long: Vec<String> = (0..101).map(|number| format!("u{number}")).collect();
        sign_in(&client, "w", &json!(long)).await;
        let events = client.events();
        assert_eq!(events[0]["event"], "pusher:signin_success");
        assert_eq!(told(&events[1])[0].1.len(), 100);
        assert_eq!(events[2]["data"]["code"], 4302);
        let last = node.connect();
        sign_in(&last, "u100", &json!([])).await;
        assert!(client.seen().is_empty());
        let first = node.connect();
        sign_in(&first, "u0", &json!([])).await;
        assert_eq!(told(&client.events()[0]), [one("online", &["u0"])]);
    });
}

#[test]
fn a_watcher_that_has_left_is_told_nothing_and_nothing_is_left_of_it() {
    with_node(1, async |node| {
        enable(&node);
        let mut watcher = node.connect();
        sign_in(&watcher, "w", &json!(["a"])).await;
        watcher.leave().await;
        let (a, next) = (node.connect(), node.connect());
        sign_in(&a, "a", &json!([])).await;
        assert!(next.seen().is_empty(), "it may have the watcher's place");
    });
}

#[test]
fn an_app_that_does_not_want_watchlists_has_none() {
    with_node(1, async |node| {
        let client = node.connect();
        sign_in(&client, "w", &json!(["a"])).await;
        assert_eq!(client.names(), ["pusher:signin_success"]);
    });
}

#[test]
fn signing_in_again_takes_the_new_watchlist() {
    with_node(2, async |node| {
        enable(&node);
        let (mut a, mut b, watcher) = (node.connect(), node.connect(), node.connect());
        sign_in(&a, "a", &json!([])).await;
        sign_in(&b, "b", &json!([])).await;
        sign_in(&watcher, "w", &json!(["a", "x"])).await;
        watcher.events();
        sign_in(&watcher, "w", &json!(["b", "x"])).await;
        let events = watcher.events();
        assert_eq!(events[0]["event"], "pusher:signin_success");
        assert_eq!(
            told(&events[1]),
            [one("online", &["b"]), one("offline", &["x"])]
        );
        a.leave().await;
        assert!(watcher.seen().is_empty(), "a is not watched any more");
        let x = node.connect();
        sign_in(&x, "x", &json!([])).await;
        assert_eq!(told(&watcher.events()[0]), [one("online", &["x"])]);
        sign_in(&watcher, "w", &json!(["b", "x"])).await;
        assert_eq!(watcher.names(), ["pusher:signin_success"], "the same list");
        sign_in(&watcher, "w", &json!([])).await;
        watcher.events();
        b.leave().await;
        assert!(watcher.seen().is_empty(), "nobody is watched any more");
    });
}
