//! The HTTP that both sides need: the end of a message, and its status.

use memchr::memmem;

/// Extent of one HTTP message at the start of a buffer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// Length up to the body.
    pub(crate) head: usize,
    /// Length of all of it.
    pub(crate) len: usize,
}

/// Returns the message at the start, if all of it has come.
pub(crate) fn message(bytes: &[u8]) -> Option<Message> {
    let head = memmem::find(bytes, b"\r\n\r\n")? + 4;
    let lines = &bytes[..head];
    let body = match header(lines, "content-length") {
        Some(length) => std::str::from_utf8(length).ok()?.parse().ok()?,
        None if header(lines, "transfer-encoding").is_some() => {
            // From the head's last line end, so that a body without chunks is found too.
            memmem::find(&bytes[head - 2..], b"\r\n0\r\n\r\n")? + 5
        }
        None => 0,
    };
    let len = head + body;
    (bytes.len() >= len).then_some(Message { head, len })
}

/// Returns the status of a response.
pub(crate) fn status(response: &[u8]) -> Option<u16> {
    let code = response.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
    std::str::from_utf8(code).ok()?.parse().ok()
}

/// Returns the value of a header, by its name in lower case.
pub(crate) fn header<'a>(head: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let mut rest = head;
    while let Some(end) = memmem::find(rest, b"\r\n") {
        let line = &rest[..end];
        rest = &rest[end + 2..];
        let is_it = line.get(name.len()) == Some(&b':')
            && line[..name.len()].eq_ignore_ascii_case(name.as_bytes());
        if is_it {
            return Some(line[name.len() + 1..].trim_ascii());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends_of(bytes: &[u8]) -> Vec<usize> {
        let mut at = 0;
        let mut ends = Vec::new();
        while let Some(message) = message(&bytes[at..]) {
            at += message.len;
            ends.push(at);
        }
        ends
    }

    #[test]
    fn answers_that_came_in_one_read_are_split() {
        let one = b"HTTP/1.1 200 OK\r\ncontent-LENGTH: 2\r\n\r\n{}";
        let two = b"HTTP/1.1 204 No Content\r\n\r\n";
        let all = [one.as_slice(), two, one].concat();
        assert_eq!(ends_of(&all), [one.len(), one.len() + two.len(), all.len()]);
    }

    #[test]
    fn an_answer_cut_anywhere_is_not_yet_an_answer() {
        let plain = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}".as_slice();
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n";
        for bytes in [plain, chunked] {
            for cut in 0..bytes.len() {
                assert_eq!(message(&bytes[..cut]), None, "{cut}");
            }
            assert_eq!(ends_of(bytes), [bytes.len()]);
        }
    }

    #[test]
    fn a_chunked_answer_may_have_no_chunks() {
        let bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
        assert_eq!(ends_of(bytes), [bytes.len()]);
    }

    #[test]
    fn the_status_is_read_from_the_first_line() {
        assert_eq!(status(b"HTTP/1.1 401 Unauthorized\r\n\r\n"), Some(401));
        assert_eq!(status(b"nonsense"), None);
    }
}
