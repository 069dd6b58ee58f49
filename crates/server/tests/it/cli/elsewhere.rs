//! What there is only with a server elsewhere: its running state, tokens, and connections that fail.

use fanfare_testkit::APP_ID;

use super::everywhere::Cli;
use super::within_a_second;
use crate::{server, server_with};

#[tokio::test]
async fn what_a_running_server_knows_is_shown_by_it_alone() {
    let server = server().await;
    let mut client = server.connect().await;
    client.join("presence-a", r#"{"user_id":"u1"}"#).await;
    let here = Cli::here(&server);
    for command in [
        &["app", "channels", APP_ID][..],
        &["app", "members", APP_ID, "presence-a"],
        &["app", "connections", APP_ID],
        &["app", "disconnect", APP_ID, "1.2"],
    ] {
        let refused = here.refused(2, command);
        assert!(
            refused.contains("this needs a running server: --server URL"),
            "{refused}"
        );
    }

    let elsewhere = Cli::elsewhere(&server, "admin");
    let channels = elsewhere.json(&["app", "channels", APP_ID, "--prefix", "presence-"]);
    assert_eq!(channels["items"][0]["user_count"], 1, "{channels}");
    let members = elsewhere.ok(&["app", "members", APP_ID, "presence-a"]);
    assert!(members.contains("u1"), "{members}");
    let none = elsewhere.refused(2, &["app", "members", APP_ID, "a"]);
    assert!(none.contains("only presence channels"), "{none}");
    let connections = elsewhere.json(&["app", "connections", APP_ID]);
    let socket_id = connections["items"][0]["socket_id"].as_str().unwrap();
    let people = elsewhere.ok(&["app", "connections", APP_ID]);
    assert!(people.contains(socket_id) && people.contains("presence-a"));
    elsewhere.ok(&["app", "disconnect", APP_ID, socket_id]);
    assert_eq!(client.closed().await, 4009);
    drop(client);
    let again = ["app", "disconnect", APP_ID, socket_id];
    within_a_second(async || elsewhere.run("", &again).status.code() == Some(3)).await;
}

#[tokio::test]
async fn a_token_does_what_it_may_and_its_server_says_what_not() {
    let server = server().await;
    let viewer = Cli::elsewhere(&server, "viewer");
    assert!(viewer.ok(&["app", "list"]).contains(APP_ID));
    let refused = viewer.refused(4, &["app", "create", "--name", "x"]);
    assert!(refused.contains("this needs the role admin"), "{refused}");
    let admin = Cli::elsewhere(&server, "admin");
    admin.refused(4, &["operator", "list"]);
}

#[tokio::test]
async fn a_token_comes_from_a_file_standard_input_or_the_environment() {
    let server = server().await;
    let url = format!("http://{}", server.address);
    let create = ["token", "create", "--name", "t", "--role", "viewer"];
    let made = server.run_ok(&create);
    let token = made.lines().find_map(|line| line.strip_prefix("token"));
    let token = token.unwrap().trim();
    let folder = tempfile::tempdir().unwrap();
    let run = |environment: &[(&str, &str)], stdin: &str, arguments: &[&str]| {
        let arguments = [&["app", "list", "--set", "log.filter=trace"][..], arguments].concat();
        let output = server.run_elsewhere(folder.path(), environment, stdin, &arguments);
        let said = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        assert!(!said.contains(token), "{said}");
        assert!(!said.contains("no setting of ours"), "{said}");
        (output.status.code().unwrap(), said)
    };
    let named = [("FANFARE_SERVER", url.as_str())];
    let both = [named[0], ("FANFARE_TOKEN", token)];
    let line = format!("{token}\n");
    for (environment, stdin, arguments) in [
        (&both[..], "", &[][..]),
        (&both[1..], "", &["--server", &url]),
        (&named, line.as_str(), &["--token-file", "-"]),
        (&named, line.as_str(), &["--token", "-"]),
        (&named, "", &["--token", token]),
        (&[], "", &["--server", &format!("{url}/"), "--token", token]),
    ] {
        let (code, said) = run(environment, stdin, arguments);
        assert!(code == 0 && said.contains(APP_ID), "{arguments:?}: {said}");
    }
    for (environment, arguments, code, words) in [
        (&named[..], &[][..], 2, "wants an API token"),
        (&both[1..], &[], 2, "no server to use it on"),
        (&named, &["--token-file", "none"], 2, "reading the token"),
        (&named, &["--token-file", "-"], 2, "standard input is empty"),
        (&named, &["--token", "a b"], 2, "no API token"),
        (
            &named,
            &["--token", "wrong"],
            4,
            "not one of this installation's",
        ),
        (
            &both[1..],
            &["--server", "127.0.0.1:1"],
            2,
            "an address is like",
        ),
        (
            &both[1..],
            &["--server", "http://127.0.0.1:9"],
            6,
            "cannot reach http://127.0.0.1:9",
        ),
        (
            &both[1..],
            &["--server", &format!("https://{}", server.address)],
            6,
            "cannot reach https",
        ),
        (
            &both[1..],
            &["--server", &format!("{url}/docs")],
            1,
            "as no Fanfare server does",
        ),
    ] {
        let (got, said) = run(environment, "", arguments);
        let mut lines = said.lines();
        let error = lines.find(|line| line.starts_with("fanfare: "));
        assert!(
            got == code && error.is_some_and(|error| error.contains(words)),
            "{arguments:?}: {got} {said}"
        );
    }
    assert!(!folder.path().join("data").exists());
}

#[tokio::test]
async fn a_token_is_not_in_the_help() {
    let server = server_with(&["demo=false"]).await;
    let environment = [("FANFARE_TOKEN", "hunter22")];
    let help = server.run_with(&environment, "", &["app", "list", "--help"]);
    let help = String::from_utf8(help.stdout).unwrap();
    assert!(
        help.contains("FANFARE_TOKEN") && !help.contains("hunter22"),
        "{help}"
    );
}

#[tokio::test]
async fn completions_need_nothing() {
    let server = server_with(&["demo=false"]).await;
    let folder = tempfile::tempdir().unwrap();
    let wrong = [("FANFARE_SHARDS", "none")];
    for shell in ["bash", "zsh", "fish"] {
        let output = server.run_elsewhere(folder.path(), &wrong, "", &["completions", shell]);
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(script.contains("reset-password"), "{shell}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
