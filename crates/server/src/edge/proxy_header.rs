//! Reads the header of the PROXY protocol, in which a proxy that forwards bytes instead of requests names the client. It
//! comes before everything else on a connection, TLS included, so not one byte more than the header is read.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use proxy_header::{ParseConfig, ProxyHeader};

use super::client_socket::ClientSocket;

/// Largest header in bytes. Clients' certificates and what clouds add make a header a few hundred bytes long.
const MAX_HEADER: usize = 4096;
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
pub(crate) enum Announced {
    /// The proxy forwards this client.
    Client {
        address: SocketAddr,
        /// Whether the client speaks TLS to the proxy.
        over_tls: bool,
    },
    /// The proxy speaks for itself, for example to look whether the node is there, or doesn't know the client.
    Nobody,
    /// The connection ended before its header.
    Closed,
}

/// Why a connection has no valid header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeaderError {
    /// Something else came.
    Missing,
    /// A header came that is malformed or too long.
    Invalid,
}

/// Reads the header. The caller bounds the time.
///
/// # Errors
///
/// Returns the socket's error.
pub(crate) async fn read_proxy_header(
    stream: &mut ClientSocket,
) -> io::Result<Result<Announced, HeaderError>> {
    let mut header = Vec::new();
    loop {
        // Waits before it allocates, so that a client that sends nothing costs no buffer.
        stream.readable().await?;
        let mut seen = [0; 256];
        let length = match stream.try_peek(&mut seen) {
            Ok(0) => return Ok(Ok(Announced::Closed)),
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        let before = header.len();
        header.extend_from_slice(&seen[..length]);
        let end = match extent(&header) {
            Ok(Extent::Complete(end)) => Some(end),
            Ok(Extent::Partial) => None,
            Err(error) => return Ok(Err(error)),
        };
        header.truncate(end.unwrap_or(header.len()));
        // All of a partial header is taken, because bytes that stay would make the socket readable at once.
        let own = header.len() - before;
        if stream.try_read(&mut seen[..own])? != own {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        if end.is_some() {
            return Ok(parse(&header));
        }
    }
}

/// How far a header goes.
enum Extent {
    /// More bytes are needed, and all that are there belong to it.
    Partial,
    /// It has so many bytes.
    Complete(usize),
}

fn extent(bytes: &[u8]) -> Result<Extent, HeaderError> {
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

fn parse(header: &[u8]) -> Result<Announced, HeaderError> {
    // Whatever follows this command is to be ignored, also addresses that aren't any.
    if header.starts_with(V2) && header[V2.len()] == V2_LOCAL {
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
    use proxy_header::{ProxiedAddress, SslInfo, Tlv};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// What follows the header on the connection.
    const AFTER: &[u8] = b"\x16\x03\x01GET / HTTP/1.1\r\n\r\n";

    /// Sends `sent` in pieces and returns what was announced, and what is left on the connection.
    async fn read(sent: &[u8], pieces: usize) -> (Result<Announced, HeaderError>, Vec<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let mut client = TcpStream::connect(address).await.expect("a client");
        client.set_nodelay(true).expect("a socket");
        let (server, _) = listener.accept().await.expect("a connection");
        let mut server = ClientSocket::from(server);
        let send = async {
            for piece in sent.chunks(pieces.max(1)) {
                client.write_all(piece).await.expect("a connection");
                tokio::task::yield_now().await;
            }
            client.shutdown().await.expect("a connection");
        };
        let (announced, ()) = tokio::join!(read_proxy_header(&mut server), send);
        let mut rest = Vec::new();
        server.read_to_end(&mut rest).await.expect("a connection");
        (announced.expect("a connection"), rest)
    }

    fn client(address: &str, over_tls: bool) -> Result<Announced, HeaderError> {
        let address = address.parse().expect("an address");
        Ok(Announced::Client { address, over_tls })
    }

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).expect("a length");
        [V2, &[command, family], &length.to_be_bytes(), rest].concat()
    }

    #[tokio::test]
    async fn a_header_names_the_client_and_nothing_after_it_is_read() {
        let ssl = |address: &str| {
            let proxied = ProxiedAddress::stream(
                address.parse().expect("an address"),
                "[2001:db8::2]:443".parse().expect("an address"),
            );
            let mut header = ProxyHeader::with_address(proxied);
            header.append_tlv(Tlv::Noop(700));
            header.append_tlv(Tlv::Ssl(SslInfo::new(true, false, false, 1)));
            let mut bytes = [0; 2048];
            let length = header.encode_to_slice_v2(&mut bytes).expect("a header");
            bytes[..length].to_vec()
        };
        let unix = [0; 216];
        for (header, announced) in [
            (
                b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n".to_vec(),
                client("192.0.2.1:56324", false),
            ),
            (
                b"PROXY TCP6 2001:db8::1 2001:db8::2 56324 443\r\n".to_vec(),
                client("[2001:db8::1]:56324", false),
            ),
            (b"PROXY UNKNOWN\r\n".to_vec(), Ok(Announced::Nobody)),
            (
                b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".to_vec(),
                Ok(Announced::Nobody),
            ),
            (
                v2(0x21, 0x11, &[192, 0, 2, 1, 198, 51, 100, 1, 0, 80, 1, 187]),
                client("192.0.2.1:80", false),
            ),
            (ssl("[2001:db8::1]:9"), client("[2001:db8::1]:9", true)),
            (v2(0x20, 0, &[]), Ok(Announced::Nobody)),
            // The family means nothing with this command.
            (v2(0x20, 0x77, &[1, 2, 3]), Ok(Announced::Nobody)),
            (v2(0x21, 0, &[]), Ok(Announced::Nobody)),
            (v2(0x21, 0x31, &unix), Ok(Announced::Nobody)),
        ] {
            let sent = [&header[..], AFTER].concat();
            for pieces in [1, 7, 13, sent.len()] {
                let (read, rest) = read(&sent, pieces).await;
                assert_eq!(read, announced, "{header:?} in {pieces}");
                assert_eq!(rest, AFTER, "{header:?} in {pieces}");
            }
        }
    }

    #[tokio::test]
    async fn what_is_no_header_is_left_to_be_told_so() {
        for sent in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            b"\x16\x03\x01\x02\x00",
            b"\r\n\r\nGET / HTTP/1.1\r\n\r\n",
            b"PROXYTCP4 ",
        ] {
            let (read, rest) = read(sent, sent.len()).await;
            assert_eq!(read, Err(HeaderError::Missing), "{sent:?}");
            assert_eq!(rest, sent);
        }
        for sent in [
            b"PROXY TCP4 192.0.2.1 198.51.100.1 56324\r\n".to_vec(),
            b"PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n".to_vec(),
            b"PROXY TCP5 192.0.2.1 198.51.100.1 1 2\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 198.51.100.1 1 2\n".to_vec(),
            [b"PROXY UNKNOWN ".to_vec(), vec![b'x'; 200]].concat(),
            v2(0x21, 0x11, &[1, 2, 3]),
            v2(0x31, 0x11, &[0; 12]),
            // Longer than what is kept. It is refused before it has come.
            [V2, &[0x21, 0x11, 0xff, 0xff]].concat(),
        ] {
            let (read, _) = read(&sent, sent.len()).await;
            assert_eq!(read, Err(HeaderError::Invalid), "{sent:?}");
        }
        for sent in [&b""[..], b"PROXY TCP4 192.0.2.1", &V2[..5]] {
            assert_eq!(read(sent, 1).await.0, Ok(Announced::Closed), "{sent:?}");
        }
    }

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
