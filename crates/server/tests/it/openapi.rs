//! The description of the HTTP APIs, as the program prints and serves it. That the server does as it says is proven by
//! `crates/testkit/e2e/openapi_test.py`.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use fanfare_testkit::api::now;
use fanfare_testkit::{APP_ID, KEY, Server};
use reqwest::{Client, Method, Response};
use serde_json::Value;

use crate::{server, server_with};

const COMMITTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");

fn printed() -> String {
    let mut program = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    let output = program.arg("openapi").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn document() -> Value {
    serde_json::from_str(&printed()).unwrap()
}

async fn ask(server: &Server, method: Method, path: &str, headers: &[(&str, &str)]) -> Response {
    let url = format!("http://{}{path}", server.address);
    let mut request = Client::new().request(method, url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.send().await.unwrap()
}

async fn json(answer: Response) -> Value {
    serde_json::from_str(&answer.text().await.unwrap()).unwrap()
}

fn header<'a>(answer: &'a Response, name: &str) -> &'a str {
    let value = answer.headers().get(name);
    value.map_or("", |value| value.to_str().unwrap())
}

#[test]
fn the_committed_description_is_what_the_program_prints() {
    let committed = fs::read_to_string(COMMITTED).unwrap_or_default();
    assert!(
        committed == printed(),
        "docs/openapi.json is stale; renew it with: cargo run -- openapi > docs/openapi.json"
    );
}

#[test]
fn every_operation_is_named_once_and_says_what_it_is_and_how_it_fails() {
    let document = document();
    let tags = document["tags"].as_array().unwrap();
    let mut names = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let name = operation["operationId"].as_str().unwrap();
            assert!(names.insert(name), "{name} is there twice");
            let at = format!("{method} {path}");
            assert!(operation["summary"].is_string(), "{at}");
            assert!(
                tags.iter().any(|tag| tag["name"] == operation["tags"][0]),
                "{at}"
            );
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                assert!(parameter["description"].is_string(), "{at} {parameter}");
                assert!(
                    parameter["required"] == false || parameter.get("example").is_some(),
                    "{at} {parameter}"
                );
            }
            for (status, response) in operation["responses"].as_object().unwrap() {
                assert_ne!(response["description"], "", "{at} {status}");
                if status.as_str() >= "400" {
                    let content = response["content"].as_object().unwrap();
                    for (_, content) in content {
                        assert!(!content["example"].is_null(), "{at} {status}");
                    }
                }
            }
        }
    }
}

#[test]
fn every_field_is_described() {
    fn check(name: &str, schema: &Value) {
        for (field, schema) in schema["properties"].as_object().into_iter().flatten() {
            let says = |schema: &Value| schema["description"].is_string();
            let parts = schema["oneOf"].as_array();
            let said = says(schema) || parts.is_some_and(|parts| parts.iter().any(says));
            assert!(said, "{name}.{field}");
        }
        for part in schema["allOf"].as_array().into_iter().flatten() {
            check(name, part);
        }
    }
    for (name, schema) in document()["components"]["schemas"].as_object().unwrap() {
        check(name, schema);
    }
}

#[test]
fn every_reference_leads_to_a_part_of_the_description() {
    fn check(document: &Value, part: &Value) {
        if let Some(reference) = part["$ref"].as_str() {
            let pointer = reference.strip_prefix('#').unwrap_or(reference);
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
        let fields = part.as_object().into_iter().flat_map(|all| all.values());
        for inner in fields.chain(part.as_array().into_iter().flatten()) {
            check(document, inner);
        }
    }
    let document = document();
    check(&document, &document);
}

// What schemathesis leaves out, because a stream doesn't end.
#[tokio::test]
async fn streams_and_websockets_are_answered_as_described() {
    let server = server().await;
    let document = document();
    let api = server.api();
    let signed = api.sign(
        "GET",
        "events/stream",
        &[("channels", "private-a")],
        b"",
        now(),
    );
    let signed = format!("/apps/{APP_ID}/events/stream?{signed}");
    let handshake = [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
    ];
    let with_key = [
        &handshake[..],
        &[("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")],
    ]
    .concat();
    let (stream, socket) = ("/sse/{key}", "/ws/{key}");
    let backend = "/apps/{app_id}/events/stream";
    let sse = |query: &str| format!("/sse/{KEY}?{query}");
    for (operation, path, headers, status) in [
        (stream, sse("channels=a"), &[][..], 200),
        (stream, sse(""), &[], 400),
        (stream, sse("channels=private-a"), &[], 403),
        (stream, "/sse/nope?channels=a".to_owned(), &[], 404),
        (backend, signed, &[], 200),
        (backend, api.path("events/stream?channels=a"), &[], 401),
        (socket, format!("/ws/{KEY}"), &with_key, 101),
        (socket, format!("/ws/{KEY}"), &handshake, 400),
        (socket, format!("/ws/{KEY}"), &[], 426),
    ] {
        let answer = ask(&server, Method::GET, &path, headers).await;
        assert_eq!(answer.status(), status, "{path}");
        let responses = &document["paths"][operation]["get"]["responses"];
        let response = &responses[status.to_string()];
        assert!(response.is_object(), "{operation} {status}");
        let kind = header(&answer, "content-type");
        let kind = kind.split(';').next().unwrap_or_default();
        let described = response["content"].as_object();
        assert_eq!(
            described.is_some_and(|all| all.contains_key(kind)),
            !kind.is_empty(),
            "{operation} {status} {kind}"
        );
    }
}

#[tokio::test]
async fn the_server_serves_the_description_and_need_not_send_it_twice() {
    let server = server().await;
    let answer = ask(&server, Method::GET, "/openapi.json", &[]).await;
    assert_eq!(header(&answer, "content-type"), "application/json");
    let tag = header(&answer, "etag").to_owned();
    assert_eq!(json(answer).await, document());
    let again = ask(
        &server,
        Method::GET,
        "/openapi.json",
        &[("if-none-match", &tag)],
    )
    .await;
    assert_eq!(again.status(), 304);
    let other = ask(
        &server,
        Method::GET,
        "/openapi.json",
        &[("if-none-match", "\"x\"")],
    )
    .await;
    assert_eq!(other.status(), 200);
}

#[tokio::test]
async fn behind_a_path_prefix_the_description_says_where_backends_ask() {
    let server = server_with(&["path_prefix=/realtime"]).await;
    let answer = ask(&server, Method::GET, "/openapi.json", &[]).await;
    let document: Value = json(answer).await;
    let paths = &document["paths"];
    assert_eq!(
        paths["/apps/{app_id}/events"]["servers"][0]["url"],
        "/realtime"
    );
    assert!(paths["/api/v1/apps"]["servers"].is_null());
}

#[tokio::test]
async fn the_page_may_load_nothing_from_elsewhere() {
    let server = server().await;
    for path in ["/docs/api", "/docs/api/", "/docs/api/swagger-ui-bundle.js"] {
        let answer = ask(&server, Method::GET, path, &[]).await;
        assert_eq!(answer.status(), 200, "{path}");
        let policy = header(&answer, "content-security-policy");
        assert!(
            policy.starts_with("default-src 'none'") && !policy.contains("http"),
            "{path}: {policy}"
        );
        assert_eq!(header(&answer, "x-content-type-options"), "nosniff");
    }
}

#[tokio::test]
async fn what_is_not_in_the_admin_api_is_refused_in_its_words() {
    let server = server().await;
    let answer = ask(&server, Method::GET, "/api/v1/nothing", &[]).await;
    assert_eq!(header(&answer, "content-type"), "application/problem+json");
    assert_eq!(json(answer).await["code"], "not_found");
    let answer = ask(&server, Method::PUT, "/api/v1/apps", &[]).await;
    assert_eq!(header(&answer, "allow"), "GET,HEAD,POST");
    let problem: Value = json(answer).await;
    assert_eq!(problem["code"], "method_not_allowed");
}
