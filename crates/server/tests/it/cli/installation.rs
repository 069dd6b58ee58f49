//! Where an installation begins, who serves from it, and what stands in the way.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use fanfare_testkit::APP_ID;

use crate::{server, server_with};

const KEY: &str =
    "FANFARE_MASTER_KEY=00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// Runs the program in a folder, with these variables (`NAME=VALUE`) and no others.
fn fanfare(folder: &Path, environment: &[&str], arguments: &[&str]) -> Output {
    let environment = environment.iter().map(|pair| pair.split_once('=').unwrap());
    Command::new(env!("CARGO_BIN_EXE_fanfare"))
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .envs(environment)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// The last line on standard error.
fn last_words(output: &Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    error.lines().last().unwrap_or_default().to_owned()
}

#[test]
fn no_command_begins_an_installation_where_there_is_none() {
    for arguments in [
        &["app", "list"][..],
        &["app", "create", "--name", "x"],
        &["key", "list", "--app", "x"],
        &["operator", "reset-password", "owner"],
        &["token", "create", "--name", "x", "--role", "admin"],
        &["audit", "list"],
        &["signing-key", "list"],
        &["master-key", "rotate"],
        &["publish", "room-1", "e", "{}"],
        &["--data-dir", "typo", "app", "create", "--name", "x"],
    ] {
        let folder = tempfile::tempdir().unwrap();
        let output = fanfare(folder.path(), &[], arguments);
        let words = last_words(&output);
        let place = folder.path().canonicalize().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {words}");
        assert!(
            words.contains("there is no Fanfare installation in the data folder")
                && words.contains(place.to_str().unwrap())
                && words.contains("fanfare serve"),
            "{arguments:?}: {words}"
        );
        assert_eq!(
            folder.path().read_dir().unwrap().count(),
            0,
            "{arguments:?}"
        );
    }
}

#[test]
fn apps_may_be_imported_before_the_first_start_into_a_folder_that_is_named_and_there() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = format!("FANFARE_DATA_DIR={}", folder.path().display());
    // Whoever only looks is told that there is nothing.
    let looked = fanfare(folder.path(), &[&data_dir], &["app", "list"]);
    assert_eq!(looked.status.code(), Some(2));
    let create = ["app", "create", "--name", "x", "--id", "imported"];
    let created = fanfare(folder.path(), &[&data_dir], &create);
    let said = String::from_utf8_lossy(&created.stderr).into_owned();
    assert!(created.status.success(), "{said}");
    assert!(said.contains("the beginning of an installation"), "{said}");
    let listed = fanfare(folder.path(), &[&data_dir], &["app", "list"]);
    assert!(String::from_utf8_lossy(&listed.stdout).contains("imported"));
}

#[tokio::test]
async fn a_second_server_on_an_sqlite_store_is_refused_and_told_who_has_it() {
    let mut server = server().await;
    let file = server.data_dir().join("fanfare.db");
    let url = format!("sqlite:{}", file.display());
    let linked = server.folder().join("linked");
    std::os::unix::fs::symlink(server.data_dir(), &linked).unwrap();
    for second in [
        &["--listen", "127.0.0.1:0", "serve"][..],
        &["--listen", "127.0.0.1:0", "--data-dir", "linked", "serve"],
        &[
            "--listen",
            "127.0.0.1:0",
            "--data-dir",
            "own",
            "--store-url",
            &url,
            "serve",
        ],
    ] {
        let refused = server.run(second);
        let words = last_words(&refused);
        assert_eq!(refused.status.code(), Some(5), "{second:?}: {words}");
        let holder = format!(
            "process {}, which listens on {}",
            server.pid(),
            server.address
        );
        assert!(
            words.contains("another server runs on the store") && words.contains(&holder),
            "{words}"
        );
    }
    assert!(server.run_ok(&["app", "list"]).contains(APP_ID));
    // The lock is the process's, not the file's.
    let killed = Command::new("kill")
        .args(["-KILL", &server.pid().to_string()])
        .status();
    assert!(killed.unwrap().success());
    server.stopped().await;
    server.start_again().await;
    assert!(server.run_ok(&["app", "list"]).contains(APP_ID));
}

#[tokio::test]
async fn what_stands_in_the_way_of_a_start_has_the_exit_code_of_its_kind() {
    let server = server_with(&["demo=false"]).await;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(folder.path().join("file"), "x").unwrap();
    for name in ["garbage", "keyless"] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
    }
    std::fs::write(folder.path().join("garbage/fanfare.db"), "x".repeat(4096)).unwrap();
    let create = ["app", "create", "--name", "x"];
    let keyless = format!("FANFARE_DATA_DIR={}", path("keyless"));
    let created = fanfare(folder.path(), &[&keyless, KEY], &create);
    assert!(created.status.success(), "{created:?}");
    let wrong_key = KEY.replace("0011", "1111");
    let in_use = format!("FANFARE_LISTEN={}", server.address);
    let other = format!("FANFARE_DATA_DIR={}", path("other"));
    let of_file = format!("FANFARE_DATA_DIR={}", path("file"));
    let below_file = format!("FANFARE_DATA_DIR={}", path("file/data"));
    let of_garbage = format!("FANFARE_DATA_DIR={}", path("garbage"));
    let no_folder = format!("FANFARE_STORE_URL=sqlite:{}", path("nowhere/x.db"));
    for (environment, code, words) in [
        (&[&*keyless][..], 2, "there is no master key"),
        (&[&keyless, &wrong_key], 2, "sealed with another master key"),
        (&[&of_garbage], 2, "not an SQLite database"),
        (&[&other, &in_use], 5, "another program listens there"),
        (
            &[&other, "FANFARE_LISTEN=192.0.2.1:6001"],
            6,
            "192.0.2.1 is not an address of this machine",
        ),
        (&[&of_file], 2, "is a file"),
        (&[&below_file], 2, "creating the data folder"),
        (&[&other, &no_folder], 2, "opening the store"),
        (
            &[
                &other,
                "FANFARE_STORE_URL=postgres://me:hunter2@127.0.0.1:9/x",
            ],
            6,
            "postgres://me:(hidden)@127.0.0.1:9/x: cannot connect to the database",
        ),
        (&["FANFARE_CONFIG=nowhere.toml"], 2, "is not there"),
        (&["FANFARE_CONFIG=keyless"], 2, "is a folder"),
        (
            &["FANFARE_LISTEN=nowhere.invalid:6001"],
            6,
            "names a host that is not found",
        ),
        (
            &[
                "FANFARE_LISTN=1",
                "FANFARE_LOG_FILTER=error",
                "FANFARE_SHARDS=0",
            ],
            2,
            "shards must be 1 to 64 (it was set to 0 by environment variable FANFARE_SHARDS)",
        ),
        (&["FANFARE_LOG_FILTER=warning"], 2, "did you mean warn?"),
        (&["FANFARE_LISTEN=http://x"], 2, "HOST:PORT"),
    ] {
        let output = fanfare(folder.path(), environment, &["serve"]);
        let said = last_words(&output);
        assert!(
            said.starts_with("fanfare: ") && said.contains(words),
            "{environment:?}: {said}"
        );
        assert_eq!(output.status.code(), Some(code), "{environment:?}: {said}");
    }
}

#[tokio::test]
async fn a_start_that_does_not_get_its_port_leaves_nothing_behind() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let listen = format!("FANFARE_LISTEN={}", taken.local_addr().unwrap());
    let refused = fanfare(folder.path(), &[&listen], &["serve"]);
    assert_eq!(refused.status.code(), Some(5), "{refused:?}");
    assert_eq!(folder.path().read_dir().unwrap().count(), 0);
}

#[tokio::test]
async fn a_database_that_is_none_is_told_as_such_and_the_start_is_tried_again() {
    use std::io::{Read, Write};
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!(
        "DATABASE_URL=postgres://me@{}/x",
        other.local_addr().unwrap()
    );
    std::thread::spawn(move || {
        while let Ok((mut client, _)) = other.accept() {
            let _ = client.read(&mut [0; 64]);
            let _ = client.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let refused = fanfare(
        folder.path(),
        &[&url, "FANFARE_LISTEN=127.0.0.1:0"],
        &["serve"],
    );
    let words = last_words(&refused);
    assert_eq!(refused.status.code(), Some(6), "{words}");
    assert!(words.contains("does not speak as Postgres does"), "{words}");
}

#[test]
fn unknown_variables_are_named_whatever_is_logged() {
    let folder = tempfile::tempdir().unwrap();
    let output = fanfare(
        folder.path(),
        &["FANFARE_LISTN=1", "FANFARE_LOG_FILTER=error"],
        &["app", "list"],
    );
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("FANFARE_LISTN") && said.contains("did you mean FANFARE_LISTEN?"),
        "{said}"
    );
}

#[tokio::test]
async fn files_are_their_owners_alone_whatever_the_umask() {
    let folder = tempfile::tempdir().unwrap();
    let binary = env!("CARGO_BIN_EXE_fanfare");
    let script = format!("umask 000; exec {binary} app create --name x");
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let run = || {
        let output = Command::new("sh")
            .args(["-c", &script])
            .current_dir(folder.path())
            .env_clear()
            .env("FANFARE_DATA_DIR", "data")
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    let modes = || {
        let mut files: Vec<(String, u32)> = data
            .read_dir()
            .unwrap()
            .map(|file| {
                let file = file.unwrap();
                let mode = file.metadata().unwrap().permissions().mode() & 0o777;
                (file.file_name().into_string().unwrap(), mode)
            })
            .collect();
        files.sort_unstable();
        files
    };
    run();
    let made = modes();
    assert!(made.len() >= 3, "{made:?}");
    assert!(made.iter().all(|(_, mode)| *mode == 0o600), "{made:?}");
    // Those of an installation that was made otherwise are taken back.
    for (name, _) in &made {
        let open = std::fs::Permissions::from_mode(0o644);
        std::fs::set_permissions(data.join(name), open).unwrap();
    }
    run();
    for (name, mode) in modes() {
        assert!(mode == 0o600 || name == "master.key", "{name}: {mode:o}");
    }
}
