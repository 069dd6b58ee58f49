//! The head of a plain publish, read without allocating.

use crate::backend_api::Endpoint;
use crate::edge::head::MAX_HEAD;

/// Largest number of headers of a request that is read here.
const MAX_HEADERS: usize = 64;
pub(super) const METHOD: &[u8] = b"POST ";

/// What precedes `/apps`: with the base path, and without it, because a proxy may remove that.
#[derive(Debug, Clone, Copy)]
pub(super) struct Prefixes<'a> {
    pub(super) whole: &'a str,
    pub(super) below_base: &'a str,
}

/// The head of a request that may be answered here.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head<'a> {
    /// Bytes of the head, its empty line included.
    pub(super) length: usize,
    /// Bytes of the body that follows.
    pub(super) body_length: usize,
    pub(super) endpoint: Endpoint,
    /// The path without the prefix.
    pub(super) path: &'a str,
    pub(super) app_id: &'a str,
    pub(super) query: &'a str,
    pub(super) idempotency_key: Option<&'a str>,
    pub(super) traceparent: Option<&'a str>,
    /// The lines of `X-Forwarded-For`.
    pub(super) forwarded_for: Vec<&'a str>,
    /// Whether the client wants the connection to end with the answer.
    pub(super) closes: bool,
}

/// What the first bytes of a request are.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed<'a> {
    /// The beginning of what may become a plain publish.
    Partial,
    /// A plain publish.
    Publish(Head<'a>),
    /// Anything else, which is HTTP's.
    Other,
}

impl<'a> Parsed<'a> {
    /// Reads the head of a request. Whatever HTTP might read in another way isn't plain.
    pub(super) fn of(bytes: &'a [u8], prefixes: Prefixes<'_>) -> Self {
        if !bytes.starts_with(METHOD) {
            return match METHOD.starts_with(bytes) {
                true => Self::Partial,
                false => Self::Other,
            };
        }
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(bytes) {
            Ok(httparse::Status::Complete(length)) if length <= MAX_HEAD => {
                Head::of(&request, length, prefixes).map_or(Self::Other, Self::Publish)
            }
            Ok(httparse::Status::Partial) if bytes.len() < MAX_HEAD => Self::Partial,
            _ => Self::Other,
        }
    }
}

impl<'a> Head<'a> {
    fn of(
        request: &httparse::Request<'_, 'a>,
        length: usize,
        prefixes: Prefixes<'_>,
    ) -> Option<Self> {
        if request.version != Some(1) {
            return None;
        }
        let target = request.path?;
        if !target.is_ascii() || target.contains('#') {
            return None;
        }
        let (path, query) = target.split_once('?')?;
        let path = path
            .strip_prefix(prefixes.whole)
            .filter(|rest| rest.starts_with("/apps/"))
            .or_else(|| path.strip_prefix(prefixes.below_base))?;
        let (app_id, endpoint) = path.strip_prefix("/apps/")?.split_once('/')?;
        if path.contains('%') || app_id.is_empty() {
            return None;
        }
        let endpoint = match endpoint {
            "events" => Endpoint::Events,
            "batch_events" => Endpoint::BatchEvents,
            _ => return None,
        };
        let mut body_length = None;
        let mut head = Self {
            length,
            body_length: 0,
            endpoint,
            path,
            app_id,
            query,
            idempotency_key: None,
            traceparent: None,
            forwarded_for: Vec::new(),
            closes: false,
        };
        for header in request.headers.iter() {
            head.take(header, &mut body_length)?;
        }
        head.body_length = body_length?;
        Some(head)
    }

    /// Takes what a header says. Returns `None` if HTTP has to read it.
    fn take(
        &mut self,
        header: &httparse::Header<'a>,
        body_length: &mut Option<usize>,
    ) -> Option<()> {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        let text = || std::str::from_utf8(header.value).ok();
        // By length first, because most headers are none of these.
        match header.name.len() {
            6 if is("expect") => return None,
            7 if is("upgrade") => return None,
            17 if is("transfer-encoding") => return None,
            14 if is("content-length") => {
                let digits = text()?;
                let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
                if !is_number || body_length.replace(digits.parse().ok()?).is_some() {
                    return None;
                }
            }
            10 if is("connection") => match text()? {
                value if value.eq_ignore_ascii_case("keep-alive") => {}
                value if value.eq_ignore_ascii_case("close") => self.closes = true,
                _ => return None,
            },
            15 if is("idempotency-key") => once(&mut self.idempotency_key, text()?)?,
            15 if is("x-forwarded-for") => self.forwarded_for.push(text()?),
            11 if is("traceparent") => once(&mut self.traceparent, text()?)?,
            _ => {}
        }
        Some(())
    }
}

/// Sets a value that isn't set yet.
fn once<'a>(slot: &mut Option<&'a str>, value: &'a str) -> Option<()> {
    slot.replace(value).is_none().then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREFIXES: Prefixes<'static> = Prefixes {
        whole: "/rt/v1",
        below_base: "/v1",
    };

    fn parsed(request: &str) -> Parsed<'_> {
        Parsed::of(request.as_bytes(), PREFIXES)
    }

    fn request(line: &str, headers: &str) -> String {
        format!("{line} HTTP/1.1\r\nHost: x\r\n{headers}\r\n")
    }

    #[test]
    fn a_plain_publish_is_read_with_and_without_the_base_path() {
        for path in ["/rt/v1/apps/7/events", "/v1/apps/7/events"] {
            let text = request(
                &format!("POST {path}?a=b"),
                "content-length: 12\r\nConnection: Keep-Alive\r\nidempotency-key: k\r\n",
            );
            let Parsed::Publish(head) = parsed(&text) else {
                panic!("{text}");
            };
            assert_eq!((head.length, head.body_length), (text.len(), 12));
            assert_eq!((head.path, head.app_id), ("/apps/7/events", "7"));
            assert_eq!((head.query, head.endpoint), ("a=b", Endpoint::Events));
            assert_eq!((head.idempotency_key, head.closes), (Some("k"), false));
        }
        let text = request(
            "POST /v1/apps/7/batch_events?a",
            "Content-Length: 2\r\nConnection: close\r\n",
        );
        let Parsed::Publish(head) = parsed(&text) else {
            panic!("{text}");
        };
        assert_eq!((head.endpoint, head.closes), (Endpoint::BatchEvents, true));
    }

    #[test]
    fn what_http_might_read_in_another_way_is_left_to_it() {
        let publish = "POST /v1/apps/7/events?a";
        let length = "Content-Length: 2\r\n";
        for (line, headers) in [
            ("GET /v1/apps/7/events?a", length),
            ("POST /v1/apps/7/channels?a", length),
            ("POST /v1/apps/7/events/x?a", length),
            ("POST /v1/apps//events?a", length),
            ("POST /v1/apps/a%20b/events?a", length),
            ("POST /v1/apps/7/events", length),
            ("POST /apps/7/events?a", length),
            ("POST http://x/v1/apps/7/events?a", length),
            ("POST /v1/apps/7/events?a#b", length),
            ("POST /v1/apps/7/events?ä", length),
            (publish, ""),
            (publish, "Content-Length: +2\r\n"),
            (publish, "Content-Length: 2\r\nContent-Length: 2\r\n"),
            (publish, "Content-Length: 2, 2\r\n"),
            (publish, "Content-Length: 99999999999999999999\r\n"),
            (publish, "Transfer-Encoding: chunked\r\n"),
            (
                publish,
                "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n",
            ),
            (publish, "Content-Length: 2\r\nExpect: 100-continue\r\n"),
            (publish, "Content-Length: 2\r\nUpgrade: h2c\r\n"),
            (publish, "Content-Length: 2\r\nConnection: close, x\r\n"),
            (
                publish,
                "Content-Length: 2\r\nIdempotency-Key: a\r\nidempotency-key: b\r\n",
            ),
            (publish, "Content-Length: 2\r\n folded\r\n"),
        ] {
            let text = request(line, headers);
            assert_eq!(parsed(&text), Parsed::Other, "{text}");
        }
        assert_eq!(
            parsed("POST /v1/apps/7/events?a HTTP/1.0\r\nContent-Length: 2\r\n\r\n"),
            Parsed::Other
        );
    }

    #[test]
    fn a_head_that_has_not_come_whole_is_waited_for() {
        for part in [
            "",
            "PO",
            "POST /v1/apps/7/ev",
            "POST /v1/x HTTP/1.1\r\nHost: x\r\n",
        ] {
            assert_eq!(parsed(part), Parsed::Partial, "{part}");
        }
        for other in ["PUT", "GET /", "\r\nPOST /"] {
            assert_eq!(parsed(other), Parsed::Other, "{other}");
        }
        let long = request(
            "POST /v1/apps/7/events?a",
            &format!("x: {}\r\n", "x".repeat(MAX_HEAD)),
        );
        assert_eq!(parsed(&long), Parsed::Other);
        assert_eq!(parsed(&long[..MAX_HEAD]), Parsed::Other);
    }
}
