//! Webhooks on the command line.

use std::io::Read;
use std::time::{Duration, SystemTime};

use fanfare_testkit::{APP_ID, KEY, SECRET, Server};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::everywhere::{here_and_elsewhere, text};
use crate::receiver::{self, Received};
use crate::{server, server_with};

const URL: &str = "https://shop.example.com/hook";

#[tokio::test]
async fn webhooks_are_created_changed_and_deleted() {
    here_and_elsewhere(async |cli| {
        let create = ["webhook", "create", "--app", APP_ID, "--url", URL];
        let filters = [
            "--event",
            "member_added",
            "--event",
            "cache_miss",
            "--channels",
            "*",
        ];
        let rest = ["--batch", "--name", "Orders", "--header", "X-Token: marked"];
        let made = cli.json(&[&create[..], &filters, &rest].concat());
        let id = text(&made, "/id");
        assert!(text(&made, "/secret").starts_with("whsec_"));
        assert_eq!(made["events"], json!(["cache_miss", "member_added"]));

        let shown = cli.ok(&["webhook", "show", &id]);
        for words in [
            "Orders",
            URL,
            "X-Token",
            "cache_miss member_added",
            "active",
        ] {
            assert!(shown.contains(words), "{shown}");
        }
        assert!(
            !shown.contains("marked") && !shown.contains("whsec_"),
            "{shown}"
        );
        let listed = cli.ok(&["webhook", "list", "--app", APP_ID]);
        assert!(
            listed.contains(&id) && listed.contains("WAITING"),
            "{listed}"
        );

        let update = ["webhook", "update", &id, "--all-events", "--no-batch"];
        let rest = ["--remove-header", "X-Token", "--channels", "presence-*"];
        let changed = cli.json(&[&update[..], &rest].concat());
        assert_eq!(
            (&changed["events"], &changed["batch"], &changed["headers"]),
            (&json!(null), &json!(false), &json!({}))
        );
        assert_eq!(changed["channels"], json!(["presence-*"]));
        assert_eq!(text(&changed, "/name"), "Orders", "what is not named stays");
        let pulled = cli.json(&["webhook", "update", &id, "--no-url", "--all-channels"]);
        assert_eq!(
            (&pulled["url"], &pulled["channels"]),
            (&json!(null), &json!([]))
        );

        let paused = cli.ok(&["webhook", "pause", &id, "--reason", "moving"]);
        assert!(paused.contains("paused: moving"), "{paused}");
        assert_eq!(cli.json(&["webhook", "enable", &id])["state"], "active");
        assert_eq!(
            cli.ok(&["webhook", "delete", &id]),
            format!("deleted {id}\n")
        );
        let none = cli.refused(3, &["webhook", "show", &id]);
        assert!(
            none.contains(&format!("there is no webhook {id:?}")),
            "{none}"
        );
    })
    .await;
}

#[tokio::test]
async fn a_secret_is_printed_once_to_those_who_need_it() {
    here_and_elsewhere(async |cli| {
        let create = ["webhook", "create", "--app", APP_ID, "--url", URL];
        let pusher = cli.ok(&create);
        assert!(
            pusher.contains("with the app's oldest active key"),
            "{pusher}"
        );
        assert!(!pusher.contains("whsec_"), "{pusher}");
        let standard = cli.ok(&[&create[..], &["--format", "standard"]].concat());
        assert!(standard.contains("whsec_"), "{standard}");
        let id = standard
            .lines()
            .find_map(|line| line.strip_prefix("webhook"));
        let id = id.unwrap().trim();
        let rotated = cli.json(&["webhook", "rotate-secret", id, "--keep-old", "1h"]);
        assert_eq!(rotated["secrets"].as_array().unwrap().len(), 2);
        let rotated = cli.ok(&["webhook", "rotate-secret", id, "--keep-old", "0"]);
        assert!(
            rotated.contains("whsec_") && rotated.contains("now"),
            "{rotated}"
        );
        assert!(!rotated.contains("nothing"), "{rotated}");
        let id = pusher.lines().find_map(|line| line.strip_prefix("webhook"));
        let rotated = cli.ok(&["webhook", "rotate-secret", id.unwrap().trim()]);
        assert!(
            rotated.contains("nothing while the format is pusher"),
            "{rotated}"
        );
    })
    .await;
}

#[tokio::test]
async fn what_could_not_work_is_refused_in_one_line() {
    here_and_elsewhere(async |cli| {
        let create = ["webhook", "create", "--app", APP_ID];
        for (rest, words) in [
            (
                ["--event", "channel_ocupied"],
                "did you mean channel_occupied?",
            ),
            (
                ["--url", "http://127.0.0.1/"],
                "webhooks.allow_inner_addresses",
            ),
            (["--header", "Host: x"], "is set by Fanfare"),
        ] {
            let said = cli.refused(2, &[&create[..], &rest].concat());
            assert!(said.contains(words), "{said}");
        }
        let header = cli.run("", &[&create[..], &["--header", "x"]].concat());
        assert_eq!(header.status.code(), Some(2));
        let said = String::from_utf8(header.stderr).unwrap();
        assert!(said.contains("a name, a colon and a value"), "{said}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_are_brought_to_a_receiver_that_the_server_cannot_reach() {
    let server = server().await;
    let (url, mut told) = receiver::start(|_| 204).await;
    let forward = ["webhook", "forward", &url, "--app", APP_ID];
    let forward = [&forward[..], &["--event", "channel_occupied"]].concat();
    let mut forwarding = server.start_printing_command(&forward);
    let list = || {
        let listed = server.run_ok(&["webhook", "list", "--app", APP_ID, "--json"]);
        let listed: Value = serde_json::from_str(&listed).unwrap();
        listed["items"].as_array().unwrap().clone()
    };
    // Occupied again and again, because the server learns of the webhook within a second.
    let mut count = 0;
    let received = loop {
        let mut client = server.connect().await;
        client.subscribe(&format!("news-{count}")).await;
        count += 1;
        if let Ok(received) = timeout(Duration::from_secs(2), told.recv()).await {
            break received.unwrap();
        }
        assert!(count < 20, "nothing is brought");
    };
    assert!(received.is_signed(), "{received:?}");
    assert_eq!(received.header("content-type"), "application/json");
    assert_eq!(received.json()["events"][0]["name"], "channel_occupied");
    let made = list();
    assert_eq!(made.len(), 1);
    let id = made[0]["id"].as_str().unwrap();
    assert_eq!(received.header("fanfare-delivery"), format!("{id}_1"));

    let pid = forwarding.id().to_string();
    let killed = std::process::Command::new("kill")
        .args(["-INT", &pid])
        .status();
    assert!(killed.unwrap().success());
    let mut printed = String::new();
    let mut stdout = forwarding.stdout.take().unwrap();
    stdout.read_to_string(&mut printed).unwrap();
    assert!(forwarding.wait().unwrap().success());
    assert_eq!(list(), Vec::<Value>::new(), "it is deleted");
    let line = printed.lines().find(|line| line.starts_with("1  "));
    let line = line.unwrap_or_else(|| panic!("{printed}"));
    for words in ["channel_occupied news-", "  204  ", " ms"] {
        assert!(line.contains(words), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_brought_from_where_it_is_asked_for() {
    let server = server().await;
    let create = ["webhook", "create", "--app", APP_ID, "--json"];
    let made = server.run_ok(&[&create[..], &["--event", "channel_occupied"]].concat());
    let made: Value = serde_json::from_str(&made).unwrap();
    let id = text(&made, "/id");
    let deliveries = || {
        let listed = server.run_ok(&["webhook", "deliveries", &id, "--json"]);
        let listed: Value = serde_json::from_str(&listed).unwrap();
        listed["items"].as_array().unwrap().len()
    };
    let mut clients = Vec::new();
    while deliveries() < 3 {
        let mut client = server.connect().await;
        client.subscribe(&format!("news-{}", clients.len())).await;
        clients.push(client);
        assert!(clients.len() < 50, "nothing is recorded");
    }
    let (url, mut told) = receiver::start(|_| 200).await;
    let forward = ["webhook", "forward", &url, "--webhook", &id, "--after", "1"];
    let mut forwarding = server.start_printing_command(&forward);
    for sequence in ["2", "3"] {
        let next = timeout(Duration::from_secs(20), told.recv()).await;
        assert_eq!(next.unwrap().unwrap().header("fanfare-sequence"), sequence);
    }
    forwarding.kill().unwrap();
    forwarding.wait().unwrap();
    let table = server.run_ok(&["webhook", "deliveries", &id, "--limit", "2"]);
    assert_eq!(table.lines().count(), 3, "{table}");
    assert!(
        table.contains("kept") && table.contains("channel_occupied"),
        "{table}"
    );
    let shown = server.run_ok(&["webhook", "delivery", &id, "1"]);
    assert!(
        shown.contains(&format!("{id}_1")) && shown.contains("not yet"),
        "{shown}"
    );
    let gone = server.run(&["webhook", "delivery", &id, "999"]);
    assert_eq!(gone.status.code(), Some(3));
}

/// Runs a check of a receiver, and returns its exit code and its findings.
fn check(server: &Server, arguments: &[&str]) -> (Option<i32>, Value) {
    let run = server.run(&[&["webhook", "check", "--json"][..], arguments].concat());
    let printed = String::from_utf8(run.stdout).unwrap();
    let found = serde_json::from_str(&printed);
    let found: Value = found.unwrap_or_else(|_| panic!("{printed}{:?}", run.stderr));
    (run.status.code(), found["findings"].clone())
}

fn verdicts(findings: &Value) -> Vec<(String, String)> {
    let all = findings.as_array().unwrap().iter();
    all.map(|found| (text(found, "/check"), text(found, "/verdict")))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_does_everything_right_passes_the_check() {
    let server = server().await;
    let now = || i64::try_from(SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap();
    let judge = move |received: &Received| {
        let age = now() - received.json()["time_ms"].as_i64().unwrap();
        match received.is_signed() && age < 300_000 {
            true => 200,
            false => 401,
        }
    };
    let (url, mut told) = receiver::start(judge).await;
    let (code, findings) = check(&server, &[&url, "--app", APP_ID]);
    assert_eq!(code, Some(0), "{findings}");
    let verdicts = verdicts(&findings);
    assert_eq!(verdicts.len(), 8, "{findings}");
    assert!(
        verdicts.iter().all(|(_, verdict)| verdict == "ok"),
        "{findings}"
    );
    let mut received = Vec::new();
    while let Ok(one) = told.try_recv() {
        received.push(one);
    }
    assert_eq!(received[0].body, received[1].body, "sent twice");
    assert_eq!(received[2].json()["events"].as_array().unwrap().len(), 3);
    let people = server.run_ok(&["webhook", "check", &url, "--key", KEY, "--secret", SECRET]);
    assert!(
        people.contains("WHAT TO DO") && people.contains("ok"),
        "{people}"
    );
    let other = server.run(&["webhook", "check", &url, "--key", KEY, "--secret", "other"]);
    assert_eq!(
        other.status.code(),
        Some(1),
        "it takes nothing of another secret"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_does_something_wrong_is_told_what_to_do() {
    let server = server().await;
    let (credulous, _told) = receiver::start(|_| 200).await;
    let (code, findings) = check(&server, &[&credulous, "--app", APP_ID]);
    assert_eq!(code, Some(1));
    for (check, verdict) in verdicts(&findings) {
        let expected = match check.as_str() {
            "wrong signature" | "no signature" => "failure",
            "ten minutes old" => "warning",
            _ => "ok",
        };
        assert_eq!(verdict, expected, "{check}");
    }
    let strict = |received: &Received| {
        let is_first = received.header("fanfare-sequence") == "1" && received.is_signed();
        match received.body.contains("something_new") {
            true => 422,
            false if is_first => 200,
            false => 500,
        }
    };
    let (strict, _told) = receiver::start(strict).await;
    let run = server.run(&["webhook", "check", &strict, "--app", APP_ID]);
    assert_eq!(run.status.code(), Some(1));
    let printed = String::from_utf8(run.stdout).unwrap();
    for words in ["FAIL", "422", "unknown event", "a refusal is retried"] {
        assert!(printed.contains(words), "{printed}");
    }
    let old = printed
        .lines()
        .find(|line| line.contains("ten minutes old"));
    assert!(
        old.unwrap().starts_with("warn"),
        "a failure is no refusal: {printed}"
    );
    for (status, advice) in [
        (401, "with the same key and secret"),
        (302, "redirects are not followed"),
        (404, "whose path takes POST requests"),
        (500, "mend the receiver"),
        (0, "on which it listens"),
    ] {
        let (mut url, _told) = receiver::start(move |_| status).await;
        if status == 0 {
            url = "http://127.0.0.1:1/".into();
        }
        let (code, findings) = check(&server, &[&url, "--app", APP_ID]);
        let count = findings.as_array().unwrap().len();
        assert_eq!((code, count), (Some(1), 1), "{findings}");
        let given = text(&findings[0], "/advice");
        assert!(given.contains(advice), "{status}: {given}");
    }
    let no_url = server.run(&["webhook", "check", "localhost:3000", "--app", APP_ID]);
    assert_eq!(no_url.status.code(), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn examples_replays_and_their_outcomes_are_printed() {
    let server = server_with(&["webhooks.allow_inner_addresses=true"]).await;
    let takes = |received: &Received| match received.body.contains("member_removed") {
        true => 500,
        false => 200,
    };
    let (url, mut told) = receiver::start(takes).await;
    let create = [
        "webhook", "create", "--app", APP_ID, "--url", &url, "--json",
    ];
    let members = ["--event", "member_added", "--event", "channel_occupied"];
    let made = server.run_ok(&[&create[..], &members].concat());
    let made: Value = serde_json::from_str(&made).unwrap();
    let id = text(&made, "/id");
    let tested = server.run_ok(&["webhook", "test", &id]);
    assert!(
        tested.contains("member_added") && tested.contains("200"),
        "{tested}"
    );
    let failed = server.run(&["webhook", "test", &id, "--event", "member_removed"]);
    assert_eq!(failed.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&failed.stdout).contains("500"));
    while told.try_recv().is_ok() {}

    let mut count = 0;
    let received = loop {
        let mut client = server.connect().await;
        client.subscribe(&format!("news-{count}")).await;
        count += 1;
        if let Ok(received) = timeout(Duration::from_secs(2), told.recv()).await {
            break received.unwrap();
        }
        assert!(count < 20, "nothing is sent");
    };
    let sequence = received.header("fanfare-sequence").to_owned();
    let delivered = |state: &str| {
        let listed = server.run_ok(&["webhook", "deliveries", &id, "--state", state, "--json"]);
        let listed: Value = serde_json::from_str(&listed).unwrap();
        !listed["items"].as_array().unwrap().is_empty()
    };
    while !delivered("delivered") {
        tokio::task::yield_now().await;
    }
    let shown = server.run_ok(&["webhook", "delivery", &id, &sequence]);
    assert!(
        shown.contains("ATTEMPT") && shown.contains("200"),
        "{shown}"
    );
    // A receiver knows the whole id.
    let whole = format!("{id}_{sequence}");
    assert_eq!(server.run_ok(&["webhook", "delivery", &whole]), shown);
    assert_eq!(server.run_ok(&["webhook", "delivery", &id, &whole]), shown);
    let unnamed = server.run(&["webhook", "delivery", &id]);
    assert_eq!(unnamed.status.code(), Some(2));
    let said = String::from_utf8(unnamed.stderr).unwrap();
    assert!(said.contains("Pass its number"), "{said}");
    let replay = ["webhook", "replay", &id, "--sequence", &sequence];
    let counted = server.run_ok(&[&replay[..], &["--dry-run"]].concat());
    assert_eq!(counted, "1 delivery would be sent again\n");
    assert_eq!(server.run_ok(&replay), "1 delivery will be sent again\n");
    let none = server.run(&["webhook", "replay", &id, "--sequence", "9999"]);
    assert_eq!(none.status.code(), Some(3));
    let said = String::from_utf8(none.stderr).unwrap();
    assert!(said.contains("no delivery 9999 in its log"), "{said}");
    let failed = ["webhook", "replay", &id, "--state", "failed"];
    assert_eq!(
        server.run_ok(&failed),
        "0 deliveries will be sent again; nothing in the log matches\n"
    );
    let counted = server.run_ok(&[&failed[..], &["--json"]].concat());
    let counted: Value = serde_json::from_str(&counted).unwrap();
    let expected =
        json!({"deliveries": 0, "waiting": 0, "unknown": [], "dry_run": false, "next": null});
    assert_eq!(counted, expected);
    let pulled = server.run_ok(&["webhook", "deliveries", &id, "--after", "0", "--json"]);
    let pulled: Value = serde_json::from_str(&pulled).unwrap();
    assert_eq!(pulled["oldest"], 1);
    assert!(pulled["position"].as_i64().unwrap() >= 1, "{pulled}");
    loop {
        let again = timeout(Duration::from_secs(20), told.recv()).await;
        if again.unwrap().unwrap().header("fanfare-replay") == "true" {
            break;
        }
    }
}
