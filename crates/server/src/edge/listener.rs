//! Accepts connections and serves HTTP on them until shutdown.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use fanfare_engine::{Engine, RefusalKind, Refused};
use fanfare_protocol::proxy_header::{Announced, HeaderError};
use hyper::Request;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::header::UPGRADE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::error::Elapsed;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::access::{Addresses, OverTls, Peer};
use crate::app_state::AppState;
use crate::edge::client::{Client, LAST_HEAD, Timeouts, Upgrades};
use crate::edge::client_socket::ClientSocket;
use crate::edge::client_stream::ClientStream;
use crate::edge::direct_publish;
use crate::edge::first_bytes::FirstBytes;
use crate::edge::head::{
    FirstHead, MAX_HEAD, read_first_head, refuse, refuse_plain_http, refuse_too_large, too_large,
};
use crate::edge::http2;
use crate::edge::kernel;
use crate::edge::listening_socket::Acceptor;
use crate::edge::proxy_header::read_proxy_header;
use crate::edge::sockets::{Activity, HttpSocket, OpenRequest, Sockets, UnfinishedBody};
use crate::edge::takeover::{FirstRequest, Turns};
use crate::edge::tls_handshake::{Arrived, TlsAcceptor};
use crate::edge::write_timeout::WriteTimeout;
use crate::throttle::Throttle;
use crate::tls::HandshakeOutcome;

/// What a trusted proxy and the log are told of a connection without a header of the PROXY protocol.
const NO_PROXY_HEADER: &str = "no PROXY protocol header came, which listen_proxy_protocol = true requires of \
     http.trusted_proxies: switch it on at the proxy (HAProxy: send-proxy-v2, nginx: proxy_protocol on), or set \
     listen_proxy_protocol = false";
/// The same of a header that can't be read.
const INVALID_PROXY_HEADER: &str = "a PROXY protocol header came that is malformed or longer than 4096 bytes: let the proxy send \
     version 1 or 2 of the protocol with fewer extensions";
/// Why a connection is closed at once.
const TOO_MANY_SOCKETS: &str =
    "a connection was closed: its network has as many sockets as it may (network.max_sockets)";
/// What the log says of a client that speaks plain HTTP to a port of TLS.
const PLAIN_HTTP: &str =
    "plain HTTP came, and this port speaks TLS (tls.listen): use https:// and wss:// here";
/// How long the listener waits when there are no more file descriptors.
const NO_FILES_PAUSE: Duration = Duration::from_millis(100);
/// Least time between two log lines about connections that can't be accepted.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Everything that a listener needs besides its socket. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Listening {
    pub(crate) router: Router,
    pub(crate) engine: Arc<Engine>,
    pub(crate) sockets: Sockets,
    pub(crate) addresses: Addresses,
    pub(crate) timeouts: Timeouts,
    /// Largest number of requests at a time on a connection of HTTP/2.
    pub(crate) max_streams: u32,
    /// Whether trusted proxies begin each connection with a header of the PROXY protocol.
    pub(crate) proxy_protocol: bool,
    /// Set if the listener speaks TLS.
    pub(crate) tls: Option<TlsAcceptor>,
    /// Set if backends publish here.
    pub(crate) publishes: Option<AppState>,
    pub(crate) turns: Turns,
}

/// The two steps in which HTTP ends, and the tasks that are still running meanwhile.
///
/// Connection attempts are answered between the two, because a client that meets a closed port stays away for much
/// longer than one that is told to come back.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shutdown {
    /// Whether connections in the queues of all sockets are left to the program that this process becomes.
    pub(crate) keeps_queues: Arc<AtomicBool>,
    /// First step: connections finish their current request and are closed. Later connections get one answer each.
    pub(crate) finish: CancellationToken,
    /// Second step: no more connections are accepted.
    pub(crate) stop_accepting: CancellationToken,
    /// Connections accepted before `finish`.
    pub(crate) connections: TaskTracker,
    /// Connections accepted after `finish`.
    pub(crate) late: TaskTracker,
    /// Upgraded connections that are on their way to a shard or are being refused.
    pub(crate) upgrades: TaskTracker,
}

/// Serves HTTP on every accepted connection. Returns once no more connections are accepted; their tasks go on in the
/// trackers of `shutdown`.
///
/// With `is_held`, a supervisor keeps the socket open after this process, so connections in its queue are left to the
/// next process.
pub(crate) async fn serve(
    listener: Acceptor,
    is_held: bool,
    listening: Listening,
    shutdown: Shutdown,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(listening.timeouts.head)
        .max_buf_size(MAX_HEAD);
    let log_throttle = Throttle::new(LOG_INTERVAL);
    loop {
        let keeps_queue = is_held || shutdown.keeps_queues.load(Ordering::Relaxed);
        let accepted = tokio::select! {
            // Connections in the queue are accepted first, because closing the socket would reset them. A queue that
            // the next process takes over is left alone instead.
            biased;
            () = shutdown.stop_accepting.cancelled(), if keeps_queue => return,
            accepted = accept(&listener, &listening.sockets, &log_throttle) => accepted,
            () = shutdown.stop_accepting.cancelled() => return,
        };
        let Some((stream, peer)) = accepted else {
            continue;
        };
        let is_late = shutdown.finish.is_cancelled();
        let (tasks, finish) = if is_late {
            http.keep_alive(false);
            (&shutdown.late, CancellationToken::new())
        } else {
            (&shutdown.connections, shutdown.finish.clone())
        };
        let address = peer.ip();
        let charged = listening.addresses.is_peer_charged(peer).then_some(address);
        let Some((place, socket)) = listening.sockets.accept(charged) else {
            tracing::debug!(%address, "{TOO_MANY_SOCKETS}");
            continue;
        };
        let client = Client {
            peer,
            over_tls: false,
            socket,
            place,
            upgrades: Upgrades(shutdown.upgrades.clone()),
            finish,
            is_late,
        };
        let activity = Arc::clone(&client.socket.activity);
        let task = tasks.spawn(connection(http.clone(), stream, client, listening.clone()));
        activity.belongs_to(task.abort_handle());
    }
}

/// Waits for a client and for room for its socket. Returns `None` after an error; the caller tries again.
async fn accept(
    listener: &Acceptor,
    sockets: &Sockets,
    log_throttle: &Throttle,
) -> Option<(ClientSocket, Peer)> {
    let on_full = || {
        if log_throttle.may_pass() {
            tracing::error!(
                max = sockets.max(),
                "cannot accept connections: all sockets are in use (http.max_sockets, or the limit of open files)"
            );
        }
    };
    match listener.accept().await {
        Ok((stream, peer)) => {
            sockets.wait_for_room(on_full).await;
            Some((stream, peer))
        }
        Err(error) if is_out_of_files(&error) => {
            if log_throttle.may_pass() {
                tracing::error!(%error, "cannot accept connections: raise the limit of open files (ulimit -n, LimitNOFILE)");
            }
            sockets.note_full();
            // The system may give this process fewer files than its limit promises.
            sockets.close_idle();
            sleep(NO_FILES_PAUSE).await;
            None
        }
        Err(error) => {
            tracing::debug!(%error, "a connection was gone before it was accepted");
            None
        }
    }
}

/// Returns whether the process (`EMFILE`) or the system (`ENFILE`) has no more file descriptors.
fn is_out_of_files(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    code.is_some_and(|code| matches!(code, 23 | 24))
}

/// Records for the operator that bytes other than HTTP came, and what to do if their protocol is known.
fn not_http(engine: &Engine, peer: Peer, first_bytes: &FirstBytes, error: &hyper::Error) {
    let (kind, reason) = match first_bytes.meaning() {
        Some((kind, reason)) => (kind, reason.to_owned()),
        None => (
            RefusalKind::NotHttp,
            format!("a request cannot be read: {error}"),
        ),
    };
    engine.refusals().note(Refused {
        kind,
        app: None,
        address: Some(peer.ip()),
        reason: &reason,
    });
}

impl Client {
    /// Returns what serves HTTP to the client, whose first bytes, `read`, were read already.
    pub(super) fn into_http(
        self,
        stream: ClientSocket,
        read: Bytes,
        router: Router,
        write_timeout: Duration,
    ) -> HttpConnection {
        let activity = Arc::clone(&self.socket.activity);
        let first_bytes = FirstBytes::default();
        first_bytes.note(&read);
        let stream = WriteTimeout::new(stream, write_timeout, first_bytes.clone());
        HttpConnection {
            stream: ClientStream::new(stream, read, Arc::clone(&activity), self.place),
            first_bytes,
            requests: Requests {
                router,
                activity,
                peer: self.peer,
                over_tls: self.over_tls,
                upgrades: self.upgrades,
            },
            finish: self.finish,
            socket: self.socket,
        }
    }
}

/// What serves HTTP to a client.
pub(super) struct HttpConnection {
    pub(super) stream: ClientStream,
    pub(super) first_bytes: FirstBytes,
    pub(super) requests: Requests,
    pub(super) finish: CancellationToken,
    /// Counts as open until it is dropped.
    pub(super) socket: HttpSocket,
}

/// Serves one connection. Until its first head is complete, only the socket is held for it.
async fn connection(
    http: http1::Builder,
    mut stream: ClientSocket,
    mut client: Client,
    listening: Listening,
) {
    if stream.is_tcp()
        && let Err(error) = stream.options().set_tcp_nodelay(true)
    {
        tracing::debug!(%error, "a connection was gone before it was served");
        return;
    }
    kernel::bound_send_queue(&stream, listening.timeouts.head);
    if listening.proxy_protocol && listening.addresses.is_trusted(client.peer) {
        stream = match Box::pin(named_by_proxy(stream, &mut client, &listening)).await {
            Some(stream) => stream,
            None => return,
        };
    }
    // After the header of a proxy, which is never encrypted.
    if let Some(tls) = &listening.tls {
        stream = match Box::pin(encrypt(stream, tls, &client, &listening)).await {
            Some(stream) => stream,
            None => return,
        };
        client.over_tls = true;
        if stream.speaks_http2() {
            return Box::pin(http2::serve(stream, client, listening)).await;
        }
    }
    let within = listening.timeouts.first_head;
    let first = in_time(within, &client.finish, read_first_head(&mut stream)).await;
    match first {
        // Boxed here and below, because these futures' states would otherwise be part of every connection, even of one
        // without a request.
        Ok(Ok(FirstHead::Complete(head))) => {
            Box::pin(serve_http(http, stream, head, client, listening)).await;
        }
        Ok(Ok(FirstHead::TooLarge)) => Box::pin(refuse_too_large(stream)).await,
        Ok(Ok(FirstHead::Closed)) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection ended before its first request"),
        Err(_) => {
            tracing::debug!(peer = %client.peer, "a client has sent no head of a request in time (http.first_head_timeout)");
        }
    }
}

/// Waits for a client's first words for as long as it may take. After a shutdown has begun, it may take [`LAST_HEAD`]:
/// they may be in flight, and a client that gets no answer waits long before it reconnects.
pub(super) async fn in_time<T>(
    within: Duration,
    finish: &CancellationToken,
    words: impl Future<Output = T>,
) -> Result<T, Elapsed> {
    let mut words = std::pin::pin!(words);
    tokio::select! {
        words = timeout(within, words.as_mut()) => words,
        () = finish.cancelled() => timeout(LAST_HEAD, words).await,
    }
}

/// Reads the header of a trusted proxy. From then on, the client that it names counts as the peer. Returns `None` if
/// nothing is to be served on the connection.
async fn named_by_proxy(
    mut stream: ClientSocket,
    client: &mut Client,
    listening: &Listening,
) -> Option<ClientSocket> {
    let within = listening.timeouts.first_head;
    let reading = read_proxy_header(&mut stream);
    let reason = match in_time(within, &client.finish, reading).await {
        Ok(Ok(Ok(Some(Announced::Client { address, over_tls })))) => {
            let ip = address.ip();
            if listening.addresses.is_charged(ip)
                && listening
                    .sockets
                    .charge(ip, &mut client.place, &client.socket)
                    .is_none()
            {
                tracing::debug!(address = %ip, "{TOO_MANY_SOCKETS}");
                return None;
            }
            client.peer = Peer::named_by_proxy(address);
            client.over_tls = over_tls;
            return Some(stream);
        }
        Ok(Ok(Ok(Some(Announced::Nobody)))) => return Some(stream),
        Ok(Ok(Ok(None))) => return None,
        Ok(Ok(Err(HeaderError::Missing))) => NO_PROXY_HEADER,
        Ok(Ok(Err(HeaderError::Invalid))) => INVALID_PROXY_HEADER,
        Ok(Err(error)) => {
            tracing::debug!(%error, "a connection ended before its PROXY protocol header");
            return None;
        }
        Err(_) => {
            tracing::debug!(peer = %client.peer, "a proxy has sent no PROXY protocol header in time (http.first_head_timeout)");
            return None;
        }
    };
    listening.engine.refusals().note(Refused {
        kind: RefusalKind::ProxyHeader,
        app: None,
        address: Some(client.peer.ip()),
        reason,
    });
    // Whatever it speaks: a proxy that speaks HTTP shows the answer, and others log it.
    refuse(stream, "400 Bad Request", reason).await;
    None
}

/// Completes the handshake of a connection. Returns `None` if nothing is to be served on it: then its client was told
/// why, if it could be.
async fn encrypt(
    stream: ClientSocket,
    tls: &TlsAcceptor,
    client: &Client,
    listening: &Listening,
) -> Option<ClientSocket> {
    let ClientSocket::Plain(stream) = stream else {
        return Some(stream);
    };
    let within = listening.timeouts.first_head;
    match in_time(within, &client.finish, tls.accept(stream)).await {
        Ok(Arrived::Tls(stream)) => Some(stream),
        Ok(Arrived::PlainHttp(stream)) => {
            listening.engine.refusals().note(Refused {
                kind: RefusalKind::PlainHttp,
                app: None,
                address: Some(client.peer.ip()),
                reason: PLAIN_HTTP,
            });
            refuse_plain_http(stream).await;
            None
        }
        Ok(Arrived::Ended) => None,
        Err(_) => {
            tls.counts().count(HandshakeOutcome::TimedOut);
            tracing::debug!(peer = %client.peer, "a client has not completed its TLS handshake in time (http.first_head_timeout)");
            None
        }
    }
}

async fn serve_http(
    http: http1::Builder,
    mut stream: ClientSocket,
    mut head: Bytes,
    client: Client,
    listening: Listening,
) {
    let may_publish = direct_publish::may_begin_with(&head) && !client.is_late;
    if let Some(state) = listening.publishes.as_ref().filter(|_| may_publish) {
        let timeouts = listening.timeouts;
        let served = direct_publish::serve(&mut stream, head, &client, state, timeouts);
        // Boxed, because most connections send none.
        head = match Box::pin(served).await {
            Some(read) => read,
            None => return,
        };
    }
    let peer = client.peer;
    if let Some(request) = FirstRequest::read(&head) {
        let served = request.serve(stream, client, listening.router, listening.turns);
        return Box::pin(served).await;
    }
    let HttpConnection {
        stream,
        first_bytes,
        requests,
        finish,
        socket: _open,
    } = client.into_http(stream, head, listening.router, listening.timeouts.head);
    let engine = listening.engine;
    let service = service_fn(move |request| requests.answer(request));
    let mut served = std::pin::pin!(
        http.serve_connection(TokioIo::new(stream), service)
            .with_upgrades()
    );
    let result = tokio::select! {
        result = served.as_mut() => result,
        () = finish.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = result {
        if error.is_parse() {
            not_http(&engine, peer, &first_bytes, &error);
        }
        tracing::debug!(%error, "an HTTP connection ended early");
    }
}

/// What the requests of a connection have in common.
pub(super) struct Requests {
    router: Router,
    pub(super) activity: Arc<Activity>,
    peer: Peer,
    over_tls: bool,
    upgrades: Upgrades,
}

impl Requests {
    /// Answers a request.
    pub(super) fn answer(
        &self,
        request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response, Infallible>> + Send + use<> {
        // Counted from here until the answer is complete, so that the socket isn't closed as idle meanwhile.
        let open = self.activity.request();
        let router = self.router.clone();
        let mut request = request.map(|body| ReceivedBody::new(body, &self.activity));
        request.extensions_mut().insert(self.peer);
        if self.over_tls {
            request.extensions_mut().insert(OverTls);
        }
        if request.headers().contains_key(UPGRADE) {
            request.extensions_mut().insert(self.upgrades.clone());
        }
        async move {
            if head_size(&request) > MAX_HEAD {
                return Ok(too_large().into_response());
            }
            let response = router.oneshot(request).await?;
            Ok(keep_open(response, open))
        }
    }
}

/// Returns the approximate size of a request's head in bytes. hyper's bound isn't enough, because it reads beyond its
/// buffer's size if more bytes come at once.
fn head_size(request: &Request<ReceivedBody>) -> usize {
    let headers = request.headers().iter();
    let headers: usize = headers
        .map(|(name, value)| name.as_str().len() + value.len() + 4)
        .sum();
    let uri = request.uri();
    headers + uri.path().len() + uri.query().map_or(0, str::len)
}

/// The body of a request. Its socket counts as idle until the whole body has come.
struct ReceivedBody {
    body: Incoming,
    unfinished: Option<UnfinishedBody>,
}

impl ReceivedBody {
    fn new(body: Incoming, activity: &Arc<Activity>) -> Self {
        let unfinished = (!body.is_end_stream()).then(|| activity.unfinished_body());
        Self { body, unfinished }
    }
}

impl HttpBody for ReceivedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        let is_over = matches!(frame, Poll::Ready(None)) || self.body.is_end_stream();
        if is_over {
            self.unfinished = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Keeps a request with a streamed answer open until the answer ends.
fn keep_open(response: Response, open: OpenRequest) -> Response {
    if response.body().size_hint().exact().is_some() {
        return response;
    }
    response.map(|body| Body::new(StreamedBody { body, _open: open }))
}

/// The body of a streamed answer, which keeps its request open.
struct StreamedBody {
    body: Body,
    _open: OpenRequest,
}

impl HttpBody for StreamedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
