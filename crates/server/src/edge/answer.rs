//! Heads of answers that are written to a socket directly.

use std::cell::RefCell;
use std::time::{Duration, UNIX_EPOCH};

use axum::http::HeaderName;
use axum::http::header::{CONTENT_LENGTH, DATE};
use axum::response::Response;

use crate::clock::unix_seconds;

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
