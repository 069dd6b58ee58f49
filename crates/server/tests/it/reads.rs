//! Reading channels: docs/compatibility.md#http-api, C-082 to C-085 and C-088 to C-090, and C-027 of
//! docs/compatibility.md#public-and-private-channels.

use serde_json::json;

use crate::server;

#[tokio::test]
async fn only_occupied_channels_are_listed_with_what_was_asked() {
    let server = server().await;
    let api = server.api();
    assert_eq!(api.get("channels", &[]).await.text, r#"{"channels":{}}"#);
    let (mut one, mut two) = (server.connect().await, server.connect().await);
    one.subscribe("a_-=@,.;Z").await;
    one.join("presence-a", r#"{"user_id":1}"#).await;
    two.join("presence-a", r#"{"user_id":1}"#).await;
    let all = api.get("channels", &[]).await.json();
    assert_eq!(
        all,
        json!({"channels": {"a_-=@,.;Z": {}, "presence-a": {}}})
    );
    let users = api
        .get(
            "channels",
            &[("filter_by_prefix", "presence-"), ("info", "user_count")],
        )
        .await
        .json();
    assert_eq!(
        users,
        json!({"channels": {"presence-a": {"user_count": 1}}})
    );
    let counts = api
        .get("channels", &[("info", "subscription_count")])
        .await
        .json();
    assert_eq!(
        counts["channels"]["presence-a"],
        json!({"subscription_count": 2})
    );
    let refused = api.get("channels", &[("info", "user_count")]).await;
    assert!(
        refused.status == 400 && refused.text.contains("filter_by_prefix"),
        "{refused:?}"
    );
    assert_eq!(api.get("channels", &[("info", "nope")]).await.status, 400);
}

#[tokio::test]
async fn a_channel_is_described_whether_occupied_or_not() {
    let server = server().await;
    let api = server.api();
    let info = [("info", "user_count,subscription_count")];
    let empty = api.get("channels/presence-a", &info).await.json();
    assert_eq!(
        empty,
        json!({"occupied": false, "user_count": 0, "subscription_count": 0})
    );
    let mut client = server.connect().await;
    client.join("presence-a", r#"{"user_id":1}"#).await;
    let one = api.get("channels/presence-a", &info).await.json();
    assert_eq!(
        one,
        json!({"occupied": true, "user_count": 1, "subscription_count": 1})
    );
    assert_eq!(
        api.get("channels/presence-a", &[]).await.json(),
        json!({"occupied": true})
    );
    assert_eq!(
        api.get("channels/a", &[("info", "user_count")])
            .await
            .status,
        400
    );
    assert_eq!(api.get("channels/a%20b", &[]).await.status, 400);
}

#[tokio::test]
async fn users_are_listed_with_text_ids() {
    let server = server().await;
    let api = server.api();
    assert_eq!(
        api.get("channels/presence-a/users", &[]).await.text,
        r#"{"users":[]}"#
    );
    let (mut one, mut two) = (server.connect().await, server.connect().await);
    one.join("presence-a", r#"{"user_id":10}"#).await;
    two.join("presence-a", r#"{"user_id":"b"}"#).await;
    let users = api.get("channels/presence-a/users", &[]).await.json();
    assert_eq!(users, json!({"users": [{"id": "10"}, {"id": "b"}]}));
    let refused = api.get("channels/a/users", &[]).await;
    assert!(
        refused.status == 400 && refused.text.contains("presence"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn queries_verify_as_the_sdks_write_them() {
    let server = server().await;
    let api = server.api();
    let now = fanfare_testkit::api::now();
    let signed = api.sign(
        "GET",
        "channels/presence-a",
        &[("info", "user_count,subscription_count")],
        b"",
        now,
    );
    for query in [
        signed.clone(),
        signed.replace(',', "%2C"),
        signed.replace("info=user_count,", "info=user_count%2c"),
    ] {
        let answer = api
            .send(
                "GET",
                &format!("{}?{query}", api.path("channels/presence-a")),
                Vec::new(),
            )
            .await;
        assert_eq!(answer.status, 200, "{query}: {answer:?}");
    }
    // PHP writes arrays with indexes and signs them joined.
    let php = signed.replace(
        "info=user_count,subscription_count",
        "info%5B0%5D=user_count&info%5B1%5D=subscription_count",
    );
    let answer = api
        .send(
            "GET",
            &format!("{}?{php}", api.path("channels/presence-a")),
            Vec::new(),
        )
        .await;
    assert_eq!(
        answer.json(),
        json!({"occupied": false, "user_count": 0, "subscription_count": 0})
    );
    // Python sends the MD5 of the empty body with every GET.
    let md5 = [("body_md5", "d41d8cd98f00b204e9800998ecf8427e")];
    assert_eq!(api.get("channels", &md5).await.status, 200);
}

#[tokio::test]
async fn what_a_cache_channel_keeps_is_told_with_the_seconds_left() {
    let server = server().await;
    let api = server.api();
    let info = [("info", "cache")];
    let empty = api.get("channels/cache-a", &info).await.json();
    assert_eq!(empty, json!({"occupied": false, "cache": null}));
    api.publish("cache-a", "e", "{\"n\":1}").await;
    let kept = api.get("channels/cache-a", &info).await.json();
    assert_eq!(kept["cache"]["data"], "{\"n\":1}");
    let ttl = kept["cache"]["ttl"].as_u64().unwrap();
    assert!((1780..=1800).contains(&ttl), "{kept}");
    assert_eq!(api.get("channels/a", &info).await.status, 400);
}
