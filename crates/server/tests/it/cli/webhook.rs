//! Webhooks on the command line.

use fanfare_testkit::APP_ID;
use serde_json::json;

use super::everywhere::{here_and_elsewhere, text};

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
