//! A stream that leaves HTTP with its socket. Its shard writes the chunks of its body, and nothing of HTTP's is kept
//! for it.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, ErrorKind, IoSlice};
use std::rc::Rc;
use std::sync::{Arc, LazyLock};
use std::task::Poll;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::Body;
use axum::http::header::{CONNECTION, CONTENT_LENGTH, DATE, EXPECT, TRANSFER_ENCODING, UPGRADE};
use axum::http::{HeaderName, HeaderValue, Method, Request, Uri};
use axum::response::Response;
use fanfare_engine::{Session, Shard, Sink};
use fanfare_protocol::Framing;
use fanfare_protocol::event_stream::{LAST_CHUNK, chunk};
use http_body_util::{BodyExt, Limited};
use memchr::memmem::Finder;
use parking_lot::Mutex;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;
use tower::ServiceExt;

use super::event_ids::EventIds;
use super::open::Opened;
use crate::edge::client_socket::{ClientSocket, PortableSocket};
use crate::edge::head::answer_and_close;
use crate::edge::kernel;
use crate::edge::socket_sink::{SocketSink, watch};
use crate::edge::sockets::SocketPlace;

/// Largest number of headers of a request that is read here.
const MAX_HEADERS: usize = 64;
/// Largest body of a refusal, in bytes.
const MAX_REFUSAL: usize = 64 * 1024;
/// How long a client may take to read the answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes that a client may send after its request. There is nothing for it to say.
const MAX_UNASKED: usize = 16 * 1024;
/// Bytes of events whose ids are completed at a time.
const BATCH: usize = 64 * 1024;
/// What the path of a stream contains. Built once, because building costs as much as the search.
static PATHS: LazyLock<[Finder<'static>; 2]> =
    LazyLock::new(|| [Finder::new("/sse/"), Finder::new("/events/stream")]);

/// Where a handler puts the stream that it has opened for a request whose socket can leave HTTP.
#[derive(Clone, Default)]
pub(crate) struct Takeover(Arc<Mutex<Option<Opened>>>);

impl Takeover {
    pub(super) fn put(&self, opened: Opened) {
        *self.0.lock() = Some(opened);
    }
}

/// Reads the first head of a connection if it may ask for a stream. `None` leaves the head to HTTP: it has another
/// path, a body, or something that HTTP has to answer.
pub(crate) fn stream_request(head: &[u8]) -> Option<Request<Body>> {
    let is_get = head.starts_with(b"GET ");
    let line = &head[..memchr::memchr(b'\r', head)?];
    let names_stream = || PATHS.iter().any(|path| path.find(line).is_some());
    if !is_get || !names_stream() {
        return None;
    }
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(length) = parsed.parse(head).ok()? else {
        return None;
    };
    // Of HTTP/1.1, whose answers may be chunked, and alone: a request behind it would be lost.
    if length != head.len() || parsed.version != Some(1) {
        return None;
    }
    let mut request = Request::new(Body::empty());
    *request.method_mut() = Method::GET;
    *request.uri_mut() = parsed.path?.parse::<Uri>().ok()?;
    for header in parsed.headers.iter() {
        let name = HeaderName::from_bytes(header.name.as_bytes()).ok()?;
        if [CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE, EXPECT].contains(&name) {
            return None;
        }
        let value = HeaderValue::from_bytes(header.value).ok()?;
        request.headers_mut().append(name, value);
    }
    Some(request)
}

/// Answers a request: with a stream that goes on in a shard, or with what the routes answer instead.
pub(crate) async fn serve(
    mut stream: ClientSocket,
    mut request: Request<Body>,
    router: Router,
    place: SocketPlace,
    adopt: impl FnOnce(Box<dyn FnOnce(Rc<Shard>) + Send>),
) {
    let takeover = Takeover::default();
    request.extensions_mut().insert(takeover.clone());
    let Ok(response) = router.oneshot(request).await;
    let opened = takeover.0.lock().take();
    let Some(opened) = opened else {
        return refuse(stream, response).await;
    };
    let head = head(&response, &[(TRANSFER_ENCODING, "chunked")]);
    let written = async {
        stream.write_all(&head).await?;
        // TLS holds what the socket hasn't taken.
        stream.flush().await
    };
    if !matches!(timeout(ANSWER_TIMEOUT, written).await, Ok(Ok(()))) {
        return;
    }
    // The stream is registered with this runtime's reactor. The shard registers it with its own.
    let Ok(stream) = stream.into_portable() else {
        return;
    };
    adopt(Box::new(move |shard| start(&shard, opened, stream, place)));
}

/// Writes an answer and closes the connection.
async fn refuse(stream: ClientSocket, response: Response) {
    let (parts, body) = response.into_parts();
    let body = Limited::new(body, MAX_REFUSAL).collect().await;
    let body = body.map(|body| body.to_bytes()).unwrap_or_default();
    let length = body.len().to_string();
    let mut answer = head(&Response::from_parts(parts, Body::empty()), &[]);
    // Whatever the length said before: this is the one that follows.
    let end = answer.len() - 2;
    answer.truncate(end);
    answer.extend_from_slice(format!("content-length: {length}\r\n\r\n").as_bytes());
    answer.extend_from_slice(&body);
    answer_and_close(stream, &answer).await;
}

/// Returns the head of an answer after which the connection is closed.
fn head(response: &Response, more: &[(HeaderName, &str)]) -> Vec<u8> {
    let status = response.status();
    let reason = status.canonical_reason().unwrap_or_default();
    let mut head = format!("HTTP/1.1 {} {reason}\r\n", status.as_u16()).into_bytes();
    let mut line = |name: &HeaderName, value: &[u8]| {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value);
        head.extend_from_slice(b"\r\n");
    };
    for (name, value) in response.headers() {
        if *name != CONTENT_LENGTH {
            line(name, value.as_bytes());
        }
    }
    for (name, value) in more {
        line(name, value.as_bytes());
    }
    line(&CONNECTION, b"close");
    line(&DATE, httpdate::fmt_http_date(SystemTime::now()).as_bytes());
    head.extend_from_slice(b"\r\n");
    head
}

/// Starts a stream on its shard's thread.
fn start(shard: &Rc<Shard>, opened: Opened, stream: PortableSocket, place: SocketPlace) {
    let Some(stream) = watch(stream) else {
        return;
    };
    let completes_ids = opened.completes_ids();
    let completing = completes_ids.then(|| Rc::new(CompletingSink::new(&stream, &opened)));
    let sink: Box<dyn Sink> = match &completing {
        Some(sink) => Box::new(SharedSink(Rc::clone(sink))),
        None => Box::new(SocketSink {
            stream: Rc::clone(&stream),
            framing: Framing::EventStream(opened.stream(true)),
        }),
    };
    let Opened {
        admitted,
        subscriptions,
        ..
    } = opened;
    let session = shard.connect(admitted, sink);
    kernel::set_write_timeout(&stream, session.silence_limit());
    // Boxed, because the task would hold it twice, as an argument and as its state.
    let connection = Box::new(Connection {
        stream,
        completing,
        session,
        unasked: 0,
        _place: place,
    });
    tokio::task::spawn_local(async move {
        Box::pin(subscriptions.subscribe(&connection.session)).await;
        connection.run().await;
    });
}

/// The sink of a client with several histories, whose events get ids of their own.
struct CompletingSink {
    stream: Rc<ClientSocket>,
    framing: Framing,
    state: RefCell<Completing>,
}

#[derive(Default)]
struct Completing {
    ids: EventIds,
    /// A chunk that the socket hasn't taken whole, and how much of it it has.
    chunk: Vec<u8>,
    written: usize,
}

impl CompletingSink {
    fn new(stream: &Rc<ClientSocket>, opened: &Opened) -> Self {
        Self {
            stream: Rc::clone(stream),
            framing: Framing::EventStream(opened.stream(false)),
            state: RefCell::default(),
        }
    }

    fn has_unsent(&self) -> bool {
        let state = self.state.borrow();
        state.written < state.chunk.len() || self.stream.has_unsent()
    }

    /// Writes what is left of the last chunk.
    fn flush(&self) -> io::Result<()> {
        let state = &mut *self.state.borrow_mut();
        while state.written < state.chunk.len() {
            let rest = IoSlice::new(&state.chunk[state.written..]);
            state.written += self.stream.try_write_vectored(&[rest])?;
        }
        state.chunk = Vec::new();
        state.written = 0;
        Ok(())
    }
}

struct SharedSink(Rc<CompletingSink>);

impl Sink for SharedSink {
    /// Takes whole slices, which hold whole events, once the socket has taken those before. Their events are written at
    /// once as far as the socket takes them.
    fn write(&self, chunks: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.flush()?;
        let (mut events, mut count) = (Vec::new(), 0);
        for slice in chunks {
            events.extend_from_slice(slice);
            count += slice.len();
            if events.len() >= BATCH {
                break;
            }
        }
        {
            let state = &mut *self.0.state.borrow_mut();
            state.chunk = chunk(&state.ids.complete(&events));
        }
        match self.0.flush() {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            _ => Ok(count),
        }
    }

    fn has_unsent(&self) -> bool {
        self.0.has_unsent()
    }

    fn framing(&self) -> Framing {
        self.0.framing
    }
}

struct Connection {
    stream: Rc<ClientSocket>,
    completing: Option<Rc<CompletingSink>>,
    session: Session,
    /// Bytes that the client has sent after its request.
    unasked: usize,
    _place: SocketPlace,
}

/// Next action of a connection.
enum Step {
    Read,
    Write,
    End,
}

impl Connection {
    async fn run(mut self: Box<Self>) {
        self.write();
        loop {
            match self.next_step().await {
                Step::Write => self.write(),
                Step::Read if self.has_left() => break,
                Step::Read => {}
                Step::End => break,
            }
            self.session.serve_inbox();
            // The socket may be ready again at once, and others wait for their turn.
            tokio::task::yield_now().await;
        }
        let was_closed = self.session.is_closing() && !self.session.is_gone();
        if was_closed && self.completing.is_some() {
            // The sink's framing has no end of its own.
            let _ = self.stream.try_write_vectored(&[IoSlice::new(LAST_CHUNK)]);
        }
        let unread = self.session.end().await;
        if !unread {
            self.stream.say_goodbye();
        }
        kernel::end(&self.stream, unread);
    }

    async fn next_step(&self) -> Step {
        poll_fn(|cx| {
            let interest = self.session.poll_interest(cx);
            let is_written = self.session.is_flushed() && !self.has_unsent();
            if interest.end || self.session.is_closing() && is_written {
                return Poll::Ready(Step::End);
            }
            if (interest.write || self.has_unsent()) && self.stream.poll_write_ready(cx).is_ready()
            {
                return Poll::Ready(Step::Write);
            }
            self.stream.poll_read_ready(cx).map(|_| Step::Read)
        })
        .await
    }

    fn has_unsent(&self) -> bool {
        match &self.completing {
            Some(sink) => sink.has_unsent(),
            None => self.stream.has_unsent(),
        }
    }

    fn write(&self) {
        if let Err(error) = self.stream.flush_unsent() {
            // The next read meets the end of the connection.
            tracing::debug!(%error, "a client left while bytes waited for it");
        }
        // Before the session's, so that it sees that nothing is held.
        if let Some(sink) = &self.completing
            && let Err(error) = sink.flush()
            && error.kind() != ErrorKind::WouldBlock
        {
            tracing::debug!(%error, "a client left while events waited for it");
        }
        self.session.flush();
    }

    /// Returns whether the client has left, or talks where it has nothing to say.
    fn has_left(&mut self) -> bool {
        let mut ignored = [0; 1024];
        match self.stream.try_read(&mut ignored) {
            Ok(0) => true,
            Ok(count) => {
                self.unasked += count;
                self.unasked > MAX_UNASKED
            }
            Err(error) => error.kind() != ErrorKind::WouldBlock,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_taken(head: &str) -> bool {
        stream_request(head.as_bytes()).is_some()
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

    #[test]
    fn the_head_of_an_answer_says_that_it_is_the_last() {
        let mut response = Response::new(Body::empty());
        response
            .headers_mut()
            .insert("x-a", HeaderValue::from_static("1"));
        let head = head(&response, &[(TRANSFER_ENCODING, "chunked")]);
        let head = String::from_utf8(head).expect("text");
        let begin = "HTTP/1.1 200 OK\r\nx-a: 1\r\ntransfer-encoding: chunked\r\nconnection: close\r\ndate: ";
        assert!(
            head.starts_with(begin) && head.ends_with(" GMT\r\n\r\n"),
            "{head}"
        );
    }
}
