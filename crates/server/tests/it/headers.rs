//! Header lines of one name are one list (RFC 9110 5.3), whichever header it is, and what is no handshake is told why.

use fanfare_testkit::admin::text;
use fanfare_testkit::{APP_ID, Admin, KEY, OWNER, OWNER_SETTING, PASSWORD, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::{server, server_with};

/// The answer to a request of these lines: the whole of it, or after a handshake up to the first message.
async fn head(server: &Server, request: &str, lines: &[&str]) -> String {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    let request = format!("{request}\r\nHost: x\r\n{lines}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut seen = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&seen).into_owned();
        if is_whole(&text, seen.len()) {
            return text;
        }
        assert!(stream.read_buf(&mut seen).await.unwrap() > 0, "{text}");
    }
}

fn is_whole(text: &str, length: usize) -> bool {
    let Some((head, _)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    if head.starts_with("HTTP/1.1 101") {
        return text.contains("pusher:");
    }
    let body = head.split("content-length: ").nth(1);
    let body = body.and_then(|rest| rest.lines().next()?.parse().ok());
    length >= head.len() + 4 + body.unwrap_or(0)
}

const UPGRADE: [&str; 4] = [
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
];

#[tokio::test]
async fn a_handshake_may_spread_its_lists_over_lines() {
    let server = server().await;
    let request = format!("GET /app/{KEY}?protocol=7 HTTP/1.1");
    for instead in [
        &[
            "Connection: close",
            "Connection: Upgrade",
            "Upgrade: websocket",
        ][..],
        &[
            "Connection: Upgrade",
            "Connection: close",
            "Upgrade: websocket",
        ],
        &[
            "Connection: keep-alive, upgrade",
            "Upgrade: websocket, foo/1",
        ],
        &[
            "Connection: Upgrade",
            "Upgrade: foo/1",
            "Upgrade: WebSocket",
        ],
    ] {
        let answer = head(&server, &request, &[instead, &UPGRADE[2..]].concat()).await;
        assert!(answer.starts_with("HTTP/1.1 101"), "{instead:?}: {answer}");
        // That of RFC 6455 1.3 for this key.
        assert!(answer.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{answer}");
        assert!(answer.contains("connection_established"), "{answer}");
        // Tcl's client takes `close` for the end, whatever else is there.
        let lines = answer.lines().map(str::to_ascii_lowercase);
        let connection: Vec<_> = lines
            .filter(|line| line.starts_with("connection:"))
            .collect();
        assert_eq!(connection.len(), 1, "{answer}");
        assert_eq!(connection[0].trim_end(), "connection: upgrade", "{answer}");
    }
    let versions = ["Sec-WebSocket-Version: 8, 13"];
    let lines = [&UPGRADE[..2], &versions, &UPGRADE[3..]].concat();
    let answer = head(&server, &request, &lines).await;
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
}

#[tokio::test]
async fn what_is_no_handshake_is_told_what_came_and_what_is_wanted() {
    let server = server().await;
    let path = format!("/app/{KEY}?protocol=7");
    let get = format!("GET {path} HTTP/1.1");
    for (request, lines, status, words) in [
        (
            &*get,
            vec!["Upgrade: websocket"],
            426,
            "Connection is missing, it must hold Upgrade",
        ),
        (
            &*get,
            vec![
                "Connection: close",
                "Connection: keep-alive",
                "Upgrade: websocket",
            ],
            426,
            "Connection is \"close, keep-alive\", it must hold Upgrade",
        ),
        (
            &*get,
            vec!["Connection: Upgrade", "Upgrade: h2c"],
            426,
            "Upgrade is \"h2c\"",
        ),
        (
            &*get,
            [&UPGRADE[..2], &["Sec-WebSocket-Version: 8"], &UPGRADE[3..]].concat(),
            426,
            "Sec-WebSocket-Version is \"8\", it must be 13",
        ),
        (
            &*get,
            UPGRADE[..3].to_vec(),
            400,
            "Sec-WebSocket-Key is missing",
        ),
        (
            &*format!("GET {path} HTTP/1.0"),
            UPGRADE.to_vec(),
            426,
            "proxy_http_version 1.1",
        ),
    ] {
        let answer = head(&server, request, &lines).await;
        assert_eq!(&answer[9..12], status.to_string(), "{lines:?}: {answer}");
        assert!(answer.contains(words), "{lines:?}: {answer}");
        let lower = answer.to_lowercase();
        assert!(lower.contains("sec-websocket-version: 13\r\n"), "{answer}");
        assert!(lower.contains("upgrade: websocket\r\n"), "{answer}");
        assert!(
            lower.contains("x-content-type-options: nosniff\r\n"),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn a_known_version_is_not_sent_again_however_the_tag_is_given() {
    let server = server().await;
    for path in [
        "/openapi.json",
        "/sdk/fanfare.js",
        "/sdk/fanfare.js.map",
        "/docs/",
        "/docs/history.md",
        "/docs/api/index.css",
    ] {
        let request = format!("GET {path} HTTP/1.1");
        let answer = head(&server, &request, &[]).await;
        let tag = answer.to_lowercase();
        let tag = tag.split("etag: ").nth(1).unwrap().split("\r\n").next();
        let tag = tag.unwrap();
        for lines in [
            vec![format!("If-None-Match: {tag}")],
            vec![format!("If-None-Match: \"x\", W/{tag}")],
            vec![
                "If-None-Match: \"x\"".into(),
                format!("If-None-Match: {tag}"),
            ],
            vec!["If-None-Match: *".into()],
        ] {
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            let answer = head(&server, &request, &lines).await;
            assert!(
                answer.starts_with("HTTP/1.1 304"),
                "{path} {lines:?}: {answer}"
            );
        }
        let answer = head(&server, &request, &["If-None-Match: \"x\""]).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}");
    }
}

#[tokio::test]
async fn a_header_that_is_sent_twice_is_not_the_first_of_them() {
    let server = server_with(&[OWNER_SETTING]).await;
    let origins = ["app", "update", APP_ID, "--setting"];
    server.run_ok(&[&origins[..], &["allowed_origins=https://good.example"]].concat());
    let nobody = Admin::nobody(server.address);
    let (_, signed_in) = nobody.sign_in(OWNER, PASSWORD).await;
    let get = "GET /api/v1/me HTTP/1.1";
    let token = format!("Authorization: Bearer {}", text(&signed_in, "access_token"));
    let once = head(&server, get, &[&token]).await;
    assert!(once.starts_with("HTTP/1.1 200"), "{once}");
    let twice = head(&server, get, &[&token, "Authorization: Bearer x"]).await;
    assert!(twice.starts_with("HTTP/1.1 401"), "{twice}");
    let path = format!("GET /app/{KEY}?protocol=7 HTTP/1.1");
    let evil = [&UPGRADE[..], &["Origin: https://evil.example"]].concat();
    while head(&server, &path, &evil).await.contains("established") {
        // The setting is not active yet.
    }
    for (origins, admitted) in [
        (&["Origin: https://good.example"][..], true),
        (
            &[
                "Origin: https://good.example",
                "Origin: https://good.example",
            ],
            true,
        ),
        (
            &[
                "Origin: https://good.example",
                "Origin: https://evil.example",
            ],
            false,
        ),
        (
            &[
                "Origin: https://evil.example",
                "Origin: https://good.example",
            ],
            false,
        ),
    ] {
        let answer = head(&server, &path, &[&UPGRADE[..], origins].concat()).await;
        let was = answer.contains("connection_established");
        assert_eq!(was, admitted, "{origins:?}: {answer}");
    }
}
