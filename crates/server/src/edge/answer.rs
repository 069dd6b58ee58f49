//! Answers that are written to a socket directly.

use std::cell::RefCell;
use std::io::{self, ErrorKind, IoSlice};
use std::time::{Duration, UNIX_EPOCH};

use axum::body::Body;
use axum::http::HeaderName;
use axum::http::header::{CONNECTION, CONTENT_LENGTH, DATE};
use axum::response::Response;
use http_body_util::{BodyExt, Limited};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use crate::clock::unix_seconds;
use crate::edge::client_socket::ClientSocket;

/// Largest body of an answer, in bytes.
const MAX_BODY: usize = 64 * 1024;

/// Returns a whole answer with a short body. `closes` says whether the connection ends with it.
pub(super) async fn whole(response: Response, closes: bool) -> Vec<u8> {
    let (mut parts, body) = response.into_parts();
    let body = Limited::new(body, MAX_BODY).collect().await;
    let body = body.map(|body| body.to_bytes()).unwrap_or_default();
    let length = body.len().to_string();
    let mut more = vec![(CONTENT_LENGTH, &*length)];
    if closes {
        parts.headers.remove(CONNECTION);
        more.push((CONNECTION, "close"));
    }
    let mut answer = head(&Response::from_parts(parts, Body::empty()), &more);
    answer.extend_from_slice(&body);
    answer
}

/// Writes an answer, or the head of one, to a client that has `within` to take it.
pub(super) async fn write(
    stream: &mut ClientSocket,
    answer: &[u8],
    within: Duration,
) -> io::Result<()> {
    let written = match stream.try_write_vectored(&[IoSlice::new(answer)]) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
        written => written?,
    };
    // Most answers fit, and a timer costs more than they do.
    if written == answer.len() && !stream.has_unsent() {
        return Ok(());
    }
    let rest = async {
        stream.write_all(&answer[written..]).await?;
        stream.flush().await
    };
    timeout(within, rest).await?
}

/// Returns the head of an answer: the response's own headers but its length, then `more`, and the date.
pub(super) fn head(response: &Response, more: &[(HeaderName, &str)]) -> Vec<u8> {
    let status = response.status();
    let reason = status.canonical_reason().unwrap_or_default();
    let mut head = format!("HTTP/1.1 {} {reason}\r\n", status.as_u16()).into_bytes();
    let mut line = |name: &HeaderName, value: &[u8]| {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value);
        head.extend_from_slice(b"\r\n");
    };
    for (name, value) in response.headers() {
        if *name != CONTENT_LENGTH {
            line(name, value.as_bytes());
        }
    }
    for (name, value) in more {
        line(name, value.as_bytes());
    }
    with_date(|date| line(&DATE, date.as_bytes()));
    head.extend_from_slice(b"\r\n");
    head
}

/// Passes on the time of day as HTTP writes it. It is written once a second, because that costs as much as reading a
/// request.
pub(super) fn with_date<T>(then: impl FnOnce(&str) -> T) -> T {
    thread_local! {
        static DATE_OF: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) };
    }
    DATE_OF.with_borrow_mut(|(second, date)| {
        let now = unix_seconds();
        if *second != now || date.is_empty() {
            *second = now;
            *date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(now));
        }
        then(date)
    })
}
