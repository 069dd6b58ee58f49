//! Where the first record of a TLS connection ends, and whether it is one, before anything of TLS is allocated.

/// Largest content of a record (RFC 8446 section 5.1).
pub const MAX_CONTENT: usize = 16 * 1024;
/// Bytes before a record's content: type, version and length.
const RECORD_HEADER: usize = 5;
/// Largest record of a client (RFC 5246 section 6.2.3).
pub const MAX_RECORD: usize = RECORD_HEADER + MAX_CONTENT + 2048;
/// First byte of a record that is part of a handshake.
const HANDSHAKE: u8 = 22;

/// What the first bytes of a connection are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beginning {
    /// The client speaks plain HTTP, whose methods are letters.
    PlainHttp,
    /// The beginning of a handshake that needs more bytes.
    Partial,
    /// A handshake can be begun with them: a record is whole, or something is wrong with it.
    Record,
}

/// Returns what the bytes are with which a client began.
#[must_use]
pub fn beginning(bytes: &[u8]) -> Beginning {
    match bytes {
        [] => Beginning::Partial,
        [first, ..] if first.is_ascii_alphabetic() => Beginning::PlainHttp,
        [first, ..] if *first != HANDSHAKE || may_be_processed(bytes) => Beginning::Record,
        _ => Beginning::Partial,
    }
}

/// Returns how many bytes the first record still misses, or 0 if it is whole or hasn't begun.
#[must_use]
pub fn missing(record: &[u8]) -> usize {
    match record {
        [_, _, _, high, low, ..] => {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            (RECORD_HEADER + length).saturating_sub(record.len())
        }
        _ => 0,
    }
}

/// Returns whether rustls has something to do about a handshake's bytes: the first record is whole, or can't be valid.
#[must_use]
pub fn may_be_processed(record: &[u8]) -> bool {
    let missing = missing(record);
    record.len() >= RECORD_HEADER && (missing == 0 || record.len() + missing > MAX_RECORD)
}
