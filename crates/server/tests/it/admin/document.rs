//! What docs/admin-api.md shows works as it is shown.

use std::path::Path;
use std::process::Command;

use fanfare_testkit::PASSWORD;

use super::server;

/// All blocks of shell, in order: one session of somebody who copies them.
fn shell_blocks(document: &str) -> String {
    let blocks = document.split("```sh\n").skip(1);
    blocks
        .filter_map(|block| block.split("```").next())
        .collect()
}

#[tokio::test]
async fn the_walk_through_the_admin_api_works_as_it_is_written() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/admin-api.md");
    let document = std::fs::read_to_string(file).unwrap();
    let server = server(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    let ran = tokio::process::Command::from(Command::new("bash"))
        .args(["-euo", "pipefail", "-c", &shell_blocks(&document)])
        .current_dir(folder.path())
        .env("SERVER", format!("http://{}", server.address))
        .env("PASSWORD", PASSWORD)
        .env("no_proxy", "127.0.0.1")
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let printed = String::from_utf8(ran.stdout).unwrap();
    let errors = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(
        ran.status.success(),
        "{printed}\n{errors}\n{}",
        server.log()
    );

    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    let numbers = |lines: &str| -> Vec<String> {
        let events = lines.lines().filter(|line| line.contains("tick"));
        let number = |line: &str| line.chars().filter(char::is_ascii_digit).collect();
        events.map(number).collect()
    };
    let expected: Vec<String> = (1..=6).map(|number| number.to_string()).collect();
    assert_eq!(
        numbers(&read("new.txt"))[..],
        expected[2..],
        "{}",
        read("new.txt")
    );
    assert_eq!(
        numbers(&read("old.txt"))[..],
        expected[..4],
        "{}",
        read("old.txt")
    );
    assert!(read("old.txt").contains("c[4009,"), "{}", read("old.txt"));
    assert!(read("new.txt").contains("c[4001,"), "{}", read("new.txt"));
    for words in [
        "\"role\":\"owner\"",
        "App key",
        "\"action\":\"session.create\"",
        "\"action\":\"app.create\"",
        "\"action\":\"key.create\"",
        "\"action\":\"key.revoke\"",
        "\"code\":\"forbidden\"",
        "\"code\":\"not_found\"",
        "\"code\":\"stale\"",
        "\"code\":\"invalid\"",
        "\"code\":\"unauthorized\"",
        "\"secret\":\"set\"",
    ] {
        assert!(
            printed.contains(words),
            "{words} is not in\n{printed}\n{errors}"
        );
    }
}
