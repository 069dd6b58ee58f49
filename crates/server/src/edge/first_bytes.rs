//! The first bytes of a connection, kept for the log. If they aren't HTTP, they show which protocol the client speaks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fanfare_engine::RefusalKind;

/// Number of bytes kept, which is enough to tell apart the protocols that are sent to a port by mistake.
const KEPT: usize = size_of::<u64>();

/// The first bytes that a client sent, or zeros. Cheap to clone; clones share the bytes.
#[derive(Debug, Clone, Default)]
pub(crate) struct FirstBytes(Arc<AtomicU64>);

impl FirstBytes {
    /// Keeps the beginning of `read`, unless bytes were kept before.
    pub(crate) fn note(&self, read: &[u8]) {
        if self.0.load(Ordering::Relaxed) == 0 {
            let mut first = [0; KEPT];
            let length = read.len().min(KEPT);
            first[..length].copy_from_slice(&read[..length]);
            self.0.store(u64::from_le_bytes(first), Ordering::Relaxed);
        }
    }

    /// Returns which protocol a client speaks instead of HTTP/1, and what the operator can do, or `None` if it isn't
    /// known.
    pub(crate) fn meaning(&self) -> Option<(RefusalKind, &'static str)> {
        match &self.0.load(Ordering::Relaxed).to_le_bytes() {
            [0x16, 3, ..] => Some((
                RefusalKind::TlsHello,
                "a TLS hello came, and this port speaks plain HTTP: use http:// and ws:// here, or the port that speaks TLS \
                 (tls.listen, or a proxy in front)",
            )),
            b"PROXY TC" | b"PROXY UN" => Some((
                RefusalKind::UnreadProxyHeader,
                "a PROXY protocol header (version 1) came, which is read only with listen_proxy_protocol = true and from \
                 http.trusted_proxies: set both, or switch it off at the proxy (HAProxy: send-proxy, stunnel: protocol)",
            )),
            b"\r\n\r\n\0\r\nQ" => Some((
                RefusalKind::UnreadProxyHeader,
                "a PROXY protocol header (version 2) came, which is read only with listen_proxy_protocol = true and from \
                 http.trusted_proxies: set both, or switch it off at the proxy (HAProxy: send-proxy-v2, hitch: write-proxy-v2)",
            )),
            b"PRI * HT" => Some((
                RefusalKind::NotHttp,
                "HTTP/2 came, and this port speaks HTTP/1.1: let the proxy in front use HTTP/1.1 to the server",
            )),
            [b'S', b'S', b'H', b'-', ..] => Some((
                RefusalKind::NotHttp,
                "an SSH client came: this port speaks HTTP",
            )),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_to_a_port_by_mistake_is_known_by_its_beginning() {
        for (sent, words) in [
            (
                &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"[..],
                Some("TLS hello"),
            ),
            (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", Some("version 1")),
            (b"PROXY UNKNOWN\r\n", Some("version 1")),
            (b"\r\n\r\n\0\r\nQUIT\n\x21\x11", Some("version 2")),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Some("HTTP/2")),
            (b"GET / HTTP/1.1\r\n", None),
            (b"\x16", None),
            (b"", None),
        ] {
            let first = FirstBytes::default();
            first.note(sent);
            first.note(b"what comes later");
            let meaning = first.meaning();
            match words {
                Some(words) => {
                    assert!(
                        meaning.is_some_and(|(_, it)| it.contains(words)),
                        "{meaning:?}"
                    );
                }
                None => assert_eq!(meaning, None),
            }
        }
    }
}
