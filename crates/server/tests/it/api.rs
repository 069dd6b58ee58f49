//! Publishing: docs/compatibility.md#http-api, C-073 to C-081, C-086, C-087, C-091 and C-092.

use fanfare_testkit::api::now;
use fanfare_testkit::{APP_ID, Api, KEY, SECRET};
use serde_json::{Value, json};

use crate::server;

fn event(changes: &[(&str, Value)]) -> String {
    let mut event = json!({"name": "e", "channels": ["a"], "data": "d"});
    for (field, value) in changes {
        event[*field] = value.clone();
    }
    event.to_string()
}

#[tokio::test]
async fn limits_are_kept_to_the_byte_and_refusals_name_them() {
    let server = server().await;
    let api = server.api();
    let channels = |count: usize| {
        json!(
            (0..count)
                .map(|number| format!("c{number}"))
                .collect::<Vec<_>>()
        )
    };
    for (body, status, words) in [
        (event(&[("channels", channels(100))]), 200, "{}"),
        (event(&[("channels", channels(101))]), 400, "101"),
        (event(&[("channels", json!([]))]), 400, "channels"),
        (event(&[("channels", Value::Null)]), 400, "channels"),
        (
            event(&[("channels", Value::Null), ("channel", json!("a"))]),
            200,
            "{}",
        ),
        (event(&[("data", json!("x".repeat(10_240)))]), 200, "{}"),
        (
            event(&[("data", json!("x".repeat(10_241)))]),
            413,
            "10241 bytes",
        ),
        (
            event(&[("data", json!("é".repeat(5_121)))]),
            413,
            "10242 bytes",
        ),
        (event(&[("data", Value::Null)]), 400, "data"),
        (event(&[("name", json!(7))]), 400, "name"),
        (event(&[("name", Value::Null)]), 400, "name"),
        (event(&[("name", json!("x".repeat(201)))]), 400, "201"),
        (event(&[("name", json!("pusher:x"))]), 400, "reserved"),
        (event(&[("name", json!("client-x"))]), 200, "{}"),
        (event(&[("channels", json!(["#foo"]))]), 400, "reserved"),
        (
            event(&[("channels", json!(["#server-to-user-1"]))]),
            200,
            "{}",
        ),
        (event(&[("socket_id", json!("abc"))]), 400, "socket_id"),
        (event(&[("socket_id", Value::Null)]), 200, "{}"),
        (event(&[("socket_id", json!("1.1"))]), 200, "{}"),
        ("{".into(), 400, "Invalid body"),
        ("[]".into(), 400, "object"),
        (r#"{"name":"e","channel":"a"}"#.into(), 400, "data"),
        (
            r#"{"name":"e","channel":"a","data":"\ud800"}"#.into(),
            400,
            "data",
        ),
    ] {
        let answer = api.post("events", body.clone()).await;
        assert_eq!(answer.status, status, "{body:.200}: {answer:?}");
        assert!(answer.text.contains(words), "{body:.200}: {answer:?}");
    }
}

#[tokio::test]
async fn requests_that_are_not_signed_as_they_should_are_refused_and_deliver_nothing() {
    let server = server().await;
    let mut client = server.connect().await;
    client.subscribe("a").await;
    let api = server.api();
    let body = event(&[]);
    let send = async |query: String, body: &str| {
        api.send(
            "POST",
            &format!("{}?{query}", api.path("events")),
            body.into(),
        )
        .await
    };
    let signed = |at: u64| api.sign("POST", "events", &[], body.as_bytes(), at);
    for at in [now() - 601, now() + 601] {
        assert_eq!(send(signed(at), &body).await.status, 401);
    }
    let good = signed(now());
    for query in [
        good.replace("auth_version=1.0", "auth_version=2.0"),
        good.replace("auth_timestamp=", "auth_timestamp=x"),
        good.replace(&format!("auth_key={KEY}"), "auth_key=other"),
        good.split_once("&auth_signature").unwrap().0.to_owned(),
        format!("{good}0"),
        good.replace("body_md5", "body_md6"),
        String::new(),
    ] {
        let answer = send(query.clone(), &body).await;
        assert_eq!(answer.status, 401, "{query}: {answer:?}");
    }
    let answer = send(good, &event(&[("data", json!("other"))])).await;
    assert_eq!(answer.status, 401);
    assert!(answer.text.contains("body_md5"), "{answer:?}");
    let wrong = Api::new(server.address, APP_ID, KEY, "wrong")
        .post("events", body.clone())
        .await;
    assert!(
        wrong.status == 401 && wrong.text.contains("HmacSHA256Hex(\"POST\\n/apps/"),
        "{wrong:?}"
    );
    client.expect_nothing().await;
    assert_eq!(send(signed(now() - 590), &body).await.status, 200);
    client.expect("e").await;
}

#[tokio::test]
async fn an_apps_credentials_open_no_other_app() {
    let server = server().await;
    let other = [
        "app",
        "create",
        "--name",
        "Other",
        "--id",
        "2",
        "--key",
        "other-key",
        "--secret",
        SECRET,
    ];
    assert!(server.run_ok(&other).contains("other-key"));
    let foreign = Api::new(server.address, "2", KEY, SECRET);
    let own = Api::new(server.address, "2", "other-key", SECRET);
    wait_for(async || own.get("channels", &[]).await.status == 200).await;
    assert_eq!(foreign.post("events", event(&[])).await.status, 401);
    let mut client = server.connect().await;
    client.subscribe("a").await;
    assert_eq!(own.post("events", event(&[])).await.status, 200);
    client.expect_nothing().await;
    assert_eq!(
        own.get("channels", &[]).await.json(),
        json!({"channels": {}})
    );
}

async fn wait_for(condition: impl AsyncFn() -> bool) {
    let start = std::time::SystemTime::now();
    while !condition().await {
        assert!(
            start.elapsed().unwrap().as_secs() < 5,
            "it did not come true in five seconds"
        );
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn the_sender_can_be_left_out() {
    let server = server().await;
    let (mut one, mut two) = (server.connect().await, server.connect().await);
    for client in [&mut one, &mut two] {
        client.subscribe("a").await;
    }
    let body = event(&[("socket_id", json!(one.socket_id))]);
    assert_eq!(server.api().post("events", body).await.text, "{}");
    two.expect("e").await;
    one.expect_nothing().await;
}

#[tokio::test]
async fn info_tells_what_applies_to_each_channel() {
    let server = server().await;
    let mut client = server.connect().await;
    client.subscribe("a").await;
    client.join("presence-a", r#"{"user_id":1}"#).await;
    let body = event(&[
        ("channels", json!(["a", "presence-a", "b"])),
        ("info", json!("user_count,subscription_count")),
    ]);
    let expected = json!({"channels": {
        "a": {"subscription_count": 1},
        "presence-a": {"user_count": 1, "subscription_count": 1},
        "b": {"subscription_count": 0},
    }});
    assert_eq!(server.api().post("events", body).await.json(), expected);
    let body = event(&[("info", json!("user_count"))]);
    assert_eq!(
        server.api().post("events", body).await.json(),
        json!({"channels": {"a": {}}})
    );
}

#[tokio::test]
async fn a_batch_is_delivered_in_order_or_not_at_all() {
    let server = server().await;
    let mut client = server.connect().await;
    client.subscribe("a").await;
    let api = server.api();
    let item = |number: usize| json!({"name": format!("e{number}"), "channel": "a", "data": "d"});
    let batch = |items: Vec<Value>| json!({"batch": items}).to_string();
    assert_eq!(
        api.post("batch_events", batch((0..10).map(item).collect()))
            .await
            .text,
        "{}"
    );
    for number in 0..10 {
        client.expect(&format!("e{number}")).await;
    }
    assert_eq!(
        api.post("batch_events", batch((0..11).map(item).collect()))
            .await
            .status,
        400
    );
    let answer = api
        .post(
            "batch_events",
            batch(vec![item(0), json!({"name": "e", "data": "d"})]),
        )
        .await;
    assert!(
        answer.status == 400 && answer.text.contains("batch[1]"),
        "{answer:?}"
    );
    let large = json!({"name": "e", "channel": "a", "data": "x".repeat(10_241)});
    assert_eq!(
        api.post("batch_events", batch(vec![item(0), large]))
            .await
            .status,
        413
    );
    client.expect_nothing().await;
    let mut asking = item(1);
    asking["info"] = json!("subscription_count");
    let answer = api
        .post("batch_events", batch(vec![item(0), asking, item(2)]))
        .await
        .json();
    assert_eq!(
        answer,
        json!({"batch": [{}, {"subscription_count": 1}, {}]})
    );
}

#[tokio::test]
async fn payloads_arrive_byte_for_byte() {
    let server = server().await;
    let mut client = server.connect().await;
    client.subscribe("a").await;
    for payload in [
        "{\"a\":\"é \u{2028} \\\" 😀 \\\\u0000\"}",
        "",
        "null",
        " spaced ",
        "\u{0}\u{7f}",
    ] {
        server.api().publish("a", "e", payload).await;
        assert_eq!(client.event().await["data"], payload);
    }
}

#[tokio::test]
async fn a_repeated_publish_with_an_idempotency_key_is_answered_the_same_and_delivered_once() {
    let server = server().await;
    let mut client = server.connect().await;
    client.subscribe("a").await;
    let api = server.api();
    let asking = event(&[("info", json!("subscription_count"))]);
    let first = api.post_once("events", "key-1", asking.clone()).await;
    let mut another = server.connect().await;
    another.subscribe("a").await;
    let again = api.post_once("events", "key-1", asking).await;
    assert_eq!(
        (first.status, &first),
        (200, &again),
        "also what was counted then"
    );
    let other = api
        .post_once("events", "key-1", event(&[("data", json!("other"))]))
        .await;
    assert!(
        other.status == 400 && other.text.contains("another request"),
        "{other:?}"
    );
    let in_body = event(&[("idempotency_key", json!("key-2"))]);
    let (one, two) = tokio::join!(
        api.post("events", in_body.clone()),
        api.post("events", in_body.clone())
    );
    assert_eq!((one.status, two.status), (200, 200));
    let batch = json!({"batch": [{"name": "b", "channel": "a", "data": "d"}]}).to_string();
    for _ in 0..2 {
        assert_eq!(
            api.post_once("batch_events", "key-3", batch.clone())
                .await
                .text,
            "{}"
        );
    }
    for name in ["e", "e", "b"] {
        client.expect(name).await;
    }
    client.expect_nothing().await;
    assert_eq!(
        api.post_once("events", &"x".repeat(256), event(&[]))
            .await
            .status,
        400
    );
}
