//! Publishes that are answered on their socket: on the way through HTTP's layers a publish costs several times as much.
//!
//! Only plain publishes with a valid signature are answered here. Anything else is left to HTTP with all that was read
//! of it, so there is one place that refuses.

mod head;

use std::borrow::Cow;
use std::io::{self, ErrorKind, Write};
use std::pin::{Pin, pin};

use axum::response::IntoResponse;
use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use tokio_util::sync::WaitForCancellationFuture;

use crate::app_state::AppState;
use crate::backend_api::{Authenticated, PublishRequest, SignedHead, authenticate, note_refusal};
use crate::body::{BODY_TIMEOUT, BodyError};
use crate::edge::answer;
use crate::edge::client::{Client, LAST_HEAD, Timeouts};
use crate::edge::client_socket::ClientSocket;
use crate::http::error::ApiError;
use head::{Head, Parsed, Prefixes};

/// Bytes for which there is room before each read. Most requests fit.
const READ_ROOM: usize = 1024;
/// Bytes that a connection keeps between two requests.
const MAX_KEPT: usize = 16 * 1024;

/// What becomes of a connection after a request.
enum Next {
    /// The next request begins after so many bytes.
    Request(usize),
    /// HTTP answers this request, of which this was read.
    Http(Bytes),
    /// The connection has ended, or ends now.
    End,
}

/// Returns whether the first request of a connection may be a publish.
pub(super) fn may_begin_with(read: &[u8]) -> bool {
    read.starts_with(head::METHOD)
}

/// Answers publishes until something else comes, and returns what was read of that. Returns `None` once the connection
/// is to be closed. `read` is what was read of the first request.
pub(super) async fn serve(
    stream: &mut ClientSocket,
    read: Bytes,
    client: &Client,
    state: &AppState,
    timeouts: Timeouts,
) -> Option<Bytes> {
    let whole = &*state.path_prefix;
    let prefixes = Prefixes {
        whole,
        below_base: whole.strip_prefix(&*state.base_path).unwrap_or(whole),
    };
    let mut buffer = BytesMut::from(read);
    let mut finish = pin!(client.finish.cancelled());
    // When the head of the next request must have come whole.
    let mut until = Instant::now() + timeouts.head;
    // Moved only when it fires, because setting it costs more than reading a head.
    let mut timer = pin!(sleep_until(until));
    loop {
        let next = match Parsed::of(&buffer, prefixes) {
            Parsed::Publish(head) => {
                let _open = client.socket.activity.request();
                answer_publish(stream, &buffer, &head, client, state, timeouts).await
            }
            Parsed::Other => return Some(buffer.freeze()),
            Parsed::Partial => {
                let (finish, timer) = (finish.as_mut(), timer.as_mut());
                read_more(stream, &mut buffer, client, finish, timer, &mut until).await?;
                continue;
            }
        };
        match next {
            Next::Request(length) => buffer.advance(length),
            Next::Http(read) => return Some(read),
            Next::End => return None,
        }
        until = Instant::now() + timeouts.head;
    }
}

/// Waits for more of a request. Returns `None` once the connection is to be closed.
async fn read_more(
    stream: &mut ClientSocket,
    buffer: &mut BytesMut,
    client: &Client,
    mut finish: Pin<&mut WaitForCancellationFuture<'_>>,
    mut timer: Pin<&mut Sleep>,
    until: &mut Instant,
) -> Option<()> {
    if buffer.is_empty() && buffer.capacity() > MAX_KEPT {
        *buffer = BytesMut::new();
    }
    let mut is_finishing = false;
    loop {
        let known = buffer.len();
        buffer.reserve(READ_ROOM);
        let count = tokio::select! {
            biased;
            count = stream.read_buf(buffer) => count.ok()?,
            () = finish.as_mut(), if !is_finishing => {
                if buffer.is_empty() {
                    return None;
                }
                is_finishing = true;
                *until = (*until).min(Instant::now() + LAST_HEAD);
                timer.as_mut().reset(*until);
                continue;
            }
            () = timer.as_mut() => {
                if Instant::now() >= *until {
                    return None;
                }
                timer.as_mut().reset(*until);
                continue;
            }
        };
        if count == 0 {
            return None;
        }
        client.socket.activity.note();
        // A head ends with a line feed. Parsed byte by byte, it would cost quadratic time.
        if known == 0 || buffer[known..].contains(&b'\n') || buffer.len() > MAX_KEPT {
            return Some(());
        }
    }
}

/// Verifies a publish, reads what is missing of its body, and answers it.
async fn answer_publish(
    stream: &mut ClientSocket,
    read: &[u8],
    head: &Head<'_>,
    client: &Client,
    state: &AppState,
    timeouts: Timeouts,
) -> Next {
    let left_to_http = || Next::Http(Bytes::copy_from_slice(read));
    if head.body_length > state.max_body_bytes {
        return left_to_http();
    }
    let forwarded = head.forwarded_for.iter().copied();
    let address = Some(state.addresses.of_peer(client.peer, forwarded));
    let signed = SignedHead {
        method: "POST",
        path: head.path,
        app_id: Some(head.app_id),
        query: head.query,
        address,
    };
    let Ok(Authenticated { app, query, .. }) = authenticate(state, &signed) else {
        return left_to_http();
    };
    let end = head.length + head.body_length;
    let (body, next) = match read.get(head.length..end) {
        Some(body) => (Cow::Borrowed(body), Next::Request(end)),
        None => {
            let _unfinished = client.socket.activity.unfinished_body();
            let body = read_body(stream, &read[head.length..], head.body_length);
            match timeout(BODY_TIMEOUT, body).await {
                Ok(Ok(body)) => (Cow::Owned(body), Next::Request(read.len())),
                Ok(Err(_)) => return Next::End,
                Err(_) => {
                    let error = ApiError::from(BodyError::Late);
                    note_refusal(state, &app, address, &error);
                    // The connection ends either way.
                    let _ = answer::write(
                        stream,
                        &answer::whole(error.into_response(), true).await,
                        timeouts.head,
                    )
                    .await;
                    return Next::End;
                }
            }
        }
    };
    if query.verify_body(&body).is_err() {
        return Next::Http(
            [&read[..head.length], &body, &read[end.min(read.len())..]]
                .concat()
                .into(),
        );
    }
    let trace = state.traces.publish(head.traceparent);
    let request = PublishRequest {
        app: &app,
        body: &body,
        idempotency_key: head.idempotency_key,
        trace: trace.as_ref(),
        address,
    };
    let answer = request.answer(state, head.endpoint).await;
    let closes = head.closes || client.finish.is_cancelled();
    let answer = match answer {
        Ok(json) => success(&json, closes),
        Err(error) => answer::whole(error.into_response(), closes).await,
    };
    let written = answer::write(stream, &answer, timeouts.head).await;
    client.socket.activity.note();
    match written {
        Ok(()) if !closes => return next,
        // The client may have left already.
        Ok(()) => drop(stream.shutdown().await),
        Err(error) => tracing::debug!(%error, "a backend left before its answer"),
    }
    Next::End
}

/// Reads the rest of a body whose beginning has come.
async fn read_body(
    stream: &mut ClientSocket,
    beginning: &[u8],
    length: usize,
) -> io::Result<Vec<u8>> {
    let mut body = Vec::with_capacity(length);
    body.extend_from_slice(beginning);
    let missing = u64::try_from(length - beginning.len()).unwrap_or(u64::MAX);
    stream.take(missing).read_to_end(&mut body).await?;
    match body.len() == length {
        true => Ok(body),
        false => Err(ErrorKind::UnexpectedEof.into()),
    }
}

/// Returns the whole answer to a publish that was accepted.
fn success(json: &[u8], closes: bool) -> Vec<u8> {
    let mut answer = Vec::with_capacity(160 + json.len());
    answer.extend_from_slice(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n");
    if closes {
        answer.extend_from_slice(b"connection: close\r\n");
    }
    write!(answer, "content-length: {}\r\ndate: ", json.len()).expect("memory takes all");
    answer::with_date(|date| answer.extend_from_slice(date.as_bytes()));
    answer.extend_from_slice(b"\r\n\r\n");
    answer.extend_from_slice(json);
    answer
}
