//! Reads the header of the PROXY protocol, in which a proxy that forwards bytes instead of requests names the client. It
//! comes before everything else on a connection, TLS included, so not one byte more than the header is read.

use std::io::{self, ErrorKind};

use fanfare_protocol::proxy_header::{Announced, Extent, HeaderError, extent, parse};

use super::client_socket::ClientSocket;

/// Reads the header, or returns `None` if the connection ended before it. The caller bounds the time.
///
/// # Errors
///
/// Returns the socket's error.
pub(crate) async fn read_proxy_header(
    stream: &mut ClientSocket,
) -> io::Result<Result<Option<Announced>, HeaderError>> {
    let mut header = Vec::new();
    loop {
        // Waits before it allocates, so that a client that sends nothing costs no buffer.
        stream.readable().await?;
        let mut seen = [0; 256];
        let length = match stream.try_peek(&mut seen) {
            Ok(0) => return Ok(Ok(None)),
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
            return Ok(parse(&header).map(Some));
        }
    }
}

#[cfg(test)]
mod tests {
    use proxy_header::{ProxiedAddress, ProxyHeader, SslInfo, Tlv};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// First bytes of a header of version 2.
    const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

    /// What follows the header on the connection.
    const AFTER: &[u8] = b"\x16\x03\x01GET / HTTP/1.1\r\n\r\n";

    /// Sends `sent` in pieces and returns what was announced, and what is left on the connection.
    async fn read(sent: &[u8], pieces: usize) -> (Result<Option<Announced>, HeaderError>, Vec<u8>) {
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

    fn client(address: &str, over_tls: bool) -> Result<Option<Announced>, HeaderError> {
        let address = address.parse().expect("an address");
        Ok(Some(Announced::Client { address, over_tls }))
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
            (b"PROXY UNKNOWN\r\n".to_vec(), Ok(Some(Announced::Nobody))),
            (
                b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".to_vec(),
                Ok(Some(Announced::Nobody)),
            ),
            (
                v2(0x21, 0x11, &[192, 0, 2, 1, 198, 51, 100, 1, 0, 80, 1, 187]),
                client("192.0.2.1:80", false),
            ),
            (ssl("[2001:db8::1]:9"), client("[2001:db8::1]:9", true)),
            (v2(0x20, 0, &[]), Ok(Some(Announced::Nobody))),
            // The family means nothing with this command.
            (v2(0x20, 0x77, &[1, 2, 3]), Ok(Some(Announced::Nobody))),
            (v2(0x21, 0, &[]), Ok(Some(Announced::Nobody))),
            (v2(0x21, 0x31, &unix), Ok(Some(Announced::Nobody))),
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
            assert_eq!(read(sent, 1).await.0, Ok(None), "{sent:?}");
        }
    }
}
