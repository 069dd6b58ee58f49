//! An app's identity, from the admin API to a subscription.

use fanfare_testkit::admin::text;
use fanfare_testkit::{APP_ID, Admin, Client, KEY, Server};
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};

use super::{now, server, subscribe};

const SHARED: &str = "a secret that is shared with the provider";

fn identity() -> Value {
    json!({
        "providers": [{"issuer": "https://id.example/", "algorithms": ["HS256"], "secret": SHARED}],
        "grants": [
            {"channels": "private-user-{sub}"},
            {"channels": "presence-team-{team}", "presence": {"user_info": {"name": "name"}}},
        ],
        "sign_in": {"user_info": {"name": "name"}},
    })
}

fn path() -> String {
    format!("/apps/{APP_ID}/identity")
}

/// What a provider gives a page.
fn token(sub: &str) -> String {
    let expires = now() / 1000 + 60;
    let claims = json!({
        "iss": "https://id.example/", "sub": sub, "team": "red", "name": "Ada L.", "exp": expires,
    });
    let key = EncodingKey::from_secret(SHARED.as_bytes());
    encode(&Header::default(), &claims, &key).unwrap()
}

/// As pusher-js asks.
async fn ask(server: &Server, endpoint: &str, token: &str, form: String) -> (u16, Value) {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("http://{}/app/{KEY}/{endpoint}", server.address);
    let request = http
        .post(url)
        .header("content-type", "application/x-www-form-urlencoded")
        .header("authorization", format!("Bearer {token}"))
        .body(form);
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    let text = answer.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(json!(text)))
}

fn form(client: &Client, channel: &str) -> String {
    format!("socket_id={}&channel_name={channel}", client.socket_id)
}

#[tokio::test]
async fn an_identity_is_set_shown_without_secrets_and_taken_away() {
    let server = server(&[]).await;
    let owner = server.owner().await;
    assert_eq!(owner.get(&path()).await.problem(404), "not_found");
    assert_eq!(owner.put(&path(), &identity()).await.status, 204);
    let shown = owner.get(&path()).await.expect(200);
    assert_eq!(shown["providers"][0]["secret"], "set");
    assert_eq!(shown["grants"][0]["channels"], "private-user-{sub}");
    // What is shown keeps the secret if it is sent back, but not for another issuer.
    assert_eq!(owner.put(&path(), &shown).await.status, 204);
    let mut other = shown.clone();
    other["providers"][0]["issuer"] = json!("https://other.example/");
    let refused = owner.put(&path(), &other).await;
    assert_eq!(refused.problem(400), "invalid");
    assert!(refused.text.contains("providers[0].secret"), "{refused:?}");
    let client = server.connect().await;
    let asked = form(&client, "private-user-ada");
    let (status, _) = ask(&server, "auth", &token("ada"), asked.clone()).await;
    assert_eq!(status, 200);
    assert_eq!(owner.delete(&path()).await.status, 204);
    let (status, words) = ask(&server, "auth", &token("ada"), asked).await;
    assert_eq!(status, 403, "{words}");
    assert_eq!(owner.get(&path()).await.problem(404), "not_found");
    // Where nothing is stored, nothing can be kept.
    let refused = owner.put(&path(), &shown).await;
    assert!(refused.text.contains("providers[0].secret"), "{refused:?}");
    // The secret that was kept is the same, so that was no change.
    let audit = owner.get("/audit?action=identity.update").await.expect(200);
    assert_eq!(audit["items"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_bad_identity_is_refused_with_the_field_that_cannot_be_so() {
    let server = server(&[]).await;
    let owner = server.owner().await;
    owner.put(&path(), &identity()).await;
    for (pointer, value, field) in [
        ("/providers/0/secret", json!("short"), "providers[0].secret"),
        ("/providers/0/algorithms", json!([]), "providers[0]"),
        ("/providers/0/algorithms", json!(["none"]), "none"),
        ("/grants/0/channels", json!("news"), "grants[0].channels"),
        (
            "/grants/1/channels",
            json!("private-{"),
            "grants[1].channels",
        ),
        ("/grants/1/presence/user_info", json!(1), "expected"),
    ] {
        let mut bad = identity();
        *bad.pointer_mut(pointer).unwrap() = value;
        let refused = owner.put(&path(), &bad).await;
        assert_eq!(refused.problem(400), "invalid", "{pointer}");
        assert!(refused.text.contains(field), "{pointer}: {refused:?}");
    }
    // And the one that was there stays.
    let client = server.connect().await;
    let (status, _) = ask(
        &server,
        "auth",
        &token("ada"),
        form(&client, "private-user-ada"),
    )
    .await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn the_bearer_of_a_token_subscribes_to_what_it_grants_and_signs_in() {
    let server = server(&[]).await;
    let owner = server.owner().await;
    owner.put(&path(), &identity()).await;
    let mut client = server.connect().await;
    let ada = token("ada");
    let asked = form(&client, "private-user-ada");
    let (status, signed) = ask(&server, "auth", &ada, asked).await;
    assert_eq!(status, 200, "{signed}");
    subscribe(&mut client, "private-user-ada", &text(&signed, "auth")).await;
    server
        .api()
        .publish("private-user-ada", "e", "for ada")
        .await;
    assert_eq!(client.expect("e").await["data"], "for ada");

    for channel in ["private-user-bob", "presence-team-blue", "private-other"] {
        let (status, _) = ask(&server, "auth", &ada, form(&client, channel)).await;
        assert_eq!(status, 403, "{channel}");
    }
    let (status, _) = ask(&server, "auth", "a.b.c", form(&client, "private-user-ada")).await;
    assert_eq!(status, 401);

    let (_, signed) = ask(&server, "auth", &ada, form(&client, "presence-team-red")).await;
    let mut data = signed.clone();
    data["channel"] = json!("presence-team-red");
    client
        .send(&json!({"event": "pusher:subscribe", "data": data}))
        .await;
    let joined = client
        .expect("pusher_internal:subscription_succeeded")
        .await;
    let presence = &fanfare_testkit::client::data(&joined)["presence"];
    assert_eq!(presence["hash"], json!({"ada": {"name": "Ada L."}}));

    let asked = format!("socket_id={}", client.socket_id);
    let (_, signed) = ask(&server, "user-auth", &ada, asked).await;
    client
        .send(&json!({"event": "pusher:signin", "data": signed}))
        .await;
    client.expect("pusher:signin_success").await;
}

#[tokio::test]
async fn an_api_token_that_may_change_the_app_has_subscriptions_signed() {
    let server = server(&[]).await;
    let owner = server.owner().await;
    let other = text(&owner.create_app("Other").await, "id");
    let mut client = server.connect().await;
    let body = json!({"socket_id": client.socket_id, "channel_name": "private-a"});
    let auth = format!("/apps/{APP_ID}/auth");
    let ask = async |admin: &Admin| admin.send("POST", &auth, &[], Some(&body)).await;
    for (admin, status) in [
        (owner.make_token("viewer", None).await, 403),
        (owner.make_token("admin", Some(&[&other])).await, 404),
        (owner.with_token("a.b.c"), 401),
    ] {
        assert_eq!(ask(&admin).await.status, status);
    }
    let token = owner.make_token("admin", Some(&[APP_ID])).await;
    let signed = ask(&token).await.expect(200);
    subscribe(&mut client, "private-a", &text(&signed, "auth")).await;
    let user = json!({"socket_id": client.socket_id, "user": {"id": "ada"}});
    let signed = token
        .send(
            "POST",
            &format!("/apps/{APP_ID}/user-auth"),
            &[],
            Some(&user),
        )
        .await
        .expect(200);
    client
        .send(&json!({"event": "pusher:signin", "data": signed}))
        .await;
    client.expect("pusher:signin_success").await;
}
