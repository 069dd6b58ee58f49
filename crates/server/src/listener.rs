//! Accepts connections and serves HTTP on them, until told to stop.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use fanfare_engine::{Engine, RefusalKind, Refused};
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::access::Peer;
use crate::first_bytes::FirstBytes;
use crate::kernel;
use crate::patient::Patient;

/// How long to wait when the system has no more file descriptors.
const PAUSE: Duration = Duration::from_millis(100);
/// Largest request head, in bytes.
const MAX_HEAD: usize = 64 * 1024;

/// The two steps in which HTTP ends, and what is still going on meanwhile.
///
/// Connection attempts are answered between the two, because a client that meets a closed port stays away for much
/// longer than one that is told to come back.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shutdown {
    /// The sockets stay open after this process, so what waits in their queues is left to the next one.
    pub(crate) keeps_queue: bool,
    /// Connections finish the request that is under way and are closed. Those that come later get one answer.
    pub(crate) finish: CancellationToken,
    /// No more connections are accepted.
    pub(crate) stop_accepting: CancellationToken,
    /// Connections that came before `finish`.
    pub(crate) connections: TaskTracker,
    /// Connections that came after `finish`.
    pub(crate) late: TaskTracker,
    /// Upgraded connections that are on their way to a shard, or are told why they are refused.
    pub(crate) upgrades: TaskTracker,
}

/// Where a request's connection is counted once it is upgraded; the listener adds it to every request.
#[derive(Debug, Clone)]
pub(crate) struct Upgrades(pub(crate) TaskTracker);

/// Serves `router` on every connection that comes, until it is shut down. A client has `patience` for the head of a
/// request, and may read nothing of an answer for as long.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    engine: Arc<Engine>,
    patience: Duration,
    shutdown: Shutdown,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(patience)
        .max_buf_size(MAX_HEAD);
    loop {
        let accepted = tokio::select! {
            // What waits in the queue is accepted first: it would be reset when the socket is closed. A queue that
            // stays open for the next process is left alone before that.
            biased;
            () = shutdown.stop_accepting.cancelled(), if shutdown.keeps_queue => return,
            accepted = listener.accept() => accepted,
            () = shutdown.stop_accepting.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (tasks, finish) = if shutdown.finish.is_cancelled() {
                    http.keep_alive(false);
                    (&shutdown.late, CancellationToken::new())
                } else {
                    (&shutdown.connections, shutdown.finish.clone())
                };
                let upgrades = Upgrades(shutdown.upgrades.clone());
                tasks.spawn(connection(
                    http.clone(),
                    (stream, Peer(peer), upgrades),
                    patience,
                    router.clone(),
                    Arc::clone(&engine),
                    finish,
                ));
            }
            Err(error)
                if error
                    .raw_os_error()
                    .is_some_and(|code| matches!(code, 23 | 24)) =>
            {
                tracing::error!(%error, "cannot accept connections: raise the limit of open files (ulimit -n, LimitNOFILE)");
                sleep(PAUSE).await;
            }
            Err(error) => tracing::debug!(%error, "a connection was gone before it was accepted"),
        }
    }
}

/// Lets the operator know that something else than HTTP came, and what to do where that is known.
fn not_http(engine: &Engine, Peer(peer): Peer, first_bytes: &FirstBytes, error: &hyper::Error) {
    let reason = first_bytes.meaning().map_or_else(
        || format!("a request cannot be read: {error}"),
        str::to_owned,
    );
    engine.refusals().note(Refused {
        kind: RefusalKind::NotHttp,
        app: None,
        address: Some(peer.ip().to_canonical()),
        reason: &reason,
    });
}

async fn connection(
    http: http1::Builder,
    (stream, peer, upgrades): (TcpStream, Peer, Upgrades),
    patience: Duration,
    router: Router,
    engine: Arc<Engine>,
    finish: CancellationToken,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection was gone before it was served");
        return;
    }
    kernel::bound_send_queue(&stream, patience);
    let first_bytes = FirstBytes::default();
    let stream = Patient::new(stream, patience, first_bytes.clone());
    let router = router.map_request(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        request.extensions_mut().insert(upgrades.clone());
        request
    });
    let service = TowerToHyperService::new(router);
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
