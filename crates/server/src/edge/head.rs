//! Reads the first request head of a connection before anything else is allocated for it. A client that hasn't sent one
//! costs a few bytes instead of an HTTP connection's buffers, and has little time.

use std::io;
use std::sync::LazyLock;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use httparse::Status;
use memchr::memmem::Finder;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::edge::client_socket::ClientSocket;
use crate::http::error::ApiError;

/// Largest head of a request, in bytes.
pub(crate) const MAX_HEAD: usize = 16 * 1024;
/// Largest number of headers in a head.
const MAX_HEADERS: usize = 100;
/// Bytes allocated for the first read. Most heads fit.
const FIRST_READ: usize = 1024;
/// The end of a head. Built once, because building costs as much as the search.
static END: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\r\n\r\n"));
/// How long a client may take to read the answer to a head that is too large.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(5);

/// Result of reading a connection's first head.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum FirstHead {
    /// A whole head and perhaps more, or bytes that can't become a head. hyper answers those with an error.
    Complete(Bytes),
    /// More than [`MAX_HEAD`] bytes.
    TooLarge,
    /// The client left before its head was complete.
    Closed,
}

/// Reads until the first head is complete, is too large or can't become valid. The caller bounds the time.
///
/// # Errors
///
/// Returns the socket's error.
pub(crate) async fn read_first_head(stream: &mut ClientSocket) -> io::Result<FirstHead> {
    // Waits before it allocates, so that a client that sends nothing costs no buffer.
    stream.readable().await?;
    let mut head = BytesMut::with_capacity(FIRST_READ);
    loop {
        let before = head.len();
        if stream.read_buf(&mut head).await? == 0 {
            return Ok(FirstHead::Closed);
        }
        // A head ends with a line feed, so it is parsed again only when one came: byte by byte it would cost quadratic
        // time.
        let may_be_complete = before == 0 || head[before..].contains(&b'\n');
        if may_be_complete {
            match parse(&head) {
                Ok(Status::Complete(length)) if length > MAX_HEAD => {
                    return Ok(FirstHead::TooLarge);
                }
                Ok(Status::Partial) => {}
                Ok(Status::Complete(_)) | Err(_) => return Ok(FirstHead::Complete(head.freeze())),
            }
        }
        if head.len() > MAX_HEAD {
            return Ok(FirstHead::TooLarge);
        }
    }
}

/// Returns the length of a complete head, or an error if these bytes can never become one.
fn parse(head: &[u8]) -> httparse::Result<usize> {
    // hyper parses the head again, so it is enough to find the empty line at its end. Those before it don't count.
    let begins = head
        .iter()
        .take_while(|byte| b"\r\n".contains(byte))
        .count();
    if let Some(at) = END.find(&head[begins..]) {
        return Ok(Status::Complete(begins + at + END.needle().len()));
    }
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    httparse::Request::new(&mut headers).parse(head)
}

/// Answers a head that is too large with 431 and closes the connection.
pub(crate) async fn refuse_too_large(stream: ClientSocket) {
    let message = too_large();
    refuse(
        stream,
        "431 Request Header Fields Too Large",
        message.message(),
    )
    .await;
}

/// Answers a client that speaks plain HTTP to a port of TLS, and closes the connection.
pub(crate) async fn refuse_plain_http(stream: ClientSocket) {
    let message = "This port speaks TLS, and the request came as plain HTTP: use https:// or wss://, \
                   or the port for http:// and ws://";
    refuse(stream, "400 Bad Request", message).await;
}

/// Answers the first request of a connection without reading it, and closes the connection.
pub(crate) async fn refuse(stream: ClientSocket, status: &str, message: &str) {
    let body = format!("{message}\n");
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain; charset=utf-8\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    answer_and_close(stream, answer.as_bytes()).await;
}

/// Writes a whole answer, and closes the connection once its client has read it or its time is up.
pub(crate) async fn answer_and_close(mut stream: ClientSocket, answer: &[u8]) {
    let answered = async {
        stream.write_all(answer).await?;
        stream.shutdown().await?;
        // Closing a socket with unread bytes resets it, and the answer would be lost.
        let mut ignored = [0; 4096];
        while stream.read(&mut ignored).await? > 0 {}
        io::Result::Ok(())
    };
    // The connection is closed either way, so a client that doesn't read the answer changes nothing.
    let _ = timeout(REFUSAL_TIMEOUT, answered).await;
}

/// Returns the error for a head that is too large.
pub(crate) fn too_large() -> ApiError {
    let message = format!(
        "The request's head is larger than {MAX_HEAD} bytes, the most it may be: shorten its query or its headers (cookies \
         are among them)"
    );
    ApiError::new(431, message)
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::sleep;

    use super::*;

    async fn pair() -> (TcpStream, ClientSocket) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let client = TcpStream::connect(address).await.expect("a client");
        let (server, _) = listener.accept().await.expect("a connection");
        (client, server.into())
    }

    async fn first_head(sent: &[&[u8]]) -> FirstHead {
        let (mut client, mut server) = pair().await;
        let send = async {
            for part in sent {
                // The server may have decided, and closed.
                let _ = client.write_all(part).await;
                sleep(Duration::from_millis(5)).await;
            }
            let _ = client.shutdown().await;
        };
        tokio::join!(read_first_head(&mut server), send)
            .0
            .expect("a head")
    }

    #[tokio::test]
    async fn a_head_is_complete_with_its_empty_line_however_it_comes() {
        let complete = |text: &str| FirstHead::Complete(text.to_owned().into());
        let whole = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
        assert_eq!(first_head(&[whole.as_bytes()]).await, complete(whole));
        let parts: Vec<_> = whole.as_bytes().chunks(7).collect();
        assert_eq!(first_head(&parts).await, complete(whole));
        assert_eq!(first_head(&[b"GET / HTT"]).await, FirstHead::Closed);
        assert_eq!(first_head(&[]).await, FirstHead::Closed);
    }

    #[tokio::test]
    async fn empty_lines_are_no_head() {
        for sent in [&b"\r\n\r\n"[..], b"\n\n", b"\r\n\r\n\r\nGET / HT"] {
            assert_eq!(first_head(&[sent]).await, FirstHead::Closed, "{sent:?}");
        }
        let after_lines = b"\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n";
        assert_eq!(
            first_head(&[after_lines]).await,
            FirstHead::Complete(after_lines.as_slice().into())
        );
    }

    #[tokio::test]
    async fn what_can_be_no_head_is_not_waited_for() {
        let hello = b"\x16\x03\x01\x02\x00\x01\x00";
        assert_eq!(
            first_head(&[hello]).await,
            FirstHead::Complete(hello.as_slice().into())
        );
    }

    #[tokio::test]
    async fn a_head_over_the_bound_is_too_large() {
        let padding = "x".repeat(MAX_HEAD);
        let text = format!("GET / HTTP/1.1\r\nHost: x\r\nx: {padding}");
        assert_eq!(first_head(&[text.as_bytes()]).await, FirstHead::TooLarge);
    }
}
