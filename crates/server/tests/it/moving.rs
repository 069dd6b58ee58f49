//! What people who move from Soketi or Reverb have in their probes and scripts.

use fanfare_testkit::{APP_ID, Client, KEY, OWNER_SETTING};
use serde_json::{Value, json};

use crate::{server, server_with};

#[tokio::test]
async fn probes_of_reverb_and_soketi_are_answered() {
    let server = server().await;
    let api = server.api();
    let up = api.send("GET", "/up", Vec::new()).await;
    assert_eq!((up.status, &*up.text), (200, r#"{"health":"OK"}"#));
    assert_eq!(up.content_type, "application/json");
    let ready = api.send("GET", "/ready", Vec::new()).await;
    assert_eq!((ready.status, &*ready.text), (200, "OK"));
}

#[tokio::test]
async fn connections_are_counted_for_a_backend_that_signs() {
    let server = server().await;
    let _clients = (server.connect().await, server.connect().await);
    let api = server.api();
    let answer = api.get("connections", &[]).await;
    assert_eq!(
        (answer.status, &*answer.text),
        (200, r#"{"connections":2}"#)
    );
    let unsigned = format!("/apps/{APP_ID}/connections");
    assert_eq!(api.send("GET", &unsigned, Vec::new()).await.status, 401);
}

#[tokio::test]
async fn users_are_listed_with_their_info_where_that_is_asked() {
    let server = server().await;
    let (mut ada, mut bob) = (server.connect().await, server.connect().await);
    ada.join(
        "presence-a",
        r#"{"user_id":"ada","user_info":{"b":1.50,"a":[]}}"#,
    )
    .await;
    bob.join("presence-a", r#"{"user_id":"bob"}"#).await;
    let api = server.api();
    let users = async |query: &[(&str, &str)]| api.get("channels/presence-a/users", query).await;
    for query in [&[][..], &[("with_user_info", "0")]] {
        let plain = users(query).await;
        assert_eq!(
            plain.json(),
            json!({"users": [{"id": "ada"}, {"id": "bob"}]})
        );
    }
    let told = users(&[("with_user_info", "1")]).await;
    assert!(
        told.text
            .contains(r#"{"id":"ada","user_info":{"b":1.50,"a":[]}}"#),
        "{told:?}"
    );
    assert_eq!(
        told.json()["users"][1],
        json!({"id": "bob", "user_info": Value::Null})
    );
    let odd = users(&[("with_user_info", "yes")]).await;
    assert_eq!(odd.status, 400);
    assert!(
        odd.text.contains("must be 1 or 0, it is \"yes\""),
        "{odd:?}"
    );
}

#[tokio::test]
async fn operators_see_which_client_libraries_are_at_risk() {
    let server = server_with(&[OWNER_SETTING]).await;
    let owner = server.owner().await;
    let path = |said: &str| format!("/app/{KEY}?protocol=7{said}");
    let old = path("&client=js&version=7.0.3&flash=false");
    let mut held = Vec::new();
    for path in [&*old, &*old, &*path("&client=js&version=8.6.0"), &*path("")] {
        held.push(Client::connect(server.address, path).await);
    }
    let answer = owner.get(&format!("/apps/{APP_ID}/clients")).await;
    let clients = answer.expect(200)["clients"].clone();
    assert_eq!(clients[0]["client"], "js");
    assert_eq!(
        (&clients[0]["version"], &clients[0]["connections"]),
        (&json!("7.0.3"), &json!(2))
    );
    let risk = clients[0]["risk"].as_str().unwrap();
    assert!(risk.contains("enabledTransports"), "{risk}");
    let new = json!({"client": "js", "version": "8.6.0", "connections": 1, "risk": null});
    assert!(clients.as_array().unwrap().contains(&new), "{clients}");
    assert_eq!(clients.as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn an_id_that_python_backends_cannot_use_is_said_so() {
    let server = server_with(&[OWNER_SETTING]).await;
    let owner = server.owner().await;
    let create = async |id: Value| {
        owner
            .post("/apps", &json!({"name": "Shop", "id": id}))
            .await
    };
    let shop = create(json!("shop")).await.expect(201);
    let warning = shop["warnings"][0].as_str().unwrap();
    assert!(
        warning.contains("\"shop\"") && warning.contains("PyPI pusher"),
        "{warning}"
    );
    for id in [json!("42"), Value::Null] {
        let made = create(id).await.expect(201);
        assert_eq!(made["warnings"], Value::Null, "{made}");
        let id = made["id"].as_str().unwrap();
        assert!(id.bytes().all(|byte| byte.is_ascii_digit()), "{id}");
    }
    let said = server.run(&["app", "create", "--name", "Two", "--id", "two"]);
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("PyPI pusher"), "{said}");
}
