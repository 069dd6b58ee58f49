//! An app's outbox in the admin API.

use fanfare_testkit::APP_ID;
use serde_json::json;

use super::server;

const URL: &str = "postgres://me:very-secret@127.0.0.1:1/shop";

fn path() -> String {
    format!("/apps/{APP_ID}/outbox")
}

#[tokio::test]
async fn an_outbox_is_set_shown_without_its_password_and_removed() {
    let server = server(&[]).await;
    let owner = server.owner().await;
    let none = owner.get(&path()).await;
    assert_eq!(none.problem(404), "not_found");
    assert!(none.text.contains("has no outbox"), "{none:?}");
    let set = owner.put(&path(), &json!({"url": URL})).await.expect(200);
    let shown = owner.get(&path()).await.expect(200);
    for outbox in [&set, &shown] {
        assert_eq!(outbox["url"], "postgres://me:(hidden)@127.0.0.1:1/shop");
        assert_eq!(outbox["stream"], json!(null));
        assert_eq!(outbox["poll_interval"], 50);
    }
    let redis =
        json!({"url": "redis://:very-secret@127.0.0.1:1", "stream": "events", "poll_interval": 5});
    let set = owner.put(&path(), &redis).await.expect(200);
    assert_eq!(set["url"], "redis://:(hidden)@127.0.0.1:1");
    assert_eq!(
        (&set["stream"], &set["poll_interval"]),
        (&json!("events"), &json!(5))
    );
    let log = owner.get("/audit?action=outbox.set").await.expect(200);
    assert_eq!(log["items"].as_array().unwrap().len(), 2);
    assert!(!log.to_string().contains("very-secret"), "{log}");
    assert_eq!(owner.delete(&path()).await.status, 204);
    assert_eq!(owner.delete(&path()).await.problem(404), "not_found");
}

#[tokio::test]
async fn what_cannot_work_is_refused_with_the_reason() {
    let server = server(&[]).await;
    let owner = server.owner().await;
    for (body, words) in [
        (json!({}), "missing field `url`"),
        (json!({"url": URL, "interval": 5}), "unknown field"),
        (json!({"url": "mysql://h/db"}), "url must begin with"),
        (json!({"url": URL, "stream": "x"}), "stream is for Redis"),
        (
            json!({"url": URL, "poll_interval": 4}),
            "poll_interval is 5 to 60000 milliseconds, not 4",
        ),
        (
            json!({"url": "postgres://me:(hidden)@127.0.0.1:1/shop"}),
            "url has (hidden) where its password belongs",
        ),
    ] {
        let refused = owner.put(&path(), &body).await;
        assert_eq!(refused.problem(400), "invalid");
        assert!(refused.text.contains(words), "{body}: {refused:?}");
    }
    assert_eq!(owner.get(&path()).await.status, 404);
}
