//! Brings a request to its receiver, whoever that is: it may be slow, endless, gone, or lead where it must not.
//!
//! Requests have a thread of their own, so that a receiver that keeps their connections busy costs nobody but webhooks.

use std::io;
use std::time::Duration;

use reqwest::header::RETRY_AFTER;
use reqwest::{Client, Response, StatusCode, Url};
use tokio::runtime::{Builder, Handle};
use tokio::time::{Instant, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::AbortOnDropHandle;

use super::hooks::ALLOW_INNER;
use super::request::SignedRequest;
use super::schedule::retry_after;
use crate::clock::unix_millis;
use crate::failure::request_failed;
use crate::outbound;

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of an answer that are kept. The rest is not read.
const MAX_ANSWER: usize = 4096;
/// How long the beginning of an answer's body may take. The status has decided by then.
const BODY_TIMEOUT: Duration = Duration::from_secs(1);
/// Connections to a host that are kept for the next request.
const KEPT_CONNECTIONS: usize = 8;
/// How long they are kept. Many receivers close idle connections after five seconds, and a request that is sent into one
/// that is being closed costs an attempt.
const KEPT_FOR: Duration = Duration::from_secs(4);

/// Whether a receiver could be connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// It could. One that then says nothing is there: its host's other webhooks needn't wait.
    Reached,
    Unreached,
    /// Nothing was sent, because something of the webhook is wrong.
    NotTried,
}

/// How a receiver answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// `None` if none came.
    pub(crate) status: Option<u16>,
    /// Why the attempt failed, in words; `None` if it didn't.
    pub(crate) error: Option<String>,
    /// The beginning of the answer's body.
    pub(crate) text: String,
    pub(crate) took: Duration,
    /// What the receiver asks for.
    pub(super) retry_after: Option<Duration>,
    pub(super) reach: Reach,
}

impl Answer {
    pub(crate) fn is_success(&self) -> bool {
        self.error.is_none()
    }

    /// Returns whether the receiver wants nothing any more.
    pub(super) fn is_gone(&self) -> bool {
        self.status == Some(StatusCode::GONE.as_u16())
    }

    /// Returns the outcome of an attempt that wasn't made.
    pub(super) fn refused(error: String) -> Self {
        Self {
            status: None,
            error: Some(error),
            text: String::new(),
            took: Duration::ZERO,
            retry_after: None,
            reach: Reach::NotTried,
        }
    }
}

/// Sends requests.
#[derive(Debug)]
pub(super) struct Courier {
    /// What sends, or why nothing can be sent, for example without trusted certificates.
    sending: Result<Sending, String>,
    allow_inner: bool,
    request_timeout: Duration,
}

/// A client and the thread that all its requests and connections are on.
#[derive(Debug)]
struct Sending {
    client: Client,
    thread: Handle,
    /// Ends the thread.
    _end: DropGuard,
}

impl Sending {
    fn new(allow_inner: bool, request_timeout: Duration) -> Result<Self, String> {
        let client = outbound::builder(allow_inner, request_timeout)
            // Shorter than the whole, so that it can be told which of the two has passed.
            .connect_timeout(CONNECT_TIMEOUT.min(request_timeout * 3 / 4))
            // PHP's getallheaders() may return names as they were sent, and pusher-php-server looks for X-Pusher-Key.
            .http1_title_case_headers()
            .pool_max_idle_per_host(KEPT_CONNECTIONS)
            .pool_idle_timeout(KEPT_FOR)
            .user_agent(concat!("fanfare/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| {
                tracing::error!(%error, "no webhook is sent: no HTTP client can be made; install the system's certificates");
                "no HTTP client can be made; install the system's certificates"
            })?;
        let (thread, end) = start_thread().map_err(|error| {
            tracing::error!(%error, "no webhook is sent: no thread can be started for them");
            format!("no thread can be started for webhooks: {error}")
        })?;
        Ok(Self {
            client,
            thread,
            _end: end,
        })
    }
}

/// Starts a thread with a runtime, which ends when the guard is dropped.
fn start_thread() -> io::Result<(Handle, DropGuard)> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let end = CancellationToken::new();
    let ended = end.clone();
    let thread = std::thread::Builder::new().name("webhooks".into());
    thread.spawn(move || {
        runtime.block_on(ended.cancelled());
        // A name that is being resolved can't be aborted, and nobody waits for it.
        runtime.shutdown_background();
    })?;
    Ok((handle, end.drop_guard()))
}

impl Courier {
    pub(super) fn new(allow_inner: bool, request_timeout: Duration) -> Self {
        Self {
            sending: Sending::new(allow_inner, request_timeout),
            allow_inner,
            request_timeout,
        }
    }

    /// Sends a request and waits for the answer, at most for the time-out.
    pub(super) async fn post(&self, url: &Url, request: SignedRequest) -> Answer {
        // The name is checked when it is resolved, for each connection. An address in the URL is never resolved, and the
        // setting may have changed since the webhook was made.
        if let Err(rule) = outbound::check_url(url, self.allow_inner, ALLOW_INNER) {
            return Answer::refused(format!("url {rule}"));
        }
        let Sending { client, thread, .. } = match &self.sending {
            Ok(sending) => sending,
            Err(reason) => return Answer::refused(reason.clone()),
        };
        let sent = send(client.clone(), url.clone(), request, self.request_timeout);
        // Whoever stops waiting for the answer stops the request.
        let sent = AbortOnDropHandle::new(thread.spawn(sent));
        sent.await.unwrap_or_else(|error| {
            Answer::refused(format!("the request was not finished: {error}"))
        })
    }
}

async fn send(
    client: Client,
    url: Url,
    request: SignedRequest,
    request_timeout: Duration,
) -> Answer {
    let began = Instant::now();
    let sent = client
        .post(url)
        .headers(request.headers)
        .body(request.body)
        .send()
        .await;
    match sent {
        Ok(response) => {
            let status = response.status();
            let header = response.headers().get(RETRY_AFTER);
            let header = header.and_then(|value| value.to_str().ok());
            let asked = header.and_then(|header| retry_after(header, unix_millis() / 1000));
            let took = began.elapsed();
            Answer {
                status: Some(status.as_u16()),
                error: refusal(status),
                text: beginning(response).await,
                took,
                retry_after: asked,
                reach: Reach::Reached,
            }
        }
        Err(error) => {
            let reach = match error.is_connect() {
                true => Reach::Unreached,
                false => Reach::Reached,
            };
            let error = if error.is_timeout() && reach == Reach::Reached {
                format!("no answer within {} s", request_timeout.as_secs())
            } else {
                request_failed(error)
            };
            Answer {
                took: began.elapsed(),
                reach,
                ..Answer::refused(error)
            }
        }
    }
}

/// Returns why a status is a failure, if it is one.
fn refusal(status: StatusCode) -> Option<String> {
    if status.is_success() {
        return None;
    }
    Some(if status.is_redirection() {
        format!(
            "it answers {status}, and redirects are not followed; give the webhook the address itself"
        )
    } else {
        format!("it answers {status}")
    })
}

/// Reads the beginning of an answer's body. The connection is closed if there is more.
async fn beginning(mut response: Response) -> String {
    let mut body = Vec::new();
    let read = async {
        while body.len() < MAX_ANSWER
            && let Ok(Some(chunk)) = response.chunk().await
        {
            let room = MAX_ANSWER - body.len();
            body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        }
    };
    let _ = timeout(BODY_TIMEOUT, read).await;
    // Databases take no U+0000.
    String::from_utf8_lossy(&body).replace('\0', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use reqwest::header::HeaderMap;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::Notify;

    use super::*;

    fn request() -> SignedRequest {
        SignedRequest {
            headers: HeaderMap::new(),
            body: "{}".into(),
        }
    }

    async fn read_head(socket: &mut TcpStream) {
        let mut head = Vec::new();
        while !head.ends_with(b"{}") {
            let read = socket.read_buf(&mut head).await.expect("a request");
            assert_ne!(read, 0, "the request ends early");
        }
    }

    /// Returns the answer of a receiver that does something with each connection.
    async fn answer_of<F: Future<Output = ()> + Send + 'static>(
        answer: impl Fn(TcpStream) -> F + Send + 'static,
        request_timeout: Duration,
    ) -> Answer {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/hook", listener.local_addr().expect("an address"));
        tokio::spawn(async move {
            loop {
                let (mut socket, _) = listener.accept().await.expect("a connection");
                read_head(&mut socket).await;
                tokio::spawn(answer(socket));
            }
        });
        let courier = Courier::new(true, request_timeout);
        courier.post(&url.parse().expect("a URL"), request()).await
    }

    async fn answer_with(text: &'static str) -> Answer {
        let write = move |mut socket: TcpStream| async move {
            let _ = socket.write_all(text.as_bytes()).await;
        };
        answer_of(write, Duration::from_secs(5)).await
    }

    #[tokio::test]
    async fn any_status_of_200_to_299_is_success() {
        let answer = answer_with("HTTP/1.1 204 No Content\r\n\r\n").await;
        assert!(answer.is_success() && answer.status == Some(204));
        let answer = answer_with("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\na\0b").await;
        assert!(answer.is_success());
        assert_eq!(answer.text, "a\u{fffd}b");
    }

    #[tokio::test]
    async fn other_answers_are_failures_and_redirects_are_not_followed() {
        let answer = answer_with(
            "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 7\r\nContent-Length: 4\r\n\r\nbusy",
        )
        .await;
        assert_eq!((answer.status, answer.text.as_str()), (Some(503), "busy"));
        assert_eq!(answer.retry_after, Some(Duration::from_secs(7)));
        assert!(answer.reach == Reach::Reached && !answer.is_success());
        let answer = answer_with(
            "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
        )
        .await;
        let error = answer.error.expect("a failure");
        assert!(error.contains("redirects are not followed"), "{error}");
        assert!(
            answer_with("HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n")
                .await
                .is_gone()
        );
    }

    #[tokio::test]
    async fn an_endless_answer_is_read_to_four_kilobytes() {
        let ended = Arc::new(Notify::new());
        let noted = Arc::clone(&ended);
        let write = move |mut socket: TcpStream| {
            let noted = Arc::clone(&noted);
            async move {
                let head = "HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n";
                let _ = socket.write_all(head.as_bytes()).await;
                while socket.write_all(&[b'x'; 65_536]).await.is_ok() {}
                noted.notify_one();
            }
        };
        let answer = answer_of(write, Duration::from_secs(5)).await;
        assert!(answer.is_success());
        assert_eq!(answer.text.len(), MAX_ANSWER);
        let closed = timeout(Duration::from_secs(5), ended.notified()).await;
        assert!(closed.is_ok(), "the connection is closed");
    }

    #[tokio::test]
    async fn an_answer_whose_body_does_not_come_is_decided_by_its_status() {
        let write = |mut socket: TcpStream| async move {
            let head = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nx";
            let _ = socket.write_all(head.as_bytes()).await;
            std::future::pending::<()>().await;
        };
        let began = Instant::now();
        let answer = answer_of(write, Duration::from_secs(15)).await;
        assert!(answer.is_success() && answer.text == "x");
        assert!(began.elapsed() < Duration::from_secs(10));
    }

    #[tokio::test]
    async fn a_receiver_that_never_answers_is_left_after_the_time_out() {
        let write = |socket: TcpStream| async move {
            std::future::pending::<()>().await;
            drop(socket);
        };
        let answer = answer_of(write, Duration::from_secs(1)).await;
        assert_eq!(answer.error.as_deref(), Some("no answer within 1 s"));
        assert_eq!(
            answer.reach,
            Reach::Reached,
            "a silent webhook doesn't stop others of its host"
        );
    }

    #[tokio::test]
    async fn a_receiver_that_cannot_be_connected_to_is_not_reached() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let courier = Courier::new(true, Duration::from_secs(1));
        // Nobody accepts, so the TLS handshake takes for ever.
        let url = format!("https://{address}/").parse().expect("a URL");
        let late = courier.post(&url, request()).await;
        assert_eq!(late.reach, Reach::Unreached, "{late:?}");
        drop(listener);
        let refused = courier.post(&url, request()).await;
        assert_eq!(refused.reach, Reach::Unreached, "{refused:?}");
    }

    #[tokio::test]
    async fn a_connection_is_kept_for_the_next_request_and_not_for_long() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/hook", listener.local_addr().expect("an address"));
        let url: Url = url.parse().expect("a URL");
        let courier = Courier::new(true, Duration::from_secs(15));
        let serve = async {
            let (mut socket, _) = listener.accept().await.expect("a connection");
            for _ in 0..2 {
                read_head(&mut socket).await;
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
                socket.write_all(answer).await.expect("an answer");
            }
            assert_eq!(socket.read(&mut [0]).await.ok(), Some(0), "the end");
        };
        let send = async {
            for _ in 0..2 {
                assert!(courier.post(&url, request()).await.is_success());
            }
        };
        let both = async { tokio::join!(serve, send) };
        let kept = timeout(Duration::from_secs(15), both).await;
        // Idle connections are looked at every so often, so one may stay for longer than it is kept.
        assert!(kept.is_ok(), "the connection is closed");
    }

    #[tokio::test]
    async fn inner_addresses_are_not_reached_unless_that_is_allowed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let courier = Courier::new(false, Duration::from_secs(5));
        for host in ["127.0.0.1", "localhost"] {
            let url = format!("https://{host}:{port}/").parse().expect("a URL");
            let answer = courier.post(&url, request()).await;
            let error = answer.error.expect("refused");
            assert!(error.contains("of this machine or its network"), "{error}");
        }
        let nothing = timeout(Duration::from_millis(50), listener.accept()).await;
        assert!(nothing.is_err(), "nothing has connected");
    }

    #[tokio::test]
    async fn requests_are_made_on_a_thread_that_ends_with_the_courier() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let url = format!("http://{address}/").parse().expect("a URL");
        let courier = Courier::new(true, Duration::from_secs(60));
        let mut post = Box::pin(courier.post(&url, request()));
        assert!(timeout(Duration::ZERO, &mut post).await.is_err());
        // This thread, which is the runtime's only one, does nothing else from here on.
        let (mut socket, _) = listener.accept().expect("a connection");
        let patience = Some(Duration::from_secs(5));
        socket.set_read_timeout(patience).expect("a time-out");
        let mut head = [0; 4];
        io::Read::read_exact(&mut socket, &mut head).expect("a request from another thread");
        assert_eq!(&head, b"POST");
        drop(post);
        let rest = io::Read::read_to_end(&mut socket, &mut Vec::new());
        let is_open = rest.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        assert!(!is_open, "whoever stops waiting stops the request");

        let thread = courier.sending.as_ref().expect("a client").thread.clone();
        let held = thread.spawn(std::future::pending::<()>());
        drop(courier);
        let ended = timeout(Duration::from_secs(5), held).await;
        assert!(
            ended
                .expect("an end")
                .is_err_and(|error| error.is_cancelled())
        );
    }
}
