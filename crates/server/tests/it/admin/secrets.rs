//! Secrets are told once, to whoever made them, and stand nowhere else.

use fanfare_protocol::SocketId;
use fanfare_testkit::admin::text;
use fanfare_testkit::{Admin, KEY, OWNER, Reply, SECRET, Server};
use serde_json::{Value, json};

use super::{backend, channel_auth, client};

const MASTER_KEY: &str = "5ec2e70000000000000000000000000000000000000000000000000000facade";
const PASSWORD: &str = "marked-owners-password";
const NEXT_PASSWORD: &str = "marked-owners-next-password";
const ADAS_PASSWORD: &str = "marked-adas-password";
const WRONG_PASSWORD: &str = "marked-wrong-password";
const TYPED_AS_NAME: &str = "marked-password-typed-as-name";
const IMPORTED: &str = "marked-imported-secret";
const SHARED: &str = "marked-identity-secret-of-32-bytes-and-more";
const AS_NUMBER: u64 = 987_654_321_012_345;

/// What was kept of a run: the secrets, and everything that may not hold one.
struct Run {
    server: Server,
    secrets: Vec<(String, String)>,
    answers: Vec<(String, String)>,
}

impl Run {
    async fn new(filter: &str) -> Self {
        let server = crate::server_with(&[
            &format!("owner.password={PASSWORD}"),
            &format!("master_key={MASTER_KEY}"),
            &format!("log.filter={filter}"),
            "demo=false",
        ])
        .await;
        let mut run = Self {
            server,
            secrets: Vec::new(),
            answers: Vec::new(),
        };
        for (name, secret) in [
            ("the master key", MASTER_KEY),
            ("the owner's password", PASSWORD),
            ("the owner's next password", NEXT_PASSWORD),
            ("an operator's password", ADAS_PASSWORD),
            ("a wrong password", WRONG_PASSWORD),
            ("a password typed as a name", TYPED_AS_NAME),
            ("an imported secret", IMPORTED),
            ("an identity's secret", SHARED),
            ("a password sent as a number", &AS_NUMBER.to_string()),
            ("the test app's secret", SECRET),
        ] {
            run.secret(name, secret);
        }
        run
    }

    fn secret(&mut self, name: &str, value: &str) {
        self.secrets.push((name.into(), value.into()));
    }

    /// Keeps an answer that must hold no secret.
    fn keep(&mut self, what: &str, reply: Reply) -> Reply {
        self.answers.push((what.into(), reply.text.clone()));
        reply
    }

    /// Drives through everything that handles a secret.
    async fn drive(&mut self) -> Admin {
        let nobody = Admin::nobody(self.server.address);
        let (owner, session) = nobody.sign_in(OWNER, PASSWORD).await;
        self.session(&session);
        let refresh = json!({"refresh_token": session["refresh_token"]});
        let refreshed = nobody.post("/sessions/refresh", &refresh).await.expect(200);
        self.session(&refreshed);
        let raced = nobody.post("/sessions/refresh", &refresh).await;
        assert_eq!(self.keep("a raced refresh", raced).status, 409);
        for (name, password) in [(OWNER, WRONG_PASSWORD), (TYPED_AS_NAME, "whatever it is")] {
            let body = json!({"name": name, "password": password});
            let refused = nobody.post("/sessions", &body).await;
            assert_eq!(self.keep("a wrong sign-in", refused).status, 401);
        }
        self.operators(&owner).await;
        self.apps(&owner).await;
        self.mistakes(&owner).await;
        // At the end, for it ends the session.
        let change = json!({"current_password": PASSWORD, "new_password": NEXT_PASSWORD});
        let changed = owner.put("/me/password", &change).await;
        assert_eq!(self.keep("a new password", changed).status, 204);
        let (owner, session) = nobody.sign_in(OWNER, NEXT_PASSWORD).await;
        self.session(&session);
        owner
    }

    fn session(&mut self, answer: &Value) {
        self.secret("an access token", &text(answer, "access_token"));
        self.secret("a refresh token", &text(answer, "refresh_token"));
    }

    async fn operators(&mut self, owner: &Admin) {
        let ada = json!({"name": "ada", "password": ADAS_PASSWORD, "role": "admin"});
        let once = [("idempotency-key", "ada")];
        let made = owner.call("POST", "/operators", &once, Some(&ada)).await;
        let made = self.keep("an operator", made).expect(201);
        let id = text(&made, "id");
        let set = json!({"password": ADAS_PASSWORD});
        let path = format!("/operators/{id}/password");
        let reply = owner.put(&path, &set).await;
        assert_eq!(self.keep("an operator's password", reply).status, 204);
        let body = json!({"name": "deploy", "role": "admin"});
        let token = owner.post("/tokens", &body).await.expect(201);
        self.secret("an API token", &text(&token, "secret"));
        let shown = format!("/tokens/{}", text(&token, "id"));
        for path in [
            "/tokens",
            &shown,
            "/operators",
            "/sessions",
            "/signing-keys",
        ] {
            let reply = owner.get(path).await;
            assert_eq!(self.keep(path, reply).status, 200);
        }
        let reply = owner.post("/signing-keys", &json!({})).await;
        assert_eq!(self.keep("a rotation", reply).status, 201);
    }

    async fn apps(&mut self, owner: &Admin) {
        let import =
            json!({"name": "Marked", "id": "777", "key": "marked-key", "secret": IMPORTED});
        let once = [("idempotency-key", "import")];
        for _ in 0..2 {
            let made = owner.call("POST", "/apps", &once, Some(&import)).await;
            assert_eq!(made.expect(201)["key"]["secret"], IMPORTED);
        }
        let key = owner.post("/apps/777/keys", &json!({})).await.expect(201);
        self.secret("an issued secret", &text(&key, "secret"));
        let identity = json!({
            "providers": [{"algorithms": ["HS256"], "secret": SHARED}],
            "grants": [{"channels": "private-user-{sub}"}],
        });
        let reply = owner.put("/apps/777/identity", &identity).await;
        assert_eq!(self.keep("an identity", reply).status, 204);
        for path in ["/apps", "/apps/777", "/apps/777/keys", "/apps/777/identity"] {
            let reply = owner.get(path).await;
            assert_eq!(self.keep(path, reply).status, 200);
        }
        // As clients and backends use them.
        let api = backend(&self.server, "777", &key);
        api.publish("news", "e", "d").await;
        let mut client = client(&self.server, "marked-key").await;
        let auth = channel_auth(&key, &client, "private-a");
        client
            .send(&json!({"event": "pusher:subscribe", "data": {"channel": "private-a", "auth": auth}}))
            .await;
        client
            .expect("pusher_internal:subscription_succeeded")
            .await;
        let wrong = json!({"key": KEY, "secret": "another"});
        let unsigned = backend(&self.server, "777", &wrong);
        let refused = unsigned.get("channels", &[]).await;
        self.answers.push(("a wrong key".into(), refused.text));
        let wrong = json!({"key": "marked-key", "secret": "another"});
        let refused = backend(&self.server, "777", &wrong)
            .get("channels", &[])
            .await;
        self.answers
            .push(("a wrong signature".into(), refused.text));
        assert!(SocketId::parse(&client.socket_id).is_ok());
        for path in ["/apps/777/connections", "/apps/777/channels"] {
            let reply = owner.get(path).await;
            assert_eq!(self.keep(path, reply).status, 200);
        }
    }

    /// Secrets in the wrong place.
    async fn mistakes(&mut self, owner: &Admin) {
        let identity = |secret: Value| json!({"providers": [{"algorithms": ["HS256"], "secret": secret, "public_key": SHARED}]});
        for (path, body) in [
            ("/sessions", json!({"name": OWNER, "password": AS_NUMBER})),
            ("/sessions", json!({"name": OWNER, "password": [PASSWORD]})),
            ("/sessions", json!(PASSWORD)),
            ("/sessions/refresh", json!({"refresh_token": AS_NUMBER})),
            (
                "/operators",
                json!({"name": "x", "password": AS_NUMBER, "role": "admin"}),
            ),
            (
                "/operators",
                json!({"name": "ada", "password": ADAS_PASSWORD, "role": "admin"}),
            ),
            (
                "/apps",
                json!({"name": "x", "key": "marked-key", "secret": IMPORTED}),
            ),
            ("/apps", json!({"name": "x", "secret": AS_NUMBER})),
            ("/apps/777/keys", json!({"secret": format!("{IMPORTED}:")})),
            ("/apps/777/keys", json!({"secret": {"value": IMPORTED}})),
        ] {
            let reply = owner.post(path, &body).await;
            assert!((400..500).contains(&reply.status), "{path}: {reply:?}");
            self.keep(&format!("a mistake at {path}"), reply);
        }
        for secret in [json!(SHARED), json!(AS_NUMBER), json!([SHARED])] {
            let reply = owner.put("/apps/777/identity", &identity(secret)).await;
            assert_eq!(self.keep("a wrong identity", reply).status, 400);
        }
        for token in [SHARED, MASTER_KEY, IMPORTED] {
            let reply = owner.with_token(token).get("/me").await;
            assert_eq!(self.keep("a wrong token", reply).status, 401);
        }
    }

    fn assert_none_in(&self, place: &str, text: &str) {
        for (name, secret) in &self.secrets {
            let found = text.lines().find(|line| line.contains(secret.as_str()));
            assert!(found.is_none(), "{name} is in {place}: {found:?}");
        }
    }
}

#[tokio::test]
async fn no_secret_is_in_a_log_an_error_the_audit_log_the_description_or_the_configuration() {
    let mut run = Run::new("trace").await;
    let owner = run.drive().await;
    for (what, answer) in &run.answers {
        run.assert_none_in(what, answer);
    }
    let audit = owner.get("/audit/export").await;
    assert!(audit.text.contains("session.refuse") && audit.text.contains("key.create"));
    run.assert_none_in("the audit log", &audit.text);
    let described = owner.send("GET", "/openapi.json", &[], None).await;
    run.assert_none_in("the description", &described.text);
    run.assert_none_in("the configuration", &run.server.run_ok(&["config"]));
    run.assert_none_in("standard output", &run.server.printed());
    let log = run.server.log();
    assert!(log.contains("TRACE") && log.contains("operator_sign_in"));
    run.assert_none_in("the log", &log);
}

#[tokio::test]
async fn no_secret_is_in_the_database_as_it_was_sent() {
    let mut run = Run::new("info").await;
    run.drive().await;
    for name in ["fanfare.db", "fanfare.db-wal"] {
        let file = run.server.folder().join("data").join(name);
        let bytes = std::fs::read(&file).unwrap_or_default();
        for (what, secret) in &run.secrets {
            let secret = secret.as_bytes();
            let found = bytes.windows(secret.len()).any(|part| part == secret);
            assert!(!found, "{what} is in {name}");
        }
    }
}

#[tokio::test]
async fn where_no_password_is_given_it_is_printed_once_and_logged_never() {
    let mut server =
        Server::start_bare(env!("CARGO_BIN_EXE_fanfare"), &[("FANFARE_DEMO", "false")]).await;
    super::within(10 * super::SECOND, "the password is printed", async || {
        server.printed().contains("password")
    })
    .await;
    let printed = server.printed();
    let line = printed
        .lines()
        .find(|line| line.trim().starts_with("password"));
    let password = line.unwrap().split_whitespace().nth(1).unwrap();
    assert!(!server.log().contains(password));
    Admin::nobody(server.address).sign_in(OWNER, password).await;
    server.restart().await;
    assert!(
        !server.printed().contains("password"),
        "{}",
        server.printed()
    );
    Admin::nobody(server.address).sign_in(OWNER, password).await;
}
