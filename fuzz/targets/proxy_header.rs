//! The header of the PROXY protocol, as it comes byte by byte: where it ends is known once and for all, and is never more than a few
//! kilobytes away. The client that it names is the one that a second reading of the specification finds.
#![no_main]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use fanfare_protocol::proxy_header::{Announced, Extent, HeaderError, MAX_HEADER, extent, parse};
use libfuzzer_sys::fuzz_target;

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fuzz_target!(|bytes: &[u8]| {
    let mut known = Ok(Extent::Partial);
    for length in 0..=bytes.len() {
        let now = extent(&bytes[..length]);
        if known == Ok(Extent::Partial) {
            known = now;
            match now {
                Ok(Extent::Complete(end)) => assert_eq!(end, length),
                Ok(Extent::Partial) => assert!(length < MAX_HEADER),
                Err(_) => {}
            }
        }
        assert_eq!(
            now,
            known,
            "more bytes change nothing: {:x?}",
            &bytes[..length]
        );
    }
    // A caller may hold more or less than a header.
    let _ = parse(bytes);
    let Ok(Extent::Complete(end)) = known else {
        return;
    };
    let header = &bytes[..end];
    match parse(header) {
        Ok(Announced::Client { address, over_tls }) => {
            let (expected, may_be_over_tls) = client(header).expect("a client");
            assert_eq!(address, expected, "{header:x?}");
            assert!(may_be_over_tls || !over_tls, "{header:x?}");
        }
        // It names no address, or the proxy speaks for itself.
        Ok(Announced::Nobody) => assert!(names_nobody(header), "{header:x?}"),
        Err(error) => assert_eq!(error, HeaderError::Invalid),
    }
});

/// Returns the client that a header names, and whether it has a word for TLS.
fn client(header: &[u8]) -> Option<(SocketAddr, bool)> {
    let Some(rest) = header.strip_prefix(SIGNATURE) else {
        let line = std::str::from_utf8(header).ok()?.strip_suffix("\r\n")?;
        let mut words = line.split(' ').skip(2);
        let address: IpAddr = words.next()?.parse().ok()?;
        let port = words.nth(1)?.parse().ok()?;
        return Some((SocketAddr::new(address, port), false));
    };
    let (family, rest) = (rest[1] >> 4, &rest[4..]);
    let number = |at: usize| u16::from_be_bytes([rest[at], rest[at + 1]]);
    match family {
        1 => {
            let octets: [u8; 4] = rest.get(..4)?.try_into().ok()?;
            Some((
                SocketAddr::new(Ipv4Addr::from(octets).into(), number(8)),
                rest.len() > 12,
            ))
        }
        2 => {
            let octets: [u8; 16] = rest.get(..16)?.try_into().ok()?;
            Some((
                SocketAddr::new(Ipv6Addr::from(octets).into(), number(32)),
                rest.len() > 36,
            ))
        }
        _ => None,
    }
}

fn names_nobody(header: &[u8]) -> bool {
    match header.strip_prefix(SIGNATURE) {
        Some(rest) => rest[0] == 0x20 || !matches!(rest[1] >> 4, 1 | 2),
        None => header.starts_with(b"PROXY UNKNOWN"),
    }
}
