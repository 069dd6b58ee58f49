//! Channels that keep a history: paging, and coming back.

use serde_json::json;

use fanfare_testkit::{APP_ID, Server};

use crate::server;

const RULE: &str = r#"history=[{"channels":"room-*","size":5,"ttl":60}]"#;

async fn with_history() -> Server {
    let server = server().await;
    server.run_ok(&["app", "update", APP_ID, "--setting", RULE]);
    let ready = async || {
        let answer = server.api().get("channels/room-1/events", &[]).await;
        answer.status == 200
    };
    while !ready().await {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    server
}

#[tokio::test]
async fn a_backend_pages_through_a_history_in_both_directions() {
    let server = with_history().await;
    let api = server.api();
    for number in 0..6 {
        api.publish("room-1", "e", &number.to_string()).await;
    }
    let page = async |query: &[(&str, &str)]| {
        let answer = api.get("channels/room-1/events", query).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let page = answer.json();
        let texts: String = page["events"]
            .as_array()
            .unwrap()
            .iter()
            .map(|event| event["data"].as_str().unwrap())
            .collect();
        let last = page["events"].as_array().unwrap().last().cloned();
        let last = last.map(|event| event["position"].as_str().unwrap().to_owned());
        (texts, page["more"] == true, last.unwrap_or_default())
    };
    let (texts, more, last) = page(&[("limit", "2")]).await;
    assert_eq!((&*texts, more), ("54", true));
    let (texts, more, last) = page(&[("limit", "2"), ("before", &last)]).await;
    assert_eq!((&*texts, more), ("32", true));
    let (texts, more, _) = page(&[("limit", "2"), ("before", &last)]).await;
    assert_eq!((&*texts, more), ("1", false), "five are kept");
    let (texts, more, last) = page(&[("limit", "3"), ("after", "0")]).await;
    assert_eq!((&*texts, more), ("123", true));
    let (texts, more, _) = page(&[("after", &last)]).await;
    assert_eq!((&*texts, more), ("45", false));
}

#[tokio::test]
async fn what_cannot_be_paged_is_said() {
    let server = with_history().await;
    let api = server.api();
    for (channel, query, status, words) in [
        ("other", None, 400, "keeps no history"),
        ("room-1", Some(("limit", "0")), 400, "1 to 1000"),
        ("room-1", Some(("before", "?")), 400, "no position"),
        (
            "room-1",
            Some(("after", "lost:3")),
            410,
            "not there any more",
        ),
    ] {
        let query: Vec<_> = query.into_iter().collect();
        let answer = api.get(&format!("channels/{channel}/events"), &query).await;
        assert_eq!(answer.status, status, "{answer:?}");
        assert!(answer.text.contains(words), "{answer:?}");
    }
}

#[tokio::test]
async fn a_client_that_comes_back_gets_what_it_missed() {
    let server = with_history().await;
    let ask = |recover| json!({"event": "pusher:subscribe", "data": {"channel": "room-1", "recover": recover}});
    let mut client = server.connect().await;
    client.send(&ask(json!(true))).await;
    client
        .expect("pusher_internal:subscription_succeeded")
        .await;
    server.api().publish("room-1", "e", "seen").await;
    let position = client.expect("e").await["position"].clone();
    drop(client);
    for text in ["missed", "as well"] {
        server.api().publish("room-1", "e", text).await;
    }
    let mut client = server.connect().await;
    client.send(&ask(json!({"position": position}))).await;
    client
        .expect("pusher_internal:subscription_succeeded")
        .await;
    for text in ["missed", "as well"] {
        assert_eq!(client.expect("e").await["data"], text);
    }
    client.expect_nothing().await;
}

#[tokio::test]
async fn the_sdk_is_served_under_a_name_for_ever_and_one_that_stays() {
    let server = server().await;
    let api = server.api();
    let stays = api.send("GET", "/sdk/fanfare.js", Vec::new()).await;
    assert_eq!(stays.status, 200);
    // It leads to the name with the hash.
    let hashed = api.send("GET", "/sdk", Vec::new()).await;
    assert_eq!((hashed.status, &hashed.text), (200, &stays.text));
    let map = api.send("GET", "/sdk/fanfare.js.map", Vec::new()).await;
    assert!(map.json()["sources"].is_array());
    let encrypted = api
        .send("GET", "/sdk/fanfare-encrypted.js", Vec::new())
        .await;
    assert_eq!(encrypted.status, 200);
    assert_ne!(encrypted.text, stays.text);
    let recover = api.send("GET", "/sdk/recover.js", Vec::new()).await;
    assert!(recover.status == 200 && recover.text.contains("fanfareRecover"));
}
