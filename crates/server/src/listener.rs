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

/// Serves `router` on every connection that comes, until `stop`. Requests under way then are finished; `tasks` tells
/// when they are. A client has `patience` for the head of a request, and may read nothing of an answer for as long.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    engine: Arc<Engine>,
    patience: Duration,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(patience)
        .max_buf_size(MAX_HEAD);
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                tasks.spawn(connection(
                    http.clone(),
                    (stream, Peer(peer)),
                    patience,
                    router.clone(),
                    Arc::clone(&engine),
                    stop.clone(),
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
    (stream, peer): (TcpStream, Peer),
    patience: Duration,
    router: Router,
    engine: Arc<Engine>,
    stop: CancellationToken,
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
        request
    });
    let service = TowerToHyperService::new(router);
    let mut served = std::pin::pin!(
        http.serve_connection(TokioIo::new(stream), service)
            .with_upgrades()
    );
    let result = tokio::select! {
        result = served.as_mut() => result,
        () = stop.cancelled() => {
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
