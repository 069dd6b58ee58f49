//! Each command, on this machine's store and on the server elsewhere: the same is asked, printed and recorded.

use std::path::PathBuf;
use std::process::Output;

use fanfare_testkit::{APP_ID, KEY, SECRET, Server};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::within_a_second;
use crate::server_with;

/// The command line somewhere.
pub(super) struct Cli<'a> {
    pub(super) server: &'a Server,
    /// Of another machine, if it is not on this one: a folder, the server's address, a file with a token.
    elsewhere: Option<(TempDir, String, PathBuf)>,
}

impl<'a> Cli<'a> {
    pub(super) fn here(server: &'a Server) -> Self {
        Self {
            server,
            elsewhere: None,
        }
    }

    /// On another machine, with a token of this role.
    pub(super) fn elsewhere(server: &'a Server, role: &str) -> Self {
        let create = ["token", "create", "--name", "t", "--role", role, "--json"];
        let token: Value = serde_json::from_str(&server.run_ok(&create)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, format!("{}\n", token["secret"].as_str().unwrap())).unwrap();
        Self {
            server,
            elsewhere: Some((folder, format!("http://{}", server.address), file)),
        }
    }

    pub(super) fn run(&self, stdin: &str, arguments: &[&str]) -> Output {
        let Some((folder, url, file)) = &self.elsewhere else {
            return self.server.run_with(&[], stdin, arguments);
        };
        let place = ["--server", url, "--token-file", file.to_str().unwrap()];
        let arguments = [arguments, &place].concat();
        let output = self
            .server
            .run_elsewhere(folder.path(), &[], stdin, &arguments);
        assert!(
            !folder.path().join("data").exists(),
            "nothing is made on this machine"
        );
        output
    }

    pub(super) fn ok(&self, arguments: &[&str]) -> String {
        self.ok_with("", arguments)
    }

    pub(super) fn ok_with(&self, stdin: &str, arguments: &[&str]) -> String {
        let output = self.run(stdin, arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    pub(super) fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.ok(&[arguments, &["--json"]].concat())).unwrap()
    }

    /// What it says in its one line of error, with this exit code.
    pub(super) fn refused(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run("", arguments);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {errors}");
        assert!(output.stdout.is_empty());
        let line = errors.lines().last().unwrap().to_owned();
        assert!(line.starts_with("fanfare: "), "{errors}");
        line
    }

    async fn signs_in(&self, name: &str, password: &str) -> bool {
        let body = json!({"name": name, "password": password}).to_string();
        let api = self.server.api();
        let answer = api.send("POST", "/api/v1/sessions", body.into_bytes());
        answer.await.status == 201
    }
}

/// On this machine, then elsewhere.
pub(super) async fn here_and_elsewhere(test: impl AsyncFn(&Cli<'_>)) {
    let server = server_with(&["demo=false"]).await;
    test(&Cli::here(&server)).await;
    test(&Cli::elsewhere(&server, "owner")).await;
}

pub(super) fn text(value: &Value, pointer: &str) -> String {
    let found = value
        .pointer(pointer)
        .unwrap_or_else(|| panic!("{pointer} in {value}"));
    found.as_str().unwrap().to_owned()
}

#[tokio::test]
async fn apps_are_created_changed_and_deleted() {
    here_and_elsewhere(async |cli| {
        let create = ["app", "create", "--name", "My shop", "--setting"];
        let once = ["limits.user_id=7", "--idempotency-key", "k"];
        let create = [&create[..], &once].concat();
        let made = cli.json(&create);
        let id = text(&made, "/id");
        assert!(!text(&made, "/key/secret").is_empty());
        assert_eq!(made["settings"]["limits"]["user_id"], 7);
        assert_eq!(text(&cli.json(&create), "/id"), id, "sent again");

        let shown = cli.json(&["app", "show", &id]);
        assert_eq!(text(&shown, "/name"), "My shop");
        let people = cli.ok(&["app", "show", &id]);
        assert!(people.contains("limits.user_id = 7") && people.contains(&text(&made, "/key/key")));
        assert!(!people.contains(&text(&made, "/key/secret")), "{people}");
        assert!(cli.ok(&["app", "list"]).contains(&id));

        let update = ["app", "update", &id, "--name", "Ours", "--setting"];
        let updated = cli.json(&[&update[..], &["client_events=true"]].concat());
        assert_eq!(updated["settings"]["client_events"], true);
        assert_eq!(
            updated["settings"]["limits"]["user_id"], 7,
            "what is not named stays"
        );
        let disabled = cli.json(&["app", "disable", &id]);
        assert_eq!(disabled["settings"]["enabled"], false);
        assert!(
            cli.ok(&["app", "enable", &id])
                .contains("enabled        yes")
        );

        let wrong = cli.refused(2, &["app", "delete", &id, "--confirm", "My shop"]);
        assert!(wrong.contains("write --confirm \"Ours\""), "{wrong}");
        cli.ok(&["app", "delete", &id, "--confirm", "Ours"]);
        cli.refused(3, &["app", "show", &id]);
    })
    .await;
}

#[tokio::test]
async fn keys_are_created_changed_and_revoked() {
    here_and_elsewhere(async |cli| {
        let create = ["key", "create", "--app", APP_ID, "--label", "week"];
        let made = cli.json(&[&create[..], &["--expires-in", "7d"]].concat());
        let key = text(&made, "/key");
        let week = made["expires_at"].as_i64().unwrap() - made["created_at"].as_i64().unwrap();
        assert!((week - 7 * 86_400_000).abs() < 60_000, "{made}");
        assert_eq!(text(&made, "/state"), "expiring");

        let changed = cli.json(&["key", "update", &key, "--never-expires", "--label", ""]);
        assert_eq!(
            (&changed["expires_at"], &changed["label"]),
            (&json!(null), &json!(null))
        );
        let shown = cli.ok(&["key", "show", &key, "--app", APP_ID]);
        assert!(shown.contains("active") && !shown.contains(&text(&made, "/secret")));
        let listed = cli.json(&["key", "list", "--app", APP_ID]);
        assert!(!listed.to_string().contains(&text(&made, "/secret")));

        assert_eq!(cli.ok(&["key", "revoke", &key]), format!("revoked {key}\n"));
        cli.refused(5, &["key", "revoke", &key, "--app", APP_ID]);
        assert!(
            cli.ok(&["key", "list", "--app", APP_ID])
                .contains("revoked")
        );
        let none = cli.refused(3, &["key", "revoke", "nope"]);
        assert!(none.contains("there is no key \"nope\""), "{none}");
        let again = ["--key", KEY, "--secret", "s"];
        cli.refused(
            5,
            &[&["key", "create", "--app", APP_ID][..], &again].concat(),
        );
        cli.refused(3, &["key", "list", "--app", "nope"]);
    })
    .await;
}

#[tokio::test]
async fn an_outbox_is_set_shown_without_its_password_and_removed() {
    here_and_elsewhere(async |cli| {
        let none = cli.refused(3, &["outbox", "show", APP_ID]);
        assert!(none.contains("has no outbox"), "{none}");
        let url = "postgres://me:secret@127.0.0.1:1/shop";
        let set = ["outbox", "set", APP_ID, "--url"];
        let shown = cli.json(&[&set[..], &[url, "--poll-interval", "100"]].concat());
        assert_eq!(
            text(&shown, "/url"),
            "postgres://me:(hidden)@127.0.0.1:1/shop"
        );
        assert_eq!(shown["poll_interval"], 100);
        let wrong = cli.refused(2, &[&set[..], &["mysql://127.0.0.1/shop"]].concat());
        assert!(wrong.contains("url must begin with"), "{wrong}");

        // Not among the arguments, which others on the machine see. Elsewhere the token comes from a file.
        let stdin = [&set[..], &["-", "--stream", "events"]].concat();
        let people = cli.ok_with("redis://:secret@127.0.0.1:1\n", &stdin);
        assert!(
            people.contains("redis://:(hidden)@127.0.0.1:1") && people.contains("events"),
            "{people}"
        );
        assert_eq!(
            text(&cli.json(&["outbox", "show", APP_ID]), "/stream"),
            "events"
        );
        let removed = format!("removed the outbox of {APP_ID}\n");
        assert_eq!(cli.ok(&["outbox", "remove", APP_ID]), removed);
        cli.refused(3, &["outbox", "remove", APP_ID]);
    })
    .await;
}

#[tokio::test]
async fn operators_are_created_changed_and_deleted() {
    here_and_elsewhere(async |cli| {
        let made = cli.json(&[
            "operator", "create", "ada", "--role", "admin", "--app", APP_ID,
        ]);
        let drawn = text(&made, "/password");
        assert!(cli.signs_in("ada", &drawn).await);
        let create = [
            "operator",
            "create",
            "bob",
            "--role",
            "viewer",
            "--password-stdin",
        ];
        let quiet = cli.ok_with("correct horse battery\n", &create);
        assert!(!quiet.contains("horse"), "{quiet}");
        assert!(cli.signs_in("bob", "correct horse battery").await);

        let update = ["operator", "update", "bob", "--role", "admin", "--disable"];
        let bob = cli.json(&[&update[..], &["--name", "robert"]].concat());
        assert_eq!(
            (text(&bob, "/role"), &bob["enabled"]),
            ("admin".into(), &json!(false))
        );
        assert!(!cli.signs_in("robert", "correct horse battery").await);
        let all = cli.json(&["operator", "update", "ada", "--all-apps"]);
        assert_eq!(all["apps"], json!(null));
        let listed = cli.ok(&["operator", "list"]);
        assert!(listed.contains("ada") && listed.contains("robert") && !listed.contains(&drawn));
        assert_eq!(
            cli.json(&["operator", "show", &text(&bob, "/id")])["name"],
            "robert"
        );

        cli.ok(&["operator", "delete", "robert"]);
        cli.ok(&["operator", "delete", &text(&made, "/id")]);
        cli.refused(3, &["operator", "delete", "ada"]);
        let last = cli.refused(5, &["operator", "delete", "owner"]);
        assert!(last.contains("owner"), "{last}");
    })
    .await;
}

#[tokio::test]
async fn passwords_are_set_and_reset_and_never_said_again() {
    here_and_elsewhere(async |cli| {
        let first = cli.json(&["operator", "create", "eve", "--role", "viewer"]);
        let first = text(&first, "/password");
        let reset = cli.ok(&["operator", "reset-password", "eve"]);
        let second = reset
            .lines()
            .find_map(|line| line.strip_prefix("password  "));
        assert!(cli.signs_in("eve", second.unwrap()).await, "{reset}");
        assert!(!cli.signs_in("eve", &first).await);

        let set = ["operator", "set-password", "eve", "--password-stdin"];
        let said = cli.ok_with("a longer passphrase\r\n", &set);
        assert_eq!(said, "set the password of eve\n");
        assert!(cli.signs_in("eve", "a longer passphrase").await);
        let short = cli.run("short", &set);
        assert_eq!(short.status.code(), Some(2));
        let said = String::from_utf8(short.stderr).unwrap();
        assert!(said.contains("a password has 10 to 1000") && !said.contains("short"));

        let sessions = cli.json(&["session", "list", "--operator", "eve"]);
        let id = text(&sessions, "/0/id");
        assert!(cli.ok(&["session", "list"]).contains(&id));
        cli.ok(&["session", "end", &id]);
        assert_eq!(
            cli.json(&["session", "list", "--operator", "eve"]),
            json!([])
        );
        cli.ok(&["operator", "delete", "eve"]);
    })
    .await;
}

#[tokio::test]
async fn tokens_and_the_keys_that_sign_them() {
    here_and_elsewhere(async |cli| {
        let create = ["token", "create", "--name", "deploy", "--role", "viewer"];
        let made = cli.json(&[&create[..], &["--expires-in", "30d", "--app", APP_ID]].concat());
        let (id, secret) = (text(&made, "/id"), text(&made, "/secret"));
        let with = |token: &str| {
            let url = format!("http://{}", cli.server.address);
            let environment = [("FANFARE_SERVER", url.as_str()), ("FANFARE_TOKEN", token)];
            cli.server.run_with(&environment, "", &["app", "list"])
        };
        assert!(with(&secret).status.success());
        let days = made["expires_at"].as_i64().unwrap() - made["created_at"].as_i64().unwrap();
        assert!((days - 30 * 86_400_000).abs() < 60_000);
        for shown in [
            cli.ok(&["token", "list"]),
            cli.ok(&["token", "show", &id]),
            cli.json(&["token", "list"]).to_string(),
            cli.json(&["audit", "list"]).to_string(),
        ] {
            assert!(shown.contains(&id) && !shown.contains(&secret), "{shown}");
        }
        let days = cli.run("", &[&create[..], &["--expires-in", "36h"]].concat());
        assert_eq!(days.status.code(), Some(2));

        let before = cli.json(&["signing-key", "list"]);
        cli.ok(&["signing-key", "rotate", "--keep-old-for", "90d"]);
        let after = cli.json(&["signing-key", "list"]);
        let count = |keys: &Value| keys.as_array().unwrap().len();
        assert_eq!(count(&after), count(&before) + 1);
        assert!(with(&secret).status.success(), "an old key still verifies");

        cli.ok(&["token", "revoke", &id]);
        assert_eq!(with(&secret).status.code(), Some(4));
        cli.refused(5, &["token", "revoke", &id]);
    })
    .await;
}

#[tokio::test]
async fn an_apps_identity_is_set_shown_and_cleared() {
    let identity = json!({
        "providers": [{"algorithms": ["HS256"], "secret": "0123456789abcdef0123456789abcdef"}],
        "grants": [{"channels": "private-{sub}"}],
    });
    here_and_elsewhere(async |cli| {
        let set = ["app", "identity", "set", APP_ID, "-"];
        let run = cli.run(&identity.to_string(), &set);
        let errors = String::from_utf8_lossy(&run.stderr).into_owned();
        assert!(run.status.success(), "{errors}");
        let shown = cli.ok(&["app", "identity", "show", APP_ID]);
        assert!(
            shown.contains("HS256") && !shown.contains("0123456789abcdef"),
            "{shown}"
        );
        let short = identity
            .to_string()
            .replace("0123456789abcdef0123456789abcdef", "short");
        assert_eq!(cli.run(&short, &set).status.code(), Some(2));
        assert_eq!(cli.run("{", &set).status.code(), Some(2));
        cli.ok(&["app", "identity", "clear", APP_ID]);
        cli.refused(3, &["app", "identity", "show", APP_ID]);
    })
    .await;
}

#[tokio::test]
async fn the_audit_log_says_who_it_was() {
    here_and_elsewhere(async |cli| {
        cli.ok(&["app", "update", APP_ID, "--name", "Before"]);
        cli.ok(&["app", "update", APP_ID, "--name", "After"]);
        let filters = ["--app", APP_ID, "--action", "app.update", "--since", "1h"];
        let list = [&["audit", "list"][..], &filters].concat();
        let listed = cli.json(&[&list[..], &["--limit", "1"]].concat());
        let newest = &listed["items"][0];
        assert_eq!(newest["details"]["name"]["after"], "After", "{newest}");
        assert!(
            listed["items"].as_array().unwrap().len() == 1 && listed["next_cursor"].is_string()
        );
        let kind = text(newest, "/actor/kind");
        let (own, address) = match cli.elsewhere {
            Some(_) => ("token", json!("127.0.0.1")),
            None => ("command_line", json!(null)),
        };
        assert_eq!(
            (kind.as_str(), &newest["actor"]["address"]),
            (own, &address)
        );

        let exported = cli.ok(&[&["audit", "export"][..], &filters].concat());
        let lines = exported
            .lines()
            .map(|line| serde_json::from_str(line).unwrap());
        let lines: Vec<Value> = lines.collect();
        assert_eq!(json!(lines), cli.json(&list)["items"]);
        let everything = cli.ok(&["audit", "export"]);
        assert!(everything.contains("app.create") && !everything.contains(SECRET));
        assert!(cli.ok(&list).starts_with("TIME"));
        assert_eq!(
            cli.ok(&["audit", "list", "--until", "30d"]).lines().count(),
            1
        );
    })
    .await;
}

#[tokio::test]
async fn what_is_revoked_elsewhere_is_out_of_force_on_the_server() {
    let server = server_with(&[]).await;
    let mut client = server.connect().await;
    Cli::elsewhere(&server, "admin").ok(&["key", "revoke", KEY]);
    assert_eq!(client.closed().await, 4009);
    within_a_second(async || server.api().get("channels", &[]).await.status == 401).await;
}
