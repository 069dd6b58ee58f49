//! First requests of a connection that leave HTTP with their socket, so that nothing of HTTP's is allocated for it:
//! streams of Server-Sent Events, and handshakes of WebSockets. The routes answer them as any other request.

use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::header::{CONTENT_LENGTH, EXPECT, SEC_WEBSOCKET_KEY, TRANSFER_ENCODING, UPGRADE};
use axum::http::{HeaderName, HeaderValue, Method, Request, Uri};
use bytes::Bytes;
use memchr::memmem::Finder;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tower::ServiceExt;

use crate::access::{OverTls, Peer};
use crate::edge::answer;
use crate::edge::client::Client;
use crate::edge::client_socket::ClientSocket;
use crate::edge::head::answer_and_close;
use crate::edge::sockets::SocketPlace;
use crate::http::headers::is_upgrade;

/// Largest number of headers of a request that is read here.
const MAX_HEADERS: usize = 64;
/// How long a client may take to read the answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// What the path of a stream contains. Built once, because building costs as much as the search.
static STREAMS: LazyLock<[Finder<'static>; 2]> =
    LazyLock::new(|| [Finder::new("/sse/"), Finder::new("/events/stream")]);

/// A socket that has left HTTP, and the bytes that were read beyond the request.
pub(crate) struct Socket {
    pub(crate) stream: ClientSocket,
    pub(crate) read_ahead: Bytes,
    pub(crate) place: SocketPlace,
}

/// Goes on with a socket once the head of the answer is written.
pub(crate) type HandOver = Box<dyn FnOnce(Socket) -> HandedOver + Send>;
/// What goes on with a socket.
pub(crate) type HandedOver = Pin<Box<dyn Future<Output = ()> + Send>>;

/// First requests that are answered before other work gets its turn. One takes some 30 µs.
const AT_ONCE: usize = 16;

/// Lets everything else that this process does go before the first requests of a storm: without it a published event
/// waits until thousands of clients are connected.
#[derive(Debug, Clone)]
pub(crate) struct Turns(Arc<Semaphore>);

impl Default for Turns {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(AT_ONCE)))
    }
}

impl Turns {
    /// Waits until few others are about to have their turn, and all other tasks that are ready had theirs.
    async fn next(&self) {
        let _place = self.0.acquire().await;
        tokio::task::yield_now().await;
    }
}

/// Where a handler puts what goes on with the socket of its request. The listener adds this to requests whose sockets
/// can leave HTTP.
#[derive(Clone, Default)]
pub(crate) struct Takeover(Arc<Mutex<Option<HandOver>>>);

impl Takeover {
    pub(crate) fn put(&self, hand_over: HandOver) {
        *self.0.lock() = Some(hand_over);
    }
}

/// A request whose socket may leave HTTP, and what came behind it.
pub(super) struct FirstRequest {
    request: Request<Body>,
    read_ahead: Bytes,
}

impl FirstRequest {
    /// Reads the first head of a connection if it may ask for a stream or a WebSocket. `None` leaves the head to HTTP: it
    /// has another path, a body, or something that HTTP has to answer.
    pub(super) fn read(head: &Bytes) -> Option<Self> {
        if !head.starts_with(b"GET ") {
            return None;
        }
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut parsed = httparse::Request::new(&mut headers);
        let httparse::Status::Complete(length) = parsed.parse(head).ok()? else {
            return None;
        };
        // HTTP/1.0 knows neither chunks nor upgrades.
        if parsed.version != Some(1) {
            return None;
        }
        let mut request = Request::new(Body::empty());
        *request.method_mut() = Method::GET;
        *request.uri_mut() = parsed.path?.parse::<Uri>().ok()?;
        request.headers_mut().reserve(parsed.headers.len());
        for header in parsed.headers.iter() {
            let name = HeaderName::from_bytes(header.name.as_bytes()).ok()?;
            if [CONTENT_LENGTH, TRANSFER_ENCODING, EXPECT].contains(&name) {
                return None;
            }
            let value = HeaderValue::from_bytes(header.value).ok()?;
            request.headers_mut().append(name, value);
        }
        let is_taken = match request.headers().contains_key(UPGRADE) {
            true => is_upgrade(request.headers()) && has_one_key(&request),
            // Alone: a request behind it would be lost.
            false => length == head.len() && names_stream(&request),
        };
        is_taken.then(|| Self {
            request,
            read_ahead: head.slice(length..),
        })
    }

    /// Answers the request: with what goes on without HTTP, or with what the routes answer instead.
    pub(super) async fn serve(
        self,
        mut stream: ClientSocket,
        client: Client,
        router: Router,
        turns: Turns,
    ) {
        let Self {
            mut request,
            read_ahead,
        } = self;
        // The socket isn't idle while it is on its way.
        let _open = client.socket.activity.request();
        turns.next().await;
        let takeover = Takeover::default();
        let extensions = request.extensions_mut();
        extensions.insert::<Peer>(client.peer);
        if client.over_tls {
            extensions.insert(OverTls);
        }
        extensions.insert(takeover.clone());
        let Ok(response) = router.oneshot(request).await;
        let hand_over = takeover.0.lock().take();
        let Some(hand_over) = hand_over else {
            let refusal = answer::whole(response, true).await;
            return answer_and_close(stream, &refusal).await;
        };
        let head = answer::head(&response, &[]);
        if let Err(error) = answer::write(&mut stream, &head, ANSWER_TIMEOUT).await {
            tracing::debug!(%error, "a client left during the handshake");
            return;
        }
        // It is no socket of HTTP's from here on.
        drop(client.socket);
        let socket = Socket {
            stream,
            read_ahead,
            place: client.place,
        };
        hand_over(socket).await;
    }
}

fn names_stream(request: &Request<Body>) -> bool {
    let path = request.uri().path().as_bytes();
    STREAMS.iter().any(|part| part.find(path).is_some())
}

fn has_one_key(request: &Request<Body>) -> bool {
    let mut keys = request.headers().get_all(SEC_WEBSOCKET_KEY).iter();
    keys.next().is_some() && keys.next().is_none()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::task::JoinSet;

    use super::*;

    fn is_taken(head: &str) -> bool {
        FirstRequest::read(&Bytes::copy_from_slice(head.as_bytes())).is_some()
    }

    #[test]
    fn a_lone_request_for_a_stream_leaves_http_and_no_other() {
        assert!(is_taken(
            "GET /sse/key?channels=a HTTP/1.1\r\nHost: x\r\n\r\n"
        ));
        assert!(is_taken(
            "GET /base/apps/1/events/stream?x HTTP/1.1\r\nHost: x\r\n\r\n"
        ));
        for other in [
            "GET /app/key HTTP/1.1\r\nHost: x\r\n\r\n",
            "POST /sse/key HTTP/1.1\r\nHost: x\r\n\r\n",
            "GET /sse/key HTTP/1.0\r\nHost: x\r\n\r\n",
            "GET /sse/key HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n",
            "GET /sse/key HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\n\r\n",
            "GET /sse/key HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n",
            "GET /sse/key HTTP/1.1\r\nbad header\r\n\r\n",
        ] {
            assert!(!is_taken(other), "{other}");
        }
    }

    #[tokio::test]
    async fn what_comes_behind_a_storm_of_first_requests_goes_before_most_of_them() {
        let (turns, answered) = (Turns::default(), Arc::new(AtomicUsize::new(0)));
        let mut storm = JoinSet::new();
        for _ in 0..1000 {
            let (turns, answered) = (turns.clone(), Arc::clone(&answered));
            storm.spawn(async move {
                turns.next().await;
                answered.fetch_add(1, Ordering::Relaxed);
            });
        }
        let behind = Arc::clone(&answered);
        let other = tokio::spawn(async move { behind.load(Ordering::Relaxed) });
        let before = other.await.expect("a count");
        assert!(before <= 2 * AT_ONCE, "{before}");
        storm.join_all().await;
        assert_eq!(answered.load(Ordering::Relaxed), 1000);
    }

    #[test]
    fn a_handshake_leaves_http_with_what_came_behind_it() {
        let handshake = "GET /app/key HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
                         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        let text = Bytes::from(format!("{handshake}\r\nframes"));
        let first = FirstRequest::read(&text).expect("a handshake");
        assert_eq!(&*first.read_ahead, b"frames");
        for more in [
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
            "Content-Length: 1\r\n",
            "Expect: 100-continue\r\n",
        ] {
            assert!(!is_taken(&format!("{handshake}{more}\r\n")), "{more}");
        }
    }
}
