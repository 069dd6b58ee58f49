//! Header fields as RFC 9110 section 5.3 combines them: all lines of one name form one list, in order.

use std::fmt::Display;

use axum::http::header::{
    AUTHORIZATION, AsHeaderName, CONNECTION, CONTENT_TYPE, IF_NONE_MATCH, UPGRADE,
};
use axum::http::{HeaderMap, HeaderValue};

/// Returns the members of a list-valued header over all its lines, trimmed.
pub(crate) fn members(
    headers: &HeaderMap,
    name: impl AsHeaderName,
) -> impl DoubleEndedIterator<Item = &str> {
    let lines = headers.get_all(name).into_iter();
    lines
        .filter_map(|line| std::str::from_utf8(line.as_bytes()).ok())
        .flat_map(|line| line.split(','))
        .map(str::trim)
        .filter(|member| !member.is_empty())
}

/// Returns whether a list-valued header has a token, in any case.
pub(crate) fn has_token(headers: &HeaderMap, name: impl AsHeaderName, token: &str) -> bool {
    members(headers, name).any(|member| member.eq_ignore_ascii_case(token))
}

/// Returns whether a request asks to become a WebSocket.
pub(crate) fn is_upgrade(headers: &HeaderMap) -> bool {
    has_token(headers, CONNECTION, "upgrade") && has_token(headers, UPGRADE, "websocket")
}

/// Returns all lines of a header as one value, or `None` if it is absent. It is for headers that are compared as a
/// whole and for messages. Two different `Origin` lines thus match no allowed origin, whichever of them a proxy
/// checked.
pub(crate) fn combined(headers: &HeaderMap, name: impl AsHeaderName) -> Option<String> {
    let mut lines: Vec<_> = headers
        .get_all(name)
        .into_iter()
        .map(|line| String::from_utf8_lossy(line.as_bytes()))
        .collect();
    lines.dedup();
    (!lines.is_empty()).then(|| lines.join(", "))
}

/// Returns the token of `Authorization: Bearer TOKEN`, or `None` if the header is absent or comes twice, because a
/// proxy in front may have checked the other one.
pub(crate) fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let mut lines = headers.get_all(AUTHORIZATION).into_iter();
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return None;
    };
    let (scheme, token) = line.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Returns the media type of a body in lower case, without parameters, or `None` if the header is absent. Two different
/// ones give a value that no handler accepts.
pub(crate) fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = combined(headers, CONTENT_TYPE)?;
    let kind = match value.split_once(';') {
        Some((kind, _)) if !value.contains(',') => kind,
        _ => &value,
    };
    Some(kind.trim().to_ascii_lowercase())
}

/// Returns the entity tag of a version: its name in quotes, which has only visible ASCII characters and no quotes.
pub(crate) fn entity_tag(version: impl Display) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{version}\"")).expect("visible characters in quotes")
}

/// Returns whether `If-None-Match` has this entity tag, so that the client has the newest version. The comparison is
/// weak, because proxies that compress weaken strong tags.
pub(crate) fn has_newest(headers: &HeaderMap, tag: &HeaderValue) -> bool {
    members(headers, IF_NONE_MATCH)
        .any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag)
}

#[cfg(test)]
mod tests {
    use axum::http::header::ORIGIN;

    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().expect("a header value"));
        }
        headers
    }

    #[test]
    fn lines_of_one_name_are_one_list_in_either_order() {
        for lines in [
            &[("connection", "close"), ("connection", "Upgrade")][..],
            &[("connection", "Upgrade"), ("connection", "close")],
            &[("connection", "close ,, uPgRaDe")],
        ] {
            assert!(
                has_token(&headers(lines), CONNECTION, "upgrade"),
                "{lines:?}"
            );
        }
        let other = headers(&[("connection", "close"), ("connection", "upgrade-insecure")]);
        assert!(!has_token(&other, CONNECTION, "upgrade"));
    }

    #[test]
    fn a_header_sent_twice_is_not_the_first_of_them() {
        let two = headers(&[("origin", "https://good"), ("origin", "https://evil")]);
        assert_eq!(
            combined(&two, ORIGIN).as_deref(),
            Some("https://good, https://evil")
        );
        let same = headers(&[("origin", "https://good"), ("origin", "https://good")]);
        assert_eq!(combined(&same, ORIGIN).as_deref(), Some("https://good"));
        assert_eq!(combined(&headers(&[]), ORIGIN), None);
        let tokens = headers(&[("authorization", "Bearer a"), ("authorization", "Bearer b")]);
        assert_eq!(bearer_token(&tokens), None);
        let one = headers(&[("authorization", "bEaReR  a")]);
        assert_eq!(bearer_token(&one), Some("a"));
    }

    #[test]
    fn a_media_type_has_no_case_and_no_parameters() {
        let kind = |lines| media_type(&headers(lines));
        let json = Some("application/json".to_owned());
        assert_eq!(
            kind(&[("content-type", "Application/JSON ; charset=utf-8")]),
            json
        );
        assert_eq!(kind(&[]), None);
        let two = kind(&[
            ("content-type", "application/json"),
            ("content-type", "text/plain"),
        ]);
        assert_eq!(two.as_deref(), Some("application/json, text/plain"));
    }

    #[test]
    fn a_known_tag_may_be_weak_in_a_list_or_on_another_line() {
        for lines in [
            &[("if-none-match", "\"a\"")][..],
            &[("if-none-match", "\"b\", W/\"a\"")],
            &[("if-none-match", "\"b\""), ("if-none-match", "\"a\"")],
            &[("if-none-match", "*")],
        ] {
            assert!(has_newest(&headers(lines), &entity_tag("a")), "{lines:?}");
        }
        assert!(!has_newest(
            &headers(&[("if-none-match", "\"ba\"")]),
            &entity_tag("a")
        ));
        assert!(!has_newest(&headers(&[]), &entity_tag("a")));
    }
}
