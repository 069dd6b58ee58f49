//! A webhook's log in the admin API: what was recorded and sent, what receivers ask for, what is sent again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fanfare_testkit::admin::text;
use fanfare_testkit::{Admin, Client, Server};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::{SECOND, client, server, subscribe, within};
use crate::receiver::{self, Received};

/// A webhook, and the key of its app.
struct Hook {
    owner: Admin,
    app: String,
    key: Value,
    /// Of the webhook.
    path: String,
}

impl Hook {
    async fn new(server: &Server, body: Value) -> Self {
        let owner = server.owner().await;
        let made = owner.create_app("Shop").await;
        let app = text(&made, "id");
        let hooks = format!("/apps/{app}/webhooks");
        let hook = owner.post(&hooks, &body).await.expect(201);
        Self {
            path: format!("{hooks}/{}", text(&hook, "id")),
            owner,
            app,
            key: made["key"].clone(),
        }
    }

    async fn deliveries(&self, query: &str) -> Value {
        let path = format!("{}/deliveries{query}", self.path);
        self.owner.get(&path).await.expect(200)
    }

    async fn refused(&self, query: &str) -> String {
        let path = format!("{}/deliveries{query}", self.path);
        let reply = self.owner.get(&path).await;
        assert_eq!(reply.problem(400), "invalid", "{query}");
        text(&reply.json(), "detail")
    }

    async fn post(&self, part: &str, body: Value) -> fanfare_testkit::Reply {
        self.owner
            .post(&format!("{}/{part}", self.path), &body)
            .await
    }

    /// A client of the app, subscribed to a channel.
    async fn subscriber(&self, server: &Server, channel: &str) -> Client {
        let mut client = client(server, &text(&self.key, "key")).await;
        subscribe(&mut client, channel, "").await;
        client
    }
}

fn sequences(list: &Value) -> Vec<i64> {
    let items = list["items"].as_array().unwrap().iter();
    items
        .map(|item| item["sequence"].as_i64().unwrap())
        .collect()
}

#[tokio::test]
async fn a_receiver_asks_for_what_it_missed_and_verifies_it() {
    let server = server(&[]).await;
    let body = json!({
        "events": ["channel_occupied"],
        "headers": {"Authorization": "Bearer marked"},
    });
    let hook = Hook::new(&server, body).await;
    let began = Instant::now();
    let none = hook.deliveries("?after=0&wait=1").await;
    assert!(began.elapsed() >= SECOND, "it waits");
    assert_eq!(
        (&none["items"], &none["position"], &none["oldest"]),
        (&json!([]), &json!(0), &json!(null))
    );

    // The request waits already, or finds the delivery.
    let (list, _client) = timeout(10 * SECOND, async {
        tokio::join!(
            hook.deliveries("?after=0&wait=30"),
            hook.subscriber(&server, "news")
        )
    })
    .await
    .expect("it waits no longer than it has to");
    assert_eq!(sequences(&list), [1]);
    let delivery = &list["items"][0];
    assert_eq!(
        (text(delivery, "state"), text(delivery, "channel")),
        ("kept".into(), "news".into())
    );
    let event = json!({"name": "channel_occupied", "channel": "news"});
    assert_eq!(delivery["events"], json!([event]));
    let request = &delivery["request"];
    let headers = &request["headers"];
    let signed = Received {
        headers: headers
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, value)| {
                let value = value.as_str().unwrap();
                (name.parse().unwrap(), value.parse().unwrap())
            })
            .collect(),
        body: text(request, "body"),
    };
    assert!(signed.is_signed_with(&text(&hook.key, "secret")));
    assert_eq!(signed.header("x-pusher-key"), text(&hook.key, "key"));
    assert_eq!(signed.header("fanfare-delivery"), text(delivery, "id"));
    assert_eq!(signed.header("authorization"), "Bearer marked");
    assert_eq!(signed.json()["events"], json!([event]));

    // Viewers get the same without what may be a credential.
    let viewer = hook.owner.make_token("viewer", Some(&[&hook.app])).await;
    let path = format!("{}/deliveries?after=0", hook.path);
    let seen = viewer.get(&path).await;
    assert!(!seen.text.contains("marked"), "{seen:?}");
    assert!(seen.text.contains("x-pusher-signature"));

    let next = hook.deliveries("?after=1").await;
    assert_eq!((&next["items"], &next["position"]), (&json!([]), &json!(1)));
    let shown = hook.owner.get(&format!("{}/deliveries/1", hook.path)).await;
    let shown = shown.expect(200);
    assert_eq!(
        (&shown["attempts"], shown.get("request")),
        (&json!([]), None)
    );
    let gone = hook.owner.get(&format!("{}/deliveries/2", hook.path)).await;
    assert_eq!(gone.problem(404), "not_found");
    // It has nothing to send to, and its receiver can ask again.
    for (part, body) in [("replay", json!({"after": 0})), ("test", json!({}))] {
        assert_eq!(hook.post(part, body).await.problem(409), "conflict");
    }
}

#[tokio::test]
async fn a_request_that_waits_ends_when_its_webhook_is_deleted() {
    let server = server(&[]).await;
    let hook = Hook::new(&server, json!({})).await;
    let path = format!("{}/deliveries?after=0&wait=30", hook.path);
    let (waited, deleted) = timeout(10 * SECOND, async {
        tokio::join!(hook.owner.get(&path), hook.owner.delete(&hook.path))
    })
    .await
    .expect("it ends");
    assert_eq!(
        (waited.problem(404), deleted.status),
        ("not_found".into(), 204)
    );
}

#[tokio::test]
async fn deliveries_are_listed_filtered_and_paged() {
    let server = server(&[]).await;
    let hook = Hook::new(&server, json!({"events": ["channel_occupied"]})).await;
    let mut clients = Vec::new();
    for channel in ["a", "b", "c", "d", "e"] {
        clients.push(hook.subscriber(&server, channel).await);
    }
    within(10 * SECOND, "all are recorded", async || {
        hook.deliveries("").await["items"].as_array().unwrap().len() == 5
    })
    .await;
    let first = hook.deliveries("?limit=2").await;
    assert_eq!(sequences(&first), [5, 4]);
    assert_eq!(
        first["items"][0].get("request"),
        None,
        "only where they were asked for"
    );
    let second = format!("?limit=3&cursor={}", text(&first, "next_cursor"));
    let second = hook.deliveries(&second).await;
    assert_eq!(
        (sequences(&second), &second["next_cursor"]),
        (vec![3, 2, 1], &json!(null))
    );
    let oldest = hook.deliveries("?after=1&limit=2").await;
    assert_eq!(sequences(&oldest), [2, 3]);
    let rest = format!("?after=1&limit=9&cursor={}", text(&oldest, "next_cursor"));
    assert_eq!(sequences(&hook.deliveries(&rest).await), [4, 5]);
    let channel = first["items"][1]["channel"].as_str().unwrap();
    for (query, found) in [
        (format!("?channel={channel}"), vec![4]),
        ("?event=channel_vacated".into(), vec![]),
        ("?event=channel_occupied&before=3".into(), vec![2, 1]),
        ("?state=kept&from=0".into(), vec![5, 4, 3, 2, 1]),
        ("?state=failed".into(), vec![]),
        ("?to=1".into(), vec![]),
    ] {
        assert_eq!(sequences(&hook.deliveries(&query).await), found, "{query}");
    }
    for (query, words) in [
        ("?event=channel_ocupied", "did you mean channel_occupied?"),
        ("?state=lost", "waiting, delivered, failed, kept"),
        ("?wait=1", "wait needs after"),
        ("?after=0&wait=31", "0 to 30 seconds"),
        ("?after=-1", "0 for all"),
        ("?after=x", "after must be a whole number, not \"x\""),
        ("?from=", "from must be a whole number, not \"\""),
        ("?after=0&wait=-1", "wait must be 0 or more, not -1"),
        ("?channel=a%20b", "channel \"a b\": "),
        ("?channel=", "channel \"\": "),
    ] {
        let detail = hook.refused(query).await;
        assert!(detail.contains(words), "{query}: {detail}");
    }
    let odd = format!("{}/deliveries/abc", hook.path);
    let odd = hook.owner.get(&odd).await;
    assert_eq!(odd.problem(400), "invalid");
    let detail = text(&odd.json(), "detail");
    assert_eq!(
        detail,
        "the path: sequence must be a whole number, not \"abc\""
    );
}

#[tokio::test]
async fn what_was_refused_is_in_the_log_and_is_sent_again() {
    let takes = Arc::new(AtomicBool::new(false));
    let judging = Arc::clone(&takes);
    let judge = move |_: &Received| {
        if judging.load(Ordering::Relaxed) {
            200
        } else {
            503
        }
    };
    let (url, mut told) = receiver::start(judge).await;
    let server = server(&["webhooks.allow_inner_addresses=true"]).await;
    let body = json!({"url": url, "events": ["channel_occupied"]});
    let hook = Hook::new(&server, body).await;
    let _client = hook.subscriber(&server, "news").await;
    told.recv().await.unwrap();
    let path = format!("{}/deliveries/1", hook.path);
    let shown = async || hook.owner.get(&path).await.expect(200);
    within(10 * SECOND, "the attempt is in the log", async || {
        !shown().await["attempts"].as_array().unwrap().is_empty()
    })
    .await;
    let waiting = shown().await;
    let first = &waiting["attempts"][0];
    assert_eq!(
        (&waiting["state"], &first["status"]),
        (&json!("waiting"), &json!(503))
    );
    assert!(text(first, "error").contains("503"), "{first}");
    takes.store(true, Ordering::Relaxed);
    within(30 * SECOND, "it is taken", async || {
        shown().await["state"] == "delivered"
    })
    .await;

    let counted = hook
        .post("replay", json!({"state": "delivered", "dry_run": true}))
        .await;
    assert_eq!(counted.expect(200)["deliveries"], 1);
    while told.try_recv().is_ok() {}
    let replayed = hook.post("replay", json!({"sequences": [1, 7]})).await;
    let replayed = replayed.expect(200);
    assert_eq!(
        (&replayed["deliveries"], &replayed["unknown"]),
        (&json!(1), &json!([7]))
    );
    let unknown = hook.post("replay", json!({"sequences": [7, 8]})).await;
    assert_eq!(unknown.problem(404), "not_found");
    assert!(text(&unknown.json(), "detail").contains("no delivery 7, 8"));
    let again = timeout(10 * SECOND, told.recv()).await.unwrap().unwrap();
    assert_eq!(
        (
            again.header("fanfare-replay"),
            again.header("fanfare-sequence")
        ),
        ("true", "1")
    );
    assert!(again.is_signed_with(&text(&hook.key, "secret")));

    let tested = hook.post("test", json!({})).await.expect(200);
    let items = tested["items"].as_array().unwrap();
    assert_eq!(
        (items.len(), &items[0]["event"]),
        (1, &json!("channel_occupied"))
    );
    assert_eq!(
        (&items[0]["status"], &items[0]["error"]),
        (&json!(200), &json!(null))
    );
    let example = timeout(10 * SECOND, told.recv()).await.unwrap().unwrap();
    assert_eq!(example.header("fanfare-test"), "true");
    takes.store(false, Ordering::Relaxed);
    let refused = hook.post("test", json!({"event": "member_added"})).await;
    assert_eq!(refused.expect(200)["items"][0]["status"], 503);

    for (part, body, words) in [
        ("replay", json!({}), "selects all"),
        ("replay", json!({"sequences": []}), "1 to 100"),
        (
            "replay",
            json!({"sequences": [1], "state": "failed"}),
            "leave out",
        ),
        ("replay", json!({"channel": "a b"}), "a b"),
        (
            "test",
            json!({"event": "memberadded"}),
            "did you mean member_added?",
        ),
    ] {
        let reply = hook.post(part, body).await;
        assert_eq!(reply.problem(400), "invalid");
        assert!(text(&reply.json(), "detail").contains(words), "{reply:?}");
    }
    let audit = hook.owner.get("/audit/export").await.text;
    assert!(audit.contains("webhook.replay") && audit.contains("webhook.test"));
}

#[tokio::test]
async fn an_app_is_not_replayed_without_end() {
    let server = server(&[]).await;
    let hook = Hook::new(&server, json!({"url": "https://example.com/"})).await;
    let limit = Duration::from_secs(30);
    timeout(limit, async {
        loop {
            let reply = hook
                .post("replay", json!({"after": 0, "dry_run": true}))
                .await;
            if reply.status == 429 {
                assert!(reply.header("retry-after").parse::<u64>().unwrap() >= 1);
                return;
            }
            assert_eq!(reply.expect(200)["deliveries"], 0);
        }
    })
    .await
    .expect("it is refused");
}
