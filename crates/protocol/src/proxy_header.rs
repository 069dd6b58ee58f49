//! The header of the PROXY protocol, in which a proxy that forwards bytes instead of requests names the client
//! (<https://www.haproxy.org/download/2.8/doc/proxy-protocol.txt>).

use std::net::SocketAddr;

use proxy_header::{ParseConfig, ProxyHeader};

/// Largest header in bytes. Clients' certificates and what clouds add make a header a few hundred bytes long.
pub const MAX_HEADER: usize = 4096;
/// Largest header of version 1 in bytes, as its specification has it.
const MAX_LINE: usize = 107;
/// First bytes of a header of version 1.
const V1: &[u8] = b"PROXY ";
/// First bytes of a header of version 2.
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Bytes of version 2 before addresses and extensions, the length of these included.
const V2_FIXED: usize = 16;
/// Version 2 with the command LOCAL.
const V2_LOCAL: u8 = 0x20;

/// What a proxy says of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announced {
    /// The proxy forwards this client.
    Client {
        /// Where the client connects from.
        address: SocketAddr,
        /// Whether the client speaks TLS to the proxy.
        over_tls: bool,
    },
    /// The proxy speaks for itself, for example to look whether the node is there, or doesn't know the client.
    Nobody,
}

/// Why a connection has no valid header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderError {
    /// Something else came.
    Missing,
    /// A header came that is malformed or too long.
    Invalid,
}

/// How far a header goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// More bytes are needed, and all that are there belong to it.
    Partial,
    /// It has so many bytes.
    Complete(usize),
}

/// Returns how far the header goes that `bytes` begin with.
///
/// # Errors
///
/// Returns [`HeaderError`] as soon as they can't become a header.
pub fn extent(bytes: &[u8]) -> Result<Extent, HeaderError> {
    let begins_as = |signature: &[u8]| {
        let common = bytes.len().min(signature.len());
        bytes[..common] == signature[..common]
    };
    let end = if begins_as(V2) {
        match bytes.get(V2_FIXED - 2..V2_FIXED) {
            Some(length) => V2_FIXED + usize::from(u16::from_be_bytes([length[0], length[1]])),
            None => return Ok(Extent::Partial),
        }
    } else if begins_as(V1) {
        let line = &bytes[..bytes.len().min(MAX_LINE)];
        match line.iter().position(|byte| *byte == b'\n') {
            Some(at) => at + 1,
            None if line.len() == MAX_LINE => return Err(HeaderError::Invalid),
            None => return Ok(Extent::Partial),
        }
    } else {
        return Err(HeaderError::Missing);
    };
    match end {
        _ if end > MAX_HEADER => Err(HeaderError::Invalid),
        _ if end > bytes.len() => Ok(Extent::Partial),
        _ => Ok(Extent::Complete(end)),
    }
}

/// Reads a whole header.
///
/// # Errors
///
/// Returns [`HeaderError::Invalid`] if it is malformed.
pub fn parse(header: &[u8]) -> Result<Announced, HeaderError> {
    // Whatever follows this command is to be ignored, also addresses that aren't any.
    if header.starts_with(V2) && header.get(V2.len()) == Some(&V2_LOCAL) {
        return Ok(Announced::Nobody);
    }
    let parsed = ProxyHeader::parse(header, ParseConfig::default());
    let (header, _) = parsed.map_err(|_| HeaderError::Invalid)?;
    Ok(match header.proxied_address() {
        Some(proxied) => Announced::Client {
            address: proxied.source,
            over_tls: header.ssl().is_some_and(|ssl| ssl.client_ssl()),
        },
        None => Announced::Nobody,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Strangers can't send a header, but proxies are software too.
        #[test]
        fn no_bytes_are_too_much_for_it(
            signature in prop::sample::select(vec![V1, V2, b"PROXY TCP4 ", b"PROXY TCP6 ", b"PROXY UNKNOWN"]),
            rest in prop::collection::vec(any::<u8>(), 0..400),
        ) {
            let bytes = [signature, &rest].concat();
            if let Ok(Extent::Complete(end)) = extent(&bytes) {
                prop_assert!(end <= bytes.len().min(MAX_HEADER));
                let _ = parse(&bytes[..end]);
            }
        }
    }
}
