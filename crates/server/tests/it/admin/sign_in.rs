//! Signing in, staying so, and out.

use fanfare_testkit::admin::text;
use fanfare_testkit::{Admin, OWNER, PASSWORD, Reply, Server};
use serde_json::json;

use super::{BEHIND_A_PROXY, server};

async fn attempt(nobody: &Admin, name: &str, password: &str) -> Reply {
    let body = json!({"name": name, "password": password});
    nobody.post("/sessions", &body).await
}

#[tokio::test]
async fn a_wrong_name_a_wrong_password_and_a_disabled_operator_look_alike() {
    let server = server(&[]).await;
    let owner = server.owner().await;
    let ada = json!({"name": "ada", "password": "adas-password", "role": "admin"});
    let ada = text(&owner.post("/operators", &ada).await.expect(201), "id");
    let disable = json!({"enabled": false});
    owner
        .patch(&format!("/operators/{ada}"), &disable)
        .await
        .expect(200);
    let nobody = Admin::nobody(server.address);
    let mut answers = Vec::new();
    for (name, password) in [
        ("who-is-this-typed-name", PASSWORD),
        (OWNER, "another-password"),
        ("ada", "adas-password"),
        ("ada", "another-password"),
    ] {
        let reply = attempt(&nobody, name, password).await;
        assert_eq!(reply.problem(401), "unauthorized");
        let headers = reply.headers.iter().filter(|(name, _)| *name != "date");
        let headers = headers.map(|(name, value)| (name.clone(), value.clone()));
        answers.push((reply.text.clone(), headers.collect::<Vec<_>>()));
    }
    assert!(
        answers.iter().all(|answer| *answer == answers[0]),
        "{answers:?}"
    );
    let audit = owner.get("/audit/export?action=session.refuse").await;
    // One of each name; how many there were is written down after the hour, and when the server stops.
    assert_eq!(audit.text.lines().count(), 3);
    assert!(!audit.text.contains("who-is-this"), "{}", audit.text);
    assert!(!server.log().contains("who-is-this"), "{}", server.log());
    let name_in_capitals = attempt(&nobody, "OWNER", PASSWORD).await;
    assert_eq!(name_in_capitals.status, 201);
}

#[tokio::test]
async fn a_refresh_token_is_replaced_by_its_use_and_signing_out_ends_both() {
    let server = server(&[]).await;
    let nobody = Admin::nobody(server.address);
    let (owner, first) = nobody.sign_in(OWNER, PASSWORD).await;
    let refresh = async |session: &serde_json::Value| {
        let body = json!({"refresh_token": session["refresh_token"]});
        nobody.post("/sessions/refresh", &body).await
    };
    let second = refresh(&first).await.expect(200);
    assert_eq!(second["session_id"], first["session_id"]);
    assert_ne!(second["refresh_token"], first["refresh_token"]);
    // A second tab, or an answer that was lost.
    assert_eq!(refresh(&first).await.problem(409), "conflict");
    let third = refresh(&second).await.expect(200);
    let renewed = nobody.with_token(&text(&third, "access_token"));
    for admin in [&owner, &renewed] {
        assert_eq!(admin.get("/me").await.expect(200)["name"], OWNER);
    }
    assert_eq!(renewed.delete("/sessions/current").await.status, 204);
    for admin in [&owner, &renewed] {
        assert_eq!(admin.get("/me").await.problem(401), "unauthorized");
    }
    assert_eq!(refresh(&third).await.problem(401), "unauthorized");
    for token in ["", "nonsense", "a.b.c"] {
        let reply = nobody.with_token(token).get("/me").await;
        assert_eq!(reply.problem(401), "unauthorized");
        assert_eq!(reply.header("www-authenticate"), "Bearer");
    }
}

#[tokio::test]
async fn changing_ones_password_ends_all_ones_sessions_and_nobody_elses() {
    let server = server(&[]).await;
    let owner = server.owner().await;
    let ada = json!({"name": "ada", "password": "adas-password", "role": "viewer"});
    owner.post("/operators", &ada).await.expect(201);
    let nobody = Admin::nobody(server.address);
    let (one, _) = nobody.sign_in("ada", "adas-password").await;
    let (two, _) = nobody.sign_in("ada", "adas-password").await;
    let change = async |current: &str, new: &str| {
        let body = json!({"current_password": current, "new_password": new});
        one.put("/me/password", &body).await
    };
    let wrong = change("not-adas-password", "adas-next-password").await;
    assert_eq!(wrong.problem(403), "forbidden");
    let short = change("adas-password", "short").await;
    assert_eq!(short.problem(400), "invalid");
    assert_eq!(two.get("/me").await.status, 200);
    let changed = change("adas-password", "adas-next-password").await;
    assert_eq!(changed.status, 204);
    for session in [&one, &two] {
        assert_eq!(session.get("/me").await.problem(401), "unauthorized");
    }
    assert_eq!(owner.get("/me").await.status, 200);
    assert_eq!(attempt(&nobody, "ada", "adas-password").await.status, 401);
    nobody.sign_in("ada", "adas-next-password").await;
}

#[tokio::test]
async fn one_sees_and_ends_ones_own_sessions_and_owners_everybodys() {
    let server = server(&[]).await;
    let owner = server.owner().await;
    let ada = json!({"name": "ada", "password": "adas-password", "role": "admin"});
    let ada_id = text(&owner.post("/operators", &ada).await.expect(201), "id");
    let nobody = Admin::nobody(server.address).with_header("user-agent", "a browser");
    let (ada, first) = nobody.sign_in("ada", "adas-password").await;
    let (_, second) = nobody.sign_in("ada", "adas-password").await;
    let list = async |admin: &Admin, query: &str| {
        let sessions = admin.get(&format!("/sessions{query}")).await.expect(200);
        sessions.as_array().unwrap().clone()
    };
    let own = list(&ada, "").await;
    assert_eq!(own.len(), 2);
    let current = own.iter().find(|session| session["current"] == true);
    assert_eq!(current.unwrap()["id"], first["session_id"]);
    assert_eq!(own[0]["agent"], "a browser");
    assert_eq!(own[0]["address"], "127.0.0.1");
    assert_eq!(list(&owner, "").await.len(), 1);
    assert_eq!(list(&owner, "?operator_id=all").await.len(), 3);
    assert_eq!(list(&owner, &format!("?operator_id={ada_id}")).await, {
        let mut others = own.clone();
        for session in &mut others {
            session["current"] = json!(false);
        }
        others
    });
    assert_eq!(
        ada.get("/sessions?operator_id=all").await.problem(403),
        "forbidden"
    );
    let second = format!("/sessions/{}", text(&second, "session_id"));
    assert_eq!(ada.delete(&second).await.status, 204);
    let first = format!("/sessions/{}", text(&first, "session_id"));
    assert_eq!(owner.delete(&first).await.status, 204);
    assert_eq!(ada.get("/me").await.status, 401);
    // What a session may is not what its operator's tokens may.
    let token = owner.make_token("viewer", None).await;
    assert_eq!(list(&token, "").await.len(), 0);
}

#[tokio::test]
async fn who_tries_too_often_waits_and_nobody_else_does() {
    let server = server(&[]).await;
    let elsewhere = Admin::nobody(server.address).from("127.0.0.2".parse().unwrap());
    let (owner, _) = elsewhere.sign_in(OWNER, PASSWORD).await;
    let stranger = Admin::nobody(server.address);
    let mut refused = None;
    for number in 0..11 {
        // Whatever it says of itself.
        let address = format!("192.0.2.{number}");
        let stranger = stranger.with_header("x-forwarded-for", &address);
        refused = Some(attempt(&stranger, OWNER, "a wrong password").await);
    }
    let refused = refused.unwrap();
    assert_eq!(refused.problem(429), "too_many");
    let seconds: u64 = refused.header("retry-after").parse().unwrap();
    assert!((1..=7).contains(&seconds), "{seconds}");
    assert_eq!(
        attempt(&stranger, OWNER, PASSWORD).await.problem(429),
        "too_many"
    );
    assert_eq!(owner.get("/me").await.status, 200);
    elsewhere.sign_in(OWNER, PASSWORD).await;
}

#[tokio::test]
async fn behind_a_proxy_of_ours_each_client_has_its_own_attempts() {
    let server = server(&[BEHIND_A_PROXY]).await;
    let nobody = Admin::nobody(server.address);
    for number in 0..12 {
        let forwarded = format!("no address, 192.0.2.{number}");
        let client = nobody.with_header("x-forwarded-for", &forwarded);
        let wrong = attempt(&client, OWNER, "a wrong password").await;
        assert_eq!(wrong.status, 401, "{wrong:?}");
    }
    let owner = nobody.with_header("x-forwarded-for", "198.51.100.7");
    let (owner, _) = owner.sign_in(OWNER, PASSWORD).await;
    for (action, address) in [
        ("session.create", "198.51.100.7"),
        ("session.refuse", "192.0.2.11"),
    ] {
        let audit = owner.get(&format!("/audit?action={action}")).await;
        assert_eq!(audit.expect(200)["items"][0]["actor"]["address"], address);
    }
}

#[tokio::test]
async fn the_first_operator_is_as_configured_and_never_made_again() {
    let settings = [
        ("FANFARE_OWNER_NAME", "Ada@example.com"),
        ("FANFARE_OWNER_PASSWORD", "1234567890"),
        ("FANFARE_DEMO", "false"),
    ];
    let mut server = Server::start_bare(env!("CARGO_BIN_EXE_fanfare"), &settings).await;
    let nobody = Admin::nobody(server.address);
    let (ada, _) = nobody.sign_in("ada@example.com", "1234567890").await;
    let me = ada.get("/me").await.expect(200);
    assert_eq!((&me["role"], &me["apps"]), (&json!("owner"), &json!(null)));
    let id = text(&me, "id");
    let deleted = ada.delete(&format!("/operators/{id}")).await;
    assert_eq!(deleted.problem(409), "conflict");
    let password = json!({"password": "another-password"});
    let path = format!("/operators/{id}/password");
    assert_eq!(ada.put(&path, &password).await.status, 204);
    server.restart().await;
    let nobody = Admin::nobody(server.address);
    assert_eq!(
        attempt(&nobody, "ada@example.com", "1234567890")
            .await
            .status,
        401
    );
    let (ada, _) = nobody.sign_in("ada@example.com", "another-password").await;
    let operators = ada.get("/operators").await.expect(200);
    assert_eq!(operators["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn strangers_at_the_same_address_do_not_lock_out_operators_who_signed_in_from_there_before() {
    let mut server = server(&[]).await;
    let browser = |server: &Server| {
        Admin::nobody(server.address).with_header("user-agent", "Browser of the owner")
    };
    browser(&server).sign_in(OWNER, PASSWORD).await;
    let flood = async |server: &Server| {
        let stranger = Admin::nobody(server.address).with_header("user-agent", "curl");
        let mut statuses = Vec::new();
        for number in 0..12 {
            statuses.push(
                attempt(&stranger, OWNER, &format!("guess number {number}"))
                    .await
                    .status,
            );
        }
        statuses
    };
    let statuses = flood(&server).await;
    assert_eq!(statuses[..10], [401; 10]);
    assert!(statuses.contains(&429), "{statuses:?}");
    browser(&server).sign_in(OWNER, PASSWORD).await;
    server.restart().await;
    assert!(flood(&server).await.contains(&429));
    let (owner, _) = browser(&server).sign_in(OWNER, PASSWORD).await;
    let audit = owner.get("/audit/export?action=session.refuse").await;
    let entries = audit.text.lines().count();
    assert!((3..=4).contains(&entries), "{}", audit.text);
    assert!(
        audit.text.contains("refused_within_the_hour"),
        "{}",
        audit.text
    );
}
