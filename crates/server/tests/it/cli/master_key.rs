//! Another master key, while a server runs, and however the process that brings it ends.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use fanfare_testkit::{APP_ID, Server};

use super::within_a_second;
use crate::{server, server_with};

const ONE: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const TWO: &str = "11112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

fn key(server: &Server) -> PathBuf {
    server.data_dir().join("master.key")
}

/// The keys that were replaced.
fn old_keys(server: &Server) -> Vec<PathBuf> {
    let files = fs::read_dir(server.data_dir()).unwrap();
    let files = files.map(|file| file.unwrap().path());
    let is_old = |file: &PathBuf| {
        let name = file.file_name().unwrap().to_str().unwrap();
        name.starts_with("master.key.old-")
    };
    files.filter(is_old).collect()
}

#[tokio::test]
async fn a_running_server_keeps_serving_until_it_is_restarted_with_the_new_key() {
    let mut server = server().await;
    let mut client = server.connect().await;
    let before = fs::read_to_string(key(&server)).unwrap();
    let said = server.run_ok(&["master-key", "rotate"]);
    assert!(
        said.starts_with("sealed ") && said.contains("restart all running nodes"),
        "{said}"
    );
    let after = fs::read_to_string(key(&server)).unwrap();
    assert!(before != after && !said.contains(after.trim()));
    let old = old_keys(&server);
    assert_eq!(fs::read_to_string(&old[0]).unwrap(), before);
    for file in [&key(&server), &old[0]] {
        let mode = fs::metadata(file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", file.display());
    }

    // What the server cannot open any more it does not forget.
    server.run_ok(&["app", "update", APP_ID, "--name", "New"]);
    within_a_second(async || server.log().contains("the master key was replaced")).await;
    client.subscribe("a").await;
    server.api().publish("a", "e", "d").await;
    client.expect("e").await;

    server.restart().await;
    server.connect().await.subscribe("a").await;
    assert_eq!(server.api().get("channels", &[]).await.status, 200);
    assert!(server.run_ok(&["app", "list"]).contains("New"));
    server.run_ok(&["master-key", "rotate"]);
    assert_eq!(old_keys(&server).len(), 2);
}

#[tokio::test]
async fn a_process_that_ends_before_it_renames_the_file_loses_nothing() {
    let mut server = server().await;
    server.run_ok(&["master-key", "rotate"]);
    let (file, old) = (key(&server), old_keys(&server).remove(0));
    let made = file.with_file_name("master.key.new");
    // As it was between the two: the store has the new key, and the old one still has the name.
    fs::rename(&file, &made).unwrap();
    fs::rename(&old, &file).unwrap();
    server.restart().await;
    assert_eq!(server.api().get("channels", &[]).await.status, 200);
    assert!(
        server
            .log()
            .contains("the master key was replaced by a process")
    );
    assert!(!made.exists() && old_keys(&server).len() == 1);
    // And before the store has taken it.
    fs::write(&made, format!("{TWO}\n")).unwrap();
    server.restart().await;
    assert_eq!(server.api().get("channels", &[]).await.status, 200);
    let other = server.run_with(
        &[("FANFARE_NEW_MASTER_KEY", ONE)],
        "",
        &["master-key", "rotate"],
    );
    let errors = String::from_utf8(other.stderr).unwrap();
    assert!(errors.contains("is left of a rotation"), "{errors}");
    server.run_ok(&["master-key", "rotate"]);
    assert_eq!(fs::read_to_string(&file).unwrap().trim(), TWO);
    assert!(!made.exists());
    // And with the old key gone.
    fs::rename(&file, &made).unwrap();
    assert!(server.run_ok(&["app", "list"]).contains(APP_ID));
    assert!(file.exists() && !made.exists());
}

#[tokio::test]
async fn a_key_of_the_environment_is_replaced_by_one_that_is_given() {
    let server = server_with(&[&format!("master_key={ONE}")]).await;
    let rotate = ["master-key", "rotate"];
    let none = server.run(&rotate);
    let errors = String::from_utf8(none.stderr).unwrap();
    assert_eq!(none.status.code(), Some(2));
    assert!(errors.contains("FANFARE_NEW_MASTER_KEY"), "{errors}");
    for (new, words) in [(ONE, "is the present one"), ("abc", "64 hex digits")] {
        let refused = server.run_with(&[("FANFARE_NEW_MASTER_KEY", new)], "", &rotate);
        let errors = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(2));
        assert!(errors.contains(words) && !errors.contains(ONE), "{errors}");
    }
    let wrong = server.run_with(
        &[("FANFARE_MASTER_KEY", TWO), ("FANFARE_NEW_MASTER_KEY", ONE)],
        "",
        &rotate,
    );
    assert_eq!(wrong.status.code(), Some(2));
    assert!(
        server.run_ok(&["app", "list"]).contains(APP_ID),
        "nothing was changed"
    );

    let file = server.data_dir().join("new");
    fs::write(&file, format!("{TWO}\n")).unwrap();
    let said = server.run_ok(&[&rotate[..], &["--new-key-file", file.to_str().unwrap()]].concat());
    assert!(
        said.contains("FANFARE_MASTER_KEY") && !said.contains(TWO),
        "{said}"
    );
    assert!(!key(&server).exists(), "it is not written");
    assert_eq!(server.run(&["app", "list"]).status.code(), Some(2));
    let listed = server.run_with(&[("FANFARE_MASTER_KEY", TWO)], "", &["app", "list"]);
    assert!(listed.status.success());
}

#[tokio::test]
async fn the_master_key_of_a_server_elsewhere_is_left_alone() {
    let server = server_with(&["demo=false"]).await;
    let before = fs::read_to_string(key(&server)).unwrap();
    let environment = [("FANFARE_SERVER", "http://127.0.0.1:9")];
    let refused = server.run_with(&environment, "", &["master-key", "rotate"]);
    assert_eq!(refused.status.code(), Some(2));
    assert_eq!(fs::read_to_string(key(&server)).unwrap(), before);
}
