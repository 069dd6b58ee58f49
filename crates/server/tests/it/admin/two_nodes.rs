//! Two processes on one Postgres: what is changed through one is active on the other.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use fanfare_testkit::admin::text;
use fanfare_testkit::{Admin, OWNER, PASSWORD, Server};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{SECOND, backend, client, now, server, within};

const MASTER_KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// Starts a node on a store.
async fn another(url: &str) -> Server {
    Server::start_bare(
        env!("CARGO_BIN_EXE_fanfare"),
        &[
            ("FANFARE_STORE_URL", url),
            ("FANFARE_MASTER_KEY", MASTER_KEY),
            ("FANFARE_DEMO", "false"),
        ],
    )
    .await
}

pub(super) struct Nodes {
    pub(super) postgres: String,
    pub(super) database: String,
    pub(super) one: Server,
    pub(super) two: Server,
    pub(super) owner: Admin,
}

impl Nodes {
    /// None where there is no Postgres to test with.
    #[expect(
        clippy::disallowed_methods,
        reason = "tells whether there is a Postgres to test with"
    )]
    pub(super) async fn start() -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let Ok(postgres) = std::env::var("FANFARE_TEST_POSTGRES") else {
            eprintln!("SKIPPED: FANFARE_TEST_POSTGRES is not set");
            return None;
        };
        // Process ids come again; times do not.
        let started = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos();
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let database = format!("nodes_{started}_{number}");
        sql(
            &postgres,
            "postgres",
            &format!("CREATE DATABASE {database}"),
        );
        let url = format!("{postgres}/{database}");
        let master_key = format!("master_key={MASTER_KEY}");
        let one = server(&[&format!("store.url={url}"), &master_key]).await;
        // Made by the node that was told the password.
        let owner = one.owner().await;
        let two = another(&url).await;
        Some(Self {
            postgres,
            database,
            one,
            two,
            owner,
        })
    }

    /// Starts one more node.
    pub(super) async fn third(&self) -> Server {
        another(&format!("{}/{}", self.postgres, self.database)).await
    }

    /// Runs SQL on the store.
    pub(super) fn sql(&self, text: &str) -> String {
        sql(&self.postgres, &self.database, text)
    }

    fn listeners(&self, select: &str) -> String {
        let sql_text = format!(
            "SELECT {select} FROM pg_stat_activity WHERE datname = '{}' AND query LIKE 'LISTEN%'",
            self.database
        );
        sql(&self.postgres, "postgres", &sql_text)
    }

    async fn both_listen(&self) {
        within(10 * SECOND, "both nodes listen", async || {
            self.listeners("count(*)") == "2"
        })
        .await;
    }
}

/// What `psql` prints, bare.
fn sql(postgres: &str, database: &str, statement: &str) -> String {
    let ran = Command::new("psql")
        .args([&format!("{postgres}/{database}"), "-AtXqc", statement])
        .output()
        .unwrap();
    assert!(ran.status.success(), "{ran:?}");
    String::from_utf8(ran.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn a_change_through_one_is_active_on_the_other_within_a_second() {
    let Some(nodes) = Nodes::start().await else {
        return;
    };
    let (owner, two) = (&nodes.owner, &nodes.two);
    let made = owner.create_app("Shared").await;
    let (app, first) = (text(&made, "id"), made["key"].clone());
    let path = format!("/apps/{app}");
    let api = backend(two, &app, &first);
    within(SECOND, "the app is there", async || {
        api.get("channels", &[]).await.status == 200
    })
    .await;

    let limits = json!({"settings": {"limits": {"event_data": 5}}});
    owner.patch(&path, &limits).await.expect(200);
    let event = json!({"name": "e", "channel": "a", "data": "123456"}).to_string();
    within(SECOND, "the limit counts", async || {
        api.post("events", event.clone()).await.status == 413
    })
    .await;

    let identity = json!({
        "providers": [{"algorithms": ["HS256"], "secret": "0123456789abcdef0123456789abcdef"}],
        "grants": [{"channels": "private-user-{sub}"}],
    });
    let nobody = Admin::nobody(two.address);
    let auth = format!("/app/{}/auth", text(&first, "key"));
    let asks = async || nobody.send("POST", &auth, &[], None).await.status;
    assert_eq!(asks().await, 403);
    let set = owner.put(&format!("{path}/identity"), &identity).await;
    assert_eq!(set.status, 204);
    within(SECOND, "the identity counts", async || asks().await == 401).await;

    let keys = format!("{path}/keys");
    let revoked = owner.post(&keys, &json!({})).await.expect(201);
    let revoked_api = backend(two, &app, &revoked);
    within(SECOND, "the new key signs", async || {
        revoked_api.get("channels", &[]).await.status == 200
    })
    .await;
    let mut connected = client(two, &text(&revoked, "key")).await;
    let gone = owner
        .delete(&format!("{keys}/{}", text(&revoked, "key")))
        .await;
    assert_eq!(gone.status, 204);
    let closed = timeout(SECOND, connected.closed()).await;
    assert_eq!(closed.expect("closed within a second"), 4009);
    assert_eq!(revoked_api.get("channels", &[]).await.status, 401);

    let expiring = owner.post(&keys, &json!({})).await.expect(201);
    let expiring_api = backend(two, &app, &expiring);
    within(SECOND, "the next key signs", async || {
        expiring_api.get("channels", &[]).await.status == 200
    })
    .await;
    let mut connected = client(two, &text(&expiring, "key")).await;
    let expires_at = now() + 2500;
    owner
        .patch(
            &format!("{keys}/{}", text(&expiring, "key")),
            &json!({"expires_at": expires_at}),
        )
        .await
        .expect(200);
    assert_eq!(connected.closed().await, 4009);
    let late = now() - expires_at;
    assert!((-5..1000).contains(&late), "{late} ms after it expired");
    assert_eq!(expiring_api.get("channels", &[]).await.status, 401);

    let mut connected = client(two, &text(&first, "key")).await;
    let disabled = json!({"settings": {"enabled": false}});
    owner.patch(&path, &disabled).await.expect(200);
    let closed = timeout(SECOND, connected.closed()).await;
    assert_eq!(closed.expect("closed within a second"), 4003);
    assert_eq!(api.get("channels", &[]).await.status, 403);

    let enabled = json!({"settings": {"enabled": true}});
    owner.patch(&path, &enabled).await.expect(200);
    within(SECOND, "the app is enabled", async || {
        api.get("channels", &[]).await.status == 200
    })
    .await;
    let mut connected = client(two, &text(&first, "key")).await;
    let deleted = owner.delete(&format!("{path}?confirm=Shared")).await;
    assert_eq!(deleted.status, 204);
    let closed = timeout(SECOND, connected.closed()).await;
    assert_eq!(closed.expect("closed within a second"), 4001);
    assert_eq!(api.get("channels", &[]).await.status, 404);
}

#[tokio::test]
async fn who_is_signed_in_on_one_is_on_the_other_and_no_longer_than_there() {
    let Some(nodes) = Nodes::start().await else {
        return;
    };
    let (owner, two) = (&nodes.owner, nodes.two.address);
    assert_eq!(owner.at(two).get("/me").await.status, 200);
    let token = owner.make_token("admin", None).await;
    assert_eq!(token.at(two).get("/me").await.status, 200);
    let id = text(&token.get("/me").await.json(), "id");
    assert_eq!(owner.delete(&format!("/tokens/{id}")).await.status, 204);
    assert_eq!(token.at(two).get("/me").await.problem(401), "unauthorized");

    // The key is retired on both, and the new one is known on both.
    let token = owner.make_token("admin", None).await;
    let at_once = json!({"keep_old_for": 0});
    owner.post("/signing-keys", &at_once).await.expect(201);
    assert_eq!(token.get("/me").await.status, 401);
    within(SECOND, "the retired key counts no more", async || {
        token.at(two).get("/me").await.status == 401
    })
    .await;
    let again = nodes.one.owner().await;
    within(SECOND, "the new key counts", async || {
        again.at(two).get("/me").await.status == 200
    })
    .await;
    assert_eq!(again.delete("/sessions/current").await.status, 204);
    assert_eq!(again.at(two).get("/me").await.status, 401);
}

#[tokio::test]
async fn a_refresh_token_that_comes_again_ends_the_session_and_an_expired_token_counts_no_more() {
    let Some(nodes) = Nodes::start().await else {
        return;
    };
    let nobody = Admin::nobody(nodes.one.address);
    let (owner, session) = nobody.sign_in(OWNER, PASSWORD).await;
    let stolen = json!({"refresh_token": session["refresh_token"]});
    let next = nobody.post("/sessions/refresh", &stolen).await.expect(200);
    // Ten seconds pass, in which two tabs or a lost answer would have sent it again.
    let database = &nodes.database;
    sql(
        &nodes.postgres,
        database,
        "UPDATE refresh_tokens SET replaced_at = replaced_at - 11000",
    );
    let at_two = nobody.at(nodes.two.address);
    let reused = at_two.post("/sessions/refresh", &stolen).await;
    assert_eq!(reused.problem(401), "unauthorized");
    assert!(reused.text.contains("the session has ended"), "{reused:?}");
    let next = json!({"refresh_token": next["refresh_token"]});
    for nobody in [&nobody, &at_two] {
        let refused = nobody.post("/sessions/refresh", &next).await;
        assert_eq!(refused.problem(401), "unauthorized");
    }
    assert_eq!(owner.get("/me").await.status, 401);
    let audit = nodes.owner.get("/audit?action=session.reuse").await;
    let audit = audit.expect(200);
    assert_eq!(audit["items"][0]["target_id"], session["session_id"]);
    assert_eq!(audit["items"].as_array().unwrap().len(), 1);

    let token = nodes.owner.make_token("admin", None).await;
    assert_eq!(token.get("/me").await.status, 200);
    sql(
        &nodes.postgres,
        database,
        "UPDATE tokens SET expires_at = 1",
    );
    assert_eq!(token.get("/me").await.problem(401), "unauthorized");
}

#[tokio::test]
async fn usage_of_both_nodes_adds_up_and_a_new_app_of_the_same_id_begins_with_nothing() {
    let Some(nodes) = Nodes::start().await else {
        return;
    };
    let new = json!({"name": "First", "id": "4711"});
    let app = nodes.owner.post("/apps", &new).await.expect(201);
    within(SECOND, "the other node knows the app", async || {
        let api = backend(&nodes.two, "4711", &app["key"]);
        api.get("channels", &[]).await.status == 200
    })
    .await;
    let clients = [
        client(&nodes.one, &text(&app["key"], "key")).await,
        client(&nodes.two, &text(&app["key"], "key")).await,
    ];
    for (node, events) in [(&nodes.one, 3), (&nodes.two, 4)] {
        let api = backend(node, "4711", &app["key"]);
        for _ in 0..events {
            api.publish("news", "e", "x").await;
        }
    }
    let usage = async |path: &str| nodes.owner.get(path).await.expect(200);
    let path = "/apps/4711/usage?step=minute";
    within(30 * SECOND, "both have written", async || {
        let total = &usage(path).await["total"];
        total["messages"] == 7 && total["connections_peak"] == 2
    })
    .await;
    drop(clients);
    let deleted = nodes.owner.delete("/apps/4711?confirm=First").await;
    assert_eq!(deleted.status, 204);
    // The nodes write what they have, so that it can become older.
    within(30 * SECOND, "its clients are gone", async || {
        let (database, postgres) = (&nodes.database, &nodes.postgres);
        let alive = "SELECT COUNT(*) FROM usage_minutes WHERE app_id = '4711' AND at > ";
        sql(
            postgres,
            database,
            "UPDATE usage_minutes SET at = at - 7200000 WHERE app_id = '4711'",
        );
        sql(postgres, database, &format!("{alive}{}", now() - 3_600_000)) == "0"
    })
    .await;
    nodes.owner.post("/apps", &new).await.expect(201);
    let found = usage("/apps/4711/usage?step=hour").await;
    assert_eq!(found["total"]["messages"], 0, "{found}");
    let from = now() / 1000 - 4 * 3600;
    let found = usage(&format!("/usage/apps?from={from}&step=minute")).await;
    assert_eq!(found["items"][0]["messages"], 7, "{found}");
}

#[tokio::test]
async fn a_text_that_postgres_cannot_keep_is_refused_in_words() {
    let Some(nodes) = Nodes::start().await else {
        return;
    };
    let nobody = Admin::nobody(nodes.one.address);
    let body = json!({"name": "a\0b", "password": "whatever it is"});
    let refused = nobody.post("/sessions", &body).await;
    assert_eq!(refused.problem(400), "invalid");
    let refused = nodes.owner.get("/apps/a%00b").await;
    assert_eq!(refused.problem(400), "invalid");
    assert!(!nodes.one.log().contains("ERROR"), "{}", nodes.one.log());
}

#[tokio::test]
async fn a_create_that_is_sent_to_both_is_done_once() {
    let Some(nodes) = Nodes::start().await else {
        return;
    };
    let body = json!({"name": "Once"});
    let at_two = nodes.owner.at(nodes.two.address);
    let create = async |admin: &Admin| {
        let header = [("idempotency-key", "the-same")];
        admin.call("POST", "/apps", &header, Some(&body)).await
    };
    let (one, two) = tokio::join!(create(&nodes.owner), create(&at_two));
    let mut made = Vec::new();
    for (reply, admin) in [(one, &at_two), (two, &nodes.owner)] {
        let made_or_not = if reply.status == 409 {
            create(admin).await
        } else {
            reply
        };
        made.push(made_or_not.expect(201));
    }
    assert_eq!(made[0], made[1]);
    let apps = nodes.owner.get("/apps").await.expect(200);
    let named = |app: &&Value| app["name"] == "Once";
    assert_eq!(
        apps["items"]
            .as_array()
            .unwrap()
            .iter()
            .filter(named)
            .count(),
        1
    );
}

#[tokio::test]
async fn while_nobody_listens_for_changes_they_are_active_soon_and_afterwards_at_once() {
    let Some(nodes) = Nodes::start().await else {
        return;
    };
    let active_within = async |limit: Duration, name: &str| {
        let made = nodes.owner.create_app(name).await;
        let api = backend(&nodes.two, &text(&made, "id"), &made["key"]);
        within(limit, name, async || {
            api.get("channels", &[]).await.status == 200
        })
        .await;
    };
    nodes.both_listen().await;
    active_within(SECOND, "while both listen").await;
    for name in ["cut off once", "cut off twice"] {
        assert!(nodes.listeners("pg_terminate_backend(pid)").contains('t'));
        active_within(5 * SECOND, name).await;
        nodes.both_listen().await;
        active_within(SECOND, "while both listen again").await;
    }
}
