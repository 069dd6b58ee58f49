//! Helpers of both sides: WebSocket frames, and finding text in bytes.

use memchr::memmem;

/// Opcode of a text frame.
pub(crate) const TEXT: u8 = 1;
/// Opcode of a PING.
pub(crate) const PING: u8 = 9;
/// Opcode of a PONG.
const PONG: u8 = 10;

/// Extent of one WebSocket frame at the start of a buffer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// Opcode.
    pub(crate) opcode: u8,
    /// Start of the payload. A mask is the four bytes before it.
    pub(crate) head: usize,
    /// Length of all of it.
    pub(crate) len: usize,
}

/// Returns the frame at the start, if all of it has come.
#[inline]
pub(crate) fn frame(bytes: &[u8]) -> Option<Frame> {
    let [first, second, ..] = *bytes else {
        return None;
    };
    let mask = if second & 0x80 == 0 { 0 } else { 4 };
    let (head, payload): (usize, usize) = match second & 0x7f {
        126 => {
            let long = bytes.get(2..4)?;
            (4, usize::from(u16::from_be_bytes([long[0], long[1]])))
        }
        127 => {
            let long = bytes.get(2..10)?.try_into().ok()?;
            (10, usize::try_from(u64::from_be_bytes(long)).ok()?)
        }
        short => (2, usize::from(short)),
    };
    let head = head + mask;
    let len = head.checked_add(payload)?;
    (bytes.len() >= len).then_some(Frame {
        opcode: first & 0x0f,
        head,
        len,
    })
}

/// Appends a text frame as a server sends it.
pub(crate) fn text_frame(out: &mut Vec<u8>, parts: &[&[u8]]) {
    head(out, TEXT, parts.iter().map(|part| part.len()).sum(), 0);
    for part in parts {
        out.extend_from_slice(part);
    }
}

/// Returns a text frame as a client sends it. A mask of zeros is valid and leaves the payload as it is.
pub(crate) fn masked_text_frame(payload: &[u8]) -> Vec<u8> {
    masked(TEXT, payload)
}

/// Returns the PONG that answers a PING with this payload.
pub(crate) fn masked_pong(payload: &[u8]) -> Vec<u8> {
    masked(PONG, payload)
}

fn masked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + 14);
    head(&mut out, opcode, payload.len(), 0x80);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(payload);
    out
}

fn head(out: &mut Vec<u8>, opcode: u8, len: usize, mask_bit: u8) {
    out.push(0x80 | opcode);
    if let Some(short) = u8::try_from(len).ok().filter(|short| *short < 126) {
        out.push(mask_bit | short);
    } else if let Ok(long) = u16::try_from(len) {
        out.push(mask_bit | 126);
        out.extend_from_slice(&long.to_be_bytes());
    } else {
        out.push(mask_bit | 127);
        out.extend_from_slice(&(len as u64).to_be_bytes());
    }
}

/// Returns what comes after the first `needle`.
pub(crate) fn after<'a>(bytes: &'a [u8], needle: &str) -> Option<&'a [u8]> {
    memmem::find(bytes, needle.as_bytes()).map(|at| &bytes[at + needle.len()..])
}

/// Returns the inside of the JSON string after `needle`, which includes the opening quote. Escapes stay as they are.
pub(crate) fn string_after<'a>(bytes: &'a [u8], needle: &str) -> Option<&'a [u8]> {
    let rest = after(bytes, needle)?;
    let mut from = 0;
    loop {
        match memchr::memchr2(b'"', b'\\', &rest[from..])? + from {
            at if rest[at] == b'"' => return Some(&rest[..at]),
            at => from = (at + 2).min(rest.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_found_only_when_all_of_it_is_there() {
        for len in [0, 5, 125, 126, 70, 3000, 70_000] {
            let mut bytes = Vec::new();
            text_frame(&mut bytes, &[&vec![b'x'; len]]);
            let whole = frame(&bytes).expect("a whole frame");
            assert_eq!((whole.opcode, whole.len), (TEXT, bytes.len()));
            assert_eq!(whole.len - whole.head, len);
            for cut in (0..bytes.len()).step_by(1 + len / 100) {
                assert_eq!(frame(&bytes[..cut]), None);
            }
        }
    }

    #[test]
    fn a_mask_counts_as_part_of_the_head() {
        let bytes = masked_text_frame(b"hello");
        let frame = frame(&bytes).expect("a whole frame");
        assert_eq!(&bytes[frame.head..frame.len], b"hello");
        assert_eq!(frame.head, 6);
    }

    #[test]
    fn a_string_ends_at_the_first_quote_that_is_not_escaped() {
        let body = br#"{"name":"e","data":"a \" b \\","channel":"c"}"#;
        assert_eq!(
            string_after(body, "\"data\":\""),
            Some(br#"a \" b \\"#.as_slice())
        );
        assert_eq!(string_after(body, "\"name\":\""), Some(b"e".as_slice()));
        assert_eq!(string_after(b"\"data\":\"open\\", "\"data\":\""), None);
        assert_eq!(string_after(body, "\"other\":\""), None);
    }
}
