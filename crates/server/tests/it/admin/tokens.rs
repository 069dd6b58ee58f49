//! API tokens: their rights, their end, and the keys that sign them.

use fanfare_testkit::admin::text;
use fanfare_testkit::{APP_ID, Admin, OWNER, PASSWORD};
use serde_json::{Value, json};

use super::server;

/// An operator with these rights, signed in, and their id.
async fn operator(owner: &Admin, nobody: &Admin, name: &str, role: &str) -> (Admin, String) {
    let body = json!({"name": name, "password": "a-long-password", "role": role});
    let id = text(&owner.post("/operators", &body).await.expect(201), "id");
    (nobody.sign_in(name, "a-long-password").await.0, id)
}

async fn rename(admin: &Admin, app: &str) -> u16 {
    let body = json!({"name": "Renamed"});
    admin.patch(&format!("/apps/{app}"), &body).await.status
}

#[tokio::test]
async fn rights_are_given_on_apps_that_exist_alone() {
    let server = server(&[]).await;
    let owner = server.owner().await;
    let nobody = Admin::nobody(server.address);
    let (_, id) = operator(&owner, &nobody, "ada", "admin").await;
    let path = format!("/operators/{id}");
    let other = text(&owner.create_app("Other").await, "id");
    let apps = json!([other, "404", "405"]);
    let password = "a-long-password";
    let made = json!({"name": "bob", "password": password, "role": "viewer", "apps": apps});
    let token = json!({"name": "t", "role": "viewer", "apps": apps});
    for refused in [
        owner.post("/operators", &made).await,
        owner.post("/tokens", &token).await,
        owner.patch(&path, &json!({"apps": apps})).await,
    ] {
        assert_eq!(refused.problem(400), "invalid");
        let detail = text(&refused.json(), "detail");
        assert!(detail.contains(r#""404", "405""#), "{detail}");
        assert!(!detail.contains(&other), "{detail}");
    }
    let given = json!({"apps": [other]});
    owner.patch(&path, &given).await.expect(200);
    // One that is deleted later is no reason to refuse what was read.
    let deleted = owner.delete(&format!("/apps/{other}?confirm=Other")).await;
    assert_eq!(deleted.status, 204);
    owner.patch(&path, &given).await.expect(200);
}

#[tokio::test]
async fn a_token_never_may_more_than_who_made_it_may_now() {
    let server = server(&[]).await;
    let owner = server.owner().await;
    let nobody = Admin::nobody(server.address);
    let other = text(&owner.create_app("Other").await, "id");
    let (ada, id) = operator(&owner, &nobody, "ada", "admin").await;
    let more = json!({"name": "more", "role": "owner"});
    assert_eq!(ada.post("/tokens", &more).await.problem(403), "forbidden");
    let token = ada.make_token("admin", None).await;
    let scoped = ada.make_token("admin", Some(&[APP_ID])).await;
    assert_eq!(rename(&token, &other).await, 200);
    assert_eq!(rename(&scoped, APP_ID).await, 200);
    assert_eq!(rename(&scoped, &other).await, 404);

    let change = async |body: Value| {
        let path = format!("/operators/{id}");
        owner.patch(&path, &body).await.expect(200);
    };
    change(json!({"role": "viewer"})).await;
    assert_eq!(rename(&token, &other).await, 403);
    assert_eq!(token.get("/me").await.expect(200)["role"], "viewer");
    change(json!({"role": "admin", "apps": [other]})).await;
    assert_eq!(rename(&token, &other).await, 200);
    assert_eq!(rename(&token, APP_ID).await, 404);
    assert_eq!(rename(&scoped, APP_ID).await, 404);
    change(json!({"apps": null})).await;
    assert_eq!(rename(&scoped, APP_ID).await, 200);

    change(json!({"enabled": false})).await;
    for admin in [&ada, &token, &scoped] {
        assert_eq!(admin.get("/me").await.problem(401), "unauthorized");
    }
    // For good: whoever gets their job back makes new ones.
    change(json!({"enabled": true})).await;
    assert_eq!(token.get("/me").await.problem(401), "unauthorized");
    let (ada, _) = nobody.sign_in("ada", "a-long-password").await;
    let token = ada.make_token("admin", None).await;
    let deleted = owner.delete(&format!("/operators/{id}")).await;
    assert_eq!(deleted.status, 204);
    for admin in [&ada, &token] {
        assert_eq!(admin.get("/me").await.problem(401), "unauthorized");
    }
}

#[tokio::test]
async fn a_token_gives_no_more_than_it_has_and_ends_no_more_than_itself() {
    let server = server(&[]).await;
    let owner = server.owner().await;
    let other = text(&owner.create_app("Other").await, "id");
    let strong = owner.make_token("owner", None).await;
    let scoped = owner.make_token("admin", Some(&[APP_ID])).await;
    let give = async |role: &str, apps: Option<&[&str]>| {
        let body = json!({"name": "given", "role": role, "apps": apps});
        scoped.post("/tokens", &body).await
    };
    assert_eq!(
        give("owner", Some(&[APP_ID])).await.problem(403),
        "forbidden"
    );
    assert_eq!(
        give("viewer", Some(&[&other])).await.problem(404),
        "not_found"
    );
    let given = give("admin", None).await.expect(201);
    assert_eq!(given["apps"], json!([APP_ID]));
    let id_of = async |admin: &Admin| text(&admin.get("/me").await.expect(200), "id");
    let strong_id = id_of(&strong).await;
    let listed = scoped.get("/tokens").await.expect(200);
    let listed: Vec<_> = listed["items"].as_array().unwrap().iter().collect();
    assert_eq!(listed.len(), 2, "{listed:?}");
    let strong_path = format!("/tokens/{strong_id}");
    assert_eq!(scoped.get(&strong_path).await.problem(404), "not_found");
    assert_eq!(scoped.delete(&strong_path).await.problem(404), "not_found");
    let given = format!("/tokens/{}", text(&given, "id"));
    assert_eq!(scoped.delete(&given).await.status, 204);
    assert_eq!(strong.get("/me").await.status, 200);
}

#[tokio::test]
async fn a_revoked_token_is_refused_at_once_and_its_use_is_known() {
    let server = server(&[]).await;
    let owner = server.owner().await;
    let token = owner.make_token("viewer", None).await;
    let id = text(&token.get("/me").await.expect(200), "id");
    let path = format!("/tokens/{id}");
    let shown = owner.get(&path).await.expect(200);
    assert!(
        shown["last_used_at"].is_i64() && shown["active"] == true,
        "{shown}"
    );
    assert_eq!(shown["in_force"], true, "its former name stays");
    assert_eq!(shown.get("secret"), None);
    assert_eq!(owner.delete(&path).await.status, 204);
    assert_eq!(token.get("/me").await.problem(401), "unauthorized");
    assert_eq!(owner.delete(&path).await.problem(409), "conflict");
    let revoked = owner.get(&path).await.expect(200);
    assert_eq!(
        (&revoked["active"], &revoked["in_force"]),
        (&json!(false), &json!(false))
    );
    for days in [0, 367] {
        let body = json!({"name": "x", "role": "viewer", "expires_in_days": days});
        assert_eq!(owner.post("/tokens", &body).await.problem(400), "invalid");
    }
    let unknown = owner.delete("/tokens/tok_none").await;
    assert_eq!(unknown.problem(404), "not_found");
}

#[tokio::test]
async fn signing_keys_rotate_without_signing_anybody_out_unless_that_is_wanted() {
    let server = server(&[]).await;
    let nobody = Admin::nobody(server.address);
    let (owner, session) = nobody.sign_in(OWNER, PASSWORD).await;
    let token = owner.make_token("owner", None).await;
    for _ in 0..2 {
        owner.post("/signing-keys", &json!({})).await.expect(201);
        let newer = owner.make_token("viewer", None).await;
        for admin in [&owner, &token, &newer] {
            assert_eq!(admin.get("/me").await.status, 200);
        }
    }
    let keys = owner.get("/signing-keys").await.expect(200);
    let signs = |key: &&Value| key["signs"] == true;
    let keys = keys.as_array().unwrap();
    assert_eq!((keys.len(), keys.iter().filter(signs).count()), (3, 1));
    let refresh = json!({"refresh_token": session["refresh_token"]});
    nobody.post("/sessions/refresh", &refresh).await.expect(200);

    let too_long = json!({"keep_old_for": 31_622_401});
    assert_eq!(
        owner.post("/signing-keys", &too_long).await.problem(400),
        "invalid"
    );
    let at_once = json!({"keep_old_for": 0});
    owner.post("/signing-keys", &at_once).await.expect(201);
    for admin in [&owner, &token] {
        assert_eq!(admin.get("/me").await.problem(401), "unauthorized");
    }
    let (owner, _) = nobody.sign_in(OWNER, PASSWORD).await;
    let token = owner.make_token("viewer", None).await;
    for admin in [&owner, &token] {
        assert_eq!(admin.get("/me").await.status, 200);
    }
}
