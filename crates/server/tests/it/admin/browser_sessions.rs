//! Sessions of browsers, which are in a cookie, and links that sign in.

use fanfare_testkit::admin::text;
use fanfare_testkit::{Admin, OWNER, PASSWORD, Reply, Server};
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{BEHIND_A_PROXY, server};

async fn sign_in(nobody: &Admin, body: &Value) -> Reply {
    nobody.post("/browser-sessions", body).await
}

/// A browser that has the cookie of an answer.
fn browser(nobody: &Admin, signed_in: &Reply) -> Admin {
    signed_in.expect(201);
    let pair = signed_in.header("set-cookie").split(';').next().unwrap();
    nobody.with_header("cookie", pair)
}

async fn with_password(server: &Server) -> Admin {
    let nobody = Admin::nobody(server.address);
    let body = json!({"name": OWNER, "password": PASSWORD});
    browser(&nobody, &sign_in(&nobody, &body).await)
}

async fn link(owner: &Admin) -> Value {
    let operators = owner.get("/operators").await.expect(200);
    let id = text(&operators["items"][0], "id");
    let path = format!("/operators/{id}/sign-in-links");
    let made = owner.post(&path, &json!({})).await.expect(201);
    let path = text(&made, "path");
    json!({"link": path.strip_prefix("/#/sign-in?link=").unwrap()})
}

#[tokio::test]
async fn a_cookie_reads_and_changes_only_with_the_dashboards_header() {
    let server = server(&[]).await;
    let browser = with_password(&server).await;
    assert_eq!(browser.get("/me").await.expect(200)["name"], OWNER);
    let app = json!({"name": "orders"});
    let foreign = browser.post("/apps", &app).await;
    assert_eq!(foreign.problem(403), "forbidden");
    assert!(foreign.text.contains("Fanfare-Dashboard"), "{foreign:?}");
    let own = browser.with_header("fanfare-dashboard", "1");
    own.post("/apps", &app).await.expect(201);
    let audit = own.get("/audit?action=app.create").await.expect(200);
    assert_eq!(audit["items"][0]["actor"]["name"], OWNER);
}

#[tokio::test]
async fn signing_out_ends_the_session_whose_cookie_it_is() {
    let server = server(&[]).await;
    let (one, two) = (with_password(&server).await, with_password(&server).await);
    let sessions = one.get("/sessions").await.expect(200);
    let current = sessions.as_array().unwrap().iter();
    assert_eq!(
        current.filter(|session| session["current"] == true).count(),
        1
    );
    let own = one.with_header("fanfare-dashboard", "1");
    assert_eq!(own.delete("/sessions/current").await.status, 204);
    assert_eq!(one.get("/me").await.problem(401), "unauthorized");
    two.get("/me").await.expect(200);
}

#[tokio::test]
async fn a_bearer_token_counts_before_a_cookie() {
    let server = server(&[]).await;
    let browser = with_password(&server).await;
    let wrong = browser.with_token("nonsense").get("/me").await;
    assert_eq!(wrong.problem(401), "unauthorized");
}

#[tokio::test]
async fn wrong_passwords_count_as_those_of_other_sign_ins() {
    let server = server(&[]).await;
    let nobody = Admin::nobody(server.address);
    let wrong = json!({"name": OWNER, "password": "another-password"});
    // At once, because on a busy machine the first would be forgiven before the last.
    let attempts = (0..12).map(|_| sign_in(&nobody, &wrong));
    let answers = join_all(attempts).await;
    let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
    assert!(
        statuses.contains(&401) && statuses.contains(&429),
        "{statuses:?}"
    );
    let audit = with_bearer(&server).await;
    let audit = audit.get("/audit?action=session.refuse").await.expect(200);
    assert!(!audit["items"].as_array().unwrap().is_empty());
}

/// Signed in from another address, because the first has no attempts left.
async fn with_bearer(server: &Server) -> Admin {
    let other = Admin::nobody(server.address).from("127.0.0.9".parse().unwrap());
    other.sign_in(OWNER, PASSWORD).await.0
}

#[tokio::test]
async fn a_link_signs_in_once() {
    let server = server(&[]).await;
    let nobody = Admin::nobody(server.address);
    let link = link(&server.owner().await).await;
    let first = sign_in(&nobody, &link).await;
    let browser = browser(&nobody, &first);
    assert_eq!(browser.get("/me").await.expect(200)["name"], OWNER);
    let again = sign_in(&nobody, &link).await;
    assert_eq!(again.problem(401), "unauthorized");
    assert!(again.header("set-cookie").is_empty());
    let none = sign_in(&nobody, &json!({"link": "nonsense"})).await;
    assert_eq!(none.problem(401), "unauthorized");
}

#[tokio::test]
async fn of_two_that_use_a_link_at_once_one_is_signed_in() {
    let server = server(&[]).await;
    let nobody = Admin::nobody(server.address);
    let link = link(&server.owner().await).await;
    let (one, two) = tokio::join!(sign_in(&nobody, &link), sign_in(&nobody, &link));
    let mut statuses = [one.status, two.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 401]);
}

#[tokio::test]
async fn the_cookie_stays_with_this_site_and_goes_over_tls_where_there_is_tls() {
    let server = server(&[BEHIND_A_PROXY]).await;
    let nobody = Admin::nobody(server.address);
    let body = json!({"name": OWNER, "password": PASSWORD});
    let plain = sign_in(&nobody, &body).await;
    assert!(!plain.header("set-cookie").contains("Secure"));
    let tls = nobody.with_header("x-forwarded-proto", "https");
    let tls = sign_in(&tls, &body).await;
    let cookie = tls.header("set-cookie");
    for part in ["HttpOnly", "SameSite=Strict", "Secure"] {
        assert!(cookie.contains(part), "{cookie}");
    }
}

#[tokio::test]
async fn what_is_neither_a_password_nor_a_link_is_refused_in_words() {
    let server = server(&[]).await;
    let nobody = Admin::nobody(server.address);
    for body in [
        json!({}),
        json!({"name": OWNER}),
        json!({"name": OWNER, "password": PASSWORD, "link": "x"}),
        json!({"link": 1}),
    ] {
        let refused = sign_in(&nobody, &body).await;
        assert_eq!(refused.problem(400), "invalid");
        assert!(
            refused.text.contains("name and password, or link"),
            "{refused:?}"
        );
    }
}

#[tokio::test]
async fn only_owners_make_links() {
    let server = server(&[]).await;
    let owner = server.owner().await;
    let ada = json!({"name": "ada", "password": "adas-password", "role": "admin"});
    let ada_id = text(&owner.post("/operators", &ada).await.expect(201), "id");
    let (ada, _) = Admin::nobody(server.address)
        .sign_in("ada", "adas-password")
        .await;
    let path = format!("/operators/{ada_id}/sign-in-links");
    assert_eq!(ada.post(&path, &json!({})).await.problem(403), "forbidden");
    let disable = json!({"enabled": false});
    let operator = format!("/operators/{ada_id}");
    owner.patch(&operator, &disable).await.expect(200);
    assert_eq!(owner.post(&path, &json!({})).await.problem(409), "conflict");
}
