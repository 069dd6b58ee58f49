//! Everything below a base path, as behind a proxy that passes it on.

use fanfare_testkit::api::now;
use fanfare_testkit::{APP_ID, Api, Client, KEY, Server};
use reqwest::header::{ACCEPT, CONTENT_LOCATION, HeaderMap, LOCATION};
use reqwest::redirect::Policy;
use reqwest::{Method, Url};

use super::first_run::welcome;
use super::server_with;

const BASE: &str = "/realtime";

async fn server(more: &[&str]) -> Server {
    server_with(&[&["http.base_path=/realtime"], more].concat()).await
}

/// Sends a signed request below a path. What is signed is the path without it, as with Pusher's SDKs.
async fn publish(api: &Api, below: &str) -> u16 {
    let body = r#"{"name":"headline","channels":["news"],"data":"1"}"#;
    let signed = api.sign("POST", "events", &[], body.as_bytes(), now());
    let path = format!("{below}{}?{signed}", api.path("events"));
    api.send("POST", &path, body.into()).await.status
}

#[tokio::test]
async fn clients_and_backends_are_served_below_the_base_path() {
    for (settings, below) in [
        (&[][..], "/realtime"),
        (&["path_prefix=/push"], "/realtime/push"),
        // Its first letters are those of `/apps`.
        (&["http.base_path=/app"], "/app"),
        (&["http.base_path=/a/b", "path_prefix=/a/b"], "/a/b/a/b"),
    ] {
        let server = server(settings).await;
        let path = format!("{below}/app/{KEY}?protocol=7");
        let mut client = Client::connect(server.address, &path).await;
        client.subscribe("news").await;
        assert_eq!(publish(&server.api(), below).await, 200, "{below}");
        client.expect("headline").await;
        let wrong = format!("{below}/nowhere/apps/{APP_ID}/events");
        let answer = server.api().send("POST", &wrong, Vec::new()).await;
        let meant =
            format!("There is nothing at {wrong}: it should be {below}/apps/{APP_ID}/events");
        assert_eq!(answer.status, 404);
        assert!(answer.text.contains(&meant), "{}", answer.text);
    }
}

#[tokio::test]
async fn a_proxy_that_removes_the_base_path_changes_nothing() {
    for (settings, below) in [(&[][..], ""), (&["path_prefix=/push"], "/push")] {
        let server = server(settings).await;
        let path = format!("{below}/app/{KEY}?protocol=7");
        let mut client = Client::connect(server.address, &path).await;
        client.subscribe("news").await;
        assert_eq!(publish(&server.api(), below).await, 200);
        client.expect("headline").await;
    }
}

/// Asks as a browser that follows no redirects.
async fn ask(server: &Server, path: &str) -> (u16, HeaderMap, String) {
    let client = reqwest::Client::builder().redirect(Policy::none()).build();
    let url = format!("http://{}{path}", server.address);
    let request = client.unwrap().request(Method::GET, url);
    let answer = request.header(ACCEPT, "text/html").send().await.unwrap();
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    (status, headers, answer.text().await.unwrap())
}

#[tokio::test]
async fn everything_else_is_below_the_base_path_as_well_as_at_its_own() {
    let server = server(&[]).await;
    let (_, _, page) = ask(&server, "/realtime/").await;
    let script = page.split('"').find(|part| part.starts_with("dashboard/"));
    let script = format!("/{}", script.unwrap());
    for path in [
        "/",
        "/docs/",
        "/docs/history",
        "/docs/api/",
        "/openapi.json",
        "/healthz",
        "/readyz",
        "/ready",
        "/up",
        "/sdk/fanfare.js",
        &script,
    ] {
        for below in [BASE, ""] {
            let (status, _, _) = ask(&server, &format!("{below}{path}")).await;
            assert_eq!(status, 200, "{below}{path}");
        }
    }
    for path in ["/realtime/api/v1/me", "/realtime/metrics", "/api/v1/me"] {
        assert_eq!(ask(&server, path).await.0, 401, "{path}");
    }
    for path in [
        "/realtimes/healthz",
        "/realtime/realtime/healthz",
        "/x/realtime/healthz",
    ] {
        assert_eq!(ask(&server, path).await.0, 404, "{path}");
    }
    let (_, _, document) = ask(&server, "/realtime/openapi.json").await;
    let document: serde_json::Value = serde_json::from_str(&document).unwrap();
    assert_eq!(document["servers"][0]["url"], "/realtime/");
    assert!(document["paths"]["/apps/{app_id}/events"]["servers"].is_null());
}

#[tokio::test]
async fn addresses_in_answers_lead_below_whatever_precedes_them() {
    let server = server(&[]).await;
    // The first two as they come through a proxy that passes the base path on, the others without it.
    for (asked, name, expected) in [
        ("/realtime", LOCATION, "/realtime/"),
        ("/realtime/docs", LOCATION, "/realtime/docs/"),
        ("/docs", LOCATION, "/docs/"),
        ("/realtime/docs/api", LOCATION, "/realtime/docs/api/"),
        (
            "/realtime/docs/quickstart",
            LOCATION,
            "/realtime/docs/quickstart/",
        ),
        ("/llms.txt", LOCATION, "/docs/llms.txt"),
        ("/realtime/sdk", LOCATION, "/realtime/sdk/fanfare."),
        ("/sdk", LOCATION, "/sdk/fanfare."),
        (
            "/realtime/sdk/fanfare.js",
            CONTENT_LOCATION,
            "/realtime/sdk/fanfare.",
        ),
        ("/realtime/dashboard", LOCATION, "/realtime/"),
    ] {
        let (_, headers, _) = ask(&server, asked).await;
        let given = headers[&name].to_str().unwrap();
        assert!(!given.starts_with('/'), "{asked}: {given}");
        let url = Url::parse("http://h").unwrap().join(asked).unwrap();
        let led = url.join(given).unwrap();
        assert!(led.path().starts_with(expected), "{asked}: {led}");
        assert_ne!(led, url);
    }
    let (_, _, script) = ask(&server, "/realtime/docs/api/swagger-initializer.js").await;
    assert!(script.contains("\"../../openapi.json\""), "{script}");
}

#[tokio::test]
async fn a_websocket_at_the_base_path_itself_is_told_the_whole_path() {
    let server = server(&[]).await;
    let mut client = Client::open(server.address, BASE, &[]).await.unwrap();
    let error = client.expect("pusher:error").await;
    let told = error["data"]["message"].as_str().unwrap();
    let words = "Path not found: /realtime, connect to /realtime/app/APP_KEY";
    assert!(told.contains(words), "{told}");
}

#[tokio::test]
async fn operators_at_an_address_of_their_own_are_below_it_too() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let ops = free.local_addr().unwrap();
    drop(free);
    let server = server(&[&format!("ops.listen={ops}")]).await;
    let get = async |path: &str| {
        let url = format!("http://{ops}{path}");
        let answer = reqwest::Client::new().get(url).header(ACCEPT, "text/html");
        answer.send().await.unwrap().status().as_u16()
    };
    for path in [
        "/realtime",
        "/realtime/docs",
        "/realtime/metrics",
        "/metrics",
        "/healthz",
    ] {
        assert_eq!(get(path).await, 200, "{path}");
    }
    assert_eq!(get(&format!("/realtime/app/{KEY}")).await, 404);
    assert_eq!(ask(&server, "/realtime/api/v1/me").await.0, 404);
    assert_eq!(ask(&server, "/realtime/healthz").await.0, 200);
}

#[tokio::test]
async fn what_is_printed_at_the_start_is_below_the_base_path() {
    let settings = [
        ("FANFARE_HTTP_BASE_PATH", BASE),
        ("FANFARE_PATH_PREFIX", "/push"),
    ];
    let server = Server::start_bare(env!("CARGO_BIN_EXE_fanfare"), &settings).await;
    let printed = welcome(&server).await;
    let address = server.address;
    assert!(printed.contains("self-check  an event went"), "{printed}");
    for link in [
        format!("http://{address}/realtime/demo"),
        format!("http://{address}/realtime/#/sign-in?link="),
        format!("http://{address}/realtime/push/apps/"),
        format!("--server http://{address}/realtime/push "),
    ] {
        assert!(printed.contains(&link), "{link} in {printed}");
    }
    let (status, _, _) = ask(&server, "/realtime/demo").await;
    assert_eq!(status, 200);
    let link = server.run_ok(&["operator", "sign-in-link", "owner"]);
    assert!(
        link.contains(&format!("http://{address}/realtime/#/")),
        "{link}"
    );
}
