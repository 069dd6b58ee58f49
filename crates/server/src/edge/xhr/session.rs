//! A fallback session on its shard: takes requests from HTTP, and ends when none waits for its lines.

use fanfare_engine::{Admitted, Charge, Reading, Refusal, Session, Shard};
use fanfare_protocol::CloseCode;
use fanfare_protocol::sockjs::{HEARTBEAT, SentFrames};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, sleep_until};

use super::pending::{PendingSession, evicted};
use super::pipe::{Event, Pipe, PipeSink, Receive};
use super::sessions::{SessionId, Sessions};
use super::websocket_retry::{Candidate, WebSocketRetry};

/// Bytes of a client's frames that may wait until the client has read earlier answers. One more request may exceed the
/// bound.
const MAX_PENDING: usize = 256 * 1024;

/// A request as HTTP hands it to its session.
#[derive(Debug)]
pub(super) enum Request {
    /// A request that waits for lines.
    Receive(Receive),
    /// Frames of the client; an empty list is a sign of life. Their charge, as a request body, is held until they are
    /// handled.
    Send(SentFrames, Option<Charge>),
}

/// An admitted session.
pub(super) struct Accepted {
    pub(super) id: SessionId,
    pub(super) admitted: Admitted,
    /// Set if the session was admitted without permits; it takes them with its client's second request.
    pub(super) pending: Option<PendingSession>,
    pub(super) receive: Receive,
    pub(super) requests: Receiver<Request>,
    /// Set if the session may be asked to try a WebSocket again.
    pub(super) retry: Option<Retry>,
}

/// A session that may be asked to try a WebSocket again.
#[derive(Debug)]
pub(super) struct Retry {
    pub(super) rules: Arc<WebSocketRetry>,
    pub(super) candidate: Candidate,
}

/// Starts serving a session. Must be called on the shard's thread.
pub(super) fn start(shard: &Rc<Shard>, accepted: Accepted, sessions: Sessions) {
    let pipe = Rc::new(Pipe::new(accepted.receive));
    let sink = PipeSink(Rc::clone(&pipe));
    let reader = Reader {
        session: shard.connect(accepted.admitted, Box::new(sink)),
        pipe,
        pending_session: accepted.pending,
        requests: accepted.requests,
        pending: VecDeque::new(),
        retry: accepted.retry,
    };
    tokio::task::spawn_local(async move {
        reader.run().await;
        sessions.forget(&accepted.id);
    });
}

struct Reader {
    session: Session,
    pipe: Rc<Pipe>,
    /// Set while its client has sent one request only.
    pending_session: Option<PendingSession>,
    requests: Receiver<Request>,
    retry: Option<Retry>,
    /// Frames of the client that aren't handled yet.
    pending: VecDeque<Pending>,
}

/// The frames of one request, of which the first `handled` are done.
struct Pending {
    frames: SentFrames,
    handled: usize,
    /// Charge of the frames, given back once all are handled.
    _charge: Option<Charge>,
}

impl Pending {
    fn len(&self) -> usize {
        self.frames.iter().skip(self.handled).map(str::len).sum()
    }
}

/// Next action of a session.
enum Step {
    Take(Request),
    Handle,
    Flush,
    Detach,
    Heartbeat,
    /// Newer pending sessions need its place.
    Evict,
    AskToRetry,
    End,
}

impl Reader {
    async fn run(mut self) {
        loop {
            match self.next_step().await {
                Step::Take(request) => self.take(request).await,
                Step::Handle => self.handle_next().await,
                Step::Flush => {}
                Step::Detach => self.pipe.detach(),
                Step::Heartbeat => self.session.push_raw(HEARTBEAT),
                Step::AskToRetry => self.ask_to_retry(),
                Step::Evict => {
                    self.session.close(&Refusal::new(
                        CloseCode::OverCapacity,
                        "Too many sessions were opened that did not come back, reconnect",
                    ));
                    break;
                }
                Step::End => break,
            }
            self.session.flush();
        }
        // The request that waits for lines is answered with the last ones.
        self.session.flush();
        self.requests.close();
        self.session.end().await;
    }

    async fn next_step(&mut self) -> Step {
        let session = &self.session;
        let retry_due = self
            .retry
            .as_ref()
            .map_or_else(Instant::now, |retry| retry.candidate.due);
        let interest = poll_fn(|cx| Poll::Ready(session.poll_interest(cx))).await;
        // A session whose client was told why it is closed has nothing left to do.
        let is_over = || session.is_closing() && session.is_flushed();
        if interest.end || is_over() {
            return Step::End;
        }
        let handle_at = match interest.read {
            Reading::Now if !self.pending.is_empty() => {
                // New requests come between the frames, and other connections get their turn.
                return match self.requests.try_recv() {
                    Ok(request) => Step::Take(request),
                    Err(_) => Step::Handle,
                };
            }
            Reading::At(at) if !self.pending.is_empty() => Some(at),
            Reading::Now | Reading::At(_) | Reading::OnceWritten => None,
        };
        let changed = poll_fn(|cx| {
            let same = session.poll_interest(cx) == interest && !is_over();
            if same { Poll::Pending } else { Poll::Ready(()) }
        });
        tokio::select! {
            () = changed => Step::Flush,
            () = evicted(&mut self.pending_session) => Step::Evict,
            request = self.requests.recv() => request.map_or(Step::End, Step::Take),
            event = self.pipe.event(interest.write) => match event {
                Event::Writable => Step::Flush,
                Event::Gone if self.pipe.is_read() => Step::Detach,
                // It isn't known how much of the answer arrived, and events must not be lost silently.
                Event::Gone => Step::End,
            },
            () = sleep_until(handle_at.unwrap_or_else(Instant::now)), if handle_at.is_some() => Step::Handle,
            () = sleep_until(self.pipe.due()) => self.on_time(interest.write),
            () = sleep_until(retry_due), if self.retry.is_some() => Step::AskToRetry,
        }
    }

    /// Returns what to do when a time-out has passed. Lines may have been written since it was set, so it is checked
    /// again.
    fn on_time(&self, blocked: bool) -> Step {
        match (self.pipe.due() <= Instant::now(), self.pipe.is_attached()) {
            (false, _) => Step::Flush,
            (true, false) => Step::End,
            // There are lines for the request that its client hasn't read, so no heartbeat is needed.
            (true, true) if blocked => {
                self.pipe.touch();
                Step::Flush
            }
            (true, true) => Step::Heartbeat,
        }
    }

    /// Asks the client to try a WebSocket again if its turn has come: closes the session with a code that makes the
    /// client reconnect at once, with a WebSocket first.
    fn ask_to_retry(&mut self) {
        let asked = |retry: &mut Retry| retry.rules.is_due(&mut retry.candidate);
        if self.retry.as_mut().is_some_and(asked) {
            self.retry = None;
            self.session.close(&Refusal::new(
                CloseCode::Reconnect,
                "A WebSocket may get through now, reconnect",
            ));
        }
    }

    /// Takes a request. The second request of a session shows that its client reads the answers, so the session then
    /// takes its permits.
    async fn take(&mut self, request: Request) {
        let mut placed = Ok(());
        if self.pending_session.is_some() {
            placed = self.session.take_permits().await;
        }
        match request {
            Request::Receive(receive) => {
                self.session.note_activity();
                self.pipe.attach(receive);
            }
            Request::Send(frames, charge) if placed.is_ok() => self.take_frames(frames, charge),
            Request::Send(..) => {}
        }
        match placed {
            Ok(()) => self.pending_session = None,
            Err(refusal) => self.session.close(&refusal),
        }
    }

    /// Queues the client's frames, which are handled as fast as the client reads the answers.
    fn take_frames(&mut self, frames: SentFrames, charge: Option<Charge>) {
        self.session.note_activity();
        if self.pending.iter().map(Pending::len).sum::<usize>() > MAX_PENDING {
            return self.session.close(&Refusal::new(
                CloseCode::OverCapacity,
                format!(
                    "More than {MAX_PENDING} bytes of your messages wait until you have read their answers, reconnect"
                ),
            ));
        }
        if !frames.is_empty() {
            self.pending.push_back(Pending {
                frames,
                handled: 0,
                _charge: charge,
            });
        }
    }

    /// Hands the client's next frame to the session, and lets other connections have their turn.
    async fn handle_next(&mut self) {
        let Some(pending) = self.pending.front_mut() else {
            return;
        };
        if let Some(text) = pending.frames.get(pending.handled)
            && !self.session.is_closing()
        {
            pending.handled += 1;
            self.session.note_activity();
            self.session.handle(text).await;
            self.session.count_message();
        } else {
            self.pending.pop_front();
        }
        self.session.serve_inbox();
        tokio::task::yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use axum::body::Bytes;
    use fanfare_engine::{AppDefinition, Arrival, Budgets, Engine, Key, KeyUsed, Options};
    use fanfare_protocol::signature::SigningKey;
    use fanfare_protocol::{AppId, AppKey, AppSettings};
    use tokio::sync::mpsc::{self, Sender};
    use tokio::task::LocalSet;
    use tokio::time::sleep;

    use super::super::pending::PendingBounds;
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    /// Creates a node with one shard on this thread and one app.
    fn node() -> Arc<Engine> {
        let (engine, shards) = Engine::new(
            Options {
                shards: 1,
                activity_timeout: 2 * MINUTE,
                pong_timeout: MINUTE / 2,
                ping_interval: None,
                outbox_bytes: 1 << 20,
                max_waiting: fanfare_engine::WaitingLimits {
                    total: 64 << 20,
                    app: 64 << 20,
                    network: 64 << 20,
                },
                max_replay_bytes: 1 << 20,
                messages_per_second: 0,
                inbox_bytes: 1 << 20,
                recent_events_bytes: 1 << 20,
                live_events_bytes: 1 << 20,
                max_connections: 10,
                max_subscriptions: 10,
                budgets: Budgets::default(),
                user_hash_key: fanfare_protocol::UserHashKey::default(),
                quotas: fanfare_protocol::Quotas::default(),
                max_transitions: 1,
                spans: Arc::new(fanfare_engine::NoSpans),
            },
            std::sync::Arc::new(fanfare_engine::NoNotices),
        );
        for shard in shards {
            tokio::task::spawn_local(shard.run());
        }
        engine.update_apps(
            vec![AppDefinition {
                id: AppId::parse("1").expect("an id"),
                settings: AppSettings::default(),
                keys: vec![Key {
                    key: AppKey::parse("key").expect("a key"),
                    signing: SigningKey::new("secret"),
                    used: KeyUsed::default(),
                }],
                former_keys: Vec::new(),
                wanted_notices: fanfare_engine::WantedNotices::default(),
            }],
            &[],
        );
        engine
    }

    fn open(engine: &Engine, receive: Receive) -> Sender<Request> {
        let id = SessionId {
            key: "key".into(),
            server: "1".into(),
            session: "abcdefgh".into(),
        };
        let (sender, requests) = mpsc::channel(1);
        let arrival = Arrival {
            key: "key",
            protocol: Some("7"),
            ..Arrival::default()
        };
        let accepted = Accepted {
            id,
            admitted: engine.admit(arrival).expect("admitted"),
            pending: None,
            receive,
            requests,
            retry: None,
        };
        engine.adopt(|shard| {
            let bounds = PendingBounds { app: 1, network: 1 };
            start(&shard, accepted, Sessions::new(bounds));
        });
        sender
    }

    async fn connections_after_ten_minutes(
        client: impl Future<Output = ()>,
        engine: &Engine,
    ) -> usize {
        tokio::select! {
            () = client => {}
            () = sleep(10 * MINUTE) => {}
        }
        engine.connections()
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_streaming_client_stays_for_ten_minutes() {
        let test = async {
            let engine = node();
            let (receive, mut lines) = Receive::streaming();
            let requests = open(&engine, receive);
            let mut heartbeats = 0;
            let client = async {
                while let Some(line) = lines.recv().await {
                    if line == HEARTBEAT {
                        heartbeats += 1;
                        // pusher-js answers each one so.
                        let answered = requests
                            .send(Request::Send(SentFrames::default(), None))
                            .await;
                        answered.expect("the session lives");
                    }
                }
            };
            assert_eq!(connections_after_ten_minutes(client, &engine).await, 1);
            assert!((23..=24).contains(&heartbeats), "{heartbeats}");
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_polling_client_stays_for_ten_minutes() {
        let test = async {
            let engine = node();
            let (receive, mut answer) = Receive::polling();
            let requests = open(&engine, receive);
            let mut polls = 0;
            let client = async {
                while answer
                    .recv()
                    .await
                    .is_some_and(|lines: Bytes| !lines.is_empty())
                {
                    polls += 1;
                    let (receive, next) = Receive::polling();
                    answer = next;
                    let polled = requests.send(Request::Receive(receive)).await;
                    polled.expect("the session lives");
                }
            };
            assert_eq!(connections_after_ten_minutes(client, &engine).await, 1);
            assert!((24..=25).contains(&polls), "{polls}");
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_but_is_never_heard_is_gone() {
        let test = async {
            let engine = node();
            let (receive, mut lines) = Receive::streaming();
            let _requests = open(&engine, receive);
            let mut last = Bytes::new();
            let client = async {
                while let Some(line) = lines.recv().await {
                    last = line;
                }
            };
            assert_eq!(connections_after_ten_minutes(client, &engine).await, 0);
            assert!(
                last.starts_with(b"a[") && last.ends_with(b"]\n"),
                "{last:?}"
            );
            let close = last.split(|byte| *byte == b'\n').nth(1).expect("two lines");
            assert!(close.starts_with(b"c[4201,"), "{last:?}");
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_ask_again_is_gone_after_five_seconds() {
        let test = async {
            let engine = node();
            let (receive, mut answer) = Receive::polling();
            let _requests = open(&engine, receive);
            answer.recv().await.expect("the greeting");
            sleep(Duration::from_millis(4900)).await;
            assert_eq!(engine.connections(), 1);
            sleep(Duration::from_millis(200)).await;
            assert_eq!(engine.connections(), 0);
        };
        LocalSet::new().run_until(test).await;
    }
}
