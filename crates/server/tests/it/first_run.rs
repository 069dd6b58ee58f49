//! The first start, with nothing configured.

use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use fanfare_testkit::Server;

/// With a proxy that leads nowhere, which is none of this machine's own business.
async fn bare() -> Server {
    let server = Server::start_bare(
        env!("CARGO_BIN_EXE_fanfare"),
        &[("HTTP_PROXY", "http://127.0.0.1:9")],
    )
    .await;
    welcome(&server).await;
    server
}

/// What it prints once it has checked itself.
pub(crate) async fn welcome(server: &Server) -> String {
    let start = std::time::SystemTime::now();
    while !server.printed().contains(" publish demo ") {
        assert!(
            start.elapsed().unwrap().as_secs() < 15,
            "no welcome: {}",
            server.log()
        );
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    server.printed()
}

fn field<'a>(welcome: &'a str, name: &str) -> &'a str {
    let line = welcome
        .lines()
        .find(|line| line.trim_start().starts_with(name))
        .unwrap();
    line.trim_start().strip_prefix(name).unwrap().trim()
}

#[tokio::test]
async fn everything_that_is_printed_works_as_printed() {
    let server = bare().await;
    let welcome = welcome(&server).await;
    assert!(
        field(&welcome, "self-check")
            .starts_with("an event went from the HTTP API to a WebSocket in "),
        "{welcome}"
    );
    let path = format!("/app/{}?protocol=7", field(&welcome, "key"));
    let mut client = fanfare_testkit::Client::connect(server.address, &path).await;
    client
        .send(&serde_json::json!({"event": "pusher:subscribe", "data": {"channel": "demo"}}))
        .await;
    client
        .expect("pusher_internal:subscription_succeeded")
        .await;
    let curl = welcome
        .lines()
        .find(|line| line.starts_with("  curl "))
        .unwrap();
    let ran = Command::new("sh").args(["-c", curl]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&ran.stdout), "{}", "{ran:?}");
    let event = client.expect("greeting").await;
    assert!(
        event["data"]
            .as_str()
            .unwrap()
            .contains("Hello from the terminal")
    );
    assert!(
        server
            .run_ok(&["publish", "demo", "again", "{}"])
            .contains(&format!(
                "published again to demo of app {} (Demo) on http://{}",
                field(&welcome, "app id"),
                server.address
            ))
    );
    client.expect("again").await;
    // The printed line needs nothing of where it is run.
    let command = welcome.lines().find(|line| line.contains(" publish demo "));
    let elsewhere = tempfile::tempdir().unwrap();
    let program = server.folder().join(command.unwrap().trim());
    let ran = Command::new("sh")
        .args(["-c", program.to_str().unwrap()])
        .current_dir(elsewhere.path())
        .env_clear()
        .output()
        .unwrap();
    assert!(ran.status.success(), "{ran:?}");
    client.expect("greeting").await;
    let curl = server.run_ok(&["publish", "demo", "third", "it's", "--curl"]);
    assert!(
        Command::new("sh")
            .args(["-c", &curl])
            .output()
            .unwrap()
            .status
            .success()
    );
    assert_eq!(client.expect("third").await["data"], "it's");
}

#[tokio::test]
async fn a_second_start_uses_what_the_first_made() {
    let mut server = bare().await;
    let first = welcome(&server).await;
    server.restart().await;
    let second = welcome(&server).await;
    for name in ["app id", "key", "secret"] {
        assert_eq!(field(&first, name), field(&second, name));
    }
}

#[tokio::test]
async fn the_demo_page_needs_nothing_from_elsewhere_and_lets_people_into_its_channel_only() {
    let server = bare().await;
    let http = reqwest_get(&server, "/demo").await;
    assert!(
        !http.contains("http://") && !http.contains("https://"),
        "no address outside this server"
    );
    let auth = async |channel: &str| {
        let body = format!("socket_id=1.2&channel_name={channel}&user_id=u&name=N");
        let client = Command::new("curl");
        let mut client = client;
        let url = format!("http://{}/demo/auth", server.address);
        client.args([
            "-s",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            "-d",
            &body,
            &url,
        ]);
        String::from_utf8(client.output().unwrap().stdout).unwrap()
    };
    assert_eq!(auth("presence-demo").await, "200");
    assert_eq!(auth("private-other").await, "403");
}

#[tokio::test]
async fn the_demo_answers_this_machine_only_and_is_warned_of_when_it_is_off() {
    let mut server = bare().await;
    let status = |path: &str, header: &str| {
        let mut client = Command::new("curl");
        let url = format!("http://{}{path}", server.address);
        let options = ["-s", "-o", "/dev/null", "-w", "%{http_code}", "-H", header];
        let output = client.args(options).arg(&url).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    for path in ["/demo", "/demo/app"] {
        assert_eq!(status(path, "Accept: */*"), "200");
        assert_eq!(status(path, "Host: localhost:6001"), "200");
        assert_eq!(status(path, "Host: example.com"), "403");
        assert_eq!(status(path, "X-Forwarded-For: 203.0.113.9"), "403");
        assert_eq!(status(path, "Forwarded: for=203.0.113.9"), "403");
    }
    server.restart_with("demo", "false").await;
    let log = server.log();
    assert!(log.contains("the demo app is still there"), "{log}");
}

async fn reqwest_get(server: &Server, path: &str) -> String {
    server.api().send("GET", path, Vec::new()).await.text
}

#[tokio::test]
async fn without_a_demo_there_is_no_page_and_no_app() {
    let server = crate::server_with(&["demo=false"]).await;
    let api = server.api();
    assert_eq!(api.send("GET", "/demo", Vec::new()).await.status, 404);
    assert_eq!(api.send("GET", "/", Vec::new()).await.status, 200);
    assert_eq!(server.run_ok(&["app", "list"]).lines().count(), 2);
}

#[tokio::test]
async fn the_first_password_is_printed_although_the_first_start_failed() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let fanfare = |listen: String| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
        command
            .current_dir(folder.path())
            .env_clear()
            .env("FANFARE_LISTEN", listen)
            .env("FANFARE_DEMO", "false")
            .stdin(Stdio::null());
        command
    };
    let failed = fanfare(taken.local_addr().unwrap().to_string())
        .output()
        .unwrap();
    assert!(!failed.status.success() && failed.stdout.is_empty());
    let printed = folder.path().join("stdout");
    let mut started = fanfare("127.0.0.1:0".into())
        .stdout(std::fs::File::create(&printed).unwrap())
        .spawn()
        .unwrap();
    let start = SystemTime::now();
    let is_printed = || std::fs::read_to_string(&printed).is_ok_and(|it| it.contains("password"));
    while !is_printed() && start.elapsed().unwrap() < Duration::from_secs(10) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    started.kill().unwrap();
    started.wait().unwrap();
    assert!(is_printed());
}
