//! The first bytes at a port of TLS, as they come one after the other: plain HTTP, a record that is whole or invalid, or one that
//! needs more. Whatever comes, little of it is kept before that is known.
#![no_main]

use fanfare_protocol::tls_record::{Beginning, MAX_RECORD, beginning, missing};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut known = Beginning::Partial;
    for length in 0..=bytes.len() {
        let come = &bytes[..length];
        let now = beginning(come);
        if known == Beginning::Partial {
            known = now;
        }
        assert_eq!(now, known, "more bytes change nothing: {come:x?}");
        assert_eq!(now, read_again(come), "{come:x?}");
        if now == Beginning::Partial {
            assert!(length + missing(come) <= MAX_RECORD, "{come:x?}");
        }
    }
});

/// The same by the rules of RFC 8446 section 5.1 and RFC 9112 section 3.1.
fn read_again(bytes: &[u8]) -> Beginning {
    let Some(first) = bytes.first() else {
        return Beginning::Partial;
    };
    if first.is_ascii_alphabetic() {
        return Beginning::PlainHttp;
    }
    let Some(length) = bytes.get(3..5) else {
        return if *first == 22 {
            Beginning::Partial
        } else {
            Beginning::Record
        };
    };
    let record = 5 + 256 * usize::from(length[0]) + usize::from(length[1]);
    if *first != 22 || bytes.len() >= record || record > MAX_RECORD {
        Beginning::Record
    } else {
        Beginning::Partial
    }
}
