//! The command line, beside a running server on the same store.
//!
//! | module | what it holds |
//! |---|---|
//! | `doctor` | what doctor finds on this machine, and behind proxies |
//! | `everywhere` | each command on this machine's store and, with a token, on the server elsewhere |
//! | `elsewhere` | servers that cannot be reached, tokens that are not taken, what only a running server knows |
//! | `installation` | where an installation begins, who serves from it, and the exit codes of what stands in the way |
//! | `master_key` | another master key |
//! | `webhook` | webhooks |
//! | `top` | what top shows of a running node |

mod doctor;
mod elsewhere;
mod everywhere;
mod installation;
mod master_key;
mod top;
mod webhook;

use std::time::SystemTime;

use fanfare_testkit::{APP_ID, Api, Client, Database, KEY, OWNER_SETTING, Server};
use serde_json::Value;

use crate::{server, server_with};

/// The issue of whether a change is active: within a second, wherever it was made.
async fn within_a_second(condition: impl AsyncFn() -> bool) {
    let start = SystemTime::now();
    while !condition().await {
        assert!(
            start.elapsed().unwrap().as_millis() < 1000,
            "not active within a second"
        );
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

/// Makes an app with the command line, and returns its id, key and secret.
fn make_app(server: &Server) -> [String; 3] {
    let printed = server.run_ok(&["app", "create", "--name", "New", "--json"]);
    let created: Value = serde_json::from_str(&printed).unwrap();
    ["/id", "/key/key", "/key/secret"].map(|pointer| {
        let value = created.pointer(pointer).unwrap();
        value.as_str().unwrap().to_owned()
    })
}

async fn an_app_made_while_the_server_runs_is_active(settings: &[&str]) {
    let server = server_with(settings).await;
    let [id, key, secret] = make_app(&server);
    let api = Api::new(server.address, &id, &key, &secret);
    assert_eq!(api.get("channels", &[]).await.status, 200);
    let [_, key, _] = make_app(&server);
    Client::connect(server.address, &format!("/app/{key}?protocol=7")).await;
    let [_, key, _] = make_app(&server);
    let path = format!("/ws/{key}?channels=a");
    let plain = Client::open(server.address, &path, &[]).await;
    plain.unwrap().expect("pusher:connection_established").await;
    let [_, key, _] = make_app(&server);
    let url = format!("http://{}/sse/{key}?channels=a", server.address);
    assert_eq!(reqwest::get(url).await.unwrap().status(), 200);
}

#[tokio::test]
async fn an_app_made_while_the_server_runs_is_active_on_sqlite() {
    an_app_made_while_the_server_runs_is_active(&[]).await;
}

#[tokio::test]
async fn an_app_made_while_the_server_runs_is_active_on_postgres() {
    let Some(database) = Database::create("cli", &[]).await else {
        return;
    };
    let store = format!("store.url={}", database.url);
    an_app_made_while_the_server_runs_is_active(&[&store]).await;
    database.remove().await;
}

#[tokio::test]
async fn strangers_with_keys_that_never_were_ask_the_store_ten_times_a_second_at_most() {
    let server = server_with(&[OWNER_SETTING]).await;
    let questions = async || {
        let text = server
            .owner()
            .await
            .send("GET", "/metrics", &[], None)
            .await
            .text;
        let line = text
            .lines()
            .find(|line| line.starts_with("fanfare_store_seconds_count"));
        line.unwrap()
            .rsplit(' ')
            .next()
            .unwrap()
            .parse::<f64>()
            .unwrap()
    };
    let (before, start) = (questions().await, SystemTime::now());
    for _ in 0..20 {
        let strangers = (0..20).map(async |number| {
            let path = format!("/app/stranger{number}?protocol=7");
            Client::open(server.address, &path, &[]).await.unwrap()
        });
        for mut stranger in futures_util::future::join_all(strangers).await {
            assert_eq!(stranger.closed().await, 4001);
        }
    }
    let asked = questions().await - before;
    // The store is asked every 400 ms and for each sign-in besides.
    let most = start.elapsed().unwrap().as_secs_f64() * 12.5 + 4.0;
    assert!(asked <= most, "{asked} questions, {most} at most");
}

#[tokio::test]
async fn keys_overlap_and_a_revoked_one_is_out_of_force_within_a_second() {
    let server = server().await;
    let mut old = server.connect().await;
    let made: Value =
        serde_json::from_str(&server.run_ok(&["key", "create", "--app", APP_ID, "--json"]))
            .unwrap();
    let (key, secret) = (
        made["key"].as_str().unwrap(),
        made["secret"].as_str().unwrap(),
    );
    let new = Api::new(server.address, APP_ID, key, secret);
    assert_eq!(new.get("channels", &[]).await.status, 200);
    assert_eq!(
        server.api().get("channels", &[]).await.status,
        200,
        "the old key is still active"
    );
    assert_eq!(
        server.run_ok(&["key", "revoke", KEY]).trim(),
        format!("revoked {KEY}")
    );
    within_a_second(async || server.api().get("channels", &[]).await.status == 401).await;
    assert_eq!(old.closed().await, 4009);
    assert_eq!(new.get("channels", &[]).await.status, 200);
    let listed = server.run_ok(&["key", "list", "--app", APP_ID]);
    assert!(
        listed
            .lines()
            .any(|line| line.starts_with(KEY) && line.ends_with("revoked")),
        "{listed}"
    );
    assert!(
        listed
            .lines()
            .any(|line| line.starts_with(key) && line.ends_with("active")),
        "{listed}"
    );
}

#[tokio::test]
async fn a_key_that_expires_is_out_of_force_within_a_second_of_its_time() {
    let server = server().await;
    let staying = server.connect().await;
    let create = ["key", "create", "--app", APP_ID, "--label", "a day's work"];
    let made = server.run_ok(&[&create[..], &["--expires-in", "2", "--json"]].concat());
    let made: Value = serde_json::from_str(&made).unwrap();
    let text = |field: &str| made[field].as_str().unwrap();
    let until_expiry = || {
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis();
        made["expires_at"]
            .as_u64()
            .unwrap()
            .saturating_sub(u64::try_from(now).unwrap())
    };
    let api = Api::new(server.address, APP_ID, text("key"), text("secret"));
    within_a_second(async || api.get("channels", &[]).await.status == 200).await;
    let mut client =
        Client::connect(server.address, &format!("/app/{}?protocol=7", text("key"))).await;
    tokio::time::sleep(std::time::Duration::from_millis(until_expiry())).await;
    within_a_second(async || api.get("channels", &[]).await.status == 401).await;
    let closed = tokio::time::timeout(std::time::Duration::from_secs(1), client.closed());
    assert_eq!(closed.await.unwrap(), 4009);
    assert_eq!(server.api().get("channels", &[]).await.status, 200);
    drop(staying);
    let listed = server.run_ok(&["key", "list", "--app", APP_ID]);
    let line = listed
        .lines()
        .find(|line| line.starts_with(text("key")))
        .unwrap();
    assert!(
        line.contains("a day's work") && line.contains("Z  never") && line.ends_with("expired"),
        "{listed}"
    );
}

#[tokio::test]
async fn a_key_is_not_made_to_expire_in_the_past() {
    let server = server().await;
    let create = ["key", "create", "--app", APP_ID];
    for (when, words) in [
        (
            &["--expires-at", "1700000000000"][..],
            "cannot expire in the past",
        ),
        (&["--expires-at", "1700000000"], "write 1700000000000"),
        (&["--expires-at", "2023-11-14"], "cannot expire in the past"),
        (&["--expires-in", "0"], "--expires-in"),
        (
            &["--expires-in", "5", "--expires-at", "2099-01-01"],
            "cannot be used with",
        ),
    ] {
        let output = server.run(&[&create[..], when].concat());
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && error.contains(words), "{error}");
    }
}

#[tokio::test]
async fn apps_are_listed_and_shown_without_secrets() {
    let server = server().await;
    let listed = server.run_ok(&["app", "list"]);
    assert!(listed.starts_with("ID"), "{listed}");
    assert!(
        listed.contains(APP_ID) && listed.contains("Test"),
        "{listed}"
    );
    let listed: Value = serde_json::from_str(&server.run_ok(&["app", "list", "--json"])).unwrap();
    assert_eq!(listed["items"][0]["id"], APP_ID);
    for arguments in [
        &["app", "show", APP_ID][..],
        &["key", "show", KEY],
        &["key", "list", "--app", APP_ID, "--json"],
    ] {
        let shown = server.run_ok(arguments);
        assert!(
            shown.contains(KEY) && !shown.contains("app-secret"),
            "{shown}"
        );
    }
}

#[tokio::test]
async fn what_cannot_be_done_is_said_in_one_line_with_an_exit_code() {
    let server = server().await;
    for (arguments, words, code) in [
        (
            &["app", "create", "--name", "x", "--id", APP_ID][..],
            "there is an app with id",
            5,
        ),
        (
            &[
                "app", "create", "--name", "x", "--key", "a:b", "--secret", "s",
            ],
            "':'",
            2,
        ),
        (
            &["app", "delete", APP_ID, "--confirm", "Tset"],
            "write --confirm \"Test\"",
            2,
        ),
        (&["app", "show", "nope"], "there is no app", 3),
        (&["key", "revoke", "nope"], "there is no key", 3),
        (&["app", "show", ".."], "is no id and no name", 2),
        (
            &["app", "create", "--name", "x", "--setting", "enabled"],
            "NAME=VALUE",
            2,
        ),
        (&["token", "revoke", "nope"], "there is no token", 3),
        (&["operator", "show", "nope"], "there is no operator", 3),
        (&["session", "end", "nope"], "there is no session", 3),
        (&["app", "identity", "show", APP_ID], "has no identity", 3),
        (
            &["--store-url", "postgres://127.0.0.1:9/x", "app", "list"],
            "opening the store",
            6,
        ),
        (
            &["--set", "shards=0", "config"],
            "shards must be 1 to 64 (it was set to 0 by flag --set)",
            2,
        ),
        (
            &["--listen", "127.0.0.1:x", "config"],
            "listen in flag --listen",
            2,
        ),
        (
            &["--store-url", "mysql://x", "app", "list"],
            "sqlite: or postgres:",
            2,
        ),
        (&["publish", "a b", "e", "d"], "Invalid channel name", 2),
        (
            &["publish", "a", "e", "d", "--app", "nope"],
            "there is no app",
            3,
        ),
        (
            &["publish", "a", "e", "d", "--server", "http://127.0.0.1:9"],
            "cannot publish to http://127.0.0.1:9",
            6,
        ),
        (
            &["publish", "a", "e", "d", "--server", "nowhere"],
            "is no address",
            2,
        ),
        (&["man", "nope"], "there is no command", 2),
    ] {
        let output = server.run(arguments);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        let last = error.lines().last().unwrap();
        assert!(
            last.starts_with("fanfare: ") && last.contains(words),
            "{arguments:?}: {error}"
        );
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
    }
}

#[tokio::test]
async fn what_a_command_needs_is_said_by_the_names_of_its_flags() {
    let server = server().await;
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().to_str().unwrap();
    let elsewhere = [
        "publish",
        "a",
        "e",
        "d",
        "--server",
        "http://127.0.0.1:9",
        "--data-dir",
        empty,
    ];
    for (arguments, words) in [
        (
            &["app", "create", "--name", "x", "--key", "k"][..],
            "--secret <SECRET>",
        ),
        (
            &["app", "create", "--name", "x", "--secret", "s"],
            "--key <KEY>",
        ),
        (
            &["key", "create", "--app", APP_ID, "--key", "k"],
            "--secret <SECRET>",
        ),
        (&["app", "delete", APP_ID], "--confirm <NAME>"),
        (
            &[
                "token",
                "create",
                "--name",
                "x",
                "--role",
                "viewer",
                "--expires-in",
                "400d",
            ],
            "'--expires-in <DURATION>': a token lives 366d at most",
        ),
        (
            &["audit", "list", "--since", "1700000000"],
            "'--since <TIME>': that is Unix time in seconds, and milliseconds are wanted: write 1700000000000",
        ),
        (&["audit", "list", "--until", "soon"], "or how long ago"),
        (&elsewhere, "pass --app ID --key KEY --secret SECRET"),
    ] {
        let output = server.run(arguments);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(error.contains(words), "{arguments:?}: {error}");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
}

#[tokio::test]
async fn settings_are_shown_with_secrets_hidden() {
    let server = server_with(&[
        "master_key=00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
    ])
    .await;
    let shown = server.run_ok(&["config"]);
    assert!(
        shown.contains("master_key = \"(hidden)\"")
            && shown.contains("[drain]\nperiod = 1  # environment variable FANFARE_DRAIN_PERIOD\n"),
        "{shown}"
    );
    assert!(
        shown.contains(&format!("listen = \"{}\"", server.address)),
        "{shown}"
    );
}

#[tokio::test]
async fn a_wrong_master_key_is_refused_in_words() {
    let server = server().await;
    let wrong = "master_key=11112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    let output = server.run(&["--set", wrong, "app", "list"]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        error.contains("sealed with another master key")
            && error.contains("the setting master_key"),
        "{error}"
    );
}

#[tokio::test]
async fn a_variable_that_is_no_setting_is_said_and_ignored() {
    let server = server_with(&["listne=127.0.0.1:1"]).await;
    let said = "the environment variable FANFARE_LISTNE is no setting and has no effect; did you mean FANFARE_LISTEN?";
    assert!(server.log().contains(said), "{}", server.log());
    let shown = server.run_ok(&["config"]);
    assert!(shown.contains(&format!("# {said}")), "{shown}");
}

#[tokio::test]
async fn first_starts_at_the_same_moment_do_not_get_in_each_others_way() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("new")).unwrap();
    let start = || {
        std::process::Command::new(env!("CARGO_BIN_EXE_fanfare"))
            .args(["app", "create", "--name", "x", "--data-dir", "new"])
            .current_dir(folder.path())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap()
    };
    let started: Vec<_> = (0..6).map(|_| start()).collect();
    for child in started {
        let output = child.wait_with_output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

#[tokio::test]
async fn a_data_folder_may_have_any_name() {
    let server = server().await;
    for name in ["a?b", "a%20c", "with space", "1234", "true"] {
        std::fs::create_dir(server.folder().join(name)).unwrap();
        assert!(
            server
                .run_ok(&["--data-dir", name, "app", "create", "--name", "x"])
                .contains("secret"),
            "{name}"
        );
    }
}

#[tokio::test]
async fn imported_credentials_of_any_printable_text_publish() {
    let server = server().await;
    for (number, (id, key)) in [("a?b", "k&y="), ("a#b c", "k%41"), ("ü+", "k+y z")]
        .into_iter()
        .enumerate()
    {
        let create = [
            "app",
            "create",
            "--name",
            "x",
            "--id",
            id,
            "--key",
            key,
            "--secret",
            "my secret",
        ];
        assert!(server.run_ok(&create).contains("my secret"));
        within_a_second(async || {
            server
                .run(&["publish", "a", "e", "d", "--app", id])
                .status
                .success()
        })
        .await;
        let listed = server.run_ok(&["app", "list"]);
        assert_eq!(listed.lines().count(), 3 + number, "{listed}");
    }
}

#[tokio::test]
async fn settings_of_an_app_are_changed_while_it_runs() {
    let server = server().await;
    let mut client = server.connect().await;
    let shown = server.run_ok(&[
        "app",
        "update",
        APP_ID,
        "--setting",
        "limits.event_data=5",
        "--name",
        "Renamed",
    ]);
    assert!(
        shown.contains("Renamed") && shown.contains("limits.event_data = 5"),
        "{shown}"
    );
    let api = server.api();
    let publish = || api.post("events", r#"{"name":"e","channel":"a","data":"123456"}"#);
    within_a_second(async || publish().await.status == 413).await;
    assert!(publish().await.text.contains("6 bytes, at most 5"));
    let rate = [
        "app",
        "update",
        APP_ID,
        "--setting",
        "limits.event_data=100",
        "--setting",
        "limits.backend_events_per_second=1",
    ];
    assert!(
        server
            .run_ok(&rate)
            .contains("backend_events_per_second = 1")
    );
    within_a_second(async || publish().await.status == 429).await;
    assert!(
        server
            .run_ok(&["app", "update", APP_ID, "--setting", "enabled=false"])
            .contains("no")
    );
    assert_eq!(client.closed().await, 4003);
    assert_eq!(publish().await.status, 403);
    for (setting, words) in [
        ("client_event=true", "there is no setting"),
        ("enabled=maybe", "not possible"),
        ("enabled", "NAME=VALUE"),
    ] {
        let output = server.run(&["app", "update", APP_ID, "--setting", setting]);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !output.status.success() && error.contains(words),
            "{setting}: {error}"
        );
    }
    assert!(
        !server
            .run(&["app", "update", "nope", "--name", "x"])
            .status
            .success()
    );
}
