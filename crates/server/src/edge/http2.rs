//! Serves HTTP/2 on a connection over TLS, for the HTTP APIs and the fallbacks.
//!
//! A stream is bounded as an HTTP/1.1 connection is: its network pays for it as for a socket, its head has the same
//! bound, and a client that reads nothing of an answer for `http.header_timeout` loses it. What a connection adds are
//! bounds on its streams, on how fast its client abandons them, and on the time without any.

use std::convert::Infallible;
use std::future::Future;
use std::io::IoSlice;
use std::num::NonZeroU32;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::response::IntoResponse;
use bytes::{Buf, Bytes};
use fanfare_engine::Charge;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use hyper::Request;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use super::client::Client;
use super::client_socket::ClientSocket;
use super::head::MAX_HEAD;
use super::listener::{HttpConnection, Listening, in_time};
use crate::http::error::ApiError;

/// Bytes of a request's body that a client may send before they are read. It is the protocol's default.
const STREAM_WINDOW: u32 = 65_535;
/// The same of all requests of a connection, so that a body that isn't read leaves room for others.
const CONNECTION_WINDOW: u32 = 4 * STREAM_WINDOW;
/// Bytes of an answer that wait for the client, besides the part that the handler made last. An HTTP/1.1 connection
/// holds as many.
const MAX_UNSENT: usize = MAX_HEAD;
/// Answers that a client may abandon at once. A browser does so with all of a page that is closed.
const MAX_RESETS: NonZeroU32 = NonZeroU32::new(256).expect("it isn't zero");
/// Answers that it may abandon each second beyond that.
const RESETS_PER_SECOND: NonZeroU32 = NonZeroU32::new(32).expect("it isn't zero");
/// How long a client that is told that the connection ends may keep it open without a stream.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(2);

/// Serves a connection whose client has chosen HTTP/2. Returns once it is closed.
pub(super) async fn serve(mut stream: ClientSocket, client: Client, listening: Listening) {
    let timeouts = listening.timeouts;
    // Waits before anything is allocated, so that a client that sends nothing costs its socket only.
    match in_time(timeouts.first_head, &client.finish, stream.readable()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::debug!(%error, "a connection ended before its first request");
            return;
        }
        Err(_) => {
            tracing::debug!(peer = %client.peer, "a client has sent no head of a request in time (http.first_head_timeout)");
            return;
        }
    }
    let charged = listening.addresses.is_peer_charged(client.peer);
    let charged = charged.then(|| client.peer.ip());
    let (peer, is_late) = (client.peer, client.is_late);
    let HttpConnection {
        stream,
        requests,
        finish,
        socket: _open,
        ..
    } = client.into_http(stream, Bytes::new(), listening.router, timeouts.head);
    let streams = Streams::new(timeouts.head);
    let opening = streams.clone();
    let sockets = listening.sockets;
    let service = service_fn(move |request: Request<Incoming>| {
        let stream = opening.open();
        let answer = requests.answer(request);
        let paid = sockets.charge_stream(charged, &requests.activity);
        async move {
            let response = match paid {
                Ok(charge) => {
                    stream.keep(charge);
                    answer.await?
                }
                Err(_) => too_many().into_response(),
            };
            Ok::<_, Infallible>(response.map(|body| StreamBody::new(body, stream)))
        }
    });
    let mut http = http2::Builder::new(streams.clone());
    http.timer(TokioTimer::new())
        .max_concurrent_streams(listening.max_streams)
        .max_header_list_size(u32::try_from(MAX_HEAD).unwrap_or(u32::MAX))
        .max_send_buf_size(MAX_UNSENT)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    let mut served = pin!(http.serve_connection(TokioIo::new(stream), service));
    let mut is_ending = false;
    let mut idle = pin!(streams.idle(timeouts.first_head, timeouts.head));
    let mut left_idle = pin!(streams.quiet(GOODBYE_TIMEOUT));
    loop {
        tokio::select! {
            ended = served.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "an HTTP/2 connection ended early");
                }
                return;
            }
            () = finish.cancelled(), if !is_ending => {}
            () = idle.as_mut(), if !is_ending => {}
            () = streams.0.first.notified(), if is_late && !is_ending => {}
            () = streams.0.flooded.notified() => {
                tracing::debug!(%peer, "an HTTP/2 connection was closed: its client abandons answers too fast");
                return;
            }
            // It has stopped listening, or keeps the connection.
            () = left_idle.as_mut(), if is_ending => return,
        }
        if !is_ending {
            is_ending = true;
            left_idle.set(streams.quiet(GOODBYE_TIMEOUT));
            // The client is told to open no more streams. Those that are open go on.
            served.as_mut().graceful_shutdown();
        }
    }
}

/// Returns the answer to a request for which its network can't pay.
fn too_many() -> ApiError {
    ApiError::new(
        429,
        "Your network has as many sockets and requests over HTTP/2 as it may (network.max_sockets): try again later",
    )
}

/// The streams of a connection, and the executor of their tasks. Cheap to clone.
#[derive(Clone)]
struct Streams(Arc<Shared>);

struct Shared {
    /// How long a client may read nothing of an answer.
    write_timeout: Duration,
    state: Mutex<Open>,
    resets: DefaultDirectRateLimiter,
    /// Notified when the first stream is opened.
    first: Notify,
    /// Notified when the client has abandoned too many answers.
    flooded: Notify,
}

struct Open {
    /// Number of tasks of streams.
    running: usize,
    /// Whether there was a stream.
    any: bool,
    /// Since when none is running.
    since: Instant,
    /// The stream that was opened last, until its task starts.
    last: Option<Arc<Stream>>,
}

impl Streams {
    fn new(write_timeout: Duration) -> Self {
        let quota = Quota::per_second(RESETS_PER_SECOND).allow_burst(MAX_RESETS);
        Self(Arc::new(Shared {
            write_timeout,
            state: Mutex::new(Open {
                running: 0,
                any: false,
                since: Instant::now(),
                last: None,
            }),
            resets: RateLimiter::direct(quota),
            first: Notify::new(),
            flooded: Notify::new(),
        }))
    }

    /// Opens a stream, whose task is the next one that is executed.
    fn open(&self) -> Arc<Stream> {
        let stream = Arc::new(Stream::default());
        let mut open = self.0.state.lock();
        if !open.any {
            open.any = true;
            self.0.first.notify_one();
        }
        open.last = Some(Arc::clone(&stream));
        stream
    }

    /// Waits until the client has had no stream for as long as it may: for `first` before its first one, for `later`
    /// after that.
    async fn idle(&self, first: Duration, later: Duration) {
        let until = |open: &Open| open.since + if open.any { later } else { first };
        self.wait(until, later).await;
    }

    /// Waits until the client has had no stream for `time` from now on.
    async fn quiet(&self, time: Duration) {
        let begun = Instant::now();
        self.wait(|open| open.since.max(begun) + time, time).await;
    }

    /// Waits until `until`, which is asked again after that, and after `again` while there are streams.
    async fn wait(&self, until: impl Fn(&Open) -> Instant, again: Duration) {
        loop {
            let until = {
                let open = self.0.state.lock();
                match open.running {
                    0 => until(&open),
                    _ => Instant::now() + again,
                }
            };
            if until <= Instant::now() {
                return;
            }
            sleep_until(until).await;
        }
    }

    fn run(&self) -> Running {
        self.0.state.lock().running += 1;
        Running(self.clone())
    }

    /// Counts an answer that the client has abandoned.
    fn count_reset(&self) {
        if self.0.resets.check().is_err() {
            self.0.flooded.notify_one();
        }
    }
}

impl<F> Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, task: F) {
        let stream = self.0.state.lock().last.take();
        let running = self.run();
        let write_timeout = self.0.write_timeout;
        tokio::spawn(async move {
            let Running(streams) = &running;
            let Some(stream) = stream else {
                return task.await;
            };
            tokio::select! {
                () = task => if !stream.is_complete() {
                    streams.count_reset();
                },
                // Dropping the task resets the stream.
                () = stream.stalled(write_timeout) => {
                    tracing::debug!("a stream was reset: its client has read nothing in time (http.header_timeout)");
                }
            }
        });
    }
}

/// Guard of a stream's task.
struct Running(Streams);

impl Drop for Running {
    fn drop(&mut self) {
        let mut open = self.0.0.state.lock();
        open.running -= 1;
        open.since = Instant::now();
    }
}

/// A request and its answer.
#[derive(Default)]
struct Stream(Mutex<Answer>);

#[derive(Default)]
struct Answer {
    /// What the stream's network pays, until everything is sent.
    charge: Option<Charge>,
    /// Bytes that the handler has made and that aren't sent.
    unsent: usize,
    /// Since when the server waits for the client to read, if it does.
    waits_since: Option<Instant>,
    /// Whether the handler was asked for more and had none.
    has_no_more: bool,
    /// Waits until less is unsent.
    waker: Option<Waker>,
    is_complete: bool,
}

impl Stream {
    fn keep(&self, charge: Option<Charge>) {
        self.0.lock().charge = charge;
    }

    fn is_complete(&self) -> bool {
        self.0.lock().is_complete
    }

    /// Waits until the client has read nothing for `time` although there was something.
    async fn stalled(&self, time: Duration) {
        loop {
            let since = self.0.lock().waits_since;
            match since.map(|since| since + time) {
                Some(until) if until <= Instant::now() => return,
                Some(until) => sleep_until(until).await,
                None => sleep(time).await,
            }
        }
    }

    fn add(self: &Arc<Self>, bytes: Bytes) -> Part {
        let mut answer = self.0.lock();
        answer.unsent += bytes.len();
        answer.waits_since = Some(Instant::now());
        answer.has_no_more = false;
        Part {
            bytes,
            stream: Arc::clone(self),
        }
    }

    fn remove(&self, count: usize) {
        let mut answer = self.0.lock();
        answer.unsent -= count;
        let waits = answer.unsent > 0 || !answer.has_no_more;
        answer.waits_since = waits.then(Instant::now);
        if answer.unsent <= MAX_UNSENT
            && let Some(waker) = answer.waker.take()
        {
            drop(answer);
            waker.wake();
        }
    }
}

/// A part of an answer on its way to the client.
struct Part {
    bytes: Bytes,
    stream: Arc<Stream>,
}

impl Buf for Part {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        self.bytes.chunks_vectored(slices)
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        self.stream.remove(count);
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let left = self.bytes.len();
        if left > 0 {
            self.stream.remove(left);
        }
    }
}

/// The body of an answer. It ends when little of it is unsent, because nothing watches the rest.
struct StreamBody {
    body: Body,
    /// Whether the body has said that it is over. It isn't asked again.
    is_over: bool,
    stream: Arc<Stream>,
}

impl StreamBody {
    fn new(body: Body, stream: Arc<Stream>) -> Self {
        {
            // The client may have no room for an answer from the start.
            let mut answer = stream.0.lock();
            answer.waits_since = Some(Instant::now());
            answer.is_complete = body.is_end_stream();
        }
        Self {
            body,
            is_over: false,
            stream,
        }
    }
}

impl HttpBody for StreamBody {
    type Data = Part;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Part>, axum::Error>>> {
        let polled = match self.is_over {
            true => Poll::Ready(None),
            false => Pin::new(&mut self.body).poll_frame(cx),
        };
        match polled {
            Poll::Ready(Some(Ok(frame))) => {
                let frame = frame.map_data(|bytes| self.stream.add(bytes));
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error))),
            Poll::Ready(None) => {
                self.is_over = true;
                let mut answer = self.stream.0.lock();
                if answer.unsent > MAX_UNSENT {
                    answer.waker = Some(cx.waker().clone());
                    return Poll::Pending;
                }
                answer.is_complete = true;
                Poll::Ready(None)
            }
            Poll::Pending => {
                let mut answer = self.stream.0.lock();
                answer.has_no_more = true;
                if answer.unsent == 0 {
                    answer.waits_since = None;
                }
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let mut answer = self.stream.0.lock();
        let is_end = answer.unsent <= MAX_UNSENT && self.body.is_end_stream();
        answer.is_complete |= is_end;
        is_end
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
